package runner

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"plantmesh/cloud/product"
	"plantmesh/proto/mesh"
	"plantmesh/proto/wire"
)

// An agent may say much, but not what the site is.
func TestRunner_ASiteOfAnAgentIsLeftOut(t *testing.T) {
	b := newBench(t, Config{Eager: true})
	b.producing()
	d := mesh.Descriptor{Kind: mesh.DescribeSite, Content: []byte(faster())}
	b.hub.descriptors[d.Hash()] = d
	sealed, err := wire.SealFact(mesh.Fact{About: "site/test", Valid: mesh.Span{From: math.MinInt64, To: math.MaxInt64}, Descriptor: d.Hash()})
	if err != nil {
		t.Fatal(err)
	}
	n := len(b.out.log)
	b.hub.append(mesh.Entry{Of: mesh.Position{Log: "agent/test/gw", Epoch: mesh.Epoch{9}, Seq: 77}, Sealed: sealed})
	b.step()
	if len(b.out.log) != n {
		t.Errorf("it wrote %d rows", len(b.out.log)-n)
	}
	b.hub.site(faster())
	if b.step(); len(b.out.log) == n {
		t.Error("the same site of the hub writes nothing: this test sees nothing")
	}
}

// A machine whose numbers are not PackML's: from when its states are mapped on rows say
// what they mean, and what is left of before says what it said.
func TestRunner_StatesAreMappedFromAnInstantOn(t *testing.T) {
	b := newBench(t, Config{Eager: true})
	b.hub.arrive(b.heard(time.Hour, b.sample(0, "state", mesh.Int(9)), b.sample(time.Minute, "produced", mesh.Int(1))), nil)
	b.hub.arrive(b.heard(3*time.Hour, b.sample(2*time.Hour, "state", mesh.Int(9))), nil)
	b.step()
	b.hub.siteFrom(start().Add(90*time.Minute), strings.Replace(oneSource(), "signals_prefix: l1.filler.}", "signals_prefix: l1.filler., states: {9: 6}}", 1))
	b.step()
	said := map[string]any{}
	for _, r := range b.out.log {
		if r.Product == "equipment-state" && r.Entity == "l1-filler" && r.State != mesh.RowWithdrawn {
			var m map[string]any
			if err := json.Unmarshal(r.Body, &m); err != nil {
				t.Fatal(err)
			}
			said[r.Key] = m["packml_name"]
		}
	}
	if first, second := said[product.TimeText(start())], said[product.TimeText(start().Add(2*time.Hour))]; first != "Aborted" || second != "Execute" {
		t.Errorf("before %v, behind %v: %v", first, second, said)
	}
}

// oneSource is the test site without the machine that nobody speaks for.
func oneSource() string {
	return strings.Replace(testSite, "  - {id: l2-filler, line: l2, name: Filler, kind: filler, source: s2, signals_prefix: l2.filler.}\n", "", 1)
}

// producing makes five hours in which the filler makes a hundred items each ten
// minutes.
func (b *bench) producing() {
	b.t.Helper()
	for i := range 30 {
		at := time.Duration(i) * 10 * time.Minute
		b.hub.arrive(b.heard(at+10*time.Minute, b.sample(at, "state", mesh.Int(6)), b.sample(at, "product", mesh.Text("a")),
			b.sample(at, "produced", mesh.Int(int64(100*i))), b.sample(at, "energy", mesh.Double(0.1*float64(i)))), nil)
	}
	b.step()
}

// written are the rows of a product that were written from record n on.
func (b *bench) written(p string, n int) (keys []string) {
	for _, r := range b.out.log[n:] {
		if r.Product == p {
			keys = append(keys, fmt.Sprintf("%s %s %d %d", r.Entity, r.Key, r.State, r.Revision))
		}
	}
	return keys
}

func faster() string { return strings.Replace(oneSource(), "a: 0.5", "a: 0.7", 1) }

