package runner

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"plantmesh/cloud/product"
	"plantmesh/proto/mesh"
)

// resume reads back where the product stands.
func (r *Runner) resume(ctx context.Context) (err error) {
	r.sites, r.siteNew, r.refs = nil, false, nil
	r.more, r.dropped, r.marks, r.made = false, always, nil, ""
	r.sources, r.logs, r.entities, r.byID = map[string]*source{}, map[mesh.LogID]*agentLog{}, nil, nil
	r.end, r.placed, err = r.out.Resume(ctx, r.def.ID, r.cfg.Partition)
	if err != nil {
		return err
	}
	r.place, r.committed, r.changed = r.placed, 0, true
	if err := r.recallAll(ctx); err != nil {
		return err
	}
	st, ok, err := r.out.State(ctx, r.def.ID, siteKey, stateFrom)
	if err != nil {
		return err
	}
	if ok {
		sites, err := product.DecodeSites(st.Bytes)
		if err != nil {
			return mesh.Permanent(err)
		}
		r.use(sites, always)
		if err := r.standing(ctx); err != nil {
			return err
		}
	}
	r.resumed = true
	r.log.InfoContext(ctx, "product resumed", "place", r.place.String(), "site_known", ok)
	return nil
}

// standing has every entity stand where it was folded to at the last commit: so
// only what came since is folded, from the last edge on. What was known then is
// known from the sources, which were committed with it.
func (r *Runner) standing(ctx context.Context) error {
	if r.def.Fold == product.FoldCoverage || r.def.Fold == product.FoldSamples {
		return nil
	}
	marks, err := r.readMarks(ctx)
	if err != nil {
		return err
	}
	horizon := r.horizon()
	for _, e := range r.entities {
		e.scratch = false
		switch r.made {
		case "": // an older program: all that stands is looked at once
			continue
		case r.def.Made():
		default:
			e.scratch = true
			continue
		}
		m := marks[e.id]
		if m.Floor != nil {
			e.floor = *m.Floor
		}
		v := look(e, horizon)
		e.upto, e.ended = v.end, v.ended
		if m.Upto != nil {
			e.upto, e.ended = *m.Upto, false
		}
		if e.stands = e.upto; m.Stands != nil {
			e.stands = *m.Stands
		}
		e.folded = mesh.Within(v.spans, mesh.Span{From: always, To: e.upto})
	}
	q := mesh.RowQuery{Product: r.def.ID, Open: true, Limit: rowsPage, Withdrawn: true}
	return r.pages(ctx, q, func(row *mesh.Row) {
		if e := r.byID[row.Entity]; e != nil {
			e.take(row)
		}
	})
}

// mark is what must be known of an entity beside its states.
type mark struct {
	Floor *mesh.Nanos `json:"floor,omitempty"` // nothing before it is folded
	Upto  *mesh.Nanos `json:"upto,omitempty"`  // it is folded through here only
	// Stands: its rows say what is known through here only.
	Stands *mesh.Nanos `json:"stands,omitempty"`
}

func (r *Runner) readMarks(ctx context.Context) (marks map[string]mark, err error) {
	made, _, err := r.out.State(ctx, r.def.ID, madeKey, stateFrom)
	if err != nil {
		return nil, err
	}
	r.made = string(made.Bytes)
	marks, r.marks, err = marksOf(ctx, r.out, r.def.ID)
	return marks, err
}

// marksOf are the marks of a product's entities, as they were committed last.
func marksOf(ctx context.Context, out Output, product string) (marks map[string]mark, b []byte, err error) {
	st, ok, err := out.State(ctx, product, marksKey, stateFrom)
	if err != nil {
		return nil, nil, err
	}
	if ok {
		if err := json.Unmarshal(st.Bytes, &marks); err != nil {
			return nil, nil, mesh.Permanent(fmt.Errorf("decode %s: %w", marksKey, err))
		}
	}
	return marks, st.Bytes, nil
}

// marking is what must be known of the entities as they stand.
func (r *Runner) marking() ([]byte, error) {
	marks, horizon := map[string]mark{}, r.horizon()
	for _, e := range r.entities {
		var m mark
		if e.floor != always {
			m.Floor = &e.floor
		}
		end := look(e, horizon).end
		if upto := min(e.upto, e.waits, e.heldFrom()); upto < end {
			m.Upto = &upto
		}
		if e.halfway(end) {
			m.Stands = &e.stands
		}
		if m != (mark{}) {
			marks[e.id] = m
		}
	}
	return json.Marshal(marks)
}

// recallAll reads back what is known of every log and source that ever spoke.
func (r *Runner) recallAll(ctx context.Context) error {
	err := r.recall(ctx, logsKey, chainKey, func(name string, b []byte) (err error) {
		l := r.agentLog(mesh.LogID(name))
		l.fresh = true
		l.chain, err = product.DecodeChain(b)
		return err
	})
	if err != nil {
		return err
	}
	err = r.recall(ctx, sourcesKey, knownKey, func(name string, b []byte) error { return r.source(name).decode(b) })
	r.listed = [2]int{len(r.sources), len(r.logs)}
	return err
}

// recall reads a stored list of names, and the state of each.
func (r *Runner) recall(ctx context.Context, list, prefix string, take func(name string, b []byte) error) error {
	st, ok, err := r.out.State(ctx, r.def.ID, list, stateFrom)
	if err != nil || !ok {
		return err
	}
	var names []string
	if err := json.Unmarshal(st.Bytes, &names); err != nil {
		return mesh.Permanent(fmt.Errorf("decode %s: %w", list, err))
	}
	for _, name := range names {
		st, ok, err := r.out.State(ctx, r.def.ID, prefix+name, stateFrom)
		if err != nil {
			return err
		}
		if !ok {
			st.Bytes = []byte("{}")
		}
		if err := take(name, st.Bytes); err != nil {
			return mesh.Permanent(err)
		}
	}
	return nil
}

// beside are the states that are not of a time: the site, the logs, the
// sources, and what is known of them.
func (r *Runner) beside(names []string) (out []mesh.FoldState, err error) {
	put := func(key string, b []byte, e error) {
		if err == nil {
			err = e
		}
		out = append(out, mesh.FoldState{Key: key, At: stateFrom, Bytes: b})
	}
	if r.siteNew {
		b, e := r.sites.Encode()
		put(siteKey, b, e)
	}
	if len(names) != r.listed[0] {
		b, e := json.Marshal(names)
		put(sourcesKey, b, e)
	}
	logs := slices.Sorted(maps.Keys(r.logs))
	if len(logs) != r.listed[1] {
		b, e := json.Marshal(logs)
		put(logsKey, b, e)
	}
	for _, id := range logs {
		if l := r.logs[id]; l.changed {
			b, e := l.chain.Encode()
			put(chainKey+string(id), b, e)
		}
	}
	for _, name := range names {
		if s := r.sources[name]; s.changed {
			b, e := s.encode()
			put(knownKey+name, b, e)
		}
	}
	if r.sites == nil || r.def.Fold == product.FoldCoverage || r.def.Fold == product.FoldSamples {
		return out, err
	}
	if b, e := r.marking(); e != nil || !bytes.Equal(b, r.marks) {
		r.marks = b
		put(marksKey, b, e)
	}
	if made := r.def.Made(); r.made != made {
		r.made = made
		put(madeKey, []byte(made), nil)
	}
	return out, err
}
