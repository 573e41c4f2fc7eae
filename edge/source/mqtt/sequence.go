package mqtt

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"

	"plantmesh/edge/source"
	"plantmesh/edge/source/mqtt/link"
	"plantmesh/proto/mesh"
)

// A number that devices count their messages by is the only evidence of what was lost
// between them and us: QoS 0 has none of its own, and a broker that is full, or is killed,
// drops what it has acknowledged.

const (
	// maxCounts bounds the topics whose numbers are followed.
	maxCounts = 10_000
	// anewBelow is how far a number may be behind the last one and still be one that comes
	// again; further back the device counts anew. It is what may be on its way in QoS 1.
	anewBelow = 1 << 16
	// recent is how many numbers of a topic are remembered with their stamps, to tell what
	// comes again from a device that counts anew with a clock that is behind. It is what
	// may be on its way from a device.
	recent = 64
	// maxMissing bounds the stretches of missing numbers that are remembered, in case they
	// come after all; the oldest are given up.
	maxMissing = 16
	// countBytes are those of a kept count before its missing stretches: the number and
	// its time. All are little endian.
	countBytes = 16
	// keptCount begins the names under which counts are kept; the topic's hash follows.
	keptCount = "count/"
)

// counts are the newest numbers of topics. Not safe for concurrent use.
type counts struct {
	by      map[uint64]*count
	changed map[uint64]bool
}

// count is what came of a topic: all numbers up to seq but the missing.
type count struct {
	seq     uint64
	at      mesh.Nanos  // event time
	missing [][2]uint64 // from and to, both included
	before  uint64      // the newest number of a run before
	seen    *[recent]number
}

// number is one that came; stamp 0: without a time of its own.
type number struct {
	seq   uint64
	stamp mesh.Nanos
}

func newCounts() counts { return counts{map[uint64]*count{}, map[uint64]bool{}} }

func countName(topic uint64) string { return fmt.Sprintf("%s%016x", keptCount, topic) }

// take are those that changed since it was called last.
func (c *counts) take() (out []mesh.Kept) {
	for topic := range c.changed {
		n := c.by[topic]
		b := binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint64(nil, n.seq), uint64(n.at))
		for _, m := range n.missing {
			b = binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint64(b, m[0]), m[1])
		}
		out = append(out, mesh.Kept{Name: countName(topic), Bytes: b})
	}
	clear(c.changed)
	slices.SortFunc(out, func(a, b mesh.Kept) int { return strings.Compare(a.Name, b.Name) })
	return out
}

func (c *counts) resume(kept map[string][]byte) error {
	for name, b := range kept {
		if !strings.HasPrefix(name, keptCount) {
			continue
		}
		var topic uint64
		if _, err := fmt.Sscanf(name, keptCount+"%x", &topic); err != nil || len(b) < countBytes || len(b)%16 != 0 {
			return fmt.Errorf("what is kept of a topic's numbers has an unknown form: %q", name)
		}
		n := &count{seq: binary.LittleEndian.Uint64(b), at: mesh.Nanos(binary.LittleEndian.Uint64(b[8:]))}
		n.before = n.seq
		for m := b[countBytes:]; len(m) > 0; m = m[16:] {
			n.missing = append(n.missing, [2]uint64{binary.LittleEndian.Uint64(m), binary.LittleEndian.Uint64(m[8:])})
		}
		c.by[topic] = n
	}
	return nil
}

// heard is what a number says of those before it.
type heard uint8

const (
	next  heard = iota // of it nothing is missing, or nothing can be said
	hole               // some before it are missing
	known              // it was there before
	anew               // the device counts anew
)

// hear takes a number of a topic; missing are those between, after the time since. at is
// its event time, as far as that can be believed. again says that it was sent before.
func (c *counts) hear(topic uint64, x number, at mesh.Nanos, again bool) (what heard, missing uint64, since mesh.Nanos) {
	n, seq := c.by[topic], x.seq
	switch {
	case n == nil && len(c.by) >= maxCounts:
		return next, 0, 0
	case n == nil:
		c.by[topic] = &count{seq: seq, at: at, seen: &[recent]number{}}
		c.by[topic].note(x)
		c.changed[topic] = true
		return next, 0, 0
	case seq <= n.seq && n.seq-seq < anewBelow && (again || at <= n.at):
		if n.fill(seq) {
			c.changed[topic] = true
			n.note(x)
			return next, 0, 0
		}
		if n.known(x, again) {
			return known, 0, 0
		}
		if x.stamp != 0 { // a device counts anew, with a clock that is behind: or it is the same sample
			n.note(x)
			return next, 0, 0
		}
		what, n.missing = anew, nil
	case seq <= n.seq:
		what, n.missing = anew, nil
	case seq > n.seq+1:
		what, missing = hole, seq-n.seq-1
		if n.missing = append(n.missing, [2]uint64{n.seq + 1, seq - 1}); len(n.missing) > maxMissing {
			n.missing = slices.Delete(n.missing, 0, 1)
		}
	}
	since = n.at
	n.seq, n.at = seq, max(at, n.at)
	if what == anew {
		n.at, n.before = at, 0
	}
	n.note(x)
	c.changed[topic] = true
	return what, missing, since
}

