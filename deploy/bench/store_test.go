package bench

import (
	"context"
	"fmt"
	"io/fs"
	"log/slog"
	"path/filepath"
	"testing"

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
	samples []mesh.Sample
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

// take puts windows into the hub's log, later by some time, some at a time.
func (h *hub) take(e *wire.Encoder, all []window, by mesh.Nanos, some int) (values int) {
	h.t.Helper()
	var entries []mesh.Entry
	for i := range all {
		b := all[i].batch(h.samples, by)
		h.samples = b.Samples
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
		if len(entries) == some || i == len(all)-1 {
			h.end, err = h.s.Take(h.t.Context(), mesh.Take{After: h.end, Entries: entries, Accounts: []*mesh.Account{h.acc}, Descriptors: []mesh.Descriptor{h.table}})
			if err != nil {
				h.t.Fatal(err)
			}
			entries = entries[:0]
		}
	}
	return values
}

// compact compacts all there is, in passes of at least so many samples; 0: as the
// hub does.
func (h *hub) compact(most int) (samples int) {
	h.t.Helper()
	for more := true; more; {
		done, err := h.s.Compact(h.t.Context(), store.Pass{Through: h.end, Now: h.now, MaxSamples: most})
		if err != nil {
			h.t.Fatal(err)
		}
		samples, more = samples+done.Samples, done.More
	}
	return samples
}

// over goes on to the next day, and merges those before if they need it.
func (h *hub) over() (samples int64) {
	h.t.Helper()
	h.now += 24 * hour
	for more := true; more; {
		done, err := h.s.Merge(h.t.Context(), h.now)
		if err != nil {
			h.t.Fatal(err)
		}
		samples, more = samples+done.Samples, done.More
	}
	return samples
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

// parts are the chunks that may hold a signal.
func (h *hub) parts(ctx context.Context, name string, span mesh.Span) (out [][]byte) {
	h.t.Helper()
	entries, err := h.s.Signals(ctx, "line1-opcua", span, name)
	if err != nil {
		h.t.Fatal(err)
	}
	for i := range entries {
		out = append(out, entries[i].Sealed)
	}
	return out
}
