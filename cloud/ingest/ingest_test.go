package ingest

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"reflect"
	"strconv"
	"testing"
	"time"

	"plantmesh/proto/mesh"
	"plantmesh/proto/subject"
	"plantmesh/proto/wire"
)

func TestIngest_InOrder(t *testing.T) {
	r, a := newRig(t), newAgent(t, "gw-1")
	all := []mesh.Record{a.open(), a.batch(3), a.batch(0), a.void(), a.batch(2)}
	rec := r.raw(a, append(wire.AppendDescriptor(nil, a.table), frames(all...)...))
	if rec.Have.Through != a.at || len(rec.Have.Islands) != 0 || len(rec.Lacks) != 0 || len(rec.Chain) != 1 {
		t.Fatalf("receipt %+v", rec)
	}
	r.want(all...)
	entries := r.stored()
	for i, e := range entries {
		if e.Ord == 0 || e.Ord != e.Through {
			t.Errorf("entry %d has ordinal %d and through %d", i, e.Ord, e.Through)
		}
	}
	if _, ok := r.g.Heard("graz", "gw-1"); !ok {
		t.Error("not heard")
	}
	if st := r.g.Stats(); st.Taken != 5 || st.Samples != 5 || st.Messages != 1 {
		t.Errorf("stats %+v", st)
	}
	if again := r.send(a, all...); again.By != rec.By || !reflect.DeepEqual(again.Have, rec.Have) {
		t.Errorf("the same again answers %+v", again)
	}
	if st := r.g.Stats(); st.Twice != 5 || st.Clashed != 0 {
		t.Errorf("stats %+v", st)
	}
	// A restart of the hub keeps the set and begins a new epoch of its log.
	r.g = newIngest(r.store)
	data, err := r.g.Receipt(t.Context(), "graz", "gw-1")
	if err != nil {
		t.Fatal(err)
	}
	after, err := wire.DecodeReceipt(data)
	if err != nil || !reflect.DeepEqual(after.Have, rec.Have) || after.By.Epoch == rec.By.Epoch {
		t.Errorf("after a restart %+v, %v", after, err)
	}
	if p, err := r.g.Place(t.Context()); err != nil || p.Seq != 2 {
		t.Errorf("place %+v, %v", p, err)
	}
}

// TestIngest_PipeLosesDoublesReorders sends a log with restarts and voids
// through a pipe that does its worst, resends what the receipt lacks, and
// demands every record once.
func TestIngest_PipeLosesDoublesReorders(t *testing.T) {
	for seed := range uint64(12) {
		t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) {
			rnd := rand.New(rand.NewPCG(seed, 1))
			r := newRig(t)
			agents := []*agent{newAgent(t, "gw-1"), newAgent(t, "gw-2")}
			for _, a := range agents {
				a.open()
				for range 150 {
					switch rnd.IntN(25) {
					case 0:
						a.open()
					case 1:
						a.void()
					default:
						a.batch(rnd.IntN(4))
					}
				}
			}
			for round := 0; ; round++ {
				if round == 40 {
					t.Fatal("not complete after 40 rounds")
				}
				if round%7 == 3 {
					r.g = newIngest(r.store)
				}
				missing := r.missing(agents)
				if len(missing) == 0 {
					break
				}
				r.pipe(rnd, missing, agents)
			}
			r.want(append(agents[0].records, agents[1].records...)...)
			entries := r.stored()
			for i, e := range entries {
				if e.Of.Log == agents[0].log && i > 0 && e.Ord == 0 {
					t.Fatalf("%s has no ordinal", e.Of)
				}
			}
			for _, a := range agents {
				acc := r.store.account(a.log)
				if acc.Set.Through != a.at || len(acc.Set.Islands) != 0 {
					t.Errorf("account %+v, want through %s", acc, a.at)
				}
			}
		})
	}
}

