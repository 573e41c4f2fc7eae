package buffer

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"plantmesh/proto/mesh"
	"plantmesh/proto/strict"
)

// hub answers as the reader of the log.
type hub struct{ by mesh.Position }

func newHub() *hub { return &hub{mesh.Position{Log: "hub/0", Epoch: mesh.NewEpoch()}} }

func (h *hub) receipt(through mesh.Position, islands ...mesh.Range) mesh.Receipt {
	h.by.Seq++
	return mesh.Receipt{By: h.by, Have: mesh.Set{Through: through, Islands: islands}}
}

func mustAck(t *testing.T, b *Buffer, r mesh.Receipt) []mesh.Range {
	t.Helper()
	again, err := b.Ack(r)
	if err != nil {
		t.Fatal(err)
	}
	return again
}

func TestBuffer_AckDeletesOnlyBehindThrough(t *testing.T) {
	t.Parallel()
	cfg := testConfig(quickDir(t))
	b := mustOpen(t, cfg)
	fill(t, b, 4)
	rs := all(t, b)
	last := rs[len(rs)-1].At
	h := newHub()
	if again := mustAck(t, b, h.receipt(mesh.Position{}, mesh.Range{Epoch: last.Epoch, First: last.Seq, Last: last.Seq})); len(again) != 1 || again[0].First != 1 || again[0].Last != last.Seq-1 {
		t.Errorf("asked for %v, want everything below the island", again)
	}
	if n := len(segments(t, cfg.Dir)); n != 4 {
		t.Fatalf("%d segments after an island, want 4: only the contiguous part frees", n)
	}
	if again := mustAck(t, b, h.receipt(b.pieces0(1))); len(again) != 1 || again[0].Last != last.Seq {
		t.Errorf("asked for %v, want all up to the highest ever covered", again)
	}
	if n := len(segments(t, cfg.Dir)); n != 2 {
		t.Errorf("%d segments, want 2", n)
	}
	if again := mustAck(t, b, h.receipt(last)); len(again) != 0 {
		t.Errorf("asked for %v, want nothing", again)
	}
	if n := len(segments(t, cfg.Dir)); n != 1 {
		t.Errorf("%d segments, want 1: the one that is written stays", n)
	}
	if s := b.Stats(); s.Pending != 0 {
		t.Errorf("%d records pending", s.Pending)
	}
	if _, err := b.Peek(rs[0].At, 1); err != nil {
		t.Errorf("reading behind a deleted record: %v", err)
	}
}

// pieces0 is the last position of segment n.
func (b *Buffer) pieces0(n int) mesh.Position { return b.chain.at(b.pieces[n].last) }

func TestBuffer_AckHoles(t *testing.T) {
	t.Parallel()
	b := mustOpen(t, testConfig(quickDir(t)))
	var e mesh.Epoch
	for i := range 9 { // positions 2 to 10; 1 is the opening
		e = mustAppend(t, b, offer(t, "a", mesh.Nanos(i*10), 2)).Epoch
	}
	at := func(n uint64) mesh.Position { return mesh.Position{Log: testLog, Epoch: e, Seq: n} }
	r := func(f, l uint64) mesh.Range { return mesh.Range{Epoch: e, First: f, Last: l} }
	h, old := newHub(), newHub()
	old.by.Seq = 99
	next := newHub()
	stale := h.receipt(at(2))
	for _, c := range []struct {
		name  string
		r     mesh.Receipt
		again []mesh.Range
		err   error
	}{
		{"first", h.receipt(at(3), r(5, 6)), []mesh.Range{r(4, 4)}, nil},
		{"an older one", stale, nil, ErrStale},
		{"filled", h.receipt(at(6)), nil, nil},
		{"two islands", h.receipt(at(6), r(8, 8), r(10, 10)), []mesh.Range{r(7, 7), r(9, 9)}, nil},
		{"unknown island", h.receipt(at(10), mesh.Range{Epoch: mesh.NewEpoch(), First: 1, Last: 9}), nil, nil},
		{"restored, its set shrank", next.receipt(at(4)), []mesh.Range{r(5, 10)}, nil},
		{"the one before goes on", h.receipt(at(10)), nil, ErrStale},
		{"beyond the end", next.receipt(at(500)), nil, nil},
		{"the same again", mesh.Receipt{By: next.by, Have: mesh.Set{Through: at(10)}}, nil, nil},
	} {
		again, err := b.Ack(c.r)
		if !errors.Is(err, c.err) || !slices.Equal(again, c.again) {
			t.Errorf("%s: %v %v, want %v %v", c.name, again, err, c.again, c.err)
		}
	}
}

