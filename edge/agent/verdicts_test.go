package agent

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"plantmesh/proto/mesh"
	"plantmesh/proto/wire"
)

// marked is a log in which rules, other ones from its middle on, find
// something in every batch; what one finds depends on the batches before.
func marked(t *testing.T, batches int) *judgeLog {
	t.Helper()
	l, table := tableOf(t)
	enc, err := wire.NewEncoder()
	if err != nil {
		t.Fatal(err)
	}
	luck := rand.New(rand.NewPCG(1, 2))
	for k := range batches {
		switch k {
		case 0:
			l.declare(t, "revision: 1\nrules:\n  - {id: back, kind: backwards, signal: '*', max_step: 1}\n  - {id: all, kind: range, signal: '*', min: 1000}\n")
		case batches / 2:
			l.declare(t, "revision: 2\nrules:\n  - {id: down, kind: backwards, signal: '*', max_step: 1}\n  - {id: every, kind: range, signal: '*', min: 2000}\n")
		}
		b := mesh.Batch{Source: "s", Table: table}
		for i := range 200 {
			b.Samples = append(b.Samples, mesh.Sample{Signal: 1, Time: mesh.Nanos(k*1000 + i), Value: mesh.Int(luck.Int64N(900) + 1)})
		}
		sealed, err := enc.Seal(&b)
		l.add(t, sealed, err)
	}
	return l
}

// caughtUp is a judge that has judged all of a log.
func caughtUp(t *testing.T, l *judgeLog, most, each int) *Judge {
	t.Helper()
	j, err := NewJudge(l)
	if err != nil {
		t.Fatal(err)
	}
	j.found.most, j.found.each = most, each
	for worked := true; worked; {
		if worked, err = j.Catch(); err != nil {
			t.Fatal(err)
		}
		if n := j.found.size(); n > most+2*each {
			t.Fatalf("%d bytes of verdicts, the bound is %d", n, most)
		}
	}
	return j
}

// What was let go for want of room is found again as it was, in whatever order
// it is asked for; and the newest needs no looking again, as it goes first.
func TestJudge_LetsGoAndFindsTheSame(t *testing.T) {
	l := marked(t, 160)
	whole := caughtUp(t, l, 1<<30, 1<<30)
	want := map[uint64][]byte{}
	for _, r := range l.records {
		want[r.At.Seq] = verdict(t, whole, r)
	}
	if len(whole.found.all) != 1 || whole.found.size() < 400<<10 {
		t.Fatalf("%d stretches, %d bytes: nothing is tested", len(whole.found.all), whole.found.size())
	}
	for name, order := range map[string][]int{"as it stands": forwards(len(l.records)), "by dice": rand.New(rand.NewPCG(3, 4)).Perm(len(l.records))} {
		t.Run(name, func(t *testing.T) {
			const most, each = 64 << 10, 16 << 10
			j := caughtUp(t, l, most, each)
			if len(j.found.all) > maxStretches || !j.found.all[0].gone || j.found.size() > most+2*each {
				t.Errorf("%d stretches, %d bytes in memory", len(j.found.all), j.found.size())
			}
			if v, err := j.Verdict(t.Context(), l.records[len(l.records)-1]); err != nil || !bytes.Equal(v, want[uint64(len(l.records))]) {
				t.Errorf("the newest record: %v", err)
			}
			for _, i := range order {
				if got := verdict(t, j, l.records[i]); !bytes.Equal(got, want[l.records[i].At.Seq]) {
					t.Fatalf("record %d has another verdict: %d bytes, was %d", i, len(got), len(want[l.records[i].At.Seq]))
				}
				if n, stretches := j.found.size(), len(j.found.all); n > most+3*each || stretches > maxStretches+2 {
					t.Fatalf("at record %d: %d bytes in %d stretches", i, n, stretches)
				}
			}
			if err := j.Keep(t.Context()); err != nil || len(l.kept) > 0 {
				t.Errorf("a state was kept without the verdicts that wait: %v", err)
			}
			j.Forget(func(mesh.Position) bool { return true })
			if n := j.found.size(); n > 0 {
				t.Errorf("%d bytes are kept of what is accounted for", n)
			}
		})
	}
}

func forwards(n int) (out []int) {
	for i := range n {
		out = append(out, i)
	}
	return out
}
