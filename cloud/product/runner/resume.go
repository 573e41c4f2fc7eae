package runner

import (
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
		for _, e := range r.entities {
			e.scratch = false
			// Its rows reach from here on: a void may take this back before they are
			// looked at again.
			if known := e.feed.known(); len(known) > 0 {
				e.dirty = known[0].From
			}
		}
	}
	r.resumed = true
	r.log.InfoContext(ctx, "product resumed", "place", r.place.String(), "site_known", ok)
	return nil
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
	return out, err
}
