// Package walk takes readings from the simulated plant to the rows of the
// products in one process, one event at a time, through the real rooms on real
// disks. The test decides what happens next, so the same seed is the same walk;
// there is no goroutine in it and no clock but its own.
package walk

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"testing"
	"testing/cryptotest"
	"time"

	"plantmesh/cloud/store"
	"plantmesh/edge/buffer"
	"plantmesh/firmware-sim/plant"
	"plantmesh/proto/mesh"
)

const (
	site, agentName = "graz", "gw-1"
	agentLog        = mesh.LogID("agent/graz/gw-1")
	forgetful       = "line2-palletiser"
)

// lie is what a walk does wrong on purpose, to see that it is found.
type lie uint8

const (
	honest    lie = iota
	lieAcks       // the reader acknowledges before the commit
	lieClaims     // the reader claims what nobody heard
	lieTwice      // the reader gives one sample as two
	lieCount      // the reader counts one too many from some time on
	lieDrops      // the reader leaves a sample out, and acknowledges it
)

// plan says which walk.
type plan struct {
	seed   uint64
	faulty bool
	lie    lie
	// putBack is how often the hub is put back to a copy; the agent keeps all then.
	putBack int
}

// world is what the plant does in a plan: made once, walked several times.
type world struct {
	start, end mesh.Nanos
	signals    []plant.Signal
	emissions  []plant.Emission
	sources    []string
	bySource   map[string][]plant.Emission
}

// days on which walks begin: two of them change the clock.
func days() []time.Time {
	var out []time.Time
	for _, d := range []string{"2026-03-01", "2026-03-28", "2026-10-24", "2026-06-30", "2026-03-29", "2026-12-31", "2026-10-25", "2028-02-29"} {
		t, err := time.Parse(time.DateOnly, d)
		if err == nil {
			out = append(out, t)
		}
	}
	return out
}

func newWorld(t testing.TB, seed uint64, hours int) *world {
	t.Helper()
	zone, err := time.LoadLocation(plant.Zone)
	if err != nil {
		t.Fatal(err)
	}
	all := days()
	day := all[seed%uint64(len(all))].AddDate(0, 0, int(seed/uint64(len(all)))*364)
	start := time.Date(day.Year(), day.Month(), day.Day(), 5, 0, 0, 0, zone)
	end := start.Add(time.Duration(hours) * time.Hour)
	p, err := plant.New(plant.Config{Seed: seed, Start: start, Stop: end})
	if err != nil {
		t.Fatal(err)
	}
	x := &world{start: mesh.NanosOf(start), end: mesh.NanosOf(end), signals: p.Signals(), bySource: map[string][]plant.Emission{}}
	x.emissions = p.Until(end.Add(plant.Disorder))
	for _, e := range x.emissions {
		x.bySource[e.Source] = append(x.bySource[e.Source], e)
	}
	for _, s := range x.signals {
		if n := len(x.sources); n == 0 || x.sources[n-1] != s.Source {
			x.sources = append(x.sources, s.Source)
		}
	}
	return x
}

// walk is one run.
type walk struct {
	plan

	t      *testing.T
	ctx    context.Context
	dir    string
	quiet  *slog.Logger
	luck   *rand.Rand // of the plant's side
	harm   *rand.Rand // of the faults
	press  *rand.Rand // of the compactor
	world  *world
	tables map[string][]mesh.Signal

	machine time.Time
	plant   mesh.Nanos
	devices []*device
	readers map[string]*reader // those that run
	agent   *agent             // nil: it is down
	hub     *hub               // nil: it is down
	link    *link
	due     []comeback
	events  int
	faults  map[string]int
	copied  string                // where a copy of the hub lies
	open    map[string]mesh.Nanos // gaps that reach to the end, by source
}

// comeback is something that was stopped and starts again.
type comeback struct {
	at    int // in events
	start func()
}

