package mqtt

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"

	"plantmesh/edge/source/mqtt/link"
	"plantmesh/edge/source/mqtt/serve"
	"plantmesh/proto/mesh"
)

// mostRefused bounds the refusals of a stay that are told one by one.
const mostRefused = 50

// Attended is what devices said to a listener that nothing is kept of.
type Attended struct {
	Heard   []link.Heard
	Users   []string // who said the message with the same index
	Callers int      // devices that were connected at a time, at most
	Open    int      // messages with QoS 1 or 2: they were not acknowledged
	Gone    int      // messages with QoS 0
	Refused []string // who was refused, and why
	More    int      // refusals beyond those
}

// Attend listens for devices for a stay, as the listener of the configuration does, and
// gives what they publish. Nothing of it is kept, so none of it is acknowledged: what has
// QoS 1 or 2 the device still holds. Devices with a session that lasts are not let in,
// see serve.Config.Passing. now is the plant clock.
func Attend(ctx context.Context, cfg *ListenerConfig, stay link.Stay, now func() mesh.Nanos) (Attended, error) {
	within, cancel := context.WithTimeout(ctx, stay.Within)
	defer cancel()
	passing := cfg.Server
	passing.Passing = true
	g := &guestbook{over: func() bool { return within.Err() != nil }, end: cancel, stay: stay, now: now, refused: map[string]int{}}
	s, err := serve.Listen(within, passing, nil, g, slog.New(slog.DiscardHandler))
	if err != nil {
		return Attended{}, err
	}
	if stay.Open != nil {
		stay.Open(s.Address())
	}
	if err := s.Run(within); err != nil {
		return Attended{}, err
	}
	return g.close(), ctx.Err()
}

// guestbook notes what devices do. It implements serve.Taker and serve.Witness.
type guestbook struct {
	over func() bool // the stay is: what comes behind its end, such as wills, is our doing
	end  func()
	stay link.Stay
	now  func() mesh.Nanos

	mu      sync.Mutex // protects the fields below
	out     Attended
	size    int
	refused map[string]int
}

var (
	_ serve.Taker   = (*guestbook)(nil)
	_ serve.Witness = (*guestbook)(nil)
)

// Publish implements serve.Taker. Nothing is ever acknowledged.
func (g *guestbook) Publish(d *serve.Client, p *link.Packet) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.over() || len(g.out.Heard) >= g.stay.Messages {
		return
	}
	if p.QoS > 0 {
		g.out.Open++
	} else {
		g.out.Gone++
	}
	g.out.Heard = append(g.out.Heard, link.Heard{Topic: string(p.Topic), Payload: bytes.Clone(p.Payload), At: g.now()})
	g.out.Users = append(g.out.Users, d.User)
	if g.size += len(p.Payload); len(g.out.Heard) >= g.stay.Messages || g.size >= g.stay.Bytes {
		g.end()
	}
}

// Begin implements serve.Taker.
func (*guestbook) Begin(serve.Session) {}

// End implements serve.Taker.
func (*guestbook) End(string) {}

// Count implements serve.Taker.
func (g *guestbook) Count(connected int, _ string, _ bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.out.Callers = max(g.out.Callers, connected)
}

// Refused implements serve.Witness.
func (g *guestbook) Refused(who, why string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	text := who + ": " + why
	if _, known := g.refused[text]; !known && len(g.refused) >= mostRefused {
		g.out.More++
		return
	}
	g.refused[text]++
}

func (g *guestbook) close() Attended {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, text := range slices.Sorted(maps.Keys(g.refused)) {
		if n := g.refused[text]; n > 1 {
			text = fmt.Sprintf("%s (%d times)", text, n)
		}
		g.out.Refused = append(g.out.Refused, text)
	}
	return g.out
}
