package revision

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"plantmesh/proto/revision"
	"plantmesh/proto/strict"
)

func noon() time.Time { return time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC) }

func ref(n uint64) revision.Ref {
	if n == 0 {
		return revision.Ref{}
	}
	return revision.Ref{Number: n, Sum: fmt.Sprintf("%064d", n)}
}

func config(t *testing.T) Config {
	t.Helper()
	var c Config
	if err := c.Validate(); err != nil {
		t.Fatal(err)
	}
	return c
}

// confirmed is a state with these revisions confirmed one after the other.
func confirmed(all ...uint64) (s State) {
	for _, n := range all {
		s = s.Offer(ref(n)).Begin(nil, noon()).Confirm(noon(), "")
	}
	return s
}

func TestConfig_ABadOneIsGoneWithinTwoMinutes(t *testing.T) {
	c := config(t)
	if worst := time.Duration(c.ConfirmWithin+c.Settle) + bootCosts; worst > 100*time.Second {
		t.Errorf("a bad configuration is in force for %s", worst)
	}
	for _, bad := range []Config{{ConfirmWithin: -1}, {Settle: 1}, {ConfirmWithin: strict.Duration(time.Hour)}, {ConfirmWithin: strict.Duration(90 * time.Second), Settle: strict.Duration(90 * time.Second)}} {
		if bad.Validate() == nil {
			t.Errorf("%+v is taken", bad)
		}
	}
}

// What becomes of a trial, look by look: each is a second.
func TestJudge(t *testing.T) {
	c := config(t)
	up, away := Health{Up: true}, Health{Says: "not connected: connection refused"}
	aside := Health{Aside: true, Says: "panic: x"}
	all := func(h Health, answered bool) func(int) Observed {
		return func(int) Observed {
			return Observed{Answered: answered, Sources: map[string]Health{"press": h, "new": away}}
		}
	}
	for name, look := range map[string]struct {
		at      func(second int) Observed
		verdict Verdict
		seconds int
		why     string
	}{
		"well at once":            {all(up, true), Good, 21, ""},
		"never up":                {all(away, true), Bad, 60, "after 1m0s source press, which was up before, is not: not connected: connection refused"},
		"the hub does not answer": {all(up, false), Bad, 60, "after 1m0s the hub has not answered since"},
		"set aside":               {all(aside, true), Bad, 1, "after 1s source press, which was up before, is set aside: panic: x"},
		"up late": {func(n int) Observed {
			if n < 55 {
				return all(away, true)(n)
			}
			return all(up, false)(n)
		}, Good, 75, ""},
		"up at the last moment, and away again": {func(n int) Observed {
			if n == 59 || n == 60 {
				return all(up, true)(n)
			}
			return all(away, true)(n)
		}, Bad, 61, "source press"},
		"comes and goes": {func(n int) Observed {
			if n%15 == 0 {
				return all(away, true)(n)
			}
			return all(up, true)(n)
		}, Bad, 60, "source press"},
		"taken out": {func(int) Observed { return Observed{Answered: true} }, Good, 21, ""},
	} {
		s := State{}.Offer(ref(7)).Begin([]string{"press"}, noon())
		for n := 1; ; n++ {
			var v Verdict
			var why string
			if s, v, why = s.Judge(c, time.Second, look.at(n)); v == Wait && n < 200 {
				continue
			}
			if v != look.verdict || n != look.seconds || !strings.Contains(why, look.why) {
				t.Errorf("%s: %v after %d s: %s", name, v, n, why)
			}
			break
		}
	}
}

