// Package revision decides which of a hub's configurations is in force at this gateway, and
// keeps them on its disk. One comes into force on trial: it is confirmed once all that was
// up before is up again and the hub has answered, else the last good one is in force again,
// whatever dies meanwhile. It decides and keeps; what a configuration does, the root does.
package revision

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"plantmesh/proto/revision"
	"plantmesh/proto/strict"
)

// Errors of what a person asks for.
var (
	// ErrNothing is returned where there is nothing to go back to, to confirm or to release.
	ErrNothing = errors.New("there is nothing to do")
	// ErrHeld is returned where a hold is asked for that makes no sense.
	ErrHeld = errors.New("not held")
)

// Config bounds a trial. Zero fields mean the defaults.
type Config struct {
	// ConfirmWithin is how long sources that were up before may take to come up again, and
	// the hub to answer; default 60s.
	ConfirmWithin strict.Duration `yaml:"confirm_within"`
	// Settle is how long all of it must stay so to be good; default 20s. Both together are
	// the longest that a configuration is in force that does not do.
	Settle strict.Duration `yaml:"settle"`
}

// Bounds of Config: a bad one is gone within two minutes.
const (
	defaultConfirm = time.Minute
	defaultSettle  = 20 * time.Second
	shortest       = 100 * time.Millisecond
	longest        = 100 * time.Second
)

// Validate fills in the defaults and checks the rest.
func (c *Config) Validate() error {
	if c.ConfirmWithin == 0 {
		c.ConfirmWithin = strict.Duration(defaultConfirm)
	}
	if c.Settle == 0 {
		c.Settle = strict.Duration(defaultSettle)
	}
	for _, f := range []struct {
		at string
		d  strict.Duration
	}{{"confirm_within", c.ConfirmWithin}, {"settle", c.Settle}} {
		if time.Duration(f.d) < shortest || time.Duration(f.d) > longest {
			return strict.At(f.at, "between %s and %s is needed", shortest, longest)
		}
	}
	if time.Duration(c.ConfirmWithin+c.Settle) > longest {
		return strict.At("settle", "confirm_within and settle are at most %s together: a configuration that does not do is gone within two minutes", longest)
	}
	return nil
}

const (
	// mostBoots of a trial: at the third beginning it has failed, as what ends the program
	// each time never comes to be judged.
	mostBoots = 3
	// bootCosts is what a beginning takes of a trial's time: what it ran before is known to
	// some seconds only.
	bootCosts = 10 * time.Second
	// mostGood and mostHistory bound what is remembered.
	mostGood    = 5
	mostHistory = 50
)

// Trial is a configuration that is in force and not yet known to be good. Its time is
// counted while the program runs, by a clock that nobody sets: a wall clock may jump.
type Trial struct {
	Began time.Time     `json:"began"` // for people
	Boots int           `json:"boots"` // of the program with it, this one included
	Spent time.Duration `json:"spent_ns"`
	Well  time.Duration `json:"well_ns"` // of them, how long all has been well without a break
	Fine  bool          `json:"fine"`    // all was well when it was last looked at
	// Up are the sources that were up before.
	Up []string `json:"up"`
	// Answered: the hub has, since.
	Answered bool `json:"answered"`
}

// Failure is why the newest revision is not in force.
type Failure struct {
	revision.Ref

	State revision.State `json:"state"` // reverted or rejected
	Why   string         `json:"why"`
	At    time.Time      `json:"at"`
}

// Event is something that happened to a revision.
type Event struct {
	revision.Ref

	At   time.Time `json:"at"`
	What string    `json:"what"` // applied, confirmed, reverted, rejected
	Why  string    `json:"why,omitempty"`
}

// State is all that is known, but for a hold; it is a value, and its methods give the next
// one. The zero State is a gateway with its own files alone.
type State struct {
	Current revision.Ref `json:"current"` // in force
	Applied time.Time    `json:"applied,omitzero"`
	// Good were confirmed, the newest first; behind the last stand the gateway's own files.
	Good    []revision.Ref `json:"good"`
	Desired revision.Ref   `json:"desired"` // the newest that the hub has named
	Tried   uint64         `json:"tried"`   // the highest that was begun or rejected: none is twice
	Trial   *Trial         `json:"trial,omitempty"`
	Failed  *Failure       `json:"failed,omitempty"`
	History []Event        `json:"history"` // the newest last
}

