package runner

import (
	"context"
	"fmt"
	"slices"

	"plantmesh/cloud/product"
	"plantmesh/proto/mesh"
)

// Newest finds newest samples. Safe for concurrent use; what is returned
// belongs to the caller.
type Newest interface {
	// Newest is the newest sample of every signal of a source. now is the
	// plant's: stamps far beyond it don't count.
	Newest(ctx context.Context, source string, now mesh.Nanos) ([]mesh.Newest, error)
}

// Latest is Signals that also gives the newest sample of every signal at once.
type Latest struct {
	*Signals

	newest Newest
	now    func() mesh.Nanos
}

// NewLatest makes it; now is the plant's clock.
func NewLatest(signals *Signals, newest Newest, now func() mesh.Nanos) *Latest {
	return &Latest{signals, newest, now}
}

// Latest is the row of the newest sample of every signal of the equipment asked
// for, as the site maps it now. Of q only Entities and Prefix count.
func (l *Latest) Latest(ctx context.Context, q mesh.RowQuery) (rows []mesh.Row, err error) {
	sites, err := l.sites(ctx)
	if err != nil || sites == nil {
		return nil, err
	}
	for _, name := range sites.Last().Sources() {
		of, err := l.ofSource(ctx, sites, name, q)
		if err != nil {
			return nil, fmt.Errorf("read the newest signals of %s: %w", name, err)
		}
		rows = append(rows, of...)
	}
	return rows, nil
}

func (l *Latest) ofSource(ctx context.Context, sites *product.Sites, name string, q mesh.RowQuery) (rows []mesh.Row, err error) {
	site := sites.Last()
	asked := slices.ContainsFunc(site.Equipment, func(e product.Equipment) bool {
		return e.Source == name && (len(q.Entities) == 0 || slices.Contains(q.Entities, e.ID))
	})
	if !asked {
		return nil, nil
	}
	src, err := known(ctx, l.out, l.def.ID, name)
	if err != nil {
		return nil, err
	}
	newest, err := l.newest.Newest(ctx, name, l.now())
	if err != nil {
		return nil, err
	}
	readings := make([]product.Reading, 0, len(newest))
	for i := range newest {
		n := &newest[i]
		readings = append(readings, product.ReadingOf(&n.Signal, n.Sample, n.Marks))
	}
	if sites.Transforms() {
		readings = withDerived(sites, name, newest, readings)
	}
	v := view{prefix: q.Prefix, final: src.voices.Watermark}
	for k := range readings {
		r := &readings[k]
		from := r.Name
		if r.Derived != nil {
			from = r.Derived.From
		}
		i, _ := site.Signal(name, from)
		if i < 0 || len(q.Entities) > 0 && !slices.Contains(q.Entities, site.Equipment[i].ID) {
			continue
		}
		e := &site.Equipment[i]
		if x := l.def.SignalDraft(site, e, r); !v.skip(&x, r.Name) {
			rows = append(rows, v.row(l.def.ID, e.ID, &x, r.Sample.Agent))
		}
	}
	return rows, nil
}

// withDerived is newest readings with what models make of them, each by the model of its
// time: of two of one name the later stays, and a signal before what is made.
func withDerived(sites *product.Sites, source string, newest []mesh.Newest, readings []product.Reading) []product.Reading {
	at := map[string]int{} // of readings, by name
	for i := range readings {
		at[readings[i].Name] = i
	}
	type spot struct {
		revision int
		table    *mesh.Signal // its first one
	}
	all := map[spot][]product.Derivation{}
	for i := range newest {
		n := &newest[i]
		if len(n.Table) == 0 {
			continue
		}
		of := spot{sites.Index(n.Sample.Time), &n.Table[0]}
		made, known := all[of]
		if !known {
			made = sites.Revisions()[of.revision].Site.Derivations(source, n.Table)
			all[of] = made
		}
		raw := product.ReadingOf(&n.Signal, n.Sample, n.Marks)
		for k := range made {
			d := &made[k]
			if d.From != n.Signal.Name {
				continue
			}
			j, has := at[d.Name]
			switch {
			case !has:
				at[d.Name] = len(readings)
				readings = append(readings, d.Reading(raw))
			case readings[j].Sample.Time < raw.Sample.Time:
				readings[j] = d.Reading(raw)
			}
		}
	}
	return readings
}
