package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	revisions "plantmesh/edge/revision"
	"plantmesh/proto/revision"
)

const (
	// stepEvery is how often the agent looks at its configuration, and judges a trial; less
	// where a trial is shorter.
	stepEvery = time.Second
	// askSoon is how long it waits with another question while something hangs on the answer.
	askSoon = 2 * time.Second
	// saveEvery is how often a trial's time is made durable.
	saveEvery = 5 * time.Second
)

// reviser is what the agent knows of the hub's configurations.
type reviser struct {
	store  revisions.Store
	orders chan order
	tell   chan struct{} // something happened that the hub should hear of at once

	mu    sync.Mutex // protects what follows
	state revisions.State
	hold  *revision.Hold
	waits string // why what the hub wants is not in force

	// Of the loop alone.
	asked, saved time.Time
	changed      time.Time // when sources were last begun
	answered     bool
	before       *Config // what ran before the trial
	told         string
	unanswered   int // questions in a row that were
}

// order is what a person asks for, over the status socket.
type order struct {
	do   func(context.Context) error
	done chan error
}

func newReviser(c *Config) *reviser {
	store := c.revisions()
	return &reviser{
		store: store, orders: make(chan order), tell: make(chan struct{}, 1), state: c.state, hold: store.Hold(), changed: time.Now(),
	}
}

// said is how the configuration stands.
func (a *agent) said(now time.Time) revision.Reported {
	a.mu.Lock()
	drift := slices.Clone(a.cfg.drift)
	a.mu.Unlock()
	a.rev.mu.Lock()
	defer a.rev.mu.Unlock()
	r := a.rev.state.Says(a.rev.hold, drift, a.rev.waits, now)
	return r.Bounded()
}

// now is the state as it is; only the loop changes it.
func (r *reviser) now() revisions.State {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.state
}

// keep makes a state durable, and the one that is.
func (r *reviser) keep(st revisions.State, now time.Time) error {
	if err := r.store.Save(st); err != nil {
		return err
	}
	r.saved = now
	r.set(st)
	return nil
}

// set makes a state the one that is.
func (r *reviser) set(st revisions.State) {
	r.mu.Lock()
	defer r.mu.Unlock()
	news := len(st.History) != len(r.state.History) || st.Current != r.state.Current || st.Desired != r.state.Desired
	r.state = st
	if news {
		r.news()
	}
}

// news has the hub told at once.
func (r *reviser) news() {
	select {
	case r.tell <- struct{}{}:
	default:
	}
}

// wait notes why what the hub wants is not in force; empty: it may be.
func (r *reviser) wait(why string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.waits = why
}

// held says whether nothing may come into force. A hold that is over is forgotten.
func (r *reviser) held(now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.hold == nil || r.hold.Active(now) {
		return r.hold != nil
	}
	if err := r.store.SetHold(nil); err == nil {
		r.hold = nil
		r.news()
	}
	return false
}

// revise brings what the hub wants into force, and takes back what does not do, until ctx
// ends.
func (a *agent) revise(ctx context.Context) error {
	every := min(stepEvery, time.Duration(a.cfg.Revisions.Settle)/4)
	t := time.NewTicker(every)
	defer t.Stop()
	for last := time.Now(); ; {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		case <-a.link.Nudged():
			a.rev.asked = time.Time{}
		case o := <-a.rev.orders:
			o.done <- o.do(ctx)
			continue
		}
		now := time.Now()
		a.ask(ctx, now)
		if a.rev.now().Trial != nil {
			a.judgeTrial(ctx, now, now.Sub(last))
		}
		if ref, due := a.rev.now().Due(a.rev.held(now)); due && a.settled(now) {
			a.bring(ctx, ref, now)
			now = time.Now() // its time begins when it is in force
		}
		last = now
	}
}

