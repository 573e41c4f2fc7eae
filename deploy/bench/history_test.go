package bench

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"plantmesh/proto/mesh"
	"plantmesh/proto/wire"
)

const hour = mesh.Nanos(time.Hour)

// TestBench_History has the hub take a day and compact it hour by hour: what a
// value takes on disk then, what it costs, and how long a signal's day takes to
// be read when the system has nothing of it in memory. Once it is over the day is
// merged, if the hub would: of 10,000 signals, which
//
//	PLANTMESH_BENCH_SIGNALS=10000 PLANTMESH_BENCH=1 go test -run TestBench_History -v ./deploy/bench
//
// measures in some six minutes and with 3 GB of disk; `make bench` has a tenth of
// it, with as many passes, in TestBench_Merge.
func TestBench_History(t *testing.T) {
	measured(t)
	signals, hours, reads := extent()
	e, d := codec(t)
	h := newHub(t, signals)
	set := synthetic(signals, 3600)
	all := cut(set, 10)
	values, compacted := 0, 0
	var clocks []float64
	for k := range hours {
		// The set begins at 06:00: one day from midnight on.
		values += h.take(e, all, mesh.Nanos(k-6)*hour, 60)
		clocks = append(clocks, once(func() { compacted += h.compact(0) }))
	}
	if compacted != values {
		t.Fatalf("%d of %d values compacted", compacted, values)
	}
	h.close()
	report(t, row{name: "history_bytes", value: float64(h.bytes()) / float64(values), unit: "B/value", bar: 2.2, floor: floorDay(t, e)})
	report(t, row{name: "compact", value: float64(values) / 1e6 / day(clocks), unit: "M values/s", bar: 5, more: true, floor: floorCompact(t, set, all), clock: true, known: knownCompact})
	h.open()
	h.over()
	h.close()
	h.cold(t, "history_read", d, hours, reads)
}

// TestBench_Merge has the hub compact a day in passes of seven minutes, which is
// what 10,000 signals at 1 Hz make of them, and merge it: what that costs, and
// what it makes of a value's bytes and of the read of a signal's day.
func TestBench_Merge(t *testing.T) {
	measured(t)
	signals, hours, reads := extent()
	e, d := codec(t)
	h := newHub(t, signals)
	set := synthetic(signals, 3600)
	all := cut(set, 10)
	values := 0
	for k := range hours {
		values += h.take(e, all, mesh.Nanos(k-6)*hour, 60)
		h.compact(signals * passOf10000)
	}
	merged := int64(0)
	took := once(func() { merged = h.over() })
	if merged < int64(values-2*signals) { // jitter may move the first and the last over midnight
		t.Fatalf("%d of %d values merged", merged, values)
	}
	h.close()
	report(t, row{name: "merged_bytes", value: float64(h.bytes()) / float64(values), unit: "B/value", bar: 2.2, floor: floorDay(t, e)})
	report(t, row{name: "merge", value: float64(merged) / 1e6 / took, unit: "M values/s", bar: 5, more: true, floor: floorCompact(t, set, all), clock: true, known: knownCompact})
	h.cold(t, "merged_read", d, hours, reads)
}

// passOf10000 are the samples that a pass has of one of 10,000 signals.
const passOf10000 = 419

// extent is how many signals and hours there are, and how many reads.
func extent() (signals, hours, reads int) {
	switch n, err := strconv.Atoi(os.Getenv("PLANTMESH_BENCH_SIGNALS")); {
	case full() && err == nil:
		return n, 24, 15
	case full():
		return 1000, 24, 15
	}
	return 40, 24, 3 // a day of few: what is read of one is as much
}

// day is the clock of all passes; outside of `make bench` three times the fastest
// third of them.
func day(clocks []float64) (all float64) {
	var thirds []float64
	for some := range slices.Chunk(clocks, len(clocks)/3) {
		sum := 0.0
		for _, c := range some {
			sum += c
		}
		thirds = append(thirds, sum)
		all += sum
	}
	if full() {
		return all
	}
	return 3 * slices.Min(thirds)
}

