package opcua

import (
	"log/slog"
	"math/rand/v2"
	"reflect"
	"testing"

	"plantmesh/edge/source/opcua/publish"
	"plantmesh/proto/mesh"
	"plantmesh/proto/strict"
)

// TestNumbers_AsValueTakesThem: what is taken on the short way is what the long one
// makes of it, of every built-in type, with stamps that are there, lie ahead or are
// none, statuses, and signals whose first value or meaning is looked at.
func TestNumbers_AsValueTakesThem(t *testing.T) {
	types := []mesh.Type{mesh.TypeBool, mesh.TypeInt, mesh.TypeUint, mesh.TypeDouble, mesh.TypeString}
	reader := func() *Reader {
		cfg := Config{ID: "s1", Endpoint: "opc.tcp://localhost:4840", Security: Security{Insecure: true}}
		for i := range 20 {
			s := Signal{Name: "s" + string(rune('a'+i)), Node: "ns=1;i=" + string(rune('1'+i%9)) + string(rune('0'+i/9)), Type: types[i%len(types)].String()}
			switch i {
			case 8:
				s.MaxSilence = strict.Duration(1e9)
			case 13:
				s.Deadband = "0.5"
			}
			cfg.Signals = append(cfg.Signals, s)
		}
		r, err := New(cfg, func() mesh.Nanos { return noon }, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		if err := r.restore(nil); err != nil {
			t.Fatal(err)
		}
		r.drifts[3], r.initial[2], r.initial[4] = true, true, true
		r.sieves()
		return r
	}
	short, long, counted, quick := reader(), reader(), reader(), 0
	fits := []byte{publish.TypeBoolean, publish.TypeInt32, publish.TypeUInt16, publish.TypeFloat, publish.TypeString}
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		values := make([]publish.Value, rnd.IntN(8))
		for k := range values {
			at := (int64(noon)/100 + 116_444_736_000_000_000) + rnd.Int64N(1e9)
			v := publish.Value{Handle: uint32(rnd.IntN(20)), Type: byte(rnd.IntN(12)), Source: at, Server: at, Bits: uint64(rnd.IntN(2))}
			if rnd.IntN(3) > 0 {
				v.Type = fits[v.Handle%uint32(len(fits))]
			}
			switch rnd.IntN(24) {
			case 0:
				v.Status = 0x80310000
			case 1:
				v.Source = 0
			case 2:
				v.Source += 4e9 // 400 s ahead
			case 3:
				v.Server = 0
			case 4:
				v.Server += 7
			case 5:
				v.Type = byte(rnd.IntN(26))
				if v.Type > publish.TypeDouble {
					v.Bits = 0
				}
			case 6:
				v.Status = 0x480
			}
			values[k] = v
		}
		for k := range values {
			if err := long.value(&values[k], noon); err != nil {
				t.Fatal(err)
			}
		}
		quick += counted.numbers(values, noon)
		counted.sealer.Open().Reset()
		if err := short.values(values, noon); err != nil {
			t.Fatal(err)
		}
		got, want := short.sealer.Open().Samples(), long.sealer.Open().Samples()
		if !reflect.DeepEqual(got, want) || !reflect.DeepEqual(short.last, long.last) {
			t.Fatalf("%+v\ngave  %+v\nwants %+v", values, got, want)
		}
		short.sealer.Open().Reset()
		long.sealer.Open().Reset()
	}
	if quick < 500 {
		t.Errorf("only %d values went the short way", quick)
	}
}
