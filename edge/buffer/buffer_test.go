package buffer

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"plantmesh/proto/mesh"
	"plantmesh/proto/wire"
)

func TestBuffer_ReopenBeginsAnEpochThatFollows(t *testing.T) {
	t.Parallel()
	cfg := testConfig(quickDir(t))
	b := mustOpen(t, cfg)
	if s, err := b.State("line1-opcua"); err != nil || len(s) != 0 {
		t.Fatalf("a new buffer has state %q, %v", s, err)
	}
	want := map[mesh.Position]bool{}
	for i := range 3 {
		for j := range 5 {
			want[mustAppend(t, b, offer(t, "line1-opcua", mesh.Nanos(100*i+10*j), 4))] = true
		}
		end := b.End()
		mustClose(t, b)
		b = mustOpen(t, cfg)
		rs := all(t, b)
		last := rs[len(rs)-1]
		if o, err := wire.OpenOpening(last.Sealed); err != nil || o.Parent != end {
			t.Fatalf("the log ends with opening %+v, %v, want one that follows %s", o, err, end)
		}
	}
	rs := all(t, b)
	if got := positions(t, rs); len(got) != len(want) {
		t.Errorf("%d batches, want %d", len(got), len(want))
	}
	for p := range positions(t, rs) {
		if !want[p] {
			t.Errorf("batch at %s was never confirmed", p)
		}
	}
	if a := account(t, rs); a.Set.Through != b.End() || len(a.Set.Islands) != 0 {
		t.Errorf("a hub ends at %s with %d islands, the log at %s", a.Set.Through, len(a.Set.Islands), b.End())
	}
	if s, err := b.State("line1-opcua"); err != nil || string(s) != mesh.Nanos(240).String() {
		t.Errorf("state %q, %v", s, err)
	}
	if d, ok := b.Descriptor(table(t).Hash()); !ok || d.Hash() != table(t).Hash() {
		t.Error("the signal table was not kept")
	}
	if n := len(segments(t, cfg.Dir)); n != 1 {
		t.Errorf("%d segments, want 1: an opening alone needs none", n)
	}
}

func TestBuffer_PeekInOrderAcrossSegments(t *testing.T) {
	t.Parallel()
	cfg := testConfig(quickDir(t))
	b := mustOpen(t, cfg)
	for i := range 60 {
		mustAppend(t, b, offer(t, "a", mesh.Nanos(i*10000), 5000), offer(t, "b", mesh.Nanos(i*10000), 10))
	}
	if b.Stats().Segments < 3 {
		t.Fatalf("%d segments: the test wants several", b.Stats().Segments)
	}
	for _, reopen := range []bool{false, true} {
		if reopen {
			mustClose(t, b)
			b = mustOpen(t, cfg)
		}
		rs := all(t, b)
		if n := len(positions(t, rs)); n != 120 {
			t.Errorf("reopen %v: %d batches, want 120", reopen, n)
		}
		if a := account(t, rs); a.Set.Through != b.End() {
			t.Errorf("reopen %v: contiguous through %s, want %s", reopen, a.Set.Through, b.End())
		}
		if got, err := b.Peek(rs[40].At, 1); err != nil || len(got) != 1 || got[0].At != rs[41].At {
			t.Errorf("reopen %v: after %s came %v, %v", reopen, rs[40].At, got, err)
		}
		if got, err := b.Peek(b.End(), 1); err != nil || got != nil {
			t.Errorf("reopen %v: something behind the end: %v, %v", reopen, got, err)
		}
	}
	if _, err := b.Peek(mesh.Position{Log: testLog, Epoch: mesh.NewEpoch(), Seq: 3}, 1); !errors.Is(err, mesh.ErrGone) {
		t.Errorf("a foreign position gave %v", err)
	}
}

func TestBuffer_ChangedWakes(t *testing.T) {
	t.Parallel()
	b := mustOpen(t, testConfig(quickDir(t)))
	ch := b.Changed()
	select {
	case <-ch:
		t.Fatal("changed before an append")
	default:
	}
	mustAppend(t, b, offer(t, "a", 1, 1))
	select {
	case <-ch:
	default:
		t.Fatal("not changed after an append")
	}
}

