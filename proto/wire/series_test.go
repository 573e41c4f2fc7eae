package wire

import (
	"math"
	"testing"

	"pgregory.net/rapid"

	"plantmesh/proto/mesh"
)

// A kind of series as machines give them; i counts the samples of one signal.
type series func(i int, noise float64) mesh.Value

func kindsOfSeries() map[string]series {
	return map[string]series{
		"decimal": func(i int, n float64) mesh.Value {
			return mesh.Double(math.Round((20+math.Sin(float64(i)/50)+n)*100) / 100)
		},
		"negative":       func(i int, n float64) mesh.Value { return mesh.Double(math.Round((-n*40+float64(i))*10) / 10) },
		"single decimal": func(_ int, n float64) mesh.Value { return mesh.Double(float64(float32(math.Round((70+n)*10) / 10))) },
		"single":         func(_ int, n float64) mesh.Value { return mesh.Double(float64(float32(70 + n))) },
		"double":         func(_ int, n float64) mesh.Value { return mesh.Double(1000 * n) },
		"few steps":      func(_ int, n float64) mesh.Value { return mesh.Double(math.Round(n*2) * 0.327927) },
		"broken": func(i int, n float64) mesh.Value {
			return mesh.Double([]float64{n, math.NaN(), math.Inf(-1), math.Copysign(0, -1)}[i%4])
		},
		"strange NaN": func(i int, _ float64) mesh.Value {
			return mesh.Value{Type: mesh.TypeDouble, Bits: 0x7FF8_0000_0000_0001 + uint64(i)}
		},
		"counter":  func(i int, _ float64) mesh.Value { return mesh.Int(int64(i) + 1<<31 - 40) },
		"wrapping": func(i int, _ float64) mesh.Value { return mesh.Int(int64(int32(math.MaxInt32 - 40 + i))) },
		"unsigned": func(i int, _ float64) mesh.Value { return mesh.Uint(math.MaxUint64 - uint64(i%3)) },
		"state":    func(i int, _ float64) mesh.Value { return mesh.Int([]int64{6, 6, 6, 11, 17}[i/30%5]) },
		"switch":   func(i int, _ float64) mesh.Value { return mesh.Bool(i/7%2 == 0) },
		"order":    func(i int, _ float64) mesh.Value { return mesh.Text([]string{"PO-4711", "PO-4712", ""}[i/40%3]) },
		"serial": func(i int, _ float64) mesh.Value {
			return mesh.Text("serial " + string(rune('a'+i%26)) + string(rune('a'+i/26%26)))
		},
		"picture": func(i int, _ float64) mesh.Value {
			return mesh.Value{Type: mesh.TypeBytes, Bytes: []byte{0, 255, byte(i)}}
		},
		"array": func(i int, _ float64) mesh.Value {
			a := mesh.Item{Value: mesh.Value{Type: mesh.TypeArray}, Of: mesh.TypeInt, Items: []mesh.Item{{Value: mesh.Int(int64(i))}, {Value: mesh.Int(-1)}}}
			return mesh.Value{Type: mesh.TypeArray, Bytes: AppendItem(nil, a)}
		},
		"nothing":    func(int, float64) mesh.Value { return mesh.Value{} },
		"often none": func(i int, n float64) mesh.Value { return []mesh.Value{mesh.Double(n), {}, mesh.Text("bad")}[i%3] },
	}
}

func machines() *rapid.Generator[mesh.Batch] {
	all := kindsOfSeries()
	names := make([]string, 0, len(all))
	for n := range all {
		names = append(names, n)
	}
	return rapid.Custom(func(t *rapid.T) mesh.Batch {
		at := mesh.Nanos(1_772_337_600_123_456_700)
		b := mesh.Batch{Source: "line1", Table: mesh.HashOf([]byte("t")), Proven: mesh.Span{From: at, To: at + 1e10}, Complete: at + 1e10}
		unit := mesh.Nanos(rapid.SampledFrom([]int64{1, 100, 1e3, 1e6, 1e9}).Draw(t, "unit"))
		jitter := rapid.Int64Range(0, 5).Draw(t, "jitter")
		clock := rapid.IntRange(0, 5).Draw(t, "clock")
		for s := range rapid.IntRange(1, 12).Draw(t, "signals") {
			next := all[rapid.SampledFrom(names).Draw(t, "series")]
			phase := mesh.Nanos(rapid.Int64Range(0, 999).Draw(t, "phase"))
			for i := range rapid.SampledFrom([]int{1, 2, 10, 127, 128, 129, 300}).Draw(t, "n") {
				on := at/unit*unit + (phase+mesh.Nanos(1000*i)+mesh.Nanos(rapid.Int64Range(0, jitter).Draw(t, "j")))*unit
				x := mesh.Sample{Signal: uint32(3 * s), Time: on, Source: on, Value: next(i, rapid.Float64Range(0, 1).Draw(t, "noise"))}
				switch clock {
				case 1:
					x.Server = on + 1e6
				case 2:
					x.Server, x.Agent = on+mesh.Nanos(i%3)*100, at/1e9*1e9+mesh.Nanos(i/10)*1e9
				case 3:
					x.Source, x.Agent, x.Flags = 0, on, mesh.FlagAgentTime
				case 4:
					x.Seq, x.Agent = uint64(i)+1, on+mesh.Nanos(i*i)
				}
				if i%17 == 16 {
					x.Status = mesh.StatusUncertainLast
				}
				b.Samples = append(b.Samples, x)
			}
		}
		if rapid.Bool().Draw(t, "mixed") { // as they arrive
			b.Samples = rapid.Permutation(b.Samples).Draw(t, "order")
		}
		return b
	})
}

func TestBatch_OfMachinesIsIdentity(t *testing.T) {
	e, d := codec(t)
	rapid.Check(t, func(t *rapid.T) { identical(t, e, d, machines().Draw(t, "batch")) })
}

// Every kind of series alone, so that one that fails is named.
func TestBatch_OfEachSeriesIsIdentity(t *testing.T) {
	e, d := codec(t)
	for name, next := range kindsOfSeries() {
		t.Run(name, func(t *testing.T) {
			for _, n := range []int{1, 2, 3, 127, 128, 129, 1000} {
				var b mesh.Batch
				for i := range n {
					b.Samples = append(b.Samples, mesh.Sample{Signal: 7, Time: mesh.Nanos(1e18 + i*1e9), Value: next(i, math.Mod(float64(i)*0.6180339, 1))})
				}
				identical(t, e, d, b)
			}
		})
	}
}