func TestState_EachStep(t *testing.T) {
	now := noon()
	says := func(s State) string {
		r := s.Says(nil, nil, "", now)
		return fmt.Sprintf("%d %s", r.Number, r.State)
	}
	due := func(s State, held bool) bool { _, is := s.Due(held); return is }
	offered := confirmed(6).Offer(ref(7))
	for name, c := range map[string]struct {
		s    State
		due  bool
		says string
	}{
		"nothing":                        {State{}, false, "0 current"},
		"offered":                        {State{}.Offer(ref(7)), true, "0 pending"},
		"another one offered":            {offered, true, "6 pending"},
		"an older one offered":           {confirmed(6).Offer(ref(5)), false, "6 current"},
		"the same number":                {confirmed(6).Offer(revision.Ref{Number: 6, Sum: "x"}), false, "6 current"},
		"tried":                          {offered.Begin(nil, now), false, "7 trial"},
		"good":                           {offered.Begin(nil, now).Confirm(now, ""), false, "7 current"},
		"bad":                            {offered.Begin(nil, now).Revert("x", now), false, "6 reverted"},
		"bad, and the next":              {offered.Begin(nil, now).Revert("x", now).Offer(ref(8)), true, "6 pending"},
		"offered while another is tried": {offered.Begin(nil, now).Offer(ref(8)), false, "7 trial"},
		"and the trial is over":          {offered.Begin(nil, now).Offer(ref(8)).Revert("x", now), true, "6 pending"},
		"bad, and none before":           {State{}.Offer(ref(7)).Begin(nil, now).Revert("x", now), false, "0 reverted"},
		"not readable":                   {offered.Reject("x", now), false, "6 rejected"},
		"begun once more":                {offered.Begin(nil, now).Boot(now), false, "7 trial"},
		"begun twice more":               {offered.Begin(nil, now).Boot(now).Boot(now), false, "6 reverted"},
		"a good one begun often":         {confirmed(6).Boot(now).Boot(now).Boot(now), false, "6 current"},
		"lost":                           {confirmed(5, 6).Lost(func(r revision.Ref) bool { return r.Number != 6 }, now), true, "5 pending"},
		"all lost":                       {confirmed(5, 6).Lost(func(revision.Ref) bool { return false }, now), true, "0 pending"},
	} {
		if due(c.s, false) != c.due || due(c.s, true) || says(c.s) != c.says {
			t.Errorf("%s: due %v, %s; want %v, %s", name, due(c.s, false), says(c.s), c.due, c.says)
		}
	}
	// By hand it goes back as far as there is something, and nothing that was taken back
	// comes again by itself.
	s := confirmed(5, 6, 7)
	for _, want := range []string{"6 reverted", "5 reverted", "0 reverted"} {
		var err error
		if s, err = s.Rollback("by hand", now); err != nil || says(s) != want || due(s, false) {
			t.Fatalf("%s, %v, want %s", says(s), err, want)
		}
	}
	if _, err := s.Rollback("by hand", now); !errors.Is(err, ErrNothing) {
		t.Errorf("further back: %v", err)
	}
	for stale, want := range map[revision.Ref]bool{ref(0): false, ref(7): false, ref(8): false, ref(6): true, {Number: 7, Sum: "x"}: true} {
		if got := confirmed(7).Stale(stale); (got != "") != want {
			t.Errorf("%v: %q", stale, got)
		}
	}
}

func TestSays_DriftAndHold(t *testing.T) {
	now := noon()
	h, err := Hold("  night\nshift ", now.Add(time.Hour), now)
	if err != nil || h.Reason != "night shift" {
		t.Fatal(h, err)
	}
	for name, c := range map[string]struct {
		s    State
		hold *revision.Hold
		want revision.State
	}{
		"drift": {confirmed(6), nil, revision.Drift}, "held": {confirmed(6).Offer(ref(7)), h, revision.Held},
		"held while it is tried": {confirmed(6).Offer(ref(7)).Begin(nil, now), h, revision.Trial}, "held after it was bad": {confirmed(6).Offer(ref(7)).Begin(nil, now).Revert("x", now), h, revision.Reverted},
	} {
		r := c.s.Says(c.hold, []string{"sources.d/a.yaml", "sources.d/b.yaml"}, "", now)
		if r.State != c.want || (r.Hold != nil) != (c.hold != nil) {
			t.Errorf("%s: %+v", name, r)
		}
		if name == "drift" && r.Why != "sources.d/a.yaml is this gateway's own, and goes before the one of revision 6; 1 files more likewise" {
			t.Error(r.Why)
		}
	}
	if h.Active(now.Add(time.Hour)) || !h.Active(now.Add(59*time.Minute)) {
		t.Error("it does not end when it says")
	}
	for _, bad := range []struct {
		reason string
		until  time.Time
	}{{"", time.Time{}}, {" \n", time.Time{}}, {"x", now}} {
		if _, err := Hold(bad.reason, bad.until, now); !errors.Is(err, ErrHeld) {
			t.Errorf("%q until %s: %v", bad.reason, bad.until, err)
		}
	}
}