func TestIngest_DataBeatsVoid(t *testing.T) {
	r, a := newRig(t), newAgent(t, "gw-1")
	one, lost1, lost2 := a.open(), a.batch(1), a.batch(2)
	v := a.void(a.span(2, 3))
	r.raw(a, wire.AppendDescriptor(nil, a.table))
	if rec := r.send(a, one, v); rec.Have.Through.Seq != 4 || len(rec.Have.Islands) != 0 {
		t.Fatalf("receipt %+v", rec.Have)
	}
	// The void stands for them; then one of them turns up after all, twice.
	for range 2 {
		if rec := r.send(a, lost2, lost2); rec.Have.Through.Seq != 4 || len(rec.Have.Islands) != 0 {
			t.Fatalf("receipt %+v", rec.Have)
		}
	}
	r.want(one, lost2, v)
	if st := r.g.Stats(); st.Filled != 1 || st.Twice != 3 {
		t.Errorf("stats %+v", st)
	}
	e := r.stored()
	if last := e[len(e)-1]; last.Of != lost2.At || last.Through <= last.Ord {
		t.Errorf("the late one is %+v", last)
	}
	// In one step, the void first.
	one, late := a.batch(1), a.batch(1)
	v = a.void(a.span(late.At.Seq, late.At.Seq))
	r.send(a, v, late, one)
	r.want(append(a.records[:1:1], append([]mesh.Record{lost2}, a.records[3:]...)...)...)
	_ = lost1.At
}

func TestIngest_VoidOfWhatCannotBe(t *testing.T) {
	r, a := newRig(t), newAgent(t, "gw-1")
	o := a.open()
	for name, lost := range map[string]mesh.Range{
		"itself and later": a.span(2, 1<<30),
		"backwards":        a.span(5, 3),
		"from nothing":     a.span(0, 1),
		"without end":      a.span(1, 1<<63),
	} {
		v := a.void(lost)
		rec := r.send(a, o, v)
		if rec.Have.Through != v.At || len(rec.Have.Islands) != 0 {
			t.Errorf("%s: receipt %+v", name, rec.Have)
		}
	}
	v := a.void(mesh.Range{Epoch: mesh.NewEpoch(), First: 1, Last: 2})
	if rec := r.send(a, v); rec.Have.Through.Seq != v.At.Seq-1 {
		t.Errorf("a void of an unknown epoch: %+v", rec.Have)
	}
}

func TestIngest_SixtyFifthIsland(t *testing.T) {
	r, a := newRig(t), newAgent(t, "gw-1")
	r.raw(a, wire.AppendDescriptor(nil, a.table))
	a.open()
	for range 140 {
		a.batch(1)
	}
	r.send(a, a.records[0])
	var odd []mesh.Record
	for i := 2; i < len(a.records); i += 2 {
		odd = append(odd, a.records[i])
	}
	rec := r.send(a, odd...)
	if len(rec.Have.Islands) != mesh.MaxIslands || r.g.Stats().NoIsland != uint64(len(odd)-mesh.MaxIslands) {
		t.Fatalf("%d islands, stats %+v", len(rec.Have.Islands), r.g.Stats())
	}
	r.want(append([]mesh.Record{a.records[0]}, odd[:mesh.MaxIslands]...)...)
	// A hole filled in the same step makes room for one more.
	rec = r.send(a, odd[mesh.MaxIslands], a.records[1])
	if len(rec.Have.Islands) != mesh.MaxIslands || rec.Have.Through.Seq != 3 {
		t.Fatalf("receipt %+v", rec.Have)
	}
	r.send(a, a.records...)
	r.send(a, a.records...)
	r.want(a.records...)
}

