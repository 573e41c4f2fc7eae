package source

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"plantmesh/proto/mesh"
	"plantmesh/proto/strict"
	"plantmesh/proto/wire"
)

func newSealer(t *testing.T, w Window) *Sealer {
	t.Helper()
	s, err := NewSealer(w, "s1", []mesh.Signal{{ID: 1, Name: "a", Type: mesh.TypeInt}, {ID: 2, Name: "b", Type: mesh.TypeString}})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func at(n int64) mesh.Sample {
	return mesh.Sample{Signal: 1, Time: mesh.Nanos(n), Value: mesh.Int(n)}
}

// seal seals and tells the offer in words: what a reader of the log would see.
func seal(t *testing.T, s *Sealer) string {
	t.Helper()
	o, err := s.Seal([]byte("state"))
	if err != nil {
		t.Fatal(err)
	}
	return tell(t, o)
}

func tell(t *testing.T, o mesh.Offer) string {
	t.Helper()
	var out []string
	for _, b := range o.Sealed {
		h, err := wire.ParseHeader(b)
		if err != nil {
			t.Fatal(err)
		}
		switch h.Kind {
		case mesh.KindBatch:
			out = append(out, fmt.Sprintf("%d in [%d,%d) complete %d", h.Count, h.Proven.From, h.Proven.To, h.Complete))
		case mesh.KindVoid:
			v, err := wire.OpenVoid(b)
			if err != nil {
				t.Fatal(err)
			}
			out = append(out, fmt.Sprintf("void %s [%d,%d)", v.Cause, v.Parts[0].Times.From, v.Parts[0].Times.To))
		case mesh.KindOpening, mesh.KindVerdict, mesh.KindFact:
			t.Fatalf("%s in an offer", h.Kind)
		}
	}
	return strings.Join(out, "; ")
}

func void(c mesh.Cause, from, to mesh.Nanos) mesh.Void {
	return mesh.Void{Cause: c, Parts: []mesh.Part{{Source: "s1", Times: mesh.Span{From: from, To: to}}}}
}

func TestSealer_Claims(t *testing.T) {
	for _, c := range []struct {
		name string
		do   func(s *Sealer)
		want string
	}{
		{"samples without a proof claim nothing", func(s *Sealer) { s.Add(at(5)); s.Prove(9) }, "1 in [0,0) complete 0"},
		{"a fresh proof", func(s *Sealer) { s.Begin(10); s.Add(at(5)); s.Prove(20); s.Prove(15); s.Prove(30) }, "1 in [10,30) complete 30"},
		{"silence is proven too", func(s *Sealer) { s.Begin(10); s.Prove(20) }, "0 in [10,20) complete 20"},
		{"a resumed proof", func(s *Sealer) { s.Resume(10); s.Add(at(11)); s.Prove(20) }, "1 in [10,20) complete 20"},
		{"nothing to resume", func(s *Sealer) { s.Resume(0); s.Add(at(11)); s.Prove(20) }, "1 in [0,0) complete 0"},
		{"a break inside one commit", func(s *Sealer) {
			s.Begin(10)
			s.Add(at(11))
			s.Prove(20)
			s.Void(void(mesh.CauseDisconnected, 20, 40))
			s.Begin(40)
			s.Add(at(35))
			s.Add(at(36))
			s.Prove(50)
		}, "1 in [10,20) complete 20; 2 in [40,50) complete 50; void disconnected [20,40)"},
		{"a fresh proof never goes back", func(s *Sealer) { s.Resume(30); s.Begin(20); s.Prove(40) }, "0 in [30,40) complete 40"},
		{"a void behind the proof stands after it", func(s *Sealer) {
			s.Begin(10)
			s.Prove(30)
			s.Void(void(mesh.CauseOverflow, 15, 20))
		}, "0 in [10,30) complete 30; void overflow [15,20)"},
		{"a void beyond the proof is never claimed", func(s *Sealer) {
			s.Begin(10)
			s.Void(void(mesh.CauseOverflow, 15, 20))
			s.Prove(18)
			s.Prove(30)
		}, "0 in [10,15) complete 15; 0 in [20,30) complete 30; void overflow [15,20)"},
		{"two voids that touch", func(s *Sealer) {
			s.Begin(10)
			s.Void(void(mesh.CauseOverflow, 20, 30))
			s.Void(void(mesh.CauseOverflow, 15, 20))
			s.Prove(40)
		}, "0 in [10,15) complete 15; 0 in [30,40) complete 40; void overflow [20,30); void overflow [15,20)"},
		{"a void without a length takes nothing", func(s *Sealer) { s.Begin(10); s.Void(void(mesh.CauseUnreadable, 15, 15)); s.Prove(40) }, "0 in [10,40) complete 40; void unreadable [15,15)"},
		{"unheard may be claimed later", func(s *Sealer) { s.Begin(10); s.Prove(20); s.Unheard(40, "why") }, "0 in [10,20) complete 20; void disconnected [20,40)"},
		{"unheard where nothing was proven", func(s *Sealer) { s.Unheard(40, "why") }, ""},
		{"unheard by a clock behind the proof", func(s *Sealer) { s.Begin(10); s.Prove(50); s.Unheard(40, "why") }, "0 in [10,50) complete 50"},
		{"nothing at all", func(*Sealer) {}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSealer(t, Window{})
			c.do(s)
			if got := seal(t, s); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}

func TestSealer_CommitsFollowEachOther(t *testing.T) {
	s := newSealer(t, Window{})
	s.Begin(10)
	s.Prove(20)
	for i, want := range []string{"0 in [10,20) complete 20", "1 in [20,20) complete 20", "0 in [20,25) complete 25", ""} {
		switch i {
		case 1:
			s.Add(at(21))
		case 2:
			s.Prove(25)
		}
		if got := seal(t, s); got != want {
			t.Errorf("commit %d: got %q, want %q", i, got, want)
		}
	}
	if s.Proof() != 25 || s.Len() != 0 {
		t.Errorf("proof %d, len %d after the last commit", s.Proof(), s.Len())
	}
}

func TestSealer_HolesSurviveARestart(t *testing.T) {
	s := newSealer(t, Window{})
	s.Begin(10)
	s.Prove(12)
	s.Void(void(mesh.CauseOverflow, 11, 20))
	seal(t, s)
	again := newSealer(t, Window{})
	again.Resume(s.Proof(), s.Holes()...)
	again.Prove(30)
	if got, want := seal(t, again), "0 in [20,30) complete 30"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestSealer_BeginIsKeptAsProof(t *testing.T) {
	s := newSealer(t, Window{})
	s.Resume(10)
	s.Begin(50)
	s.Add(at(51))
	seal(t, s)
	again := newSealer(t, Window{})
	again.Resume(s.Proof())
	again.Prove(60)
	if got, want := seal(t, again), "0 in [50,60) complete 60"; got != want {
		t.Errorf("got %q, want %q: what Begin gave up must stay given up", got, want)
	}
}

func TestSealer_Due(t *testing.T) {
	start := time.Unix(1000, 0)
	for _, c := range []struct {
		name  string
		do    func(s *Sealer)
		after time.Duration
		want  bool
	}{
		{"nothing waits", func(*Sealer) {}, time.Hour, false},
		{"too early", func(s *Sealer) { s.Add(at(1)) }, 999 * time.Millisecond, false},
		{"latency", func(s *Sealer) { s.Add(at(1)) }, time.Second, true},
		{"a proof alone has a latency too", func(s *Sealer) { s.Begin(1); s.Prove(2) }, time.Second, true},
		{"count", func(s *Sealer) { s.Add(at(1)); s.Add(at(2)); s.Add(at(3)) }, 0, true},
		{"bytes", func(s *Sealer) {
			s.Add(mesh.Sample{Signal: 2, Value: mesh.Text(strings.Repeat("x", 1<<10))})
		}, 0, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSealer(t, Window{Bytes: 1 << 10, MaxSamples: 3})
			c.do(s)
			s.Due(start)
			if got := s.Due(start.Add(c.after)); got != c.want {
				t.Errorf("Due = %v, want %v", got, c.want)
			}
		})
	}
}

func TestSealer_LargeCommitIsSplitAndOnlyTheLastClaims(t *testing.T) {
	s := newSealer(t, Window{Bytes: 16 << 20})
	rnd := rand.New(rand.NewPCG(1, 2))
	const n = 100
	for i := range n {
		text := make([]byte, 30<<10)
		for j := range text {
			text[j] = byte(rnd.Uint32())
		}
		s.Add(mesh.Sample{Signal: 2, Time: mesh.Nanos(i), Value: mesh.Value{Type: mesh.TypeBytes, Bytes: text}})
	}
	s.Begin(1)
	s.Prove(200)
	o, err := s.Seal(nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(o.Sealed) < 5 {
		t.Fatalf("%d records for 3 MB", len(o.Sealed))
	}
	total := uint32(0)
	for i, b := range o.Sealed {
		h, err := wire.ParseHeader(b)
		if err != nil {
			t.Fatal(err)
		}
		if len(b) > maxSealed {
			t.Errorf("record %d has %d bytes", i, len(b))
		}
		if last := i == len(o.Sealed)-1; last == h.Proven.Empty() {
			t.Errorf("record %d of %d claims %v", i, len(o.Sealed), h.Proven)
		}
		total += h.Count
	}
	if total != n {
		t.Errorf("%d samples of %d", total, n)
	}
}

func TestSealer_NoteOfADevice(t *testing.T) {
	s := newSealer(t, Window{})
	s.Void(mesh.Void{Cause: mesh.CauseUnreadable, Note: "\xff\xfe" + strings.Repeat("ü", 4000)})
	if _, err := s.Seal(nil); err != nil {
		t.Fatal(err)
	}
}

func TestWindow_Validate(t *testing.T) {
	for _, c := range []struct {
		w  Window
		ok bool
	}{
		{Window{}, true},
		{Window{Bytes: 64 << 10, Latency: strict.Duration(4 * time.Second)}, true},
		{Window{Bytes: 10}, false},
		{Window{Latency: strict.Duration(time.Hour)}, false},
		{Window{MaxSamples: -1}, false},
		{Window{Profile: ProfileFlash}, true},
		{Window{Profile: "fast"}, false},
	} {
		if err := c.w.Validate(); (err == nil) != c.ok {
			t.Errorf("%+v: %v", c.w, err)
		}
	}
	if _, err := NewSealer(Window{}, "s", []mesh.Signal{{ID: 1, Name: "a"}, {ID: 1, Name: "b"}}); err == nil {
		t.Error("two signals with one id were taken")
	}
}

func TestWindow_SuitsManySignals(t *testing.T) {
	for _, c := range []struct {
		said    Window
		signals int
		samples int
		bytes   strict.Size
	}{
		{Window{}, 12, 20_000, 512 << 10},
		{Window{}, 5_000, 60_000, 60_000 * sampleBytes},
		{Window{}, 60_000, wire.MaxSamples, wire.MaxSamples * sampleBytes},
		{Window{MaxSamples: 100, Bytes: 2048}, 5_000, 100, 2048},
	} {
		w := c.said
		w.Suit(c.signals)
		if err := w.Validate(); err != nil || w.MaxSamples != c.samples || w.Bytes != c.bytes {
			t.Errorf("%d signals, said %+v: %d samples, %d bytes, %v", c.signals, c.said, w.MaxSamples, w.Bytes, err)
		}
	}
}

func TestWindow_WhatIsSaidBeatsTheProfile(t *testing.T) {
	two := strict.Duration(2 * time.Second)
	for _, c := range []struct {
		source, agent Window
		want          time.Duration
	}{
		{Window{}, Window{}, time.Second},
		{Window{Profile: ProfileFlash}, Window{}, 4 * time.Second},
		{Window{}, Window{Profile: ProfileFlash}, 4 * time.Second},
		{Window{Profile: ProfileLatency}, Window{Profile: ProfileFlash}, time.Second},
		{Window{Profile: ProfileFlash, Latency: two}, Window{}, 2 * time.Second},
		{Window{Profile: ProfileFlash}, Window{Latency: two}, 4 * time.Second},
		{Window{}, Window{Profile: ProfileFlash, Latency: two}, 2 * time.Second},
	} {
		if err := c.agent.Validate(); err != nil {
			t.Fatal(err)
		}
		w := c.source
		w.Default(c.agent)
		if err := w.Validate(); err != nil || time.Duration(w.Latency) != c.want {
			t.Errorf("%+v in %+v waits %s, want %s; %v", c.source, c.agent, time.Duration(w.Latency), c.want, err)
		}
	}
}

func TestSealer_UnheardIsClaimedBehindTheVoid(t *testing.T) {
	s := newSealer(t, Window{})
	s.Begin(10)
	s.Prove(20)
	s.Unheard(40, "gone")
	first := seal(t, s)
	if len(s.Holes()) != 0 {
		t.Errorf("holes %v", s.Holes())
	}
	s.Prove(60)
	if got, want := first+" | "+seal(t, s), "0 in [10,20) complete 20; void disconnected [20,40) | 0 in [20,60) complete 60"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestSealer_HolesAreBounded(t *testing.T) {
	s := newSealer(t, Window{})
	s.Begin(10)
	var all []mesh.Span
	for i := range mesh.Nanos(20_000) {
		h := mesh.Span{From: 1000 + 10*i, To: 1001 + 10*i}
		s.Void(mesh.Void{Cause: mesh.CauseUnreadable, Parts: []mesh.Part{{Source: "s1", Times: h}}})
		all = append(all, h)
	}
	holes := s.Holes()
	if n := len(holes); n != maxHoles || holes[0] != all[0] || holes[n-1].To != all[len(all)-1].To {
		t.Errorf("%d holes, first %v, last %v", n, holes[0], holes[n-1])
	}
	s = newSealer(t, Window{})
	s.Resume(10, all...) // as an older version left them
	if n := len(s.Holes()); n != maxHoles {
		t.Errorf("%d holes after a restart", n)
	}
}

// What was said under one table stays under it, whatever the next one is, and
// the offer brings both.
func TestSealer_ATableIsChangedBetweenSamples(t *testing.T) {
	s := newSealer(t, Window{})
	old := s.table.hash
	s.Begin(10)
	s.Add(at(11))
	s.Prove(20)
	if err := s.Retable([]mesh.Signal{{ID: 1, Name: "a"}, {ID: 1, Name: "b"}}); err == nil {
		t.Error("a table with one id twice is taken")
	}
	if err := s.Retable([]mesh.Signal{{ID: 1, Name: "a", Type: mesh.TypeStruct, Fields: []mesh.Field{{Name: "x", Type: mesh.TypeInt}}}}); err != nil {
		t.Fatal(err)
	}
	s.Add(at(21))
	s.Prove(30)
	o, err := s.Seal(nil)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := tell(t, o), "1 in [10,20) complete 20; 1 in [20,30) complete 30"; got != want {
		t.Errorf("sealed %s, want %s", got, want)
	}
	var named []mesh.Hash
	for i, want := range []mesh.Hash{old, s.table.hash} {
		h, err := wire.ParseHeader(o.Sealed[i])
		if err != nil || len(h.Needs) != 1 || h.Needs[0] != want {
			t.Errorf("batch %d needs %v, %v, want %v", i, h.Needs, err, want)
		}
	}
	for _, d := range o.Descriptors {
		named = append(named, d.Hash())
	}
	if len(named) != 2 || !slices.Contains(named, old) || !slices.Contains(named, s.table.hash) || old == s.table.hash {
		t.Errorf("the offer brings %v, want %v and %v", named, old, s.table.hash)
	}
	// The same table again is no change: the commit stays whole.
	s.Add(at(31))
	if err := s.Retable([]mesh.Signal{{ID: 1, Name: "a", Type: mesh.TypeStruct, Fields: []mesh.Field{{Name: "x", Type: mesh.TypeInt}}}}); err != nil {
		t.Fatal(err)
	}
	s.Add(at(32))
	if got, want := seal(t, s), "2 in [30,30) complete 30"; got != want {
		t.Errorf("sealed %s, want %s", got, want)
	}
}

// A table that only grows in a commit is one table for all of it.
func TestSealer_ATableGrows(t *testing.T) {
	s := newSealer(t, Window{})
	s.Begin(10)
	s.Add(at(11))
	s.Prove(20)
	s.Begin(25) // ends the part
	more := []mesh.Signal{{ID: 1, Name: "a", Type: mesh.TypeInt}, {ID: 2, Name: "b", Type: mesh.TypeString}, {ID: 3, Name: "c", Type: mesh.TypeInt}}
	third := at(26)
	third.Signal = 3
	s.Add(third)
	if err := s.Grow(append(more, mesh.Signal{ID: 1, Name: "again"})); err == nil {
		t.Error("a table with one id twice is taken")
	}
	if err := s.Grow(more); err != nil {
		t.Fatal(err)
	}
	s.Prove(30)
	o, err := s.Seal(nil)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := tell(t, o), "1 in [10,20) complete 20; 1 in [25,30) complete 30"; got != want {
		t.Errorf("sealed %s, want %s", got, want)
	}
	for i, sealed := range o.Sealed {
		if h, err := wire.ParseHeader(sealed); err != nil || len(h.Needs) != 1 || h.Needs[0] != s.table.hash {
			t.Errorf("batch %d needs %v, %v, want %v", i, h.Needs, err, s.table.hash)
		}
	}
	if len(o.Descriptors) != 1 || o.Descriptors[0].Hash() != s.table.hash {
		t.Errorf("the offer brings %d tables", len(o.Descriptors))
	}
}
