package opcua

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"plantmesh/edge/source"
	"plantmesh/proto/mesh"
)

// overheard gives what was told since, a line for each value.
func overheard(t *testing.T, r *Reader, q source.RawQuery) func() []string {
	t.Helper()
	taps, heard, err := source.Listening(q)
	if err != nil {
		t.Fatal(err)
	}
	r.taps = taps
	return func() (out []string) {
		for _, x := range heard().Values {
			out = append(out, fmt.Sprintf("%s %s %s %s @%s %s", x.Signal, x.Node, x.Type, x.Value, second(x.Source), strings.Join(x.Notes, ", ")))
		}
		return out
	}
}

// Values are told as the server typed them, before they are made the signal's type, also those
// that can't be; and of a notification that is taken at once.
func TestTap_TellsValuesAsTheyCome(t *testing.T) {
	r, _ := stepped(t, nil)
	heard := overheard(t, r, source.RawQuery{Rate: 1000})
	r.step(t, r.message(t, 1, 1, false, int32(5)), r.message(t, 2, 2, false, "five", int16(6), []float64{1, 2}))
	node := r.where(0)
	name := r.table[0].Name
	want := []string{
		name + " " + node + " Int32 5 @1 initial",
		name + " " + node + " String five @2 ",
		name + " " + node + " Int16 6 @2 ",
		name + " " + node + " Double array 2 values @2 ",
	}
	if got := heard(); !slices.Equal(got, want) {
		t.Errorf("%q\nwant %q", got, want)
	}
	polled := r.message(t, 3, 3, false, int32(6)).in.Values
	if _, err := r.take([]int{0}, polled, noon.Add(3*time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := r.take([]int{0}, polled, noon.Add(4*time.Second)); err != nil {
		t.Fatal(err)
	}
	again := name + " " + node + " Int32 6 @3 "
	if got := heard(); !slices.Equal(got, []string{again, again}) { // each time it is read
		t.Errorf("of a server that is polled: %q", got)
	}
	heard = overheard(t, r, source.RawQuery{Rate: 1000, Pattern: "nobody"})
	r.step(t, r.message(t, 3, 5, false, int32(7)))
	if got := heard(); len(got) > 0 {
		t.Errorf("nobody asked for %q", got)
	}
}

// An event is told with the fields that it has.
func TestTap_TellsEventsAsTheyCome(t *testing.T) {
	r, _ := listener(t, nil)
	heard := overheard(t, r, source.RawQuery{Rate: 1000})
	r.step(t, r.events(t, 1, 1, start(1)), r.events(t, 2, 2, alarm{id: "e1", at: 2, severity: 5, message: "too hot"}))
	got := heard()
	if len(got) != 2 || !strings.Contains(got[1], "c i=2253 event ") || !strings.Contains(got[1], "Message too hot") || !strings.Contains(got[1], "Severity 5") || !strings.Contains(got[1], " @2 ") {
		t.Errorf("%q", got) // the second is of too low a severity to be stored
	}
}

// A tap changes nothing of what is stored.
func TestTap_StoresTheSame(t *testing.T) {
	var lines [2][]string
	for i := range lines {
		r, s := stepped(t, nil)
		if i == 1 {
			overheard(t, r, source.RawQuery{Rate: 1000})
		}
		r.step(t, r.message(t, 1, 1, false, int32(5)), r.message(t, 2, 2, false, "five", int16(6)), r.message(t, 3, 3, false))
		if _, err := r.commit(t.Context()); err != nil {
			t.Fatal(err)
		}
		r2, s2 := listener(t, nil)
		if i == 1 {
			overheard(t, r2, source.RawQuery{Rate: 1000})
		}
		s2.told = told
		r2.step(t, r2.events(t, 1, 1, alarm{id: "e1", at: 1, severity: 500}), r2.events(t, 2, 2, alarm{id: "e2", at: 2, severity: 500, condition: "hot", active: true}))
		if _, err := r2.commit(t.Context()); err != nil {
			t.Fatal(err)
		}
		lines[i] = append(s.lines, s2.lines...)
	}
	if !slices.Equal(lines[0], lines[1]) || len(lines[0]) < 2 {
		t.Errorf("without a tap %q, with one %q", lines[0], lines[1])
	}
}

// A notification costs a look more while nobody listens: no memory, whatever stands in it.
func TestTap_CostsNothingWhileNobodyListens(t *testing.T) {
	r, _ := stepped(t, nil)
	n := r.message(t, 1, 1, false, 2.5, "text", []int32{1, 2})
	if got := testing.AllocsPerRun(1000, func() {
		if r.taps.Open() {
			r.tellRaw(n.in, mesh.Nanos(0))
		}
	}); got != 0 {
		t.Errorf("%v allocations", got)
	}
}
