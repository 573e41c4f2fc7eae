package mapping

import (
	"errors"
	"fmt"
	"math"
	"math/bits"
	"strconv"

	"plantmesh/proto/mesh"
)

// Reasons why a value can't be taken.
var (
	errWrongType = errors.New("value has another type than the signal")
	errRange     = errors.New("number is out of range")
	errTooLong   = errors.New("text is longer than 64 KiB")
)

// ErrTooLarge is for a message of which the connection gave the beginning only.
var ErrTooLarge = errors.New("message is larger than max_packet")

// status is what a signal gets instead of a value that could not be taken
// (OPC 10000-6 A.2): the value before does not hold any more.
func status(fault error) mesh.Status {
	switch {
	case errors.Is(fault, errWrongType):
		return mesh.StatusBadTypeMismatch
	case errors.Is(fault, errRange):
		return mesh.StatusBadOutOfRange
	case errors.Is(fault, errTooLong), errors.Is(fault, ErrTooLarge), errors.Is(fault, errTooDeep), errors.Is(fault, errTooMany), errors.Is(fault, errTooLarge):
		return mesh.StatusBadEncodingLimitsExceeded
	}
	return mesh.StatusBadDecodingError
}

// take is a value as one of type t; integers never pass through a float.
// quoted says that numbers and booleans may stand in quotes.
func (d *document) take(n *node, t mesh.Type, quoted bool) (mesh.Value, error) {
	switch n.kind {
	case number:
		return d.number64(n, t)
	case truth, falsity:
		if t == mesh.TypeBool {
			return mesh.Bool(n.kind == truth), nil
		}
	case text:
		if t != mesh.TypeString && quoted {
			return d.unquoted(n, t)
		}
		if t == mesh.TypeString {
			return d.words(n)
		}
	case null, array, object:
	}
	return mesh.Value{}, errWrongType
}

// words is a text as a value of its own memory.
func (d *document) words(n *node) (mesh.Value, error) {
	raw := d.raw(n.at)
	if n.escaped && len(raw) <= 6*maxText { // the longest escape makes one byte of six
		raw = unescape(make([]byte, 0, len(raw)), raw)
	} else {
		raw = append([]byte(nil), raw[:min(len(raw), maxText+1)]...)
	}
	if len(raw) > maxText {
		return mesh.Value{}, errTooLong
	}
	return mesh.Value{Type: mesh.TypeString, Bytes: raw}, nil
}

// unquoted is a text that holds a number or a boolean.
func (d *document) unquoted(n *node, t mesh.Type) (mesh.Value, error) {
	in, ok := d.digits(n)
	switch {
	case ok:
		return d.number64(&in, t)
	case t == mesh.TypeBool && string(d.raw(n.at)) == "true":
		return mesh.Bool(true), nil
	case t == mesh.TypeBool && string(d.raw(n.at)) == "false":
		return mesh.Bool(false), nil
	}
	return mesh.Value{}, errWrongType
}

// digits is the number that a text holds, and nothing else.
func (d *document) digits(n *node) (in node, ok bool) {
	if n.kind != text || n.at.to <= n.at.from || n.escaped {
		return in, false
	}
	if c := d.src[n.at.from]; c != '-' && c-'0' >= 10 {
		return in, false
	}
	in = node{kind: number, at: n.at}
	end := d.number(int(n.at.from), &in) // ends at the quote at the latest
	d.fault = nil
	return in, end == int(n.at.to)
}

// number64 is a number as a value of type t.
func (d *document) number64(n *node, t mesh.Type) (mesh.Value, error) {
	switch t {
	case mesh.TypeDouble:
		f, err := d.float(n)
		return mesh.Double(f), err
	case mesh.TypeInt:
		switch m, ok := n.whole(); {
		case ok && !n.neg && m <= math.MaxInt64:
			return mesh.Int(int64(m)), nil
		case ok && n.neg && m <= 1<<63:
			return mesh.Int(-int64(m)), nil
		}
	case mesh.TypeUint:
		if m, ok := n.whole(); ok && (!n.neg || m == 0) {
			return mesh.Uint(m), nil
		}
	default:
		return mesh.Value{}, errWrongType
	}
	// A number for a number: without a fraction it is only too large, or negative.
	if f, err := d.float(n); err != nil || f == math.Trunc(f) {
		return mesh.Value{}, errRange
	}
	return mesh.Value{}, errWrongType
}

// whole is the size of a number without a fraction, 12.0 and 1e3 included; ok
// is false where it has one, or more than 64 bits.
func (n *node) whole() (m uint64, ok bool) {
	m = n.mant
	if n.exp == 0 || m == 0 && !n.big {
		return m, !n.big
	}
	if n.big || n.exp > 19 || n.exp < -19 {
		return 0, false
	}
	for e := n.exp; e < 0; e++ {
		if m%10 != 0 {
			return 0, false
		}
		m /= 10
	}
	for e := n.exp; e > 0; e-- {
		if m > math.MaxUint64/10 {
			return 0, false
		}
		m *= 10
	}
	return m, true
}

// float is the nearest double.
func (d *document) float(n *node) (f float64, err error) {
	const exact = 22 // the largest power of ten that is a double
	switch {
	case !n.big && n.mant < 1<<53 && n.exp <= exact && n.exp >= -exact:
		// Both parts are exact, so it rounds once (Clinger 1990).
		if f = float64(n.mant); n.exp < 0 {
			f /= math.Pow10(-int(n.exp))
		} else {
			f *= math.Pow10(int(n.exp))
		}
	case !n.big && n.exp < 0 && n.exp >= -19: // of those, too, and they fit into 64 bits
		f = quotient(n.mant, uint64(math.Pow10(-int(n.exp))))
	default:
		if f, err = strconv.ParseFloat(string(d.raw(n.at)), 64); err != nil {
			return 0, errRange
		}
		return f, nil
	}
	if n.neg {
		f = -f
	}
	return f, nil
}

// quotient is m/d rounded once, to the nearest even, of numbers that are not 0: both
// are moved up to 64 bits, divided, and 53 bits are kept of the 64 that come out.
func quotient(m, d uint64) float64 {
	up, down := bits.LeadingZeros64(m), bits.LeadingZeros64(d)
	hi, lo, exp := m<<up, uint64(0), down-up-64
	if d <<= down; hi >= d {
		hi, lo, exp = hi>>1, hi<<63, exp+1
	}
	q, left := bits.Div64(hi, lo, d)
	const cut, half = 11, 1 << 10
	kept, rest := q>>cut, q&(1<<cut-1)
	if rest > half || rest == half && (left > 0 || kept&1 == 1) {
		kept++
	}
	return float64(kept) * math.Float64frombits(uint64(1023+exp+cut)<<52)
}

// twice takes back the value of a key that comes again.
func (m *Mapper) twice(s *slot) {
	x := &m.read.out.Samples[s.at]
	if x.Value.Type == mesh.TypeNone && x.Status == mesh.StatusBadDecodingError {
		return
	}
	x.Value, x.Status = mesh.Value{}, mesh.StatusBadDecodingError
	m.read.out.flaw(Flaw{Fault: fmt.Errorf("%s: %w", s.name, errTwice), Count: 1, Time: x.Time})
}
