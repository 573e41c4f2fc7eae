package wire

import (
	"math"
	"math/bits"
)

// Doubles become whole numbers, one way for a run of values, to the bit:
//
//	0..9      decimals: value x 10^k is whole, as most instruments send them
//	16..25    decimals of single precision: the same, rounded to a Float
//	64..127   the bits themselves, without the k - 64 low ones, all 0: a Float
//	          that is no decimal leaves out 29 bits, and neighbouring values
//	          share their high bits
const (
	doubleDecimal = 0
	doubleSingle  = 16
	doubleBits    = 64
	maxScale      = 9
)

// Whole numbers up to here are exact as a double.
const maxWhole = 1 << 53

// pow10 are exact as doubles.
func pow10(k int) float64 {
	return [maxScale + 1]float64{1, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9}[k]
}

// scaled writes into out the whole numbers of the doubles with these bits, and
// says how. likely is how it was done the last time.
func scaled(out, v []uint64, likely byte) (how byte) {
	if likely <= maxScale && again(out, v, int(likely)) {
		return likely
	}
	if k, ok := decimals(out, v, false); ok {
		return doubleDecimal + byte(k)
	}
	var all uint64
	for _, x := range v {
		all |= x
	}
	low := bits.TrailingZeros64(all) & 63 // all of them +0 would have been a decimal
	if low >= 29 {
		if k, ok := decimals(out, v, true); ok {
			return doubleSingle + byte(k)
		}
	}
	for i, x := range v {
		out[i] = x >> low
	}
	return doubleBits + byte(low)
}

// surely bounds the whole numbers of which neighbours stay apart as doubles,
// with room to spare.
const surely = 1 << 49

// again tries one scale, and reports whether it is the smallest: all values are
// whole, and one of them ends in no zero.
func again(out, v []uint64, k int) bool {
	if wholes(out, v, pow10(k), false) < len(v) {
		return false
	}
	if k == 0 {
		return true
	}
	for _, n := range out[:len(v)] {
		if n := int64(n); n%10 != 0 && -surely < n && n < surely {
			return true
		}
	}
	return false
}

// decimals looks for the smallest scale at which all values are whole.
func decimals(out, v []uint64, single bool) (int, bool) {
	k := 0
	for done := 0; done < len(v); {
		p := pow10(k)
		n := wholes(out[done:], v[done:], p, single)
		if done += n; done == len(v) {
			break
		}
		if k++; k > maxScale {
			return 0, false
		}
		if done > 0 { // what was whole is larger by a tenth power now
			done = 0
		}
	}
	return k, true
}

// wholes scales values until one is not whole, and says how many were.
func wholes(out, v []uint64, p float64, single bool) int {
	for i, x := range v {
		f := math.Float64frombits(x) * p
		if !(math.Abs(f) < maxWhole) { // a NaN too
			return i
		}
		n := int64(f + math.Copysign(0.5, f))
		if unscaled(n, p, single) != x {
			return i
		}
		out[i] = uint64(n)
	}
	return len(v)
}

func unscaled(n int64, p float64, single bool) uint64 {
	f := float64(n) / p
	if single {
		f = float64(float32(f))
	}
	return math.Float64bits(f)
}

// unscale turns whole numbers back into the bits of doubles.
func unscale(v []uint64, how byte) error {
	switch {
	case how <= doubleDecimal+maxScale:
		p := pow10(int(how))
		for i, n := range v {
			v[i] = math.Float64bits(float64(int64(n)) / p)
		}
	case how >= doubleSingle && how <= doubleSingle+maxScale:
		p := pow10(int(how - doubleSingle))
		for i, n := range v {
			v[i] = unscaled(int64(n), p, true)
		}
	case how >= doubleBits && how < doubleBits+64:
		for i, n := range v {
			v[i] = n << (how - doubleBits)
		}
	default:
		return ErrVersion
	}
	return nil
}
