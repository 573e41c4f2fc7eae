package ingest

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"plantmesh/proto/mesh"
	"plantmesh/proto/meshtest"
	"plantmesh/proto/subject"
	"plantmesh/proto/wire"
)

func startServer(t *testing.T, dir string) *server.Server {
	t.Helper()
	s, err := server.NewServer(&server.Options{ServerName: "test", DontListen: true, JetStream: true, StoreDir: dir, SyncAlways: true, NoSigs: true, NoLog: true})
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	if !s.ReadyForConnections(20 * time.Second) {
		t.Fatal("the server isn't ready")
	}
	t.Cleanup(func() {
		s.Shutdown()
		s.WaitForShutdown()
	})
	return s
}

func connect(t *testing.T, s *server.Server) *nats.Conn {
	t.Helper()
	nc, err := nats.Connect("", nats.InProcessServer(s), nats.MaxReconnects(-1))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	return nc
}

func quick() Config {
	return Config{MaxBytes: 64 << 20, ReceiptEvery: 20 * time.Millisecond, PurgeEvery: 20 * time.Millisecond, AssertEvery: 20 * time.Millisecond, RetryFirst: 5 * time.Millisecond, RetryMost: 50 * time.Millisecond}
}

// hub runs an ingest until the test stops it.
type hub struct {
	t    *testing.T
	g    *Ingest
	stop context.CancelFunc
	done chan error
}

func runHub(t *testing.T, s Store, nc *nats.Conn) *hub {
	t.Helper()
	return runHubWith(t, s, nc, quick(), slog.New(slog.DiscardHandler))
}

func runHubWith(t *testing.T, s Store, nc *nats.Conn, cfg Config, log *slog.Logger) *hub {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	h := &hub{t: t, g: New(cfg, s, log), stop: stop, done: make(chan error, 1)}
	go func() { h.done <- h.g.Run(ctx, nc) }()
	t.Cleanup(stop)
	return h
}

func (h *hub) end() {
	h.t.Helper()
	h.stop()
	if err := <-h.done; err != nil {
		h.t.Fatal(err)
	}
}

// field is an agent that publishes, and hears receipts.
type field struct {
	*agent

	nc   *nats.Conn
	js   jetstream.JetStream
	sub  *nats.Subscription
	last mesh.Receipt
}

func newField(t *testing.T, s *server.Server, name string) *field {
	t.Helper()
	f := &field{agent: newAgent(t, name), nc: connect(t, s)}
	var err error
	if f.js, err = jetstream.New(f.nc); err != nil {
		t.Fatal(err)
	}
	if f.sub, err = f.nc.SubscribeSync(subject.Receipt("graz", name)); err != nil {
		t.Fatal(err)
	}
	if err := f.nc.Flush(); err != nil {
		t.Fatal(err)
	}
	return f
}

// patience is how long a wait may last where many tests share few cores.
const patience = 2 * time.Minute

// publish publishes until the stream is there to take it.
func (f *field) publish(road subject.Road, data []byte) {
	f.t.Helper()
	site, name, _ := subject.ParseAgentLog(string(f.log))
	ctx, cancel := context.WithTimeout(f.t.Context(), patience)
	defer cancel()
	for {
		_, err := f.js.Publish(ctx, subject.Ingest(site, name, road), data, jetstream.WithRetryAttempts(0))
		if err == nil {
			return
		}
		// A machine under load may take long to answer; a repeat is harmless.
		if ctx.Err() != nil || !errors.Is(err, jetstream.ErrNoStreamResponse) && !errors.Is(err, context.DeadlineExceeded) {
			f.t.Fatalf("%v; the last receipt is %+v", err, f.last)
		}
	}
}

// await waits for a receipt that satisfies ok.
func (f *field) await(ok func(mesh.Receipt) bool) {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(f.t.Context(), patience)
	defer cancel()
	for {
		m, err := f.sub.NextMsgWithContext(ctx)
		if err != nil {
			f.t.Fatalf("%v; the last receipt is %+v", err, f.last)
		}
		if f.last, err = wire.DecodeReceipt(m.Data); err != nil {
			f.t.Fatal(err)
		}
		if ok(f.last) {
			return
		}
	}
}

func (f *field) awaitAll() {
	f.t.Helper()
	f.await(func(r mesh.Receipt) bool { return r.Have.Through == f.at && len(r.Have.Islands) == 0 })
}

