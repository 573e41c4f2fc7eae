package sim

import (
	"context"
	"log/slog"
	"math"
	"testing"
	"time"

	"plantmesh/cloud/ingest"
	"plantmesh/cloud/port/stream"
	"plantmesh/cloud/product"
	"plantmesh/cloud/product/runner"
	"plantmesh/edge/buffer"
	"plantmesh/edge/forward"
	"plantmesh/proto/mesh"
	"plantmesh/proto/strict"
	"plantmesh/proto/wire"
)

const (
	site, agentName = "s", "a"
	agentLog        = mesh.LogID("agent/s/a")
	forkAfter       = time.Minute
	siteFile        = `site: s
zone: UTC
equipment:
  - {id: e0, line: l, name: E0, kind: k, source: d0, signals_prefix: m.}
  - {id: e1, line: l, name: E1, kind: k, source: d1, signals_prefix: n.}
`
)

// agent is a gateway: its disk, and while it runs, the rooms.
type agent struct {
	disk   *disk
	tap    tap
	power  bool // the crash that is under way is a power loss
	buf    *buffer.Buffer
	fwd    *forward.Forward
	queue  forward.Queue // the log as forward sees it
	link   uplink
	reader *reader
	d      *device
}

func (a *agent) up() bool { return a.buf != nil }

// hub is a process of the hub's.
type hub struct {
	store  *store
	ingest *ingest.Ingest
	set    *runner.Set
	port   *stream.Stream
	// The reading of the stream, as it is in one session.
	stream string
	next   uint64
}

// world is one run.
type world struct {
	kit
	plan

	ctx    context.Context
	quiet  *slog.Logger
	broken control
	clock  time.Time
	ledger book

	stream *broker
	agents []*agent // the second is the clone, if there is one
	hub    *hub     // nil: it is down
	tap    tap      // of the hub
	power  bool
	store  *store
	zombie *hub // of a life before
	backup *store
	copied *disk
	port   consumer
	ahead  *stream.Stream // a port that the next hub goes on with

	hits    [faults]uint16
	trace   uint64
	story   func(format string, args ...any) // nil: nobody listens
	costly  bool                             // something happened that may cost data
	twice   bool                             // something happened that may store a sample twice
	cloned  bool
	revised bool // something happened after which what was final may change
	// alarmed: the agent hears receipts of an epoch that the hub has left, as it
	// believes; answered counts how often somebody had to act on that.
	alarmed bool
	// refusal is why the hub took nothing in the newest round.
	refusal  string
	answered int
	at       int
}

// newKit makes what the schedules of one goroutine share.
func newKit(t testing.TB) (k kit) {
	t.Helper()
	must := func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	var err error
	k.enc, err = wire.NewEncoder()
	must(err)
	k.table, err = wire.DescribeSignals([]mesh.Signal{{ID: 1, Name: "m.produced", Unit: "C62", Type: mesh.TypeInt}})
	must(err)
	k.site = mesh.Descriptor{Kind: mesh.DescribeSite, Content: []byte(siteFile)}
	k.fact, err = wire.SealFact(mesh.Fact{About: "site:s", Valid: mesh.Span{From: math.MinInt64, To: math.MaxInt64}, Descriptor: k.site.Hash()})
	must(err)
	all, err := product.Definitions()
	must(err)
	for _, d := range all {
		switch d.ID {
		case "signals":
			k.view = d
			fallthrough
		case "coverage", "production-rate":
			k.defs = append(k.defs, d)
		}
	}
	return k
}

func newWorld(ctx context.Context, k kit, p plan, c control) *world {
	w := &world{
		kit: k, plan: p, ctx: ctx, quiet: slog.New(slog.DiscardHandler), broken: c, clock: time.Unix(1_800_000_000, 0),
		ledger: book{batches: map[string]sealedBatch{}}, trace: 14695981039346656037,
	}
	w.port.got = map[string]uint64{}
	w.stream = newBroker(w)
	w.stream.harm = p.harm
	w.store = newStore(&w.tap)
	c.onStore(w.store)
	w.startHub()
	a := w.newAgent("d0", newDisk(nil))
	w.startAgent(a)
	w.connect(a)
	return w
}

func (w *world) newAgent(source string, d *disk) *agent {
	a := &agent{disk: d, d: &device{w: w, source: source, start: plantStart}}
	d.tap = &a.tap
	w.broken.onDisk(d)
	a.link.s = w.stream
	w.agents = append(w.agents, a)
	return a
}

// plantStart is when the first sample comes about, 09:50: the hour's turn is near.
const plantStart = mesh.Nanos(1_772_445_000_000_000_000)

func (w *world) now() time.Time { return w.clock }

func (w *world) hit(f fault) { w.hits[f]++ }

// mix puts a number into the trace: what two runs of a seed must have in common.
func (w *world) mix(n uint64) {
	w.trace = (w.trace ^ n) * 1099511628211
}

func (w *world) tell(format string, args ...any) {
	if w.story != nil {
		w.story(format, args...)
	}
}