func TestRunner_AChangedIdealRateLeavesWhatWasBefore(t *testing.T) {
	b := newBench(t, Config{Eager: true})
	b.producing() // 03:40 to 08:40
	n := len(b.out.log)
	b.hub.siteFrom(b.last, faster())
	b.step()
	if len(b.out.log) != n {
		t.Errorf("a site that holds from now on wrote %d rows", len(b.out.log)-n)
	}
	b.hub.arrive(b.heard(6*time.Hour, b.sample(5*time.Hour+time.Minute, "produced", mesh.Int(3000)), b.sample(5*time.Hour+40*time.Minute, "produced", mesh.Int(3100))), nil)
	b.step()
	for _, k := range b.written("oee", n) {
		if strings.Contains(k, "hour/2026-03-02T0") && !strings.Contains(k, "T08:") && !strings.Contains(k, "T09:") {
			t.Errorf("written again: %s", k)
		}
	}
	// 08:41 lies in the cell of the old rate, 09:20 in one of the new.
	if _, m := b.row("oee", "hour/2026-03-02T08:00:00.000Z"); m["ideal_seconds"] != 0.5*500 {
		t.Errorf("the hour of the change has ideal %v", m["ideal_seconds"])
	}
	if _, m := b.row("oee", "hour/2026-03-02T09:00:00.000Z"); m["ideal_seconds"] != 0.7*100 {
		t.Errorf("the hour after has ideal %v", m["ideal_seconds"])
	}
	if _, m := b.row("oee", "day/2026-03-02T05:00:00.000Z"); m["ideal_seconds"] != 0.5*2300+0.7*100 {
		t.Errorf("the day has ideal %v of %v", m["ideal_seconds"], m["produced_count"])
	}
}

func TestRunner_ABackdatedSiteRevisesFromThereOn(t *testing.T) {
	b := newBench(t, Config{Eager: true})
	b.producing()
	n := len(b.out.log)
	b.hub.siteFrom(start().Add(2*time.Hour+20*time.Minute), faster()) // 06:00
	b.step()
	got := b.written("oee", n)
	want := []string{
		"l1-filler day/2026-03-02T05:00:00.000Z 1 1", "l1-filler hour/2026-03-02T06:00:00.000Z 2 2", "l1-filler hour/2026-03-02T07:00:00.000Z 2 2",
		"l1-filler hour/2026-03-02T08:00:00.000Z 1 1", "l1-filler shift/2026-03-02T05:00:00.000Z 1 1",
	}
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("written:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	for _, p := range []string{"equipment-state", "production-rate"} {
		for _, k := range b.written(p, n) {
			if strings.Contains(k, " 2 2") && p == "equipment-state" || strings.Contains(k, "T04:") || strings.Contains(k, "T03:") {
				t.Errorf("%s: written again: %s", p, k)
			}
		}
	}
	if _, m := b.row("oee", "day/2026-03-02T05:00:00.000Z"); m["ideal_seconds"] != 0.5*600+0.7*1600 {
		t.Errorf("the day has ideal %v", m["ideal_seconds"])
	}
}

func TestRunner_AMachineTheSiteHasNoMoreEnds(t *testing.T) {
	change := start().Add(4*time.Hour + 30*time.Minute) // 08:10
	renamed := strings.Replace(oneSource(), "id: l1-filler", "id: l1-fueller", 1)
	for name, from := range map[string]mesh.Nanos{"from now on": change, "from the beginning": start().Add(-time.Hour)} {
		b := newBench(t, Config{Eager: true})
		b.producing()
		b.hub.siteFrom(from, renamed)
		b.step()
		produced, open := 0.0, 0
		for _, r := range b.out.rows["oee"] {
			if strings.HasPrefix(r.Key, "hour/") && r.State != mesh.RowWithdrawn && r.Entity != "l1-capper" {
				produced += number(t, r, "produced_count")
			}
		}
		for _, r := range b.out.rows["equipment-state"] {
			if r.Entity == "l1-filler" && r.State != mesh.RowWithdrawn && r.State != mesh.RowFinal {
				open++
			}
		}
		// What was counted of the old name and the new is never more than there was.
		if open > 0 || produced > 2900 {
			t.Errorf("%s: %d open rows of the machine that is gone; %v items of both", name, open, produced)
		}
		gone := b.out.current("oee")
		has := slices.ContainsFunc(gone, func(s string) bool { return strings.HasPrefix(s, "l1-filler ") })
		if has != (from == change) {
			t.Errorf("%s: rows of the old name stand: %v", name, has)
		}
		if from == change {
			r, m := b.row("equipment-state", at(0))
			if r.To != change || r.State != mesh.RowFinal || m["to"] != product.TimeText(change) {
				t.Errorf("the last state of the old name is %+v %v", r, m)
			}
			if r, _ := b.row("oee", "hour/2026-03-02T08:00:00.000Z"); r.State != mesh.RowFinal {
				t.Errorf("its last hour is %d", r.State)
			}
		}
		other := newFakeOut()
		flushed(t, b.hub, other)
		compare(t, name, b.out, other)
		signals := NewSignals(definitionOf(t, "signals"), b.hub, b.out)
		rows, _, err := signals.Rows(t.Context(), mesh.RowQuery{Entities: []string{"l1-filler"}})
		if err != nil || (len(rows) > 0) != (from == change) {
			t.Errorf("%s: %d signals of the old name, %v", name, len(rows), err)
		}
	}
}

