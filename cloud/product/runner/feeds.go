package runner

import (
	"cmp"
	"context"

	"plantmesh/cloud/product"
	"plantmesh/proto/mesh"
)

// fact takes the site's file where the fact is one.
func (r *Runner) fact(ctx context.Context, it *Item) {
	if it.Fault != nil || it.Descriptor.Kind != mesh.DescribeSite {
		return
	}
	if !it.Entry.Of.IsZero() { // an agent may say much, but not what the site is
		r.log.WarnContext(ctx, "a site that an agent sent is left out", "from", it.Entry.Of.String())
		return
	}
	next, since, ok, err := r.sites.With(it.Fact.Valid, it.Descriptor.Content)
	if err != nil {
		r.log.ErrorContext(ctx, "the site's file can't be used, the one before stays", "reason", err.Error())
		return
	}
	if !ok {
		return
	}
	first := len(r.sources) == 0 && r.placed.IsZero()
	r.use(next, since)
	r.siteNew = true
	for _, e := range r.entities {
		if first {
			e.held = everywhere()
		}
	}
	site := next.Last()
	r.log.InfoContext(ctx, "site taken", "site", site.Name, "from", it.Fact.Valid.From.String(), "equipment", len(site.Equipment), "mapping_version", site.MappingVersion)
}

// use takes another timeline of the site, which is the one before up to since.
// Equipment that is fed as it was folds again from there on only.
func (r *Runner) use(sites *product.Sites, since mesh.Nanos) {
	was, cuts := r.byID, sites.Cuts()
	r.sites, r.refs, r.entities, r.byID = sites, map[refKey][]ref{}, nil, map[string]*entity{}
	for _, id := range sites.Equipment() {
		f := r.feedOf(id)
		e := was[id]
		if e != nil && e.feed.same(f) {
			e.feed = f
			e.differs(mesh.Span{From: since, To: never})
		} else {
			e = newEntity(id, f)
			e.scratch = true
		}
		e.sites = cmp.Or(cuts[id], sites)
		r.entities, r.byID[id] = append(r.entities, e), e
	}
	for _, name := range sites.Sources() {
		if s := r.source(name); s.rows == nil {
			s.rows = newEntity(name, nil)
		}
	}
	for _, s := range r.sources {
		s.fresh = true // who is waited for may be others
	}
}

// feedOf is how an equipment is fed, over all of time.
func (r *Runner) feedOf(id string) (out feed) {
	for i, rev := range r.sites.Revisions() {
		p := part{Span: rev.Span, site: rev.Site, eq: rev.Site.Find(id)}
		if i == 0 {
			p.From = always
		}
		if r.def.Fold == product.FoldCoverage || r.def.Fold == product.FoldSamples {
			p.eq = nil
		}
		if p.eq != nil {
			p.source = r.source(p.eq.Source)
		}
		out = append(out, p)
	}
	return out
}

func (r *Runner) source(name string) *source {
	s := r.sources[name]
	if s == nil {
		s = &source{name: name}
		r.sources[name] = s
	}
	return s
}

// refKey is a signal table as a source uses it while a revision of the site
// holds.
type refKey struct {
	table    *Table
	source   string
	revision int
}

// ref says whose a signal is.
type ref struct {
	entity *entity // nil: not folded
	eq     *product.Equipment
	role   product.Role
}

// route hands the samples of a batch to the equipment they are of.
func (r *Runner) route(it *Item) {
	if r.sites == nil || len(it.Samples) == 0 || r.def.Fold == product.FoldCoverage || r.def.Fold == product.FoldSamples {
		return
	}
	r.deal(it, func(e *entity, ev product.Event) { e.fresh = append(e.fresh, ev) })
}

// recallBatch has the equipment that a compacted batch may be about fold again
// its stretch of time, and hold nothing of it: so its samples are read back from
// the chunks.
func (r *Runner) recallBatch(e *mesh.Entry) {
	t := e.Header.Times
	if t.Empty() || r.def.Fold == product.FoldCoverage || r.def.Fold == product.FoldSamples {
		return
	}
	r.recalled += int(e.Header.Count)
	for _, x := range r.entities {
		if x.feed.hears(e.Header.About, t) {
			x.lose(t)
		}
	}
}

// deal gives every sample that this product folds to give. Whose it is, is said
// by the site that holds at its time.
func (r *Runner) deal(it *Item, give func(*entity, product.Event)) {
	revision := -1
	var refs []ref
	for i := range it.Samples {
		s := &it.Samples[i]
		if n := r.sites.Index(s.Time); n != revision {
			revision, refs = n, r.refsOf(it.Table, it.Entry.Header.About, n)
		}
		k := it.Table.index(s.Signal)
		if k < 0 || refs[k].entity == nil || it.quarantined(i) {
			continue
		}
		give(refs[k].entity, refs[k].eq.EventOf(refs[k].role, s))
	}
}

func (r *Runner) refsOf(t *Table, source string, revision int) []ref {
	key := refKey{t, source, revision}
	refs, ok := r.refs[key]
	if ok {
		return refs
	}
	refs = make([]ref, len(t.Signals))
	site := r.sites.Revisions()[revision].Site
	for i := range t.Signals {
		if n, role := site.Signal(source, t.Signals[i].Name); n >= 0 && r.def.Takes(role) {
			e := &site.Equipment[n]
			refs[i] = ref{r.byID[e.ID], e, role}
		}
	}
	r.refs[key] = refs
	return refs
}
