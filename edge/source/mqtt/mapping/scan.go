package mapping

import (
	"bytes"
	"encoding/binary"
	"errors"
	"unicode/utf16"
	"unicode/utf8"
)

// Bounds of a payload.
const (
	maxDepth  = 16        // arrays and objects inside each other
	maxValues = 10_000    // values of one payload, containers included
	maxText   = 64 << 10  // one string value, decoded
	maxBytes  = 256 << 20 // of a payload: what MQTT can carry (MQTT 5, 2.1.4), so places fit in 32 bits
)

// Reasons why a payload is no document.
var (
	errNotJSON  = errors.New("payload is no JSON object")
	errNotUTF8  = errors.New("payload is no valid UTF-8")
	errTooDeep  = errors.New("payload is nested deeper than 16 levels")
	errTooMany  = errors.New("payload has more than 10000 values")
	errTooLarge = errors.New("payload is larger than 256 MiB")
)

// kind is what a node of a document is.
type kind uint8

const (
	null kind = iota
	falsity
	truth
	number
	text
	array
	object
)

// span is a place in the payload.
type span struct{ from, to int32 }

// node is one value of a document. The nodes of a document lie in the order in
// which they stand in it: what is inside a container follows it, up to next.
type node struct {
	kind    kind
	escaped bool // text: it holds escapes
	neg     bool // number: it has a minus
	big     bool // number: its digits don't fit into mant
	item    bool // it stands in an array: it has no key
	exp     int32
	next    int32  // the node behind it and all that is in it
	mant    uint64 // number: mant times ten to the power of exp
	at      span   // a text without its quotes
	key     span   // of a member of an object, without its quotes, as it stands
}

// document is one JSON text (RFC 8259) in nodes, the root first. It is used
// again for the next payload; what it says holds until then.
type document struct {
	src   []byte
	nodes []node
	fault error
	whole any // of the root, as expressions take it, once one asked; nil: none did
}

// parse reads a payload. What it takes is valid: nothing stands behind the
// root, all of it is UTF-8, no number is NaN or infinite.
func (d *document) parse(payload []byte) error {
	d.src, d.nodes, d.fault, d.whole = payload, d.nodes[:0], nil, nil
	if len(payload) > maxBytes {
		return errTooLarge
	}
	i := d.value(d.blank(0), node{item: true}, 0)
	if i >= 0 && d.blank(i) != len(payload) {
		i = d.fail(errNotJSON)
	}
	if i < 0 {
		if !utf8.Valid(payload) { // says more than that it is no JSON
			return errNotUTF8
		}
		return d.fault
	}
	return nil
}

func (d *document) fail(err error) int {
	d.fault = err
	return -1
}

// skip is blank, where mostly nothing is to be skipped.
func (d *document) skip(i int) int {
	if i < len(d.src) && d.src[i] > ' ' {
		return i
	}
	return d.blank(i)
}

// blank skips what may stand between tokens (RFC 8259, 2).
func (d *document) blank(i int) int {
	for i < len(d.src) {
		switch d.src[i] {
		case ' ', '\t', '\n', '\r':
			i++
		default:
			return i
		}
	}
	return i
}

// value reads the value that begins at i into a node, whose key is set
// already, and gives the place behind it; -1: there is none.
func (d *document) value(i int, n node, depth int) int {
	if i >= len(d.src) {
		return d.fail(errNotJSON)
	}
	if len(d.nodes) == maxValues {
		return d.fail(errTooMany)
	}
	self := len(d.nodes)
	n.next = int32(self + 1)
	n.at.from = int32(i)
	switch c := d.src[i]; {
	case c == '"':
		n.kind, n.at.from = text, int32(i+1)
		if i, n.escaped = d.text(i + 1); i < 0 {
			return i
		}
		n.at.to = int32(i - 1)
	case c == '{' || c == '[':
		return d.container(i, n, depth)
	case c == '-' || c-'0' < 10:
		n.kind = number
		if i = d.number(i, &n); i < 0 {
			return i
		}
		n.at.to = int32(i)
	default:
		var word string
		switch c {
		case 'n':
			n.kind, word = null, "null"
		case 't':
			n.kind, word = truth, "true"
		case 'f':
			n.kind, word = falsity, "false"
		}
		if word == "" || len(d.src)-i < len(word) || string(d.src[i:i+len(word)]) != word {
			return d.fail(errNotJSON)
		}
		i += len(word)
		n.at.to = int32(i)
	}
	d.nodes = append(d.nodes, n)
	return i
}