func newWalk(t *testing.T, p plan, x *world) *walk {
	t.Helper()
	cryptotest.SetGlobalRandom(t, p.seed) // epochs
	w := &walk{
		plan: p, t: t, ctx: t.Context(), dir: t.TempDir(), quiet: slog.New(slog.DiscardHandler), world: x,
		luck: rand.New(rand.NewPCG(p.seed, 1)), harm: rand.New(rand.NewPCG(p.seed, 2)), press: rand.New(rand.NewPCG(p.seed, 3)), link: newLink(p.seed, p.faulty),
		machine: time.Unix(1_800_000_000, 0), plant: x.start, readers: map[string]*reader{}, tables: map[string][]mesh.Signal{}, faults: map[string]int{}, open: map[string]mesh.Nanos{},
	}
	if os.Getenv("PLANTMESH_TEST_LOG") != "" {
		w.quiet = slog.New(slog.NewTextHandler(t.Output(), nil))
	}
	for _, s := range x.signals {
		typ, _ := mesh.ParseType(map[plant.Type]string{plant.Bool: "bool", plant.Int: "int", plant.Double: "double", plant.String: "string"}[s.Type])
		w.tables[s.Source] = append(w.tables[s.Source], mesh.Signal{ID: uint32(len(w.tables[s.Source]) + 1), Name: s.Name, Type: typ, Unit: s.Unit})
	}
	for _, name := range x.sources {
		w.devices = append(w.devices, newDevice(name, x.bySource[name]))
	}
	t.Cleanup(w.close)
	w.startHub()
	w.startAgent()
	w.connect()
	return w
}

func (w *walk) close() {
	if w.agent != nil {
		w.agent.close(w.t)
	}
	if w.hub != nil {
		w.hub.close(w.t)
	}
}

func (w *walk) check(err error) {
	if err != nil {
		w.t.Helper()
		w.t.Fatalf("seed %d, plant time %s, event %d: %v", w.seed, w.plant, w.events, err)
	}
}

func (w *walk) now() time.Time { return w.machine }

// run walks to the end: the plant goes on in strides, and between two of them
// other things happen in an order that only the seed knows.
func (w *walk) run() {
	const (
		longest = 240 * time.Second
		between = 12 // events for a stride, on average
	)
	w.advance(w.world.start)
	for _, name := range w.world.sources { // a source is heard from its first instant
		w.readers[name].hear(hearNotes)
	}
	for end := w.world.end.Add(plant.Disorder); w.plant < end; {
		w.advance(min(end, w.plant.Add(time.Second+time.Duration(w.luck.Int64N(int64(longest/time.Second)))*time.Second)))
		for range w.luck.IntN(2 * between) {
			w.event()
		}
	}
	w.settle()
}

// advance lets the plant go on; every device speaks for itself.
func (w *walk) advance(to mesh.Nanos) {
	w.plant = to
	for _, d := range w.devices {
		d.advance(to)
	}
}

// event lets one thing happen.
func (w *walk) event() {
	w.events++
	w.machine = w.machine.Add(time.Duration(1+w.luck.IntN(150)) * time.Millisecond)
	for i := 0; i < len(w.due); i++ {
		if c := w.due[i]; c.at <= w.events {
			w.due = append(w.due[:i:i], w.due[i+1:]...)
			c.start()
			i--
		}
	}
	if w.faulty && w.harm.IntN(180) == 0 {
		w.fault()
		return
	}
	if w.faulty && w.hub != nil && w.press.IntN(300) == 0 {
		w.compact()
	}
	w.putBackSometimes()
	r := w.readers[w.world.sources[w.luck.IntN(len(w.world.sources))]]
	switch n := w.luck.IntN(100); {
	case n < 64 && r != nil:
		w.read(r, n)
	case n < 64:
	case n < 78:
		w.send(1)
	case n < 85:
		w.deliver(1 + w.luck.IntN(6))
	case n < 92:
		w.receive()
	case n < 94:
		w.remind()
	case n < 96:
		w.assemble()
	default:
		w.keep()
	}
}

// read lets a reader do one of the things it does.
func (w *walk) read(r *reader, n int) {
	switch {
	case n < 28:
		r.hear(1 + w.luck.IntN(hearNotes))
	case n < 44:
		if r.due(w.machine) {
			r.seal()
		}
	case n < 54:
		r.commit()
	default:
		r.acknowledge()
	}
}

