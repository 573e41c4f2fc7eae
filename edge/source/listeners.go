package source

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
)

// Listeners are who listens to raw values, in the agent. Workers are told of them, and tell
// what was asked for on request only. Safe for concurrent use; nil has none for ever.
type Listeners struct {
	mu      sync.Mutex // protects the fields below
	next    uint64
	all     map[uint64]*Listener
	changed chan struct{} // closed and replaced when somebody comes or goes
}

// NewListeners has none yet.
func NewListeners() *Listeners {
	return &Listeners{all: map[uint64]*Listener{}, changed: make(chan struct{})}
}

// Listener is one of them. What it does not take in time is left out, and counted. Close ends it.
type Listener struct {
	of     *Listeners
	id     uint64
	source string // empty: all
	query  RawQuery
	wake   chan struct{}

	mu   sync.Mutex // protects the fields below
	size int
	got  []Heard
	lost uint64 // what could not be held
}

// Heard is what one source said.
type Heard struct {
	RawHeard

	Source string
}

// Listen begins to listen to a source, or to all of them where that is empty.
func (l *Listeners) Listen(source string, q RawQuery) *Listener {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.next++
	x := &Listener{of: l, id: l.next, source: source, query: q, wake: make(chan struct{}, 1)}
	l.all[x.id] = x
	l.change()
	return x
}

func (l *Listeners) change() {
	close(l.changed)
	l.changed = make(chan struct{})
}

// Close ends listening.
func (x *Listener) Close() {
	x.of.mu.Lock()
	defer x.of.mu.Unlock()
	delete(x.of.all, x.id)
	x.of.change()
}

// Wake has something when Take has.
func (x *Listener) Wake() <-chan struct{} { return x.wake }

// Take is what was heard since, and how many values could not be held until now.
func (x *Listener) Take() (got []Heard, lost uint64) {
	x.mu.Lock()
	defer x.mu.Unlock()
	got, lost = x.got, x.lost
	x.got, x.size, x.lost = nil, 0, 0
	return got, lost
}

// put takes what a source said.
func (x *Listener) put(h Heard) {
	x.mu.Lock()
	size := 0
	for i := range h.Values {
		size += h.Values[i].size()
	}
	if x.size+size > 2*mostRawBytes || len(x.got) >= mostRaw {
		x.lost += uint64(len(h.Values)) + h.LeftOut
	} else {
		x.got, x.size = append(x.got, h), x.size+size
	}
	x.mu.Unlock()
	select {
	case x.wake <- struct{}{}:
	default:
	}
}

// orders are what the worker of a source is to be told, and what is closed when that changes.
func (l *Listeners) orders(source string) (out []rawOrder, changed <-chan struct{}) {
	if l == nil {
		return nil, nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for id, x := range l.all {
		if (x.source == "" || x.source == source) && len(out) < maxRawTaps {
			out = append(out, rawOrder{x.query, id})
		}
	}
	return out, l.changed
}

// deliver gives what a worker told to whom it is for.
func (l *Listeners) deliver(source string, payload []byte) error {
	if l == nil || len(payload) > maxRawFrame {
		return fmt.Errorf("%w: %d bytes of raw values that nobody asked for", errPipe, len(payload))
	}
	var all []rawParcel
	if err := json.Unmarshal(payload, &all); err != nil {
		return fmt.Errorf("%w: raw values: %w", errPipe, err)
	}
	for _, p := range all {
		l.mu.Lock()
		x := l.all[p.ID]
		l.mu.Unlock()
		if x != nil && (x.source == "" || x.source == source) { // else it went meanwhile
			x.put(Heard{p.RawHeard, source})
		}
	}
	return nil
}

// listeners tells the worker who listens, until ctx ends. What can't be written the others
// of the run find out, too, and say why.
func (r *run) listeners(ctx context.Context) error {
	select {
	case <-r.begun:
	case <-ctx.Done():
		return nil
	}
	for told := false; ; {
		orders, changed := r.s.cfg.Listeners.orders(r.s.cfg.ID)
		if len(orders) > 0 || told {
			b, err := json.Marshal(orders)
			if err != nil {
				return fmt.Errorf("tell the worker who listens: %w", err)
			}
			if err := r.write(frameListen, b); err != nil {
				return nil //nolint:nilerr // see above
			}
			told = len(orders) > 0
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil
		}
	}
}
