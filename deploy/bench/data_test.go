package bench

import (
	"cmp"
	"encoding/csv"
	"math"
	"math/rand" //nolint:depguard // the peers were measured with the numbers of this generator
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"plantmesh/proto/mesh"
)

// signal is one tag and its readings, by time: 16 bytes each, so that an hour of
// 10,000 fits into memory.
type signal struct {
	typ   mesh.Type
	times []mesh.Nanos
	bits  []uint64
}

func (s *signal) add(at mesh.Nanos, v mesh.Value) {
	s.typ, s.times, s.bits = v.Type, append(s.times, at), append(s.bits, v.Bits)
}

// synthetic are 1000 signals at 1 Hz with a phase of their own and a jitter of
// 3 ms: 60 % noisy, drifting decimals, 10 % each counters, states, switches
// and set-points. It is the set the peers were measured with
// (reference/performance.md §5): the same numbers from the same seed.
func synthetic(signals, seconds int) []signal {
	g := rand.New(rand.NewSource(42))
	start := time.Date(2026, 3, 1, 6, 0, 0, 0, time.UTC).UnixMilli()
	out := make([]signal, signals)
	for i := range out {
		phase := g.Int63n(1000)
		next := values(g, i)
		for s := range seconds {
			at := mesh.Nanos((start + phase + int64(s)*1000 + g.Int63n(7) - 3) * 1e6)
			out[i].add(at, next(s))
		}
	}
	return out
}

func round(x float64, digits int) float64 {
	p := math.Pow10(digits)
	return math.Round(x*p) / p
}

// values gives the values of signal i, second by second.
func values(g *rand.Rand, i int) func(s int) mesh.Value {
	if i%10 < 6 {
		base, drift, noise := 10+g.Float64()*200, 0.0, 0.0
		noise = 0.02 + g.Float64()*0.3
		return func(s int) mesh.Value {
			drift += g.NormFloat64() * 0.01
			return mesh.Double(round(base+drift+2*math.Sin(float64(s)/120+float64(i))+g.NormFloat64()*noise, 2+i%2))
		}
	}
	x := float64(g.Intn(1_000_000))
	return func(s int) mesh.Value {
		switch i % 10 {
		case 6:
			if s == 0 || g.Intn(3) > 0 {
				x += float64(1 + g.Intn(2))
			}
			return mesh.Int(int64(x))
		case 7:
			if s == 0 || g.Intn(60) == 0 {
				x = float64(g.Intn(8))
			}
			return mesh.Int(int64(x))
		case 8:
			if s == 0 || g.Intn(30) == 0 {
				x = float64(g.Intn(2))
			}
			return mesh.Bool(x == 1)
		}
		if s == 0 {
			x = round(x/1000, 1)
		}
		return mesh.Double(x)
	}
}

// skab are the recordings of a water circulation rig: each of 8 sensors of
// each file a signal, its first 600 readings.
func skab(t testing.TB) (out []signal) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(shared(), "data", "skab", "*", "*.csv"))
	if err != nil || len(files) == 0 {
		return nil
	}
	slices.Sort(files)
	for _, name := range files {
		f, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		r := csv.NewReader(f)
		r.Comma, r.FieldsPerRecord = ';', -1
		rows, err := r.ReadAll()
		_ = f.Close()
		if err != nil {
			t.Fatal(err)
		}
		if len(rows) < 200 {
			continue
		}
		first := len(out)
		out = append(out, make([]signal, 8)...)
		for _, row := range rows[1:min(601, len(rows))] {
			at, err := time.Parse(time.DateTime, row[0])
			if err != nil {
				continue
			}
			for c := range 8 {
				v, err := strconv.ParseFloat(row[c+1], 64)
				if err != nil {
					t.Fatal(err)
				}
				out[first+c].add(mesh.NanosOf(at), mesh.Double(v))
			}
		}
	}
	return out
}

// shared is the folder with the recordings.
func shared() string {
	if dir := os.Getenv("PLANTMESH_SHARED"); dir != "" {
		return dir
	}
	return filepath.Join("..", "..", "..", "shared")
}

// table stands for the signal table of all batches.
func table() mesh.Descriptor {
	return mesh.Descriptor{Kind: mesh.DescribeSignals, Content: []byte("signals")}
}

// window is what all signals said in some seconds, in order of time as it
// arrived: 20 bytes a sample, a fifth of mesh.Sample.
type window struct {
	wide  mesh.Nanos
	types []mesh.Type // by signal
	ids   []uint32
	times []mesh.Nanos
	bits  []uint64
}

// batch has the samples, later by some time, in the memory of into.
func (w *window) batch(into []mesh.Sample, by mesh.Nanos) mesh.Batch {
	into = slices.Grow(into[:0], len(w.times))
	for i, t := range w.times {
		id := w.ids[i]
		into = append(into, mesh.Sample{Signal: id, Time: t + by, Source: t + by, Value: mesh.Value{Type: w.types[id], Bits: w.bits[i]}})
	}
	b := mesh.Batch{Source: "line1-opcua", Table: table().Hash(), Samples: into}
	b.Proven = mesh.Span{From: into[0].Time, To: into[0].Time + w.wide}
	b.Complete = b.Proven.To
	return b
}

// cut cuts signals into windows of so many seconds, each signal from its own
// start.
func cut(signals []signal, seconds int) (out []window) {
	wide := mesh.Nanos(seconds) * 1e9
	types, done := make([]mesh.Type, len(signals)), make([]int, len(signals))
	for i := range signals {
		types[i] = signals[i].typ
	}
	type place struct {
		time   mesh.Nanos
		id, at uint32
	}
	var all []place
	for k := mesh.Nanos(0); ; k++ {
		all = all[:0]
		for i := range signals {
			s := &signals[i]
			end := s.times[0]/1e9*1e9 + (k+1)*wide
			for ; done[i] < len(s.times) && s.times[done[i]] < end; done[i]++ {
				all = append(all, place{s.times[done[i]], uint32(i), uint32(done[i])})
			}
		}
		if len(all) == 0 {
			return out
		}
		slices.SortFunc(all, func(x, y place) int {
			return cmp.Or(cmp.Compare(x.time, y.time), cmp.Compare(x.id, y.id), cmp.Compare(x.at, y.at))
		})
		w := window{wide: wide, types: types}
		for _, p := range all {
			w.ids, w.times, w.bits = append(w.ids, p.id), append(w.times, p.time), append(w.bits, signals[p.id].bits[p.at])
		}
		out = append(out, w)
	}
}

// windows are the batches of such windows.
func windows(signals []signal, seconds int) (out []mesh.Batch) {
	for _, w := range cut(signals, seconds) {
		out = append(out, w.batch(nil, 0))
	}
	return out
}
