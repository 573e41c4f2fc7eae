package hub

import (
	"context"
	"encoding/hex"
	"fmt"
	"log/slog"
	"math"
	"os"

	"plantmesh/cloud/audit"
	"plantmesh/cloud/ingest"
	"plantmesh/cloud/product"
	"plantmesh/cloud/store"
	"plantmesh/proto/mesh"
	"plantmesh/proto/strict"
	"plantmesh/proto/wire"
)

// siteLog is where the site's revisions lie.
type siteLog struct {
	store  *store.Store
	ingest *ingest.Ingest
	now    func() mesh.Nanos // the plant's
	trail  *audit.Trail
	log    *slog.Logger
}

// load reads the site file, and what the site was before, oldest first. Where the
// file says something new, that becomes a fact in the hub's log: what the
// products use is a function of the log, and so is what is new.
func (l *siteLog) load(ctx context.Context, path string) (site *product.Site, before []*product.Site, err error) {
	src, err := os.ReadFile(path)
	if err != nil {
		return nil, nil, fmt.Errorf("read the site file: %w", err)
	}
	if site, err = product.ParseSite(path, src); err != nil {
		return nil, nil, err
	}
	recorded, err := l.recorded(ctx)
	if err != nil {
		return nil, nil, err
	}
	for _, r := range recorded {
		if old, err := product.ParseSite("site", r.Content); err == nil { // else no product uses it either
			before = append(before, old)
		}
	}
	d := mesh.Descriptor{Kind: mesh.DescribeSite, Content: src}
	if n := len(recorded); n > 0 && recorded[n-1].Hash() == d.Hash() {
		return site, before, nil
	}
	from, err := l.validFrom(ctx, path, site, len(recorded) > 0)
	if err != nil {
		return nil, nil, err
	}
	f := mesh.Fact{About: "site:" + site.Name, Valid: mesh.Span{From: from, To: math.MaxInt64}, Descriptor: d.Hash(), By: "site file"}
	sealed, err := wire.SealFact(f)
	if err != nil {
		return nil, nil, err
	}
	change := audit.Change{Who: "hub", Via: audit.Hub, Action: "site.change", Object: site.Name, After: contentMark(d), Reason: path}
	if n := len(recorded); n > 0 {
		change.Before = contentMark(recorded[n-1])
	}
	if _, err := l.trail.Append(change); err != nil {
		return nil, nil, fmt.Errorf("the site file has changed, which is not recorded, and so not done: %w", err)
	}
	if _, err := l.ingest.Record(ctx, []mesh.Entry{{Sealed: sealed}}, []mesh.Descriptor{d}); err != nil {
		return nil, nil, fmt.Errorf("record the site file: %w", err)
	}
	return site, before, nil
}

// contentMark is a site file as the audit trail names it.
func contentMark(d mesh.Descriptor) string {
	h := d.Hash()
	return "SHA256:" + hex.EncodeToString(h[:])
}

// recorded are the site files in the log, oldest first.
func (l *siteLog) recorded(ctx context.Context) (out []mesh.Descriptor, err error) {
	facts, err := l.store.Facts(ctx, 0)
	if err != nil {
		return nil, err
	}
	for i := range facts {
		f, err := wire.OpenFact(facts[i].Sealed)
		if err != nil {
			return nil, fmt.Errorf("read the fact at %s: %w", facts[i].At, err)
		}
		d, ok, err := l.store.Descriptor(ctx, f.Descriptor)
		if err != nil {
			return nil, err
		}
		if ok && d.Kind == mesh.DescribeSite {
			out = append(out, d)
		}
	}
	return out, nil
}

// validFrom is the instant from which a new file holds.
func (l *siteLog) validFrom(ctx context.Context, path string, site *product.Site, changed bool) (mesh.Nanos, error) {
	now := l.now()
	switch {
	case !changed:
		return math.MinInt64, nil
	case site.ValidFrom > now:
		return 0, &strict.Fault{File: path, What: fmt.Sprintf("valid_from %s is still to come, the plant's time is %s: change the file then", site.ValidFrom, now)}
	case site.ValidFrom != 0:
		l.log.InfoContext(ctx, "the site file has changed: rows are made again from its valid_from on", "from", site.ValidFrom.String())
		return site.ValidFrom, nil
	}
	l.log.InfoContext(ctx, "the site file has changed and holds from now on: write valid_from into it to have rows made again from an earlier instant", "from", now.String())
	return now, nil
}

// siteName is the hub's own site.
func siteName(cfg Config) (string, error) {
	src, err := os.ReadFile(cfg.SiteFile)
	if err != nil {
		return "", fmt.Errorf("read the site file: %w", err)
	}
	site, err := product.ParseSite(cfg.SiteFile, src)
	if err != nil {
		return "", err
	}
	return site.Name, nil
}

// sameSite refuses a site that is not the one in the site file.
func sameSite(cfg Config, site string) error {
	own, err := siteName(cfg)
	if err == nil && own != site {
		err = fmt.Errorf("%w: this hub's site is %s; did you mean --site %s?", ErrIdentity, own, own)
	}
	return err
}
