package torture

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/url"
	"path/filepath"
	"sync"
	"time"

	"plantmesh/cloud/store"
	"plantmesh/proto/mesh"
	"plantmesh/proto/wire"
)

// The live load of the figures, in samples a second, and their bars.
const (
	liveRate    = 5_000
	leastRate   = liveRate * 0.9  // below it the load was not the one that is meant
	drainBar    = 3               // times the live rate
	liveBar     = 2               // seconds until 99 of 100 live samples are there
	leastLiving = 5 * time.Second // for which live samples are looked at, however soon the backlog is gone
)

// noisySources together say liveRate samples a second, a tenth of it from each
// second to the next: numbers that wander as those of sensors do, and one of a
// hundred that the rule of spikes marks.
func (x *trial) noisySources() []sourceSpec {
	luck := rand.New(rand.NewPCG(x.seed, 2))
	const signals, every = 250, 100 * time.Millisecond
	specs := []sourceSpec{
		{id: "s1", kind: "opcua", line: "line1", signals: signals, every: every},
		{id: "s2", kind: "mqtt", line: "line2", signals: signals, every: every},
	}
	for i := range specs {
		level := map[string]int64{}
		for n := range signals {
			specs[i].roles = append(specs[i].roles, fmt.Sprintf("n%03d", n))
		}
		specs[i].value = func(role string, _ uint64) int64 {
			level[role] += luck.Int64N(101) - 50 - level[role]/100
			if luck.IntN(100) == 0 {
				return level[role] + spike
			}
			return level[role]
		}
	}
	return specs
}

// spike is above what wandering gets to.
const spike = 100_000

const spikeRule = "revision: 1\nrules:\n  - {id: spike, kind: range, signal: \"*.*.*\", max: 50000}\n"

// newest is the instant of the newest sample of an equipment in product
// signals; zero: it has none.
func (r *rig) newest(equipment string) (at time.Time) {
	body, err := r.get("/api/v1/products/signals/latest", url.Values{"equipment": {equipment}, "fields": {"time"}})
	if err != nil {
		return at
	}
	defer body.Close()
	var answer struct{ Data []struct{ Time time.Time } }
	if json.NewDecoder(body).Decode(&answer) != nil {
		return at
	}
	for _, row := range answer.Data {
		if row.Time.After(at) {
			at = row.Time
		}
	}
	return at
}

// n01 cuts the link for what sources say in an hour, and more in the long tier:
// live data goes first, the backlog drains beside it. The hour is not waited
// for: the sources stamp it, and say it as fast as the agent takes it, which
// asks more of its memory than the hour would. Its records are those of the
// hour: a window closes at what is said in a second. Everything from the end of
// the outage on is said when it is due. Timers are the programs' own.
// PLANTMESH_OUTAGE=n makes it another number of minutes.
func n01(x *trial) {
	every, away := 20*time.Second, 3*time.Second
	if x.full {
		every, away = 100*time.Millisecond, 30*time.Second
	}
	specs := x.noisySources()
	window := fmt.Sprintf("max_samples: %d", liveRate/len(specs))
	r := x.rig(options{held: true, plain: true, sources: specs, window: window, rules: spikeRule})
	m := r.meter()
	r.link.Cut(true)
	now := time.Now()
	r.load.backlog(now.Add(-time.Duration(number("PLANTMESH_OUTAGE", 60))*time.Minute), now, every)
	r.load.hold(false)
	r.await("the agent has all of the hour", r.patience(), func() bool { return r.load.waiting() < liveRate*2 })
	x.note("the hour was taken in %.0f s", time.Since(now).Seconds())
	pause(away)
	m.read("pss_outage")
	r.drain()
	m.read("pss_drain")
	r.settle()
}

