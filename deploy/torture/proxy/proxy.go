// Package proxy is a network that misbehaves on command: a TCP proxy whose two
// ways can be cut, reset, stalled, emptied, bent and slowed, each apart.
//
// It listens on any address, so in front of a hub that listens on loopback it
// is also the hub's address in another network namespace.
package proxy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"
)

// Way is a direction of the bytes.
type Way int

// The two ways.
const (
	Up   Way = iota // from who dials to the target
	Down            // from the target to who dialled
)

// Fault is what happens to the bytes of one way; the zero value: nothing.
type Fault struct {
	// Stall takes no bytes: the sender's buffers fill. They arrive when it ends.
	Stall bool
	// Swallow takes the bytes and gives none, without a word: a connection that
	// lost some this way is reset when it ends.
	Swallow bool
	// Flip turns one bit in every so many bytes; 0: none.
	Flip int
	// Rate bounds the bytes a second; 0: no bound.
	Rate int
}

// piece is how many bytes are carried at a time.
const piece = 16 << 10

// Proxy is one such network between whoever dials it and a target. Safe for
// concurrent use.
type Proxy struct {
	l net.Listener

	mu      sync.Mutex // protects the fields below
	target  string
	faults  [2]Fault
	cut     bool
	links   map[*link]bool
	heard   [2]func([]byte)
	changed chan struct{} // closed when any of them changes
	dials   int
}

// link is one connection through the proxy.
type link struct {
	in, out net.Conn
	ended   chan struct{}
	end     sync.Once
	frozen  bool    // gives nothing any more; protected by Proxy.mu
	lost    [2]bool // bytes of a way were swallowed; protected by Proxy.mu
	bent    [2]int
}

// Listen begins to listen; nobody is served before Run.
func Listen(ctx context.Context, address, target string) (*Proxy, error) {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("open the link to %s: %w", target, err)
	}
	return &Proxy{l: l, target: target, links: map[*link]bool{}, changed: make(chan struct{})}, nil
}

// Addr is where it listens.
func (p *Proxy) Addr() string { return p.l.Addr().String() }

// Run serves until ctx ends.
func (p *Proxy) Run(ctx context.Context) {
	stop := context.AfterFunc(ctx, func() {
		_ = p.l.Close()
		p.Cut(true)
	})
	defer stop()
	var wg sync.WaitGroup
	defer wg.Wait()
	for {
		in, err := p.l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue // one connection less; who dialled tries again
		}
		wg.Go(func() { p.serve(ctx, in) })
	}
}

func (p *Proxy) serve(ctx context.Context, in net.Conn) {
	defer in.Close() //nolint:errcheck // a cut link has nothing to tell
	p.mu.Lock()
	cut, target := p.cut, p.target
	p.dials++
	p.mu.Unlock()
	if cut {
		return
	}
	out, err := (&net.Dialer{}).DialContext(ctx, "tcp", target)
	if err != nil {
		return // the target is down: so is the link
	}
	l := &link{in: in, out: out, ended: make(chan struct{})}
	defer l.close(false)
	if !p.keep(l) {
		return
	}
	defer p.drop(l)
	var wg sync.WaitGroup
	wg.Go(func() { p.carry(l, Up, in, out) })
	wg.Go(func() { p.carry(l, Down, out, in) })
	wg.Wait()
}

// carry moves the bytes of one way until either side ends.
func (p *Proxy) carry(l *link, way Way, from, to net.Conn) {
	defer l.close(false)
	b := make([]byte, piece)
	for {
		n, err := from.Read(b[:p.portion(way)])
		if n > 0 {
			send, ok := p.treat(l, way, b[:n])
			if !ok {
				return
			}
			if _, err := to.Write(send); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// portion is how much is taken at once: with a rate a twentieth of a second.
func (p *Proxy) portion(way Way) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if r := p.faults[way].Rate; r > 0 {
		return max(1, min(piece, r/20))
	}
	return piece
}

// treat does to bytes what the fault says; ok is false where the link is over.
func (p *Proxy) treat(l *link, way Way, b []byte) (send []byte, ok bool) {
	for {
		p.mu.Lock()
		f, frozen, changed, heard := p.faults[way], l.frozen, p.changed, p.heard[way]
		l.lost[way] = l.lost[way] || f.Swallow
		lost := l.lost[way]
		p.mu.Unlock()
		switch {
		case f.Swallow || frozen:
			return nil, true
		case f.Stall:
			select {
			case <-changed:
				continue
			case <-l.ended:
				return nil, false
			}
		case lost: // the rest without what is missing makes no sense
			l.close(true)
			return nil, false
		}
		if f.Flip > 0 {
			if l.bent[way] += len(b); l.bent[way] >= f.Flip {
				l.bent[way] = 0
				b[len(b)/2] ^= 0x10
			}
		}
		if f.Rate > 0 && !l.pause(time.Duration(len(b))*time.Second/time.Duration(f.Rate)) {
			return nil, false
		}
		if heard != nil {
			heard(b)
		}
		return b, true
	}
}

// pause waits; false: the link ended meanwhile.
func (l *link) pause(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-l.ended:
		return false
	}
}

// close ends the link; hard: with a reset.
func (l *link) close(hard bool) {
	l.end.Do(func() {
		for _, c := range []net.Conn{l.in, l.out} {
			if tcp, ok := c.(*net.TCPConn); ok && hard {
				_ = tcp.SetLinger(0) // then the other side hears a reset
			}
			_ = c.Close() // that is the point
		}
		close(l.ended)
	})
}

func (p *Proxy) keep(l *link) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.cut {
		p.links[l] = true
	}
	return !p.cut
}

func (p *Proxy) drop(l *link) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.links, l)
}

// change does something with the lock held and wakes who waits.
func (p *Proxy) change(do func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	do()
	close(p.changed)
	p.changed = make(chan struct{})
}

// Cut takes the link away or mends it. Cutting ends every connection, and new
// ones are closed at once.
func (p *Proxy) Cut(cut bool) {
	p.change(func() {
		p.cut = cut
		if cut {
			p.closeAll(false)
		}
	})
}

// Reset ends every connection with a reset; new ones work.
func (p *Proxy) Reset() { p.change(func() { p.closeAll(true) }) }

// Freeze makes the connections there are half open: they take bytes and give
// none, for ever. New ones work.
func (p *Proxy) Freeze() {
	p.change(func() {
		for l := range p.links {
			l.frozen = true
		}
	})
}

// Set is what happens to the bytes of one way from now on, on all connections.
func (p *Proxy) Set(way Way, f Fault) { p.change(func() { p.faults[way] = f }) }

// Hear has f called with the bytes that get through on one way, by the
// goroutine that carries them; nil: nobody.
func (p *Proxy) Hear(way Way, f func([]byte)) { p.change(func() { p.heard[way] = f }) }

// Dials is how often somebody dialled.
func (p *Proxy) Dials() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.dials
}

func (p *Proxy) closeAll(hard bool) {
	for l := range p.links {
		l.close(hard)
	}
}