// ask asks the hub which configuration it wants, where that is due.
func (a *agent) ask(ctx context.Context, now time.Time) {
	r := a.rev
	if !a.link.Up() {
		r.asked = time.Time{} // at once when it is there again
		return
	}
	st := r.now()
	every := nextQuestion(r.unanswered)
	if st.Trial != nil && !st.Trial.Answered {
		every = askSoon
	}
	if now.Sub(r.asked) < every {
		return
	}
	r.asked = now
	has := st.Desired
	if !r.store.Whole(has) {
		has = revision.Ref{}
	}
	got, err := a.link.Configuration(ctx, revision.Ask{Has: has})
	if err != nil {
		r.unanswered++
		a.once("which configuration the hub wants is not known", err)
		return
	}
	r.answered, r.unanswered = true, 0
	a.drifted()
	if stale := st.Stale(got.Desired); stale != "" {
		r.wait(stale)
		a.once("the hub's configuration is not taken", errors.New(stale))
		return
	}
	if got.Revision == nil {
		if got.Desired != has && !got.Desired.IsZero() {
			r.asked = now.Add(askSoon - revision.Every) // it is sent once a second
		}
		return
	}
	if err := r.store.Stage(got.Revision); err != nil {
		r.wait("it can't be kept on this disk: " + err.Error())
		a.once("the hub's configuration can't be kept", err)
		return
	}
	if next := st.Offer(got.Desired); next.Desired != st.Desired {
		if err := r.keep(next, now); err != nil {
			a.once("the hub's configuration can't be kept", err)
			return
		}
		r.wait("")
		a.log.Info("the hub wants another configuration", "revision", got.Desired.Number, "by", got.Revision.By, "note", got.Revision.Note)
	}
	r.told = ""
}

// nextQuestion is how long the next question to the hub waits, after so many in a row without
// an answer: a hub that just starts has its connections before its answers, and until it has
// given one its nudges are not heard. An older hub never gives any.
func nextQuestion(unanswered int) time.Duration {
	if unanswered == 0 {
		return revision.Every
	}
	return min(revision.Every, askSoon<<min(unanswered-1, 10))
}

// once tells what goes wrong once, however often it is tried.
func (a *agent) once(what string, err error) {
	if text := what + ": " + err.Error(); text != a.rev.told {
		a.rev.told = text
		a.log.Warn("something of the hub's configuration does not go on", "what", what, "err", err)
	}
}