// Offer takes which revision the hub wants. One that is older than what is known here, or
// another one of the same number, is of a hub that was put back: it changes nothing.
func (s State) Offer(ref revision.Ref) State {
	if ref.Number > s.Desired.Number && ref.Number > s.Current.Number {
		s.Desired = ref
	}
	return s
}

// Stale says why what the hub wants is not taken; empty: it is.
func (s State) Stale(ref revision.Ref) string {
	if ref.IsZero() || ref == s.Desired || ref.Number > s.Desired.Number && ref.Number > s.Current.Number {
		return ""
	}
	return fmt.Sprintf("the hub wants %s, and this gateway knows of %s: was the hub put back? A newer one is taken", ref, s.Desired)
}

// Due is the revision that should come into force now, if one should.
func (s State) Due(held bool) (revision.Ref, bool) {
	return s.Desired, !held && s.Trial == nil && s.Desired.Number > s.Tried
}

// Begin puts what is due into force, on trial. up are the sources that are up now.
func (s State) Begin(up []string, now time.Time) State {
	s.Current, s.Applied, s.Tried, s.Failed = s.Desired, now, s.Desired.Number, nil
	s.Trial = &Trial{Began: now, Boots: 1, Up: slices.Clone(up)}
	return s.note(s.Current, now, "applied", "")
}

// Reject notes that what is due can't be read.
func (s State) Reject(why string, now time.Time) State {
	s.Failed, s.Tried = &Failure{s.Desired, revision.Rejected, why, now}, s.Desired.Number
	return s.note(s.Desired, now, "rejected", why)
}

// Confirm ends a trial well.
func (s State) Confirm(now time.Time, why string) State {
	s.Trial, s.Failed = nil, nil
	s.Good = slices.Insert(slices.DeleteFunc(slices.Clone(s.Good), func(r revision.Ref) bool { return r == s.Current }), 0, s.Current)
	s.Good = s.Good[:min(len(s.Good), mostGood)]
	return s.note(s.Current, now, "confirmed", why)
}

// Revert takes back the revision that is in force, for the last good one before it.
func (s State) Revert(why string, now time.Time) State {
	was := s.Current
	s.Failed, s.Trial = &Failure{was, revision.Reverted, why, now}, nil
	s.Good = slices.DeleteFunc(slices.Clone(s.Good), func(r revision.Ref) bool { return r == was })
	s.Current, s.Applied = s.last(), now
	return s.note(was, now, "reverted", why)
}

// last is the last good revision.
func (s State) last() revision.Ref {
	if len(s.Good) > 0 {
		return s.Good[0]
	}
	return revision.Ref{}
}

// Boot begins the program anew. A trial that has been begun too often has failed.
func (s State) Boot(now time.Time) State {
	if s.Trial == nil {
		return s
	}
	t := *s.Trial
	t.Boots, t.Spent, t.Well, t.Fine, t.Answered = t.Boots+1, t.Spent+bootCosts, 0, false, false
	s.Trial = &t
	if t.Boots >= mostBoots {
		return s.Revert(fmt.Sprintf("the agent ended %d times while this revision was tried: its log says why", t.Boots-1), now)
	}
	return s
}

// Lost forgets revisions that are not whole on the disk any more: what was in force of them
// gives way to the last good one, and the hub may give them again.
func (s State) Lost(whole func(revision.Ref) bool, now time.Time) State {
	s.Good = slices.DeleteFunc(slices.Clone(s.Good), func(r revision.Ref) bool { return !whole(r) })
	if s.Current.IsZero() || whole(s.Current) {
		return s
	}
	was := s.Current
	s.Trial, s.Current, s.Applied = nil, s.last(), now
	if was == s.Desired {
		s.Tried = was.Number - 1
	}
	return s.note(was, now, "lost", "its files on this disk are damaged, or gone: the hub is asked for them again")
}

