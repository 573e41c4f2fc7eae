// Package door is where the simulator's brokers let clients in.
package door

import (
	"fmt"
	"log/slog"
	"net"
	"sync"

	mochi "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/listeners"
	"github.com/mochi-mqtt/server/v2/packets"
	"golang.org/x/sync/errgroup"
)

// Door is a listener of mochi for plain TCP. Those of mochi count who comes in within a
// goroutine that may begin while Close waits for the count to become zero, which is a data
// race, and Close waits for ever for a caller who never says who they are. This one's Close
// returns when nobody comes in any more, and everybody is gone.
type Door struct {
	broker *mochi.Server
	socket net.Listener
	ended  chan struct{} // Serve has

	mu     sync.Mutex // protects the fields below
	serves bool
	closed bool
	inside map[net.Conn]struct{}
}

var _ listeners.Listener = (*Door)(nil)

// Open listens on address, host:port, for a broker, which then closes it.
func Open(address string, broker *mochi.Server) (*Door, error) {
	socket, err := net.Listen("tcp", address) //nolint:noctx // it takes no time
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", address, err)
	}
	return &Door{broker: broker, socket: socket, ended: make(chan struct{}), inside: map[net.Conn]struct{}{}}, nil
}

// Init implements listeners.Listener.
func (*Door) Init(*slog.Logger) error { return nil }

// ID implements listeners.Listener.
func (*Door) ID() string { return "tcp" }

// Address implements listeners.Listener.
func (d *Door) Address() string { return d.socket.Addr().String() }

// Protocol implements listeners.Listener.
func (*Door) Protocol() string { return "tcp" }

// Serve implements listeners.Listener.
func (d *Door) Serve(establish listeners.EstablishFn) {
	if !d.begin() {
		return
	}
	defer close(d.ended)
	var g errgroup.Group
	for {
		conn, err := d.socket.Accept()
		if err != nil {
			break // it is closed
		}
		if !d.enter(conn) {
			_ = conn.Close() // nobody heard of it
			break
		}
		g.Go(func() error {
			defer d.leave(conn)
			return establish(d.ID(), conn) // which has told the hooks why a connection ended
		})
	}
	_ = g.Wait() // as above
}

// Close implements listeners.Listener: clients hear a farewell, then nothing. Mochi's own
// farewell looks for them with a read lock within a read lock: who comes in between the two
// has it wait for ever.
func (d *Door) Close(listeners.CloseFn) {
	d.mu.Lock()
	d.closed = true
	serves := d.serves
	d.mu.Unlock()
	_ = d.socket.Close() // a second time it says so
	for _, c := range d.broker.Clients.GetAll() {
		if !c.Net.Inline && !c.Closed() {
			_ = d.broker.DisconnectClient(c, packets.ErrServerShuttingDown) // it may be gone
		}
	}
	d.mu.Lock()
	for conn := range d.inside {
		_ = conn.Close() // most are by now
	}
	d.mu.Unlock()
	if serves {
		<-d.ended
	}
}

func (d *Door) begin() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.serves = !d.closed
	return d.serves
}

func (d *Door) enter(conn net.Conn) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.closed {
		d.inside[conn] = struct{}{}
	}
	return !d.closed
}

func (d *Door) leave(conn net.Conn) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.inside, conn)
}