func TestIngest_DamageIsLeftOut(t *testing.T) {
	a := newAgent(t, "gw-1")
	open, b1, b2 := a.open(), a.batch(1), a.batch(2)
	v, err := wire.SealVerdict("line1-opcua", mesh.Verdict{Of: b1.At, Revision: 1, Marks: []mesh.Mark{{Rule: "r", Action: mesh.ActionQuarantine}}})
	if err != nil {
		t.Fatal(err)
	}
	head := append(wire.AppendDescriptor(nil, a.table), frames(open)...)
	whole := append(wire.AppendVerdict(append(head, frames(b1)...), v), frames(b2)...)
	verdictAt, secondAt := len(head)+len(frames(b1)), len(whole)-len(frames(b2))
	for name, c := range map[string]struct {
		spoil func(b []byte) []byte
		want  []mesh.Record
	}{
		"nothing":                             {func(b []byte) []byte { return b }, []mesh.Record{open, b1, b2}},
		"a bit of the last batch":             {func(b []byte) []byte { b[len(b)-20] ^= 1; return b }, []mesh.Record{open, b1}},
		"the end":                             {func(b []byte) []byte { return b[:len(b)-1] }, []mesh.Record{open, b1}},
		"a bit of the verdict, so its batch":  {func(b []byte) []byte { b[verdictAt+15] ^= 1; return b }, []mesh.Record{open}},
		"the verdict cut off, so its batch":   {func(b []byte) []byte { return b[:verdictAt+3] }, []mesh.Record{open}},
		"noise behind":                        {func(b []byte) []byte { return append(b, "noise"...) }, []mesh.Record{open, b1}},
		"a frame of an unknown kind":          {func(b []byte) []byte { return append(b, wire.AppendDescriptor(nil, mesh.Descriptor{Kind: 99})...) }, []mesh.Record{open, b1, b2}},
		"everything":                          {func([]byte) []byte { return []byte{0} }, nil},
		"an empty message":                    {func([]byte) []byte { return nil }, nil},
		"sealed bytes damaged before framing": {func(b []byte) []byte { return append(b[:secondAt:secondAt], frames(spoiled(b2))...) }, []mesh.Record{open, b1}},
		"a verdict of nobody":                 {func(b []byte) []byte { return wire.AppendVerdict(b[:len(head):len(head)], v) }, []mesh.Record{open}},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			r.raw(a, c.spoil(bytes.Clone(whole)))
			r.want(c.want...)
			for _, e := range r.stored() {
				if e.Of == b1.At && (e.Verdict == nil || len(e.Verdict.Marks) != 1) {
					t.Error("stored without its verdict")
				}
			}
			r.raw(a, whole)
			r.want(open, b1, b2)
		})
	}
}

func spoiled(r mesh.Record) mesh.Record {
	r.Sealed = bytes.Clone(r.Sealed)
	r.Sealed[len(r.Sealed)/2] ^= 4
	return r
}

func TestIngest_ForeignAndUnknown(t *testing.T) {
	r, a, b := newRig(t), newAgent(t, "gw-1"), newAgent(t, "gw-2")
	data := frames(a.open())
	if rec := r.raw(b, data); !rec.Have.Through.IsZero() {
		t.Errorf("receipt %+v", rec)
	}
	answers, err := r.g.Step(t.Context(), []Message{{"ingest.v1.graz", mesh.Place{Stream: "INGEST@1", Seq: 9}, data}, {"dp.v1.x", mesh.Place{Stream: "INGEST@1", Seq: 10}, nil}})
	if err != nil || len(answers) != 0 {
		t.Fatalf("%d answers, %v", len(answers), err)
	}
	r.want()
	if st := r.g.Stats(); st.Foreign != 3 {
		t.Errorf("stats %+v", st)
	}
	if p, err := r.g.Place(t.Context()); err != nil || p.Seq != 10 {
		t.Errorf("place %+v, %v", p, err)
	}
}

func TestIngest_MissingDescriptor(t *testing.T) {
	r, a := newRig(t), newAgent(t, "gw-1")
	open, b, v := a.open(), a.batch(1), a.void()
	rec := r.send(a, open, b, v)
	if rec.Have.Through.Seq != 1 || len(rec.Have.Islands) != 1 || !reflect.DeepEqual(rec.Lacks, []mesh.Hash{a.table.Hash()}) {
		t.Fatalf("receipt %+v", rec)
	}
	rec = r.raw(a, wire.AppendDescriptor(frames(b), a.table))
	if rec.Have.Through != v.At || len(rec.Lacks) != 0 {
		t.Fatalf("receipt %+v", rec)
	}
	r.want(open, b, v)
	if _, ok, err := r.store.Descriptor(t.Context(), a.table.Hash()); err != nil || !ok {
		t.Fatal("descriptor not stored", err)
	}
}

