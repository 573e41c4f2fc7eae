package bench

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"plantmesh/edge/buffer"
	"plantmesh/edge/source"
	"plantmesh/proto/mesh"
	"plantmesh/proto/strict"
)

// rig is one source that is stepped: the real sealer, the real supervisor with
// the proof it puts beside each offer, the real buffer. Only the pipe between
// two processes is left out.
type rig struct {
	dir    string
	buffer *buffer.Buffer
	sealer *source.Sealer
	super  *source.Supervisor
	seq    int // of the last OPC UA message
	values int
}

func newRig(t testing.TB, dir string, signals int, segment strict.Size) *rig {
	t.Helper()
	quiet := slog.New(slog.DiscardHandler)
	b, err := buffer.Open(buffer.Config{Dir: dir, Log: "agent/graz/gw-1", MaxBytes: 16 * segment, SegmentBytes: segment}, quiet)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	table := make([]mesh.Signal, signals)
	for i := range table {
		table[i] = mesh.Signal{ID: uint32(i), Name: fmt.Sprintf("line%d.filler.s%04d", i/100, i), Type: mesh.TypeDouble}
	}
	const id = "line1-opcua"
	s, err := source.NewSealer(source.Window{}, id, table)
	if err != nil {
		t.Fatal(err)
	}
	now := func() mesh.Nanos { return mesh.NanosOf(time.Date(2026, 3, 1, 6, 0, 0, 0, time.UTC)) }
	return &rig{dir: dir, buffer: b, sealer: s, super: source.NewSupervisor(source.Config{ID: id}, nil, b, now, quiet)}
}

// seal makes the offer of one window, with as much state beside it as an OPC UA
// reader keeps.
func (r *rig) seal(t testing.TB, b *mesh.Batch) mesh.Offer {
	t.Helper()
	if r.seq == 0 {
		r.sealer.Begin(b.Proven.From)
	}
	for _, m := range b.Samples {
		r.sealer.Add(m)
	}
	r.sealer.Prove(b.Proven.To)
	r.seq += 10
	r.values += len(b.Samples)
	state, err := json.Marshal(map[string]any{
		"subscription": 4711, "incarnation": 51234, "table": "0123456789abcdef", "created": 1000, "fresh": false,
		"seq": r.seq, "keep_alive": time.Second, "proof": r.sealer.Proof(),
	})
	if err != nil {
		t.Fatal(err)
	}
	o, err := r.sealer.Seal(state)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// step seals a window and has it committed.
func (r *rig) step(t testing.TB, b *mesh.Batch) {
	t.Helper()
	if err := r.super.Take(t.Context(), []mesh.Offer{r.seal(t, b)}); err != nil {
		t.Fatal(err)
	}
}

// onDisk are the bytes that files take on disk, by their blocks.
func onDisk(t testing.TB, names ...string) (n int64) {
	t.Helper()
	for _, name := range names {
		info, err := os.Stat(name)
		if err != nil {
			t.Fatal(err)
		}
		n += blocks(info)
	}
	return n
}

func requires(what string) bool { return strings.Contains(os.Getenv("PLANTMESH_REQUIRE"), what) }

// TestBench_BufferBytes: what a value takes on the gateway's disk until the hub
// has it. Counted are the blocks of the segments that are filled, of the
// smallest size, in which all that a segment repeats weighs most.
func TestBench_BufferBytes(t *testing.T) {
	seconds := 320 // fills one
	if full() {
		seconds = 600
	}
	r := newRig(t, filepath.Join(t.TempDir(), "buffer"), 1000, 1<<20)
	filled := 0 // values in filled segments
	batches := windows(synthetic(1000, seconds), 1)
	for i := range batches {
		before, segments := r.values, r.buffer.Stats().Segments
		if r.step(t, &batches[i]); r.buffer.Stats().Segments > segments {
			filled = before
		}
	}
	names, err := filepath.Glob(filepath.Join(r.dir, "*.seg"))
	if err != nil || len(names) < 2 {
		t.Fatalf("%d segments, %v", len(names), err)
	}
	slices.Sort(names)
	last := len(names) - 1
	report(t, row{name: "buffer_bytes", value: float64(onDisk(t, names[:last]...)) / float64(filled), unit: "B/value", bar: 6})
	t.Logf("%d values in %d filled segments; beside them %d KiB in the one that is written, with what is written ahead, %d KiB in the reserve, %d KiB in the catalogue",
		filled, last, onDisk(t, names[last])>>10, onDisk(t, filepath.Join(r.dir, "reserve"))>>10, onDisk(t, filepath.Join(r.dir, "catalogue.jsonl"))>>10)
}

// TestBench_Buffer: values per second, sealed and synced, one source that never
// waits: each window closes by its count of samples.
func TestBench_Buffer(t *testing.T) {
	if !full() {
		t.Skip("skipped: buffer is clocked by make bench")
	}
	const signals, seconds, perWindow = 1000, 400, 20
	set := windows(synthetic(signals, seconds), perWindow) // 20,000 samples: the default of max_samples
	fastest, took := 0.0, time.Duration(0)
	for range 3 {
		r := newRig(t, filepath.Join(t.TempDir(), "buffer"), signals, 64<<20)
		began := time.Now()
		for i := range set {
			r.step(t, &set[i])
		}
		if rate := float64(r.values) / time.Since(began).Seconds(); rate > fastest {
			fastest, took = rate, time.Since(began)/time.Duration(len(set))
		}
	}
	report(t, row{name: "buffer", value: fastest, unit: "values/s", bar: 500_000, more: true})
	t.Logf("a window of %d values took %s to seal and commit", perWindow*signals, took.Round(10*time.Microsecond))
}
