package house

import (
	"context"
	"errors"
	"log/slog"
	"math"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"plantmesh/cloud/ingest"
	porthttp "plantmesh/cloud/port/http"
	"plantmesh/cloud/product"
	"plantmesh/cloud/product/runner"
	"plantmesh/cloud/store"
	"plantmesh/edge/agent"
	"plantmesh/edge/buffer"
	"plantmesh/edge/forward"
	"plantmesh/edge/quality"
	"plantmesh/edge/source"
	edgeua "plantmesh/edge/source/opcua"
	simua "plantmesh/firmware-sim/opcua"
	"plantmesh/firmware-sim/plant"
	"plantmesh/proto/mesh"
	"plantmesh/proto/strict"
	"plantmesh/proto/wire"
)

const (
	markedLog    = mesh.LogID("agent/graz/gw-1")
	markedSource = "line1-opcua"
	markedSignal = "line1.filler.temperature"
	markedValue  = 88.125 // nothing else in this walk has it
)

// pipe is where forward's messages lie until ingest takes them.
type pipe struct{ messages []ingest.Message }

func (p *pipe) Publish(_ context.Context, subject string, data []byte) (mesh.Place, error) {
	at := mesh.Place{Stream: "one", Seq: uint64(len(p.messages) + 1)}
	p.messages = append(p.messages, ingest.Message{Subject: subject, Place: at, Data: slices.Clone(data)})
	return at, nil
}

// times is how often the marked reading is in a sealed batch.
func times(t *testing.T, sealed []byte) (n int) {
	t.Helper()
	dec, err := wire.NewDecoder()
	must(t, err)
	b, err := dec.Batch(sealed)
	if err != nil {
		return 0 // of another kind
	}
	for _, s := range b.Samples {
		if s.Value.Compare(mesh.Double(markedValue)) == 0 {
			n++
		}
	}
	return n
}

// visits counts how often each room had the reading.
type visits struct {
	order []string
	count map[string]int
}

func (v *visits) note(room string, n int) {
	if v.count[room] += n; n > 0 && !slices.Contains(v.order, room) {
		v.order = append(v.order, room)
	}
}

// inbox is the agent's log as the source reader sees it: an offer is durable
// when the test has it.
type inbox struct {
	offers  chan mesh.Offer
	durable chan uint64
	n       uint64
}

