package bench

import (
	"context"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"plantmesh/cloud/store"
	"plantmesh/proto/mesh"
	"plantmesh/proto/wire"
)

// hub is a store with what one agent sent it.
type hub struct {
	t       *testing.T
	dir     string
	s       *store.Store
	end     mesh.Position
	acc     *mesh.Account
	at      mesh.Position
	table   mesh.Descriptor
	signals int
	now     mesh.Nanos // the plant's: the end of what was taken
}

func newHub(t *testing.T, signals int) *hub {
	t.Helper()
	h := &hub{t: t, dir: t.TempDir(), signals: signals, at: mesh.Position{Log: "agent/graz/gw-1", Epoch: mesh.NewEpoch()}}
	h.acc = &mesh.Account{Log: h.at.Log}
	if err := h.acc.Open(h.at.Epoch, mesh.Opening{}); err != nil {
		t.Fatal(err)
	}
	table := make([]mesh.Signal, signals)
	for i := range table {
		table[i] = mesh.Signal{ID: uint32(i), Name: signalName(i)}
	}
	var err error
	if h.table, err = wire.DescribeSignals(table); err != nil {
		t.Fatal(err)
	}
	h.open()
	o, err := h.s.OpenLog(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	h.end = o.End
	return h
}

func signalName(i int) string { return fmt.Sprintf("line1.machine%d.value", i) }

func (h *hub) open() {
	h.t.Helper()
	var err error
	if h.s, err = store.Open(h.t.Context(), filepath.Join(h.dir, "hub.db"), slog.New(slog.DiscardHandler)); err != nil {
		h.t.Fatal(err)
	}
}

func (h *hub) close() {
	h.t.Helper()
	if err := h.s.Close(); err != nil {
		h.t.Fatal(err)
	}
}

// take puts batches into the hub's log, some at a time.
func (h *hub) take(e *wire.Encoder, batches []mesh.Batch, some int) (values int) {
	h.t.Helper()
	var entries []mesh.Entry
	for i := range batches {
		b := batches[i]
		b.Table = h.table.Hash()
		sealed, err := e.Seal(&b)
		if err != nil {
			h.t.Fatal(err)
		}
		header, err := wire.ParseHeader(sealed)
		if err != nil {
			h.t.Fatal(err)
		}
		h.at.Seq++
		if err := h.acc.Add(mesh.Range{Epoch: h.at.Epoch, First: h.at.Seq, Last: h.at.Seq}); err != nil {
			h.t.Fatal(err)
		}
		ord, _ := h.acc.Ordinal(h.at)
		entries = append(entries, mesh.Entry{Of: h.at, Ord: ord, Through: h.acc.Through(), Header: header, Sealed: sealed})
		values += len(b.Samples)
		h.now = max(h.now, header.Times.To)
		if len(entries) == some || i == len(batches)-1 {
			h.end, err = h.s.Take(h.t.Context(), mesh.Take{After: h.end, Entries: entries, Accounts: []*mesh.Account{h.acc}, Descriptors: []mesh.Descriptor{h.table}})
			if err != nil {
				h.t.Fatal(err)
			}
			entries = entries[:0]
		}
	}
	return values
}

// compact compacts all there is.
func (h *hub) compact() (samples int) {
	h.t.Helper()
	for more := true; more; {
		done, err := h.s.Compact(h.t.Context(), store.Pass{Through: h.end, Now: h.now})
		if err != nil {
			h.t.Fatal(err)
		}
		samples, more = samples+done.Samples, done.More
	}
	return samples
}

// later moves batches in time, in place.
func later(batches []mesh.Batch, by mesh.Nanos) {
	for i := range batches {
		b := &batches[i]
		b.Proven.From, b.Proven.To, b.Complete = b.Proven.From+by, b.Proven.To+by, b.Complete+by
		for k := range b.Samples {
			b.Samples[k].Time += by
			b.Samples[k].Source += by
		}
	}
}

func (h *hub) bytes() (n int64) {
	h.t.Helper()
	err := filepath.WalkDir(h.dir, func(_ string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			var i fs.FileInfo
			if i, err = d.Info(); err == nil {
				n += i.Size()
			}
		}
		return err
	})
	if err != nil {
		h.t.Fatal(err)
	}
	return n
}

const hour = mesh.Nanos(time.Hour)

func TestBench_History(t *testing.T) {
	signals, hours := 100, 4 // bytes depend on neither
	if full() {
		signals, hours = 1000, 24
	}
	if n, err := strconv.Atoi(os.Getenv("PLANTMESH_BENCH_SIGNALS")); err == nil && full() {
		signals = n
	}
	e, d := codec(t)
	h := newHub(t, signals)
	batches := windows(synthetic(signals, 3600), 10)
	// The set begins at 06:00: one day from midnight on.
	later(batches, -6*hour)
	values, compacted, clock := 0, 0, 0.0
	for k := range hours {
		if k > 0 {
			later(batches, hour)
		}
		values += h.take(e, batches, 60)
		clock += once(func() { compacted += h.compact() })
	}
	if compacted != values {
		t.Fatalf("%d of %d values compacted", compacted, values)
	}
	h.close()
	report(t, row{name: "history_bytes", value: float64(h.bytes()) / float64(values), unit: "B/value", bar: 2.2})
	if !full() {
		t.Log("compact and history_read are clocked by make bench")
	} else {
		report(t, row{name: "compact", value: float64(values) / 1e6 / clock, unit: "M values/s", bar: 5, more: true})
	}
	var took []time.Duration
	day := mesh.NanosOf(time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC))
	span := mesh.Span{From: day, To: day + 24*hour}
	reads := 1
	if full() {
		reads = 15
	}
	for i := range reads {
		forget(t, h.dir)
		h.open()
		began := time.Now()
		n := h.read(t.Context(), d, signalName(i*signals/reads), span)
		took = append(took, time.Since(began))
		h.close()
		if want := hours * 3600; n < want-3 || n > want { // jitter may move the first and the last over midnight
			t.Fatalf("%d values of %d read", n, want)
		}
	}
	if full() {
		report(t, row{name: "history_read", value: float64(median(took).Microseconds()) / 1000, unit: "ms", bar: 20})
	}
}

// read reads one signal's values and counts them.
func (h *hub) read(ctx context.Context, d *wire.Decoder, name string, span mesh.Span) (n int) {
	h.t.Helper()
	entries, err := h.s.Signals(ctx, "line1-opcua", span, name)
	if err != nil {
		h.t.Fatal(err)
	}
	for i := range entries {
		if _, err := d.Columns(entries[i].Sealed, func(c *wire.Column) { n += len(c.Times) }); err != nil {
			h.t.Fatal(err)
		}
	}
	return n
}