// container reads an array or an object.
func (d *document) container(i int, n node, depth int) int {
	if depth == maxDepth {
		return d.fail(errTooDeep)
	}
	end := d.src[i] + 2 // ] and } follow [ and { in ASCII with one between
	n.kind = array
	if end == '}' {
		n.kind = object
	}
	self := len(d.nodes)
	d.nodes = append(d.nodes, n)
	i = d.skip(i + 1)
	if i < len(d.src) && d.src[i] == end {
		i++
	} else if i = d.members(i, end, depth); i < 0 {
		return i
	}
	d.nodes[self].next, d.nodes[self].at.to = int32(len(d.nodes)), int32(i)
	return i
}

// members reads what stands between the brackets, which is not nothing.
func (d *document) members(i int, end byte, depth int) int {
	for {
		m := node{item: end == ']'}
		if end == '}' {
			if i >= len(d.src) || d.src[i] != '"' {
				return d.fail(errNotJSON)
			}
			m.key.from = int32(i + 1)
			if i, _ = d.text(i + 1); i < 0 {
				return i
			}
			m.key.to = int32(i - 1)
			if i = d.skip(i); i >= len(d.src) || d.src[i] != ':' {
				return d.fail(errNotJSON)
			}
			i = d.skip(i + 1)
		}
		if i = d.value(i, m, depth+1); i < 0 {
			return i
		}
		if i = d.skip(i); i >= len(d.src) {
			return d.fail(errNotJSON)
		}
		switch d.src[i] {
		case end:
			return i + 1
		case ',':
			i = d.skip(i + 1)
		default:
			return d.fail(errNotJSON)
		}
	}
}

// text reads a string from behind its quote, and gives the place behind the
// other one.
func (d *document) text(i int) (end int, escaped bool) {
	src := d.src
	for i < len(src) {
		switch c := src[i]; {
		case c == '"':
			return i + 1, escaped
		case c == '\\':
			escaped = true
			if i = d.escape(i + 1); i < 0 {
				return i, false
			}
		case c < ' ':
			return d.fail(errNotJSON), false
		case c < utf8.RuneSelf:
			i++
		default:
			r, n := utf8.DecodeRune(src[i:])
			if r == utf8.RuneError && n == 1 {
				return d.fail(errNotUTF8), false
			}
			i += n
		}
	}
	return d.fail(errNotJSON), false
}

// escape reads what stands behind a backslash.
func (d *document) escape(i int) int {
	if i >= len(d.src) {
		return d.fail(errNotJSON)
	}
	switch d.src[i] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return i + 1
	case 'u':
		if _, ok := hex4(d.src[i+1:]); ok {
			return i + 5
		}
	}
	return d.fail(errNotJSON)
}

// number reads a number (RFC 8259, 6) with its digits.
func (d *document) number(i int, n *node) int {
	src := d.src
	if src[i] == '-' {
		n.neg = true
		i++
	}
	from := i
	n.mant, i = digits(src, i, 0)
	count := i - from
	if count == 0 || count > 1 && src[from] == '0' {
		return d.fail(errNotJSON)
	}
	if i < len(src) && src[i] == '.' {
		i++
		whole := i
		if n.mant, i = digits(src, i, n.mant); i == whole {
			return d.fail(errNotJSON)
		}
		count += i - whole
		n.exp = -int32(min(i-whole, mostExp))
	}
	if count > 19 { // the largest number of digits that always fits into 64 bits
		n.mant, n.big = exactly(src[from:i])
	}
	if i < len(src) && src[i]|0x20 == 'e' {
		return d.exponent(i+1, n)
	}
	return i
}