func TestBuffer_AckAcrossEpochs(t *testing.T) {
	t.Parallel()
	cfg := testConfig(quickDir(t))
	b := mustOpen(t, cfg)
	p1 := mustAppend(t, b, offer(t, "a", 10, 2))
	mustClose(t, b)
	b = mustOpen(t, cfg)
	p2 := mustAppend(t, b, offer(t, "a", 20, 2))
	h := newHub()
	again := mustAck(t, b, h.receipt(mesh.Position{}, mesh.Range{Epoch: p2.Epoch, First: p2.Seq, Last: p2.Seq}))
	want := []mesh.Range{{Epoch: p1.Epoch, First: 1, Last: 2}, {Epoch: p2.Epoch, First: 1, Last: 1}}
	if !slices.Equal(again, want) {
		t.Errorf("asked for %v, want %v", again, want)
	}
	// What a hub has beyond the end of an epoch is off the chain.
	if again := mustAck(t, b, h.receipt(mesh.Position{Log: testLog, Epoch: p1.Epoch, Seq: 77})); len(again) != 1 || again[0].Epoch != p2.Epoch {
		t.Errorf("asked for %v, want the second epoch only", again)
	}
}

func TestBuffer_EpochOnceLeftIsNotBelievedAfterARestart(t *testing.T) {
	t.Parallel()
	cfg := testConfig(quickDir(t))
	b := mustOpen(t, cfg)
	fill(t, b, 3)
	zombie, now := newHub(), newHub()
	mustAck(t, b, zombie.receipt(mesh.Position{}))
	mustAck(t, b, now.receipt(mesh.Position{}))
	end := b.End()
	mustClose(t, b)
	b = mustOpen(t, cfg)
	if _, err := b.Ack(zombie.receipt(end)); !errors.Is(err, ErrStale) {
		t.Errorf("the epoch that was left gave %v", err)
	}
	if n := len(segments(t, cfg.Dir)); n != 3 {
		t.Errorf("%d segments, want 3", n)
	}
	mustAck(t, b, now.receipt(end))
	if n := len(segments(t, cfg.Dir)); n != 1 {
		t.Errorf("%d segments, want 1", n)
	}
}

// A hub that was paused before this agent ever heard it goes on answering beside
// the one that took its place: whichever is heard first, the newer one counts.
func TestBuffer_PausedReaderNeverTakesTheNewersPlace(t *testing.T) {
	t.Parallel()
	for _, pausedFirst := range []bool{false, true} {
		b := mustOpen(t, testConfig(quickDir(t)))
		mustAppend(t, b, offer(t, "a", 10, 2))
		paused, now := newHub(), newHub()
		newer := func() mesh.Receipt {
			r := now.receipt(b.End())
			r.Before = []mesh.Epoch{{9}, paused.by.Epoch}
			return r
		}
		if pausedFirst {
			mustAck(t, b, paused.receipt(mesh.Position{}))
		}
		mustAck(t, b, newer())
		for range 2 {
			if _, err := b.Ack(paused.receipt(mesh.Position{})); !errors.Is(err, ErrStale) {
				t.Errorf("the paused hub, heard first: %v: %v", pausedFirst, err)
			}
			mustAck(t, b, newer())
		}
		// Of the epochs that went before, the newest ones name it no more.
		newest := newHub()
		late := newest.receipt(b.End())
		late.Before = []mesh.Epoch{now.by.Epoch}
		mustAck(t, b, late)
		for _, r := range []mesh.Receipt{paused.receipt(mesh.Position{}), newer()} {
			if _, err := b.Ack(r); !errors.Is(err, ErrStale) {
				t.Errorf("%s: %v", r.By, err)
			}
		}
		// Heard before anything said what went before it, the paused one was taken
		// for the newer; the other takes its place again.
		b.reader.left, b.reader.before = map[mesh.Epoch]left{}, nil
		mustAck(t, b, paused.receipt(mesh.Position{}))
		late.By.Seq++
		late.Before = []mesh.Epoch{paused.by.Epoch}
		mustAck(t, b, late)
		newer = func() mesh.Receipt { late.By.Seq++; return late }
		if again := mustAck(t, b, newer()); len(again) != 0 {
			t.Errorf("asked for %v", again)
		}
		mustClose(t, b)
	}
}

