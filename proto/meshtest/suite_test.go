package meshtest

import (
	"context"
	"errors"
	"slices"
	"testing"
)

// line is a hop of nothing but a slice, which does to it what a test says when it
// is struck.
type line struct {
	wrong func(held []int) []int
	knows bool // what is not there is said to be known
	why   string
	held  []int
	went  int // times it settled
}

func (h *line) Write(_ context.Context, first, n int) error {
	for i := range n {
		h.held = append(h.held, first+i)
	}
	return nil
}

func (h *line) Inflict(context.Context, Fault) (string, error) {
	if h.wrong != nil && h.why == "" {
		h.held = h.wrong(h.held)
	}
	return h.why, nil
}

func (h *line) Settle(context.Context) error {
	h.went++
	return nil
}

func (h *line) Read(_ context.Context, l *Ledger) (Missing, error) {
	for i, n := range h.held {
		l.Get(Sample{Source, n}, At(n))
		if i > 0 && n < h.held[i-1] {
			l.Disorder()
		}
	}
	if h.knows {
		return func(Sample, Fate) Absence { return AbsenceUnmarked }, nil
	}
	return nil, nil
}

// TestTrial_EachNumberSaysWhatIsWrong: or no hop's zeros would be worth anything.
func TestTrial_EachNumberSaysWhatIsWrong(t *testing.T) {
	drop := func(held []int) []int { return held[1:] }
	for _, c := range []struct {
		name string
		hop  line
		want Report
	}{
		{"nothing", line{}, Report{}},
		{"lost", line{wrong: drop}, Report{Lost: 1}},
		{"unmarked", line{wrong: drop, knows: true}, Report{Unmarked: 1}},
		{"duplicated", line{wrong: func(held []int) []int { return append(held, held[len(held)-1]) }}, Report{Duplicated: 1}},
		{"phantom", line{wrong: func(held []int) []int { return append(held, 1_000_000) }}, Report{Phantom: 1, Reordered: 1}},
		{"reordered", line{wrong: func(held []int) []int {
			slices.Reverse(held[len(held)-2:])
			return held
		}}, Report{Reordered: 1}},
	} {
		t.Run(c.name, func(t *testing.T) {
			x := NewTrial(&c.hop, 3)
			if err := x.Mix(t.Context(), nil, 0); err != nil {
				t.Fatal(err)
			}
			_, err := x.Alone(t.Context(), MessageLost)
			if x.last != c.want || errors.Is(err, ErrNumbers) == c.want.OK() {
				t.Errorf("%s, want %s: %v", x.last, c.want, err)
			}
			c.hop.held, c.hop.wrong = nil, nil // all is lost that was told
			if err := x.Mix(t.Context(), Faults(), 1); !errors.Is(err, ErrNumbers) {
				t.Errorf("a mix over a hop that lost all: %v", err)
			}
		})
	}
}

// TestMix_EveryFaultComesInEachRound, and settles on the way.
func TestMix_EveryFaultComesInEachRound(t *testing.T) {
	h := &line{}
	if err := NewTrial(h, 1).Mix(t.Context(), Faults(), 3); err != nil {
		t.Fatal(err)
	}
	if h.went < 5 || len(h.held) < 3*len(Faults()) {
		t.Errorf("settled %d times, %d inputs", h.went, len(h.held))
	}
	if err := NewTrial(&line{why: "none"}, 1).Mix(t.Context(), Faults(), 1); !errors.Is(err, errNoPlace) {
		t.Errorf("a mix with faults that have no place: %v", err)
	}
}

// TestSuite_NoHopLeavesOutAFaultSilently: what it has no place for, its test names,
// and nothing else.
func TestSuite_NoHopLeavesOutAFaultSilently(t *testing.T) {
	s := Suite{Absent: []Fault{MessageLost}}
	for _, c := range []struct {
		f    Fault
		why  string
		want error
	}{
		{MessageLost, "nothing lies between", nil},
		{MessageLate, "", nil},
		{MessageLost, "", errPlace},
		{MessageLate, "nothing lies between", errNoPlace},
	} {
		if err := s.place(c.f, c.why); !errors.Is(err, c.want) {
			t.Errorf("%s, %q: %v, want %v", c.f, c.why, err, c.want)
		}
	}
	if left := Without(MessageLost); len(left) != len(Faults())-1 || slices.Contains(left, MessageLost) {
		t.Errorf("%v", left)
	}
}

// TestAt: inputs have times of their own, and each time its input.
func TestAt(t *testing.T) {
	for n := range 500 {
		got, ok := Number(At(n))
		if got != n || ok != (n > 0) {
			t.Fatalf("input %d is found as %d, %v", n, got, ok)
		}
	}
	if _, ok := Number(At(7) + 1); ok {
		t.Error("another instant is an input")
	}
}