// digits reads digits behind those that are in mant; more than 64 bits are cut off.
func digits(src []byte, i int, mant uint64) (uint64, int) {
	for i+8 <= len(src) {
		x, ok := eight(binary.LittleEndian.Uint64(src[i:]))
		if !ok {
			break
		}
		mant = mant*100_000_000 + x
		i += 8
	}
	for i < len(src) && src[i]-'0' < 10 {
		mant = mant*10 + uint64(src[i]-'0')
		i++
	}
	return mant, i
}

// eight is the number of eight bytes that are digits, the first the lowest of b; ok is
// false where one is none. Neighbours are joined to two digits, these to four and to
// eight, by multiplying in all lanes at once (Lemire, "Number parsing at a gigabyte per
// second", 2021, section 7).
func eight(b uint64) (x uint64, ok bool) {
	const (
		tops  = 0x8080808080808080
		lanes = 0x000000FF000000FF
	)
	if ((b+0x4646464646464646)|(b-0x3030303030303030))&tops != 0 {
		return 0, false
	}
	b -= 0x3030303030303030
	b = b*10 + b>>8
	b = (b&lanes)*(100+1_000_000<<32) + (b>>16&lanes)*(1+10_000<<32)
	return b >> 32 & 0xFFFFFFFF, true
}

// mostExp is beyond what any type holds; exponents are cut there.
const mostExp = 100_000

func (d *document) exponent(i int, n *node) int {
	src, neg := d.src, false
	if i < len(src) && (src[i] == '+' || src[i] == '-') {
		neg = src[i] == '-'
		i++
	}
	from, e := i, int32(0)
	for i < len(src) && src[i]-'0' < 10 {
		e = min(e*10+int32(src[i]-'0'), mostExp)
		i++
	}
	if i == from {
		return d.fail(errNotJSON)
	}
	if neg {
		e = -e
	}
	n.exp += e
	return i
}

// exactly is the number that digits with perhaps a point among them make,
// without the point; big says that it has more than 64 bits.
func exactly(digits []byte) (mant uint64, big bool) {
	for _, c := range digits {
		if c == '.' {
			continue
		}
		x := uint64(c - '0')
		if mant > (1<<64-1-x)/10 {
			return 0, true
		}
		mant = mant*10 + x
	}
	return mant, false
}

// hex4 are the four hexadecimal digits of a \u.
func hex4(b []byte) (r rune, ok bool) {
	if len(b) < 4 {
		return 0, false
	}
	for _, c := range b[:4] {
		switch {
		case c-'0' < 10:
			c -= '0'
		case c|0x20 >= 'a' && c|0x20 <= 'f':
			c = c | 0x20 - 'a' + 10
		default:
			return 0, false
		}
		r = r<<4 | rune(c)
	}
	return r, true
}

// unescape appends what a valid text with escapes means. Halves of surrogate
// pairs become U+FFFD.
func unescape(out, raw []byte) []byte {
	for i := 0; i < len(raw); i++ {
		if raw[i] != '\\' {
			out = append(out, raw[i])
			continue
		}
		i++
		switch c := raw[i]; c {
		case 'b':
			out = append(out, '\b')
		case 'f':
			out = append(out, '\f')
		case 'n':
			out = append(out, '\n')
		case 'r':
			out = append(out, '\r')
		case 't':
			out = append(out, '\t')
		case 'u':
			r, _ := hex4(raw[i+1:])
			i += 4
			if utf16.IsSurrogate(r) {
				other := rune(utf8.RuneError)
				if i+2 < len(raw) && raw[i+1] == '\\' && raw[i+2] == 'u' {
					other, _ = hex4(raw[i+3:])
				}
				if r = utf16.DecodeRune(r, other); r != utf8.RuneError {
					i += 6
				}
			}
			out = utf8.AppendRune(out, r)
		default:
			out = append(out, c)
		}
	}
	return out
}

// raw is a part of the payload.
func (d *document) raw(s span) []byte { return d.src[s.from:s.to] }

// keyed reports whether the key of a node is this one.
func (d *document) keyed(n *node, key string) bool {
	raw := d.raw(n.key)
	if len(raw) < len(key) { // escapes only make a text longer
		return false
	}
	if bytes.IndexByte(raw, '\\') < 0 {
		return string(raw) == key
	}
	return string(unescape(nil, raw)) == key
}
