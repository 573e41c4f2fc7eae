// Package hop joins the real rooms of each hop and breaks them with the one suite
// of faults of proto/meshtest:
//
//	agent to hub      buffer, forward ══ NATS ══ ingest, store      hop_test, agent_test
//	hub to product    store's log ══ runner, store's rows           product_test
//	product to port   output log, port/stream ══ NATS ══ a consumer port_test
//
// What only one hop knows has tests of its own beside them.
package hop

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"net"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"plantmesh/cloud/ingest"
	"plantmesh/cloud/store"
	"plantmesh/edge/buffer"
	"plantmesh/edge/forward"
	"plantmesh/proto/mesh"
	"plantmesh/proto/strict"
	"plantmesh/proto/subject"
	"plantmesh/proto/wire"
)

const (
	site, name, source = "graz", "gw-1", "line1-opcua"
	agentLog           = mesh.LogID("agent/graz/gw-1")
)

// hop is everything between a source and a product.
type hop struct {
	t     *testing.T
	dir   string
	port  int
	quiet *slog.Logger

	broker *server.Server
	hub    *hub
	agent  *agent

	enc   *wire.Encoder
	table mesh.Descriptor
	keep  *strict.Duration // how long the agent keeps what was received; nil: as by default
	most  int64            // of the stream; 0: 256 MiB
	gate  sync.RWMutex     // held while the hub's log takes nothing
	pipe  pipe             // between agent and broker
	acks  sync.Mutex       // held while the agent's log lets nothing go
	ahead atomic.Int64     // of the hub's clock, nanoseconds
	next  int64            // the next value to be written
	told  int64            // values below this are durable in the agent's log
}

type hub struct {
	store *store.Store
	in    *ingest.Ingest
	nc    *nats.Conn
	takes takes
	stop  context.CancelFunc
	done  sync.WaitGroup
	// left: another may have been given the log, so it may end with ErrMoved.
	left atomic.Bool
	end  error // how it ended; after done
}

type agent struct {
	buffer  *buffer.Buffer
	link    *forward.NATS
	forward *forward.Forward
	stop    context.CancelFunc
	done    sync.WaitGroup
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func newHop(t *testing.T) *hop {
	t.Helper()
	h := &hop{t: t, dir: t.TempDir(), port: server.RANDOM_PORT, quiet: slog.New(slog.DiscardHandler)}
	var err error
	h.enc, err = wire.NewEncoder()
	check(t, err)
	h.table, err = wire.DescribeSignals([]mesh.Signal{{ID: 1, Name: "line1.filler.produced", Type: mesh.TypeInt}})
	check(t, err)
	h.startBroker()
	h.startHub()
	h.startAgent()
	t.Cleanup(func() {
		h.stopAgent()
		h.stopHub()
		h.stopBroker()
	})
	return h
}

// startBroker starts a server with its files in a folder, on a port of its own
// choice or the one it had.
func startBroker(t *testing.T, dir string, port int) (*server.Server, int) {
	t.Helper()
	s, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: port, JetStream: true, StoreDir: filepath.Join(dir, "js"), SyncAlways: true, NoSigs: true, NoLog: true})
	check(t, err)
	s.Start()
	if !s.ReadyForConnections(20 * time.Second) {
		t.Fatal("the broker does not start")
	}
	addr, ok := s.Addr().(*net.TCPAddr)
	if !ok {
		t.Fatalf("the broker listens on %s", s.Addr())
	}
	return s, addr.Port
}

func (h *hop) startBroker() {
	h.t.Helper()
	h.broker, h.port = startBroker(h.t, h.dir, h.port)
}

func (h *hop) stopBroker() {
	h.broker.Shutdown()
	h.broker.WaitForShutdown()
}

func (h *hop) startHub() {
	h.t.Helper()
	ctx, stop := context.WithCancel(h.t.Context())
	u := &hub{stop: stop}
	var err error
	u.store, err = store.Open(ctx, filepath.Join(h.dir, "hub.db"), h.quiet)
	check(h.t, err)
	u.nc, err = nats.Connect(h.broker.ClientURL(), nats.MaxReconnects(-1), nats.ReconnectWait(20*time.Millisecond))
	check(h.t, err)
	u.in = ingest.New(ingest.Config{
		MaxBytes: cmp.Or(h.most, 256<<20), ReceiptEvery: 50 * time.Millisecond, PurgeEvery: 100 * time.Millisecond,
		RetryFirst: 10 * time.Millisecond, RetryMost: 100 * time.Millisecond,
		Now: func() time.Time { return time.Now().Add(time.Duration(h.ahead.Load())) },
	}, gated{u.store, &h.gate, &u.takes}, h.quiet)
	u.done.Go(func() {
		if u.end = u.in.Run(ctx, u.nc); u.end != nil && (!u.left.Load() || !errors.Is(u.end, mesh.ErrMoved)) {
			h.t.Errorf("ingest ends: %v", u.end)
		}
	})
	h.hub = u
}

// gated is a store that can be made to wait, and whose transactions fail on
// command.
type gated struct {
	*store.Store

	gate  *sync.RWMutex
	takes *takes
}

// Take implements ingest.Store.
func (g gated) Take(ctx context.Context, t mesh.Take) (end mesh.Position, err error) {
	g.gate.RLock()
	defer g.gate.RUnlock()
	return end, g.takes.do(func() error {
		end, err = g.Store.Take(ctx, t)
		return err
	})
}