// drain ends an outage, and measures until the hub's log has what was said
// before the agent was connected again.
func (r *rig) drain() {
	r.Helper()
	sent, end := r.publishes()
	defer end()
	began := time.Now()
	r.link.Cut(false)
	r.await("the agent sends again", time.Minute, func() bool { return sent() > 0 })
	a := &arrivals{}
	a.since, a.waits = r.load.mark()
	connected := time.Now()
	ctx, stop := context.WithCancel(r.Context())
	defer stop()
	var wg sync.WaitGroup
	var ages []time.Duration
	wg.Go(func() {
		if err := a.watch(ctx, filepath.Join(r.hubData, "hub.db")); err != nil {
			r.Errorf("read the hub's log: %v", err)
		}
	})
	wg.Go(func() { ages = r.ages(ctx, connected) })
	r.await("the hub has the backlog", r.patience(), func() bool { return !a.drained().IsZero() && time.Since(connected) > leastLiving })
	until := time.Now()
	r.await("the hub has what was said meanwhile", r.patience(), func() bool { return a.through() > mesh.NanosOf(until) })
	stop()
	wg.Wait()
	r.healed(a.drained().Sub(began))
	took := a.drained().Sub(began).Seconds()
	late := a.late(mesh.NanosOf(until))
	r.note("%d values waited, drained in %.1f s, of that %.1f s until connected; looked at %d live samples, the latest after %.2f s",
		a.waits, took, connected.Sub(began).Seconds(), len(late), share(late, 100).Seconds())
	r.figure(figure{name: "live_rate", value: float64(len(late)) / until.Sub(connected).Seconds(), unit: "/s", bar: leastRate, more: true, clock: true})
	r.figure(figure{name: "drain", value: float64(a.waits) / took / liveRate, unit: "x live", bar: drainBar, more: true, clock: true})
	r.figure(figure{name: "live_stored_p99", value: share(late, 99).Seconds(), unit: "s", bar: liveBar, clock: true})
	r.figure(figure{name: "live_product_p99", value: share(ages, 99).Seconds(), unit: "s", bar: liveBar, clock: true})
}

// ages are how old the newest sample of each equipment in product signals is,
// again and again until ctx ends: no sample is there later than that. What was
// said before the connection is not of it.
func (r *rig) ages(ctx context.Context, connected time.Time) (out []time.Duration) {
	for began := time.Now(); ctx.Err() == nil; {
		for _, s := range r.o.sources {
			at := r.newest(s.equipment())
			if now := time.Now(); now.Sub(began) > liveBar*time.Second || at.After(connected) {
				out = append(out, now.Sub(at))
			}
		}
		pause(100 * time.Millisecond)
	}
	return out
}

// mark is the instant of the newest sample, and how many there are so far.
func (l *load) mark() (at mesh.Nanos, samples int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, f := range l.feeds {
		samples += int(f.index)
	}
	return mesh.NanosOf(l.last), samples
}

// arrivals is the hub's log as somebody sees it who looks again and again.
type arrivals struct {
	since mesh.Nanos // later samples are live
	waits int        // samples that are not

	mu     sync.Mutex // protects the fields below
	came   int        // samples that are not live
	gone   time.Time  // when all of them had come
	live   []arrival
	newest mesh.Nanos
}

type arrival struct {
	at   mesh.Nanos
	late time.Duration
}

// watch reads the log until ctx ends.
func (a *arrivals) watch(ctx context.Context, path string) error {
	s, err := store.OpenReading(ctx, path, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	defer s.Close()
	dec, err := wire.NewDecoder()
	if err != nil {
		return err
	}
	for after := (mesh.Position{}); ctx.Err() == nil; {
		entries, err := s.Peek(context.WithoutCancel(ctx), 0, after, 500)
		if err != nil {
			return err
		}
		if len(entries) == 0 {
			pause(20 * time.Millisecond)
			continue
		}
		after = entries[len(entries)-1].At
		if err := a.take(dec, entries, time.Now()); err != nil {
			return err
		}
	}
	return nil
}

func (a *arrivals) take(dec *wire.Decoder, entries []mesh.Entry, now time.Time) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, e := range entries {
		if e.Header.Kind != mesh.KindBatch {
			continue
		}
		if e.Header.Times.To <= a.since {
			a.came += int(e.Header.Count)
			continue
		}
		b, err := dec.Batch(e.Sealed)
		if err != nil {
			return err
		}
		for _, x := range b.Samples {
			if x.Time <= a.since {
				a.came++
				continue
			}
			a.newest = max(a.newest, x.Time)
			a.live = append(a.live, arrival{x.Time, now.Sub(x.Time.Time())})
		}
	}
	if a.came >= a.waits && a.gone.IsZero() {
		a.gone = now
	}
	return nil
}

// drained is when the backlog had come; zero: it has not.
func (a *arrivals) drained() time.Time {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.gone
}

// through is the newest live sample.
func (a *arrivals) through() mesh.Nanos {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.newest
}

// late is how late the live samples up to an instant came.
func (a *arrivals) late(until mesh.Nanos) (out []time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, x := range a.live {
		if x.at <= until {
			out = append(out, x.late)
		}
	}
	return out
}

// pending is how many records the hub has not accounted for, as the agent says.
func (r *rig) pending() int64 {
	s, ok := r.status()
	if !ok {
		return 0
	}
	return s.Buffer.Pending
}
