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

// signal is one tag and its readings, by time.
type signal []mesh.Sample

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
			out[i] = append(out[i], mesh.Sample{Signal: uint32(i), Time: at, Source: at, Value: next(s)})
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
				out[first+c] = append(out[first+c], mesh.Sample{Signal: uint32(first + c), Time: mesh.NanosOf(at), Source: mesh.NanosOf(at), Value: mesh.Double(v)})
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

// windows cuts signals into batches of so many seconds, each signal from its
// own start, samples in order of time as they arrive.
func windows(signals []signal, seconds int) (out []mesh.Batch) {
	wide := mesh.Nanos(seconds) * 1e9
	done := make([]int, len(signals))
	for k := mesh.Nanos(0); ; k++ {
		b := mesh.Batch{Source: "line1-opcua", Table: table().Hash()}
		for i, s := range signals {
			end := s[0].Time/1e9*1e9 + (k+1)*wide
			for ; done[i] < len(s) && s[done[i]].Time < end; done[i]++ {
				b.Samples = append(b.Samples, s[done[i]])
			}
		}
		if len(b.Samples) == 0 {
			return out
		}
		slices.SortStableFunc(b.Samples, func(x, y mesh.Sample) int { return cmp.Compare(x.Time, y.Time) })
		b.Proven = mesh.Span{From: b.Samples[0].Time, To: b.Samples[0].Time + wide}
		b.Complete = b.Proven.To
		out = append(out, b)
	}
}
