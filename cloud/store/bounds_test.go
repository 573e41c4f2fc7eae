package store

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"runtime"
	"strings"
	"testing"

	"plantmesh/proto/mesh"
	"plantmesh/proto/wire"
)

// A text that many samples have is one text, in a pass and in what it makes.
func TestCompact_OneTextOfManySamples(t *testing.T) {
	sc := newScene(t, 1)
	text := mesh.Text(strings.Repeat("x", 60<<10))
	var b mesh.Batch
	for i := range 8192 {
		b.Samples = append(b.Samples, mesh.Sample{Signal: uint32(i % 2 * i), Time: noon + mesh.Nanos(i), Value: text})
	}
	sc.put(b, nil)
	want := len(sc.history("a", mesh.Span{From: noon, To: noon + 100}))
	var before, in runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	sc.s.halt = func(at string) error {
		if at != "read" {
			return nil
		}
		runtime.GC()
		runtime.ReadMemStats(&in)
		return errBroken
	}
	if _, err := sc.s.Compact(t.Context(), Pass{Through: sc.end, Now: sc.now}); !errors.Is(err, errBroken) {
		t.Fatal(err)
	}
	if live := int64(in.HeapAlloc) - int64(before.HeapAlloc); live > 64<<20 {
		t.Errorf("one batch takes %d MiB in a pass", live>>20)
	}
	sc.s.halt = nil
	if done := sc.compact(sc.end, 0); done.Samples != 8192 || done.Chunks > 10 {
		t.Errorf("%+v", done)
	}
	if got := len(sc.history("a", mesh.Span{From: noon, To: noon + 100})); got != want {
		t.Errorf("%d samples, want %d", got, want)
	}
}

// A pass ends early where what samples have beside them is much.
func TestCompact_EndsEarlyByTexts(t *testing.T) {
	sc := newScene(t, 1)
	for i := range 4 {
		var b mesh.Batch
		for k := range 500 {
			b.Samples = append(b.Samples, mesh.Sample{Signal: 1, Time: noon + mesh.Nanos(500*i+k), Value: mesh.Text(strings.Repeat(fmt.Sprintf("%07d,", 500*i+k), 7500))})
		}
		sc.put(b, nil)
	}
	if done := sc.compact(sc.end, 0); done.Batches >= 4 || !done.More {
		t.Errorf("%+v", done)
	}
	for sc.compact(sc.end, 0).More {
	}
	sc.mustHaveNothingElse()
}

// Two batches, each with nearly as many marks as a verdict may have, or as long
// names of rules.
func TestCompact_MarksBeyondWhatAVerdictHolds(t *testing.T) {
	for name, n := range map[string]int{"r": 100_000, strings.Repeat("r", 900): 6000} {
		sc := newScene(t, 1)
		for i := range 2 {
			v := &mesh.Verdict{Revision: 1, Rules: mesh.Hash{9}}
			for k := range n {
				v.Marks = append(v.Marks, mesh.Mark{Rule: fmt.Sprint(name, k%7), Action: mesh.ActionAnnotate})
			}
			sc.put(mesh.Batch{Samples: []mesh.Sample{{Signal: 1, Time: noon + mesh.Nanos(i), Value: mesh.Int(1)}}}, v)
		}
		want := sc.history("a", ever())
		if done := sc.compact(sc.end, 0); done.Batches < 2 {
			t.Errorf("%+v", done)
		}
		if got := sc.history("a", ever()); !maps.Equal(got, want) {
			t.Errorf("%d samples differ from %d", len(got), len(want))
		}
	}
}

// The last instant there is has none behind it.
func TestCompact_AStampAtTheEndOfTimeHidesNothing(t *testing.T) {
	sc := newScene(t, 1)
	far := noon + 400*mesh.Nanos(dayNanos)
	sc.put(mesh.Batch{Samples: []mesh.Sample{{Signal: 1, Time: far, Value: mesh.Int(1)}}}, nil)
	sc.put(mesh.Batch{Samples: []mesh.Sample{{Signal: 2, Time: math.MaxInt64, Value: mesh.Int(2)}}}, nil)
	span := mesh.Span{From: far, To: far + 1}
	want := sc.history("a", span)
	if done := sc.compact(sc.end, 0); done.Samples != 2 {
		t.Errorf("%+v", done)
	}
	if got := sc.history("a", span); !maps.Equal(got, want) || len(want) != 1 {
		t.Fatalf("%d samples, want %d", len(got), len(want))
	}
}

// Any difference in a field is one of the fingerprints, also in their highest
// bits, and a field is not another.
func TestFingerprint_SeesEveryField(t *testing.T) {
	seen := map[uint64]string{}
	add := func(name string, change func(s *mesh.Sample)) {
		for _, at := range []mesh.Nanos{0, noon, mix1, -1 << 63} {
			s := mesh.Sample{Time: at}
			change(&s)
			c := &wire.Column{Times: []mesh.Nanos{s.Time}, Bits: []uint64{s.Value.Bits}, Type: s.Value.Type, Seq: []uint64{s.Seq}, Status: []mesh.Status{s.Status}, Flags: []uint32{s.Flags}}
			c.Clocks = [clocks][]mesh.Nanos{{s.Source}, {s.Server}, {s.Agent}}
			if s.Value.Type.OnHeap() {
				c.Texts = [][]byte{s.Value.Bytes}
			}
			var p printer
			print, what := p.fingerprint(c, 0), fmt.Sprint(name, " at ", int64(at))
			if was, has := seen[print]; has {
				t.Errorf("%s has the fingerprint of %s", what, was)
			}
			seen[print] = what
			if c.Seq[0] == 0 && c.Status[0] == 0 && c.Flags[0] == 0 {
				c.Seq, c.Status, c.Flags = nil, nil, nil
			}
			if p.prints(c) != print {
				t.Errorf("%s: the sum over one sample is another", what)
			}
		}
	}
	add("nothing", func(*mesh.Sample) {})
	for bit := range 64 {
		x := uint64(1) << bit
		add(fmt.Sprint("value, bit ", bit), func(s *mesh.Sample) { s.Value = mesh.Int(int64(x)) })
		add(fmt.Sprint("source, bit ", bit), func(s *mesh.Sample) { s.Source = mesh.Nanos(x) })
		add(fmt.Sprint("server, bit ", bit), func(s *mesh.Sample) { s.Server = mesh.Nanos(x) })
		add(fmt.Sprint("agent, bit ", bit), func(s *mesh.Sample) { s.Agent = mesh.Nanos(x) })
		add(fmt.Sprint("seq, bit ", bit), func(s *mesh.Sample) { s.Seq = x })
		if bit < 32 {
			add(fmt.Sprint("status, bit ", bit), func(s *mesh.Sample) { s.Status = mesh.Status(x) })
			add(fmt.Sprint("flag, bit ", bit), func(s *mesh.Sample) { s.Flags = uint32(x) })
		}
	}
	for typ := mesh.TypeBool; typ <= mesh.TypeEvent; typ++ {
		add(typ.String(), func(s *mesh.Sample) { s.Value.Type = typ })
	}
	add("text", func(s *mesh.Sample) { s.Value = mesh.Text("a") })
}
