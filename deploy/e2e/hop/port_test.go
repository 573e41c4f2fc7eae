package hop

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"plantmesh/cloud/port/stream"
	"plantmesh/cloud/store"
	"plantmesh/proto/mesh"
	"plantmesh/proto/meshtest"
	"plantmesh/proto/subject"
)

// portProduct is the product whose output log is published.
const portProduct = "oee"

// portHop is the third hop under the suite: from the output log of a product to
// the table of somebody who reads its stream.
type portHop struct {
	t      *testing.T
	dir    string
	nats   int // port
	broker *server.Server

	w      *rowWriter
	p      *port
	c      *consumer
	post   post
	left   []*port
	leftW  []*rowWriter
	paused *port
	resume func()
	// older copies, as of the last time everything was settled.
	storeWas string
	tableWas *consumer
}

func newPortHop(t *testing.T) *portHop {
	t.Helper()
	h := &portHop{t: t, dir: t.TempDir(), nats: server.RANDOM_PORT, c: &consumer{}}
	h.startBroker()
	h.w = h.openWriter(nil)
	h.startPort()
	t.Cleanup(func() {
		h.bury()
		h.p.end(t)
		check(t, h.w.store.Close())
		h.stopBroker()
	})
	h.keepCopies()
	return h
}

func (h *portHop) startBroker() {
	h.t.Helper()
	h.broker, h.nats = startBroker(h.t, h.dir, h.nats)
}

func (h *portHop) stopBroker() {
	h.broker.Shutdown()
	h.broker.WaitForShutdown()
}

// port is the port as it runs, with the database and a connection of its own.
type port struct {
	store *store.Store
	nc    *nats.Conn
	js    jetstream.JetStream
	acks  takes
	posts takes
	stop  context.CancelFunc
	done  sync.WaitGroup
}

// acked is a store whose places are kept as the faults have it.
type acked struct {
	*store.Store

	acks *takes
}

// AckPort implements stream.Outputs.
func (a acked) AckPort(ctx context.Context, port, product string, was, at mesh.Position) error {
	return a.acks.do(func() error { return a.Store.AckPort(ctx, port, product, was, at) })
}

func (h *portHop) startPort() {
	h.t.Helper()
	ctx, stop := context.WithCancel(h.t.Context())
	p := &port{store: openStore(h.t, h.dir), stop: stop}
	var err error
	p.nc, err = nats.Connect(h.broker.ClientURL(), nats.MaxReconnects(-1), nats.ReconnectWait(20*time.Millisecond))
	check(h.t, err)
	p.js, err = jetstream.New(p.nc)
	check(h.t, err)
	pub, err := stream.Open(ctx, p.nc, 64<<20)
	check(h.t, err)
	cfg := stream.Config{
		Domain: "production", Site: site, Products: []stream.Product{{ID: portProduct, Version: "1.0.0"}}, Batch: 8, Retry: 20 * time.Millisecond,
		LineOf: func(string) string { return "line1" },
	}
	s := stream.New(cfg, acked{p.store, &p.acks}, p.store, postman{&h.post, p, pub}, slog.New(slog.DiscardHandler))
	p.done.Go(func() {
		if err := s.Run(ctx, p.store.ChangedOut); err != nil {
			h.t.Errorf("the port ends: %v", err)
		}
	})
	h.p = p
}

func (p *port) end(t *testing.T) {
	t.Helper()
	p.stop()
	p.done.Wait()
	p.nc.Close()
	check(t, p.store.Close())
}

// Write implements meshtest.Hop. Each input is a row. The next write makes it
// final, and a third one changes one that was.
func (h *portHop) Write(ctx context.Context, first, n int) error {
	for i := range first {
		if v := h.w.want[i]; v.state == mesh.RowProvisional {
			h.w.want[i] = version{mesh.RowFinal, v.n + 1}
		}
	}
	for i := first; i < first+n; i++ {
		h.w.want[i] = version{mesh.RowProvisional, 1}
	}
	if err := h.w.make(ctx); err != nil {
		return err
	}
	return h.w.revise(ctx, 1+first*7%first)
}

