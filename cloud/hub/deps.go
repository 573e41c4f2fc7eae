package hub

import (
	"context"
	"errors"
	"io"
	"strconv"

	"plantmesh/cloud/port"
	porthttp "plantmesh/cloud/port/http"
	"plantmesh/cloud/port/parquet"
	"plantmesh/cloud/product"
	"plantmesh/cloud/product/runner"
	"plantmesh/cloud/store"
	"plantmesh/proto/mesh"
)

// deps is what the HTTP port reads.
func (h *hub) deps() porthttp.Deps {
	d := porthttp.Deps{
		Rows: h.store, Out: h.store, Readers: map[string]porthttp.Rows{},
		End: h.store.End, BadCursor: func(err error) bool { return errors.Is(err, store.ErrCursor) || errors.Is(err, runner.ErrCursor) },
		Sources: func(ctx context.Context, product string) (out []porthttp.SourceEnd, err error) {
			ends, err := runner.Ends(ctx, h.store, product, h.site())
			for _, e := range ends {
				out = append(out, porthttp.SourceEnd(e))
			}
			return out, err
		},
		Stands: func(ctx context.Context, product string) (mesh.Nanos, error) {
			return runner.Stands(ctx, h.store, product)
		},
		Site: h.view, Plans: h.plans, PlantNow: h.now, Changed: h.store.ChangedOut, Agents: h.agents,
		PlantSpeed: func() float64 {
			if p := h.plant(); p.Machine != 0 && (p.Stop == 0 || h.now() < p.Stop) {
				return p.Speed
			}
			return 0
		},
		Checks: h.checks(), Says: map[string]func() string{auditName: h.sealed}, Counts: h.figures(),
		Parquet: func(w io.Writer, p porthttp.Product, columns []port.Column) (port.Table, error) {
			return parquet.NewTable(w, p.ID, p.Version, columns)
		},
	}
	for _, def := range h.defs {
		p := porthttp.Product{ID: def.ID, Title: def.Title, Description: def.Description, Version: def.Version, Domain: h.site().Domain, ODPS: def.ODPS, ODCS: def.ODCS, Columns: def.Columns, View: def.Fold == product.FoldSamples}
		for _, c := range def.Types {
			if def.Fold == product.FoldSamples && c.Name == "value" { // the contract's text is for JSON
				c.Type = parquet.Any
			}
			p.Types = append(p.Types, port.Column(c))
		}
		for _, w := range def.Windows {
			p.Windows = append(p.Windows, string(w))
		}
		d.Catalogue = append(d.Catalogue, p)
		if def.Fold == product.FoldSamples {
			d.Readers[def.ID] = runner.NewLatest(runner.NewSignals(def, h.store, h.store), h.store, h.now)
		}
	}
	return d
}

// view is what readers of rows must know of the site.
func (h *hub) view() porthttp.SiteView {
	site := h.site()
	v := porthttp.SiteView{Site: site.Name, Zone: site.Calendar.Zone().String(), Reasons: map[string]string{}, Version: site.Registered}
	lines := map[string]int{}
	for _, e := range site.Equipment {
		i, ok := lines[e.Line]
		if !ok {
			i = len(v.Lines)
			lines[e.Line] = i
			v.Lines = append(v.Lines, porthttp.Line{ID: e.Line})
		}
		m := porthttp.Machine{ID: e.ID, Name: e.Name, Kind: e.Kind, Source: e.Source}
		if c := site.CalendarOf(e.ID); c != &site.Calendar {
			m.Breaks = breaks(c)
		}
		v.Lines[i].Machines = append(v.Lines[i].Machines, m)
	}
	for _, s := range site.Calendar.Shifts() {
		v.Shifts = append(v.Shifts, porthttp.Shift{ID: s.ID, Start: s.Start, End: s.End, Days: s.Days})
	}
	v.Breaks = breaks(&site.Calendar)
	for code, words := range site.Reasons {
		v.Reasons[strconv.FormatInt(code, 10)] = words
	}
	return v
}

func breaks(c *product.Calendar) []porthttp.Shift {
	out := []porthttp.Shift{}
	for _, s := range c.Breaks() {
		out = append(out, porthttp.Shift{Start: s.Start, End: s.End, Days: s.Days})
	}
	return out
}
