package hub

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/user"
	"path/filepath"
	"time"

	"plantmesh/cloud/audit"
	"plantmesh/cloud/registry"
)

const (
	// auditName is the folder of the audit trail.
	auditName = "audit"
	// brokenTrail is one of a backup that could not be gone on with.
	brokenTrail = "audit-broken"
	// sealEvery is how often the trail's newest entry is looked at and told.
	sealEvery = 5 * time.Second
	// roundEvery is how often one file of it, of some 4 MiB, is read again: less than
	// 100 KB/s, and a trail of 1 GiB in four hours.
	roundEvery = time.Minute
)

// mendTrail is what to do about a trail that is broken. Where its end is gone, or is another
// one, a command sees that by the seal alone which the hub has.
func mendTrail(err error) string {
	since := ""
	if broken, is := errors.AsType[*audit.BreakError](err); is && broken.Since.N > 0 {
		since = " --since " + broken.Since.String()
	}
	return "plantmesh audit verify" + since + " says where; plantmesh audit set-aside" + since + " keeps the damaged files beside, and goes on behind the last good entry"
}

// TrailFolder is where the audit trail lies.
func TrailFolder(cfg Config) string { return filepath.Join(cfg.Data, auditName) }

func openTrail(cfg Config) (*audit.Trail, error) { return audit.Open(TrailFolder(cfg), time.Now) }

// Operator is the user of the system who types a command, for the record.
func Operator() string {
	if u, err := user.Current(); err == nil {
		return u.Username
	}
	return "unknown"
}

// SetTrailAside has a broken audit trail go on, beside a hub that runs or not; see audit.
func SetTrailAside(ctx context.Context, cfg Config, why string, since *audit.Seal) (audit.Aside, error) {
	trail, err := openTrail(cfg)
	if err != nil {
		return audit.Aside{}, err
	}
	a, err := trail.SetAside(ctx, audit.Change{Who: Operator(), Via: audit.CLI, Reason: why}, since)
	if errors.Is(err, audit.ErrWhole) {
		err = fmt.Errorf("%w: %w", ErrUsage, err)
	}
	return a, err
}

func operator() registry.Actor { return registry.Actor{Who: Operator(), Via: string(audit.CLI)} }

func openRegistry(cfg Config) (*registry.Registry, error) {
	return registry.OpenSealed(filepath.Join(cfg.Data, registryName), cfg.Identity.KeyFile)
}

// recording opens the registry for a command: what it changes is recorded first.
func recording(cfg Config) (*registry.Registry, error) {
	reg, err := openRegistry(cfg)
	if err != nil {
		return nil, err
	}
	trail, err := openTrail(cfg)
	if err != nil {
		return nil, err
	}
	reg.Record = recorder(trail)
	return reg, nil
}

// recorder writes what the registry is about to change.
func recorder(trail *audit.Trail) func(registry.Act) error {
	return func(a registry.Act) error {
		_, err := trail.Append(changeOf(a))
		return err
	}
}

func changeOf(a registry.Act) audit.Change {
	return audit.Change{
		Who: a.Who, Via: audit.Via(a.Via), Address: a.Address, Action: a.Action, Object: a.Object,
		Before: a.Before, After: a.After, Reason: a.Reason,
	}
}

// seals tells the newest entry in the log, whoever recorded it: who keeps the log
// elsewhere notices when the trail's end is cut off. A trail that is broken is told once.
func (h *hub) seals(ctx context.Context) error {
	t := time.NewTicker(sealEvery)
	defer t.Stop()
	var told audit.Seal
	var trouble string
	for {
		s, err := h.trail.Seal()
		switch {
		case err != nil && err.Error() != trouble:
			trouble = err.Error()
			h.log.ErrorContext(ctx, "nothing can be changed: the audit trail takes no entry", "err", err, "do", mendTrail(err))
		case err == nil && s != told:
			told, trouble = s, ""
			h.log.InfoContext(ctx, "the audit trail is sealed", "n", s.N, "seal", s.String())
		}
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
	}
}

