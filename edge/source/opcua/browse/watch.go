package browse

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/gopcua/opcua/ua"
)

// Change is a value that was another one when it was looked at before.
type Change struct {
	Node  *Node
	Value Value
}

// Poller looks at variables again and again by reading: a subscription would take
// from a server what it keeps for the agent.
type Poller struct {
	server server
	nodes  []*Node
	last   []string
}

// NewPoller prepares for variables that a walk told.
func NewPoller(ctx context.Context, c Caller, nodes []*Node) (*Poller, error) {
	s, err := meet(ctx, c)
	if err != nil {
		return nil, err
	}
	p := &Poller{server: s, last: make([]string, len(nodes))}
	for _, n := range nodes {
		if n.node == nil {
			if n.node, err = s.parse(n.ID); err != nil {
				return nil, err
			}
		}
		p.nodes = append(p.nodes, n)
	}
	return p, nil
}

// Look reads all once and gives those that changed since; the first time, all.
func (p *Poller) Look(ctx context.Context) (out []Change, err error) {
	ask := make([]*ua.ReadValueID, len(p.nodes))
	for i, n := range p.nodes {
		ask[i] = value(n.node)
	}
	got, err := p.server.readValues(ctx, ask)
	if err != nil {
		return nil, fmt.Errorf("read the values: %w", err)
	}
	for i, v := range got {
		s := shown(v)
		now := s.Text + "\x00" + s.Status
		if s.Source != nil {
			now += "\x00" + s.Source.Format(time.RFC3339Nano)
		}
		if now != p.last[i] {
			p.last[i] = now
			out = append(out, Change{p.nodes[i], *s})
		}
	}
	return out, nil
}

// Rate is how often values changed.
type Rate struct {
	PerSecond float64
	Measured  time.Duration
	Every     time.Duration
	Fast      int      // changed every time
	Changes   []Change // all that were seen, the first look included, at most 10,000
}

// maxChanges bounds what Measure keeps.
const maxChanges = 10_000

// Measure looks at variables for some time. What changes faster than it looks
// counts once a look.
func (p *Poller) Measure(ctx context.Context, lasting, every time.Duration) (r Rate, err error) {
	first, err := p.Look(ctx)
	if err != nil {
		return r, err
	}
	r.Changes = first
	times := map[*Node]int{}
	began, looks, changed := time.Now(), 0, 0
	tick := time.NewTicker(every)
	defer tick.Stop()
	for time.Since(began) < lasting {
		select {
		case <-ctx.Done():
			return r, context.Cause(ctx)
		case <-tick.C:
		}
		now, err := p.Look(ctx)
		if err != nil {
			return r, err
		}
		looks++
		changed += len(now)
		for _, c := range now {
			times[c.Node]++
		}
		r.Changes = append(r.Changes, now[:min(len(now), max(0, maxChanges-len(r.Changes)))]...)
	}
	for _, n := range times {
		if n == looks {
			r.Fast++
		}
	}
	r.Measured = time.Since(began)
	r.PerSecond, r.Every = float64(changed)/r.Measured.Seconds(), r.Measured/time.Duration(max(1, looks))
	r.Changes = slices.Clip(r.Changes)
	return r, nil
}
