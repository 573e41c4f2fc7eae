package buffer

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"runtime/metrics"
	"slices"
	"strings"
	"testing"

	"plantmesh/proto/mesh"
	"plantmesh/proto/strict"
	"plantmesh/proto/wire"
)

const testLog mesh.LogID = "agent/graz/gw-1"

func testConfig(dir string) Config {
	return Config{Dir: dir, Log: testLog, MaxBytes: 8 << 20, SegmentBytes: 1 << 20, Keep: new(strict.Duration)}
}

// quickDir is a folder that goes with the test, in memory where the machine has
// room for it: there a sync costs nothing. It is for tests of what stands in the
// files, not of what is on the disk.
func quickDir(tb testing.TB) string {
	tb.Helper()
	const memory, enough = "/dev/shm", 1 << 30
	if free, _, err := diskBytes(memory); err != nil || free < enough {
		return tb.TempDir()
	}
	dir, err := os.MkdirTemp(memory, "plantmesh-buffer-") //nolint:usetesting // not in memory
	if err != nil {
		return tb.TempDir()
	}
	tb.Cleanup(func() { check(tb, os.RemoveAll(dir)) })
	return dir
}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

func mustOpen(tb testing.TB, cfg Config) *Buffer {
	tb.Helper()
	b, err := Open(cfg, quiet())
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { mustClose(tb, b) })
	return b
}

func mustClose(tb testing.TB, b *Buffer) {
	tb.Helper()
	if err := b.Close(); err != nil {
		tb.Error(err)
	}
}

// table is the signal table of every test batch.
func table(tb testing.TB) mesh.Descriptor {
	tb.Helper()
	d, err := wire.DescribeSignals([]mesh.Signal{{ID: 1, Name: "line1.filler.speed", Type: mesh.TypeDouble}})
	if err != nil {
		tb.Fatal(err)
	}
	return d
}

// makers keeps what encoders have grown: an encoder for each record made
// gigabytes of garbage. (A sync.Pool forgets much under the race detector.)
var makers = make(chan *maker, 8)

// maker makes records.
type maker struct {
	e       *wire.Encoder
	samples []mesh.Sample
}

