package meshtest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// ErrNumbers is in the error where what the reader holds is not what was written.
var ErrNumbers = errors.New("what the reader holds is not what was written")

// Errors of a hop that has other places than its test says.
var (
	errPlace   = errors.New("the hop has a place for it, and its test says that it has none")
	errNoPlace = errors.New("the hop has no place for it")
)

// patience is how long a fault may take to be done, and how long to heal, on a
// machine that does more.
const patience = 90 * time.Second

// Suite says how a hop is tried.
type Suite struct {
	// Absent are the faults for which the hop has no place, and no others: each
	// other one must strike.
	Absent []Fault
	// Seeds of the mixes; 1 and up.
	Seeds int
	// Rounds of each mix: in one, every fault comes once.
	Rounds int
}

// Run tries each fault alone, one behind the other on one hop, and then all of
// them in seeded mixes, each on a hop of its own. Each must end with all five
// numbers 0. What a hop has no place for is told with its reason.
func (s Suite) Run(t *testing.T, open func(t *testing.T) Hop) {
	t.Helper()
	t.Run("alone", func(t *testing.T) {
		t.Parallel() // they wait for the disk most of the time
		s.alone(t, NewTrial(open(t), 0))
	})
	for seed := range s.Seeds {
		t.Run(fmt.Sprintf("mix %d", seed+1), func(t *testing.T) {
			t.Parallel()
			began := time.Now()
			if err := NewTrial(open(t), uint64(seed)+1).Mix(t.Context(), Without(s.Absent...), s.Rounds); err != nil {
				t.Fatal(err)
			}
			t.Logf("%.1f s", time.Since(began).Seconds())
		})
	}
}

func (s Suite) alone(t *testing.T, x *Trial) {
	t.Helper()
	if err := x.verdict(t.Context()); err != nil {
		t.Fatalf("before anything is broken: %v", err)
	}
	for _, f := range Faults() {
		began := time.Now()
		why, err := x.Alone(t.Context(), f)
		if err == nil {
			err = s.place(f, why)
		}
		switch {
		case err != nil:
			t.Fatalf("%s: %v", f, err) // what comes behind it would say nothing
		case why != "":
			t.Logf("%-45s no place: %s", f, why)
		default:
			t.Logf("%-45s %s, %.1f s", f, x.last, time.Since(began).Seconds())
		}
	}
}

// place holds what a hop says of its places against what is said here: none can
// leave out a fault silently.
func (s Suite) place(f Fault, why string) error {
	switch absent := slices.Contains(s.Absent, f); {
	case why == "" && absent:
		return errPlace
	case why != "" && !absent:
		return fmt.Errorf("%w: %s", errNoPlace, why)
	}
	return nil
}

// Trial is one hop and the ledger of what was written to it. Not safe for
// concurrent use.
type Trial struct {
	hop    Hop
	ledger Ledger
	luck   *rand.Rand
	n      int    // inputs written
	last   Report // of the newest verdict
}

// NewTrial begins with nothing written.
func NewTrial(h Hop, seed uint64) *Trial {
	return &Trial{hop: h, luck: rand.New(rand.NewPCG(seed, 1))} //nolint:gosec // dice with a seed
}

// Alone inflicts one fault on a hop that is well, and demands that it is well
// again. why: the hop has no place for it.
func (x *Trial) Alone(ctx context.Context, f Fault) (why string, err error) {
	if why, err = x.strike(ctx, f); err != nil {
		return why, err
	}
	return why, x.verdict(ctx)
}

// Mix inflicts faults in a seeded order, several before anything heals too, and
// demands that the hop is well whenever it settles.
func (x *Trial) Mix(ctx context.Context, faults []Fault, rounds int) error {
	var since []Fault
	for range rounds {
		for _, i := range x.luck.Perm(len(faults)) {
			since = append(since, faults[i])
			why, err := x.strike(ctx, faults[i])
			if err == nil && why != "" {
				err = fmt.Errorf("%w: %s", errNoPlace, why)
			}
			if err != nil {
				return fmt.Errorf("%q: %w", since, err)
			}
			if x.luck.IntN(3) > 0 {
				continue
			}
			if err := x.verdict(ctx); err != nil {
				return fmt.Errorf("%q: %w", since, err)
			}
			since = nil
		}
	}
	if err := x.verdict(ctx); err != nil {
		return fmt.Errorf("%q: %w", since, err)
	}
	return nil
}

// strike writes before a fault and behind it.
func (x *Trial) strike(ctx context.Context, f Fault) (why string, err error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if err := x.write(ctx); err != nil {
		return "", err
	}
	if why, err = x.hop.Inflict(ctx, f); err != nil {
		return why, err
	}
	return why, x.write(ctx)
}

// write gives the writer some inputs, in one go or two.
func (x *Trial) write(ctx context.Context) error {
	for range 1 + x.luck.IntN(2) {
		first, n := x.n+1, 1+x.luck.IntN(8)
		for i := first; i < first+n; i++ {
			x.ledger.Emit(Sample{Source, i}, At(i), At(i))
		}
		if err := x.hop.Write(ctx, first, n); err != nil {
			return fmt.Errorf("write input %d: %w", first, err)
		}
		x.n += n
		for i := first; i < first+n; i++ {
			x.ledger.Tell(Sample{Source, i})
		}
	}
	return nil
}

// verdict settles the hop and holds what the reader has against the ledger.
func (x *Trial) verdict(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if err := x.hop.Settle(ctx); err != nil {
		return fmt.Errorf("settle: %w", err)
	}
	x.ledger.Recount()
	missing, err := x.hop.Read(ctx, &x.ledger)
	if err != nil {
		return fmt.Errorf("read: %w", err)
	}
	if missing == nil {
		missing = func(Sample, Fate) Absence { return AbsenceLost }
	}
	x.last = x.ledger.Compare(missing, true)
	if !x.last.OK() {
		return fmt.Errorf("%w: of %d inputs %s", ErrNumbers, x.n, x.last)
	}
	return nil
}