// Inflict implements meshtest.Hop.
func (h *portHop) Inflict(ctx context.Context, f meshtest.Fault) (why string, err error) {
	switch f {
	case meshtest.MessageLost, meshtest.MessageDoubled, meshtest.MessageReordered, meshtest.MessageLate, meshtest.AnswerLost:
		h.post.strike(f)
	case meshtest.BetweenDeleted:
		js, err := jetstream.New(h.p.nc)
		if err == nil {
			err = js.DeleteStream(ctx, subject.ProductStream)
		}
		if err != nil { // another fault has it just now
			h.t.Logf("the stream is not deleted: %v", err)
		}
	case meshtest.WriterKilled:
		return "", h.restartWriter(ctx)
	case meshtest.ReaderKilled:
		h.killPort()
		h.startPort()
	case meshtest.BothKilled:
		h.killPort()
		h.stopBroker()
		h.startBroker()
		h.startPort()
		return "", h.restartWriter(ctx)
	case meshtest.WriterPutBack:
		if err := h.arrived(ctx); err != nil {
			return "", err
		}
		h.p.end(h.t)
		check(h.t, h.w.store.Close())
		putBack(h.t, h.dir, h.storeWas)
		h.w = h.openWriter(h.w.want)
		if err := h.w.make(ctx); err != nil {
			return "", err
		}
		h.startPort()
		h.storeWas = backupOf(h.t, h.dir)
	case meshtest.ReaderPutBack:
		if err := h.arrived(ctx); err != nil {
			return "", err
		}
		h.c, h.tableWas = h.tableWas, h.tableWas.clone()
	case meshtest.SecondWriter:
		was := h.w
		if err := h.restartWriter(ctx); err != nil {
			return "", err
		}
		if err := was.commit(ctx, mesh.Row{Entity: "line1-filler", Key: "stray", From: meshtest.At(1) + 1, State: mesh.RowFinal, Revision: 1, Body: []byte(`{"n":-1}`)}); !errors.Is(err, mesh.ErrMoved) {
			return "", fmt.Errorf("runners that were left write, and are told %w", err)
		}
	case meshtest.SecondReader:
		return "", h.secondPort(ctx)
	case meshtest.CommitRefused, meshtest.CommitUnsure:
		h.p.acks.fail(f)
	}
	return "", nil
}

// killPort leaves it as it stands: its connection breaks, nothing is closed.
func (h *portHop) killPort() {
	h.p.stop()
	h.p.nc.Close()
	h.left = append(h.left, h.p)
}

// restartWriter leaves the one before with all that it has open.
func (h *portHop) restartWriter(ctx context.Context) error {
	h.leftW = append(h.leftW, h.w)
	h.w = h.openWriter(h.w.want)
	return h.w.make(ctx)
}

// secondPort pauses the port with rows in its hand, and has another begin.
func (h *portHop) secondPort(ctx context.Context) error {
	if err := h.comesBack(ctx); err != nil {
		return err
	}
	p := h.p
	h.paused, h.resume = p, p.posts.hold()
	h.left = append(h.left, p)
	if err := h.w.revise(ctx, 1); err != nil {
		return err
	}
	err := poll(ctx, "the first port is about to publish", func() (bool, error) {
		waiting, _, _ := p.posts.counts()
		return waiting > 0, nil
	})
	h.startPort()
	return err
}

// comesBack lets the paused port go on: it publishes what it has in its hand, and
// must not keep its place.
func (h *portHop) comesBack(ctx context.Context) error {
	if h.paused == nil {
		return nil
	}
	if err := h.arrived(ctx); err != nil {
		return err
	}
	p := h.paused
	h.resume()
	h.paused, h.resume = nil, nil
	err := poll(ctx, "the paused port is refused", func() (bool, error) {
		_, refused, _ := p.acks.counts()
		return refused > 0, nil
	})
	p.stop()
	p.done.Wait()
	return err
}

// bury ends what was left behind.
func (h *portHop) bury() {
	if h.resume != nil {
		h.resume()
	}
	for _, p := range h.left {
		p.end(h.t)
	}
	for _, w := range h.leftW {
		check(h.t, w.store.Close())
	}
	h.left, h.leftW, h.paused, h.resume = nil, nil, nil, nil
}

func (h *portHop) keepCopies() { h.storeWas, h.tableWas = backupOf(h.t, h.dir), h.c.clone() }

// arrived waits until the port has taken all of the output log, and has the
// consumer read the stream.
func (h *portHop) arrived(ctx context.Context) error {
	err := poll(ctx, "the port has published all", func() (bool, error) {
		end, err := h.w.store.End(ctx, portProduct)
		place, perr := h.p.store.PortPlace(ctx, "stream", portProduct)
		return end == place, errors.Join(err, perr)
	})
	if err != nil {
		return err
	}
	return h.c.read(ctx, h.p)
}

// Settle implements meshtest.Hop.
func (h *portHop) Settle(ctx context.Context) error {
	if err := h.arrived(ctx); err != nil {
		return err
	}
	if err := h.comesBack(ctx); err != nil {
		return err
	}
	if err := h.post.stragglers(ctx, h.p); err != nil {
		return err
	}
	_, _, unmet := h.p.acks.counts()
	if unmet += h.post.unmet(); unmet > 0 {
		return fmt.Errorf("%d faults struck nothing", unmet)
	}
	h.bury()
	if err := h.arrived(ctx); err != nil {
		return err
	}
	h.keepCopies()
	return nil
}

