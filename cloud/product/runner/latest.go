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
	site := sites.Last()
	for _, name := range site.Sources() {
		of, err := l.ofSource(ctx, site, name, q)
		if err != nil {
			return nil, fmt.Errorf("read the newest signals of %s: %w", name, err)
		}
		rows = append(rows, of...)
	}
	return rows, nil
}

func (l *Latest) ofSource(ctx context.Context, site *product.Site, name string, q mesh.RowQuery) (rows []mesh.Row, err error) {
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
	for _, n := range newest {
		i, _ := site.Signal(n.Signal.Name)
		if i < 0 || site.Equipment[i].Source != name || len(q.Entities) > 0 && !slices.Contains(q.Entities, site.Equipment[i].ID) {
			continue
		}
		e := &site.Equipment[i]
		v := view{prefix: q.Prefix, final: src.voices.Watermark}
		r := product.ReadingOf(&n.Signal, n.Sample, n.Marks)
		if x := l.def.SignalDraft(site, e, &r); !v.skip(&x, r.Name) {
			rows = append(rows, v.row(l.def.ID, e.ID, &x, n.Sample.Agent))
		}
	}
	return rows, nil
}
