package store

import (
	"bytes"
	"cmp"
	"context"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"maps"
	"math"
	"slices"
	"strings"
	"testing"

	"plantmesh/proto/mesh"
	"plantmesh/proto/wire"
)

// fuzzed are sealed bytes and verdicts as an agent and the rules make them.
type fuzzed struct{ sealed, verdict []byte }

func fuzzedSeeds(f *testing.F) (out []fuzzed) {
	f.Helper()
	enc, _ := codec(f)
	table := describe(f, 0).Hash()
	values := []mesh.Value{mesh.Double(1.5), mesh.Double(math.NaN()), mesh.Int(-7), mesh.Uint(9), mesh.Bool(true), mesh.Text("a text"), mesh.Text(""), {}}
	for _, n := range []int{0, 1, 3, 40, 520} {
		b := mesh.Batch{Source: "a", Table: table, Proven: mesh.Span{From: noon, To: noon + 1e9}, Complete: noon}
		v := mesh.Verdict{Revision: 3, Rules: mesh.Hash{9}}
		for i := range n {
			s := mesh.Sample{Signal: uint32(i % 5), Time: noon + mesh.Nanos(i%90)*3600e9, Value: values[(i%5+i/100)%len(values)]}
			switch i % 7 {
			case 1:
				s.Source, s.Server, s.Agent = s.Time, s.Time+5, s.Time+9
			case 2:
				s.Seq, s.Status, s.Flags = uint64(i), mesh.StatusBad, mesh.FlagSuspect
			case 3:
				s.Time = math.MaxInt64 - mesh.Nanos(i)
			}
			b.Samples = append(b.Samples, s)
			if n > 500 { // a signal that doesn't share its chunk
				s.Signal, s.Time = 0, noon+mesh.Nanos(i)*1e9
			}
			if i%9 == 0 {
				v.Marks = append(v.Marks, mesh.Mark{Index: uint32(i), Rule: []string{"r0", "r1"}[i%2], Action: mesh.ActionQuarantine})
			}
		}
		sealed, err := enc.Seal(&b)
		if err != nil {
			f.Fatal(err)
		}
		verdict, err := wire.SealVerdict("a", v)
		if err != nil {
			f.Fatal(err)
		}
		out = append(out, fuzzed{sealed, nil}, fuzzed{sealed, verdict})
	}
	return out
}

// summed puts a right checksum in place of the last bytes, to let the fuzzer
// past it; nil stays nil.
func summed(b []byte) []byte {
	if n := len(b) - 4; n >= 0 {
		b = bytes.Clone(b)
		binary.LittleEndian.PutUint32(b[n:], crc32.Checksum(b[:n], crc32.MakeTable(crc32.Castagnoli)))
	}
	return b
}

// batchMemory bounds what reading any sealed bytes may take from the heap: see
// the fuzz tests of proto/wire.
const batchMemory = 2 * (wire.MaxRaw + wire.MaxSamples*(96+8*8))

func codec(f *testing.F) (*wire.Encoder, *wire.Decoder) {
	f.Helper()
	enc, err := wire.NewEncoder()
	if err != nil {
		f.Fatal(err)
	}
	dec, err := wire.NewDecoder()
	if err != nil {
		f.Fatal(err)
	}
	return enc, dec
}

// memoryFile is a day's file in memory.
func memoryFile(t testing.TB) *sql.DB {
	t.Helper()
	db, err := sql.Open("sqlite", ":memory:")
	if err != nil {
		t.Fatal(err)
	}
	db.SetMaxOpenConns(1)
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	if _, err := db.ExecContext(context.Background(), daySchema); err != nil {
		t.Fatal(err)
	}
	return db
}

func empty(t *testing.T, db *sql.DB) {
	t.Helper()
	if _, err := db.ExecContext(t.Context(), `DELETE FROM chunk; DELETE FROM kind`); err != nil {
		t.Fatal(err)
	}
}

