package buffer

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"plantmesh/proto/mesh"
	"plantmesh/proto/wire"
)

// world is a buffer, what it confirmed, and a hub that follows it.
type world struct {
	t         *testing.T
	r         *rand.Rand
	cfg       Config
	b         *Buffer
	f         *faulty
	hub       *mesh.Account
	h         *hub
	got       map[mesh.Position]string // what the hub has
	confirmed map[mesh.Position]string
	clock     mesh.Nanos
}

// TestBuffer_Random does at random what can happen and demands that every
// confirmed record reaches the hub, and that the hub ends where the log does.
func TestBuffer_Random(t *testing.T) {
	t.Parallel()
	seeds := 6
	if testing.Short() {
		seeds = 2
	}
	for seed := range uint64(seeds) {
		w := &world{
			t: t, r: rand.New(rand.NewPCG(seed, 1)), cfg: testConfig(quickDir(t)), h: newHub(),
			hub: &mesh.Account{Log: testLog}, got: map[mesh.Position]string{}, confirmed: map[mesh.Position]string{},
		}
		w.b, w.f = openFaulty(t, w.cfg)
		for range 60 {
			w.step()
		}
		w.heal()
		w.read(1 << 30)
		if w.hub.Set.Through != w.b.End() || len(w.hub.Set.Islands) != 0 {
			t.Errorf("seed %d: the hub ends at %s %v, the log at %s", seed, w.hub.Set.Through, w.hub.Set.Islands, w.b.End())
		}
		for at, s := range w.confirmed {
			if w.got[at] != s {
				t.Errorf("seed %d: %s was confirmed and is not at the hub", seed, at)
			}
		}
		for at := range w.got {
			if _, ok := w.confirmed[at]; !ok && w.confirmed[at] != "" {
				t.Errorf("seed %d: %s was never confirmed", seed, at)
			}
		}
	}
}

func (w *world) heal() { w.f.creates, w.f.updates, w.f.happens, w.f.stuck = 0, 0, false, false }

func (w *world) step() {
	switch w.r.IntN(10) {
	default:
		w.append()
	case 5:
		w.f.updates, w.f.happens = w.r.IntN(3), w.r.IntN(2) == 0
		w.append()
	case 6:
		w.f.creates, w.f.stuck = w.r.IntN(2), w.r.IntN(2) == 0
		w.append()
	case 7:
		w.heal()
		mustClose(w.t, w.b)
		w.b, w.f = openFaulty(w.t, w.cfg)
	case 8:
		w.read(1 + w.r.IntN(20))
	case 9:
		w.heal()
		if _, err := w.b.Ack(w.h.receipt(w.hub.Set.Through, w.hub.Set.Islands...)); err != nil {
			w.t.Error(err)
		}
	}
}

func (w *world) append() {
	w.clock += 1 << 20
	o := []mesh.Offer{offer(w.t, "a", w.clock, 1+w.r.IntN(20000)), offer(w.t, "b", w.clock, 1+w.r.IntN(10))}
	at, err := w.b.Append(w.t.Context(), o)
	if err != nil {
		if !errors.Is(err, errBroken) && !errors.Is(err, ErrFull) {
			w.t.Error(err)
		}
		return
	}
	for i, p := range at {
		w.confirmed[p] = string(o[i].Sealed[0])
		if s, err := w.b.State(o[i].Source); err != nil || string(s) != w.clock.String() {
			w.t.Errorf("state %q, %v", s, err)
		}
	}
}

// read lets the hub take n records behind its contiguous end.
func (w *world) read(n int) {
	after := w.hub.Set.Through
	for n > 0 {
		rs, err := w.b.Peek(after, 1<<20)
		if err != nil {
			w.t.Fatal(err)
		}
		if len(rs) == 0 {
			return
		}
		for _, r := range rs[:min(n, len(rs))] {
			add(w.t, w.hub, r)
			if h, err := wire.ParseHeader(r.Sealed); err != nil || h.Kind == mesh.KindBatch {
				w.got[r.At] = string(r.Sealed)
			}
			after = r.At
			n--
		}
	}
}

// TestBuffer_Concurrent appends, reads and acknowledges at once.
func TestBuffer_Concurrent(t *testing.T) {
	t.Parallel()
	b := mustOpen(t, testConfig(quickDir(t)))
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	const writers, each = 3, 40
	var (
		all  sync.WaitGroup
		seen = map[mesh.Position]bool{}
	)
	for w := range writers {
		all.Go(func() {
			for i := range each {
				o := offer(t, string(rune('a'+w)), mesh.Nanos(i)<<20, 4000)
				for {
					_, err := b.Append(ctx, []mesh.Offer{o})
					if err == nil {
						break
					}
					if !errors.Is(err, ErrFull) {
						t.Error(err)
						return
					}
				}
			}
		})
	}
	h := newHub()
	a := &mesh.Account{Log: testLog}
	for n := 0; n < writers*each; {
		changed := b.Changed()
		rs, err := b.Peek(a.Set.Through, 1<<20)
		check(t, err)
		for _, r := range rs {
			add(t, a, r)
		}
		for p := range positions(t, rs) {
			if seen[p] {
				t.Errorf("%s came twice", p)
			}
			seen[p] = true
			n++
		}
		mustAck(t, b, h.receipt(a.Set.Through))
		b.Stats()
		if len(rs) == 0 {
			select {
			case <-changed:
			case <-ctx.Done():
				t.Fatal("the writers are stuck")
			}
		}
	}
	all.Wait()
}