func (h *hop) stopHub() { h.end(h.hub) }

func (h *hop) end(u *hub) {
	u.stop()
	u.done.Wait()
	u.nc.Close()
	if err := u.store.Close(); err != nil {
		h.t.Error(err)
	}
}

func (h *hop) startAgent() { h.agent = h.agentIn(filepath.Join(h.dir, "agent")) }

// agentIn starts an agent on a folder.
func (h *hop) agentIn(folder string) *agent {
	h.t.Helper()
	ctx, stop := context.WithCancel(h.t.Context())
	a := &agent{stop: stop}
	var err error
	cfg := buffer.Config{Dir: folder, Log: agentLog, Keep: h.keep, MaxBytes: 1 << 30, SegmentBytes: 1 << 20}
	check(h.t, cfg.Validate())
	a.buffer, err = buffer.Open(cfg, h.quiet)
	check(h.t, err)
	a.link, err = forward.Dial(ctx, forward.DialConfig{URL: h.broker.ClientURL(), Site: site, Agent: name}, h.quiet)
	check(h.t, err)
	f := forward.New(forward.Config{Site: site, Agent: name, MaxMessage: 8 << 10, ResendAfter: strict.Duration(500 * time.Millisecond), ResendGap: strict.Duration(50 * time.Millisecond)},
		atRest{a.buffer, &h.acks}, h.pipe.from(a.link), h.judge, time.Now, h.quiet)
	a.done.Go(func() {
		if err := f.Run(ctx); err != nil {
			h.t.Errorf("forward ends: %v", err)
		}
	})
	a.done.Go(func() {
		if err := a.link.Run(ctx, h.pipe.to(f)); err != nil {
			h.t.Errorf("link ends: %v", err)
		}
	})
	a.forward = f
	return a
}

// judge finds something in every batch, so that one stored without its verdict
// shows.
func (h *hop) judge(_ context.Context, r mesh.Record) ([]byte, error) {
	return wire.SealVerdict(source, mesh.Verdict{Of: r.At, Revision: 1, Marks: []mesh.Mark{{Rule: "seen", Action: mesh.ActionAnnotate}}})
}

func (h *hop) stopAgent() { h.endAgent(h.agent) }

func (h *hop) endAgent(a *agent) {
	a.stop()
	a.done.Wait()
	if err := a.link.Close(); err != nil {
		h.t.Error(err)
	}
	if err := a.buffer.Close(); err != nil {
		h.t.Error(err)
	}
}

// write appends batches of numbered samples.
func (h *hop) write(batches, samples int) {
	h.t.Helper()
	for range batches {
		b := mesh.Batch{Source: source, Table: h.table.Hash()}
		for range samples {
			b.Samples = append(b.Samples, mesh.Sample{Signal: 1, Time: mesh.Nanos(h.next * 1e6), Value: mesh.Int(h.next)})
			h.next++
		}
		sealed, err := h.enc.Seal(&b)
		check(h.t, err)
		_, err = h.agent.buffer.Append(h.t.Context(), []mesh.Offer{{Source: source, Sealed: [][]byte{sealed}, Descriptors: []mesh.Descriptor{h.table}}})
		check(h.t, err)
		h.told = h.next
	}
}

// settle waits until the hub has all of the agent's log.
func (h *hop) settle() {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(h.t.Context(), 60*time.Second)
	defer cancel()
	for {
		changed := h.hub.store.Changed()
		end := h.agent.buffer.End() // it may have something to say of its own
		acc, ok, err := h.hub.store.Account(ctx, agentLog)
		check(h.t, err)
		if ok && acc.Set.Through == end && len(acc.Set.Islands) == 0 {
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
			h.t.Fatalf("the hub stays at %+v, the agent's log ends at %s", acc, end)
		}
	}
}

// compare demands every value once.
func (h *hop) compare() {
	h.t.Helper()
	dec, err := wire.NewDecoder()
	check(h.t, err)
	seen := map[int64]int{}
	for after := (mesh.Position{}); ; {
		part, err := h.hub.store.Peek(h.t.Context(), 0, after, 500)
		check(h.t, err)
		if len(part) == 0 {
			break
		}
		for _, e := range part {
			if e.Header.Kind != mesh.KindBatch {
				continue
			}
			if e.Verdict == nil {
				h.t.Errorf("%s is stored without its verdict", e.Of)
			}
			b, err := dec.Batch(e.Sealed)
			check(h.t, err)
			for _, s := range b.Samples {
				v, _ := s.Value.Int()
				seen[v]++
			}
		}
		after = part[len(part)-1].At
	}
	lost, doubled := 0, 0
	for v := range h.told {
		switch n := seen[v]; {
		case n == 0:
			lost++
		case n > 1:
			doubled++
		}
	}
	if lost+doubled > 0 || int64(len(seen)) != h.told {
		h.t.Errorf("of %d values %d are lost, %d doubled, %d are seen", h.told, lost, doubled, len(seen))
	}
}

func (h *hop) deleteStream() {
	h.t.Helper()
	js, err := jetstream.New(h.hub.nc)
	check(h.t, err)
	// It may not be there yet, or the broker may still be coming up.
	if err := js.DeleteStream(h.t.Context(), subject.IngestStream); err != nil {
		h.t.Logf("the stream is not deleted: %v", err)
	}
}
