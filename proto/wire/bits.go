package wire

import (
	"encoding/binary"
	"math/bits"
	"slices"
)

// bitWriter packs numbers one behind the other, least significant bit first.
type bitWriter struct {
	b   []byte
	acc uint64
	n   uint // bits in acc, below 64
}

func (w *bitWriter) reset() { w.b, w.acc, w.n = w.b[:0], 0, 0 }

// put writes the low width bits of v; the others must be 0.
func (w *bitWriter) put(v uint64, width uint) {
	w.acc |= v << w.n
	if w.n+width < 64 {
		w.n += width
		return
	}
	w.b = binary.LittleEndian.AppendUint64(w.b, w.acc)
	w.acc = v >> (64 - w.n) // a shift by 64 gives 0
	w.n += width - 64
}

// putAll writes v less base, each width bits wide.
func (w *bitWriter) putAll(v []uint64, base uint64, width uint) {
	if width == 0 {
		return
	}
	acc, n, end := w.acc, w.n, len(w.b)
	b := slices.Grow(w.b, len(v)*int(width)/8+8)
	b = b[:cap(b)]
	for _, x := range v {
		x -= base
		acc |= x << n
		if n += width; n >= 64 {
			binary.LittleEndian.PutUint64(b[end:], acc)
			end += 8
			n -= 64
			acc = x >> (width - n)
		}
	}
	w.acc, w.n, w.b = acc, n, b[:end]
}

// bytes ends the writing: what is open is filled with zero bits to a whole byte.
func (w *bitWriter) bytes() []byte {
	for ; w.n > 0; w.n -= min(w.n, 8) {
		w.b = append(w.b, byte(w.acc))
		w.acc >>= 8
	}
	return w.b
}

// bitReader takes off what bitWriter wrote.
type bitReader struct {
	b   []byte
	pos uint64 // in bits
}

// has reports whether n numbers of this width are still there.
func (r *bitReader) has(n int, width uint) bool {
	return uint64(n)*uint64(width) <= uint64(len(r.b))*8-r.pos
}

// get reads one number; the caller has asked has.
func (r *bitReader) get(width uint) uint64 {
	if width == 0 {
		return 0
	}
	at, shift := r.pos>>3, uint(r.pos&7)
	r.pos += uint64(width)
	var x uint64
	if at+8 <= uint64(len(r.b)) {
		x = binary.LittleEndian.Uint64(r.b[at:]) >> shift
		if shift+width > 64 {
			x |= uint64(r.b[at+8]) << (64 - shift)
		}
	} else {
		for i, c := range r.b[at:] {
			if i < 8 {
				x |= uint64(c) << (8 * i)
			}
		}
		x >>= shift
	}
	return x & (1<<width - 1)
}

// getAll reads len(out) numbers and adds base to each; the caller has asked has.
func (r *bitReader) getAll(out []uint64, base uint64, width uint) {
	if width == 0 {
		for i := range out {
			out[i] = base
		}
		return
	}
	i := 0
	if width <= 57 {
		b, pos, mask := r.b, r.pos, uint64(1)<<width-1
		for last := uint64(len(b)); i < len(out) && pos>>3+8 <= last; i++ {
			out[i] = base + binary.LittleEndian.Uint64(b[pos>>3:])>>(pos&7)&mask
			pos += uint64(width)
		}
		r.pos = pos
	}
	for ; i < len(out); i++ {
		out[i] = base + r.get(width)
	}
}

func zigzag(i int64) uint64   { return uint64(i<<1) ^ uint64(i>>63) }
func unzigzag(u uint64) int64 { return int64(u>>1) ^ -int64(u&1) }

func widthOf(v uint64) uint { return uint(bits.Len64(v)) }