func TestIngest_Lineages(t *testing.T) {
	r, a := newRig(t), newAgent(t, "gw-1")
	now := time.Unix(1e9, 0)
	r.g = New(Config{Now: func() time.Time { return now }}, r.store, slog.New(slog.DiscardHandler))
	r.raw(a, wire.AppendDescriptor(nil, a.table))
	o1, b1, b2, b3 := a.open(), a.batch(1), a.batch(1), a.batch(1)
	o2 := a.open()
	// An opening before its parent's, on the other road: it waits.
	if rec := r.send(a, o2); !rec.Have.Through.IsZero() || len(rec.Chain) != 0 {
		t.Fatalf("receipt %+v", rec)
	}
	if rec := r.send(a, o2, b3, o1, b1); len(rec.Chain) != 2 || len(rec.Have.Islands) != 2 {
		t.Fatalf("receipt %+v", rec)
	}
	b4 := a.batch(1)
	r.send(a, b4, b2)
	tip := a.at

	// The disk goes back before b4: the log goes on from o2.
	a.at = o2.At
	o3 := a.open()
	b5 := a.batch(1)
	// While what it had sent was heard just now it may be a clone: it waits.
	if rec := r.send(a, o3, b5); rec.Have.Through != tip || r.g.Stats().RolledBack != 0 {
		t.Fatalf("receipt %+v, stats %+v", rec, r.g.Stats())
	}
	now = now.Add(6 * time.Minute)
	if rec := r.send(a, o3, b5); rec.Have.Through != b5.At || r.g.Stats().RolledBack != 1 {
		t.Fatalf("receipt %+v, stats %+v", rec, r.g.Stats())
	}
	// What was under way on the branch that is gone is kept, once.
	late := mesh.Record{At: mesh.Position{Log: a.log, Epoch: tip.Epoch, Seq: tip.Seq + 1}, Sealed: b1.Sealed}
	for range 2 {
		r.send(a, b4, late)
	}

	// A clone goes on from an epoch that is not the tip: it is held.
	a.at = b4.At
	o4, b6 := a.open(), a.batch(1)
	for range 2 {
		if rec := r.send(a, o4, b6); rec.Have.Through != b5.At || len(rec.Have.Islands) != 0 {
			t.Fatalf("receipt %+v", rec)
		}
	}
	if st := r.g.Stats(); st.Held != 6 {
		t.Errorf("stats %+v", st)
	}
	r.want(o1, b1, b2, b3, o2, b4, late, o3, b5)
}

func TestIngest_SamePositionOtherBytes(t *testing.T) {
	r, a := newRig(t), newAgent(t, "gw-1")
	r.raw(a, wire.AppendDescriptor(nil, a.table))
	o, b, other := a.open(), a.batch(1), a.batch(2)
	other.At = b.At
	r.send(a, o, b)
	r.send(a, other)
	r.want(o, b)
	if st := r.g.Stats(); st.Clashed != 1 {
		t.Errorf("stats %+v", st)
	}
}

func TestIngest_SecondIngestMoves(t *testing.T) {
	r, a := newRig(t), newAgent(t, "gw-1")
	o, v := a.open(), a.void()
	r.send(a, o)
	second := newIngest(r.store)
	if err := second.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := r.g.Step(t.Context(), []Message{r.message(subject.Live, a.log, frames(v))}); !errors.Is(err, mesh.ErrMoved) {
			t.Fatalf("the first ingest still writes: %v", err)
		}
	}
	if _, err := r.g.Receipt(t.Context(), "graz", "gw-1"); !errors.Is(err, mesh.ErrMoved) {
		t.Fatalf("the first ingest still answers: %v", err)
	}
	r.g = second
	r.send(a, v)
	r.want(o, v)
}

