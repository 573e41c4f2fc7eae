package serve

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"time"

	"plantmesh/edge/source/mqtt/link"
)

const (
	// helloTimeout is how long a caller may take to shake hands and to say CONNECT.
	helloTimeout = 10 * time.Second
	// maxHello bounds a CONNECT, and every packet but PUBLISH.
	maxHello = 64 << 10
	// writeTimeout is how long a device may leave our answers unread when it has left so
	// many that no more fit on the way: who waits for it lets all others wait.
	writeTimeout = 2 * time.Second
	// readRoom is what is read at once.
	readRoom = 4 << 10
)

// errGuard ends a connection that sends what the standard forbids.
var errGuard = errors.New("the device sent what is no MQTT packet")

// guard stands between the network and the library: only whole packets pass, of a
// bounded size, that are as the standard has them. The library decodes what comes
// through; it takes topics, properties and flags that the standard forbids.
type guard struct {
	net.Conn

	max     int
	version byte   // of the protocol; 0: no CONNECT came yet
	buf     []byte // what was read and has not passed
	ready   int    // of that, what may pass
	fault   error
	told    func(fault error) // of the fault, before the library hangs up; may be nil
}

func newGuard(c net.Conn, limit int) *guard { return &guard{Conn: c, max: limit} }

// Read implements net.Conn.
func (g *guard) Read(b []byte) (int, error) {
	for g.ready == 0 {
		if g.fault == nil {
			g.fault = g.admit()
		}
		if g.ready > 0 {
			break
		}
		if g.fault != nil {
			if g.told != nil {
				g.told(g.fault)
				g.told = nil
			}
			return 0, g.fault
		}
		if err := g.fill(); err != nil {
			return 0, err
		}
	}
	n := copy(b, g.buf[:g.ready])
	g.ready -= n
	g.buf = g.buf[:copy(g.buf, g.buf[n:])]
	if len(g.buf) == 0 && cap(g.buf) > 4*readRoom {
		g.buf = nil
	}
	return n, nil
}

// Write implements net.Conn.
func (g *guard) Write(b []byte) (int, error) {
	if err := g.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return 0, err
	}
	return g.Conn.Write(b)
}

// SetDeadline implements net.Conn: the library means how long a device may say nothing,
// and sets it anew, or takes it away, with each packet.
func (g *guard) SetDeadline(t time.Time) error { return g.SetReadDeadline(t) }

func (g *guard) fill() error {
	room := make([]byte, readRoom)
	n, err := g.Conn.Read(room)
	g.buf = append(g.buf, room[:n]...)
	if n > 0 {
		return nil
	}
	return err
}

// admit lets the whole packets pass that are there.
func (g *guard) admit() error {
	for {
		b := g.buf[g.ready:]
		if g.version == 0 && len(b) > 0 && b[0] != 1<<4 { // such as a browser's
			return fmt.Errorf("%w: CONNECT comes first", errGuard)
		}
		size, n, err := length(b)
		if err != nil {
			return err
		}
		limit := maxHello
		if size > 0 && b[0]>>4 == 3 {
			limit = g.max
		}
		switch {
		case size > 0 && n > limit:
			return fmt.Errorf("%w: a packet of %d bytes, at most %d are taken", errGuard, n, limit)
		case size == 0 || len(b) < size+n:
			return nil
		}
		if err := g.check(b[0], b[size:size+n]); err != nil {
			return err
		}
		g.ready += size + n
	}
}

// length reads a fixed header (MQTT 5, 2.1); size 0: it is not whole yet.
func length(b []byte) (size, n int, err error) {
	for i := 1; i < len(b) && i < 6; i++ {
		if i == 5 {
			return 0, 0, fmt.Errorf("%w: a length of more than four bytes", errGuard)
		}
		n |= int(b[i]&0x7F) << (7 * (i - 1))
		if b[i] < 0x80 {
			if i > 1 && b[i] == 0 {
				return 0, 0, fmt.Errorf("%w: a length in more bytes than it needs", errGuard)
			}
			return i + 1, n, nil
		}
	}
	return 0, 0, nil
}

// check is what the standard says of a device's packets (MQTT 5, 2.1.3 and 3).
func (g *guard) check(head byte, body []byte) error {
	kind, flags := head>>4, head&15
	switch {
	case (kind == 1) != (g.version == 0):
		return fmt.Errorf("%w: CONNECT comes first, and once", errGuard)
	case kind == 1:
		return g.hello(flags, body)
	case kind == 3:
		from := link.FromDevice5
		if g.version < 5 {
			from = link.FromDevice4
		}
		var p link.Packet
		return link.Parse(&p, head, body, from)
	case kind == 12 && len(body) > 0, kind == 14 && g.version < 5 && len(body) > 0:
		return fmt.Errorf("%w: type %d with %d bytes", errGuard, kind, len(body))
	}
	want := byte(0)
	switch kind {
	case 6, 8, 10: // PUBREL, SUBSCRIBE, UNSUBSCRIBE
		want = 2
	case 4, 5, 7, 12, 14:
	default: // only servers send the others; extended authentication is not offered
		return fmt.Errorf("%w: type %d", errGuard, kind)
	}
	if flags != want {
		return fmt.Errorf("%w: type %d with flags %d", errGuard, kind, flags)
	}
	return nil
}

// hello looks at a CONNECT as far as the version: the library checks the rest.
func (g *guard) hello(flags byte, b []byte) error {
	if flags != 0 || len(b) < 7 || binary.BigEndian.Uint16(b) != 4 || string(b[2:6]) != "MQTT" || b[6] != 4 && b[6] != 5 {
		return fmt.Errorf("%w: neither MQTT 3.1.1 nor MQTT 5", errGuard)
	}
	g.version = b[6]
	return nil
}
