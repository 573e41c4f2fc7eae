package sparkplug

import (
	"slices"

	"plantmesh/firmware-sim/mqtt/client"
)

// trouble is what a node was told to do wrong.
type trouble struct {
	drop   int    // so many messages are not sent, and their sequence numbers are gone
	swap   bool   // the next message goes behind the one after it
	held   []byte // the packet of a swap that waits
	replay bool   // an old death is to be said
	moves  []move // of devices
}

// move is a device's death or birth.
type move struct {
	device *device
	away   bool
}

// each does something to a node, or to all where it has no name, and reports
// whether there is such a node.
func (s *Server) each(name string, do func(*node)) bool {
	found := false
	for _, n := range s.nodes {
		if name != "" && n.name != name {
			continue
		}
		found = true
		n.mu.Lock()
		do(n)
		n.mu.Unlock()
		poke(n.wake)
	}
	return found
}

// Cut closes a node's connection without a word: the broker says its will.
func (s *Server) Cut(name string) bool {
	return s.each(name, func(n *node) {
		if n.conn != nil {
			n.conn.Close()
		}
	})
}

// Drop does not send the next messages of a node, so many. Their sequence numbers
// are gone with them.
func (s *Server) Drop(name string, messages int) bool {
	return s.each(name, func(n *node) { n.drop = messages })
}

// Swap sends a node's next message behind the one after it.
func (s *Server) Swap(name string) bool {
	return s.each(name, func(n *node) { n.swap = true })
}

// Rebirth bears a node again, as if a host had asked for it.
func (s *Server) Rebirth(name string) bool {
	return s.each(name, func(n *node) { n.rebirth = n.born })
}

// Realias bears a node again, with aliases that were other metrics' before.
func (s *Server) Realias(name string) bool {
	return s.each(name, func(n *node) {
		n.shift++
		n.rebirth = n.born
	})
}

// ReplayDeath says once more the death of the connection before: who pairs deaths
// with births by bdSeq knows better.
func (s *Server) ReplayDeath(name string) bool {
	return s.each(name, func(n *node) { n.replay = true })
}

// Leave says a device's death, and nothing of it until it joins again.
func (s *Server) Leave(name, machine string) bool { return s.move(name, machine, true) }

// Join says a device's birth.
func (s *Server) Join(name, machine string) bool { return s.move(name, machine, false) }

func (s *Server) move(name, machine string, away bool) (found bool) {
	s.each(name, func(n *node) {
		i := slices.IndexFunc(n.devices, func(d *device) bool { return d.id == machine })
		if i >= 0 {
			found = true
			n.moves = append(n.moves, move{n.devices[i], away})
		}
	})
	return found
}

// commit does what was told and must stand between two messages.
func (n *node) commit() {
	if n.replay {
		n.replay = false
		p := n.death(n.bdSeq - 1)
		n.frames = client.AppendPublish(n.frames, client.Message{Topic: n.topic("NDEATH", nil), Payload: p}, version)
	}
	for _, m := range n.moves {
		n.move(m.device, m.away)
	}
	n.moves = nil
}

func (n *node) move(d *device, away bool) {
	if d.away == away {
		return
	}
	d.away = away
	if away {
		n.about = n.about[:0]
		n.say("DDEATH", d, n.proof)
		return
	}
	n.bearDevice(d)
	n.past += d.held.len()
	n.queue.precede(&d.held)
	n.said = 0 // the clock is said behind them
}
