package torture

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"plantmesh/firmware-sim/ledger"
	"plantmesh/firmware-sim/mqtt"
	"plantmesh/firmware-sim/opcua"
	"plantmesh/firmware-sim/plant"
)

// sourceSpec is one device of the load.
type sourceSpec struct {
	id, kind, line string
	signals        int // that count
	every          time.Duration
	// roles, where set, name the signals, and value is what each says in a round
	// instead of its number.
	roles []string
	value func(role string, round uint64) int64
	// text, where set, is what each sample says; it must never come twice.
	text func() string
}

const machine = "press"

// equipment is the only machine of a line.
func (s sourceSpec) equipment() string { return s.line + "-" + machine }

func (s sourceSpec) signal(i int) string {
	if s.roles != nil {
		return fmt.Sprintf("%s.%s.%s", s.line, machine, s.roles[i])
	}
	return fmt.Sprintf("%s.%s.n%02d", s.line, machine, i)
}

// defaultSources together say about a thousand samples a second.
func defaultSources() []sourceSpec {
	return []sourceSpec{
		{id: "s1", kind: "opcua", line: "line1", signals: 25, every: 50 * time.Millisecond},
		{id: "s2", kind: "mqtt", line: "line2", signals: 25, every: 50 * time.Millisecond},
	}
}

// server is a device that can be run.
type server interface {
	plant.Server
	URL() string
	Run(ctx context.Context) error
}

// feed is one source as it runs.
type feed struct {
	sourceSpec

	server server
	index  uint64
	rounds uint64
	next   time.Time // of the next samples
	still  bool      // there are none
}

// load emits. Its methods are for the goroutine of the case; what it emits
// goes out by its own.
type load struct {
	t     *testing.T
	path  string // of the ledger
	book  *ledger.Ledger
	feeds []*feed
	// clock is what the devices' clocks show.
	clock func() time.Time
	// room is how many samples may wait in the devices while they say a backlog.
	room int

	mu    sync.Mutex // protects the fields below, and the feeds' index, next and still
	held  bool       // nothing is said and the clocks stand
	quiet bool
	last  time.Time // of the newest sample
}

func (s sourceSpec) table() (out []plant.Signal) {
	typ := plant.Int
	if s.text != nil {
		typ = plant.String
	}
	for i := range s.signals {
		out = append(out, plant.Signal{Source: s.id, Name: s.signal(i), Type: typ})
	}
	return out
}

// newLoad serves the sources; nothing is emitted before run.
func newLoad(t *testing.T, path string, specs []sourceSpec) *load {
	t.Helper()
	l := &load{t: t, path: path, clock: time.Now, room: 20_000}
	var err error
	if l.book, err = ledger.Open(path); err != nil {
		t.Fatal(err)
	}
	received := func(source string, indexes []uint64) {
		l.book.Received(source, indexes)
		if err := l.book.Sync(); err != nil {
			t.Error(err)
		}
	}
	log := slog.New(slog.DiscardHandler)
	for _, s := range specs {
		var srv server
		if s.kind == "mqtt" {
			srv, err = mqtt.Serve(mqtt.Config{Source: s.id, Listen: "127.0.0.1:0"}, s.table(), received, log)
		} else {
			srv, err = opcua.Serve(opcua.Config{Source: s.id, Listen: "127.0.0.1:0"}, s.table(), received, log)
		}
		if err != nil {
			t.Fatal(err)
		}
		l.feeds = append(l.feeds, &feed{sourceSpec: s, server: srv})
	}
	return l
}

// run serves, emits and proves until ctx ends.
func (l *load) run(ctx context.Context) {
	var wg sync.WaitGroup
	for _, f := range l.feeds {
		wg.Go(func() {
			if err := f.server.Run(ctx); err != nil && ctx.Err() == nil {
				l.t.Errorf("source %s: %v", f.id, err)
			}
		})
	}
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for ctx.Err() == nil {
		if err := l.step(); err != nil {
			l.t.Error(err)
			break
		}
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
	}
	wg.Wait()
	if err := l.book.Close(); err != nil {
		l.t.Error(err)
	}
}

// step emits what is due and moves the devices' clocks.
func (l *load) step() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.held {
		return nil
	}
	now := l.clock().UTC().Truncate(time.Millisecond)
	for _, f := range l.feeds {
		if !l.quiet && !f.still && !now.Before(f.next) {
			if err := l.push(f, f.round(now)); err != nil {
				return err
			}
			if f.next = f.next.Add(f.every); !f.next.After(now) { // it stood still
				f.next = now.Add(f.every)
			}
		}
		f.server.Prove(now)
	}
	return nil
}

