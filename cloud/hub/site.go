package hub

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"plantmesh/cloud/audit"
	"plantmesh/cloud/ingest"
	"plantmesh/cloud/product"
	"plantmesh/cloud/registry/plant"
	"plantmesh/cloud/store"
	"plantmesh/proto/mesh"
	"plantmesh/proto/strict"
	"plantmesh/proto/wire"
)

// siteLog is where the site's revisions lie: the site file, with the machines that were
// registered at the hub behind it. A change at run time is a fact in the log, too, and
// the products take it from there.
type siteLog struct {
	store  *store.Store
	ingest *ingest.Ingest
	now    func() mesh.Nanos // the plant's
	trail  *audit.Trail
	log    *slog.Logger

	mu sync.Mutex // one change at a time
	is atomic.Pointer[siteNow]

	ear   ear
	rules *rulebook // nil: nobody knows of gateways
}

// siteNow is the site as it is, up to an instant. It never changes.
type siteNow struct {
	site     *product.Site
	before   []*product.Site // what it was, oldest first
	sites    *product.Sites  // along event time
	register plant.Register  // as it is now, with the version of the newest
	until    mesh.Nanos      // when something that is registered already begins to hold
}

// piece is what the site is for a stretch of event time.
type piece struct {
	mesh.Span

	text []byte
}

// mostPieces bounds what one change writes: it is made in each revision behind its
// valid_from.
const mostPieces = 64

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
	l.mu.Lock()
	defer l.mu.Unlock()
	is, last, err := l.recorded(ctx)
	if err != nil {
		return nil, nil, err
	}
	_, newest, err := plant.Split(last)
	if err != nil {
		return nil, nil, err
	}
	named, err := foreign(path, site, newest)
	if err != nil {
		return nil, nil, err
	}
	text, err := mergeFile(path, src, named(newest))
	if err != nil {
		return nil, nil, err
	}
	whole, err := product.ParseSite("site", text)
	if err != nil {
		return nil, nil, fmt.Errorf("the site file and what is registered at the hub don't go together: %w", unplaced(path, err))
	}
	if last != nil && bytes.Equal(last, text) {
		l.is.Store(is)
		return is.site, is.before, nil
	}
	is.site = whole
	from, err := l.validFrom(ctx, path, site, last != nil)
	if err != nil {
		return nil, nil, err
	}
	pieces, err := is.from(from, func(_ mesh.Nanos, _ []byte, r plant.Register) ([]byte, error) { return plant.Merge(src, named(r)) })
	if err != nil {
		return nil, nil, err
	}
	change := audit.Change{Who: "hub", Via: audit.Hub, Action: "site.change", Object: site.Name, After: textMark(text), Reason: path}
	if last != nil {
		change.Before = textMark(last)
	}
	if _, err := l.trail.Append(change); err != nil {
		return nil, nil, fmt.Errorf("the site file has changed, which is not recorded, and so not done: %w", err)
	}
	before = is.before
	if err := l.record(ctx, is, pieces, "site file"); err != nil {
		return nil, nil, fmt.Errorf("record the site file: %w", err)
	}
	return l.is.Load().site, before, nil
}

// foreign gives a register the models that machines of the site file are of and that the
// file hasn't: built-in ones, or registered ones.
func foreign(path string, site *product.Site, newest plant.Register) (func(plant.Register) plant.Register, error) {
	builtin, err := plant.Builtin()
	if err != nil {
		return nil, err
	}
	known, of := newest.Known(builtin), site.Foreign()
	for _, id := range slices.Sorted(maps.Keys(of)) {
		if _, missing := newest.With([]string{of[id]}, known); missing != "" {
			refs := plant.Refs(known)
			return nil, &strict.Fault{File: path, What: fmt.Sprintf("equipment %q: there is no model %q; there are %s", id, missing, strings.Join(refs, ", ")), Nearest: strict.Nearest(missing, refs)}
		}
	}
	names := slices.Sorted(maps.Values(of))
	return func(r plant.Register) plant.Register {
		out, _ := r.With(names, known)
		return out
	}, nil
}

