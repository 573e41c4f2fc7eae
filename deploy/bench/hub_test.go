package bench

import (
	"context"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"plantmesh/cloud/ingest"
	"plantmesh/cloud/store"
	"plantmesh/proto/mesh"
	"plantmesh/proto/subject"
	"plantmesh/proto/wire"
)

// TestBench_HubStore drains a stream into the hub's log: fetch, checksums,
// accounts, T1. The processor time is the whole process's, so that of the
// embedded server that reads the stream and of the collector is in it.
func TestBench_HubStore(t *testing.T) {
	if !full() {
		t.Skip("hub_store is clocked by make bench")
	}
	for _, c := range []struct {
		name    string
		seconds int
		bar     float64
	}{{"hub_store_10s", 10, 15}, {"hub_store_1s", 1, 5}} {
		fastest := 0.0
		for range 3 {
			fastest = max(fastest, drain(t, c.seconds))
		}
		report(t, row{name: c.name, value: fastest, unit: "M values/s", bar: c.bar, more: true})
	}
}

// drain fills a stream with batches of 1000 signals, one a message, and says
// how many million values ingest stores in a second of processor time.
func drain(t *testing.T, seconds int) float64 {
	t.Helper()
	srv, err := server.NewServer(&server.Options{ServerName: "bench", DontListen: true, JetStream: true, StoreDir: t.TempDir(), NoSigs: true, NoLog: true})
	if err != nil {
		t.Fatal(err)
	}
	srv.Start()
	if !srv.ReadyForConnections(20 * time.Second) {
		t.Fatal("the server isn't ready")
	}
	defer func() {
		srv.Shutdown()
		srv.WaitForShutdown()
	}()
	nc, err := nats.Connect("", nats.InProcessServer(srv))
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	values := publish(t, nc, seconds)
	s, err := store.Open(t.Context(), filepath.Join(t.TempDir(), "hub.db"), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}()
	in := ingest.New(ingest.Config{}, s, slog.New(slog.DiscardHandler))
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	began := process()
	go func() { ended <- in.Run(ctx, nc) }()
	for news := s.Changed(); in.Stats().Samples < uint64(values); news = s.Changed() {
		if in.Stats().Samples >= uint64(values) {
			break
		}
		select {
		case <-news:
		case <-time.After(time.Minute):
			t.Fatalf("%d of %d values: %+v", in.Stats().Samples, values, in.Stats())
		}
	}
	took := process() - began
	stop()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	return float64(values) / 1e6 / took.Seconds()
}

// publish puts 6 million values into the ingest stream.
func publish(t *testing.T, nc *nats.Conn, seconds int) (values int) {
	t.Helper()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	_, err = js.CreateStream(t.Context(), jetstream.StreamConfig{
		Name: subject.IngestStream, Subjects: []string{subject.IngestAll}, Storage: jetstream.FileStorage,
		Retention: jetstream.LimitsPolicy, Discard: jetstream.DiscardNew, DenyDelete: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	e, _ := codec(t)
	opening, err := wire.SealOpening(mesh.Opening{})
	if err != nil {
		t.Fatal(err)
	}
	table, err := wire.DescribeSignals([]mesh.Signal{{ID: 1, Name: "line1.filler.speed"}})
	if err != nil {
		t.Fatal(err)
	}
	at := mesh.Position{Log: mesh.LogID(subject.AgentLog("graz", "gw-1")), Epoch: mesh.NewEpoch(), Seq: 1}
	on := subject.Ingest("graz", "gw-1", subject.Live)
	send := func(data []byte) {
		if _, err := js.Publish(t.Context(), on, data); err != nil {
			t.Fatal(err)
		}
	}
	send(wire.AppendRecord(wire.AppendDescriptor(nil, table), mesh.Record{At: at, Sealed: opening}))
	batches := windows(synthetic(1000, 600), seconds)
	for range 10 {
		for i := range batches {
			batches[i].Table = table.Hash()
			sealed, err := e.Seal(&batches[i])
			if err != nil {
				t.Fatal(err)
			}
			at.Seq++
			values += len(batches[i].Samples)
			send(wire.AppendRecord(nil, mesh.Record{At: at, Sealed: sealed}))
		}
		later(batches, 600e9)
	}
	return values
}