// Neither the hub before a restore nor the one after it knows of the other. Where the
// last word of the first comes behind the first word of the second, the one that goes on
// counts in the end, and a paused one, which only repeats itself, never does.
func TestBuffer_LastWordOfAHubBeforeItsRestore(t *testing.T) {
	t.Parallel()
	for _, restarted := range []bool{false, true} {
		cfg := testConfig(quickDir(t))
		b := mustOpen(t, cfg)
		mustAppend(t, b, offer(t, "a", 10, 2))
		was, now := newHub(), newHub()
		place := uint64(0)
		goesOn := func(h *hub, place uint64) mesh.Receipt { // it commits where it has read, and nothing else
			return mesh.Receipt{By: mesh.Position{Log: h.by.Log, Epoch: h.by.Epoch, Seq: 1}, Place: mesh.Place{Stream: "INGEST@1", Seq: place}}
		}
		mustAck(t, b, goesOn(now, place))
		last := goesOn(was, 7)
		last.Have.Through = b.End()
		if again := mustAck(t, b, last); len(again) != 0 {
			t.Fatalf("the hub before has all, and is sent %v", again)
		}
		if restarted {
			mustClose(t, b)
			b = mustOpen(t, cfg)
		}
		believed := 0
		for range 4 {
			if _, err := b.Ack(last); err != nil && believed == 0 { // a paused one goes on repeating
				t.Fatal(err)
			}
			place++
			switch again, err := b.Ack(goesOn(now, place)); {
			case err == nil:
				believed++
				if len(again) != 1 {
					t.Errorf("the hub after it has nothing, and is sent %v", again)
				}
			case !errors.Is(err, ErrStale) || believed > 0:
				t.Errorf("the hub after it, at place %d: %v", place, err)
			}
		}
		if believed < 1 {
			t.Errorf("restarted %v: the hub that goes on is believed %d times", restarted, believed)
		}
		if _, err := b.Ack(last); !errors.Is(err, ErrStale) {
			t.Errorf("one that repeats itself: %v", err)
		}
		mustClose(t, b)
	}
}

func TestBuffer_RestoredReaderIsToldWhatIsNoLongerKept(t *testing.T) {
	t.Parallel()
	b := mustOpen(t, testConfig(quickDir(t)))
	fill(t, b, 3)
	hubNow := account(t, all(t, b))
	_, openings, _, err := b.Outset()
	check(t, err)
	h := newHub()
	mustAck(t, b, h.receipt(b.End()))
	// The newest record that is gone held more than it proved: what comes after it
	// must not prove that away.
	mustAppend(t, b, proof("a", 5))
	restored := newHub()
	for range 3 {
		mustAck(t, b, restored.receipt(mesh.Position{}))
	}
	rs := all(t, b)
	v := voidsOf(t, rs)
	if len(v) != 1 || v[0].Cause != mesh.CauseNotKept || len(v[0].Parts) != 1 {
		t.Fatalf("voids %+v", v)
	}
	if proven, until, old := doubtOn(t, b, v[0].Parts[0].Source); proven != 5 || until != v[0].Parts[0].Times.To || old {
		t.Errorf("the source is told of %d to %d, old %v, not of 5 to %d", proven, until, old, v[0].Parts[0].Times.To)
	}
	if a := account(t, append(openings, rs...)); a.Set.Through != b.End() {
		t.Errorf("the restored hub ends at %s, the log at %s", a.Set.Through, b.End())
	}
	for _, r := range rs {
		add(t, hubNow, r)
	}
}

