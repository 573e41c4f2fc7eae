package product

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"plantmesh/proto/mesh"
)

// madeOf is a sum over all states and rows that a script makes, by the foldVersion
// it was written down for.
const madeOf = "4 37a85106bf51"

// What is cached is used after a restart by whatever program begins then. Whoever
// changes what the fold or the rows are raises foldVersion, so that everything is
// folded anew, and writes the new sum down here.
func TestMade_IsRaisedWithTheFold(t *testing.T) {
	site, err := ParseSite("site", []byte(madeSite))
	if err != nil {
		t.Fatal(err)
	}
	first := mesh.NanosOf(time.Date(2026, 3, 28, 3, 40, 0, 0, time.UTC)) // over a change of the clock
	end := first.Add(30 * time.Hour)
	known := []mesh.Span{{From: first, To: first.Add(7 * time.Hour)}, {From: first.Add(7*time.Hour + 9*time.Minute), To: end}}
	sum := sha256.New()
	st := &State{}
	trace := NewSites(site).Fold(st, madeEvents(first, end), known, end, nil)
	var cells []Cell
	for i := range trace.Edges {
		b, err := trace.Edges[i].Encode()
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(sum, "%s\n", b)
		cells = append(cells, trace.Edges[i].Cell)
	}
	cells = append(cells, NewSites(site).OpenCell(st))
	defs, err := Definitions()
	if err != nil {
		t.Fatal(err)
	}
	e := &site.Equipment[0]
	for _, d := range defs {
		switch d.Fold {
		case FoldIntervals:
			for _, i := range trace.Intervals {
				fmt.Fprintf(sum, "%s\n", d.IntervalDraft(site, e, i, 0).Body)
			}
		case FoldWindows:
			for _, kind := range d.Windows {
				for _, w := range site.Calendar.Windows(kind, mesh.Span{From: first, To: end}) {
					fmt.Fprintf(sum, "%s\n", d.WindowDraft(site, e, w, cells, end).Body)
				}
			}
		case FoldCoverage, FoldSamples:
		}
	}
	if got := fmt.Sprintf("%d %s", foldVersion, hex.EncodeToString(sum.Sum(nil)[:6])); got != madeOf {
		t.Errorf("the fold makes %q, it was %q: raise foldVersion and write the new sum down", got, madeOf)
	}
}

const madeSite = `
site: test
zone: Europe/Vienna
production_day_start: "06:00"
shifts:
  - {id: early, start: "06:00", end: "14:00"}
  - {id: late, start: "14:00", end: "22:00"}
breaks:
  - {start: "10:00", end: "10:30"}
ideal_cycle_seconds:
  filler: {a: 0.5, b: 0.25}
reasons: {3: "no bottles"}
equipment:
  - {id: l1-filler, line: l1, name: Filler, kind: filler, source: s1, signals_prefix: l1.filler.}
`

// madeEvents are some of every kind.
func madeEvents(from, to mesh.Nanos) (out []Event) {
	rng := rand.New(rand.NewPCG(4, 2))
	produced, scrap, energy := int64(2147483000), int64(0), 0.1
	for at := from.Add(-time.Hour); at < to; at += mesh.Nanos(1+rng.IntN(200)) * mesh.Nanos(time.Second) {
		s := mesh.Sample{Time: at}
		role := RoleState
		switch rng.IntN(10) {
		case 0, 1, 2:
			s.Value = mesh.Int([]int64{6, 6, 11, 5, 9, 2, 15, 3, 16, 4}[rng.IntN(10)])
		case 3:
			s.Status = mesh.StatusBadNoData
		case 4:
			if produced += int64(rng.IntN(300)); rng.IntN(20) == 0 {
				produced = 0
			}
			role, s.Value = RoleProduced, mesh.Int(int64(int32(uint32(uint64(produced)))))
		case 5:
			scrap += int64(rng.IntN(3)) - int64(rng.IntN(2))
			role, s.Value = RoleScrap, mesh.Int(max(scrap, 0))
		case 6:
			energy += rng.Float64()
			role, s.Value = RoleEnergy, mesh.Double(energy)
		case 7:
			role, s.Value = RoleProduct, mesh.Text([]string{"a", "b", "c"}[rng.IntN(3)])
		case 8:
			role, s.Value = RoleMode, mesh.Int(int64(1+rng.IntN(3)))
		case 9:
			role, s.Value = []Role{RoleOrder, RoleStopReason}[rng.IntN(2)], mesh.Int(int64(rng.IntN(5)))
			if role == RoleOrder {
				s.Value = mesh.Text(fmt.Sprint("o", rng.IntN(4)))
			}
		}
		out = append(out, EventOf(role, &s))
	}
	return out
}

// A state is small whatever a source calls its products.
func TestState_IsBounded(t *testing.T) {
	site, err := ParseSite("site", []byte(madeSite))
	if err != nil {
		t.Fatal(err)
	}
	first := mesh.NanosOf(time.Date(2026, 3, 3, 8, 0, 0, 0, time.UTC))
	end := first.Add(time.Hour)
	var events []Event
	long := strings.Repeat("x", 100_000)
	for i := range 3000 {
		at := first.Add(time.Duration(i) * time.Second)
		product := mesh.Sample{Time: at, Value: mesh.Text(fmt.Sprint(long, i))}
		produced := mesh.Sample{Time: at, Value: mesh.Int(int64(i))}
		events = append(events, EventOf(RoleProduced, &produced), EventOf(RoleProduct, &product))
	}
	st := &State{}
	trace := NewSites(site).Fold(st, events, []mesh.Span{{From: first, To: end}}, end, nil)
	total := int64(0)
	for _, c := range trace.Edges[0].Cell.Totals.Products {
		total += c.Produced
	}
	if n := len(trace.Edges[0].Cell.Totals.Products); n != maxProducts+1 || total != 2999 {
		t.Errorf("%d products counted apart, %d items of 2999", n, total)
	}
	if b, err := trace.Edges[0].Encode(); err != nil || len(b) > 128<<10 {
		t.Errorf("a state has %d bytes, %v", len(b), err)
	}
	if a, b := events[1], events[3]; a.Text == b.Text || len(a.Text) > maxWord {
		t.Errorf("two long names are one, or long: %q %q", a.Text, b.Text)
	}
}
