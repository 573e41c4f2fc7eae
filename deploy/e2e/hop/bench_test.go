package hop

import (
	"log/slog"
	"path/filepath"
	"testing"

	"plantmesh/cloud/ingest"
	"plantmesh/cloud/store"
	"plantmesh/proto/mesh"
	"plantmesh/proto/subject"
	"plantmesh/proto/wire"
)

// BenchmarkHop_IngestToDisk takes ten messages of two batches of 100 values in
// one synced transaction, as ingest does under load.
func BenchmarkHop_IngestToDisk(b *testing.B) {
	const messages, batches, values = 10, 2, 100
	quiet := slog.New(slog.DiscardHandler)
	s, err := store.Open(b.Context(), filepath.Join(b.TempDir(), "hub.db"), quiet)
	if err != nil {
		b.Fatal(err)
	}
	defer func() {
		if err := s.Close(); err != nil {
			b.Error(err)
		}
	}()
	enc, err := wire.NewEncoder()
	if err != nil {
		b.Fatal(err)
	}
	table, err := wire.DescribeSignals([]mesh.Signal{{ID: 1, Name: "line1.filler.speed", Type: mesh.TypeDouble}})
	if err != nil {
		b.Fatal(err)
	}
	opening, err := wire.SealOpening(mesh.Opening{})
	if err != nil {
		b.Fatal(err)
	}
	at := mesh.Position{Log: agentLog, Epoch: mesh.NewEpoch(), Seq: 1}
	data := wire.AppendRecord(wire.AppendDescriptor(nil, table), mesh.Record{At: at, Sealed: opening})
	in := ingest.New(ingest.Config{}, s, quiet)
	batch := mesh.Batch{Source: source, Table: table.Hash()}
	for i := range values {
		batch.Samples = append(batch.Samples, mesh.Sample{Signal: 1, Time: mesh.Nanos(i) * 1e8, Value: mesh.Double(float64(i%17) / 10)})
	}
	sealed, err := enc.Seal(&batch)
	if err != nil {
		b.Fatal(err)
	}
	place := mesh.Place{Stream: "bench"}
	for b.Loop() {
		msgs := make([]ingest.Message, 0, messages)
		for range messages {
			for range batches {
				at.Seq++
				data = wire.AppendRecord(data, mesh.Record{At: at, Sealed: sealed})
			}
			place.Seq++
			msgs = append(msgs, ingest.Message{Subject: subject.Ingest(site, name, subject.Live), Place: place, Data: data})
			data = nil
		}
		if _, err := in.Step(b.Context(), msgs); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(messages*batches*values*b.N)/b.Elapsed().Seconds(), "values/s")
	if in.Stats().NoOpening+in.Stats().NoDescriptor+in.Stats().Damaged > 0 {
		b.Fatalf("stats %+v", in.Stats())
	}
}