// settle lets everything arrive, without further faults.
func (w *walk) settle() {
	faulty := w.faulty
	w.link.faulty, w.faulty = false, false
	for _, c := range w.due {
		c.start()
	}
	w.due = nil
	if faulty { // at least once
		w.compact()
	}
	for range 1000 {
		w.machine = w.machine.Add(time.Second)
		done := true
		for _, d := range w.devices {
			r := w.readers[d.source]
			r.hear(1 << 20)
			r.seal()
			r.commit()
			r.acknowledge()
			done = done && len(d.queue) == 0
		}
		w.send(1 << 20)
		w.deliver(1 << 20)
		w.remind()
		w.receive()
		if done && w.hub.through(w) == w.agent.buffer.End() {
			w.check(w.hub.set.Flush(w.ctx))
			for name, err := range w.hub.set.Suspended() {
				w.t.Fatalf("seed %d: product %s is suspended: %v", w.seed, name, err)
			}
			return
		}
	}
	w.t.Fatalf("seed %d: not settled: the hub has %s of %s; %d messages wait on %v", w.seed, w.hub.through(w), w.agent.buffer.End(), len(w.link.stored), w.link.roads())
}

// compact has the hub's store turn what it has into chunks, whoever has read it.
func (w *walk) compact() {
	tip, err := w.hub.store.Tip(w.ctx, 0)
	w.check(err)
	done, err := w.hub.store.Compact(w.ctx, store.Pass{Through: tip, Now: w.plant, MaxSamples: 1 + w.press.IntN(20_000)})
	w.check(err)
	w.faults["compacted"] += done.Batches
}

// send lets forward do so many things.
func (w *walk) send(most int) {
	if w.agent == nil {
		return
	}
	for range most {
		_, err := w.agent.judge.Catch()
		w.check(err)
		worked, err := w.agent.forward.Step(w.ctx)
		if err != nil && !errors.Is(err, errLink) && !errors.Is(err, buffer.ErrStale) {
			w.check(err)
		}
		if !worked && (err == nil || errors.Is(err, errLink)) {
			return
		}
	}
}

// deliver gives ingest what the stream has, and its answers to the link.
func (w *walk) deliver(most int) {
	if w.hub == nil {
		return
	}
	place, err := w.hub.ingest.Place(w.ctx)
	w.check(err)
	msgs := w.link.next(place, most)
	answers, err := w.hub.ingest.Step(w.ctx, msgs)
	w.check(err)
	w.link.answer(answers)
}

// remind repeats the newest receipts.
func (w *walk) remind() {
	if w.hub == nil {
		return
	}
	answers, err := w.hub.ingest.Receipts(w.ctx)
	w.check(err)
	w.link.answer(answers)
}

// receive gives forward what has come back.
func (w *walk) receive() {
	for b := w.link.arrived(); b != nil; b = w.link.arrived() {
		if w.agent != nil {
			w.check(w.agent.forward.Receive(b))
		}
	}
}

func (w *walk) assemble() {
	if w.hub == nil {
		return
	}
	_, err := w.hub.set.Step(w.ctx)
	w.check(err)
}

func (w *walk) keep() {
	if w.agent == nil {
		return
	}
	w.agent.judge.Forget(w.agent.buffer.Accounted)
	w.check(w.agent.judge.Keep(w.ctx))
}

// few are the hours that the tests beside TestWalk take.
const few = 5

// hours of the plant: one before a production day, the day, one after.
func hours() int {
	if testing.Short() {
		return 4
	}
	return 26
}

// whole skips a test with -short: that is for the race detector, and there is no
// goroutine in a walk.
func whole(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("skipped: long, and without a goroutine; it runs without -short")
	}
}

// seeds is how many are walked.
func seeds(t *testing.T) uint64 {
	t.Helper()
	if s := os.Getenv("PLANTMESH_SEEDS"); s != "" {
		n, err := strconv.ParseUint(s, 10, 32)
		if err != nil {
			t.Fatalf("PLANTMESH_SEEDS: %v", err)
		}
		return n
	}
	if testing.Short() {
		return 1
	}
	return 3
}

func read(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("..", "..", "demo", name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestMain lets the garbage wait a little: a walk makes much of it on one core.
func TestMain(m *testing.M) {
	debug.SetGCPercent(300)
	os.Exit(m.Run())
}

func TestWalk(t *testing.T) {
	for seed := range seeds(t) {
		t.Run(strconv.FormatUint(seed+1, 10), func(t *testing.T) {
			began := time.Now()
			w := newWalk(t, plan{seed: seed + 1, faulty: true}, newWorld(t, seed+1, hours()))
			w.run()
			f := w.compare()
			t.Logf("seed %d: %s, %.1f s; %s", w.seed, f, time.Since(began).Seconds(), w.story())
			if !f.ok() {
				t.Errorf("seed %d: not what the plant did: %s", w.seed, f)
			}
		})
	}
}