// Read implements meshtest.Hop: the consumer's table against the rows as they are.
// A change of a row that it took for two is a duplicate; a row that is not the
// newest there is was made into something else.
func (h *portHop) Read(ctx context.Context, l *meshtest.Ledger) (meshtest.Missing, error) {
	rows, err := currentRows(ctx, h.w.store, portProduct)
	if err != nil {
		return nil, err
	}
	now := map[string]mesh.Row{}
	for _, r := range rows {
		now[r.Key] = r
	}
	for _, n := range slices.Sorted(maps.Keys(h.c.table)) {
		got := h.c.table[n]
		l.Get(meshtest.Sample{Source: meshtest.Source, N: n}, got.at())
		if r := now[strconv.Itoa(n)]; string(body(n, got.V)) != string(r.Body) || got.Final != (r.State == mesh.RowFinal) || got.Revision != r.Revision {
			l.Disorder()
		}
	}
	for c, times := range h.c.changes {
		for range times - 1 {
			l.Get(meshtest.Sample{Source: meshtest.Source, N: c.N}, c.at())
		}
	}
	return nil, nil
}

// TestHop_ProductToPort runs the suite over a real database, the real port and a
// real server.
func TestHop_ProductToPort(t *testing.T) {
	meshtest.Suite{Seeds: 1, Rounds: 1}.Run(t, func(t *testing.T) meshtest.Hop {
		t.Helper()
		return newPortHop(t)
	})
}

// TestHop_ProductToPort_WithoutIds: the suite notices when somebody takes each
// message for a change.
func TestHop_ProductToPort_WithoutIds(t *testing.T) {
	h := newPortHop(t)
	h.c.forgets = true
	_, err := meshtest.NewTrial(h, 1).Alone(t.Context(), meshtest.MessageDoubled)
	if !errors.Is(err, meshtest.ErrNumbers) {
		t.Errorf("each message counts, and nobody notices: %v", err)
	}
}

// TestHop_ProductToPort_ByArrival: two changes of a row may come the wrong way round,
// where the first was lost and sent again. Who takes the last for the newest stays
// behind.
func TestHop_ProductToPort_ByArrival(t *testing.T) {
	for _, byArrival := range []bool{false, true} {
		h := newPortHop(t)
		h.c.byArrival = byArrival
		ctx := t.Context()
		check(t, h.Write(ctx, 1, 3))
		check(t, h.Settle(ctx))
		release := h.p.posts.hold()
		check(t, h.w.revise(ctx, 1))
		check(t, poll(ctx, "a message is under way", func() (bool, error) {
			waiting, _, _ := h.p.posts.counts()
			return waiting > 0, nil
		}))
		h.post.strike(meshtest.MessageReordered)
		check(t, h.w.revise(ctx, 1)) // two changes of one row, which go out together
		check(t, h.w.revise(ctx, 1))
		release()
		check(t, h.Settle(ctx))
		if got := h.read(3); got.Reordered > 0 != byArrival || got.Lost+got.Duplicated+got.Phantom > 0 {
			t.Errorf("by arrival %v: %s", byArrival, got)
		}
	}
}

// read holds the consumer's table against the first n inputs.
func (h *portHop) read(n int) meshtest.Report {
	h.t.Helper()
	var l meshtest.Ledger
	for i := 1; i <= n; i++ {
		l.Emit(meshtest.Sample{Source: meshtest.Source, N: i}, meshtest.At(i), meshtest.At(i))
		l.Tell(meshtest.Sample{Source: meshtest.Source, N: i})
	}
	_, err := h.Read(h.t.Context(), &l)
	check(h.t, err)
	return l.Compare(func(meshtest.Sample, meshtest.Fate) meshtest.Absence { return meshtest.AbsenceLost }, true)
}

// TestHop_ProductToPort_RevisionsComeAgain: a row was changed more often before its
// hub was put back than it is afterwards. Who goes by the highest revision stays
// behind for ever; who goes by when a change was made doesn't.
func TestHop_ProductToPort_RevisionsComeAgain(t *testing.T) {
	for _, byRevision := range []bool{false, true} {
		h := newPortHop(t)
		h.c.byRevision = byRevision
		ctx := t.Context()
		check(t, h.Write(ctx, 1, 3))
		check(t, h.Write(ctx, 4, 3)) // the first three are final
		check(t, h.Settle(ctx))
		for range 3 {
			check(t, h.w.revise(ctx, 1))
		}
		_, err := h.Inflict(ctx, meshtest.WriterPutBack)
		check(t, err)
		check(t, h.w.revise(ctx, 1))
		check(t, h.Settle(ctx))
		if got := h.read(6); got.Reordered > 0 != byRevision || got.Lost+got.Duplicated+got.Phantom > 0 {
			t.Errorf("by revision %v: %s", byRevision, got)
		}
	}
}
