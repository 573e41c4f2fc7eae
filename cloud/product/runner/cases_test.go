package runner

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"plantmesh/cloud/product"
	"plantmesh/proto/mesh"
	"plantmesh/proto/wire"
)

// bench is a hub with one source, stepped by hand.
type bench struct {
	t    testing.TB
	hub  *fakeLog
	out  *fakeOut
	f    *feeder
	now  mesh.Nanos
	set  *Set
	last mesh.Nanos
}

func newBench(t testing.TB, cfg Config) *bench {
	t.Helper()
	b := &bench{t: t, hub: newFakeLog(), out: newFakeOut(), now: second, last: start()}
	var seq uint64
	b.f = newFeeder(t, b.hub, "agent/test/gw", &seq, signalNames())
	b.hub.site(strings.Replace(testSite, "  - {id: l2-filler, line: l2, name: Filler, kind: filler, source: s2, signals_prefix: l2.filler.}\n", "", 1))
	b.open(cfg)
	return b
}

func (b *bench) open(cfg Config) {
	b.t.Helper()
	var err error
	if b.set, err = NewSet(cfg, b.hub, b.out, testClock(&b.now)); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bench) sample(at time.Duration, role string, v mesh.Value) mesh.Sample {
	return mesh.Sample{Signal: b.f.ids["l1.filler."+role], Time: start().Add(at), Value: v}
}

// heard makes a batch that proves up to an instant.
func (b *bench) heard(to time.Duration, samples ...mesh.Sample) mesh.Record {
	q := start().Add(to)
	r := b.f.batch("s1", mesh.Span{From: b.last, To: q}, q, samples)
	b.last = q
	return r
}

func (b *bench) step() {
	b.t.Helper()
	for range 100 {
		worked, err := b.set.Step(b.t.Context())
		if err != nil {
			b.t.Fatal(err)
		}
		if !worked {
			return
		}
	}
}

func (b *bench) row(p, key string) (mesh.Row, map[string]any) {
	b.t.Helper()
	r, ok := b.out.rows[p]["l1-filler/"+key]
	if !ok {
		b.t.Fatalf("no row %s of %s", key, p)
	}
	var m map[string]any
	if err := json.Unmarshal(r.Body, &m); err != nil {
		b.t.Fatal(err)
	}
	return r, m
}

func at(d time.Duration) string { return product.TimeText(start().Add(d)) }

func TestRunner_LateDataReviseAndWithdraw(t *testing.T) {
	b := newBench(t, Config{Eager: true})
	b.hub.arrive(b.heard(10*time.Minute, b.sample(0, "state", mesh.Int(6))), nil)
	late := b.heard(20*time.Minute, b.sample(12*time.Minute, "state", mesh.Int(11)), b.sample(15*time.Minute, "state", mesh.Int(9)))
	b.hub.arrive(b.heard(3*time.Hour, b.sample(2*time.Hour, "state", mesh.Int(2))), nil)
	b.step()
	if r, _ := b.row("equipment-state", at(10*time.Minute)); r.State != mesh.RowProvisional || r.To != start().Add(20*time.Minute) {
		t.Errorf("behind a hole the gap is %+v", r)
	}
	hour := "hour/2026-03-02T03:00:00.000Z"
	if r, m := b.row("oee", hour); r.State != mesh.RowProvisional || m["unknown_seconds"] != 600.0+40*60 {
		t.Errorf("hour with a hole is %v %v", r.State, m["unknown_seconds"])
	}
	b.hub.arrive(late, nil)
	b.step()
	if r, _ := b.row("equipment-state", at(10*time.Minute)); r.State != mesh.RowWithdrawn {
		t.Errorf("the filled gap stands: %+v", r)
	}
	if r, m := b.row("equipment-state", at(12*time.Minute)); r.State != mesh.RowFinal || m["cause"] != "internal" {
		t.Errorf("the late stop is %+v", r)
	}
	if r, m := b.row("oee", hour); r.State != mesh.RowFinal || r.Revision != 1 || m["unknown_seconds"] != 40*60.0 {
		t.Errorf("filled hour is %v revision %d %v", r.State, r.Revision, m["unknown_seconds"])
	}
	if r := b.out.rows["coverage"]["s1/"+at(10*time.Minute)]; r.State != mesh.RowWithdrawn {
		t.Errorf("coverage keeps the filled gap: %+v", r)
	}
	// A final row changes: revision 2.
	b.hub.arrive(b.f.batch("s1", mesh.Span{}, 0, []mesh.Sample{b.sample(17*time.Minute, "mode", mesh.Int(3))}), nil)
	b.step()
	if r, _ := b.row("equipment-state", at(15*time.Minute)); r.State != mesh.RowFinal || r.Revision != 2 {
		t.Errorf("the revised interval is %v revision %d", r.State, r.Revision)
	}
	if r, _ := b.row("oee", hour); r.Revision != 2 {
		t.Errorf("the revised hour has revision %d", r.Revision)
	}
	commits := b.out.commits
	b.hub.arrive(b.f.batch("s1", mesh.Span{}, 0, []mesh.Sample{b.sample(17*time.Minute, "mode", mesh.Int(3))}), nil)
	rows := len(b.out.log)
	b.step()
	if len(b.out.log) != rows || b.out.commits == commits {
		t.Errorf("a repeat changed %d rows", len(b.out.log)-rows)
	}
}