// note remembers a number that came.
func (n *count) note(x number) {
	if n.seen == nil {
		n.seen = &[recent]number{}
	}
	n.seen[x.seq%recent] = x
}

// known reports whether a number that is not the next one came before: with the same
// stamp. Of one that has none, and of a run before, it is enough that it was sent before
// and was on its way not long ago.
func (n *count) known(x number, again bool) bool {
	if x.stamp == 0 && !again {
		return false
	}
	if n.seen != nil && n.seen[x.seq%recent] == x {
		return true
	}
	return x.stamp == 0 && x.seq <= n.before && n.before-x.seq < recent
}

// fill takes a number out of those that are missing, if it is.
func (n *count) fill(seq uint64) bool {
	for i, m := range n.missing {
		if seq < m[0] || seq > m[1] {
			continue
		}
		var left [][2]uint64
		if seq > m[0] {
			left = append(left, [2]uint64{m[0], seq - 1})
		}
		if seq < m[1] {
			left = append(left, [2]uint64{seq + 1, m[1]})
		}
		n.missing = slices.Replace(n.missing, i, i+1, left...)
		if len(n.missing) > maxMissing {
			n.missing = slices.Delete(n.missing, 0, 1)
		}
		return true
	}
	return false
}

// numberOf is the number of a sample, and its event time as far as that can be believed.
func numberOf(m *mesh.Sample, now mesh.Nanos) (x number, at mesh.Nanos) {
	if m.Flags&mesh.FlagAgentTime != 0 {
		return number{m.Seq, 0}, now
	}
	if source.Suspect(m.Time, now) {
		return number{m.Seq, m.Time}, now
	}
	return number{m.Seq, m.Time}, m.Time
}

// numbered looks at the numbers of a message. It reports whether the message was stored
// before: all its numbers are known.
func (in *intake) numbered(p *link.Packet, session string, samples []mesh.Sample, now mesh.Nanos) (stored bool) {
	topic := hashMore(hashStart, p.Topic)
	stored = true
	for i := range samples {
		m := &samples[i]
		if m.Seq == 0 || i > 0 && m.Seq == samples[i-1].Seq {
			stored = stored && m.Seq != 0
			continue
		}
		x, at := numberOf(m, now)
		what, missing, since := in.counts.hear(topic, x, at, p.Again)
		stored = stored && what == known
		if p.QoS == 0 && in.counts.by[topic] == nil { // there are too many topics to follow it
			in.lossy[session] = now
		}
		if what != hole && what != anew {
			continue
		}
		v := mesh.Void{Cause: mesh.CauseDisconnected, Parts: []mesh.Part{{Source: in.cfg.ID, Times: mesh.Span{From: since, To: at}, Count: missing}}}
		if since >= at {
			v.Parts[0].Times = mesh.Span{From: since, To: since}
		}
		v.Note = fmt.Sprintf("topic %.200q: messages %d to %d never came", p.Topic, m.Seq-missing, m.Seq-1)
		if what == anew {
			v.Note = fmt.Sprintf("topic %.200q: the device counts anew from %d: how many messages are missing nobody can say", p.Topic, m.Seq)
		}
		in.counters.missing += missing
		in.say(v)
	}
	return stored
}

// mostHoles bounds the voids of missing numbers in one window; the last counts the rest.
const mostHoles = 64

// say has a void go out with the window.
func (in *intake) say(v mesh.Void) {
	if len(in.holes) < mostHoles {
		in.holes = append(in.holes, v)
		return
	}
	last := &in.holes[mostHoles-1]
	last.Parts[0].Count += v.Parts[0].Count
	last.Parts[0].Times.From = min(last.Parts[0].Times.From, v.Parts[0].Times.From)
	last.Parts[0].Times.To = max(last.Parts[0].Times.To, v.Parts[0].Times.To)
	last.Note = "several topics, the last: " + v.Note
}
