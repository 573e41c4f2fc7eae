package source

import (
	"context"
	"encoding/json"
	"errors"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"plantmesh/proto/mesh"
)

// talker is a reader that tells a raw value each 10 ms, and stores nothing.
func talker(ctx context.Context, _ []byte, log Log) error {
	taps := TapsOf(log)
	for n := 0; ; n++ {
		if taps.Open() {
			taps.Tell("l.m.a", "ns=2;s=a", mesh.StatusGood, func() Raw { return Raw{Type: "Int32", Value: strconv.Itoa(n)} })
			taps.Tell("", "topic/b", mesh.StatusBad, func() Raw { return Raw{Type: "text", Value: "b"} })
		}
		if !pause(ctx, 10*time.Millisecond) {
			return context.Cause(ctx)
		}
	}
}

// Raw values come over the pipe while somebody listens, also from a worker that began later;
// nobody else is told, and nothing is said when nobody listens any more.
func TestListeners_HearOverThePipe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		ls := NewListeners()
		early := ls.Listen("", RawQuery{Pattern: "l.m.*", Rate: 10_000})
		elsewhere := ls.Listen("s2", RawQuery{Rate: 10})
		s := NewSupervisor(Config{ID: "s1", Listeners: ls}, func(context.Context) (Process, error) { return worker(readerFunc(talker)), nil }, newDisk(t), func() mesh.Nanos { return 1000 }, quiet())
		done := make(chan error)
		go func() { done <- s.Run(ctx) }()
		heard := func(x *Listener) (values []Raw, others uint64) {
			got, lost := x.Take()
			if lost > 0 {
				t.Errorf("%d lost", lost)
			}
			for _, h := range got {
				if h.Source != "s1" {
					t.Errorf("of %s", h.Source)
				}
				values, others = append(values, h.Values...), others+h.Others
			}
			return values, others
		}
		pause(ctx, time.Second)
		synctest.Wait()
		values, others := heard(early)
		if len(values) < 80 || others < 80 || values[0].Signal != "l.m.a" || values[0].Node != "ns=2;s=a" || values[0].Type != "Int32" || values[0].Value == "" {
			t.Errorf("%d values, %d others, %+v", len(values), others, values[:min(1, len(values))])
		}
		late := ls.Listen("s1", RawQuery{Pattern: "topic/*", Quality: "bad", Rate: 10_000})
		pause(ctx, time.Second)
		if values, _ := heard(late); len(values) < 80 || values[0].Node != "topic/b" || values[0].Status != mesh.StatusBad {
			t.Errorf("%d values", len(values))
		}
		late.Close()
		early.Close()
		if values, others := heard(elsewhere); len(values)+int(others) > 0 {
			t.Error("another source's listener hears of this one")
		}
		elsewhere.Close()
		pause(ctx, time.Second)
		heard(early)
		pause(ctx, time.Second)
		if values, others := heard(early); len(values)+int(others) > 0 {
			t.Error("who closed is told")
		}
		cancel()
		<-done
	})
}

// A worker that tells what nobody asked for, or junk, is not trusted any more.
func TestListeners_ADishonestWorkerIsKilled(t *testing.T) {
	for name, payload := range map[string]string{"junk": "{", "too much": strings.Repeat("x", maxRawFrame+1)} {
		if err := NewListeners().deliver("s1", []byte(payload)); !errors.Is(err, errPipe) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := (*Listeners)(nil).deliver("s1", []byte("[]")); !errors.Is(err, errPipe) {
		t.Errorf("nobody ever listens: %v", err)
	}
	ls := NewListeners()
	x := ls.Listen("s2", RawQuery{Rate: 1})
	b, err := json.Marshal([]rawParcel{{RawHeard{Values: []Raw{{Value: "of s1"}}}, x.id}, {RawHeard{LeftOut: 1}, 99}})
	if err != nil {
		t.Fatal(err)
	}
	if err := ls.deliver("s1", b); err != nil {
		t.Error(err)
	}
	if got, _ := x.Take(); len(got) > 0 {
		t.Errorf("s1 speaks to who listens to s2: %+v", got)
	}
}

// What one listener is told is bounded by its rate, in number and in bytes, on both sides; what
// is left out is counted.
func TestTaps_AreBounded(t *testing.T) {
	for name, c := range map[string]struct {
		q     RawQuery
		value string
		most  int
	}{
		"by its rate":   {RawQuery{Rate: 50}, "x", 60}, // a slow machine earns a few more
		"in number":     {RawQuery{Rate: 1_000_000}, "x", mostRaw},
		"in bytes":      {RawQuery{Rate: 1_000_000}, strings.Repeat("x", 100_000), mostRawBytes/maxRawText + 1},
		"by all it has": {RawQuery{Rate: 1_000_000, Pattern: "node"}, "x", mostRaw},
	} {
		taps, heard, err := Listening(c.q)
		if err != nil {
			t.Fatal(err)
		}
		const told = 3000
		made := 0
		for range told {
			taps.Tell("signal", "node", mesh.StatusGood, func() Raw { made++; return Raw{Value: c.value, Notes: make([]string, 100)} })
		}
		h := heard()
		if len(h.Values) > c.most || len(h.Values) == 0 || len(h.Values)+int(h.LeftOut) != told || made != len(h.Values) {
			t.Errorf("%s: %d values and %d left out of %d, %d made; at most %d", name, len(h.Values), h.LeftOut, told, made, c.most)
		}
		if v := h.Values[0]; len(v.Value) > maxRawText+len("…") || len(v.Notes) > maxRawNotes {
			t.Errorf("%s: a value of %d bytes", name, len(v.Value))
		}
	}
	x := NewListeners().Listen("", RawQuery{Rate: 1})
	many := make([]Raw, mostRaw)
	for i := range many {
		many[i].Value = strings.Repeat("x", 300)
	}
	for range 10 {
		x.put(Heard{RawHeard{Values: many, LeftOut: 1}, "s1"})
	}
	got, lost := x.Take()
	if len(got) != 1 || lost != 9*(mostRaw+1) {
		t.Errorf("%d parcels held, %d lost", len(got), lost)
	}
}

// While nobody listens a reader pays a look: no memory, and what it would tell is not made.
func TestTaps_CostNothingWhileNobodyListens(t *testing.T) {
	for name, taps := range map[string]*Taps{"nobody ever": nil, "nobody now": newTaps()} {
		var s mesh.Sample
		if n := testing.AllocsPerRun(1000, func() {
			if taps.Open() {
				t.Error("it is open")
			}
			taps.Tell("signal", "node", mesh.StatusGood, func() Raw { t.Errorf("it is made of %v", s); return Raw{} })
		}); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
	taps, _, err := Listening(RawQuery{Rate: 1})
	if err != nil {
		t.Fatal(err)
	}
	if err := taps.set([]byte("[]")); err != nil || taps.Open() {
		t.Errorf("who listened went: %v", err)
	}
	for _, junk := range []string{"{", `[{"id":1,"Pattern":"[a"}]`, "[" + strings.Repeat("{},", maxRawTaps) + "{}]"} {
		if err := taps.set([]byte(junk)); !errors.Is(err, errPipe) {
			t.Errorf("%s: %v", junk, err)
		}
	}
}
