package agent

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"plantmesh/edge/source"
	"plantmesh/edge/status"
	"plantmesh/proto/answer"
	"plantmesh/proto/strict"
)

// ErrNoSource is returned for a source that the running agent doesn't read.
var ErrNoSource = errors.New("no such source")

// orders are those of a source's worker.
func (a *agent) orders(s SourceFile) ([]byte, error) {
	b, err := json.Marshal(job{File: s.File, Base: s.origin.base, Raw: s.Raw, Window: a.cfg.Window, PlantClock: a.cfg.PlantClock, Application: a.cfg.application()})
	if err != nil {
		return nil, fmt.Errorf("write a worker's orders: %w", err)
	}
	return b, nil
}

// windows are those of the sources.
func (a *agent) windows() map[string]source.Window {
	a.mu.Lock()
	defer a.mu.Unlock()
	out := map[string]source.Window{}
	for i := range a.cfg.Sources {
		out[a.cfg.Sources[i].ID()] = a.cfg.Sources[i].window()
	}
	return out
}

// told is how a source is, as the status socket says it.
func (a *agent) told(x source.Status) status.Source {
	v := status.Source{Source: x.Source, State: x.State, Since: stamp(x.Since), Says: x.Told, Restarts: x.Restarts, LastError: x.LastError, Samples: x.Samples, Bytes: x.Bytes}
	v.Down = stampOf(x.Down)
	if x.Proof != 0 {
		v.ProvenTo = x.Proof.String()
	}
	v.LastCommit = stampOf(x.LastCommit)
	if d := x.Aside; d != nil {
		v.Aside = &status.Aside{
			Reason: d.Reason, Since: stamp(d.Since), Deaths: d.Deaths, Next: stamp(d.Next),
			Resume: answer.Command("plantmesh-edge", "source", "resume", x.Source, "--config", a.cfg.path),
		}
	}
	for cause, w := range x.Voids {
		if v.Voids == nil {
			v.Voids = map[string]status.Voided{}
		}
		v.Voids[string(cause)] = status.Voided{Voids: w.Voids, Count: w.Count, Latest: w.Latest, Last: stampOf(w.Last)}
	}
	for _, t := range x.Troubles {
		v.Troubles = append(v.Troubles, status.Trouble{Says: t.Says, Times: t.Times, First: stamp(t.First), Last: stamp(t.Last)})
	}
	return v
}

// resumer brings sources back, for the status socket.
type resumer struct{ a *agent }

// Resume reads the source's file again: whoever takes out of it what kills the worker
// need not start the agent anew, which would cost the other sources a gap.
func (r resumer) Resume(id string) (out status.Resumed, err error) {
	a := r.a
	a.mu.Lock()
	defer a.mu.Unlock()
	at := slices.IndexFunc(a.sources, func(s *source.Supervisor) bool { return s.Status().Source == id })
	if at < 0 {
		return out, fmt.Errorf("%w: %q", ErrNoSource, id)
	}
	was := a.cfg.Sources[at]
	others := slices.Delete(slices.Clone(a.cfg.Sources), at, at+1)
	now, err := a.cfg.loadSource(was.origin, others)
	if err != nil {
		return out, err
	}
	if now.ID() != id {
		return out, now.doc.Fault(now.section()+".id", "this was source %q when the agent began, and is %q now: start the agent anew", id, now.ID())
	}
	orders, err := a.orders(now)
	if err != nil {
		return out, err
	}
	before, done := a.sources[at].Resume(orders)
	if done {
		a.cfg.Sources[at] = now
	}
	return status.Resumed{Source: id, Done: done, Was: a.told(before), Changed: !bytes.Equal(was.Raw, now.Raw)}, nil
}

// ResumeSource has the running agent try a source at once that waits, with its file as
// it is now.
func ResumeSource(ctx context.Context, cfg Config, id string) (out status.Resumed, err error) {
	s, err := Status(ctx, cfg)
	if err != nil {
		return out, err
	}
	var known []string
	for _, x := range s.Sources {
		known = append(known, x.Source)
	}
	if !slices.Contains(known, id) {
		return out, fmt.Errorf("%w: the agent reads no %q, but %s", ErrNoSource, id, strings.Join(known, ", "))
	}
	// What is wrong with its file is told here, where it has a line.
	if !slices.ContainsFunc(cfg.Sources, func(f SourceFile) bool { return f.ID() == id }) {
		if err := cfg.Need(Sources); err != nil {
			return out, err
		}
		return out, &strict.Fault{File: cfg.path, What: fmt.Sprintf("source %q stands in no file of sources.d any more: start the agent anew to be rid of it", id)}
	}
	return status.Resume(ctx, cfg.Status, id)
}
