package store

import (
	"fmt"
	"log/slog"
	"path/filepath"
	"testing"

	"plantmesh/proto/mesh"
	"plantmesh/proto/wire"
)

// hourOf are batches of 10 s that together are an hour of 100 signals at 1 Hz.
func hourOf(b *testing.B, m *maker, from mesh.Nanos) (out []mesh.Entry, values int) {
	b.Helper()
	for at := from; at < from+3600e9; at += 10e9 {
		batch := mesh.Batch{Source: "a", Table: describeMany(b).Hash(), Proven: mesh.Span{From: at, To: at + 10e9}, Complete: at}
		for k := range 1000 {
			t := at + mesh.Nanos(k/100)*1e9 + mesh.Nanos(k%100)*1e6
			x := uint64(t) * 2862933555777941757 >> 54
			batch.Samples = append(batch.Samples, mesh.Sample{Signal: uint32(k % 100), Time: t, Value: mesh.Double(float64(x) / 100)})
		}
		sealed, err := m.enc.Seal(&batch)
		if err != nil {
			b.Fatal(err)
		}
		out = append(out, m.entry(sealed))
		values += len(batch.Samples)
	}
	return out, values
}

func describeMany(b *testing.B) mesh.Descriptor {
	b.Helper()
	var table []mesh.Signal
	for id := range uint32(100) {
		table = append(table, mesh.Signal{ID: id, Name: fmt.Sprintf("s%d", id)})
	}
	d, err := wire.DescribeSignals(table)
	if err != nil {
		b.Fatal(err)
	}
	return d
}

// hourly is a store that is given hours.
type hourly struct {
	s   *Store
	m   *maker
	end mesh.Position
	now mesh.Nanos
}

func newHourly(b *testing.B) *hourly {
	b.Helper()
	s, err := Open(b.Context(), filepath.Join(b.TempDir(), "hub.db"), slog.New(slog.DiscardHandler))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := s.Close(); err != nil {
			b.Error(err)
		}
	})
	o, err := s.OpenLog(b.Context(), 0)
	if err != nil {
		b.Fatal(err)
	}
	h := &hourly{s: s, m: newMaker(b), end: o.End, now: noon}
	h.take(b, h.m.opening())
	return h
}

func (h *hourly) take(b *testing.B, entries ...mesh.Entry) {
	b.Helper()
	var err error
	h.end, err = h.s.Take(b.Context(), mesh.Take{After: h.end, Entries: entries, Accounts: []*mesh.Account{h.m.acc}, Descriptors: []mesh.Descriptor{describeMany(b)}})
	if err != nil {
		b.Fatal(err)
	}
}

// next takes one more hour.
func (h *hourly) next(b *testing.B) (values int) {
	b.Helper()
	entries, values := hourOf(b, h.m, h.now)
	h.now += 3600e9
	h.take(b, entries...)
	return values
}

func (h *hourly) compact(b *testing.B) {
	b.Helper()
	if _, err := h.s.Compact(b.Context(), Pass{Through: h.end, Now: h.now}); err != nil {
		b.Fatal(err)
	}
}

// BenchmarkStore_Compact makes chunks of an hour of 100 signals. `make bench`
// has it beside its floor.
func BenchmarkStore_Compact(b *testing.B) {
	h := newHourly(b)
	b.ReportAllocs()
	values := 0
	for b.Loop() {
		b.StopTimer()
		values += h.next(b)
		b.StartTimer()
		h.compact(b)
	}
	b.ReportMetric(float64(values)/b.Elapsed().Seconds(), "values/s")
}

// BenchmarkStore_Signals reads twelve hours of one signal, from memory.
func BenchmarkStore_Signals(b *testing.B) {
	h := newHourly(b)
	for range 12 {
		h.next(b)
		h.compact(b)
	}
	dec, err := wire.NewDecoder()
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	values := 0
	for b.Loop() {
		entries, err := h.s.Signals(b.Context(), "a", mesh.Span{From: noon, To: h.now}, "s1")
		if err != nil {
			b.Fatal(err)
		}
		for i := range entries {
			if _, err := dec.Columns(entries[i].Sealed, func(c *wire.Column) { values += len(c.Times) }); err != nil {
				b.Fatal(err)
			}
		}
	}
	if values != 12*3600*b.N {
		b.Fatalf("%d values in %d reads", values, b.N)
	}
	b.ReportMetric(float64(values)/b.Elapsed().Seconds(), "values/s")
}
