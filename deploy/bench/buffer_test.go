package bench

import (
	"encoding/json"
	"errors"
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
	"plantmesh/proto/wire"
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
	sealed [][]byte // every record
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
	o := r.seal(t, b)
	r.sealed = append(r.sealed, o.Sealed...)
	if err := r.super.Take(t.Context(), []mesh.Offer{o}); err != nil {
		t.Fatal(err)
	}
}

func (r *rig) steps(t testing.TB, batches []mesh.Batch) {
	t.Helper()
	for i := range batches {
		r.step(t, &batches[i])
	}
}

// frames are the records as they go over the wire.
func (r *rig) frames(t testing.TB) (out [][]byte) {
	t.Helper()
	at := mesh.Position{Log: "agent/graz/gw-1", Epoch: mesh.NewEpoch()}
	for _, s := range r.sealed {
		at.Seq++
		out = append(out, wire.AppendRecord(nil, mesh.Record{At: at, Sealed: s}))
	}
	return out
}

// plain is the floor under a log: a file to which bytes are written one behind
// the other, synced after each, with nothing to find them again by.
type plain struct {
	file *os.File
	at   int64
}

// newPlain makes one; if there, with as many zeros as all commits have, durable.
func newPlain(t testing.TB, dir string, commits [][]byte, there bool) *plain {
	t.Helper()
	f, err := os.CreateTemp(dir, "plain")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(f.Close(), os.Remove(f.Name())); err != nil {
			t.Error(err)
		}
	})
	n := 0
	for _, c := range commits {
		n += len(c)
	}
	if there {
		if _, err := f.WriteAt(make([]byte, n), 0); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Sync(); err != nil {
		t.Fatal(err)
	}
	return &plain{file: f}
}

func (p *plain) append(t testing.TB, commits [][]byte) {
	t.Helper()
	for _, c := range commits {
		if _, err := p.file.WriteAt(c, p.at); err != nil {
			t.Fatal(err)
		}
		p.at += int64(len(c))
		if err := dataSync(p.file); err != nil {
			t.Fatal(err)
		}
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
// smallest size, in which all that a segment repeats weighs most. The floor is
// the records themselves, as they go over the wire.
func TestBench_BufferBytes(t *testing.T) {
	measured(t)
	seconds := 320 // fills one
	if full() {
		seconds = 600
	}
	r := newRig(t, filepath.Join(t.TempDir(), "buffer"), 1000, 1<<20)
	filled, records := 0, 0 // values and records in filled segments
	batches := windows(synthetic(1000, seconds), 1)
	for i := range batches {
		values, sealed, segments := r.values, len(r.sealed), r.buffer.Stats().Segments
		if r.step(t, &batches[i]); r.buffer.Stats().Segments > segments {
			filled, records = values, sealed
		}
	}
	names, err := filepath.Glob(filepath.Join(r.dir, "*.seg"))
	if err != nil || len(names) < 2 {
		t.Fatalf("%d segments, %v", len(names), err)
	}
	slices.Sort(names)
	last, floor := len(names)-1, 0
	for _, f := range r.frames(t)[:records] {
		floor += len(f)
	}
	n := float64(filled)
	report(t, row{name: "buffer_bytes", value: float64(onDisk(t, names[:last]...)) / n, unit: "B/value", bar: 6, floor: float64(floor) / n})
	t.Logf("%d values in %d filled segments; beside them %d KiB in the one that is written, with what is written ahead, %d KiB in the reserve, %d KiB in the catalogue",
		filled, last, onDisk(t, names[last])>>10, onDisk(t, filepath.Join(r.dir, "reserve"))>>10, onDisk(t, filepath.Join(r.dir, "catalogue.jsonl"))>>10)
}

// TestBench_Buffer: values per second, sealed and synced, one source that never
// waits: each window closes by its count of samples. The floor has the bare
// encoder make the same records and appends them to a file that is there, with
// one sync for each. Of each window counts the fastest of three, here and there.
func TestBench_Buffer(t *testing.T) {
	measured(t)
	const signals, perWindow = 1000, 20
	seconds := 200
	if full() {
		seconds = 400
	}
	set := windows(synthetic(signals, seconds), perWindow) // 20,000 samples: the default of max_samples
	e, _ := codec(t)
	took, floor := newLaps(len(set)), newLaps(len(set))
	values := 0
	for range 3 {
		r := newRig(t, filepath.Join(t.TempDir(), "buffer"), signals, 64<<20)
		took.run(func(i int) { r.step(t, &set[i]) })
		frames := r.frames(t)
		p := newPlain(t, t.TempDir(), frames, true)
		floor.run(func(i int) {
			sealed, err := e.Seal(&set[i])
			if err != nil {
				t.Fatal(err)
			}
			p.append(t, [][]byte{wire.AppendRecord(nil, mesh.Record{At: mesh.Position{Log: "agent/graz/gw-1", Seq: uint64(i)}, Sealed: sealed})})
		})
		values = r.values
	}
	per := func(all laps) float64 { return float64(values) / all.sum().Seconds() }
	report(t, row{name: "buffer", value: per(took), unit: "values/s", bar: 500_000, more: true, floor: per(floor), clock: true, known: knownBuffer})
	t.Logf("a window of %d values took %s to seal and commit", perWindow*signals, (took.sum() / time.Duration(len(set))).Round(10*time.Microsecond))
}

// laps are the fastest of several runs, step by step: what else the machine does
// in one of them doesn't count.
type laps []time.Duration

func newLaps(n int) laps { return slices.Repeat(laps{time.Hour}, n) }

func (l laps) run(step func(i int)) {
	for i := range l {
		began := time.Now()
		step(i)
		l[i] = min(l[i], time.Since(began))
	}
}

func (l laps) sum() (all time.Duration) {
	for _, d := range l {
		all += d
	}
	return all
}
