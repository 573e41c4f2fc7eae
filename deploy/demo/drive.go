package demo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"time"

	"plantmesh/proto/clock"
	"plantmesh/proto/mesh"
)

const (
	// historyWithin bounds the 48 hours of history; they take well under a minute.
	historyWithin = 10 * time.Minute
	// settleWithin is how long the products may take to reach the end.
	settleWithin = 120 * time.Second
	// sayEvery is how often a wait is worth a line.
	sayEvery = 15 * time.Second
)

// drive lets the plant run, strikes, and at the end compares.
func (d *demo) drive(ctx context.Context) error {
	d.say("page    http://%s", d.listen)
	d.say("history %s to %s: catching up", stamp(d.start), stamp(d.h))
	began := time.Now()
	if err := d.await(ctx, d.historyDone, historyWithin, "the plant's history to be received"); err != nil {
		return err
	}
	d.say("history received by the agent after %.1f s", time.Since(began).Seconds())
	run := clock.Plant{Plant: mesh.NanosOf(d.h), Machine: mesh.NanosOf(time.Now()), Speed: d.Speed}
	if d.bounded() {
		run.Stop = mesh.NanosOf(d.a.Add(-d.lastStretch()))
	}
	if err := d.setClocks(run); err != nil {
		return err
	}
	if err := d.firstOEE(ctx, began); err != nil {
		return err
	}
	if !d.bounded() {
		return d.await(ctx, nil, 0, "")
	}
	if err := d.strike(ctx); err != nil {
		return err
	}
	if err := d.finish(ctx, run); err != nil {
		return err
	}
	left := time.Duration(float64(d.For+disorder)/d.Speed) + time.Minute
	if err := d.await(ctx, d.standing, left, "the plant to stand still"); err != nil {
		return err
	}
	if !d.Assert {
		d.say("the plant stands still now; the page stays until you press Ctrl-C")
		return d.await(ctx, nil, 0, "")
	}
	return d.assert(ctx)
}

// lastStretch is the plant time that runs only when every source is read
// again: whoever hears a plant first when it stands already proves nothing.
func (d *demo) lastStretch() time.Duration { return min(time.Minute, d.For/2) }

// finish lets the plant run to its end once every source is read.
func (d *demo) finish(ctx context.Context, run clock.Plant) error {
	wait, cancel := context.WithTimeout(ctx, settleWithin)
	defer cancel()
	waiting := d.waiting()
	for {
		unread := d.unread(wait)
		if unread == "" {
			break
		}
		if err := d.alive(); err != nil {
			return err
		}
		waiting("every source to be read again: " + unread)
		if pause(wait, 50*time.Millisecond) != nil {
			return errors.Join(ctx.Err(), fmt.Errorf("not all sources are read again within %s: %s", settleWithin, unread))
		}
	}
	now := mesh.NanosOf(time.Now())
	return d.setClocks(clock.Plant{Plant: run.At(now), Machine: now, Speed: d.Speed, Stop: mesh.NanosOf(d.a.Add(disorder))})
}

// findings is the exit code of a status that names what was lost, or needs somebody.
const findings = 7

// unread names a source that is not read now; empty: all are.
func (d *demo) unread(ctx context.Context) string {
	out, err := command(ctx, d.edge.path, "status", "--json", "--config", d.edgeConfig()).Output()
	if exit, ok := errors.AsType[*exec.ExitError](err); err != nil && (!ok || exit.ExitCode() != findings) {
		return explain(err).Error()
	}
	var answer struct {
		Data struct {
			Sources []struct{ Source, State, Says string }
		}
	}
	if err := json.Unmarshal(out, &answer); err != nil {
		return err.Error()
	}
	s := answer.Data
	for _, src := range s.Sources {
		// Where nothing was forgotten, nothing has to be committed while the plant stands.
		if src.Says == "" || strings.HasPrefix(src.Says, "not connected") || src.Source == forgetful && src.State != "running" {
			return fmt.Sprintf("%s is %s, says %q", src.Source, src.State, src.Says)
		}
	}
	if len(s.Sources) < len(sources()) {
		return fmt.Sprintf("the agent has %d sources", len(s.Sources))
	}
	return ""
}

// await waits for done, and notices a child that ended by itself.
func (d *demo) await(ctx context.Context, done <-chan struct{}, within time.Duration, what string) error {
	var late <-chan time.Time
	if within > 0 {
		t := time.NewTimer(within)
		defer t.Stop()
		late = t.C
	}
	look := time.NewTicker(200 * time.Millisecond)
	defer look.Stop()
	waiting := d.waiting()
	for {
		select {
		case <-done:
			return nil
		case <-late:
			return fmt.Errorf("waited %s for %s", within, what)
		case f := <-d.faultEvents:
			return fmt.Errorf("the simulated plant failed: %s", f)
		case <-ctx.Done():
			return ctx.Err()
		case <-look.C:
			if err := d.alive(); err != nil {
				return err
			}
			if what != "" {
				waiting(what)
			}
		}
	}
}

// waiting says what is waited for, each time sayEvery has passed: nobody should
// wonder whether the demo stands.
func (d *demo) waiting() func(what string) {
	last := time.Now()
	return func(what string) {
		if time.Since(last) >= sayEvery {
			last = time.Now()
			d.say("waiting for %s", what)
		}
	}
}

// alive reports a child that ended although it should run.
func (d *demo) alive() error {
	for _, c := range []*child{d.hub, d.sim, d.edge} {
		select {
		case <-c.ended():
			if c.wanted() {
				return errors.New(c.why())
			}
		default:
		}
	}
	return nil
}

func pause(ctx context.Context, t time.Duration) error {
	timer := time.NewTimer(t)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