// A file of the future: the machine may have ended, but not yet.
func TestRunner_AMachineDoesNotEndBeforeItsTime(t *testing.T) {
	b := newBench(t, Config{Eager: true})
	b.producing()
	b.hub.siteFrom(start().Add(6*time.Hour), strings.Replace(oneSource(), "id: l1-filler", "id: l1-fueller", 1))
	b.step()
	if r, _ := b.row("equipment-state", at(0)); r.To != 0 {
		t.Errorf("it ended at %s", r.To)
	}
	b.hub.arrive(b.heard(7*time.Hour), nil)
	b.step()
	if r, _ := b.row("equipment-state", at(0)); r.To != start().Add(6*time.Hour) || r.State != mesh.RowFinal {
		t.Errorf("it ends at %s, state %d", r.To, r.State)
	}
}

func number(t *testing.T, r mesh.Row, column string) float64 {
	t.Helper()
	_, rest, ok := strings.Cut(string(r.Body), `"`+column+`":`)
	var x float64
	if _, err := fmt.Sscanf(rest, "%g", &x); err != nil || !ok {
		t.Fatalf("no %s in %s", column, r.Body)
	}
	return x
}

func definitionOf(t testing.TB, id string) *product.Definition {
	t.Helper()
	defs := definitions(t)
	return defs[slices.IndexFunc(defs, func(d *product.Definition) bool { return d.ID == id })]
}

// otherSites make another site of testSite, of which none is refused.
func otherSites() []*strings.Replacer {
	zone := strings.NewReplacer(`start: "06:00", end: "14:00"`, `start: "05:30", end: "13:30"`, `start: "14:00", end: "22:00"`, `start: "13:30", end: "21:15"`,
		`start: "22:00", end: "06:00"`, `start: "21:15", end: "05:30"`, `production_day_start: "06:00"`, `production_day_start: "05:30"`, `{start: "10:00", end: "10:30"}`, `{start: "09:15", end: "09:40"}`)
	mapped := strings.NewReplacer("signals_prefix: l1.filler.", "signals_prefix: l1.other.", "signals_prefix: l1.capper.", "signals_prefix: l1.filler.", "l1.other.", "l1.capper.")
	moved := strings.NewReplacer("source: s2", "source: s1")
	gone := strings.NewReplacer("  - {id: l1-capper, line: l1, name: Capper, kind: filler, source: s1, signals_prefix: l1.capper.}\n", "")
	rates := strings.NewReplacer("a: 0.5", "a: 0.4", "b: 0.25", "b: 0.3, c: 1")
	return []*strings.Replacer{zone, mapped, moved, gone, rates}
}

