package wire

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"math"
	"reflect"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"plantmesh/proto/mesh"
)

func codec(t testing.TB) (*Encoder, *Decoder) {
	t.Helper()
	e, err := NewEncoder()
	if err != nil {
		t.Fatal(err)
	}
	d, err := NewDecoder()
	if err != nil {
		t.Fatal(err)
	}
	return e, d
}

func values() *rapid.Generator[mesh.Value] {
	return rapid.Custom(func(t *rapid.T) mesh.Value {
		switch rapid.IntRange(0, 7).Draw(t, "type") {
		case 0:
			return mesh.Value{}
		case 1:
			return mesh.Bool(rapid.Bool().Draw(t, "bool"))
		case 2:
			return mesh.Int(rapid.Int64().Draw(t, "int"))
		case 3:
			return mesh.Uint(rapid.Uint64().Draw(t, "uint"))
		case 4: // any bits: NaN, -0, infinities, denormals
			return mesh.Value{Type: mesh.TypeDouble, Bits: rapid.Uint64().Draw(t, "bits")}
		case 5: // a decimal, as sensors give them
			return mesh.Double(float64(rapid.Int64Range(-1e6, 1e6).Draw(t, "scaled")) / 100)
		case 6:
			return mesh.Text(rapid.StringN(0, 20, 64).Draw(t, "text"))
		}
		return mesh.Value{Type: mesh.TypeBytes, Bytes: rapid.SliceOfN(rapid.Byte(), 1, 32).Draw(t, "bytes")}
	})
}

func nanos() *rapid.Generator[mesh.Nanos] {
	return rapid.Custom(func(t *rapid.T) mesh.Nanos {
		if rapid.Bool().Draw(t, "wild") {
			return mesh.Nanos(rapid.Int64().Draw(t, "any"))
		}
		return mesh.Nanos(1.7e18 + rapid.Int64Range(0, 1e12).Draw(t, "near"))
	})
}

func batches() *rapid.Generator[mesh.Batch] {
	sample := rapid.Custom(func(t *rapid.T) mesh.Sample {
		return mesh.Sample{
			Signal: rapid.Uint32Range(0, 4).Draw(t, "signal"), Time: nanos().Draw(t, "time"),
			Source: nanos().Draw(t, "source"), Server: nanos().Draw(t, "server"), Agent: nanos().Draw(t, "agent"),
			Seq: rapid.Uint64().Draw(t, "seq"), Status: mesh.Status(rapid.Uint32().Draw(t, "status")),
			Flags: rapid.Uint32Range(0, 31).Draw(t, "flags"), Value: values().Draw(t, "value"),
		}
	})
	return rapid.Custom(func(t *rapid.T) mesh.Batch {
		return mesh.Batch{
			Source: rapid.StringMatching(`[a-z0-9-]{1,20}`).Draw(t, "source"), Table: mesh.HashOf([]byte("t")),
			Proven: mesh.Span{From: nanos().Draw(t, "from"), To: nanos().Draw(t, "to")}, Complete: nanos().Draw(t, "complete"),
			Samples: rapid.SliceOfN(sample, 0, 40).Draw(t, "samples"),
		}
	})
}

// Decode of encode is identity, to the bit.
func TestBatch_DecodeOfEncodeIsIdentity(t *testing.T) {
	e, d := codec(t)
	rapid.Check(t, func(t *rapid.T) {
		identical(t, e, d, batches().Draw(t, "batch"))
	})
}