// drifted looks which files of the gateway's own go before the revision's by now.
func (a *agent) drifted() {
	var all []string
	for _, folder := range []string{revision.SourcesFolder, revision.RulesFolder} {
		if _, drift, err := a.cfg.files(folder, a.cfg.applied); err == nil {
			all = append(all, drift...)
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.cfg.drift = all
}

// bring puts a revision into force, on trial; or says why it can't.
func (a *agent) bring(ctx context.Context, ref revision.Ref, now time.Time) {
	r, st := a.rev, a.rev.now()
	if !r.store.Whole(ref) {
		r.asked = time.Time{} // it was damaged: the hub has it
		return
	}
	before, _ := a.running()
	next, own, err := before.candidate(ref)
	switch {
	case own:
		r.wait(err.Error())
		a.once("the hub's configuration waits", err)
		return
	case err != nil:
		why := next.inRevision(ref, err)
		if err := r.keep(st.Reject(why, now), now); err != nil {
			a.once("what became of the hub's configuration can't be kept", err)
			return
		}
		a.log.Error("the hub's configuration is refused", "revision", ref.Number, "why", why)
		return
	}
	// On the disk before anything of it runs: who dies of it finds it on trial.
	if err := r.keep(st.Begin(a.up(), now), now); err != nil {
		r.wait("it can't be kept on this disk: " + err.Error())
		a.once("the hub's configuration waits", err)
		return
	}
	r.answered, r.asked, r.changed = false, time.Time{}, now
	r.wait("")
	r.before = &before
	a.log.Info("a configuration of the hub is tried", "revision", ref.Number, "sources", len(next.Sources))
	if err := a.apply(ctx, &next); err != nil && ctx.Err() == nil {
		a.log.Warn("the hub's configuration is not wholly in force yet", "revision", ref.Number, "err", err)
	}
}

// settled says whether it can be known which sources are up: those that were begun a moment
// ago may be on their way, and what a revision takes from them would be noticed by nobody.
func (a *agent) settled(now time.Time) bool {
	running := a.crewed()
	if len(a.up()) == len(running) || now.Sub(a.rev.changed) >= time.Duration(a.cfg.Revisions.ConfirmWithin) {
		return true
	}
	a.rev.wait("the sources come up first")
	return false
}

// up are the sources that are up.
func (a *agent) up() (out []string) {
	for _, s := range a.crewed() {
		if v := s.Status(); v.Up() {
			out = append(out, v.Source)
		}
	}
	return out
}

// observed is what a trial is judged by.
func (a *agent) observed() revisions.Observed {
	o := revisions.Observed{Answered: a.rev.answered, Sources: map[string]revisions.Health{}}
	for _, s := range a.crewed() {
		v := s.Status()
		o.Sources[v.Source] = revisions.Health{Up: v.Up(), Aside: v.Aside != nil, Says: cmp.Or(v.Told, v.LastError, v.State)}
	}
	return o
}

// judgeTrial lets a trial go on, or ends it.
func (a *agent) judgeTrial(ctx context.Context, now time.Time, went time.Duration) {
	r := a.rev
	st, verdict, why := r.now().Judge(a.cfg.Revisions, went, a.observed())
	switch verdict {
	case revisions.Good:
		a.confirm(st, now, "")
	case revisions.Bad:
		a.back(ctx, st.Revert(why, now), why, now)
	case revisions.Wait:
		r.set(st)
		r.wait(why)
		if now.Sub(r.saved) >= saveEvery {
			if err := r.keep(st, now); err != nil {
				a.once("how long a configuration is tried can't be kept", err)
			}
		}
	}
}

// confirm ends a trial well.
func (a *agent) confirm(st revisions.State, now time.Time, why string) {
	if err := a.rev.keep(st.Confirm(now, why), now); err != nil {
		a.rev.set(st)
		a.once("the hub's configuration can't be confirmed", err)
		return
	}
	a.rev.before = nil
	a.rev.wait("")
	a.log.Info("the hub's configuration is good", "revision", st.Current.Number)
	if err := a.rev.store.Tidy(a.rev.now()); err != nil {
		a.once("revisions that nobody needs are still on the disk", err)
	}
}

// back puts what was good before into force, also where that can't be kept.
func (a *agent) back(ctx context.Context, st revisions.State, why string, now time.Time) {
	r, was := a.rev, a.rev.now().Current
	a.log.Error("the hub's configuration is taken back", "revision", was.Number, "for", st.Current.String(), "why", why)
	next := r.before
	if next == nil || next.applied != st.Current {
		running, _ := a.running()
		c, _, err := running.candidate(st.Current)
		if c.Rules == nil {
			c.Rules = running.Rules
		}
		if err != nil {
			a.log.Error("the configuration of before can't be read whole: what can is in force", "err", err)
		}
		next = &c
	}
	if err := r.keep(st, now); err != nil {
		r.set(st)
		a.once("that a configuration was taken back can't be kept", err)
	}
	r.before, r.changed = nil, now
	r.wait("")
	if err := a.apply(ctx, next); err != nil && ctx.Err() == nil {
		a.log.Warn("the configuration of before is not wholly in force yet", "err", err)
	}
}

// commander is what a person may do with the hub's configuration, over the status socket.
type commander struct{ a *agent }

// run has the loop do something, and says how the configuration stands then.
func (c commander) run(ctx context.Context, do func(context.Context) error) (revision.Reported, error) {
	o := order{do: do, done: make(chan error, 1)}
	select {
	case c.a.rev.orders <- o:
	case <-ctx.Done():
		return revision.Reported{}, fmt.Errorf("the agent is busy with its configuration: %w", ctx.Err())
	}
	err := <-o.done
	return c.a.said(time.Now()), err
}

// Hold implements status.Commander.
func (c commander) Hold(ctx context.Context, reason string, until time.Time) (revision.Reported, error) {
	return c.run(ctx, func(context.Context) error {
		h, err := revisions.Hold(reason, until, time.Now())
		if err == nil {
			err = c.a.rev.store.SetHold(h)
		}
		if err == nil {
			c.a.rev.holding(h)
			c.a.log.Info("no configuration of the hub comes into force", "reason", h.Reason, "until", h.Until)
		}
		return err
	})
}

// Release implements status.Commander.
func (c commander) Release(ctx context.Context) (revision.Reported, error) {
	return c.run(ctx, func(context.Context) error {
		if !c.a.rev.held(time.Now()) {
			return fmt.Errorf("%w: nothing is held", revisions.ErrNothing)
		}
		if err := c.a.rev.store.SetHold(nil); err != nil {
			return err
		}
		c.a.rev.holding(nil)
		c.a.log.Info("configurations of the hub come into force again")
		return nil
	})
}

// holding takes a hold, which is on the disk.
func (r *reviser) holding(h *revision.Hold) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.hold = h
	r.news()
}

// Rollback implements status.Commander.
func (c commander) Rollback(ctx context.Context) (revision.Reported, error) {
	return c.run(ctx, func(ctx context.Context) error {
		const why = "it was taken back at the gateway, by hand"
		now := time.Now()
		st, err := c.a.rev.now().Rollback(why, now)
		if err != nil {
			return err
		}
		c.a.back(ctx, st, why, now)
		return nil
	})
}

// Confirm implements status.Commander.
func (c commander) Confirm(ctx context.Context) (revision.Reported, error) {
	return c.run(ctx, func(context.Context) error {
		st := c.a.rev.now()
		if st.Trial == nil {
			return fmt.Errorf("%w: no configuration is on trial", revisions.ErrNothing)
		}
		c.a.confirm(st, time.Now(), "at the gateway, by hand")
		return nil
	})
}
