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

// TestBench_HubStore clocks how a hub takes what waits in its stream: fetched,
// checked, accounted for and synced into the log, a message for each batch as
// on the live road. The time is the whole process's, the embedded NATS server
// and everything that runs beside it included.
func TestBench_HubStore(t *testing.T) {
	if raced {
		t.Skip("not clocked: the race detector is what would be")
	}
	seconds, rounds := 60, 1
	if full() {
		seconds, rounds = 600, 4
	}
	set := synthetic(1000, seconds)
	for _, c := range []struct {
		name    string
		seconds int
		bar     float64
	}{{"hub_store_10s", 10, 15}, {"hub_store_1s", 1, 5}} {
		e, _ := codec(t)
		sealed, values, _ := sealAll(t, e, windows(set, c.seconds))
		rounds := rounds
		if c.seconds == 10 {
			rounds *= 5
		}
		spent := take(t, sealed, rounds)
		report(t, row{name: c.name, value: float64(rounds*values) / 1e6 / spent.Seconds(), unit: "M values/s", bar: c.bar, more: true, clock: true})
	}
}

// take has a hub take these batches, over and over under new positions, and
// says what processor time that took.
func take(t *testing.T, sealed [][]byte, rounds int) time.Duration {
	t.Helper()
	ctx, quiet, dir := t.Context(), slog.New(slog.DiscardHandler), t.TempDir()
	broker, err := server.NewServer(&server.Options{ServerName: "bench", DontListen: true, JetStream: true, StoreDir: filepath.Join(dir, "js"), NoSigs: true, NoLog: true, MaxPayload: wire.MaxFrame})
	if err != nil {
		t.Fatal(err)
	}
	broker.Start()
	defer func() { broker.Shutdown(); broker.WaitForShutdown() }()
	if !broker.ReadyForConnections(20 * time.Second) {
		t.Fatal("the broker does not start")
	}
	nc, err := nats.Connect("", nats.InProcessServer(broker))
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	records := publish(t, nc, sealed, rounds)

	st, err := store.Open(ctx, filepath.Join(dir, "hub.db"), quiet)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := st.Close(); err != nil {
			t.Error(err)
		}
	}()
	in := ingest.New(ingest.Config{}, st, quiet)
	ctx, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	began := process()
	go func() { ended <- in.Run(ctx, nc) }()
	late := time.After(2 * time.Minute)
	for in.Stats().Taken < uint64(records) {
		select {
		case <-late:
			t.Fatalf("%d records, of which are taken: %+v", records, in.Stats())
		case err := <-ended:
			t.Fatal(err)
		case <-time.After(5 * time.Millisecond):
		}
	}
	spent := process() - began
	stop()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	if s := in.Stats(); s.Taken != uint64(records) || s.Damaged+s.Foreign+s.Clashed+s.Twice > 0 {
		t.Errorf("stats %+v", s)
	}
	return spent
}

// publish puts the batches of one agent's log into the stream.
func publish(t *testing.T, nc *nats.Conn, sealed [][]byte, rounds int) (records int) {
	t.Helper()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	_, err = js.CreateStream(t.Context(), jetstream.StreamConfig{
		Name: subject.IngestStream, Subjects: []string{subject.IngestAll}, Storage: jetstream.FileStorage,
		Discard: jetstream.DiscardNew, DenyDelete: true, MaxBytes: 4 << 30,
	})
	if err != nil {
		t.Fatal(err)
	}
	opening, err := wire.SealOpening(mesh.Opening{})
	if err != nil {
		t.Fatal(err)
	}
	at := mesh.Position{Log: "agent/graz/gw-1", Epoch: mesh.NewEpoch(), Seq: 1}
	send := func(b []byte) {
		if _, err := js.PublishAsync(subject.Ingest("graz", "gw-1", subject.Live), b); err != nil {
			t.Fatal(err)
		}
	}
	send(wire.AppendRecord(wire.AppendDescriptor(nil, table()), mesh.Record{At: at, Sealed: opening}))
	for range rounds {
		for _, s := range sealed {
			at.Seq++
			send(wire.AppendRecord(nil, mesh.Record{At: at, Sealed: s}))
		}
	}
	select {
	case <-js.PublishAsyncComplete():
	case <-time.After(time.Minute):
		t.Fatal("the stream does not take the batches")
	}
	return int(at.Seq)
}