// cold reads the day of some signals, one after the other, each from disk. The
// floor are the same chunks behind one another in a plain file, read from disk
// and decoded.
func (h *hub) cold(t *testing.T, name string, d *wire.Decoder, hours, reads int) {
	t.Helper()
	from := mesh.NanosOf(time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC))
	span := mesh.Span{From: from, To: from + 24*hour}
	plain := t.TempDir()
	signal := func(i int) string { return signalName(i * h.signals / reads) }
	file := func(i int) string { return filepath.Join(plain, signal(i)) }
	h.open()
	for i := range reads {
		var b []byte
		for _, part := range h.parts(t.Context(), signal(i), span) {
			b = append(binary.LittleEndian.AppendUint32(b, uint32(len(part))), part...)
		}
		if err := os.WriteFile(file(i), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	h.close()
	var took, floor []time.Duration
	for i := range reads {
		forget(t, plain)
		began := time.Now()
		n := count(t, d, partsOf(t, file(i)), uint32(i*h.signals/reads))
		floor = append(floor, time.Since(began))

		forget(t, h.dir)
		h.open()
		began = time.Now()
		m := count(t, d, h.parts(t.Context(), signal(i), span), uint32(i*h.signals/reads))
		took = append(took, time.Since(began))
		h.close()
		if want := hours * 3600; m < want-3 || m > want || m != n { // jitter may move the first and the last over midnight
			t.Fatalf("%d values of %d read, %d in the plain file", m, want, n)
		}
	}
	t.Logf("%s: the slowest of %d took %s", name, reads, slices.Max(took))
	middle := median
	if !full() {
		middle = slices.Min[[]time.Duration]
	}
	report(t, row{name: name, value: milliseconds(middle(took)), unit: "ms", bar: 20, floor: milliseconds(middle(floor)), clock: true, known: knownRead})
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// partsOf are the chunks in a plain file.
func partsOf(t *testing.T, path string) (out [][]byte) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for len(b) > 0 {
		n := 4 + binary.LittleEndian.Uint32(b)
		out, b = append(out, b[4:n]), b[n:]
	}
	return out
}

// count decodes chunks and counts the values of a signal.
func count(t *testing.T, d *wire.Decoder, parts [][]byte, signal uint32) (n int) {
	t.Helper()
	for _, p := range parts {
		_, err := d.Columns(p, func(c *wire.Column) {
			if c.Signal == signal {
				n += len(c.Times)
			}
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return n
}

// floorDay are the bytes of a value where each signal's day is one batch and
// nothing is kept beside it: one signal of each of the set's kinds, whose day
// does not repeat an hour.
func floorDay(t *testing.T, e *wire.Encoder) float64 {
	t.Helper()
	bytes, n := 0, 0
	for id, s := range synthetic(10, 24*3600) {
		sealed, err := e.Seal(s.batch(uint32(id)))
		if err != nil {
			t.Fatal(err)
		}
		bytes, n = bytes+len(sealed), n+len(s.times)
	}
	return float64(bytes) / float64(n)
}

// batch has all readings of a signal.
func (s *signal) batch(id uint32) *mesh.Batch {
	w := window{types: slices.Repeat([]mesh.Type{s.typ}, int(id)+1), ids: slices.Repeat([]uint32{id}, len(s.times)), times: s.times, bits: s.bits}
	b := w.batch(nil, 0)
	return &b
}

// floorCompact is how many million values a second are decoded as they came and
// encoded as they stay, an hour of a signal a batch, with nothing in between and
// no store.
func floorCompact(t *testing.T, set []signal, all []window) float64 {
	t.Helper()
	e, d := codec(t)
	values := 0
	var sealed [][]byte
	var samples []mesh.Sample
	for i := range all {
		b := all[i].batch(samples, 0)
		samples = b.Samples
		s, err := e.Seal(&b)
		if err != nil {
			t.Fatal(err)
		}
		sealed, values = append(sealed, s), values+len(b.Samples)
	}
	decode := best(func() {
		for _, s := range sealed {
			if _, err := d.Columns(s, func(*wire.Column) {}); err != nil {
				t.Fatal(err)
			}
		}
	})
	encode := 0.0
	for id := range set {
		encode += arriving(t, []mesh.Batch{*set[id].batch(uint32(id))}, func(b *mesh.Batch) {
			if _, err := e.Seal(b); err != nil {
				t.Fatal(err)
			}
		})
	}
	return float64(values) / 1e6 / (decode + encode)
}