// thing is a sample and what is said about it.
type thing struct {
	kind

	signal     uint32
	times      [4]mesh.Nanos
	seq, bits  uint64
	status     mesh.Status
	flags      uint32
	typ        mesh.Type
	text, said string
}

// held counts them.
type held map[thing]int

func (h held) add(k kind, s mesh.Sample, said []finding) {
	x := thing{kind: k, signal: s.Signal, times: [4]mesh.Nanos{s.Time, s.Source, s.Server, s.Agent}, seq: s.Seq, bits: s.Value.Bits, status: s.Status, flags: s.Flags, typ: s.Value.Type, text: string(s.Value.Bytes)}
	if len(said) > 0 {
		x.said = fmt.Sprint(slices.SortedFunc(slices.Values(said), func(a, b finding) int { return cmp.Or(cmp.Compare(a.rule, b.rule), cmp.Compare(a.action, b.action)) }))
	}
	h[x]++
}

// batch adds those of sealed bytes.
func (h held) batch(t *testing.T, dec *wire.Decoder, sealed, verdict []byte) {
	t.Helper()
	b, err := dec.Batch(sealed)
	if err != nil {
		t.Fatalf("a batch was taken that can't be read: %v", err)
	}
	k := kind{source: b.Source, table: b.Table}
	said := map[uint32][]finding{}
	if verdict != nil {
		v, err := wire.OpenVerdict(verdict)
		if err != nil {
			t.Fatalf("a verdict was taken that can't be read: %v", err)
		}
		k.judged, k.revision, k.rules = true, v.Revision, v.Rules
		for _, m := range v.Marks {
			said[m.Index] = append(said[m.Index], finding{m.Rule, m.Action})
		}
	}
	for i, s := range b.Samples {
		h.add(k, s, said[uint32(i)])
	}
}

// piled are those on the piles of a pass.
func (g *gather) piled() held {
	out := held{}
	for _, k := range g.kinds {
		for _, p := range k.piles {
			for i := range p.times {
				var said []finding
				for _, m := range p.marksAt(i) {
					said = append(said, finding{m.rule, m.action})
				}
				out.add(k.kind, p.sample(i), said)
			}
		}
	}
	return out
}

// FuzzChunk gives a pass of the compactor any batch, with any verdict: it is
// taken whole or leaves nothing, and what was taken is written as chunks, read
// back and the same. What a source says can't fail a pass.
func FuzzChunk(f *testing.F) {
	seeds := fuzzedSeeds(f)
	for _, s := range seeds {
		f.Add(s.sealed, s.verdict)
	}
	first, db := seeds[5], memoryFile(f)
	enc, dec := codec(f)
	f.Fuzz(func(t *testing.T, sealed, verdict []byte) {
		if sealed, verdict = summed(sealed), summed(verdict); len(verdict) == 0 {
			verdict = nil
		}
		g := &gather{dec: dec, at: map[kind]int{}}
		if !g.take(&batchRow{}, first.sealed, first.verdict) {
			t.Fatal("a good batch isn't taken")
		}
		want, samples := g.piled(), g.samples
		var ok bool
		if n := allocated(func() { ok = g.take(&batchRow{}, sealed, verdict) }); n > 2*batchMemory {
			t.Errorf("%d bytes of memory taken for a batch of %d", n, len(sealed))
		}
		if ok {
			h, err := wire.ParseHeader(sealed)
			if err != nil {
				t.Fatal(err)
			}
			if samples += int(h.Count); h.Count > 0 {
				want.batch(t, g.dec, sealed, verdict)
			}
		}
		if got := g.piled(); !maps.Equal(got, want) || g.samples != samples {
			t.Fatalf("%d sorts of samples on the piles, want %d; taken %v", len(got), len(want), ok)
		}
		roundTrip(t, g, enc, db)
	})
}

