package buffer

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"plantmesh/proto/mesh"
	"plantmesh/proto/wire"
)

// instants is how long the plant of these tests runs.
const instants = 400

// line is a source that says something, of which records are set aside.
type line struct {
	t      *testing.T
	b      *Buffer
	proven mesh.Nanos
	said   []mesh.Position
}

// says seals samples from one instant to another, and proves a stretch. What the log lost
// meanwhile is said again behind it, as edge/source does.
func (l *line) says(times, proven mesh.Span) {
	l.t.Helper()
	e, err := wire.NewEncoder()
	if err != nil {
		l.t.Fatal(err)
	}
	b := mesh.Batch{Source: "press", Table: table(l.t).Hash(), Proven: proven}
	for at := times.From; at < times.To; at++ {
		b.Samples = append(b.Samples, mesh.Sample{Signal: 1, Time: at, Value: mesh.Value{Type: mesh.TypeDouble, Bits: uint64(at)}})
	}
	sealed, err := e.Seal(&b)
	if err != nil {
		l.t.Fatal(err)
	}
	l.proven = max(l.proven, proven.To)
	o := []mesh.Offer{
		{Source: "press", Sealed: [][]byte{sealed}, Descriptors: []mesh.Descriptor{table(l.t)}},
		{Source: proofOf + "press", State: binary.LittleEndian.AppendUint64(nil, uint64(l.proven))},
	}
	if s, _ := l.b.State(doubtOf + "press"); len(s) >= doubtHead {
		d := mesh.Span{From: mesh.Nanos(binary.LittleEndian.Uint64(s)), To: mesh.Nanos(binary.LittleEndian.Uint64(s[8:]))}
		o = append(o, mesh.Offer{Source: "press", Sealed: [][]byte{l.void(mesh.Void{Cause: mesh.CauseUnreadable, Note: mesh.NoteSaidAgain}, d)}})
		if l.proven >= d.To {
			o = append(o, mesh.Offer{Source: doubtOf + "press", State: []byte{}})
		}
	}
	at, err := l.b.Append(l.t.Context(), o)
	if err != nil {
		l.t.Fatal(err)
	}
	l.said = append(l.said, at[0])
}

func (l *line) void(v mesh.Void, s mesh.Span) []byte {
	v.Parts = []mesh.Part{{Source: "press", Times: s, Count: 3}}
	sealed, err := wire.SealVoid(v)
	if err != nil {
		l.t.Fatal(err)
	}
	return sealed
}

// loses sets aside what it said i-th.
func (l *line) loses(i int) {
	l.t.Helper()
	if err := l.b.Quarantine(l.said[i], "the hub takes less"); err != nil {
		l.t.Fatal(err)
	}
}

func (l *line) releases(i int) Released {
	l.t.Helper()
	r, err := l.b.Release(l.t.Context(), fmt.Sprintf("%s-%d", l.said[i].Epoch, l.said[i].Seq))
	if err != nil {
		l.t.Fatal(err)
	}
	return r
}

// known is what a hub knows that has the whole log: an instant, if its last proof stands
// behind its last void. causes says of the others why.
func (l *line) known() (known [instants]bool, causes [instants]mesh.Cause) {
	l.t.Helper()
	for _, r := range all(l.t, l.b) {
		h, err := wire.ParseHeader(r.Sealed)
		if err != nil {
			l.t.Fatal(err)
		}
		if h.Kind == mesh.KindVoid {
			v, err := wire.OpenVoid(r.Sealed)
			if err != nil {
				l.t.Fatal(err)
			}
			for _, p := range v.Parts {
				for at := p.Times.From; at < p.Times.To; at++ {
					known[at], causes[at] = false, v.Cause
				}
			}
		}
		for at := h.Proven.From; at < h.Proven.To; at++ {
			known[at] = true
		}
	}
	return known, causes
}