func TestBuffer_FailedCommitBeginsAnewWithTheSameRecords(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		happens, stuck  bool
		updates, epochs int
		fails           bool
	}{
		"not written":                        {updates: 1, epochs: 2},
		"written all the same":               {updates: 1, happens: true, epochs: 2},
		"twice":                              {updates: 2, fails: true, epochs: 2},
		"twice, written, file stays":         {updates: 2, happens: true, stuck: true, fails: true, epochs: 2},
		"three times, written, a file stays": {updates: 3, happens: true, stuck: true, fails: true, epochs: 2},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := testConfig(quickDir(t))
			b, f := openFaulty(t, cfg)
			p1 := mustAppend(t, b, offer(t, "a", 1, 3))
			before := b.End()
			f.updates, f.happens, f.stuck = c.updates, c.happens, c.stuck
			at, err := b.Append(t.Context(), []mesh.Offer{offer(t, "a", 100, 3)})
			for c.fails && err != nil {
				if b.End() != before {
					t.Fatal("a refused append moved the end")
				}
				if s, err := b.State("a"); err != nil || string(s) != mesh.Nanos(1).String() {
					t.Fatalf("a refused append changed the state to %q, %v", s, err)
				}
				at, err = b.Append(t.Context(), []mesh.Offer{offer(t, "a", 100, 3)})
			}
			if err != nil {
				t.Fatal(err)
			}
			if at[0].Epoch == p1.Epoch {
				t.Error("the epoch went on after a failed commit")
			}
			p3 := mustAppend(t, b, offer(t, "a", 200, 3))
			for _, reopen := range []bool{false, true} {
				if reopen {
					mustClose(t, b)
					b = mustOpen(t, cfg)
				}
				rs := all(t, b)
				got := positions(t, rs)
				if len(got) != 3 || !got[p1] || !got[at[0]] || !got[p3] {
					t.Errorf("reopen %v: batches %v, want %s %s %s", reopen, got, p1, at[0], p3)
				}
				if a := account(t, rs); a.Set.Through != b.End() {
					t.Errorf("reopen %v: contiguous through %s, want %s", reopen, a.Set.Through, b.End())
				}
			}
		})
	}
}

func TestBuffer_OpenTakesOver(t *testing.T) {
	t.Parallel()
	cfg := testConfig(quickDir(t))
	b := mustOpen(t, cfg)
	if _, err := Open(cfg, quiet()); !errors.Is(err, ErrInUse) {
		t.Fatalf("a second opener got %v", err)
	}
	mustClose(t, b)
	if _, err := b.Append(t.Context(), []mesh.Offer{offer(t, "a", 1, 1)}); !errors.Is(err, ErrClosed) {
		t.Errorf("append after close: %v", err)
	}
	mustClose(t, mustOpen(t, cfg))
}

