package hub

import (
	"context"
	"math"
	"slices"

	"plantmesh/cloud/product"
	"plantmesh/cloud/store"
	"plantmesh/proto/mesh"
)

// transforms are what models make of signals, as an export looks for it: by table, and by
// the revision of the site at a sample's time. nil makes nothing.
type transforms struct {
	sites *product.Sites
	by    map[tableAt]map[uint32][]*product.Derivation // by the id of the raw signal
	raw   map[[2]string][]string                       // names of raw signals, by source and name of what is made
}

// tableAt is a table of a source under a revision of its site.
type tableAt struct {
	revision int
	source   string
	table    mesh.Hash
}

// transformsOf are those of the site as the log has it; nil where no model has any.
func transformsOf(ctx context.Context, s *store.Store) (*transforms, error) {
	is, _, err := recordedSite(ctx, s, math.MaxInt64) // all of it
	if err != nil || is.sites == nil || !is.sites.Transforms() {
		return nil, err
	}
	return &transforms{sites: is.sites, by: map[tableAt]map[uint32][]*product.Derivation{}, raw: map[[2]string][]string{}}, nil
}

// at is what a revision makes of a table, by the id of the raw signal.
func (t *transforms) at(of tableAt, table []mesh.Signal) map[uint32][]*product.Derivation {
	by, known := t.by[of]
	if known {
		return by
	}
	by = map[uint32][]*product.Derivation{}
	made := t.sites.Revisions()[of.revision].Site.Derivations(of.source, table)
	for i := range made {
		d := &made[i]
		id := table[d.Raw].ID
		by[id] = append(by[id], d)
		made := [2]string{of.source, d.Name}
		if !slices.Contains(t.raw[made], d.From) {
			t.raw[made] = append(t.raw[made], d.From)
		}
	}
	t.by[of] = by
	return by
}

// of is what is made of a sample.
func (t *transforms) of(e *mesh.Entry, table []mesh.Signal, s *mesh.Sample) []*product.Derivation {
	if t == nil {
		return nil
	}
	return t.at(tableAt{t.sites.Index(s.Time), e.Header.About, e.Header.Needs[0]}, table)[s.Signal]
}

// within is what is made of a table in a span.
func (t *transforms) within(source string, hash mesh.Hash, table []mesh.Signal, span mesh.Span) (out []*product.Derivation) {
	if t == nil {
		return nil
	}
	for i := t.sites.Index(span.From); i <= t.sites.Index(span.To-1); i++ {
		for _, made := range t.at(tableAt{i, source, hash}, table) {
			out = append(out, made...)
		}
	}
	return out
}

// read are the names of signals to read for those that are asked for: themselves, and what
// they are made of.
func (t *transforms) read(source string, names []string) []string {
	if t == nil {
		return names
	}
	out := slices.Clone(names)
	for _, name := range names {
		for _, raw := range t.raw[[2]string{source, name}] {
			if !slices.Contains(out, raw) {
				out = append(out, raw)
			}
		}
	}
	return out
}

// settled are readings without those that a signal of their name stands before.
func (t *transforms) settled(in []product.Reading) []product.Reading {
	if t == nil {
		return in
	}
	return product.RealStands(in)
}
