package sparkplug

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"plantmesh/edge/source/mqtt/link"
	"plantmesh/proto/mesh"
	"plantmesh/proto/strict"
)

// packet is an MQTT control packet as it went over the wire.
type packet struct {
	kind, flags byte
	body        []byte
}

// Kinds of packet (MQTT 5, 2.1.2).
const (
	kindConnect    = 1
	kindPublish    = 3
	kindPuback     = 4
	kindSubscribe  = 8
	kindPingreq    = 12
	kindDisconnect = 14
)

// broker is an MQTT 5 broker that does as little as a host needs, and shows every byte
// it was sent.
type broker struct {
	t        *testing.T
	listener net.Listener
	conns    chan *line
	denies   string // a filter that nobody may subscribe to
}

// line is one connection to it.
type line struct {
	t    *testing.T
	b    *broker
	conn net.Conn
	in   chan packet // closed when the connection ended
}

func newBroker(t *testing.T) *broker {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b := &broker{t: t, listener: l, conns: make(chan *line, 16)}
	var served sync.WaitGroup
	served.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			w := &line{t: t, b: b, conn: c, in: make(chan packet, 4096)}
			served.Go(w.serve)
			b.conns <- w
		}
	})
	t.Cleanup(func() {
		l.Close()
		for len(b.conns) > 0 {
			(<-b.conns).conn.Close()
		}
		served.Wait()
	})
	return b
}

func (b *broker) url() string { return "mqtt://" + b.listener.Addr().String() }

// next is the next connection.
func (b *broker) next() *line {
	b.t.Helper()
	select {
	case w := <-b.conns:
		b.t.Cleanup(func() { w.conn.Close() })
		return w
	case <-time.After(10 * time.Second):
		b.t.Fatal("nobody connected")
		return nil
	}
}

// serve answers what must be answered.
func (w *line) serve() {
	defer close(w.in)
	defer w.conn.Close()
	for {
		p, err := readPacket(w.conn)
		if err != nil {
			return
		}
		w.in <- p
		var answer []byte
		switch {
		case p.kind == kindConnect:
			answer = []byte{0x20, 3, 0, 0, 0}
		case p.kind == kindSubscribe:
			filters := filtersOf(p.body)
			answer = []byte{0x90, byte(3 + len(filters)), p.body[0], p.body[1], 0}
			for _, f := range filters {
				granted := byte(1)
				if f == w.b.denies {
					granted = 0x87 // not authorized
				}
				answer = append(answer, granted)
			}
		case p.kind == kindPublish && p.flags>>1&3 == 1:
			_, id, _ := published(p)
			answer = []byte{0x40, 2, byte(id >> 8), byte(id)}
		case p.kind == kindPingreq:
			answer = []byte{0xd0, 0}
		}
		if _, err := w.conn.Write(answer); err != nil {
			return
		}
	}
}

func readPacket(r io.Reader) (p packet, err error) {
	var head [1]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return p, err
	}
	p.kind, p.flags = head[0]>>4, head[0]&15
	n := 0
	for shift := 0; ; shift += 7 {
		if _, err := io.ReadFull(r, head[:]); err != nil {
			return p, err
		}
		if n |= int(head[0]&0x7f) << shift; head[0] < 0x80 {
			break
		}
	}
	p.body = make([]byte, n)
	_, err = io.ReadFull(r, p.body)
	return p, err
}

// publish has the broker send a message.
func (w *line) publish(topic string, payload []byte) {
	w.t.Helper()
	body := binary.BigEndian.AppendUint16(nil, uint16(len(topic)))
	body = append(append(body, topic...), 0)
	body = append(body, payload...)
	b := append(binary.AppendUvarint([]byte{0x30}, uint64(len(body))), body...)
	if _, err := w.conn.Write(b); err != nil {
		w.t.Errorf("publish: %v", err)
	}
}

// want is the next packet of a kind; what else comes goes by, but a publish must not.
func (w *line) want(kind byte) packet {
	w.t.Helper()
	for {
		select {
		case p, ok := <-w.in:
			if !ok {
				w.t.Fatalf("the connection ended before a packet of kind %d", kind)
			}
			if p.kind == kind {
				return p
			}
			if p.kind == kindPublish {
				topic, _, _ := published(p)
				w.t.Fatalf("a publish on %q before a packet of kind %d", topic, kind)
			}
		case <-time.After(10 * time.Second):
			w.t.Fatalf("no packet of kind %d", kind)
		}
	}
}

// cut ends the connection without a word.
func (w *line) cut() { w.conn.Close() }

// take takes n bytes of b.
func take(b *[]byte, n int) []byte {
	if n > len(*b) {
		n = len(*b)
	}
	out := (*b)[:n:n]
	*b = (*b)[n:]
	return out
}

func text(b *[]byte) string {
	return string(take(b, int(binary.BigEndian.Uint16(append(take(b, 2), 0, 0)))))
}

func varint(b *[]byte) int {
	n, size := binary.Uvarint(*b)
	take(b, max(size, 0))
	return int(n)
}

