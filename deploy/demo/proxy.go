package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
)

// proxy stands between the agent and the hub, so that the demo can cut the
// link without touching either.
type proxy struct {
	l      net.Listener
	target string

	mu    sync.Mutex // protects the fields below
	cut   bool
	conns map[net.Conn]bool
}

func openProxy(ctx context.Context, target string) (*proxy, error) {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("open the link between agent and hub: %w", err)
	}
	return &proxy{l: l, target: target, conns: map[net.Conn]bool{}}, nil
}

func (p *proxy) addr() string { return p.l.Addr().String() }

// run serves until ctx ends.
func (p *proxy) run(ctx context.Context) {
	stop := context.AfterFunc(ctx, func() {
		_ = p.l.Close()
		p.set(true)
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
			continue // one connection less; the agent tries again
		}
		wg.Go(func() { p.serve(ctx, in) })
	}
}

func (p *proxy) serve(ctx context.Context, in net.Conn) {
	defer in.Close() //nolint:errcheck // a cut link has nothing to tell
	if !p.keep(in) {
		return
	}
	defer p.drop(in)
	out, err := (&net.Dialer{}).DialContext(ctx, "tcp", p.target)
	if err != nil {
		return // the hub is down: so is the link
	}
	defer out.Close() //nolint:errcheck // as above
	if !p.keep(out) {
		return
	}
	defer p.drop(out)
	var wg sync.WaitGroup
	for _, way := range [][2]net.Conn{{in, out}, {out, in}} {
		wg.Go(func() {
			_, _ = io.Copy(way[1], way[0]) // ends when either side does
			_ = way[1].Close()
			_ = way[0].Close()
		})
	}
	wg.Wait()
}

func (p *proxy) keep(c net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.cut {
		p.conns[c] = true
	}
	return !p.cut
}

func (p *proxy) drop(c net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.conns, c)
}

// set cuts or mends the link. Cutting ends every connection.
func (p *proxy) set(cut bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cut = cut
	if cut {
		for c := range p.conns {
			_ = c.Close() // that is the point
		}
	}
}
