package demo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"plantmesh/proto/clock"
	"plantmesh/proto/mesh"
)

const (
	// historyWithin bounds the 48 hours of history; they take well under a minute.
	historyWithin = 10 * time.Minute
	// settleWithin is how long the products may take to reach the end.
	settleWithin = 120 * time.Second
	// strikes is how often each fault strikes.
	strikes = 3
	// workersWithin is how long an agent may take to have all its workers.
	workersWithin = time.Minute
	// away is how long a killed process stays dead.
	away = time.Second
	// sinceBackup is what a restored hub has lost.
	sinceBackup = 3 * time.Second
	// sayEvery is how often a wait is worth a line.
	sayEvery = 15 * time.Second
	// outageFor is how long the link is down at a stretch.
	outageFor = 10 * time.Second
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
	if err := run.Write(d.clock()); err != nil {
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
	return clock.Plant{Plant: run.At(now), Machine: now, Speed: d.Speed, Stop: mesh.NanosOf(d.a.Add(disorder))}.Write(d.clock())
}

// unread names a source that is not read now; empty: all are.
func (d *demo) unread(ctx context.Context) string {
	out, err := command(ctx, d.edge.path, "status", "--json", "--config", d.edgeConfig()).Output()
	if err != nil {
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

// strike lets the chosen faults happen at seeded instants of the run.
func (d *demo) strike(ctx context.Context) error {
	if len(d.Faults) == 0 {
		return nil
	}
	type blow struct {
		at    time.Duration
		fault string
	}
	whole := time.Duration(float64(d.For) / d.Speed)
	rnd := rand.New(rand.NewPCG(d.seed, 1)) //nolint:gosec // a seeded demo, not a secret
	var blows []blow
	for i := range strikes {
		for _, f := range d.Faults {
			// Between 5 % and 90 % of the run, one in each third.
			at := 0.05 + (float64(i)+rnd.Float64())*0.85/strikes
			blows = append(blows, blow{time.Duration(at * float64(whole)), f})
		}
	}
	slices.SortFunc(blows, func(a, b blow) int { return int(a.at - b.at) })
	began := time.Now()
	for _, b := range blows {
		wait, cancel := context.WithTimeout(ctx, max(0, b.at-time.Since(began)))
		err := d.await(wait, nil, 0, "")
		cancel()
		if ctx.Err() != nil || !errors.Is(err, context.DeadlineExceeded) {
			return errors.Join(ctx.Err(), err)
		}
		took, err := d.blow(ctx, b.fault)
		if err != nil {
			return fmt.Errorf("fault %s: %w", b.fault, err)
		}
		d.downs = append(d.downs, down{b.fault, took})
		d.say("fault   %s at %.0f s, away %.1f s", b.fault, time.Since(began).Seconds(), took.Seconds())
	}
	return nil
}

// blow lets one fault happen and says how long it kept something away.
func (d *demo) blow(ctx context.Context, fault string) (time.Duration, error) {
	began := time.Now()
	switch fault {
	case "kill-agent":
		d.edge.kill()
		if err := pause(ctx, away); err != nil {
			return 0, err
		}
		return time.Since(began), d.edge.start(ctx)
	case "kill-hub":
		d.hub.kill()
		if err := pause(ctx, away); err != nil {
			return 0, err
		}
		if err := d.hub.start(ctx); err != nil {
			return 0, err
		}
		return time.Since(began), d.waitHub(ctx)
	case "restore-hub":
		return d.restoreHub(ctx)
	case "kill-worker":
		return d.killWorkers(ctx)
	case "outage":
		d.link.set(true)
		err := pause(ctx, outageFor)
		d.link.set(false)
		return time.Since(began), err
	}
	return 0, fmt.Errorf("no such fault")
}

// restoreHub backs the hub up while it runs, lets it go on, and puts the backup
// in the place of what it has by then.
func (d *demo) restoreHub(ctx context.Context) (time.Duration, error) {
	d.backups++
	to := filepath.Join(d.dir, fmt.Sprintf("backup-%d.tar", d.backups))
	if _, err := command(ctx, d.hub.path, "backup", "--config", d.hubConfig(), to).Output(); err != nil {
		return 0, explain(err)
	}
	if err := pause(ctx, sinceBackup); err != nil {
		return 0, err
	}
	began := time.Now()
	d.hub.kill()
	if _, err := command(ctx, d.hub.path, "restore", "--config", d.hubConfig(), "--force", to).Output(); err != nil {
		return 0, explain(err)
	}
	if err := d.hub.start(ctx); err != nil {
		return 0, err
	}
	return time.Since(began), d.waitHub(ctx)
}

// killWorkers kills every worker of the agent and waits until as many run again.
func (d *demo) killWorkers(ctx context.Context) (time.Duration, error) {
	old := childrenOf(d.edge.pid())
	for began := time.Now(); len(old) < len(sources()); old = childrenOf(d.edge.pid()) { // the agent may just have begun
		if time.Since(began) > workersWithin {
			return 0, fmt.Errorf("the agent has %d of %d workers to kill", len(old), len(sources()))
		}
		if err := pause(ctx, 20*time.Millisecond); err != nil {
			return 0, err
		}
	}
	began := time.Now()
	for _, pid := range old {
		p, err := os.FindProcess(pid)
		if err == nil {
			_ = p.Signal(syscall.SIGKILL) // it may have ended by itself
		}
	}
	for {
		fresh := 0
		for _, pid := range childrenOf(d.edge.pid()) {
			if !slices.Contains(old, pid) {
				fresh++
			}
		}
		if fresh >= len(old) {
			return time.Since(began), nil
		}
		if time.Since(began) > workersWithin {
			return 0, fmt.Errorf("%d of %d workers came back within %s", fresh, len(old), workersWithin)
		}
		if err := pause(ctx, 20*time.Millisecond); err != nil {
			return 0, err
		}
	}
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
