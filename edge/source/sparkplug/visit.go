package sparkplug

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"

	"plantmesh/edge/source/mqtt/link"
	"plantmesh/proto/mesh"
)

// mostForeign bounds the foreign nodes of a visit that are named.
const mostForeign = 100

// Visited is what a broker said, and what this source makes of it.
type Visited struct {
	Looks   []Look
	Says    []string // of no message, or of the visit
	Table   []mesh.Signal
	Unborn  []string  // group/node or group/node/device: spoke, and its birth was not heard
	Foreign []Foreign // nodes that spoke, too, and may not
}

// Foreign is a node that `nodes` does not name.
type Foreign struct {
	Node     string // group/node
	Messages int
}

// Visit hears the nodes of a broker beside whoever else does, see link.Visit, and tells
// what becomes of each message. Whatever the mode of the configuration, it only listens:
// it asks no node for anything, and says of no host that it is there. It hears the whole
// namespace, where the broker lets it, so that a node that nodes does not name is seen.
func Visit(ctx context.Context, cfg *Config, stay link.Stay, now func() mesh.Nanos) (out Visited, err error) {
	s := sieve{cfg: cfg, foreign: map[string]int{}}
	stay.Counts = s.counts
	all, err := link.Visit(ctx, &cfg.Config, []string{cfg.Namespace + "/+/+/+", cfg.Namespace + "/+/+/+/+"}, stay, now)
	narrow := errors.Is(err, link.ErrRefused) && len(all) == 0
	if narrow {
		all, err = link.Visit(ctx, &cfg.Config, cfg.filters(), stay, now)
	}
	if err != nil {
		return out, err
	}
	if out, err = Explain(cfg, all); err != nil {
		return out, err
	}
	if narrow {
		out.Says = append(out.Says, "the broker lets this login hear only what nodes names: others were not looked for")
	}
	s.report(&out)
	return out, nil
}

// sieve lets the messages through that nodes which may speak have said.
type sieve struct {
	cfg             *Config
	foreign         map[string]int
	more            int // messages of others
	commands, other int
}

func (s *sieve) counts(text []byte) bool {
	t, ok := parseTopic(s.cfg.Namespace, string(text))
	id := t.group + "/" + t.node
	switch {
	case !ok:
		s.other++
	case !s.cfg.allows(t.group, t.node):
		if _, known := s.foreign[id]; known || len(s.foreign) < mostForeign {
			s.foreign[id]++
		} else {
			s.more++
		}
	case t.kind == ncmd || t.kind == dcmd:
		s.commands++
	default:
		return true
	}
	return false
}

func (s *sieve) report(out *Visited) {
	for _, id := range slices.Sorted(maps.Keys(s.foreign)) {
		out.Foreign = append(out.Foreign, Foreign{id, s.foreign[id]})
	}
	for _, x := range []struct {
		n    int
		what string
	}{
		{s.more, "messages are of still other nodes"},
		{s.commands, "messages are commands of other hosts to these nodes: they are no values"},
		{s.other, "messages below " + s.cfg.Namespace + " are none of Sparkplug B, or have a name of more than 128 bytes"},
	} {
		if x.n > 0 {
			out.Says = append(out.Says, fmt.Sprintf("%d %s", x.n, x.what))
		}
	}
}

// Explain tells what becomes of messages, in their order, in a reader that begins with
// the first and knows no birth yet. What would wait for a birth that a node is asked for
// is not known here: nobody asks.
func Explain(cfg *Config, all []link.Heard) (out Visited, err error) {
	quiet := *cfg
	quiet.Mode, quiet.HostID, quiet.StoreAndForward = Passive, "", nil
	h, err := newHost(&quiet, nil, nil, rand.New(rand.NewPCG(1, 2))) //nolint:gosec // spreads requests that nobody sends
	if err != nil {
		return out, err
	}
	t := newTrace(all)
	h.trace = t
	now := moment{}
	for i, x := range all {
		now = moment{x.At, x.At.Time()} // what was heard has one clock
		if i == 0 {
			h.connected()
			h.subscribed(now)
		}
		t.turn(0)
		h.tick(now)
		h.take(message{x.Topic, x.Payload, x.Retained, x.TooLarge}, now)
		if h.due(now.machine) {
			if _, err := h.seal(); err != nil {
				return out, err
			}
		}
	}
	t.turn(0)
	h.disconnected(now) // what waits for one that is missing is told now
	out.Looks, out.Table = t.looks[1:], h.table.rows()
	for _, n := range h.nodes {
		for u := range n.units {
			if len(u.metrics) > 0 || u.born {
				t.born(strings.TrimSuffix(n.id()+"/"+u.device, "/"))
			}
		}
	}
	out.Unborn = slices.Sorted(maps.Keys(t.unborn))
	for i := range t.looks {
		t.looks[i].Says = append(t.looks[i].Says, t.looks[i].dark()...)
	}
	out.Says = t.looks[0].Says
	return out, nil
}

// dark are the signals that have no value any more, in words.
func (l *Look) dark() (out []string) {
	for _, s := range slices.Sorted(maps.Keys(l.Dark)) {
		why := "what they are now is not known"
		if s == mesh.StatusBadNodeIDUnknown {
			why = "they are in its births no longer"
		}
		out = append(out, fmt.Sprintf("%d signals become Bad: %s", l.Dark[s], why))
	}
	return out
}