func TestRunner_GrowthWaits(t *testing.T) {
	b := newBench(t, Config{})
	b.hub.arrive(b.heard(time.Minute, b.sample(0, "state", mesh.Int(6))), nil)
	b.step()
	b.now += second
	b.hub.arrive(b.heard(2*time.Minute), nil)
	b.step()
	_, m := b.row("equipment-state", at(0))
	if m["duration_seconds"] != 60.0 {
		t.Errorf("after 1 s the open row says %v", m["duration_seconds"])
	}
	// A restart meanwhile loses nothing.
	b.open(Config{})
	b.step()
	if _, m = b.row("equipment-state", at(0)); m["duration_seconds"] == 60.0 {
		b.now += second
		b.step()
		_, m = b.row("equipment-state", at(0))
	}
	if m["duration_seconds"] != 120.0 {
		t.Errorf("after 2 s the open row says %v", m["duration_seconds"])
	}
	// News go out at once.
	b.now += second
	b.hub.arrive(b.heard(3*time.Minute, b.sample(150*time.Second, "state", mesh.Int(11))), nil)
	b.step()
	if _, m = b.row("equipment-state", at(150*time.Second)); m["cause"] != "internal" {
		t.Errorf("the stop waits: %v", m)
	}
}

// A backlog brings hours in a second. Whoever is told that they are known finds
// them in the rows: of what only grew, no more than five minutes may be left out.
func TestRunner_ABacklogDoesNotWaitForGrowth(t *testing.T) {
	b := newBench(t, Config{})
	b.hub.arrive(b.heard(6*time.Minute, b.sample(0, "state", mesh.Int(6)), b.sample(0, "produced", mesh.Int(0)), b.sample(5*time.Minute, "produced", mesh.Int(100))), nil)
	b.step()
	const day = "day/2026-03-01T05:00:00.000Z"
	for i, heard := range []time.Duration{40 * time.Minute, 70 * time.Minute, 74 * time.Minute} {
		b.now += second / 10
		b.hub.arrive(b.heard(heard, b.sample(heard-time.Minute, "produced", mesh.Int(int64(1000+100*i)))), nil)
		b.step()
		row, m := b.row("oee", day)
		if row.Key == "" {
			t.Fatalf("no row %s in %v", day, bodies(b.out, "oee"))
		}
		elapsed := m["pbt_seconds"].(float64) + m["planned_stop_seconds"].(float64) + m["unknown_seconds"].(float64)
		told := b.out.progress["oee"].Sub(row.From)
		if lacks := told - time.Duration(elapsed*1e9); lacks > 5*time.Minute {
			t.Errorf("oee is told known for %s of the day, its row lacks %s of them", told, lacks)
		}
	}
}

func TestRunner_AnotherSiteFoldsAnew(t *testing.T) {
	b := newBench(t, Config{Eager: true})
	b.hub.arrive(b.heard(3*time.Hour, b.sample(0, "state", mesh.Int(6)), b.sample(0, "product", mesh.Text("a")), b.sample(0, "produced", mesh.Int(0)), b.sample(time.Minute, "produced", mesh.Int(100))), nil)
	b.step()
	hour := "hour/2026-03-02T03:00:00.000Z"
	if _, m := b.row("oee", hour); m["ideal_seconds"] != 50.0 {
		t.Errorf("ideal time is %v", m["ideal_seconds"])
	}
	b.hub.site(strings.NewReplacer("a: 0.5", "a: 0.7", "zone:", "mapping_version: \"2\"\nzone:").Replace(testSite))
	b.step()
	if r, m := b.row("oee", hour); m["ideal_seconds"] != 70.0 || r.Revision != 2 || m["mapping_version"] != "2" {
		t.Errorf("ideal time is %v, revision %d, mapping %v", m["ideal_seconds"], r.Revision, m["mapping_version"])
	}
	b.hub.site("site: [broken")
	b.step()
	b.hub.arrive(b.heard(4*time.Hour), nil)
	b.step()
	if p := b.out.progress["oee"]; p != start().Add(4*time.Hour) { // the new site has a second source that never spoke
		t.Errorf("progress is %v", p)
	}
}