// A set goes back within one epoch of the reader where another's branch ended this
// one: while it speaks of that branch nothing is said, and when it lacks again
// what it had, a void says so.
func TestBuffer_ReaderThatGoesBackIsToldAgain(t *testing.T) {
	t.Parallel()
	b := mustOpen(t, testConfig(quickDir(t)))
	fill(t, b, 3)
	first := all(t, b)[0].At
	h := newHub()
	mustAck(t, b, h.receipt(mesh.Position{}))
	mustAck(t, b, h.receipt(b.End()))
	mustAck(t, b, h.receipt(mesh.Position{Log: b.End().Log, Epoch: mesh.NewEpoch(), Seq: 1}))
	if v := voidsOf(t, all(t, b)); len(v) != 0 {
		t.Fatalf("on a word about another's branch: %+v", v)
	}
	mustAck(t, b, h.receipt(b.End()))
	for range 3 {
		mustAck(t, b, h.receipt(first))
	}
	v := voidsOf(t, all(t, b))
	if len(v) != 1 || v[0].Cause != mesh.CauseNotKept || len(v[0].Parts) != 1 {
		t.Fatalf("voids %+v", v)
	}
}

func TestBuffer_Full(t *testing.T) {
	unwatched(t)
	t.Parallel()
	for _, policy := range []Policy{PolicyBlock, PolicyDropOldest, PolicyThin} {
		t.Run(string(policy), func(t *testing.T) {
			cfg := testConfig(quickDir(t))
			cfg.Policy = policy
			b := mustOpen(t, cfg)
			var err error
			n := 0
			for ; n < 80 && err == nil; n++ {
				_, err = b.Append(t.Context(), []mesh.Offer{offer(t, "a", mesh.Nanos(n*50000), 40000)})
			}
			if b.Stats().Bytes > int64(cfg.MaxBytes) {
				t.Errorf("%d bytes of %d", b.Stats().Bytes, cfg.MaxBytes)
			}
			rs := all(t, b)
			_, openings, _, oerr := b.Outset()
			check(t, oerr)
			if a := account(t, append(openings, rs...)); a.Set.Through != b.End() {
				t.Errorf("contiguous through %s, want %s", a.Set.Through, b.End())
			}
			if policy == PolicyBlock {
				if !errors.Is(err, ErrFull) || len(voidsOf(t, rs)) != 0 {
					t.Fatalf("after %d appends: %v, %d voids", n, err, len(voidsOf(t, rs)))
				}
				mustAck(t, b, newHub().receipt(b.End()))
				mustAppend(t, b, offer(t, "a", 1<<40, 1))
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			var lost uint64
			for _, v := range voidsOf(t, rs) {
				if v.Cause != mesh.CauseDiskPolicy || len(v.Parts) != 1 {
					t.Fatalf("void %+v", v)
				}
				lost += v.Parts[0].Count
			}
			kept := uint64(len(positions(t, rs))) * 40000
			if lost == 0 || kept+lost != 80*40000 {
				t.Errorf("%d kept, %d lost", kept, lost)
			}
			if policy == PolicyThin {
				wantSpread(t, b, rs)
			}
		})
	}
}

// wantSpread demands that of the log's time something is kept in each quarter.
func wantSpread(t *testing.T, b *Buffer, rs []mesh.Record) {
	t.Helper()
	kept := map[uint64]int{}
	for _, r := range rs {
		i, ok := b.chain.index(r.At)
		if !ok {
			t.Fatalf("%s is not on the chain", r.At)
		}
		kept[(i-1)*4/b.end]++
	}
	for q := range uint64(4) {
		if kept[q] == 0 {
			t.Errorf("nothing is kept of quarter %d: %v", q, kept)
		}
	}
}

func TestBuffer_MinFreeBlocks(t *testing.T) {
	t.Parallel()
	cfg := testConfig(quickDir(t))
	least := strict.Size(1 << 30)
	cfg.MinFree = &least
	b, _ := openFaulty(t, cfg)
	b.free = func() (int64, error) { return 1 << 20, nil }
	if _, err := b.Append(t.Context(), []mesh.Offer{offer(t, "a", 1, 1)}); !errors.Is(err, ErrFull) {
		t.Errorf("got %v", err)
	}
	b.free = func() (int64, error) { return 1 << 40, nil }
	mustAppend(t, b, offer(t, "a", 1, 1))
}

func TestBuffer_DescriptorsLiveAsLongAsRecordsNameThem(t *testing.T) {
	t.Parallel()
	cfg := testConfig(quickDir(t))
	b := mustOpen(t, cfg)
	fill(t, b, 3)
	mustAck(t, b, newHub().receipt(b.End()))
	mustClose(t, b)
	b = mustOpen(t, cfg)
	if _, ok := b.Descriptor(table(t).Hash()); !ok {
		t.Error("the active segment's records have lost their table")
	}
}

func TestCatalogue_TornLineIsLetGo(t *testing.T) {
	t.Parallel()
	cfg := testConfig(quickDir(t))
	b := mustOpen(t, cfg)
	fill(t, b, 2)
	mustClose(t, b)
	path := filepath.Join(cfg.Dir, "catalogue.jsonl")
	file, err := os.ReadFile(path)
	check(t, err)
	check(t, os.WriteFile(path, append(file, []byte(`{"gone":{"first":1,"la`)...), 0o600))
	b = mustOpen(t, cfg)
	if v := voidsOf(t, all(t, b)); len(v) != 0 {
		t.Errorf("voids %+v", v)
	}
	c, err := openCatalogue(cfg.Dir)
	check(t, err)
	if n := len(c.eras(testLog)); n != 2 {
		t.Errorf("%d epochs noted, want 2", n)
	}
}

func TestBuffer_KeepsWhatWasReceivedForAWhile(t *testing.T) {
	t.Parallel()
	cfg := testConfig(quickDir(t))
	keep, now := strict.Duration(time.Hour), time.Unix(1e9, 0)
	cfg.Keep, cfg.Now = &keep, func() time.Time { return now }
	b := mustOpen(t, cfg)
	fill(t, b, 3)
	h := newHub()
	mustAck(t, b, h.receipt(b.End()))
	if n := len(segments(t, cfg.Dir)); n != 3 {
		t.Fatalf("%d segments, want all 3 for an hour", n)
	}
	restored := newHub()
	if again := mustAck(t, b, restored.receipt(mesh.Position{})); len(again) != 1 || again[0].First != 1 {
		t.Errorf("a restored hub gets %v, want everything", again)
	}
	if v := voidsOf(t, all(t, b)); len(v) != 0 {
		t.Errorf("voids %+v", v)
	}
	fill(t, b, 6)
	mustAck(t, b, restored.receipt(b.End()))
	if n := b.Stats().Bytes; n > int64(cfg.MaxBytes)/2 {
		t.Errorf("%d bytes of %d are used by what was received", n, cfg.MaxBytes)
	}
	mustClose(t, b)
	b = mustOpen(t, cfg)
	now = now.Add(2 * time.Hour)
	mustAck(t, b, restored.receipt(b.End()))
	if n := len(segments(t, cfg.Dir)); n != 1 {
		t.Errorf("%d segments after two hours, want 1", n)
	}
}
