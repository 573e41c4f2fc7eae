package sparkplug

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"plantmesh/edge/source/mqtt/link"
	host "plantmesh/edge/source/sparkplug"
	"plantmesh/firmware-sim/mqtt/sparkplug"
	"plantmesh/firmware-sim/plant"
	"plantmesh/proto/mesh"
	"plantmesh/proto/strict"
	"plantmesh/proto/wire"
)

// disk is an agent's log in memory.
type disk struct {
	mu      sync.Mutex
	samples map[string][]mesh.Sample // by signal
	voids   []mesh.Void
	tables  map[mesh.Hash]map[uint32]string
	state   []byte
	kept    map[string][]byte
	n       uint64
	fault   error
	changed chan struct{}
}

func newDisk() *disk {
	return &disk{samples: map[string][]mesh.Sample{}, tables: map[mesh.Hash]map[uint32]string{}, kept: map[string][]byte{}, changed: make(chan struct{})}
}

func (d *disk) Append(_ context.Context, o mesh.Offer) (uint64, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.take(o); err != nil {
		d.fault = err
	}
	d.n++
	close(d.changed)
	d.changed = make(chan struct{})
	return d.n, d.fault
}

func (d *disk) take(o mesh.Offer) error {
	for _, x := range o.Descriptors {
		rows, err := wire.Signals(x)
		if err != nil {
			return err
		}
		names := map[uint32]string{}
		for _, r := range rows {
			names[r.ID] = r.Name
		}
		d.tables[x.Hash()] = names
	}
	dec, err := wire.NewDecoder()
	if err != nil {
		return err
	}
	for _, sealed := range o.Sealed {
		if h, err := wire.ParseHeader(sealed); err != nil {
			return err
		} else if h.Kind == mesh.KindVoid {
			v, err := wire.OpenVoid(sealed)
			if err != nil {
				return err
			}
			d.voids = append(d.voids, v)
			continue
		}
		b, err := dec.Batch(sealed)
		if err != nil {
			return err
		}
		for _, s := range b.Samples {
			name, ok := d.tables[b.Table][s.Signal]
			if !ok {
				return fmt.Errorf("signal %d is in no table", s.Signal)
			}
			d.samples[name] = append(d.samples[name], s)
		}
	}
	d.state = o.State
	for _, k := range o.Kept {
		if d.kept[k.Name] = k.Bytes; k.Bytes == nil {
			delete(d.kept, k.Name)
		}
	}
	return nil
}

func (d *disk) Committed(ctx context.Context, after uint64) (uint64, error) {
	for {
		d.mu.Lock()
		n, changed := d.n, d.changed
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

// until waits for something on the disk.
func (d *disk) until(t *testing.T, what string, found func() bool) {
	t.Helper()
	limit := time.After(30 * time.Second)
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
			t.Fatalf("never on the disk: %s", what)
		}
	}
}

// reads runs the agent's host on a disk; end ends it.
func (d *disk) reads(t *testing.T, url string, keeps []string) (end func()) {
	t.Helper()
	cfg := host.Config{
		Config: link.Config{URL: url}, ID: "line3", Mode: host.Primary, HostID: "scada", Nodes: []string{"plant/*"}, StoreAndForward: keeps,
		ReorderTimeout: strict.Duration(500 * time.Millisecond), Rebirth: host.Rebirth{Every: strict.Duration(time.Second)},
	}
	cfg.Window.Latency = strict.Duration(50 * time.Millisecond)
	r, err := host.New(cfg, func() mesh.Nanos { return mesh.NanosOf(time.Now()) }, rand.New(rand.NewPCG(1, 2)), slog.New(slog.NewTextHandler(t.Output(), nil)))
	if err != nil {
		t.Fatal(err)
	}
	d.mu.Lock()
	state := slices.Clone(d.state)
	r.Keep(maps.Clone(d.kept))
	d.mu.Unlock()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx, state, d) }()
	stop := sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("the host ended with %v", err)
		}
	})
	t.Cleanup(stop)
	return stop
}