// roundTrip writes the piles as chunks and reads them back.
func roundTrip(t *testing.T, g *gather, enc *wire.Encoder, db *sql.DB) {
	t.Helper()
	want := g.piled()
	w := &work{Pass: Pass{Now: noon}, gather: g}
	back, got := map[*pile]*found{}, held{}
	for rest := w.pieces(); len(rest) > 0; {
		n := slices.IndexFunc(rest, func(p piece) bool { return p.day != rest[0].day })
		if n < 0 {
			n = len(rest)
		}
		empty(t, db)
		cw := &chunkWriter{work: w, enc: enc, day: rest[0].day}
		if err := within(t.Context(), db, func(tx *sql.Tx) error { return cw.write(t.Context(), tx, rest[:n]) }); err != nil {
			t.Fatalf("chunks can't be written of what was taken: %v", err)
		}
		rest = rest[n:]
		for _, k := range w.kinds {
			entries, err := chunksIn(t.Context(), db, k.kind)
			if err != nil {
				t.Fatalf("a chunk can't be read: %v", err)
			}
			for _, e := range entries {
				var marks []byte
				if e.Verdict != nil && len(e.Verdict.Marks) > 0 {
					if marks, err = wire.SealVerdict(k.source, *e.Verdict); err != nil {
						t.Fatal(err)
					}
				}
				if _, err := w.count(&k.kind, e.Sealed, marks, k.of(back)); err != nil {
					t.Fatalf("a chunk isn't what was written: %v", err)
				}
				verdict := marks
				if k.judged && marks == nil {
					if verdict, err = wire.SealVerdict(k.source, mesh.Verdict{Revision: k.revision, Rules: k.rules}); err != nil {
						t.Fatal(err)
					}
				}
				got.batch(t, w.dec, e.Sealed, verdict)
			}
		}
	}
	if !maps.Equal(got, want) {
		t.Fatalf("%d sorts of samples in chunks, want %d", len(got), len(want))
	}
	for _, k := range w.kinds {
		for _, p := range k.piles {
			if f := back[p]; len(p.times) > 0 && (f == nil || f.n != len(p.times) || f.print != p.print) {
				t.Fatalf("the fingerprints of %d samples of signal %d differ", len(p.times), p.signal)
			}
		}
	}
}

// chunksIn reads all chunks of a kind as readers of the history do.
func chunksIn(ctx context.Context, db *sql.DB, k kind) ([]mesh.Entry, error) {
	r := dayReader{source: k.source, span: mesh.Span{From: math.MinInt64, To: math.MaxInt64}, pass: math.MaxInt64, last: math.MaxInt64, left: math.MaxInt64, pick: func(mesh.Hash) ([]uint32, bool, error) { return nil, true, nil }}
	if err := r.read(ctx, db); err != nil {
		return nil, err
	}
	return slices.DeleteFunc(r.out, func(e mesh.Entry) bool {
		judged := e.Verdict != nil
		return e.Header.Needs[0] != k.table || judged != k.judged || judged && (e.Verdict.Revision != k.revision || e.Verdict.Rules != k.rules)
	}), nil
}