func (b *inbox) Append(ctx context.Context, o mesh.Offer) (uint64, error) {
	select {
	case b.offers <- o:
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	b.n++
	b.durable <- b.n
	return b.n, nil
}

func (b *inbox) Committed(ctx context.Context, after uint64) (n uint64, err error) {
	for n <= after {
		select {
		case n = <-b.durable:
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
	return n, nil
}

// heard has a real device say the reading once, and gives what the real reader
// makes of it.
func heard(t *testing.T, at mesh.Nanos, seen *visits) mesh.Offer {
	t.Helper()
	quiet := slog.New(slog.DiscardHandler)
	device, err := simua.Serve(simua.Config{Source: markedSource, Listen: "127.0.0.1:0"},
		[]plant.Signal{{Source: markedSource, Name: markedSignal, Type: plant.Double, Unit: "CEL"}}, nil, quiet)
	must(t, err)
	cfg := edgeua.Config{
		ID: markedSource, Endpoint: device.URL(), Security: edgeua.Security{Insecure: true},
		PublishingInterval: strict.Duration(20 * time.Millisecond), Window: source.Window{Latency: strict.Duration(20 * time.Millisecond)},
		Signals: []edgeua.Signal{{Name: markedSignal, Node: "nsu=" + simua.Namespace + ";s=" + markedSignal, Type: "double", Unit: "CEL"}},
	}
	reader, err := edgeua.New(cfg, func() mesh.Nanos { return at.Add(time.Minute) }, quiet)
	must(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	box, ended := &inbox{offers: make(chan mesh.Offer), durable: make(chan uint64, 1000)}, make(chan error, 2)
	go func() { ended <- device.Run(ctx) }()
	go func() { ended <- reader.Run(ctx, nil, box) }()
	defer func() {
		cancel()
		for range 2 {
			if err := <-ended; err != nil && !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
		}
	}()
	device.Push(plant.Emission{Source: markedSource, Index: 1, Signal: markedSignal, Time: at.Time(), Emitted: at.Time(), Value: plant.Value{Type: plant.Double, F: markedValue}})
	device.Prove(at.Add(10 * time.Second).Time())
	seen.note("firmware-sim/plant", 1)
	for late := time.After(20 * time.Second); ; {
		select {
		case o := <-box.offers:
			n := 0
			for _, sealed := range o.Sealed {
				n += times(t, sealed)
			}
			if seen.note("edge/source", n); n > 0 {
				return o
			}
		case <-late:
			t.Fatal("the reader never offered the reading")
		}
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// counted is the hub's store; it counts what ingest hands to it.
type counted struct {
	*store.Store

	t    *testing.T
	seen *visits
}

func (c counted) Take(ctx context.Context, take mesh.Take) (mesh.Position, error) {
	for _, e := range take.Entries {
		c.seen.note("cloud/ingest", times(c.t, e.Sealed))
	}
	return c.Store.Take(ctx, take)
}

// TestAMarkedReadingPassesEachRoomOnce follows one reading from a device to a
// reader of the HTTP port: the rooms in the order of the walk, each once, its
// position only ever given by the log it lies in. The device, the reader, the
// log, the database and the port are the real ones; a slice stands for NATS,
// and a test in deploy/e2e has the page before a browser.
func TestAMarkedReadingPassesEachRoomOnce(t *testing.T) {
	ctx, quiet, dir := t.Context(), slog.New(slog.DiscardHandler), t.TempDir()
	seen := &visits{count: map[string]int{}}
	at := mesh.NanosOf(time.Date(2026, 3, 2, 9, 0, 0, 0, time.UTC))
	offer := heard(t, at, seen)

	// buffer: the position is given here, once
	cfg := buffer.Config{Dir: filepath.Join(dir, "agent"), Log: markedLog}
	must(t, cfg.Validate())
	log, err := buffer.Open(cfg, quiet)
	must(t, err)
	t.Cleanup(func() { must(t, log.Close()) })
	rules, err := quality.Parse("rules.yaml", []byte("revision: 1\nrules: [{id: hot, kind: range, signal: '*.*.temperature', max: 80}]\n"))
	must(t, err)
	must(t, agent.Declare(ctx, rules, log, 1))
	given, err := log.Append(ctx, []mesh.Offer{offer})
	must(t, err)
	records, err := log.Peek(mesh.Position{}, 1<<20)
	must(t, err)
	i := -1
	for n, r := range records {
		if k := times(t, r.Sealed); k > 0 {
			i = n
			seen.note("edge/buffer", k)
		}
	}
	if i < 0 || !slices.Contains(given, records[i].At) {
		t.Fatalf("the buffer gave %v and has the reading at %d of %d records", given, i, len(records))
	}
	position := records[i].At

	// quality and forward: the agent's own judge asks the rules when forward wants to know
	judge, err := agent.NewJudge(log)
	must(t, err)
	sent := &pipe{}
	f := forward.New(forward.Config{Site: "graz", Agent: "gw-1"}, log, sent, judge.Verdict, time.Now, quiet)
	f.Connected()
	for range 50 {
		_, err := f.Step(ctx)
		must(t, err)
	}
	seen.note("edge/quality", verdictsOn(t, position, sent.messages))
	for _, m := range sent.messages {
		seen.note("edge/forward", strings.Count(string(m.Data), string(records[i].Sealed)))
	}

	// ingest and store
	db, err := store.Open(ctx, filepath.Join(dir, "hub.db"), quiet)
	must(t, err)
	t.Cleanup(func() { must(t, db.Close()) })
	in := ingest.New(ingest.Config{}, counted{db, t, seen}, quiet)
	site := mesh.Descriptor{Kind: mesh.DescribeSite, Content: siteFile(t)}
	fact, err := wire.SealFact(mesh.Fact{About: "site:graz", Valid: mesh.Span{From: math.MinInt64, To: math.MaxInt64}, Descriptor: site.Hash()})
	must(t, err)
	_, err = in.Record(ctx, []mesh.Entry{{Sealed: fact}}, []mesh.Descriptor{site})
	must(t, err)
	answers, err := in.Step(ctx, sent.messages)
	must(t, err)
	entries, err := db.Peek(ctx, 0, mesh.Position{}, 100)
	must(t, err)
	for _, e := range entries {
		n := times(t, e.Sealed)
		if seen.note("cloud/store", n); n > 0 && e.Of != position {
			t.Errorf("the hub has the reading of %v, the buffer gave %v", e.Of, position)
		}
	}

	// only a position comes back
	if len(answers) != 1 {
		t.Fatalf("%d receipts", len(answers))
	}
	must(t, f.Receive(answers[0].Receipt))
	_, err = f.Step(ctx)
	must(t, err)
	if !log.Accounted(position) {
		t.Error("the receipt does not name the reading's position")
	}

	read(t, db, at, seen)
	if want := walk()[:len(walk())-1]; !slices.Equal(seen.order, want) { // the console reads the port
		t.Errorf("the reading walked %v, want %v", seen.order, want)
	}
	for room, n := range seen.count {
		if n != 1 {
			t.Errorf("%s had the reading %d times", room, n)
		}
	}
}

// verdictsOn counts the marks that messages carry for a position.
func verdictsOn(t *testing.T, position mesh.Position, messages []ingest.Message) (n int) {
	t.Helper()
	for _, m := range messages {
		for rest := m.Data; len(rest) > 0; {
			kind, frame, after, err := wire.Next(rest)
			must(t, err)
			if rest = after; kind != wire.FrameVerdict {
				continue
			}
			v, err := wire.ParseVerdict(frame)
			must(t, err)
			if v.Of == position {
				n += len(v.Marks)
			}
		}
	}
	return n
}

// read assembles the products and asks the HTTP port for the reading.
func read(t *testing.T, db *store.Store, at mesh.Nanos, seen *visits) {
	t.Helper()
	ctx, quiet := t.Context(), slog.New(slog.DiscardHandler)
	defs, err := product.Definitions()
	must(t, err)
	now := func() mesh.Nanos { return at }
	set, err := runner.NewSetOf(defs, runner.Config{}, db, db, runner.Clock{Now: now, Log: quiet})
	must(t, err)
	must(t, set.Flush(ctx))
	deps := porthttp.Deps{
		Rows: db, Out: db, End: db.End, Readers: map[string]porthttp.Rows{}, PlantNow: now, Changed: db.ChangedOut,
		Site: func() porthttp.SiteView { return porthttp.SiteView{Site: "graz", Zone: "Europe/Vienna"} },
	}
	i := slices.IndexFunc(defs, func(d *product.Definition) bool { return d.Fold == product.FoldSamples })
	d := defs[i]
	samples := runner.NewSignals(d, db, db)
	rows, _, err := samples.Rows(ctx, mesh.RowQuery{Product: d.ID, Limit: 10})
	must(t, err)
	for _, r := range rows {
		if r.Entity != "line1-filler" || r.From != at || !strings.Contains(string(r.Body), `"rule":"hot"`) {
			t.Errorf("product %s has %+v", d.ID, r)
		}
		seen.note("cloud/product", strings.Count(string(r.Body), "88.125"))
	}
	deps.Catalogue = []porthttp.Product{{ID: d.ID, Version: d.Version, Columns: d.Columns, View: true}}
	deps.Readers[d.ID] = samples
	answer := httptest.NewRecorder()
	porthttp.New(porthttp.Config{}, deps, quiet).ServeHTTP(answer, httptest.NewRequestWithContext(ctx, "GET", "http://localhost/api/v1/products/"+d.ID+"/rows?format=ndjson", nil))
	if answer.Code != 200 {
		t.Fatalf("the port answers %d: %s", answer.Code, answer.Body)
	}
	seen.note("cloud/port", strings.Count(answer.Body.String(), "88.125"))
}

func siteFile(t *testing.T) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("..", "demo", "site.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	return b
}
