package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
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
func TestCompact_EndsEarlyByTextsAndMarks(t *testing.T) {
	for name, say := range map[string]func(sc *scene, i int){
		"texts": func(sc *scene, i int) {
			sc.put(mesh.Batch{Samples: []mesh.Sample{{Signal: 1, Time: noon + mesh.Nanos(i), Value: mesh.Text(strings.Repeat("x", 60<<10))}}}, nil)
		},
		"marks": func(sc *scene, i int) {
			sc.put(mesh.Batch{Samples: []mesh.Sample{{Signal: 1, Time: noon + mesh.Nanos(i), Value: mesh.Int(1)}}}, marks(60, strings.Repeat("r", 950)))
		},
	} {
		sc := newScene(t, 1)
		for i := range 12 {
			say(sc, i)
		}
		for i, want := range []int{9, 3} { // of some 60 KB each
			done, err := sc.s.Compact(t.Context(), Pass{Through: sc.end, Now: sc.now, beside: 512 << 10})
			if err != nil || done.Batches != want || done.More != (i == 0) {
				t.Errorf("%s: %+v %v", name, done, err)
			}
		}
		sc.mustHaveNothingElse()
	}
}

// marks are n on the first sample, of rules whose names begin alike.
func marks(n int, name string) *mesh.Verdict {
	v := &mesh.Verdict{Revision: 1, Rules: mesh.Hash{9}}
	for k := range n {
		v.Marks = append(v.Marks, mesh.Mark{Rule: fmt.Sprint(name, k), Action: mesh.ActionAnnotate})
	}
	return v
}

// One text more than may be kept, and more marks than a verdict holds: no pass
// fails of it, what is kept can be read, and what needs less room is there.
func TestNewest_LeavesOutWhatIsTooMuch(t *testing.T) {
	if testing.Short() {
		t.Skip("skipped: tens of thousands of marks, and no goroutine; it runs without -short")
	}
	for name, say := range map[string]func(sc *scene, i int){
		"texts": func(sc *scene, i int) {
			var b mesh.Batch
			for k := range 60 {
				b.Samples = append(b.Samples, mesh.Sample{Signal: uint32(100 + 60*i + k), Time: noon + mesh.Nanos(i), Value: mesh.Text(strings.Repeat(fmt.Sprintf("%07d,", i*1000+k), 8000))})
			}
			sc.put(b, nil)
		},
		"marks": func(sc *scene, i int) {
			sc.put(mesh.Batch{Samples: []mesh.Sample{{Signal: uint32(100 + i), Time: noon, Value: mesh.Int(1)}}}, marks(50_000, "r"))
		},
	} {
		sc := newScene(t, 1)
		for i := range 3 {
			say(sc, i)
			sc.compact(sc.end, 0)
		}
		sc.put(mesh.Batch{Samples: []mesh.Sample{{Signal: 1, Time: noon, Value: mesh.Int(7)}}}, nil)
		sc.compact(sc.end, 0)
		sc.reopen()
		got, err := sc.s.Newest(t.Context(), "a", sc.now)
		if err != nil || len(got) != 1 || got[0].Sample.Value.Bits != 7 {
			t.Errorf("%s: %v %v", name, got, err)
		}
	}
}

// A sample that came twice has its marks in one order, whichever came first.
func TestNewest_MarksOfASampleThatCameTwice(t *testing.T) {
	for _, names := range [][]string{{"b", "a"}, {"a", "b"}} {
		sc := newScene(t, 1)
		for i, name := range names {
			x := mesh.Sample{Signal: 1, Time: noon, Value: mesh.Int(1)}
			sc.put(mesh.Batch{Samples: []mesh.Sample{x}}, marks(1, name))
			if i == 0 {
				sc.compact(sc.end, 0)
			}
		}
		for range 2 {
			got, err := sc.s.Newest(t.Context(), "a", sc.now)
			if err != nil || len(got) != 1 || len(got[0].Marks) != 2 || got[0].Marks[0].Rule != "a0" || got[0].Marks[1].Rule != "b0" {
				t.Errorf("%v: %v %v", names, got, err)
			}
			sc.compact(sc.end, 0)
			sc.reopen()
		}
	}
}