// FuzzChunkRow reads a row of a day's file that holds any bytes, as the history,
// the check of a pass and the newest samples do: it is refused by its number, or
// it can be decoded. What is kept of the newest reads back alike.
func FuzzChunkRow(f *testing.F) {
	for _, s := range fuzzedSeeds(f) {
		f.Add(s.sealed, s.verdict, uint32(0), uint32(4))
	}
	db := memoryFile(f)
	enc, dec := codec(f)
	table := describe(f, 0).Hash()
	f.Fuzz(func(t *testing.T, sealed, marks []byte, signal, last uint32) {
		if sealed, marks = summed(sealed), summed(marks); len(marks) == 0 {
			marks = nil
		}
		empty(t, db)
		_, err := db.ExecContext(t.Context(), `INSERT INTO kind (n, source, signals, judged, revision, rules) VALUES (1, 'a', ?, ?, 3, ?)`, table[:], marks != nil, make([]byte, 32))
		if err == nil {
			_, err = db.ExecContext(t.Context(), `INSERT INTO chunk (pass, kind, signal, last, t_from, t_to, sealed, marks) VALUES (1, 1, ?, ?, ?, ?, ?, ?)`, signal, last, int64(noon), int64(noon+1), sealed, marks)
		}
		if err != nil {
			t.Fatal(err)
		}
		if n := allocated(func() { readRow(t, dec, db, signal) }); n > 4*batchMemory {
			t.Errorf("%d bytes of memory taken for a row of %d", n, len(sealed)+len(marks))
		}
		row := newestRow{source: "a", table: table, sealed: sealed, marks: marks}
		n := candidates{}
		if row.open(n, dec, maxNanos) == nil {
			keepsNewest(t, enc, dec, n)
		}
	})
}

// readRow reads the one row there is.
func readRow(t *testing.T, dec *wire.Decoder, db *sql.DB, signal uint32) {
	t.Helper()
	span := mesh.Span{From: math.MinInt64, To: math.MaxInt64}
	for _, pick := range []picker{
		func(mesh.Hash) ([]uint32, bool, error) { return nil, true, nil },
		func(mesh.Hash) ([]uint32, bool, error) { return []uint32{signal}, false, nil },
	} {
		r := dayReader{source: "a", span: span, pass: 1, last: math.MaxInt64, left: math.MaxInt64, pick: pick}
		if err := r.read(t.Context(), db); err != nil {
			if !errors.Is(err, mesh.ErrPermanent) || !strings.Contains(err.Error(), "chunk ") {
				t.Errorf("a row that can't be read says %v", err)
			}
			return
		}
		for i := range r.out {
			b, err := dec.Batch(r.out[i].Sealed)
			if err == nil && (b.Source != r.out[i].Header.About || len(b.Samples) != int(r.out[i].Header.Count)) {
				t.Errorf("header %+v on a batch of %s with %d samples", r.out[i].Header, b.Source, len(b.Samples))
			}
		}
	}
	g := &gather{dec: dec, at: map[kind]int{}}
	w := &work{gather: g}
	k := g.kind(kind{source: "a", table: describe(t, 0).Hash()})
	for id := range uint32(5) {
		k.add(id)
	}
	var row fuzzed
	if err := db.QueryRowContext(t.Context(), `SELECT sealed, marks FROM chunk`).Scan(&row.sealed, &row.verdict); err != nil {
		t.Fatal(err)
	}
	_, _ = w.count(&k.kind, row.sealed, row.verdict, k.of(map[*pile]*found{}))
}

// keepsNewest seals what was found, and finds the same in it.
func keepsNewest(t *testing.T, enc *wire.Encoder, dec *wire.Decoder, n candidates) {
	t.Helper()
	for table, of := range n {
		row := newestRow{source: "a", table: table}
		kept := row.fill(enc, dec, of)
		if row.sealed == nil {
			if kept != 0 {
				t.Errorf("%d samples kept in nothing", kept)
			}
			continue
		}
		back := candidates{}
		if err := row.open(back, dec, maxNanos); err != nil || len(back[table]) != kept {
			t.Fatalf("%d newest samples of %d read back, %v", len(back[table]), kept, err)
		}
		for signal, c := range back[table] {
			was := of[signal]
			if was == nil || fmt.Sprint(c.sample) != fmt.Sprint(was.sample) || fmt.Sprint(unplaced(c.said())) != fmt.Sprint(unplaced(was.said())) {
				t.Fatalf("signal %d reads back as %+v, was %+v", signal, c, was)
			}
		}
	}
}

// unplaced are marks without where they stood.
func unplaced(marks []mesh.Mark) (out []finding) {
	for _, m := range marks {
		out = append(out, finding{m.Rule, m.Action})
	}
	return out
}