// identical checks that a batch is read as it was sealed, but for the order of signals:
// sealed as a whole, and gathered, the second time in the room of the first.
func identical(t interface{ Fatalf(string, ...any) }, e *Encoder, d *Decoder, b mesh.Batch) {
	sealed, err := e.Seal(&b)
	read(t, d, sealed, err, b)
	g, none := &Gather{}, b
	none.Samples = nil
	for range 2 {
		for i := range b.Samples {
			x := &b.Samples[i]
			if x.Value.Type <= mesh.TypeDouble && x.Source == x.Time && x.Seq == 0 && x.Status == 0 && x.Flags == 0 {
				g.Number(x.Signal, x.Time, x.Server, x.Agent, x.Value.Type, x.Value.Bits)
			} else {
				g.Add(x)
			}
		}
		sealed, err = e.SealGather(&none, g)
		read(t, d, sealed, err, b)
		if again, err := e.Seal(&mesh.Batch{Source: b.Source, Table: b.Table, Proven: b.Proven, Complete: b.Complete, Samples: g.Samples()}); err != nil || g.Len() != len(b.Samples) {
			t.Fatalf("%d of %d samples were gathered: %v", g.Len(), len(b.Samples), err)
		} else {
			read(t, d, again, err, b)
		}
		g.Reset()
	}
}

// read checks that sealed is b.
func read(t interface{ Fatalf(string, ...any) }, d *Decoder, sealed []byte, err error, b mesh.Batch) {
	want := b
	want.Samples = slices.Clone(b.Samples)
	slices.SortStableFunc(want.Samples, func(x, y mesh.Sample) int { return cmp.Compare(x.Signal, y.Signal) })
	if err != nil {
		t.Fatalf("%v", err)
	}
	got, err := d.Batch(sealed)
	if err != nil {
		t.Fatalf("%v", err)
	}
	if len(got.Samples) == 0 && len(want.Samples) == 0 {
		got.Samples, want.Samples = nil, nil
	}
	for i := range got.Samples {
		if len(got.Samples[i].Value.Bytes) == 0 && len(want.Samples[i].Value.Bytes) == 0 {
			got.Samples[i].Value.Bytes, want.Samples[i].Value.Bytes = nil, nil
		}
	}
	if !reflect.DeepEqual(got, want) {
		t.Fatalf("got  %+v\nwant %+v", got, want)
	}
}

// Distances between clocks that wrap are no special case for a reader.
func TestBatch_ClocksAtTheEndsOfTime(t *testing.T) {
	e, d := codec(t)
	ends := []mesh.Nanos{math.MinInt64, math.MinInt64 + 1, -2, -1, 0, 1, 2, math.MaxInt64 - 1, math.MaxInt64}
	var b mesh.Batch
	for _, c := range ends {
		for _, at := range ends {
			b.Samples = append(b.Samples, mesh.Sample{Signal: uint32(len(b.Samples)), Time: at, Source: c, Server: at, Agent: c})
			one := mesh.Batch{Samples: b.Samples[len(b.Samples)-1:]}
			identical(t, e, d, one)
		}
	}
	identical(t, e, d, b)
}

func golden() mesh.Batch {
	at := mesh.Nanos(1772337600e9)
	return mesh.Batch{
		Source: "line1-opcua", Table: mesh.HashOf([]byte("golden")), Proven: mesh.Span{From: at, To: at + 5e9}, Complete: at + 5e9,
		Samples: []mesh.Sample{
			{Signal: 1, Time: at, Source: at, Server: at + 1e6, Value: mesh.Int(6)},
			{Signal: 2, Time: at + 1e9, Source: at + 1e9, Value: mesh.Double(21.5)},
			{Signal: 2, Time: at + 2e9, Source: at + 2e9, Value: mesh.Double(math.Copysign(0, -1)), Status: mesh.StatusUncertainLast},
			{Signal: 3, Time: at + 3e9, Value: mesh.Text("pils-033"), Flags: mesh.FlagInitial},
			{Signal: 4, Time: at + 4e9, Status: mesh.StatusBadNoData, Seq: 7},
		},
	}
}