// Observed is what a trial is judged by.
type Observed struct {
	Answered bool // the hub has, since the last time
	// Sources by name: those that are configured now.
	Sources map[string]Health
}

// Health is how a source is.
type Health struct {
	Up    bool
	Aside bool   // it is set aside after errors
	Says  string // of one that is not up: why
}

// Verdict is what becomes of a trial.
type Verdict int

// The verdicts.
const (
	Wait Verdict = iota
	Good
	Bad
)

// Judge lets a trial go on for as long as went by, and says what becomes of it. One that is
// not well at ConfirmWithin, or is not any more after it, has failed.
func (s State) Judge(cfg Config, went time.Duration, o Observed) (State, Verdict, string) {
	t := *s.Trial
	t.Spent += went
	t.Answered = t.Answered || o.Answered
	s.Trial = &t
	unwell := t.unwell(o)
	switch {
	case unwell != "":
		t.Well = 0
	case t.Fine:
		t.Well += went
	}
	t.Fine = unwell == ""
	switch {
	case unwell == "" && t.Well >= time.Duration(cfg.Settle):
		return s, Good, ""
	case unwell != "" && t.Spent >= time.Duration(cfg.ConfirmWithin), t.Spent >= time.Duration(cfg.ConfirmWithin+cfg.Settle), t.aside(o):
		if unwell == "" {
			unwell = "it came up too late"
		}
		return s, Bad, fmt.Sprintf("after %s %s", t.Spent.Round(time.Second), unwell)
	}
	return s, Wait, unwell
}

// unwell says what is not as it was before; empty: nothing.
func (t *Trial) unwell(o Observed) string {
	for _, id := range t.Up {
		h, there := o.Sources[id]
		switch {
		case !there: // the revision has it no more, as somebody wanted
		case h.Aside:
			return fmt.Sprintf("source %s, which was up before, is set aside: %s", id, h.Says)
		case !h.Up:
			return fmt.Sprintf("source %s, which was up before, is not: %s", id, h.Says)
		}
	}
	if !t.Answered {
		return "the hub has not answered since"
	}
	return ""
}

// aside says whether a source that was up is set aside: waiting helps no more.
func (t *Trial) aside(o Observed) bool {
	return slices.ContainsFunc(t.Up, func(id string) bool { return o.Sources[id].Aside })
}

// Rollback goes back by hand: a trial ends, or the good one before is in force.
func (s State) Rollback(why string, now time.Time) (State, error) {
	if s.Current.IsZero() {
		return s, fmt.Errorf("%w: this gateway has its own files alone", ErrNothing)
	}
	return s.Revert(why, now), nil
}

// note remembers what happened.
func (s State) note(ref revision.Ref, now time.Time, what, why string) State {
	s.History = append(slices.Clone(s.History), Event{ref, now, what, why})
	s.History = s.History[max(0, len(s.History)-mostHistory):]
	return s
}

// Says is how the configuration stands, as the gateway tells it. drift are files of the
// gateway's own that go before the revision's; waits is why what is due is not in force.
func (s State) Says(hold *revision.Hold, drift []string, waits string, now time.Time) revision.Reported {
	r := revision.Reported{Ref: s.Current, Applied: s.Applied, Desired: s.Desired.Number, State: revision.Current, Drift: drift}
	_, due := s.Due(false)
	switch {
	case s.Trial != nil:
		r.State, r.Why = revision.Trial, waits
	case due:
		r.State, r.Why = revision.Pending, waits
	case s.Failed != nil && s.Current != s.Desired:
		r.State, r.Why = s.Failed.State, s.Failed.Why
	case len(drift) > 0:
		r.State = revision.Drift
		r.Why = fmt.Sprintf("%s is this gateway's own, and goes before the one of %s", drift[0], s.Current)
		if n := len(drift) - 1; n > 0 {
			r.Why += fmt.Sprintf("; %d files more likewise", n)
		}
	}
	if hold.Active(now) {
		r.Hold = hold
		if r.State == revision.Pending || r.State == revision.Current || r.State == revision.Drift {
			r.State = revision.Held
		}
	}
	return r
}
