package e2e

import (
	"context"
	"log/slog"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"plantmesh/edge/source"
	"plantmesh/proto/mesh"
	"plantmesh/proto/wire"
)

// cable is a TCP proxy that can be cut. Its address stays.
type cable struct {
	t    *testing.T
	l    net.Listener
	to   string
	mu   sync.Mutex
	open map[net.Conn]bool
	dead bool // takes bytes and gives none
}

func newCable(t *testing.T, to string) *cable {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &cable{t: t, l: l, to: to, open: map[net.Conn]bool{}}
	t.Cleanup(func() { l.Close(); c.cut() })
	go func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			c.mu.Lock()
			to := c.to
			c.mu.Unlock()
			out, err := net.Dial("tcp", to)
			if err != nil {
				in.Close()
				continue
			}
			c.mu.Lock()
			c.open[in], c.open[out] = true, true
			c.mu.Unlock()
			go c.carry(in, out)
			go c.carry(out, in)
		}
	}()
	return c
}

func (c *cable) carry(from, to net.Conn) {
	defer from.Close()
	defer to.Close()
	b := make([]byte, 16<<10)
	for {
		n, err := from.Read(b)
		if err != nil {
			return
		}
		c.mu.Lock()
		dead := c.dead
		c.mu.Unlock()
		if dead {
			continue
		}
		if _, err := to.Write(b[:n]); err != nil {
			return
		}
	}
}

// cut drops every connection without a word.
func (c *cable) cut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for k := range c.open {
		if tcp, ok := k.(*net.TCPConn); ok {
			tcp.SetLinger(0)
		}
		k.Close()
		delete(c.open, k)
	}
}

// plug leads new connections elsewhere.
func (c *cable) plug(to string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.to = to
}

func (c *cable) swallow(on bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.dead = on
}

// diary is a source.Log whose commits take a moment, and what an agent would
// keep of them. kill loses what is not committed, as a power cut does.
type diary struct {
	t   *testing.T
	dec *wire.Decoder

	mu      sync.Mutex
	state   []byte
	kept    map[string][]byte
	batches []mesh.Batch
	voids   []mesh.Void
	samples int
}

func newDiary(t *testing.T) *diary {
	t.Helper()
	dec, err := wire.NewDecoder()
	if err != nil {
		t.Fatal(err)
	}
	return &diary{t: t, dec: dec, kept: map[string][]byte{}}
}

func (d *diary) keep(o mesh.Offer) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, s := range o.Sealed {
		h, err := wire.ParseHeader(s)
		if err != nil {
			d.t.Error(err)
			continue
		}
		if h.Kind == mesh.KindVoid {
			v, err := wire.OpenVoid(s)
			if err != nil {
				d.t.Error(err)
			}
			d.voids = append(d.voids, v)
			continue
		}
		b, err := d.dec.Batch(s)
		if err != nil {
			d.t.Error(err)
		}
		d.batches = append(d.batches, b)
		d.samples += len(b.Samples)
	}
	if o.State != nil {
		d.state = o.State
	}
	for _, k := range o.Kept {
		if d.kept[k.Name] = k.Bytes; len(k.Bytes) == 0 {
			delete(d.kept, k.Name)
		}
	}
}

// life is the diary as one run of a reader sees it.
type life struct {
	d       *diary
	mu      sync.Mutex
	sent    uint64
	done    uint64
	dead    bool
	mute    bool // takes offers, and never says that one is durable
	queue   []mesh.Offer
	changed chan struct{}
}

func (d *diary) begin() *life { return &life{d: d, changed: make(chan struct{})} }

func (l *life) notify() {
	close(l.changed)
	l.changed = make(chan struct{})
}

func (l *life) Append(ctx context.Context, o mesh.Offer) (uint64, error) {
	l.mu.Lock()
	for l.sent-l.done >= source.Credit && !l.mute {
		changed := l.changed
		l.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return 0, ctx.Err()
		}
		l.mu.Lock()
	}
	defer l.mu.Unlock()
	l.sent++
	l.queue = append(l.queue, o)
	time.AfterFunc(2*time.Millisecond, l.commit)
	return l.sent, nil
}

func (l *life) commit() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.dead || l.mute || len(l.queue) == 0 {
		return
	}
	l.d.keep(l.queue[0])
	l.queue = l.queue[1:]
	l.done++
	l.notify()
}

// silence stops the commits: what is offered from now on is taken without
// bound, and lost with the reader.
func (l *life) silence() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mute = true
	l.notify()
}

// offered is how many samples wait for their commit, and how far the last
// batch among them is complete.
func (l *life) offered() (samples int, complete mesh.Nanos) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, o := range l.queue {
		for _, sealed := range o.Sealed {
			if b, err := l.d.dec.Batch(sealed); err == nil {
				samples, complete = samples+len(b.Samples), max(complete, b.Complete)
			}
		}
	}
	return samples, complete
}

func (l *life) kill() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.dead = true
}

func (l *life) Committed(ctx context.Context, after uint64) (uint64, error) {
	for {
		l.mu.Lock()
		n, changed := l.done, l.changed
		l.mu.Unlock()
		if n > after {
			return n, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return n, ctx.Err()
		}
	}
}

func logger(t *testing.T) *slog.Logger {
	t.Helper()
	if os.Getenv("PLANTMESH_TEST_LOG") == "" {
		return slog.New(slog.DiscardHandler)
	}
	return slog.New(slog.NewTextHandler(t.Output(), nil))
}

func wait(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	late := time.After(20 * time.Second)
	for !ok() {
		select {
		case <-tick.C:
		case <-late:
			t.Fatalf("waited in vain until %s", what)
		}
	}
}

// proofs are the proven stretches in order, joined where they touch.
func (d *diary) proofs() (out []mesh.Span) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, b := range d.batches {
		switch n := len(out); {
		case b.Proven.Empty():
		case n > 0 && out[n-1].To == b.Proven.From:
			out[n-1].To = b.Proven.To
		default:
			out = append(out, b.Proven)
		}
	}
	return out
}

// knows reports whether a proof covers the instant.
func (d *diary) knows(at mesh.Nanos) bool {
	for _, s := range d.proofs() {
		if s.Has(at) {
			return true
		}
	}
	return false
}

func (d *diary) count() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.samples
}