// mergeFile is the site file with the register behind it.
func mergeFile(path string, src []byte, r plant.Register) ([]byte, error) {
	text, err := plant.Merge(src, r)
	if errors.Is(err, plant.ErrRefused) {
		return nil, &strict.Fault{File: path, What: "has a key registered, which is the hub's own: take it out"}
	}
	return text, err
}

// unplaced is a fault in the file and the register together: its line is none of the
// file's.
func unplaced(path string, err error) error {
	if f, ok := errors.AsType[*strict.Fault](err); ok {
		return &strict.Fault{File: path, What: f.What, Nearest: f.Nearest}
	}
	return err
}

// from is what the site is, by stretch of event time, once how has been done to it from an
// instant on: to each revision that holds behind it, at the instant from which it is.
func (is *siteNow) from(from mesh.Nanos, how func(at mesh.Nanos, file []byte, r plant.Register) ([]byte, error)) (out []piece, err error) {
	revisions := []product.Revision{{Span: mesh.Span{From: math.MinInt64, To: math.MaxInt64}}}
	if is.sites != nil {
		revisions = is.sites.Revisions()
	}
	for i := range revisions {
		r := &revisions[i]
		if i == 0 { // before all, the first holds
			r = &product.Revision{Span: mesh.Span{From: math.MinInt64, To: r.To}, Site: r.Site}
		}
		span := r.Meet(mesh.Span{From: from, To: math.MaxInt64})
		if span.Empty() {
			continue
		}
		file, register, err := plant.Split(revisions[i].Text())
		if err != nil {
			return nil, err
		}
		text, err := how(span.From, file, register)
		if err != nil {
			return nil, err
		}
		if _, err := product.ParseSite("site", text); err != nil {
			return nil, is.once(err, span)
		}
		if n := len(out); n > 0 && bytes.Equal(out[n-1].text, text) {
			out[n-1].To = span.To
			continue
		}
		out = append(out, piece{span, text})
	}
	if len(out) > mostPieces {
		return nil, fmt.Errorf("%w: the site has changed %d times since, and a change is made in each of them: at most %d, so let it hold from later on", plant.ErrRefused, len(out)-1, mostPieces-1)
	}
	return out, nil
}

// once is a fault with when the site is so, where that is not now and for ever.
func (is *siteNow) once(err error, span mesh.Span) error {
	f, ok := errors.AsType[*strict.Fault](err)
	if !ok {
		return err
	}
	planned := is.sites != nil && is.until != math.MaxInt64
	switch {
	case planned && span.From >= is.until:
		return &strict.Fault{File: f.File, What: fmt.Sprintf("%s; so the site will be from %s on, as is registered already: change that first", f.What, span.From)}
	case planned && span.To >= is.until:
		return &strict.Fault{File: f.File, What: fmt.Sprintf("%s; so the site is until %s: let the change hold from then on", f.What, span.To)}
	case span.To != math.MaxInt64:
		return &strict.Fault{File: f.File, What: fmt.Sprintf("%s; so the site was until %s: let the change hold from then on", f.What, span.To)}
	}
	return err
}

// record puts pieces into the log, all or none, and has them be the site.
func (l *siteLog) record(ctx context.Context, is *siteNow, pieces []piece, by string) error {
	next := &siteNow{before: slices.Clone(is.before), sites: is.sites}
	if is.sites != nil {
		next.before = append(next.before, is.sites.Last())
	}
	var entries []mesh.Entry
	var descs []mesh.Descriptor
	for _, p := range pieces {
		d := mesh.Descriptor{Kind: mesh.DescribeSite, Content: p.text}
		sealed, err := wire.SealFact(mesh.Fact{About: "site:" + is.site.Name, Valid: p.Span, Descriptor: d.Hash(), By: by})
		if err != nil {
			return err
		}
		entries, descs = append(entries, mesh.Entry{Sealed: sealed}), append(descs, d)
		if err := next.take(p.Span, p.text); err != nil {
			return err
		}
	}
	if err := next.at(l.now()); err != nil {
		return err
	}
	if _, err := l.ingest.Record(ctx, entries, descs); err != nil {
		return err
	}
	l.is.Store(next)
	return nil
}

