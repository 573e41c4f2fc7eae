// Package bench measures what the house costs: each figure beside its bar, in
// one run. `make bench` prints the table; `make test` runs the part of it that
// does not depend on how busy the machine is.
package bench

import (
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"plantmesh/proto/mesh"
	"plantmesh/proto/wire"
)

// row is one line of the table.
type row struct {
	name  string
	value float64
	unit  string
	bar   float64
	more  bool // the value must be at least the bar, else at most
}

func (r row) met() bool {
	if r.more {
		return r.value >= r.bar
	}
	return r.value <= r.bar
}

// full reports whether this is `make bench`.
func full() bool { return os.Getenv("PLANTMESH_BENCH") != "" }

func report(t *testing.T, rows ...row) {
	t.Helper()
	for _, r := range rows {
		sign := "at most"
		if r.more {
			sign = "at least"
		}
		line := fmt.Sprintf("%-14s %10.3f %-10s %s %g, ratio %.2f", r.name, r.value, r.unit, sign, r.bar, r.value/r.bar)
		if r.met() {
			t.Log(line)
		} else {
			t.Error(line)
		}
	}
}

// best is the fastest of three runs, in seconds of this thread's processor
// time: other work on the machine must not count.
func best(do func()) float64 {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	fastest := time.Hour
	for range 3 {
		began := processor()
		do()
		fastest = min(fastest, processor()-began)
	}
	return fastest.Seconds()
}

func sealAll(t *testing.T, e *wire.Encoder, batches []mesh.Batch) (sealed [][]byte, values, size int) {
	t.Helper()
	at := mesh.Position{Log: "agent/graz/gw-1", Epoch: mesh.NewEpoch(), Seq: 1}
	for i := range batches {
		s, err := e.Seal(&batches[i])
		if err != nil {
			t.Fatal(err)
		}
		sealed = append(sealed, s)
		values += len(batches[i].Samples)
		size += len(wire.AppendRecord(nil, mesh.Record{At: at, Sealed: s}))
		at.Seq++
	}
	return sealed, values, size
}

func codec(t testing.TB) (*wire.Encoder, *wire.Decoder) {
	t.Helper()
	e, err := wire.NewEncoder()
	if err != nil {
		t.Fatal(err)
	}
	d, err := wire.NewDecoder()
	if err != nil {
		t.Fatal(err)
	}
	return e, d
}

func TestBench_Wire(t *testing.T) {
	e, d := codec(t)
	seconds, rounds := 60, 1 // a tenth has the same bytes and allocations
	if full() {
		seconds, rounds = 600, 3
	}
	set := synthetic(1000, seconds)
	sets := []struct {
		name    string
		batches []mesh.Batch
		bar     float64
	}{
		{"wire_1s", windows(set, 1), 4.8},
		{"wire_10s", windows(set, 10), 2.0},
	}
	if rec := skab(t); rec != nil {
		sets = append(sets, struct {
			name    string
			batches []mesh.Batch
			bar     float64
		}{"wire_skab_10s", windows(rec, 10), 3.0})
	} else if strings.Contains(os.Getenv("PLANTMESH_REQUIRE"), "shared") {
		t.Fatal("the SKAB recordings are not beside the project")
	} else {
		t.Log("wire_skab_10s is left out: the SKAB recordings are not beside the project")
	}
	for _, s := range sets {
		_, values, size := sealAll(t, e, s.batches)
		report(t, row{name: s.name, value: float64(size) / float64(values), unit: "B/value", bar: s.bar})
	}
	batches := sets[1].batches
	sealed, values, _ := sealAll(t, e, batches)
	allocs := testing.AllocsPerRun(rounds, func() { _, _, _ = sealAll(t, e, batches) })
	report(t, row{name: "encode_allocs", value: allocs / float64(values), unit: "/sample", bar: 0.001})
	if !full() {
		t.Log("encode and decode are clocked by make bench")
		return
	}
	million := float64(values) / 1e6
	encode := best(func() { _, _, _ = sealAll(t, e, batches) })
	decode := best(func() {
		for _, s := range sealed {
			if _, err := d.Columns(s, func(*wire.Column) {}); err != nil {
				t.Fatal(err)
			}
		}
	})
	report(
		t,
		row{name: "encode", value: million / encode, unit: "M values/s", bar: 30, more: true},
		row{name: "decode", value: million / decode, unit: "M values/s", bar: 50, more: true},
	)
}

// once is the processor time of one run, in seconds of this thread.
func once(do func()) float64 {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	began := processor()
	do()
	return (processor() - began).Seconds()
}

// median is the middle one.
func median(all []time.Duration) time.Duration {
	slices.Sort(all)
	return all[len(all)/2]
}