// sealed is the trail's line of /readyz: it keeps no hub from being ready.
func (h *hub) sealed() string {
	s, err := h.trail.Seal()
	if err != nil {
		return "nothing can be changed: " + err.Error() + "; " + mendTrail(err)
	}
	if broken := h.rounds.Found(); broken != nil {
		return "newest entry " + s.String() + "; an older one is damaged: " + broken.Error() + "; " + mendTrail(broken)
	}
	return "newest entry " + s.String()
}

// goRounds reads the trail's files again, one at each tick, until ctx ends: damage to an
// older one is told when it is found, and not at the next start, which could change nothing.
func (h *hub) goRounds(ctx context.Context, every time.Duration) error {
	t := time.NewTicker(every)
	defer t.Stop()
	var told, trouble string
	for {
		_, err := h.rounds.Step()
		switch broken := h.rounds.Found(); {
		case err != nil && err.Error() != trouble:
			trouble = err.Error()
			h.log.WarnContext(ctx, "a file of the audit trail can't be read again, trying on", "err", err)
		case err != nil:
		case broken != nil && broken.Error() != told:
			told = broken.Error()
			h.counts.broken.Add(1)
			h.log.ErrorContext(ctx, "the audit trail is damaged: what is recorded still goes on, and at its next start this hub could change nothing", "err", broken, "file", broken.File, "entry", broken.N, "do", mendTrail(broken))
		case broken == nil && told != "":
			told, trouble = "", ""
			h.log.InfoContext(ctx, "the audit trail is whole again")
		}
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
	}
}

// entries counts those of the trail.
func (h *hub) entries() uint64 {
	s, err := h.trail.Seal()
	if err != nil {
		return 0
	}
	return s.N
}

// keepTrail puts into a backup that was unpacked the trail that goes on: the one of the
// data folder where it follows that of the backup, else the backup's; and records the
// restore in it.
func (r *restore) keepTrail(ctx context.Context, from string, m *Manifest, log *slog.Logger) error {
	here, fresh := filepath.Join(r.data, auditName), filepath.Join(r.fresh, auditName)
	known, err := audit.Verify(ctx, fresh, nil)
	if errors.Is(err, audit.ErrBroken) {
		log.ErrorContext(ctx, "the audit trail of the backup is broken: it is kept beside, and another one begins", "as", brokenTrail, "err", err)
		known.Seal = audit.Seal{}
		err = os.Rename(fresh, filepath.Join(r.fresh, brokenTrail))
	}
	if err != nil {
		return err
	}
	now, err := audit.Verify(ctx, here, &known.Seal)
	switch {
	case err == nil && now.Seal.N > known.Seal.N:
		err = copyTrail(here, fresh)
	case errors.Is(err, audit.ErrBroken) && now.Files > 0:
		log.WarnContext(ctx, "the audit trail of the data folder does not go on from the backup's, and is moved aside", "err", err)
		err = nil
	case errors.Is(err, audit.ErrBroken): // there is none
		err = nil
	}
	if err != nil {
		return err
	}
	trail, err := audit.Open(fresh, time.Now)
	if err != nil {
		return err
	}
	_, err = trail.Append(changeOf(registry.Act{
		Actor: operator(), Action: "hub.restore", Object: m.Site, Before: known.Seal.String(),
		After: "the backup of " + m.Made.UTC().Format(time.RFC3339), Reason: from,
	}))
	return err
}

// copyTrail puts a trail in the place of another one.
func copyTrail(from, to string) error {
	if err := os.RemoveAll(to); err != nil {
		return err
	}
	if err := os.Mkdir(to, 0o700); err != nil {
		return err
	}
	if err := copyBeside(from, to); err != nil {
		return err
	}
	return syncFolder(to)
}
