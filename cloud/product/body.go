package product

import (
	"encoding/json"
	"math"
	"slices"
	"strconv"
	"strings"

	"plantmesh/proto/mesh"
)

// body builds a JSON object with sorted keys. Columns that were not asked for
// are left out; NaN and Inf become null, because JSON has no word for them.
type body struct {
	want map[string]bool // nil: every column
	cols []column
	buf  []byte
}

type column struct {
	key      string
	from, to int // in buf
}

func newBody(want map[string]bool) *body {
	return &body{want: want, cols: make([]column, 0, 32), buf: make([]byte, 0, 1024)}
}

// put appends one column with what add writes.
func (b *body) put(key string, add func([]byte) []byte) {
	if b.want != nil && !b.want[key] {
		return
	}
	from := len(b.buf)
	b.buf = add(b.buf)
	b.cols = append(b.cols, column{key, from, len(b.buf)})
}

func (b *body) null(key string) { b.put(key, func(x []byte) []byte { return append(x, "null"...) }) }

func (b *body) text(key, s string) { b.put(key, func(x []byte) []byte { return appendText(x, s) }) }

// words is text, or null where there is none.
func (b *body) words(key, s string) {
	if s == "" {
		b.null(key)
		return
	}
	b.text(key, s)
}

func (b *body) integer(key string, i int64) {
	b.put(key, func(x []byte) []byte { return strconv.AppendInt(x, i, 10) })
}

func (b *body) number(key string, f float64) {
	b.put(key, func(x []byte) []byte { return appendFloat(x, f) })
}

// seconds writes a duration of ns nanoseconds.
func (b *body) seconds(key string, ns int64) { b.number(key, float64(ns)/1e9) }

// instant writes a time, or null where it is 0.
func (b *body) instant(key string, t mesh.Nanos) {
	if t == 0 {
		b.null(key)
		return
	}
	b.put(key, func(x []byte) []byte {
		x = append(x, '"')
		return append(appendTime(x, t), '"')
	})
}

// ratio writes a ratio, or null with its reason beside it.
func (b *body) ratio(name string, f float64, reason string) {
	if reason == "" {
		b.number(name+"_ratio", f)
		b.null(name + "_reason")
		return
	}
	b.null(name + "_ratio")
	b.text(name+"_reason", reason)
}

// list writes texts in the order given.
func (b *body) list(key string, items []string) {
	b.put(key, func(x []byte) []byte {
		x = append(x, '[')
		for i, s := range items {
			if i > 0 {
				x = append(x, ',')
			}
			x = appendText(x, s)
		}
		return append(x, ']')
	})
}

// bytes is the object.
func (b *body) bytes() []byte {
	slices.SortFunc(b.cols, func(x, y column) int { return strings.Compare(x.key, y.key) })
	out := make([]byte, 0, len(b.buf)+len(b.cols)*24)
	out = append(out, '{')
	for i, c := range b.cols {
		if i > 0 {
			out = append(out, ',')
		}
		out = append(out, '"')
		out = append(out, c.key...)
		out = append(out, '"', ':')
		out = append(out, b.buf[c.from:c.to]...)
	}
	return append(out, '}')
}

// appendText writes a JSON string.
func appendText(x []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < 0x20 || c >= 0x7f || c == '"' || c == '\\' {
			q, err := json.Marshal(s)
			if err != nil { // a string always marshals
				return append(x, `""`...)
			}
			return append(x, q...)
		}
	}
	x = append(x, '"')
	x = append(x, s...)
	return append(x, '"')
}

// appendFloat writes the shortest number that reads back as f, as encoding/json does.
func appendFloat(x []byte, f float64) []byte {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return append(x, "null"...)
	}
	if a := math.Abs(f); a != 0 && (a < 1e-6 || a >= 1e21) {
		return strconv.AppendFloat(x, f, 'e', -1, 64)
	}
	return strconv.AppendFloat(x, f, 'f', -1, 64)
}