// Flipping any bit of a frame is detected, and of a batch that stands alone, as
// in a store.
func TestNext_NoticesEveryFlippedBit(t *testing.T) {
	e, d := codec(t)
	b := golden()
	sealed, err := e.Seal(&b)
	if err != nil {
		t.Fatal(err)
	}
	flips := func(whole []byte, read func([]byte) error) {
		t.Helper()
		if err := read(whole); err != nil {
			t.Fatal(err)
		}
		for i := range 8 * len(whole) {
			bad := bytes.Clone(whole)
			bad[i/8] ^= 1 << (i % 8)
			if read(bad) == nil {
				t.Errorf("bit %d of %d bytes flipped, nobody noticed", i, len(whole))
			}
		}
	}
	flips(sealed, func(b []byte) error { _, err := d.Batch(b); return err })
	flips(sealed, func(b []byte) error { _, err := ParseHeader(b); return err })
	frame := AppendRecord(nil, mesh.Record{At: mesh.Position{Log: "agent/graz/gw-1", Epoch: mesh.Epoch{1}, Seq: 1}, Sealed: sealed})
	flips(frame, func(b []byte) error { _, _, _, err := Next(b); return err })
}

func TestNext_RefusesBeforeItReads(t *testing.T) {
	for name, c := range map[string]struct {
		b    []byte
		want error
	}{
		"nothing":  {nil, ErrShort},
		"foreign":  {[]byte("HTTP/1.1 200 OK"), ErrMagic},
		"newer":    {[]byte{'P', 'M', 9, 'R', 12, 0, 0, 0, 0, 0, 0, 0}, ErrVersion},
		"huge":     {[]byte{'P', 'M', Version, 'R', 255, 255, 255, 255, 0, 0, 0, 0}, ErrLimit},
		"negative": {[]byte{'P', 'M', Version, 'R', 3, 0, 0, 0, 0, 0, 0, 0}, ErrFormat},
		"cut":      {[]byte{'P', 'M', Version, 'R', 50, 0, 0, 0, 0, 0, 0, 0}, ErrShort},
	} {
		if _, _, _, err := Next(c.b); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}

func TestRecords_DecodeOfEncodeIsIdentity(t *testing.T) {
	p := mesh.Position{Log: "agent/s/a", Epoch: mesh.Epoch{7}, Seq: 3}
	for _, o := range []mesh.Opening{{}, {Parent: p}} {
		sealed, err := SealOpening(o)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := OpenOpening(sealed); err != nil || got != o {
			t.Errorf("opening %+v, %v", got, err)
		}
	}
	v := mesh.Void{Lost: []mesh.Range{{Epoch: mesh.Epoch{7}, First: 1, Last: 9}}, Cause: mesh.CauseDied, Note: "n", Parts: []mesh.Part{{Source: "s", Times: mesh.Span{From: 1, To: 5}, Count: 2}}}
	sealed, err := SealVoid(v)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := OpenVoid(sealed); err != nil || !reflect.DeepEqual(got, v) {
		t.Errorf("void %+v, %v", got, err)
	}
	h, err := ParseHeader(sealed)
	if err != nil || h.About != "s" || h.Times != (mesh.Span{From: 1, To: 5}) || h.Kind != mesh.KindVoid {
		t.Errorf("header of a void %+v, %v", h, err)
	}
	d := mesh.Verdict{Of: p, Revision: 4, Rules: mesh.HashOf([]byte("r")), Marks: []mesh.Mark{{Index: 3, Rule: "x", Action: mesh.ActionAlert}}}
	if sealed, err = SealVerdict("s", d); err != nil {
		t.Fatal(err)
	}
	if got, err := OpenVerdict(sealed); err != nil || !reflect.DeepEqual(got, d) {
		t.Errorf("verdict %+v, %v", got, err)
	}
	f := mesh.Fact{About: "site:graz", Valid: mesh.Span{From: -5, To: 1 << 62}, Descriptor: mesh.HashOf([]byte("d")), By: "hub"}
	if sealed, err = SealFact(f); err != nil {
		t.Fatal(err)
	}
	if got, err := OpenFact(sealed); err != nil || got != f {
		t.Errorf("fact %+v, %v", got, err)
	}
	r := mesh.Receipt{By: p, Before: []mesh.Epoch{{5}, {6}}, Have: mesh.Set{Through: p, Islands: v.Lost}, Lacks: []mesh.Hash{d.Rules}, Limits: mesh.Limits{MaxBytes: 9, BacklogShare: 70}, Chain: []mesh.Link{{Epoch: mesh.Epoch{7}, End: 3}, {Epoch: mesh.Epoch{8}, Parent: p}}}
	b, err := EncodeReceipt(r)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := DecodeReceipt(b); err != nil || !reflect.DeepEqual(got, r) {
		t.Errorf("receipt %+v, %v", got, err)
	}
	table := []mesh.Signal{{ID: 1, Name: "a", Type: mesh.TypeInt, Unit: "C62", MaxSilence: 5}}
	desc, err := DescribeSignals(table)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := Signals(desc); err != nil || !reflect.DeepEqual(got, table) {
		t.Errorf("signals %+v, %v", got, err)
	}
}

// A body that is, or claims to be, far larger than its bytes is refused before
// memory is taken for it.
func TestBatch_RefusesABomb(t *testing.T) {
	e, d := codec(t)
	const n = 1 << 10
	zeros := e.zw.EncodeAll(make([]byte, MaxRaw), nil)
	texts := func(claim uint64) []byte {
		// unit, columns, three clocks, no statuses, then the texts
		extra := append([]byte{0, 1, clockNone, clockNone, clockNone, 0}, binary.AppendUvarint(nil, claim)...)
		return append(appendPart(nil, extra), 0, 0)
	}
	for name, p := range map[string]packed{
		"that says so":             {packing: packedZstd, rawLen: MaxRaw, plain: zeros},
		"that says less":           {packing: packedZstd, rawLen: 100, plain: zeros},
		"beyond what a body may":   {packing: packedZstd, rawLen: MaxRaw + 1, plain: zeros},
		"a dictionary of billions": {packing: packedRaw, rawLen: len(texts(1 << 40)), plain: texts(1 << 40)},
		"a dictionary for more":    {packing: packedRaw, rawLen: len(texts(n + 1)), plain: texts(n + 1)},
	} {
		bomb := seal(mesh.Header{Kind: mesh.KindBatch, Count: n, Needs: []mesh.Hash{{}}}, p)
		_, _ = d.Batch(bomb) // takes the buffers that are kept
		taken := allocated(func() {
			if _, err := d.Batch(bomb); err == nil {
				t.Errorf("%s: %d bytes are read", name, len(bomb))
			}
		})
		if taken > 1<<20 {
			t.Errorf("%s: %d bytes took %d", name, len(bomb), taken)
		}
	}
	for _, more := range []mesh.Header{
		{Kind: mesh.KindBatch, Count: MaxSamples + 1, Needs: []mesh.Hash{{}}},
		{Kind: mesh.KindBatch, Count: 1, Needs: make([]mesh.Hash, MaxNeeds+1)},
	} {
		if _, err := d.Batch(seal(more, packed{packing: packedRaw})); !errors.Is(err, ErrLimit) {
			t.Errorf("a header over a limit: %v", err)
		}
	}
}

func BenchmarkBatch(b *testing.B) {
	e, d := codec(b)
	batch := mesh.Batch{Source: "s"}
	for i := range 10_000 {
		t := mesh.Nanos(1772337600e9 + int64(i/50)*1e8)
		batch.Samples = append(batch.Samples, mesh.Sample{Signal: uint32(i % 50), Time: t, Source: t, Value: mesh.Double(20 + float64(i%97)/10)})
	}
	sealed, err := e.Seal(&batch)
	if err != nil {
		b.Fatal(err)
	}
	b.Run("encode", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := e.Seal(&batch); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(len(sealed))/10_000, "B/value")
	})
	b.Run("decode", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := d.Batch(sealed); err != nil {
				b.Fatal(err)
			}
		}
	})
}