// sealed is a batch of n samples that don't compress well, beginning at event time at.
func sealed(tb testing.TB, source string, at mesh.Nanos, n int) []byte {
	tb.Helper()
	m := &maker{}
	select {
	case m = <-makers:
	default:
		var err error
		if m.e, err = wire.NewEncoder(); err != nil {
			tb.Fatal(err)
		}
	}
	defer func() {
		select {
		case makers <- m:
		default:
		}
	}()
	m.samples = slices.Grow(m.samples[:0], n)[:n]
	b := mesh.Batch{Source: source, Table: table(tb).Hash(), Proven: mesh.Span{From: at, To: at + mesh.Nanos(n)}, Complete: at, Samples: m.samples}
	x := uint64(at)*2862933555777941757 + 3037000493
	for i := range b.Samples {
		x = x*6364136223846793005 + 1442695040888963407
		b.Samples[i] = mesh.Sample{Signal: 1, Time: at + mesh.Nanos(i), Value: mesh.Value{Type: mesh.TypeDouble, Bits: x}}
	}
	s, err := m.e.Seal(&b)
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

func offer(tb testing.TB, source string, at mesh.Nanos, n int) mesh.Offer {
	tb.Helper()
	return mesh.Offer{Source: source, Sealed: [][]byte{sealed(tb, source, at, n)}, State: []byte(at.String()), Descriptors: []mesh.Descriptor{table(tb)}}
}

func mustAppend(tb testing.TB, b *Buffer, o ...mesh.Offer) mesh.Position {
	tb.Helper()
	at, err := b.Append(tb.Context(), o)
	if err != nil {
		tb.Fatal(err)
	}
	return at[len(at)-1]
}

// all reads the log from its oldest record.
func all(tb testing.TB, b *Buffer) (out []mesh.Record) {
	tb.Helper()
	var after mesh.Position
	for {
		rs, err := b.Peek(after, 100<<10)
		if err != nil {
			tb.Fatal(err)
		}
		if len(rs) == 0 {
			return out
		}
		out = append(out, rs...)
		after = rs[len(rs)-1].At
	}
}

// positions lists the batches among records.
func positions(tb testing.TB, rs []mesh.Record) map[mesh.Position]bool {
	tb.Helper()
	out := map[mesh.Position]bool{}
	for _, r := range rs {
		h, err := wire.ParseHeader(r.Sealed)
		if err != nil {
			tb.Fatal(err)
		}
		if h.Kind == mesh.KindBatch {
			if out[r.At] {
				tb.Errorf("%s stands twice", r.At)
			}
			out[r.At] = true
		}
	}
	return out
}

func voidsOf(tb testing.TB, rs []mesh.Record) (out []mesh.Void) {
	tb.Helper()
	for _, r := range rs {
		if v, err := wire.OpenVoid(r.Sealed); err == nil {
			out = append(out, v)
		}
	}
	return out
}

// account follows the log as a hub would.
func account(tb testing.TB, rs []mesh.Record) *mesh.Account {
	tb.Helper()
	a := &mesh.Account{Log: testLog}
	for _, r := range rs {
		add(tb, a, r)
	}
	return a
}

func add(tb testing.TB, a *mesh.Account, r mesh.Record) {
	tb.Helper()
	if o, err := wire.OpenOpening(r.Sealed); err == nil {
		if l := a.Judge(r.At.Epoch, o); l != mesh.LineageFollows && l != mesh.LineageBack && l != mesh.LineageKnown {
			tb.Fatalf("opening %s has lineage %d", r.At, l)
		}
		if err := a.Open(r.At.Epoch, o); err != nil {
			tb.Fatal(err)
		}
	}
	if err := a.Add(mesh.Range{Epoch: r.At.Epoch, First: r.At.Seq, Last: r.At.Seq}); err != nil {
		tb.Fatal(err)
	}
	if v, err := wire.OpenVoid(r.Sealed); err == nil {
		for _, l := range v.Lost {
			if err := a.Add(l); err != nil {
				tb.Fatal(err)
			}
		}
	}
}

// allocated is what do takes from the heap, in bytes.
func allocated(do func()) uint64 {
	s := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(s)
	before := s[0].Value.Uint64()
	do()
	metrics.Read(s)
	return s[0].Value.Uint64() - before
}

func segments(tb testing.TB, dir string) []string {
	tb.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "*"+segmentSuffix))
	if err != nil {
		tb.Fatal(err)
	}
	return names
}

func asideCount(tb testing.TB, dir string) (n int) {
	tb.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		tb.Fatal(err)
	}
	for _, e := range entries {
		if strings.Contains(e.Name(), ".bad-") {
			n++
		}
	}
	return n
}

var errBroken = errors.New("input/output error")

// faulty is a disk whose transactions can be told to fail.
type faulty struct {
	disk

	creates, updates int  // how many fail from now on
	happens          bool // a failed update is on the disk all the same
	stuck            bool // files can't be removed
}

func (f *faulty) Open(name string, how mode) (segment, error) {
	if how == modeCreate && f.creates > 0 {
		f.creates--
		return nil, errBroken
	}
	s, err := f.disk.Open(name, how)
	if err != nil {
		return nil, err
	}
	return &faultySegment{s, f}, nil
}

func (f *faulty) Remove(name string) error {
	if f.stuck {
		return errBroken
	}
	return f.disk.Remove(name)
}

type faultySegment struct {
	segment

	f *faulty
}

func (s *faultySegment) Update(fn func(tx) error) (int64, error) {
	if s.f.updates == 0 {
		return s.segment.Update(fn)
	}
	s.f.updates--
	if s.f.happens {
		if _, err := s.segment.Update(fn); err != nil {
			return 0, err
		}
	}
	return 0, errBroken
}

func openFaulty(tb testing.TB, cfg Config) (*Buffer, *faulty) {
	tb.Helper()
	if err := cfg.Validate(); err != nil {
		tb.Fatal(err)
	}
	f := &faulty{disk: folder{dir: cfg.Dir, size: int64(cfg.SegmentBytes)}}
	b, err := open(cfg, f, func() (int64, error) { return 1 << 40, nil }, quiet())
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { mustClose(tb, b) })
	return b, f
}
