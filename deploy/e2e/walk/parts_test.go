package walk

import (
	"fmt"
	"maps"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"plantmesh/cloud/ingest"
	"plantmesh/cloud/product/runner"
	"plantmesh/cloud/store"
	agentroot "plantmesh/edge/agent"
	"plantmesh/edge/buffer"
	"plantmesh/edge/forward"
	"plantmesh/edge/quality"
	"plantmesh/edge/source"
	"plantmesh/proto/mesh"
	"plantmesh/proto/strict"
	"plantmesh/proto/wire"
)

// agent is the edge's side while it runs.
type agent struct {
	buffer      *buffer.Buffer
	judge       *agentroot.Judge
	forward     *forward.Forward
	supervisors map[string]*source.Supervisor
}

func (a *agent) close(t testing.TB) {
	t.Helper()
	if err := a.buffer.Close(); err != nil {
		t.Error(err)
	}
}

// hub is the cloud's side while it runs.
type hub struct {
	store  *store.Store
	ingest *ingest.Ingest
	set    *runner.Set
}

func (h *hub) close(t testing.TB) {
	t.Helper()
	if err := h.store.Close(); err != nil {
		t.Error(err)
	}
}

// through is how far the hub has the agent's log without a hole.
func (h *hub) through(w *walk) mesh.Position {
	a, ok, err := h.store.Account(w.ctx, agentLog)
	w.check(err)
	if !ok {
		return mesh.Position{}
	}
	return a.Set.Through
}

// startAgent opens the agent's log and starts a worker for every source.
func (w *walk) startAgent() {
	keep := strict.Duration(0) // what the hub has is deleted at once
	if w.putBack > 0 {
		keep = strict.Duration(24 * time.Hour)
	}
	cfg := buffer.Config{
		Dir: filepath.Join(w.dir, "agent"), Log: agentLog, Now: w.now,
		MaxBytes: 64 << 20, SegmentBytes: 1 << 20, Keep: &keep,
	}
	w.check(cfg.Validate())
	a := &agent{supervisors: map[string]*source.Supervisor{}}
	var err error
	a.buffer, err = buffer.Open(cfg, w.quiet)
	w.check(err)
	rules, err := quality.Parse("rules.yaml", read(w.t, "rules.yaml"))
	w.check(err)
	a.judge, err = agentroot.NewJudge(a.buffer)
	w.check(err)
	w.check(agentroot.Declare(w.ctx, rules, a.buffer, w.plant))
	a.forward = forward.New(forward.Config{Site: site, Agent: agentName, MaxMessage: 64 << 10}, a.buffer, w.link, a.judge.Verdict, w.now, w.quiet)
	w.agent = a
	for _, d := range w.devices {
		a.supervisors[d.source] = source.NewSupervisor(source.Config{ID: d.source}, nil, a.buffer, func() mesh.Nanos { return w.plant }, w.quiet)
		w.startWorker(d)
	}
}

// startWorker is a new life of a source's worker.
func (w *walk) startWorker(d *device) {
	if w.agent == nil || w.readers[d.source] != nil {
		return
	}
	resume, err := w.agent.supervisors[d.source].Prepare(w.ctx)
	w.check(err)
	r := newReader(w, d, resume)
	w.readers[d.source] = r
	r.commit() // a new subscription is in the log before anything is heard
}

// stopWorker kills a worker: what it had not committed is gone.
func (w *walk) stopWorker(d *device) {
	if w.readers[d.source] == nil {
		return
	}
	delete(w.readers, d.source)
	d.gone()
}

// stopAgent kills the agent and its workers without notice.
func (w *walk) stopAgent() {
	for _, d := range w.devices {
		w.stopWorker(d)
	}
	w.agent.close(w.t)
	w.agent = nil
}

// startHub opens the hub's store, takes the site's file once, and begins to read.
func (w *walk) startHub() {
	h := &hub{}
	var err error
	h.store, err = store.Open(w.ctx, filepath.Join(w.dir, "hub.db"), w.quiet)
	w.check(err)
	h.ingest = ingest.New(ingest.Config{Now: w.now}, h.store, w.quiet)
	h.set, err = runner.NewSet(runner.Config{}, h.store, h.store, runner.Clock{Now: func() mesh.Nanos { return mesh.NanosOf(w.machine) }, Log: w.quiet})
	w.check(err)
	w.hub = h
	first, err := h.store.Peek(w.ctx, 0, mesh.Position{}, 1)
	if err == nil && len(first) > 0 {
		return
	}
	d := mesh.Descriptor{Kind: mesh.DescribeSite, Content: read(w.t, "site.yaml")}
	sealed, err := wire.SealFact(mesh.Fact{About: "site:" + site, Valid: mesh.Span{From: math.MinInt64, To: math.MaxInt64}, Descriptor: d.Hash(), By: "site file"})
	w.check(err)
	_, err = h.ingest.Record(w.ctx, []mesh.Entry{{Sealed: sealed}}, []mesh.Descriptor{d})
	w.check(err)
}

func (w *walk) stopHub() {
	w.hub.close(w.t)
	w.hub = nil
	w.cut()
}

// cut ends the connection; what was on its way back is gone.
func (w *walk) cut() {
	w.link.up, w.link.back = false, nil
	if w.agent != nil {
		w.agent.forward.Disconnected()
	}
}

// connect makes it again: the hub's receipt is asked for first.
func (w *walk) connect() {
	if w.hub == nil || w.agent == nil {
		return // who comes back later connects
	}
	w.link.up = true
	b, err := w.hub.ingest.Receipt(w.ctx, site, agentName)
	w.check(err)
	w.check(w.agent.forward.Receive(b))
	w.agent.forward.Connected()
}

// later starts something again after some events.
func (w *walk) later(what func()) {
	w.due = append(w.due, comeback{w.events + w.harm.IntN(120), what})
}

// fault breaks one thing.
func (w *walk) fault() {
	did := func(what string) { w.faults[what]++ }
	switch n := w.harm.IntN(100); {
	case n < 15 && w.agent != nil:
		did("agent")
		w.stopAgent()
		w.later(func() { w.startAgent(); w.connect() })
	case n < 50 && w.agent != nil:
		d := w.devices[w.harm.IntN(len(w.devices))]
		if w.readers[d.source] == nil {
			return
		}
		did("worker")
		w.stopWorker(d)
		w.later(func() { w.startWorker(d) })
	case n < 65 && w.hub != nil:
		did("hub")
		w.stopHub()
		w.later(func() { w.startHub(); w.connect() })
	case n < 75 && w.link.up:
		did("outage")
		w.cut()
		w.later(w.connect)
	case n < 80:
		did("stream")
		w.link.renew()
	case n < 100:
		d := w.devices[w.harm.IntN(len(w.devices))]
		if w.readers[d.source] == nil || d.manner == forgets {
			return
		}
		did("device link")
		w.readers[d.source].durable = nil
		d.gone()
	}
}

// story is what was broken, for the summary.
func (w *walk) story() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s, %d events, link %d", w.world.start.Time().Format(time.DateOnly), w.events, w.link.hurt)
	for _, what := range slices.Sorted(maps.Keys(w.faults)) {
		fmt.Fprintf(&b, ", %s %d", what, w.faults[what])
	}
	return b.String()
}