func TestIngest_OverJetStream(t *testing.T) {
	srv, st := startServer(t, t.TempDir()), newMemory()
	h := runHub(t, st, connect(t, srv))
	f := newField(t, srv, "gw-1")
	f.publish(subject.Live, append(wire.AppendDescriptor(nil, f.table), frames(f.open())...))
	for i := range 30 {
		road := subject.Live
		if i%3 == 0 {
			road = subject.Backlog
		}
		f.publish(road, frames(f.batch(i), f.batch(1)))
		if i == 10 {
			f.publish(subject.Live, []byte("poison"))
		}
	}
	f.awaitAll()
	if h.g.Stats().Damaged != 1 {
		t.Errorf("stats %+v", h.g.Stats())
	}

	// An agent that resumes, and one that nobody knows.
	for name, want := range map[string]mesh.Position{"gw-1": f.at, "gw-9": {}} {
		inbox := subject.Inbox(name) + ".x"
		sub, err := f.nc.SubscribeSync(inbox)
		if err != nil {
			t.Fatal(err)
		}
		if err := f.nc.PublishRequest(subject.Resume("graz", name), inbox, nil); err != nil {
			t.Fatal(err)
		}
		m, err := sub.NextMsg(5 * time.Second)
		if err != nil {
			t.Fatal(err)
		}
		if rec, err := wire.DecodeReceipt(m.Data); err != nil || rec.Have.Through != want || rec.Place.Stream == "" {
			t.Errorf("%s resumes with %+v, %v", name, rec, err)
		}
	}

	// What is stored is purged, but for the last of each subject.
	stream, err := f.js.Stream(t.Context(), subject.IngestStream)
	if err != nil {
		t.Fatal(err)
	}
	for {
		info, err := stream.Info(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if info.State.Msgs == 2 {
			break
		}
		f.await(func(mesh.Receipt) bool { return true }) // a tick of the hub
	}

	// A restart of the hub goes on where it was, and says what went before.
	was := f.last.By.Epoch
	h.end()
	f.publish(subject.Live, frames(f.batch(1)))
	before := h.g.Stats().Messages
	h = runHub(t, st, connect(t, srv))
	f.awaitAll()
	if !slices.Contains(f.last.Before, was) || slices.Contains(f.last.Before, f.last.By.Epoch) {
		t.Errorf("behind %s the receipt says %v went before %s", was, f.last.Before, f.last.By)
	}
	if s := h.g.Stats(); s.Messages != 1 || before != 32 {
		t.Errorf("after the restart %+v", s)
	}

	// The stream is deleted and made anew: it counts from 1, the set decides.
	if err := f.js.DeleteStream(t.Context(), subject.IngestStream); err != nil {
		t.Fatal(err)
	}
	f.publish(subject.Live, frames(f.records[len(f.records)-1], f.batch(2)))
	f.awaitAll()
	h.end()
	r := &rig{t: t, store: st}
	r.want(f.records...)
}

func TestIngest_RunEndsWhenMoved(t *testing.T) {
	srv, st := startServer(t, t.TempDir()), newMemory()
	h := runHub(t, st, connect(t, srv))
	f := newField(t, srv, "gw-1")
	f.publish(subject.Live, frames(f.open()))
	f.awaitAll()
	if err := newIngest(st).Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	f.publish(subject.Live, frames(f.void()))
	if err := <-h.done; !errors.Is(err, mesh.ErrMoved) {
		t.Fatalf("ended with %v", err)
	}
}

func TestIngest_StoreComesBack(t *testing.T) {
	srv := startServer(t, t.TempDir())
	s := &flaky{Store: newMemory()}
	h := runHub(t, s, connect(t, srv))
	f := newField(t, srv, "gw-1")
	f.publish(subject.Live, append(wire.AppendDescriptor(nil, f.table), frames(f.open())...))
	// A step takes what is there, so how many steps a number of messages needs
	// is up to the machine.
	until(t, "the store was opened again twice", func() bool {
		f.publish(subject.Live, frames(f.batch(1)))
		return h.g.Stats().Reopened >= 2
	})
	f.awaitAll()
	h.end()
	r := &rig{t: t, store: s.Store.(*memory)} //nolint:forcetypeassert // it was made so above
	r.want(f.records...)
}

// flaky fails every third Take: alternately before and after it happened.
type flaky struct {
	Store

	n int
}

func (s *flaky) Take(ctx context.Context, t mesh.Take) (mesh.Position, error) {
	s.n++
	if s.n%6 == 3 {
		return mesh.Position{}, errShaky
	}
	end, err := s.Store.Take(ctx, t)
	if s.n%6 == 0 && err == nil {
		return mesh.Position{}, errShaky
	}
	return end, err
}

func TestIngest_ServerRestarts(t *testing.T) {
	dir, st := t.TempDir(), newMemory()
	port := freePort(t)
	boot := func() *server.Server {
		s, err := server.NewServer(&server.Options{ServerName: "test", Host: "127.0.0.1", Port: port, JetStream: true, StoreDir: filepath.Join(dir, "js"), SyncAlways: true, NoSigs: true, NoLog: true})
		if err != nil {
			t.Fatal(err)
		}
		s.Start()
		if !s.ReadyForConnections(20 * time.Second) {
			t.Fatal("the server isn't ready")
		}
		return s
	}
	srv := boot()
	nc, err := nats.Connect(srv.ClientURL(), nats.MaxReconnects(-1), nats.ReconnectWait(10*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	h := runHub(t, st, nc)
	f := newField(t, srv, "gw-1")
	f.publish(subject.Live, append(wire.AppendDescriptor(nil, f.table), frames(f.open(), f.batch(1))...))
	f.awaitAll()
	srv.Shutdown()
	srv.WaitForShutdown()
	srv = boot()
	defer srv.WaitForShutdown()
	defer srv.Shutdown()
	g := newField(t, srv, "gw-1")
	g.agent = f.agent
	g.publish(subject.Live, frames(f.batch(1), f.batch(2)))
	g.awaitAll()
	h.end()
}

func freePort(t *testing.T) int {
	t.Helper()
	return meshtest.VacantPort(t)
}

// TestIngest_PurgesOnlyWhatIsStored: a message leaves the stream behind the
// place and never before, and the last one of a subject never.
func TestIngest_PurgesOnlyWhatIsStored(t *testing.T) {
	srv := startServer(t, t.TempDir())
	nc := connect(t, srv)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	stream, err := New(quick(), newMemory(), slog.New(slog.DiscardHandler)).stream(t.Context(), js)
	if err != nil {
		t.Fatal(err)
	}
	live, backlog := subject.Ingest("graz", "gw-1", subject.Live), subject.Ingest("graz", "gw-1", subject.Backlog)
	for _, s := range []string{live, live, backlog, live, live, backlog, live} {
		if _, err := js.Publish(t.Context(), s, []byte("record")); err != nil {
			t.Fatal(err)
		}
	}
	id := identity(stream.CachedInfo())
	for _, step := range []struct {
		place mesh.Place
		left  []uint64
	}{
		{mesh.Place{}, []uint64{1, 2, 3, 4, 5, 6, 7}},                            // nothing is stored: the store is blocked
		{mesh.Place{Stream: "another@1", Seq: 7}, []uint64{1, 2, 3, 4, 5, 6, 7}}, // stored of a stream before this one
		{mesh.Place{Stream: id, Seq: 3}, []uint64{4, 5, 6, 7}},                   // behind the place
		{mesh.Place{Stream: id, Seq: 7}, []uint64{6, 7}},                         // all of it, but for the last of each subject
		{mesh.Place{Stream: id, Seq: 7}, []uint64{6, 7}},                         // and again
	} {
		st := newMemory()
		st.place = step.place
		r := &reading{g: New(quick(), st, slog.New(slog.DiscardHandler)), nc: nc, stream: stream, identity: id}
		if err := r.purge(t.Context()); err != nil {
			t.Fatal(err)
		}
		var left []uint64
		for seq := uint64(1); seq <= 7; seq++ {
			_, err := stream.GetMsg(t.Context(), seq)
			if err != nil && !errors.Is(err, jetstream.ErrMsgNotFound) {
				t.Fatal(err)
			}
			if err == nil {
				left = append(left, seq)
			}
		}
		if !slices.Equal(left, step.left) {
			t.Errorf("with the place at %+v messages %v are left, want %v", step.place, left, step.left)
		}
	}
}
