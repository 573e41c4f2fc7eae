package source

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"plantmesh/proto/mesh"
)

// A proof that no clock allows is not believed when nobody listens any more.
func TestSupervisor_VoidBeginsAtTheCommitOfAProofFromTheFuture(t *testing.T) {
	for _, c := range []struct {
		name  string
		ahead time.Duration // of the proof
		from  time.Duration // of the void, both seen from the commit
	}{
		{"a day", 23 * time.Hour, 0},
		{"a clock a minute ahead is the device's", time.Minute, time.Minute},
		{"behind", -5 * time.Second, -5 * time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			const noon = mesh.Nanos(1_795_866_000e9)
			now, d := noon, newDisk(t)
			plant := func() mesh.Nanos { return now }
			sealer := newSealer(t, Window{})
			sealer.Begin(noon.Add(-time.Hour))
			sealer.Prove(noon.Add(c.ahead))
			o, err := sealer.Seal([]byte("state"))
			if err != nil {
				t.Fatal(err)
			}
			if err := NewSupervisor(Config{ID: "s1"}, nil, d, plant, quiet()).Take(t.Context(), []mesh.Offer{o}); err != nil {
				t.Fatal(err)
			}
			now = noon.Add(5 * time.Hour) // the agent was off
			if _, err := NewSupervisor(Config{ID: "s1"}, nil, d, plant, quiet()).Prepare(t.Context()); err != nil {
				t.Fatal(err)
			}
			if want := fmt.Sprintf("| void died [%d,%d)", noon.Add(c.from), now); !strings.HasSuffix(d.told(), want) {
				t.Errorf("got  %s\nwant %s", d.told(), want)
			}
		})
	}
}

func TestSupervisor_SaysErrorsInOneLine(t *testing.T) {
	s := NewSupervisor(Config{ID: "s1"}, nil, nil, nil, quiet())
	s.failed(StateRestarting, errors.Join(errors.New("one"), errors.New("two")))
	s.told("a\nb")
	if st := s.Status(); st.LastError != "one; two" || st.Told != "a; b" {
		t.Errorf("status %+v", st)
	}
}

func TestAway(t *testing.T) {
	var a Away
	now := time.Unix(0, 0)
	if a.Due(now) {
		t.Error("due of a device that is there")
	}
	a.Begin(now)
	var due []time.Duration
	for d := time.Duration(0); d < 150*time.Second; d += time.Second {
		if a.Due(now.Add(d)) {
			due = append(due, d)
		}
	}
	if want := []time.Duration{awayAfter, awayAfter + awayEvery, awayAfter + 2*awayEvery}; !slices.Equal(due, want) {
		t.Errorf("due at %v, want %v", due, want)
	}
	a.End()
	if a.Due(now.Add(time.Hour)) {
		t.Error("due of a device that is there again")
	}
}
