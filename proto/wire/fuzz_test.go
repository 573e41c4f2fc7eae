package wire

import (
	"bytes"
	"io"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"runtime/metrics"
	"testing"

	"plantmesh/proto/mesh"
)

// readLimit bounds what reading any bytes may take from the heap, all decoders
// alike: a body of MaxRaw, and MaxSamples with their clocks, twice over for
// buffers that grow.
const readLimit = 2 * (MaxRaw + MaxSamples*(96+8*8))

// allocated is what do takes from the heap, in bytes.
func allocated(do func()) uint64 {
	s := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(s)
	before := s[0].Value.Uint64()
	do()
	metrics.Read(s)
	return s[0].Value.Uint64() - before
}

// bounded fails where do takes more than any bytes may.
func bounded(t *testing.T, do func()) {
	t.Helper()
	if n := allocated(do); n > readLimit {
		t.Errorf("%d bytes of memory taken, at most %d", n, readLimit)
	}
}

// frames are the golden ones.
func frames(f *testing.F) (out [][]byte) {
	f.Helper()
	names, err := filepath.Glob(filepath.Join("testdata", "v2", "*.bin"))
	if err != nil || len(names) == 0 {
		f.Fatal("no golden files", err)
	}
	for _, name := range names {
		b, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		out = append(out, b)
	}
	return out
}

// sealedOf are the sealed bytes of golden records.
func sealedOf(f *testing.F) (out [][]byte) {
	f.Helper()
	for _, b := range frames(f) {
		for len(b) > 0 {
			kind, frame, rest, err := Next(b)
			if err != nil {
				break // a receipt is no frame
			}
			if r, err := ParseRecord(frame); kind == FrameRecord && err == nil {
				out = append(out, r.Sealed)
			}
			b = rest
		}
	}
	return out
}

// summed puts a right checksum in place of the last bytes, to let the fuzzer past it.
func summed(b []byte) []byte {
	b = bytes.Clone(b)
	n := len(b) - sumLen
	if n < 0 {
		return b
	}
	sum := castagnoli(b[:n])
	b[n], b[n+1], b[n+2], b[n+3] = byte(sum), byte(sum>>8), byte(sum>>16), byte(sum>>24)
	return b
}

// FuzzFrame reads bytes as a run of frames, in all ways there are.
func FuzzFrame(f *testing.F) {
	for _, b := range frames(f) {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		bounded(t, func() {
			_ = Dump(io.Discard, bytes.NewReader(b))
			for _, b := range [][]byte{b, summed(b)} {
				for len(b) > 0 {
					_, frame, rest, err := Next(b)
					_, _ = ParseRecord(frame)
					_, _ = ParseDescriptor(frame)
					_, _ = ParseVerdict(frame)
					if err != nil || len(rest) >= len(b) {
						break
					}
					b = rest
				}
			}
		})
	})
}

// FuzzRecord reads bytes as each of the small records.
func FuzzRecord(f *testing.F) {
	for _, b := range sealedOf(f) {
		f.Add(b)
	}
	r, err := EncodeReceipt(mesh.Receipt{By: mesh.Position{Log: "hub/0", Epoch: mesh.Epoch{1}, Seq: 2}, Lacks: []mesh.Hash{{3}}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(r)
	f.Fuzz(func(t *testing.T, b []byte) {
		bounded(t, func() {
			_, _ = DecodeReceipt(b)
			_, _ = Signals(mesh.Descriptor{Kind: mesh.DescribeSignals, Content: b})
			b := summed(b)
			_, _ = ParseHeader(b)
			_, _ = OpenOpening(b)
			_, _ = OpenVoid(b)
			_, _ = OpenVerdict(b)
			_, _ = OpenFact(b)
		})
	})
}

// FuzzBatch reads bytes as a sealed batch.
func FuzzBatch(f *testing.F) {
	e, d := codec(f)
	for _, b := range sealedOf(f) {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) { readBatch(t, e, d, summed(b)) })
}

// FuzzBody does so without zstd in the way.
func FuzzBody(f *testing.F) {
	e, d := codec(f)
	for _, b := range sealedOf(f) {
		h, p, err := open(b)
		if err != nil || h.Kind != mesh.KindBatch {
			continue
		}
		plain, err := d.unpack(p)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(plain, p.bits, h.Count)
	}
	f.Fuzz(func(t *testing.T, plain, bits []byte, count uint32) {
		if len(plain) > MaxRaw/2 || len(bits) > MaxRaw/2 {
			return
		}
		h := mesh.Header{Kind: mesh.KindBatch, About: "s", Count: count % (2 * MaxSamples), Needs: []mesh.Hash{{}}}
		readBatch(t, e, d, seal(h, packed{packing: packedRaw, rawLen: len(plain), plain: plain, bits: bits}))
	})
}

// readBatch reads a batch both ways. What is read is written and read alike.
func readBatch(t *testing.T, e *Encoder, d *Decoder, sealed []byte) {
	t.Helper()
	var b mesh.Batch
	var err error
	bounded(t, func() { b, err = d.Batch(sealed) })
	columns := 0
	var cerr error
	bounded(t, func() {
		_, cerr = d.Columns(sealed, func(c *Column) { columns += len(c.Times) })
	})
	if (err == nil) != (cerr == nil) {
		t.Fatalf("as samples: %v, as columns: %v", err, cerr)
	}
	if err != nil {
		return
	}
	if columns != len(b.Samples) {
		t.Fatalf("%d samples, %d in columns", len(b.Samples), columns)
	}
	for i := range b.Samples {
		if b.Samples[i].Time == math.MaxInt64 {
			return // its batch has no end
		}
	}
	again, err := e.Seal(&b)
	if err != nil {
		return // more than a batch that is made may hold
	}
	got, err := d.Batch(again)
	if err != nil {
		t.Fatalf("what was read can be written and not be read again: %v", err)
	}
	if !reflect.DeepEqual(b.Samples, got.Samples) && len(b.Samples) > 0 {
		t.Fatal("what was read is another batch when it is written and read again")
	}
}

func FuzzItem(f *testing.F) {
	f.Add([]byte{byte(mesh.TypeStruct), 2, byte(mesh.TypeInt), 8, byte(mesh.TypeArray), byte(mesh.TypeDouble), 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		bounded(t, func() {
			i, err := ParseItem(b)
			if err != nil {
				return
			}
			again, err := ParseItem(AppendItem(nil, i))
			if err != nil || !reflect.DeepEqual(i, again) {
				t.Errorf("%x reads %+v, then %+v, %v", b, i, again, err)
			}
		})
	})
}