func TestRunner_QuarantinedSamplesAreLeftOut(t *testing.T) {
	b := newBench(t, Config{Eager: true})
	r := b.heard(time.Hour, b.sample(0, "state", mesh.Int(6)), b.sample(time.Minute, "state", mesh.Int(9)), b.sample(2*time.Minute, "state", mesh.Int(6)))
	b.hub.arrive(r, &mesh.Verdict{Of: r.At, Marks: []mesh.Mark{{Index: 1, Rule: "odd", Action: mesh.ActionQuarantine}, {Index: 0, Rule: "look", Action: mesh.ActionAnnotate}}})
	b.step()
	if n := len(b.out.rows["equipment-state"]); n != 2 { // filler and capper
		t.Errorf("%d intervals", n)
	}
	var signals *product.Definition
	for _, d := range definitions(t) {
		if d.Fold == product.FoldSamples {
			signals = d
		}
	}
	rows, _, err := NewSignals(signals, b.hub, b.out).Rows(t.Context(), mesh.RowQuery{})
	if err != nil || len(rows) != 3 {
		t.Fatalf("%d samples, %v", len(rows), err)
	}
	if !strings.Contains(string(rows[1].Body), `"marks":[{"action":"quarantine","rule":"odd"}]`) {
		t.Errorf("no mark in %s", rows[1].Body)
	}
}

func TestSignals_PagesInOrder(t *testing.T) {
	b := newBench(t, Config{Eager: true})
	var want []string
	for i := range 40 {
		s := []mesh.Sample{b.sample(time.Duration(i)*17*time.Minute, "produced", mesh.Int(int64(i))), b.sample(time.Duration(i)*17*time.Minute, "energy", mesh.Double(float64(i)))}
		r := b.heard(time.Duration(i+1)*17*time.Minute, s...)
		b.hub.arrive(r, nil)
		want = append(want, at(time.Duration(i)*17*time.Minute)+"/l1.filler.energy", at(time.Duration(i)*17*time.Minute)+"/l1.filler.produced")
		if i%3 == 0 { // the same again in a later batch
			b.hub.arrive(b.f.batch("s1", mesh.Span{}, 0, s), nil)
		}
	}
	b.step()
	var def *product.Definition
	for _, d := range definitions(t) {
		if d.ID == "signals" {
			def = d
		}
	}
	view := NewSignals(def, b.hub, b.out)
	for _, limit := range []int{1, 7, 1000} {
		var got []string
		q := mesh.RowQuery{Limit: limit, Entities: []string{"l1-filler"}}
		for {
			rows, next, err := view.Rows(t.Context(), q)
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range rows {
				got = append(got, r.Key[:strings.LastIndexByte(r.Key, '/')])
			}
			if next == "" {
				break
			}
			q.After = next
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("limit %d: %d rows, want %d: %v", limit, len(got), len(want), got)
		}
	}
	rows, _, err := view.Rows(t.Context(), mesh.RowQuery{Span: mesh.Span{From: start().Add(30 * time.Minute), To: start().Add(40 * time.Minute)}})
	if err != nil || len(rows) != 2 {
		t.Errorf("%d rows in ten minutes, %v", len(rows), err)
	}
	if _, _, err := view.Rows(t.Context(), mesh.RowQuery{After: "nonsense"}); !errors.Is(err, ErrCursor) {
		t.Errorf("a foreign cursor gives %v", err)
	}
}