// shaky fails Takes, before or after they happened.
type shaky struct {
	*memory

	fail string
}

var errShaky = errors.New("the disk hiccups")

func (s *shaky) Take(ctx context.Context, t mesh.Take) (mesh.Position, error) {
	how := s.fail
	s.fail = ""
	if how == "before" {
		return mesh.Position{}, errShaky
	}
	end, err := s.memory.Take(ctx, t)
	if how == "after" && err == nil {
		return mesh.Position{}, errShaky
	}
	return end, err
}

func TestIngest_StoreFails(t *testing.T) {
	for _, how := range []string{"before", "after"} {
		t.Run(how, func(t *testing.T) {
			r, a := newRig(t), newAgent(t, "gw-1")
			s := &shaky{memory: r.store}
			r.g = newIngest(s)
			o := a.open()
			r.send(a, o)
			s.fail = how
			v := a.void()
			m := r.message(subject.Live, a.log, frames(v))
			if _, err := r.g.Step(t.Context(), []Message{m}); !errors.Is(err, errShaky) {
				t.Fatal(err)
			}
			if _, err := r.g.Step(t.Context(), []Message{m}); err != nil {
				t.Fatal(err)
			}
			r.want(o, v)
		})
	}
}

func TestIngest_RecordsOfTheHub(t *testing.T) {
	r, a := newRig(t), newAgent(t, "gw-1")
	r.send(a, a.open())
	d := mesh.Descriptor{Kind: mesh.DescribeSite, Content: []byte("site")}
	sealed, err := wire.SealFact(mesh.Fact{About: "graz", Descriptor: d.Hash(), By: "plantmesh"})
	if err != nil {
		t.Fatal(err)
	}
	end, err := r.g.Record(t.Context(), []mesh.Entry{{Sealed: sealed}}, []mesh.Descriptor{d})
	if err != nil || end.Seq != 3 {
		t.Fatalf("recorded at %s, %v", end, err)
	}
	if _, err := r.g.Record(t.Context(), []mesh.Entry{{Sealed: []byte("x")}}, nil); !errors.Is(err, mesh.ErrPermanent) {
		t.Fatalf("nonsense recorded: %v", err)
	}
	r.send(a, a.void())
	all := r.store.all()
	if len(all) != 4 || all[2].Header.Kind != mesh.KindFact || all[2].Header.About != "graz" || all[2].At != end {
		t.Fatalf("%+v", all)
	}
	if p, err := r.g.Place(t.Context()); err != nil || p.Seq != 2 {
		t.Errorf("place %+v, %v", p, err)
	}
}

// A stream made anew is told at once, and kept: who waits has nothing to send.
func TestIngest_BeginTellsThatTheStreamIsAnother(t *testing.T) {
	r := newRig(t)
	a := newAgent(t, "gw-1")
	r.send(a, a.open())
	check := func(g *Ingest, want mesh.Place) {
		t.Helper()
		b, err := g.Receipt(t.Context(), "graz", "gw-1")
		if err != nil {
			t.Fatal(err)
		}
		got, err := wire.DecodeReceipt(b)
		if err != nil || got.Place != want {
			t.Errorf("the receipt says %v, want %v (%v)", got.Place, want, err)
		}
	}
	was, err := r.g.Place(t.Context())
	if err != nil || was.Seq == 0 {
		t.Fatalf("place %v, %v", was, err)
	}
	check(r.g, was)
	if err := r.g.Begin(t.Context(), was.Stream); err != nil {
		t.Fatal(err)
	}
	check(r.g, was)
	if err := r.g.Begin(t.Context(), "INGEST@2"); err != nil {
		t.Fatal(err)
	}
	check(r.g, mesh.Place{Stream: "INGEST@2"})
	check(newIngest(r.store), mesh.Place{Stream: "INGEST@2"})
}