// startAgent opens the log. It may fail, or die under way: then it is down.
func (w *world) startAgent(a *agent) {
	if a.up() {
		return
	}
	keep := strict.Duration(0)
	if w.keep {
		keep = strict.Duration(time.Hour)
	}
	cfg := buffer.Config{
		Dir: "/dev/null/none", Log: agentLog, Now: w.now, MaxBytes: 1 << 20, SegmentBytes: 3 << 10, Keep: &keep, Policy: buffer.PolicyBlock,
	}
	if w.small {
		cfg.MaxBytes, cfg.SegmentBytes = 3<<10, 768
	}
	if w.drops {
		if cfg.Policy = buffer.PolicyDropOldest; w.harm%2 == 1 {
			cfg.Policy = buffer.PolicyThin
		}
	}
	b, err := buffer.OpenOn(cfg, a.disk, func() (int64, error) { return 1 << 40, nil }, w.quiet)
	if err != nil {
		w.tell("the agent does not start: %v", err)
		return
	}
	a.buf = b
	a.link.back = nil
	a.queue = w.broken.queueOf(b)
	a.fwd = forward.New(forward.Config{
		Site: site, Agent: agentName, MaxMessage: 2 << 10, ResendAfter: strict.Duration(5 * time.Second), Quarantine: b.Quarantine,
	}, a.queue, &a.link, func(context.Context, mesh.Record) ([]byte, error) { return nil, nil }, w.now, w.quiet)
	if a.reader, err = newReader(a, a.d); err != nil {
		w.tell("the worker does not start: %v", err)
		w.stopAgent(a)
	}
}

// stopAgent kills it.
func (w *world) stopAgent(a *agent) {
	a.buf, a.fwd, a.reader, a.link.up, a.link.back = nil, nil, nil, false, nil
	a.tap.crashIn, a.tap.failIn = 0, 0
	a.d.gone()
}

func (w *world) cut(a *agent) {
	a.link.up, a.link.back = false, nil
	if a.up() {
		a.fwd.Disconnected()
	}
}

// connect makes a connection: the hub's receipt is asked for first.
func (w *world) connect(a *agent) {
	if !a.up() || w.hub == nil || a.link.up {
		return
	}
	a.link.up = true
	defer a.fwd.Connected() // whatever becomes of the hub meanwhile
	if b, err := w.hub.ingest.Receipt(w.ctx, site, agentName); err == nil {
		w.receive(a, b)
	} else {
		w.tell("no receipt: %v", err)
	}
}

func (w *world) receive(a *agent, b []byte) {
	if w.story != nil {
		if r, err := wire.DecodeReceipt(b); err == nil {
			w.tell("    receipt by %s: through %s, %d islands, place %d of %s, chain %d", r.By, r.Have.Through, len(r.Have.Islands), r.Place.Seq, r.Place.Stream, len(r.Chain))
		}
	}
	if err := a.fwd.Receive(b); err != nil {
		w.tell("receipt not taken: %v", err)
	}
}

func (w *world) newHub(s *store) *hub {
	h := &hub{store: s, ingest: ingest.New(ingest.Config{Now: w.now, ForkAfter: forkAfter}, s, w.quiet)}
	clock := runner.Clock{Now: func() mesh.Nanos { return mesh.NanosOf(w.clock) }, Log: w.quiet}
	var err error
	if h.set, err = runner.NewSetOf(w.defs, runner.Config{Eager: true}, s, s, clock); err != nil {
		panic(err)
	}
	if h.port = w.ahead; h.port == nil {
		h.port = stream.New(stream.Config{Domain: "production", Site: site, Products: []stream.Product{
			{ID: "coverage", Version: "1.0.0"}, {ID: "production-rate", Version: "1.0.0"},
		}, Batch: 8}, outputs{w}, outputs{w}, &w.port, w.quiet)
	}
	w.ahead = nil
	return h
}

// outputs are those of the database that is in place: a port may outlive it.
type outputs struct{ w *world }

func (o outputs) Out(ctx context.Context, product string, after mesh.Position, most int) ([]mesh.Row, error) {
	return o.w.store.Out(ctx, product, after, most)
}

func (o outputs) PortPlace(ctx context.Context, port, product string) (mesh.Position, error) {
	return o.w.store.PortPlace(ctx, port, product)
}

func (o outputs) AckPort(ctx context.Context, port, product string, was, at mesh.Position) error {
	return o.w.store.AckPort(ctx, port, product, was, at)
}

func (o outputs) Rows(ctx context.Context, q mesh.RowQuery) ([]mesh.Row, string, error) {
	return o.w.store.Rows(ctx, q)
}

func (o outputs) End(ctx context.Context, product string) (mesh.Position, error) {
	return o.w.store.End(ctx, product)
}

// startHub starts the hub's process; a new database is given the site's file.
func (w *world) startHub() {
	if w.hub != nil {
		return
	}
	h := w.newHub(w.store)
	if len(w.store.now.entries) == 0 {
		if _, err := h.ingest.Record(w.ctx, []mesh.Entry{{Sealed: w.fact}}, []mesh.Descriptor{w.site}); err != nil {
			w.tell("the hub does not start: %v", err)
			return
		}
	} else if err := h.ingest.Open(w.ctx); err != nil {
		w.tell("the hub does not start: %v", err)
		return
	}
	w.hub = h
}

func (w *world) stopHub() {
	w.hub = nil
	w.tap.crashIn, w.tap.failIn = 0, 0
}

// guard runs what may die in the middle of a write, and buries it.
func (w *world) guard(do func()) {
	defer func() {
		r := recover()
		if r == nil {
			return
		}
		c, ok := r.(crash)
		if !ok {
			panic(r)
		}
		if c.who == &w.tap {
			w.tell("the hub dies between two writes")
			w.hit(faultHubCrashed)
			w.stopHub()
			if w.power {
				w.store.powerLoss()
			}
			return
		}
		for _, a := range w.agents {
			if c.who == &a.tap {
				w.tell("the agent dies between two writes")
				w.hit(faultAgentCrashed)
				w.stopAgent(a)
				if a.power {
					a.disk.powerLoss(uint64(w.at))
				}
			}
		}
	}()
	do()
}
