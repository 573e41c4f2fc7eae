package demo

import (
	"context"
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
)

const (
	// strikes is how often each fault strikes.
	strikes = 3
	// workersWithin is how long an agent may take to have all its workers.
	workersWithin = time.Minute
	// away is how long a killed process stays dead.
	away = time.Second
	// sinceBackup is what a restored hub has lost.
	sinceBackup = 3 * time.Second
	// outageFor is how long the link is down at a stretch, and clocks are off.
	outageFor = 10 * time.Second
)

// setClocks gives every process the plant's clock. Agent and hub have files of
// their own, because those can be off.
func (d *demo) setClocks(p clock.Plant) error {
	d.clocks = p
	return d.setSkew(d.skew)
}

// setSkew moves the agent's clock ahead, and the hub's as much behind.
func (d *demo) setSkew(by time.Duration) error {
	d.skew = by
	ahead, behind := d.clocks, d.clocks
	ahead.Plant, behind.Plant = ahead.Plant.Add(by), behind.Plant.Add(-by)
	if d.clocks.Stop != 0 {
		ahead.Stop, behind.Stop = ahead.Stop.Add(by), behind.Stop.Add(-by)
	}
	return errors.Join(d.clocks.Write(d.clock()), ahead.Write(d.edgeClock()), behind.Write(d.hubClock()))
}

// instant is when a fault strikes for the i-th time: between 5 % and 90 % of
// the run, one in each third.
func (p plan) instant(rnd *rand.Rand, i int) time.Duration {
	return time.Duration((0.05 + (float64(i)+rnd.Float64())*0.85/strikes) * float64(p.For))
}

// lateness is a stretch in which a machine's device keeps what it has to say.
type lateness struct {
	machine         string
	from, to, until time.Time
}

// late are the stretches of the fault of that name: a 24th of the run each,
// told a 12th of the run later, long after every window was closed. What a
// forgetful device keeps may be lost with its queue, so it keeps nothing.
func (p plan) late() (out []lateness) {
	if !slices.Contains(p.Faults, "late") {
		return nil
	}
	rnd := rand.New(rand.NewPCG(p.seed, 2)) //nolint:gosec // a seeded demo, not a secret
	var all []string
	for _, s := range sources() {
		for _, m := range s.machines {
			if s.name != forgetful {
				all = append(all, s.line+"."+m+".")
			}
		}
	}
	for i := range strikes {
		from := p.h.Add(p.instant(rnd, i)).Truncate(time.Millisecond)
		to := from.Add((p.For / 24).Truncate(time.Millisecond))
		until := to.Add((p.For / 12).Truncate(time.Millisecond))
		if end := p.h.Add(p.For - p.For/50).Truncate(time.Millisecond); until.After(end) {
			until = end
		}
		out = append(out, lateness{all[rnd.IntN(len(all))], from, to, until})
	}
	return out
}

// strike lets the chosen faults happen at seeded instants of the run.
func (d *demo) strike(ctx context.Context) error {
	type blow struct {
		at    time.Duration
		fault string
	}
	rnd := rand.New(rand.NewPCG(d.seed, 1)) //nolint:gosec // a seeded demo, not a secret
	var blows []blow
	for i := range strikes {
		for _, f := range d.Faults {
			if at := d.instant(rnd, i); f != "late" { // that one is the plant's own
				blows = append(blows, blow{time.Duration(float64(at) / d.Speed), f})
			}
		}
	}
	slices.SortFunc(blows, func(a, b blow) int { return int(a.at - b.at) })
	for _, l := range d.late() {
		d.say("fault   late: what %s says from %s to %s leaves at %s", strings.TrimSuffix(l.machine, "."), stamp(l.from), stamp(l.to), stamp(l.until))
	}
	began := time.Now()
	for _, b := range blows {
		wait, cancel := context.WithTimeout(ctx, max(0, b.at-time.Since(began)))
		err := d.await(wait, nil, 0, "")
		cancel()
		if ctx.Err() != nil || !errors.Is(err, context.DeadlineExceeded) {
			return errors.Join(ctx.Err(), err)
		}
		took, err := d.blow(ctx, b.fault, rnd)
		if err != nil {
			return fmt.Errorf("fault %s: %w", b.fault, err)
		}
		d.downs = append(d.downs, down{b.fault, took})
		d.say("fault   %s at %.0f s, away %.1f s", b.fault, time.Since(began).Seconds(), took.Seconds())
	}
	return nil
}

// blow lets one fault happen and says how long it kept something away.
func (d *demo) blow(ctx context.Context, fault string, rnd *rand.Rand) (time.Duration, error) {
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
		d.link.Cut(true)
		err := pause(ctx, outageFor)
		d.link.Cut(false)
		return time.Since(began), err
	case "skew":
		// From a minute to ten, either way: what clocks without NTP are off.
		by := time.Minute + time.Duration(rnd.Int64N(int64(9*time.Minute)))
		if rnd.IntN(2) == 0 {
			by = -by
		}
		err := errors.Join(d.setSkew(by), pause(ctx, outageFor), d.setSkew(0))
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