// Live with the site changed under way, stopped and begun anew at any moment,
// gives the rows that a new database gives which has it all from the start.
func TestRunner_ChangedSitesGiveTheSameRowsOnAnyRoad(t *testing.T) {
	unwatched(t)
	files := otherSites()
	for seed := range uint64(8) {
		rng := rand.New(rand.NewPCG(seed, 77))
		hub, live, now := newFakeLog(), newFakeOut(), mesh.Nanos(1)
		hub.site(testSite)
		var set *Set
		records := script(t, hub, seed, 9)
		rng.Shuffle(len(records), func(i, j int) {
			if j-i < 8 && i-j < 8 {
				records[i], records[j] = records[j], records[i]
			}
		})
		for i, r := range records {
			if rng.IntN(len(records)/4+1) == 0 {
				from := start().Add(time.Duration(rng.IntN(9*3600)) * time.Second)
				hub.siteFrom(from, files[rng.IntN(len(files))].Replace(testSite))
			}
			hub.arrive(r, nil)
			now += second
			if set == nil || rng.IntN(15) == 0 {
				var err error
				if set, err = NewSet(Config{Eager: i%2 == 0}, hub, live, testClock(&now)); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := set.Step(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if err := set.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		for p, err := range set.Suspended() {
			t.Fatalf("product %s is suspended: %v", p, err)
		}
		want := newFakeOut()
		flushed(t, hub, want)
		compare(t, fmt.Sprintf("seed %d", seed), live, want)
	}
}

// A gateway is replaced. Its successor has a hole: nothing is final behind it,
// and nothing while the old gateway may hold something.
func TestRunner_AReplacedGatewayIsWaitedForUntilItIsRetired(t *testing.T) {
	b := newBench(t, Config{Eager: true})
	b.hub.arrive(b.heard(50*time.Second, b.sample(time.Second, "state", mesh.Int(6))), nil)
	for range 50 { // its log is longer than the new one's will be
		b.hub.arrive(b.heard(50*time.Second), nil)
	}
	var seq uint64
	b.f = newFeeder(t, b.hub, "agent/test/gw-2", &seq, signalNames())
	b.hub.arrive(b.heard(60*time.Second, b.sample(55*time.Second, "produced", mesh.Int(10))), nil)
	late := b.heard(30*time.Minute, b.sample(20*time.Minute, "produced", mesh.Int(500)))
	b.hub.arrive(b.heard(90*time.Minute), nil)
	b.step()
	final := func() (n int) {
		for _, r := range b.out.rows["oee"] {
			if r.State == mesh.RowFinal {
				n++
			}
		}
		return n
	}
	hour := "hour/2026-03-02T03:00:00.000Z"
	if _, m := b.row("oee", hour); final() != 0 || m["unknown_seconds"] != 2400.0+1140+1 {
		t.Errorf("with a hole %d rows are final, unknown %v", final(), m["unknown_seconds"])
	}
	b.hub.arrive(late, nil)
	b.step()
	if w := b.out.watermark["oee"]; final() != 0 || w != start().Add(50*time.Second) {
		t.Errorf("while the old gateway may hold something %d rows are final, complete to %s", final(), w)
	}
	b.hub.siteFrom(b.last, oneSource()+"retired_agents: [gw]\n")
	b.step()
	if r, _ := b.row("oee", hour); r.State != mesh.RowFinal || b.out.watermark["oee"] != b.last {
		t.Errorf("retired: the hour is %d, complete to %s", r.State, b.out.watermark["oee"])
	}
}

func TestRunner_ASilentSourceIsNamedAndBlindsNobody(t *testing.T) {
	b := newBench(t, Config{Eager: true})
	b.hub.site(testSite)
	b.hub.arrive(b.heard(time.Hour, b.sample(0, "state", mesh.Int(6))), nil)
	b.step()
	for _, p := range []string{"oee", "equipment-state", "coverage", "signals"} {
		if b.out.progress[p] != b.last || b.out.watermark[p] != b.last {
			t.Errorf("%s is known to %s, complete to %s", p, b.out.progress[p], b.out.watermark[p])
		}
	}
	site, err := product.ParseSite("site", []byte(testSite))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := Ends(t.Context(), b.out, "oee", site); err != nil || !slices.Equal(got, []End{{"s1", b.last}, {"s2", 0}}) {
		t.Errorf("the sources are known through %v, %v", got, err)
	}
}

// A disk was put back: what the branch sent behind its first hole proves nothing.
func TestRunner_ABranchThatWasLeftBlocksNothingAndProvesNothing(t *testing.T) {
	b := newBench(t, Config{Eager: true})
	b.hub.arrive(b.heard(10*time.Minute, b.sample(0, "state", mesh.Int(6))), nil)
	tip := mesh.Position{Log: b.f.log, Epoch: mesh.Epoch{7}, Seq: *b.f.seq}
	_ = b.heard(20 * time.Minute) // it never comes
	b.hub.arrive(b.heard(30*time.Minute), nil)
	b.step()
	b.hub.reopen(mesh.Epoch{8}, tip)
	b.f.epoch, *b.f.seq = mesh.Epoch{8}, 1
	b.last = start().Add(30 * time.Minute)
	b.hub.arrive(b.heard(2*time.Hour), nil)
	b.step()
	r, m := b.row("equipment-state", at(10*time.Minute))
	if r.State != mesh.RowFinal || r.To != start().Add(30*time.Minute) || m["cause"] != "unknown" {
		t.Errorf("what only the lost branch proved is %+v %v", r, m)
	}
}