// round is one sample of each signal at an instant.
func (f *feed) round(at time.Time) []plant.Emission {
	out := make([]plant.Emission, 0, f.signals)
	f.rounds++
	for i := range f.signals {
		f.index++
		v := plant.Value{Type: plant.Int, I: int64(f.index)}
		if f.value != nil {
			v.I = f.value(f.roles[i], f.rounds)
		}
		if f.text != nil {
			v = plant.Value{Type: plant.String, S: f.text()}
		}
		out = append(out, plant.Emission{Source: f.id, Index: f.index, Signal: f.signal(i), Time: at, Emitted: at, Value: v})
	}
	return out
}

// push writes samples into the ledger, and only then lets them leave.
func (l *load) push(f *feed, batch []plant.Emission) error {
	if err := l.book.Emitted(batch); err != nil {
		return err
	}
	l.leave(f, batch)
	return nil
}

// leave is what the ledger has on its way out.
func (l *load) leave(f *feed, batch []plant.Emission) {
	for _, e := range batch {
		f.server.Push(e)
		if e.Time.After(l.last) {
			l.last = e.Time
		}
	}
}

// odd has a source say samples of one signal at any instants, in this order,
// each as often as times says. The load's own clock knows nothing of them.
func (l *load) odd(f *feed, signal int, times int, at ...time.Time) {
	l.t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	last := l.last
	for _, t := range at {
		t = t.UTC().Truncate(time.Millisecond)
		value := plant.Value{Type: plant.Int, I: int64(f.index) + 1}
		for range times {
			f.index++
			if err := l.push(f, []plant.Emission{{Source: f.id, Index: f.index, Signal: f.signal(signal), Time: t, Emitted: t, Value: value}}); err != nil {
				l.t.Fatal(err)
			}
		}
	}
	l.last = last
}

// silence ends the emission; the devices go on proving. It gives the instant of
// the newest sample.
func (l *load) silence() time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.quiet = true
	return l.last
}

// hold stops everything or lets it go on.
func (l *load) hold(on bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.held = on
}

// still has a source say nothing more; its clock goes on.
func (l *load) still(id string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, f := range l.feeds {
		f.still = f.still || f.id == id
	}
}

// waiting is how many samples the agent has not acknowledged.
func (l *load) waiting() (n int) {
	for _, f := range l.feeds {
		n += f.server.Waiting()
	}
	return n
}

// backlog has every source of a held load say what lies between from and to,
// every so often, as fast as the agent takes it.
func (l *load) backlog(from, to time.Time, every time.Duration) {
	l.t.Helper()
	l.backlogUntil(from, to, every, func() bool { return false })
}

// backlogUntil is backlog that ends before its time where enough says so.
func (l *load) backlogUntil(from, to time.Time, every time.Duration, enough func() bool) {
	l.t.Helper()
	first := l.last.IsZero()
	at := from.UTC().Truncate(time.Millisecond)
	signals := 0
	for _, f := range l.feeds {
		signals += f.signals
	}
	for at.Before(to) && !enough() {
		for l.waiting() > l.room {
			if enough() {
				return
			}
			pause(5 * time.Millisecond)
		}
		l.mu.Lock()
		var rounds [][]plant.Emission // of each source, synced together
		var all []plant.Emission
		var clocks []time.Time
		for n := range min(200, max(1, l.room/signals)) {
			if !at.Before(to) || first && n == 1 {
				break
			}
			for _, f := range l.feeds {
				rounds = append(rounds, f.round(at))
				all = append(all, rounds[len(rounds)-1]...)
			}
			clocks = append(clocks, at)
			at = at.Add(every)
		}
		if err := l.book.Emitted(all); err != nil {
			l.mu.Unlock()
			l.t.Fatal(err)
		}
		for i, clock := range clocks {
			for j, f := range l.feeds {
				l.leave(f, rounds[i*len(l.feeds)+j])
				f.server.Prove(clock)
			}
		}
		l.mu.Unlock()
		for first && l.waiting() > 0 { // so that all is heard from the very first instant
			pause(5 * time.Millisecond)
		}
		first = false
	}
}

// pause waits a moment between two looks.
func pause(d time.Duration) {
	<-time.After(d)
}