// Whatever overlaps and in whatever order it is set aside and released: what is known in the
// end is what would be known if the released had never been set aside.
func TestRelease_KnowsWhatWouldBeKnown(t *testing.T) {
	for seed := range uint64(40) {
		random := rand.New(rand.NewPCG(seed, 79))
		l := newLine(t)
		ref := newLine(t)
		type step struct {
			do            string
			times, proven mesh.Span
			i             int
		}
		var steps []step
		var lost []int
		at, proven, n := mesh.Nanos(10), mesh.Nanos(10), 0
		for range 14 {
			switch k := random.IntN(10); {
			case k < 6 || n == 0:
				s := step{do: "says", times: mesh.Span{From: at - mesh.Nanos(random.IntN(4)), To: at + 1 + mesh.Nanos(random.IntN(8))}, proven: mesh.Span{From: proven, To: proven}}
				if random.IntN(3) > 0 {
					s.proven.To = at + mesh.Nanos(random.IntN(8))
				}
				at, proven = s.times.To+mesh.Nanos(random.IntN(3)), max(proven, s.proven.To)
				steps, n = append(steps, s), n+1
			case k < 7:
				from := max(1, at-mesh.Nanos(random.IntN(20)))
				steps = append(steps, step{do: "overflow", times: mesh.Span{From: from, To: from + 1 + mesh.Nanos(random.IntN(5))}})
			default:
				if i := random.IntN(n); !slices.Contains(lost, i) {
					steps, lost = append(steps, step{do: "loses", i: i}), append(lost, i)
				}
			}
		}
		released := slices.DeleteFunc(slices.Clone(lost), func(int) bool { return random.IntN(4) == 0 })
		for _, s := range steps {
			for _, x := range []*line{l, ref} {
				switch {
				case s.do == "says":
					x.says(s.times, s.proven)
				case s.do == "overflow":
					mustAppend(t, x.b, mesh.Offer{Source: "press", Sealed: [][]byte{x.void(mesh.Void{Cause: mesh.CauseOverflow}, s.times)}})
				case x == l || !slices.Contains(released, s.i):
					x.loses(s.i)
				}
			}
		}
		random.Shuffle(len(released), func(i, j int) { released[i], released[j] = released[j], released[i] })
		for _, i := range released {
			l.releases(i)
		}
		same(t, fmt.Sprintf("seed %d: %+v, released %v", seed, steps, released), l, ref, true)
		for _, x := range []*line{l, ref} {
			x.says(mesh.Span{From: at, To: at + 10}, mesh.Span{From: proven, To: at + 20})
		}
		// What overlaps what is lost still may be said to be lost as well, not more.
		same(t, fmt.Sprintf("seed %d, and it goes on: %+v, released %v", seed, steps, released), l, ref, len(released) == len(lost))
		mustClose(t, l.b)
		mustClose(t, ref.b)
	}
}

// same compares what is known of two.
func same(t *testing.T, what string, l, ref *line, exactly bool) {
	t.Helper()
	got, causes := l.known()
	want, _ := ref.known()
	for at := range got {
		if got[at] && !want[at] {
			t.Fatalf("instant %d is known, and is not: %s", at, what)
		}
		if exactly && !got[at] && want[at] {
			t.Fatalf("instant %d stays a gap (%s): %s", at, causes[at], what)
		}
	}
}

// What stays unknown is told, and what can't be proven any more is not.
func TestRelease_SaysWhatStaysUnknown(t *testing.T) {
	l := newLine(t)
	defer mustClose(t, l.b)
	l.says(mesh.Span{From: 10, To: 20}, mesh.Span{})
	l.says(mesh.Span{From: 15, To: 25}, mesh.Span{From: 5, To: 30})
	l.loses(0)
	l.loses(1)
	if r := l.releases(1); len(r.Open) != 1 || r.Open[0] != (mesh.Span{From: 10, To: 20}) {
		t.Errorf("with the other one set aside %v stays open", r.Open)
	}
	if r := l.releases(0); len(r.Open) != 0 {
		t.Errorf("with both back %v stays open", r.Open)
	}
	if known, _ := l.known(); slices.Contains(known[5:30], false) || known[4] || known[30] {
		t.Errorf("known is %v", known)
	}
}

func newLine(t *testing.T) *line {
	t.Helper()
	return &line{t: t, b: mustOpen(t, testConfig(quickDir(t)))}
}