// plant is a gateway whose program dies at any moment: all it knows afterwards is what it
// has kept. A revision is good, dead (its program ends at once), silent (a source that was
// up stays away) or unreadable, by its number.
type plant struct {
	t         *testing.T
	r         *rand.Rand
	cfg       Config
	kept      State // on the disk
	s         State // of the program
	held      bool
	offered   uint64
	applied   []uint64
	inForce   time.Duration // of a bad revision
	worst     time.Duration
	everGood  map[uint64]bool
	beganHeld bool
}

func kind(n uint64) string {
	if n == 0 {
		return "good"
	}
	return []string{"good", "dead", "silent", "unreadable", "good"}[n*2654435761>>7%5]
}

// keep writes the state, or dies before, or right behind it.
func (p *plant) keep(s State) {
	switch p.r.IntN(8) {
	case 0:
		p.boot()
	case 1:
		p.kept = s
		p.boot()
	default:
		p.kept, p.s = s, s
	}
}

func (p *plant) boot() {
	p.inForce += 3 * time.Second // what it takes
	p.s = p.kept.Boot(noon())
	p.kept = p.s
}

// second is one of the program's life.
func (p *plant) second() {
	bad := kind(p.s.Current.Number) != "good"
	if bad {
		p.inForce += time.Second
		p.worst = max(p.worst, p.inForce)
	} else {
		p.inForce = 0
	}
	if p.s.Trial != nil {
		if kind(p.s.Current.Number) == "dead" {
			p.boot()
			return
		}
		s, v, why := p.s.Judge(p.cfg, time.Second, Observed{Answered: true, Sources: map[string]Health{"press": {Up: !bad}}})
		switch v {
		case Good:
			p.everGood[s.Current.Number] = true
			p.keep(s.Confirm(noon(), ""))
		case Bad:
			p.keep(s.Revert(why, noon()))
		case Wait:
			if p.s = s; p.r.IntN(5) == 0 {
				p.keep(s)
			}
		}
		return
	}
	next, due := p.s.Due(p.held)
	if !due {
		return
	}
	if kind(next.Number) == "unreadable" {
		p.keep(p.s.Reject("x", noon()))
		return
	}
	p.beganHeld = p.beganHeld || p.held
	if slices.Contains(p.applied, next.Number) && p.kept.Tried >= next.Number {
		p.t.Errorf("revision %d is tried again", next.Number)
	}
	p.applied = append(p.applied, next.Number)
	p.keep(p.s.Begin([]string{"press"}, noon()))
}

// Whatever is offered, held, released, taken back by hand, and wherever the program dies:
// it ends on a revision that does, no bad one is in force for two minutes, none begins
// while held, and none is confirmed that does not do.
func TestState_AlwaysEndsOnAGoodOne(t *testing.T) {
	for seed := range uint64(300) {
		p := &plant{t: t, r: rand.New(rand.NewPCG(seed, 7)), cfg: config(t), everGood: map[uint64]bool{0: true}}
		for range 400 {
			switch p.r.IntN(40) {
			case 0:
				p.offered += 1 + p.r.Uint64N(3)
				p.keep(p.s.Offer(ref(p.offered)))
			case 1:
				p.held = !p.held
			case 2:
				if s, err := p.s.Rollback("by hand", noon()); err == nil && p.r.IntN(3) == 0 {
					p.keep(s)
				}
			case 3:
				p.boot()
			default:
				p.second()
			}
		}
		p.held = false
		for range 200 {
			p.second()
		}
		if p.s.Trial != nil || kind(p.s.Current.Number) != "good" || !p.everGood[p.s.Current.Number] {
			t.Fatalf("seed %d ends on %s (%s), trial %+v", seed, p.s.Current, kind(p.s.Current.Number), p.s.Trial)
		}
		if _, due := p.s.Due(false); due {
			t.Errorf("seed %d: something is still due", seed)
		}
		if p.worst > 2*time.Minute {
			t.Errorf("seed %d: a bad revision was in force for %s", seed, p.worst)
		}
		if p.beganHeld {
			t.Errorf("seed %d: one began while held", seed)
		}
		for _, g := range p.s.Good {
			if kind(g.Number) != "good" {
				t.Errorf("seed %d: revision %d is called good", seed, g.Number)
			}
		}
		if len(p.s.Good) > mostGood || len(p.s.History) > mostHistory {
			t.Errorf("seed %d: %d good, %d events", seed, len(p.s.Good), len(p.s.History))
		}
	}
}