// The simulated nodes lose messages, swap them, change aliases, are cut off and born
// again, and the host is started again. Of nodes that keep what is not heard every value
// is there, under its name, and no signal was ever given up. Of others no value is said
// to hold where another one was lost.
func TestHost_OverFaults(t *testing.T) {
	t.Run("of nodes that keep", func(t *testing.T) { faults(t, true) })
	t.Run("of nodes that forget", func(t *testing.T) { faults(t, false) })
}

func faults(t *testing.T, keep bool) {
	t.Helper()
	s := simulate(t, sparkplug.Config{Host: "scada", StoreAndForward: keep, KeepAlive: 2 * time.Second})
	d := newDisk()
	var keeps []string
	if keep {
		keeps = []string{"plant/*"}
	}
	end := d.reads(t, s.URL(), keeps)
	sent := map[int64]mesh.Nanos{}
	next := int64(0)
	push := func(seconds float64) {
		for range int(seconds * 50) {
			at := time.Now().Truncate(time.Millisecond)
			next++
			sent[next] = mesh.NanosOf(at)
			s.Push(plant.Emission{Source: "line3", Signal: "line3.filler.produced", Time: at, Emitted: at, Value: plant.Value{Type: plant.Int, I: next}})
			s.Prove(at)
			<-time.After(20 * time.Millisecond)
		}
	}
	const produced = "plant.line3.filler.produced"
	push(1)
	d.until(t, "the first values", func() bool { return len(d.samples[produced]) > 10 })
	for _, fault := range []func(){
		func() { s.Drop("", 3) },
		func() { s.Swap("") },
		func() { s.Rebirth("") },
		func() { s.Realias(""); s.Rebirth("") },
		func() { s.ReplayDeath("") },
		func() { s.Cut("") },
		func() { end(); end = d.reads(t, s.URL(), keeps) },
	} {
		fault()
		push(2)
	}
	d.until(t, "the last value", func() bool {
		return slices.ContainsFunc(d.samples[produced], func(x mesh.Sample) bool { v, ok := x.Value.Int(); return ok && v == next })
	})
	at := time.Now()
	s.Prove(at)
	end()
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.fault != nil {
		t.Fatal(d.fault)
	}
	if keep {
		complete(t, d, d.samples[produced], sent)
		return
	}
	honest(t, d.samples[produced])
}

// complete checks that every value is there, and that nothing was given up.
func complete(t *testing.T, d *disk, samples []mesh.Sample, sent map[int64]mesh.Nanos) {
	t.Helper()
	got := map[int64]bool{}
	for _, x := range samples {
		v, ok := x.Value.Int()
		switch {
		case x.Status == mesh.StatusBadNoCommunication:
			t.Errorf("given up at %s", x.Time)
		case ok && x.Time != sent[v] && v > 0:
			t.Errorf("value %d at %s, and it was sent at %s (flags %x)", v, x.Time, sent[v], x.Flags)
		}
		got[v] = true
	}
	missing := 0
	for v := range sent {
		if !got[v] {
			missing++
		}
	}
	if missing > 0 {
		t.Errorf("%d of %d values are missing", missing, len(sent))
	}
	for _, v := range d.voids {
		t.Errorf("void: %s", v.Note)
	}
}

// honest checks that between two values that follow one another nothing was lost: each
// is one more than the one before.
func honest(t *testing.T, samples []mesh.Sample) {
	t.Helper()
	slices.SortStableFunc(samples, mesh.Sample.Compare)
	last, lost := int64(0), 0
	for _, x := range samples {
		v, ok := x.Value.Int()
		switch {
		case !ok:
			if last != 0 {
				lost++
			}
			last = 0
			continue
		case last != 0 && v > last+1:
			t.Errorf("%d is said to hold until %d", last, v)
		}
		last = v
	}
	if lost < 4 {
		t.Errorf("only %d losses were judged: the test is too tame", lost)
	}
}