// take is what a fact says of the site.
func (is *siteNow) take(valid mesh.Span, text []byte) error {
	sites, _, ok, err := is.sites.With(valid, text)
	if err != nil {
		return err
	}
	if ok || is.sites == nil {
		is.sites = sites
	}
	return nil
}

// textMark is a site file, with what is registered, as the audit trail names it.
func textMark(text []byte) string {
	h := mesh.Descriptor{Kind: mesh.DescribeSite, Content: text}.Hash()
	return "SHA256:" + hex.EncodeToString(h[:])
}

// recorded is what the log says of the site, and the newest text; none where it says
// nothing.
func (l *siteLog) recorded(ctx context.Context) (is *siteNow, last []byte, err error) {
	return recordedSite(ctx, l.store, l.now())
}

func recordedSite(ctx context.Context, s *store.Store, now mesh.Nanos) (is *siteNow, last []byte, err error) {
	is = &siteNow{until: math.MaxInt64}
	facts, err := s.Facts(ctx, 0)
	if err != nil {
		return nil, nil, err
	}
	var p product.Parser
	for i := range facts {
		f, err := wire.OpenFact(facts[i].Sealed)
		if err != nil {
			return nil, nil, fmt.Errorf("read the fact at %s: %w", facts[i].At, err)
		}
		d, ok, err := s.Descriptor(ctx, f.Descriptor)
		if err != nil {
			return nil, nil, err
		}
		if !ok || d.Kind != mesh.DescribeSite {
			continue
		}
		old, err := p.Parse("site", d.Content)
		if err != nil { // then no product uses it either
			continue
		}
		is.before = append(is.before, old)
		if err := is.take(f.Valid, d.Content); err != nil {
			return nil, nil, err
		}
		last = is.sites.Revisions()[len(is.sites.Revisions())-1].Text()
	}
	if is.sites == nil {
		return is, nil, nil
	}
	return is, last, is.at(now)
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

// effectiveSite is the site file as it is, with what is registered at the hub behind it.
func effectiveSite(ctx context.Context, cfg Config, s *store.Store) (*product.Site, plant.Register, error) {
	src, err := os.ReadFile(cfg.SiteFile)
	if err != nil {
		return nil, plant.Register{}, fmt.Errorf("read the site file: %w", err)
	}
	file, err := product.ParseSite(cfg.SiteFile, src)
	if err != nil {
		return nil, plant.Register{}, err
	}
	is, _, err := recordedSite(ctx, s, math.MaxInt64) // the newest
	if err != nil {
		return nil, plant.Register{}, err
	}
	named, err := foreign(cfg.SiteFile, file, is.register)
	if err != nil {
		return nil, is.register, err
	}
	text, err := mergeFile(cfg.SiteFile, src, named(is.register))
	if err != nil {
		return nil, is.register, err
	}
	site, err := product.ParseSite("site", text)
	return site, is.register, unplaced(cfg.SiteFile, err)
}

// siteName is the hub's own site.
func siteName(cfg Config) (string, error) {
	site, err := siteOf(cfg)
	if err != nil {
		return "", err
	}
	return site.Name, nil
}

// siteOf reads the site file.
func siteOf(cfg Config) (*product.Site, error) {
	src, err := os.ReadFile(cfg.SiteFile)
	if err != nil {
		return nil, fmt.Errorf("read the site file: %w", err)
	}
	return product.ParseSite(cfg.SiteFile, src)
}

// sameSite refuses a site that is not the one in the site file.
func sameSite(cfg Config, site string) error {
	own, err := siteName(cfg)
	if err == nil && own != site {
		err = fmt.Errorf("%w: this hub's site is %s; did you mean --site %s?", ErrIdentity, own, own)
	}
	return err
}
