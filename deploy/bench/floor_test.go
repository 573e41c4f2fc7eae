package bench

import (
	"encoding/binary"
	"math"
	"testing"

	"github.com/klauspost/compress/zstd"

	"plantmesh/proto/mesh"
)

// The floor: the least that carries times and values of a batch, and nothing
// else of it. Signal by signal, the times as what they are off a grid of a
// second, the values as differences of thousandths, all as varints, and zstd
// at its fastest over them. What it costs on this machine in this minute is
// what the wire format's figures are divided by.

// series is what a source would have to hand over for it: numbers side by side.
type series struct {
	times  []int64 // milliseconds
	values []float64
}

func floorOf(b *mesh.Batch) (out []series, exact bool) {
	exact = true
	at := map[uint32]int{}
	for i := range b.Samples {
		x := &b.Samples[i]
		k, ok := at[x.Signal]
		if !ok {
			k = len(out)
			at[x.Signal] = k
			out = append(out, series{})
		}
		v := float64(int64(x.Value.Bits))
		if x.Value.Type == mesh.TypeDouble {
			v = math.Float64frombits(x.Value.Bits)
		}
		exact = exact && math.Round(v*1000)/1000 == v
		out[k].times = append(out[k].times, int64(x.Time)/1e6)
		out[k].values = append(out[k].values, v)
	}
	return out, exact
}

func floorEncode(b []byte, batch []series) []byte {
	base := batch[0].times[0]
	b = binary.AppendVarint(b, base)
	for i := range batch {
		s := &batch[i]
		b = binary.AppendUvarint(b, uint64(len(s.times)))
		b = binary.AppendVarint(b, s.times[0]-base)
		for k, t := range s.times[1:] {
			b = binary.AppendVarint(b, t-s.times[0]-int64(k+1)*1000)
		}
		last := int64(0)
		for _, v := range s.values {
			n := int64(math.Round(v * 1000))
			b = binary.AppendVarint(b, n-last)
			last = n
		}
	}
	return b
}

func floorDecode(b []byte, out *series) (sum int64) {
	next := func() int64 {
		v, n := binary.Varint(b)
		b = b[n:]
		return v
	}
	base := next()
	for len(b) > 0 {
		n, k := binary.Uvarint(b)
		b = b[k:]
		out.times, out.values = out.times[:0], out.values[:0]
		first := base + next()
		out.times = append(out.times, first)
		for k := range n - 1 {
			out.times = append(out.times, first+int64(k+1)*1000+next())
		}
		last := int64(0)
		for range n {
			last += next()
			out.values = append(out.values, float64(last)/1000)
		}
		sum += last
	}
	return sum
}

// floorBytes are the bytes a value takes on the floor; 0 where its numbers are
// no thousandths.
func floorBytes(t *testing.T, batches []mesh.Batch) float64 {
	t.Helper()
	zw, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1))
	if err != nil {
		t.Fatal(err)
	}
	bytes, n := 0, 0
	for i := range batches {
		s, exact := floorOf(&batches[i])
		if !exact {
			return 0
		}
		bytes += len(zw.EncodeAll(floorEncode(nil, s), nil))
		n += len(batches[i].Samples)
	}
	return float64(bytes) / float64(n)
}

// floorSpeed is its speed both ways, in million values a second.
func floorSpeed(t *testing.T, batches []mesh.Batch) (encode, decode float64) {
	t.Helper()
	zw, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1))
	if err != nil {
		t.Fatal(err)
	}
	zr, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1))
	if err != nil {
		t.Fatal(err)
	}
	var all [][]series
	var packed [][]byte
	n := 0
	for i := range batches {
		s, _ := floorOf(&batches[i])
		all = append(all, s)
		packed = append(packed, zw.EncodeAll(floorEncode(nil, s), nil))
		n += len(batches[i].Samples)
	}
	var plain, out []byte
	in := best(func() {
		for i := range all {
			plain = floorEncode(plain[:0], all[i])
			out = zw.EncodeAll(plain, out[:0])
		}
	})
	var s series
	back := best(func() {
		for i := range packed {
			if plain, err = zr.DecodeAll(packed[i], plain[:0]); err != nil {
				t.Fatal(err)
			}
			_ = floorDecode(plain, &s)
		}
	})
	return float64(n) / 1e6 / in, float64(n) / 1e6 / back
}
