package bench

import (
	"context"
	"hash/crc32"
	"log/slog"
	"path/filepath"
	"runtime"
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
// embedded server that reads the stream and of the collector is in it. The floor
// drains the same stream into a plain file.
func TestBench_HubStore(t *testing.T) {
	measured(t)
	for _, c := range []struct {
		name             string
		seconds, minutes int
		bar, known       float64
	}{{"hub_store_10s", 10, 50, 15, knownStore10}, {"hub_store_1s", 1, 10, 5, knownStore1}} {
		if full() {
			c.minutes = 100
		}
		p := newPipe(t, c.seconds, c.minutes)
		fastest, floor := 0.0, 0.0
		for range 3 {
			fastest = max(fastest, p.rate(t, p.drain))
			floor = max(floor, p.rate(t, p.drainPlain))
		}
		report(t, row{name: c.name, value: fastest, unit: "M values/s", bar: c.bar, more: true, floor: floor, clock: true, known: c.known})
	}
}

// pipe is a stream that batches of 1000 signals lie in, one a message.
type pipe struct {
	nc               *nats.Conn
	messages, values int
}

// newPipe makes one with so many seconds a message.
func newPipe(t *testing.T, seconds, minutes int) *pipe {
	t.Helper()
	srv, err := server.NewServer(&server.Options{ServerName: "bench", DontListen: true, JetStream: true, StoreDir: t.TempDir(), NoSigs: true, NoLog: true})
	if err != nil {
		t.Fatal(err)
	}
	srv.Start()
	if !srv.ReadyForConnections(20 * time.Second) {
		t.Fatal("the server isn't ready")
	}
	t.Cleanup(func() {
		srv.Shutdown()
		srv.WaitForShutdown()
	})
	p := &pipe{}
	if p.nc, err = nats.Connect("", nats.InProcessServer(srv)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.nc.Close)
	p.publish(t, seconds, minutes)
	return p
}

// rate is how many million values a drain takes in a second of processor time.
func (p *pipe) rate(t *testing.T, drain func(t *testing.T) (took time.Duration)) float64 {
	t.Helper()
	runtime.GC()
	return float64(p.values) / 1e6 / drain(t).Seconds()
}

// drain has ingest store all there is.
func (p *pipe) drain(t *testing.T) time.Duration {
	t.Helper()
	s, err := store.Open(t.Context(), filepath.Join(t.TempDir(), "hub.db"), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}()
	in := ingest.New(ingest.Config{PurgeEvery: time.Hour}, s, slog.New(slog.DiscardHandler))
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	began := process()
	go func() { ended <- in.Run(ctx, p.nc) }()
	for news := s.Changed(); in.Stats().Samples < uint64(p.values); news = s.Changed() {
		if in.Stats().Samples >= uint64(p.values) {
			break
		}
		select {
		case <-news:
		case <-time.After(time.Minute):
			t.Fatalf("%d of %d values: %+v", in.Stats().Samples, p.values, in.Stats())
		}
	}
	took := process() - began
	stop()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	return took
}

// drainPlain is the floor: it fetches as ingest does, looks at nothing but a
// checksum over each message, and appends what came to a file that is synced
// once for as many messages as ingest takes in one transaction.
func (p *pipe) drainPlain(t *testing.T) time.Duration {
	t.Helper()
	f := newPlain(t, t.TempDir(), nil, false)
	js, err := jetstream.New(p.nc)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithTimeout(t.Context(), time.Minute)
	defer stop()
	began := process()
	c, err := js.CreateConsumer(ctx, subject.IngestStream, jetstream.ConsumerConfig{AckPolicy: jetstream.AckNonePolicy, MaxDeliver: 1, MemoryStorage: true, InactiveThreshold: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	table := crc32.MakeTable(crc32.Castagnoli)
	var some []byte
	for n := 0; n < p.messages; {
		b, err := c.Fetch(min(256, p.messages-n), jetstream.FetchContext(ctx))
		if err != nil {
			t.Fatal(err)
		}
		some = some[:0]
		for m := range b.Messages() {
			_ = crc32.Checksum(m.Data(), table)
			some = append(some, m.Data()...)
			n++
		}
		if err := b.Error(); err != nil {
			t.Fatalf("%d of %d messages: %v", n, p.messages, err)
		}
		f.append(t, [][]byte{some})
	}
	return process() - began
}

// publish fills the stream.
func (p *pipe) publish(t *testing.T, seconds, minutes int) {
	t.Helper()
	js, err := jetstream.New(p.nc)
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
		p.messages++
	}
	send(wire.AppendRecord(wire.AppendDescriptor(nil, table), mesh.Record{At: at, Sealed: opening}))
	all := cut(synthetic(1000, 600), seconds)
	var samples []mesh.Sample
	for k := range minutes / 10 {
		for i := range all {
			b := all[i].batch(samples, mesh.Nanos(k)*600e9)
			samples = b.Samples
			b.Table = table.Hash()
			sealed, err := e.Seal(&b)
			if err != nil {
				t.Fatal(err)
			}
			at.Seq++
			p.values += len(b.Samples)
			send(wire.AppendRecord(nil, mesh.Record{At: at, Sealed: sealed}))
		}
	}
}