// Samples of one instant are no revisions of each other, be they events whose ids share
// a long part, or values under a clock too coarse for them: each is on one page, whatever
// a page holds, and one that came twice is one.
func TestSignals_PagesSamplesOfOneInstant(t *testing.T) {
	b := newBench(t, Config{Eager: true})
	long := strings.Repeat("0f", 60)
	var all []mesh.Sample
	var want []string
	for _, id := range []string{"a1", "b7", "c2"} {
		i := mesh.Item{Value: mesh.Value{Type: mesh.TypeEvent}, Items: []mesh.Item{{Value: mesh.Text(long + id)}}}
		all = append(all, b.sample(time.Minute, "energy", mesh.Value{Type: mesh.TypeEvent, Bytes: wire.AppendItem(nil, i)}))
		want = append(want, "l1.filler.energy {\"1\":\""+long+id+"\"}")
	}
	for i := range 3 {
		s := b.sample(time.Minute, "produced", mesh.Int(int64(7-i)))
		s.Seq = uint64(i + 1) // the order of the device goes before that of values
		all = append(all, s, b.sample(time.Minute+time.Duration(i+1)*100*time.Nanosecond, "produced", mesh.Int(7)))
		want = append(want, fmt.Sprint("l1.filler.produced ", 7-i))
	}
	want = append(want, slices.Repeat([]string{"l1.filler.produced 7"}, 3)...)
	slices.Reverse(all)
	b.hub.arrive(b.heard(time.Hour, all...), nil)
	b.hub.arrive(b.f.batch("s1", mesh.Span{}, 0, all), nil) // once more, as a history gives it
	b.step()
	view := NewSignals(definitionOf(t, "signals"), b.hub, b.out)
	for _, limit := range []int{1, 2, 4, 1000} {
		q := mesh.RowQuery{Limit: limit, Entities: []string{"l1-filler"}}
		var got []string
		keys := map[string]bool{}
		for more := true; more && len(got) <= len(want); more = q.After != "" {
			rows, next, err := view.Rows(t.Context(), q)
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range rows {
				var row struct {
					Signal, Time, Key string
					Value             json.RawMessage
				}
				if err := json.Unmarshal(r.Body, &row); err != nil {
					t.Error(err)
				}
				got = append(got, row.Signal+" "+string(row.Value))
				keys[row.Signal+row.Time+row.Key] = true // the primary key of the contract
			}
			q.After = next
		}
		if !slices.Equal(got, want) {
			t.Errorf("pages of %d have\n%s, want\n%s", limit, strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
		if len(keys) != len(want) {
			t.Errorf("pages of %d: %d rows have %d keys", limit, len(want), len(keys))
		}
	}
}

// A machine may change its state twice in a millisecond: both are rows, each once.
func TestRunner_StatesWithinAMillisecond(t *testing.T) {
	b := newBench(t, Config{Eager: true})
	const micro = time.Microsecond
	b.hub.arrive(b.heard(10*time.Minute, b.sample(0, "state", mesh.Int(6)), b.sample(time.Minute+100*micro, "state", mesh.Int(11)),
		b.sample(time.Minute+400*micro, "state", mesh.Int(9)), b.sample(2*time.Minute, "state", mesh.Int(6))), nil)
	b.step()
	n := len(b.out.log)
	for key, seconds := range map[time.Duration]float64{0: 60.0001, time.Minute + 100*micro: 0.0003, time.Minute + 400*micro: 59.9996} {
		row, m := b.row("equipment-state", at(key))
		if m["duration_seconds"] != seconds || m["from"] != at(key) || row.State != mesh.RowFinal || row.Revision != 1 {
			t.Errorf("%s: revision %d in state %d of %v", at(key), row.Revision, row.State, m)
		}
	}
	b.hub.arrive(b.f.batch("s1", mesh.Span{}, 0, []mesh.Sample{b.sample(30*time.Second, "state", mesh.Int(6))}), nil) // folds it again
	b.step()
	if len(b.out.log) != n {
		t.Errorf("what says the same again wrote %d rows", len(b.out.log)-n)
	}
}

// A page costs what stands on it, not the hour it lies in: at 5,000 samples a
// second an hour of one source is more than a hub has memory for.
func TestSignals_APageOpensLittle(t *testing.T) {
	b := newBench(t, Config{Eager: true})
	const seconds, perSecond = 900, 40
	value := int64(7)
	for i := range seconds {
		var s []mesh.Sample
		for k := range perSecond {
			value = value*6364136223846793005 + 1442695040888963407
			s = append(s, b.sample(time.Duration(i)*time.Second+time.Duration(k)*time.Millisecond, "energy", mesh.Int(value)))
		}
		b.hub.arrive(b.heard(time.Duration(i+1)*time.Second, s...), nil)
	}
	b.step()
	view := NewSignals(definitionOf(t, "signals"), b.hub, b.out)
	q := mesh.RowQuery{Limit: 500, Entities: []string{"l1-filler"}}
	pages, got := 0, 0
	for b.hub.most = 0; ; pages++ {
		rows, next, err := view.Rows(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		if got += len(rows); next == "" {
			break
		}
		q.After = next
	}
	if got != seconds*perSecond || pages < 50 {
		t.Errorf("%d rows on %d pages, want %d", got, pages, seconds*perSecond)
	}
	if b.hub.most > 2*500 {
		t.Errorf("%d samples were opened at once for a page of 500", b.hub.most)
	}
}

func TestRunner_FailureIsSuspendedAlone(t *testing.T) {
	b := newBench(t, Config{Eager: true})
	b.hub.arrive(b.heard(time.Hour, b.sample(0, "state", mesh.Int(6))), nil)
	b.out.fail = mesh.Permanent(errors.New("no room for this product"))
	b.step()
	if len(b.set.Suspended()) != 1 {
		t.Fatalf("suspended: %v", b.set.Suspended())
	}
	b.hub.arrive(b.heard(2*time.Hour), nil)
	b.step()
	done := 0
	for _, p := range b.out.progress {
		if p == start().Add(2*time.Hour) {
			done++
		}
	}
	if done != 4 {
		t.Errorf("%d products go on, want 4", done)
	}
}

func TestRunner_UnreadableBatchIsUnknown(t *testing.T) {
	b := newBench(t, Config{Eager: true})
	b.hub.arrive(b.heard(time.Hour, b.sample(0, "state", mesh.Int(6))), nil)
	good := b.f
	b.f = newFeeder(t, b.hub, "agent/test/gw", good.seq, signalNames()[:5])
	b.hub.arrive(b.heard(90*time.Minute, b.sample(70*time.Minute, "state", mesh.Int(9))), nil)
	b.hub.descriptors[b.f.table.Hash()] = mesh.Descriptor{Kind: mesh.DescribeSignals, Content: []byte{0xff}}
	b.f = good
	b.hub.arrive(b.heard(2*time.Hour), nil)
	b.step()
	r, ok := b.out.rows["coverage"]["s1/"+at(time.Hour)]
	if !ok || r.State != mesh.RowFinal || !strings.Contains(string(r.Body), `"cause":"damaged","count":1,`) {
		t.Errorf("coverage is %+v %s", r, r.Body)
	}
}

func TestRunner_DataBeatsVoid(t *testing.T) {
	for _, first := range []bool{true, false} {
		b := newBench(t, Config{Eager: true})
		b.hub.arrive(b.heard(time.Hour, b.sample(0, "state", mesh.Int(6))), nil)
		from := b.last
		lost := b.heard(2*time.Hour, b.sample(90*time.Minute, "state", mesh.Int(9)))
		void := b.f.void(mesh.Void{
			Cause: mesh.CauseDiskPolicy, Lost: []mesh.Range{{Epoch: lost.At.Epoch, First: lost.At.Seq, Last: lost.At.Seq}},
			Parts: []mesh.Part{{Source: "s1", Times: mesh.Span{From: from, To: b.last}, Count: 1}},
		})
		next := b.heard(3 * time.Hour)
		if first {
			b.hub.arrive(lost, nil)
		}
		b.hub.arrive(void, nil)
		b.hub.arrive(next, nil)
		b.step()
		if !first {
			if r := b.out.rows["coverage"]["s1/"+at(time.Hour)]; r.State == 0 {
				t.Error("no gap while the data have not come")
			}
			// The hub accounts for the voided position; ingest stores what comes all the same.
			ord, _ := b.hub.accounts["agent/test/gw"].Ordinal(lost.At)
			b.hub.append(mesh.Entry{Of: lost.At, Ord: ord, Through: b.hub.accounts["agent/test/gw"].Through(), Sealed: lost.Sealed})
			b.step()
		}
		if r := b.out.rows["coverage"]["s1/"+at(time.Hour)]; r.State != 0 && r.State != mesh.RowWithdrawn {
			t.Errorf("data first %v: the gap stands: %s", first, r.Body)
		}
		if _, m := b.row("equipment-state", at(90*time.Minute)); m["cause"] != "failure" {
			t.Errorf("data first %v: %v", first, m)
		}
	}
}

// What is known of a source ends where its log's branch was left, though nothing
// of its own says so: no gap stands before what doesn't count any more.
func TestRunner_ABranchThatIsLeftTakesItsGapsAlong(t *testing.T) {
	b := newBench(t, Config{Eager: true})
	kept := b.heard(time.Hour, b.sample(0, "state", mesh.Int(6)))
	b.hub.arrive(kept, nil)
	b.heard(2 * time.Hour) // lost
	b.hub.arrive(b.heard(3*time.Hour), nil)
	b.step()
	gap := func() mesh.Row { return b.out.rows["coverage"]["s1/"+at(time.Hour)] }
	if r := gap(); r.State == 0 || r.State == mesh.RowWithdrawn {
		t.Fatalf("no gap before what came behind it: %+v", r)
	}
	b.hub.reopen(mesh.NewEpoch(), kept.At)
	b.step()
	if r := gap(); r.State != mesh.RowWithdrawn {
		t.Errorf("the gap stands: %s", r.Body)
	}
}