// connection is what a CONNECT says (MQTT 5, 3.1).
type connection struct {
	version    byte
	cleanStart bool
	expiry     uint32
	expires    bool // it says an expiry
	client     string
	will       bool
	willQoS    byte
	willRetain bool
	willTopic  string
	willSays   string
}

func connect(p packet) (c connection) {
	b := slices.Clone(p.body)
	text(&b)
	c.version = take(&b, 1)[0]
	flags := take(&b, 1)[0]
	take(&b, 2)
	props := take(&b, varint(&b))
	for len(props) > 0 {
		switch take(&props, 1)[0] {
		case 17: // session expiry interval
			c.expiry, c.expires = binary.BigEndian.Uint32(take(&props, 4)), true
		case 33, 34: // receive maximum, topic alias maximum
			take(&props, 2)
		case 39: // maximum packet size
			take(&props, 4)
		case 23, 25: // request problem or response information
			take(&props, 1)
		default:
			props = nil
		}
	}
	c.client = text(&b)
	c.cleanStart, c.will, c.willQoS, c.willRetain = flags&2 != 0, flags&4 != 0, flags>>3&3, flags&32 != 0
	if c.will {
		take(&b, varint(&b))
		c.willTopic = text(&b)
		c.willSays = text(&b)
	}
	return c
}

func filtersOf(body []byte) (out []string) {
	b := slices.Clone(body)
	take(&b, 2)
	take(&b, varint(&b))
	for len(b) > 0 {
		out = append(out, text(&b))
		take(&b, 1)
	}
	return out
}

func published(p packet) (topic string, id uint16, payload []byte) {
	b := slices.Clone(p.body)
	topic = text(&b)
	if p.flags>>1&3 > 0 {
		id = binary.BigEndian.Uint16(take(&b, 2))
	}
	take(&b, varint(&b))
	return topic, id, b
}

// disk is an agent's log in memory.
type disk struct {
	mu      sync.Mutex
	offers  []mesh.Offer
	state   []byte
	kept    map[string][]byte
	changed chan struct{}
}

func newDisk() *disk { return &disk{kept: map[string][]byte{}, changed: make(chan struct{})} }

func (d *disk) Append(_ context.Context, o mesh.Offer) (uint64, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.offers = append(d.offers, o)
	d.state = o.State
	for _, x := range o.Kept {
		if d.kept[x.Name] = x.Bytes; x.Bytes == nil {
			delete(d.kept, x.Name)
		}
	}
	close(d.changed)
	d.changed = make(chan struct{})
	return uint64(len(d.offers)), nil
}

func (d *disk) Committed(ctx context.Context, after uint64) (uint64, error) {
	for {
		d.mu.Lock()
		n, changed := uint64(len(d.offers)), d.changed
		d.mu.Unlock()
		if n > after {
			return n, nil
		}
		select {
		case <-ctx.Done():
			return 0, ctx.Err()
		case <-changed:
		}
	}
}

// until waits for something that is committed.
func (d *disk) until(t *testing.T, what string, found func() bool) {
	t.Helper()
	limit := time.After(10 * time.Second)
	for {
		d.mu.Lock()
		ok, changed := found(), d.changed
		d.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-changed:
		case <-limit:
			t.Fatalf("never committed: %s", what)
		}
	}
}

// run is a reader at work.
type run struct {
	t    *testing.T
	end  context.CancelFunc
	done chan error
}

func (b *broker) read(d *disk, change func(*Config), more ...func(*Reader)) *run {
	b.t.Helper()
	cfg := Config{ID: "line3", Config: link.Config{URL: b.url()}, Nodes: []string{"plant/*"}, Mode: Primary, HostID: "scada", Rebirth: Rebirth{Every: strict.Duration(time.Second)}}
	cfg.Window.Latency = strict.Duration(40 * time.Millisecond)
	if change != nil {
		change(&cfg)
	}
	now := func() mesh.Nanos { return mesh.NanosOf(time.Now()) }
	r, err := New(cfg, now, rand.New(rand.NewPCG(1, 2)), slog.New(slog.DiscardHandler))
	if err != nil {
		b.t.Fatal(err)
	}
	for _, m := range more {
		m(r)
	}
	d.mu.Lock()
	state := slices.Clone(d.state)
	r.Keep(maps.Clone(d.kept))
	d.mu.Unlock()
	ctx, cancel := context.WithCancel(b.t.Context())
	x := &run{t: b.t, end: cancel, done: make(chan error, 1)}
	go func() { x.done <- r.Run(ctx, state, d) }()
	b.t.Cleanup(cancel)
	return x
}

// stop ends it as an agent does.
func (r *run) stop() {
	r.t.Helper()
	r.end()
	select {
	case err := <-r.done:
		if err != nil && !errors.Is(err, context.Canceled) {
			r.t.Errorf("the reader ended with %v", err)
		}
	case <-time.After(10 * time.Second):
		r.t.Error("the reader does not end")
	}
}
