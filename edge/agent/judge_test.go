package agent

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"plantmesh/edge/forward"
	"plantmesh/edge/quality"
	"plantmesh/proto/mesh"
	"plantmesh/proto/wire"
)

// judgeLog is a log in memory; Append only counts what it is given.
type judgeLog struct {
	records []mesh.Record
	descs   []mesh.Descriptor
	kept    [][]byte
}

func (l *judgeLog) Peek(after mesh.Position, maxBytes int) ([]mesh.Record, error) {
	all := l.records[min(after.Seq, uint64(len(l.records))):]
	for i, n := 0, 0; i < len(all); i++ {
		if n += len(all[i].Sealed); n > maxBytes && i > 0 {
			return all[:i], nil
		}
	}
	return all, nil
}

// add puts a record at the end.
func (l *judgeLog) add(t *testing.T, sealed []byte, err error) mesh.Record {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	r := mesh.Record{At: mesh.Position{Log: "agent/graz/gw-1", Epoch: mesh.Epoch{1}, Seq: uint64(len(l.records) + 1)}, Sealed: sealed}
	l.records = append(l.records, r)
	return r
}

// declare puts the fact that these rules are active at the end.
func (l *judgeLog) declare(t *testing.T, text string) {
	t.Helper()
	rules, err := quality.Parse("rules.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	d := rules.Descriptor()
	l.descs = append(l.descs, d)
	sealed, err := wire.SealFact(mesh.Fact{About: rulesFact, Descriptor: d.Hash()})
	l.add(t, sealed, err)
}

// verdict asks until the record's turn has come.
func verdict(t *testing.T, j *Judge, r mesh.Record) []byte {
	t.Helper()
	for range 1000 {
		v, err := j.Verdict(t.Context(), r)
		if errors.Is(err, forward.ErrLater) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	t.Fatalf("the turn of %s never comes", r.At)
	return nil
}

func (l *judgeLog) Append(_ context.Context, offers []mesh.Offer) ([]mesh.Position, error) {
	l.kept = append(l.kept, offers[0].State)
	return nil, nil
}

func (l *judgeLog) State(string) ([]byte, error) {
	if len(l.kept) == 0 {
		return nil, nil
	}
	return l.kept[len(l.kept)-1], nil
}

func (l *judgeLog) Descriptor(h mesh.Hash) (mesh.Descriptor, bool) {
	i := slices.IndexFunc(l.descs, func(d mesh.Descriptor) bool { return d.Hash() == h })
	if i < 0 {
		return mesh.Descriptor{}, false
	}
	return l.descs[i], true
}

// tableOf makes a log whose signal 1 is called a.
func tableOf(t *testing.T) (*judgeLog, mesh.Hash) {
	t.Helper()
	d, err := wire.DescribeSignals([]mesh.Signal{{ID: 1, Name: "a", Type: mesh.TypeInt}})
	if err != nil {
		t.Fatal(err)
	}
	return &judgeLog{descs: []mesh.Descriptor{d}}, d.Hash()
}

// After an outage everything waits for its verdict to be accounted for. What is
// kept of it stands in every segment: it must not grow with the outage.
func TestJudge_KeepsLittleAndJudgesAgain(t *testing.T) {
	l, table := tableOf(t)
	l.declare(t, "revision: 1\nrules:\n  - {id: cold, kind: range, signal: \"*\", min: 1, action: quarantine}\n")
	enc, err := wire.NewEncoder()
	if err != nil {
		t.Fatal(err)
	}
	b := mesh.Batch{Source: "s", Table: table}
	for i := range 1000 {
		b.Samples = append(b.Samples, mesh.Sample{Signal: 1, Time: mesh.Nanos(i), Value: mesh.Int(0)})
	}
	for range 100 {
		sealed, err := enc.Seal(&b)
		l.add(t, sealed, err)
	}
	verdicts := func() (all []string) {
		j, err := NewJudge(l)
		if err != nil {
			t.Fatal(err)
		}
		for i, r := range l.records[1:] {
			v := verdict(t, j, r)
			if v == nil {
				t.Fatalf("no verdict on %s", r.At)
			}
			all = append(all, string(v))
			if i == 0 || i == len(l.records)-2 {
				if err := j.Keep(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
		}
		return all
	}
	first := verdicts()
	if len(l.kept) != 1 || len(l.kept[0]) > 2*maxKept {
		t.Errorf("kept %d times", len(l.kept))
	}
	if again := verdicts(); strings.Join(again, "") != strings.Join(first, "") {
		t.Error("a restart judges otherwise")
	}
}

// Rules that changed while the hub was away judge what came after the change,
// not what waits from before.
func TestJudge_TheRulesAreThoseOfTheLog(t *testing.T) {
	l, table := tableOf(t)
	enc, err := wire.NewEncoder()
	if err != nil {
		t.Fatal(err)
	}
	batch := func(at mesh.Nanos) mesh.Record {
		sealed, err := enc.Seal(&mesh.Batch{Source: "s", Table: table, Samples: []mesh.Sample{{Signal: 1, Time: at, Value: mesh.Int(50)}}})
		return l.add(t, sealed, err)
	}
	none := batch(1)
	l.declare(t, "revision: 1\nrules: [{id: wide, kind: range, signal: '*', max: 100}]\n")
	before := batch(2)
	l.declare(t, "revision: 2\nrules: [{id: narrow, kind: range, signal: '*', max: 5, action: quarantine}]\n")
	after := batch(3)
	l.declare(t, "rules: []\n")
	off := batch(4)
	check := func(j *Judge) {
		t.Helper()
		for i, r := range []mesh.Record{none, before, off} {
			if v := verdict(t, j, r); v != nil {
				t.Errorf("record %d is judged by rules that did not hold", i)
			}
		}
		v, err := wire.OpenVerdict(verdict(t, j, after))
		if err != nil || v.Revision != 2 || len(v.Marks) != 1 || v.Marks[0].Rule != "narrow" {
			t.Errorf("the verdict is %+v, %v", v, err)
		}
	}
	j, err := NewJudge(l)
	if err != nil {
		t.Fatal(err)
	}
	check(j)
	// A restart in between goes on with the rules of then.
	half := *l
	half.records = l.records[:3]
	if j, err = NewJudge(&half); err != nil {
		t.Fatal(err)
	}
	verdict(t, j, before)
	if err := j.Keep(t.Context()); err != nil {
		t.Fatal(err)
	}
	l.kept = half.kept
	if j, err = NewJudge(l); err != nil {
		t.Fatal(err)
	}
	verdict(t, j, off)
	check(j)
}

// One question judges a bounded part, so that sending never stands still for a
// whole outage.
func TestJudge_AVerdictIsNeverALongWait(t *testing.T) {
	l, table := tableOf(t)
	l.declare(t, "revision: 1\nrules: [{id: r, kind: range, signal: '*', max: 100}]\n")
	enc, err := wire.NewEncoder()
	if err != nil {
		t.Fatal(err)
	}
	var last mesh.Record
	for k := range 50 {
		b := mesh.Batch{Source: "s", Table: table}
		for i := range uint64(5000) {
			b.Samples = append(b.Samples, mesh.Sample{Signal: 1, Time: mesh.Nanos(k)*1e9 + mesh.Nanos(i*i), Value: mesh.Uint(i * i * 7919)})
		}
		sealed, err := enc.Seal(&b)
		last = l.add(t, sealed, err)
	}
	j, err := NewJudge(l)
	if err != nil {
		t.Fatal(err)
	}
	later := 0
	for ; ; later++ {
		if _, err := j.Verdict(t.Context(), last); !errors.Is(err, forward.ErrLater) {
			break
		}
	}
	size := 0
	for _, r := range l.records {
		size += len(r.Sealed)
	}
	if want := size/judgeChunk - 1; later < want || want < 2 {
		t.Errorf("asked %d times for %d KiB of log", later+1, size>>10)
	}
}

func TestBounded_QuarantineGoesFirst(t *testing.T) {
	var marks []mesh.Mark
	for i := range uint32(200_000) {
		m := mesh.Mark{Index: i, Rule: "a-rule-with-a-name", Action: mesh.ActionAnnotate}
		if i%100 == 99 {
			m.Action = mesh.ActionQuarantine
		}
		marks = append(marks, m)
	}
	got := bounded(marks)
	sealed, err := wire.SealVerdict("s", mesh.Verdict{Of: mesh.Position{Log: "agent/graz/gw-1", Epoch: mesh.Epoch{1}, Seq: 1}, Marks: got})
	if err != nil || len(sealed) > maxVerdict {
		t.Fatalf("%d bytes, %v", len(sealed), err)
	}
	n := 0
	for _, m := range got {
		if m.Action == mesh.ActionQuarantine {
			n++
		}
	}
	if n != 2000 || len(got) < 10_000 {
		t.Errorf("%d of %d marks quarantine", n, len(got))
	}
	if few := marks[:10]; len(bounded(few)) != 10 {
		t.Error("a short list was cut")
	}
}