// Two batches, each with nearly as many marks as a verdict may have, or as long
// names of rules.
func TestCompact_MarksBeyondWhatAVerdictHolds(t *testing.T) {
	if testing.Short() {
		t.Skip("skipped: tens of thousands of marks, and no goroutine; it runs without -short")
	}
	for name, n := range map[string]int{"r": 70_000, strings.Repeat("r", 900): 3000} {
		sc := newScene(t, 1)
		for i := range 2 {
			sc.put(mesh.Batch{Samples: []mesh.Sample{{Signal: 1, Time: noon + mesh.Nanos(i), Value: mesh.Int(1)}}}, marks(n, name))
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

// A batch whose table can't be read is damaged for products: it stays so.
func TestCompact_ABatchOfNoTableStays(t *testing.T) {
	sc := newScene(t, 1)
	d := mesh.Descriptor{Kind: mesh.DescribeSite, Content: []byte("no table")}
	if _, err := sc.s.Take(t.Context(), mesh.Take{After: sc.end, Descriptors: []mesh.Descriptor{d}}); err != nil {
		t.Fatal(err)
	}
	for _, table := range []mesh.Hash{d.Hash(), {1}, {}} {
		sc.put(mesh.Batch{Source: "a", Table: table, Samples: []mesh.Sample{{Signal: 1, Time: noon, Value: mesh.Int(1)}}}, nil)
	}
	if done := sc.compact(sc.end, 0); done.Batches != 1 || done.Damaged != 2 {
		t.Errorf("%+v", done)
	}
}

// A batch with samples outside the times of its header stays: as a chunk it would
// show what it hides.
func TestCompact_ABatchThatLiesAboutItsTimesStays(t *testing.T) {
	sc := newScene(t, 1)
	hour := mesh.Nanos(3600e9)
	sealed, err := sc.m.enc.Seal(&mesh.Batch{Source: "a", Table: sc.tables[0], Samples: []mesh.Sample{{Time: noon, Value: mesh.Int(1)}, {Time: noon + hour, Value: mesh.Int(2)}}})
	if err != nil {
		t.Fatal(err)
	}
	sc.end = take(t, sc.s, sc.end, sc.m, sc.m.entry(short(sealed)))
	span := mesh.Span{From: noon + hour, To: noon + hour + 1}
	want := sc.history("a", span)
	if done := sc.compact(sc.end, 0); done.Batches != 0 || done.Damaged != 1 {
		t.Errorf("%+v", done)
	}
	if got := sc.history("a", span); !maps.Equal(got, want) {
		t.Errorf("%d samples, want %d", len(got), len(want))
	}
}

// short makes the header of sealed bytes say that all is of one instant.
func short(sealed []byte) []byte {
	n := int(binary.LittleEndian.Uint32(sealed[1:]))
	at := 6 // behind the packing
	number := func() (x uint64) {
		x, n := binary.Uvarint(sealed[at:])
		at += n
		return x
	}
	number() // two lengths, and the source
	number()
	at += int(number())
	for range 4 { // proven, complete, and where the times begin
		number()
	}
	from := at
	number()
	head := append(binary.AppendVarint(append([]byte{}, sealed[5:from]...), 1), sealed[at:5+n]...)
	out := append(binary.LittleEndian.AppendUint32([]byte{sealed[0]}, uint32(len(head))), head...)
	out = append(out, sealed[5+n:len(sealed)-4]...)
	return binary.LittleEndian.AppendUint32(out, crc32.Checksum(out, crc32.MakeTable(crc32.Castagnoli)))
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
			number, what := p.fingerprint(c, 0), fmt.Sprint(name, " at ", int64(at))
			if was, has := seen[number]; has {
				t.Errorf("%s has the fingerprint of %s", what, was)
			}
			seen[number] = what
			if c.Seq[0] == 0 && c.Status[0] == 0 && c.Flags[0] == 0 {
				c.Seq, c.Status, c.Flags = nil, nil, nil
			}
			if p.prints(c) != number {
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

// A read of the history that is larger than it may be is refused, and gives the
// same as one without a bound where it isn't: batches, chunks, or both.
func TestHistoryWithin_IsBounded(t *testing.T) {
	sc := newScene(t, 3)
	sc.say("a", 40)
	half := sc.end
	sc.say("a", 40)
	for _, what := range []string{"batches", "both", "chunks"} {
		switch what {
		case "both":
			sc.compact(half, 0)
		case "chunks":
			sc.compact(sc.end, 0)
		}
		want, err := sc.s.History(t.Context(), "a", ever())
		if err != nil || len(want) == 0 {
			t.Fatal(len(want), err)
		}
		all := bytesOf(want)
		for _, most := range []int64{0, all, all + 1} {
			if got, err := sc.s.HistoryWithin(t.Context(), "a", ever(), most); err != nil || len(got) != len(want) {
				t.Errorf("%s of %d bytes within %d: %d, %v", what, all, most, len(got), err)
			}
		}
		for _, most := range []int64{1, all / 2, all - 1} {
			if got, err := sc.s.HistoryWithin(t.Context(), "a", ever(), most); !errors.Is(err, mesh.ErrLarge) {
				t.Errorf("%s of %d bytes within %d: %d, %v", what, all, most, len(got), err)
			}
		}
	}
}