func TestBuffer_AppendRefusesWhatIsNoRecord(t *testing.T) {
	t.Parallel()
	b := mustOpen(t, testConfig(quickDir(t)))
	before := b.End()
	for name, o := range map[string]mesh.Offer{
		"garbage": {Source: "a", Sealed: [][]byte{[]byte("nonsense that is long enough to be looked at")}},
		"large":   {Source: "a", Sealed: [][]byte{make([]byte, maxSealed+1)}},
	} {
		if _, err := b.Append(t.Context(), []mesh.Offer{offer(t, "b", 1, 1), o}); !errors.Is(err, mesh.ErrPermanent) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if b.End() != before {
		t.Error("something of a refused append stayed")
	}
}

// fill appends until there are n segments.
func fill(t *testing.T, b *Buffer, n int) {
	t.Helper()
	for i := 0; b.Stats().Segments < n; i++ {
		mustAppend(t, b, offer(t, "a", mesh.Nanos(i)*100000, 40000))
	}
	mustAppend(t, b, offer(t, "a", 1<<40, 1))
}

func TestBuffer_DamagedSegmentsAreVoided(t *testing.T) {
	unwatched(t)
	t.Parallel()
	damage := map[string]func(t *testing.T, path string){
		"empty": func(t *testing.T, path string) {
			t.Helper()
			check(t, os.Truncate(path, 0))
		},
		"cut": func(t *testing.T, path string) {
			t.Helper()
			info, err := os.Stat(path)
			check(t, err)
			check(t, os.Truncate(path, info.Size()*3/5))
		},
		"cut short": func(t *testing.T, path string) {
			t.Helper()
			check(t, os.Truncate(path, 5000))
		},
		"garbage": func(t *testing.T, path string) {
			t.Helper()
			check(t, os.WriteFile(path, make([]byte, 300<<10), 0o600))
		},
		"removed": func(t *testing.T, path string) {
			t.Helper()
			check(t, os.Remove(path))
		},
	}
	places := []int{0, 1, 3}
	if testing.Short() {
		places = places[2:]
	}
	for name, hurt := range damage {
		for _, which := range places {
			t.Run(name+string(rune('0'+which)), func(t *testing.T) {
				cfg := testConfig(quickDir(t))
				b := mustOpen(t, cfg)
				fill(t, b, 4)
				hub := account(t, all(t, b)) // it had received everything
				was := len(positions(t, all(t, b)))
				mustClose(t, b)
				hurt(t, segments(t, cfg.Dir)[which])

				b = mustOpen(t, cfg)
				rs := all(t, b)
				if s := b.Stats(); s.Damages == 0 || time.Since(s.Damaged) > time.Minute {
					t.Error("the status says nothing of it")
				}
				for _, r := range rs {
					add(t, hub, r)
				}
				if hub.Set.Through != b.End() || len(hub.Set.Islands) != 0 {
					t.Errorf("a hub that had all ends at %s %v, the log at %s", hub.Set.Through, hub.Set.Islands, b.End())
				}
				_, openings, _, err := b.Outset()
				check(t, err)
				fresh := account(t, append(openings, rs...))
				if fresh.Set.Through != b.End() {
					t.Errorf("a new hub ends at %s %v, the log at %s", fresh.Set.Through, fresh.Set.Islands, b.End())
				}
				if n := len(positions(t, rs)); n == 0 || n >= was {
					t.Errorf("%d of %d batches left", n, was)
				}
				if name == "cut" && which < 3 && len(voidsOf(t, rs)[0].Parts) != 1 {
					t.Error("the void does not say what was lost")
				}
				n := len(voidsOf(t, rs))
				mustAppend(t, b, offer(t, "a", 1<<41, 1))
				mustClose(t, b)
				b = mustOpen(t, cfg)
				if again := len(voidsOf(t, all(t, b))); again != n {
					t.Errorf("%d voids after another opening, want %d", again, n)
				}
			})
		}
	}
}

func check(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

func TestBuffer_EverythingDamaged(t *testing.T) {
	t.Parallel()
	cfg := testConfig(quickDir(t))
	b := mustOpen(t, cfg)
	fill(t, b, 3)
	hub := account(t, all(t, b))
	mustClose(t, b)
	for _, s := range segments(t, cfg.Dir) {
		check(t, os.Truncate(s, 0))
	}
	b = mustOpen(t, cfg)
	mustAppend(t, b, offer(t, "a", 7, 1))
	for _, r := range all(t, b) {
		add(t, hub, r)
	}
	if hub.Set.Through != b.End() {
		t.Errorf("the hub ends at %s, the log at %s", hub.Set.Through, b.End())
	}
	if asideCount(t, cfg.Dir) != 3 {
		t.Errorf("%d segments set aside, want 3", asideCount(t, cfg.Dir))
	}
}

func TestBuffer_DamagedWhileOpen(t *testing.T) {
	t.Parallel()
	cfg := testConfig(quickDir(t))
	b := mustOpen(t, cfg)
	fill(t, b, 3)
	check(t, os.Truncate(segments(t, cfg.Dir)[0], 64<<10))
	check(t, os.Truncate(segments(t, cfg.Dir)[2], 32<<10))
	rs := all(t, b)
	_, openings, _, err := b.Outset()
	check(t, err)
	if a := account(t, append(openings, rs...)); a.Set.Through != b.End() {
		t.Errorf("contiguous through %s %v, want %s", a.Set.Through, a.Set.Islands, b.End())
	}
	p := mustAppend(t, b, offer(t, "a", 7, 1))
	if !positions(t, all(t, b))[p] {
		t.Error("the log does not go on")
	}
}

func TestBuffer_DamagedRecordIsQuarantined(t *testing.T) {
	t.Parallel()
	cfg := testConfig(quickDir(t))
	b := mustOpen(t, cfg)
	var at []mesh.Position
	for i := range 5 {
		at = append(at, mustAppend(t, b, offer(t, "a", mesh.Nanos(i*1000), 500)))
	}
	raw := sealed(t, "a", 2000, 500)
	mustClose(t, b)
	path := segments(t, cfg.Dir)[0]
	file, err := os.ReadFile(path)
	check(t, err)
	hurt := 0
	for i := 0; i+64 < len(file); i++ {
		if string(file[i:i+64]) == string(raw[len(raw)/2:len(raw)/2+64]) {
			file[i] ^= 1
			hurt++
		}
	}
	if hurt == 0 {
		t.Fatal("the record was not found in the file")
	}
	check(t, os.WriteFile(path, file, 0o600))

	for range 2 {
		b = mustOpen(t, cfg)
		rs := all(t, b)
		got := positions(t, rs)
		if len(got) != 4 || got[at[2]] {
			t.Errorf("batches %v, want all but %s", got, at[2])
		}
		if v := voidsOf(t, rs); len(v) != 1 || v[0].Cause != mesh.CauseDamaged || len(v[0].Lost) != 1 || v[0].Lost[0].First != at[2].Seq {
			t.Errorf("voids %+v", v)
		}
		if a := account(t, rs); a.Set.Through != b.End() {
			t.Errorf("contiguous through %s, want %s", a.Set.Through, b.End())
		}
		mustClose(t, b)
	}
	if kept, err := filepath.Glob(filepath.Join(cfg.Dir, "quarantine", "*.frame")); err != nil || len(kept) != 1 {
		t.Errorf("quarantine holds %v, %v", kept, err)
	}
}

func TestBuffer_Quarantine(t *testing.T) {
	t.Parallel()
	b := mustOpen(t, testConfig(quickDir(t)))
	p := mustAppend(t, b, offer(t, "a", 10, 5))
	mustAppend(t, b, offer(t, "a", 20, 5))
	check(t, b.Quarantine(p, "the hub can't read it"))
	rs := all(t, b)
	if positions(t, rs)[p] {
		t.Error("it still comes")
	}
	v := voidsOf(t, rs)
	if len(v) != 1 || v[0].Cause != mesh.CauseUnreadable || len(v[0].Parts) != 1 || v[0].Parts[0].Count != 5 {
		t.Errorf("voids %+v", v)
	}
	if err := b.Quarantine(mesh.Position{Log: testLog, Epoch: mesh.NewEpoch(), Seq: 1}, "x"); !errors.Is(err, mesh.ErrGone) {
		t.Errorf("a foreign position: %v", err)
	}
}
