package mapping

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"plantmesh/proto/mesh"
	"plantmesh/proto/subject"
)

// plainValue is a document as encoding/json gives it, with json.Number.
func (d *document) plainValue(at int) any {
	n := &d.nodes[at]
	switch n.kind {
	case truth, falsity:
		return n.kind == truth
	case number:
		return json.Number(d.raw(n.at))
	case text:
		return string(unescape(nil, d.raw(n.at)))
	case array:
		out := []any{}
		for c := at + 1; c < int(n.next); c = int(d.nodes[c].next) {
			out = append(out, d.plainValue(c))
		}
		return out
	case object:
		out := map[string]any{}
		for c := at + 1; c < int(n.next); c = int(d.nodes[c].next) {
			out[string(unescape(nil, d.raw(d.nodes[c].key)))] = d.plainValue(c)
		}
		return out
	case null:
	}
	return nil
}

// depthOf is how deep a valid document is nested.
func depthOf(b []byte) (deepest int) {
	depth, quoted := 0, false
	for i := 0; i < len(b); i++ {
		switch {
		case quoted && b[i] == '\\':
			i++
		case b[i] == '"':
			quoted = !quoted
		case quoted:
		case b[i] == '[' || b[i] == '{':
			depth++
			deepest = max(deepest, depth)
		case b[i] == ']' || b[i] == '}':
			depth--
		}
	}
	return deepest
}

// The scanner takes what encoding/json takes, less what is no UTF-8, too deep or too
// many, and makes the same of it.
func FuzzDocument_AsTheLibrary(f *testing.F) {
	for _, s := range []string{
		`{"ts":1767268800000,"speed":1.5,"order":"x","blocked":true,"produced":null}`, `{"ts":1e300}`, ` [1 , -0.5e-3,[ ],{ } ,"\ud83c\udf7a\ud83c \u0000\/"] `,
		`01`, `1.`, `.5`, `-`, `1e`, `+1`, `[1,]`, `{"a":1,}`, `{"a"}`, `{a:1}`, `"\x"`, `"\u12"`, `nul`, `nullx`, `NaN`, `-Infinity`, `[]]`, "\"\n\"", "\ufeff1", "\"\xff\"",
		`18446744073709551616`, `0.00000000000000000000001`, `123456789012345678901234567890e-10`, `{"a":1,"a":2}`, strings.Repeat("[", 17) + strings.Repeat("]", 17), `9007199254740993`, `1e23`, `8.5e-300`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var d document
		err := d.parse(b)
		var want any
		lib := json.NewDecoder(bytes.NewReader(b))
		lib.UseNumber()
		libErr := lib.Decode(&want)
		if libErr == nil {
			if _, more := lib.Token(); !errors.Is(more, io.EOF) {
				libErr = errNotJSON
			}
		}
		switch {
		case libErr == nil && !utf8.Valid(b):
			if !errors.Is(err, errNotUTF8) {
				t.Fatalf("%q: %v, want that it is no UTF-8", b, err)
			}
			return
		case libErr == nil && depthOf(b) > maxDepth:
			if !errors.Is(err, errTooDeep) && !errors.Is(err, errTooMany) {
				t.Fatalf("%q: %v, want that it is too deep", b, err)
			}
			return
		case errors.Is(err, errTooMany):
			if bytes.Count(b, []byte(","))+depthOf(b) < maxValues/2 {
				t.Fatalf("%q has not so many values", b)
			}
			return
		case (err == nil) != (libErr == nil):
			t.Fatalf("%q: %v, encoding/json says %v", b, err, libErr)
		case err != nil:
			return
		}
		got, _ := json.Marshal(d.plainValue(0))
		if same, _ := json.Marshal(want); !bytes.Equal(got, same) {
			t.Fatalf("%q: got %s, want %s", b, got, same)
		}
		for i := range d.nodes {
			if d.nodes[i].kind == number {
				sameNumber(t, &d, &d.nodes[i])
			}
		}
	})
}

// sameNumber compares with strconv.
func sameNumber(t *testing.T, d *document, n *node) {
	t.Helper()
	raw := string(d.raw(n.at))
	f, err := strconv.ParseFloat(raw, 64)
	got, gotErr := d.number64(n, mesh.TypeDouble)
	if (err != nil) != (gotErr != nil) || err == nil && math.Float64bits(f) != got.Bits {
		t.Fatalf("%s: double %v %v, want %v %v", raw, got, gotErr, f, err)
	}
	if i, err := strconv.ParseInt(raw, 10, 64); err == nil {
		if got, err := d.number64(n, mesh.TypeInt); err != nil || got.Compare(mesh.Int(i)) != 0 {
			t.Fatalf("%s: int %v %v", raw, got, err)
		}
	}
	if u, err := strconv.ParseUint(raw, 10, 64); err == nil {
		if got, err := d.number64(n, mesh.TypeUint); err != nil || got.Compare(mesh.Uint(u)) != 0 {
			t.Fatalf("%s: uint %v %v", raw, got, err)
		}
	}
	if v, err := d.number64(n, mesh.TypeInt); err == nil && math.Abs(f) < 1<<53 && float64(int64(v.Bits)) != f {
		t.Fatalf("%s: int %v of %v", raw, v, f)
	}
}

// Whatever a payload says, a reading holds together.
func FuzzMapper_Read(f *testing.F) {
	f.Add("a/m", []byte(`{"ts":1767268800000,"speed":1.5,"order":"x","blocked":true,"produced":null,"q":192,"n":1}`))
	f.Add("b/m", []byte(`{"d":[{"k":"x","v":1,"t":"2026-01-01T12:00:00Z","q":"bad"},{"k":"x","v":[1,{"y":2}]}]}`))
	f.Add("c/\xff", []byte(`12.5`))
	f.Fuzz(func(t *testing.T, topic string, b []byte) {
		m := mapper(t, `
topics:
  - {filter: "a/+", signal: "{1}.{key}", time: ts, time_unit: auto, quality: {path: q, as: opcda}, sequence: n}
  - {filter: "b/{m}", signal: "{m}.{key}.{path}", value: "d[*]", key: "d[*].k", time: "d[*].t", time_unit: auto, time_zone: Europe/Vienna, quality: {path: "d[*].q", as: opcua}}
  - {filter: "c/{m}", signal: "{m}", payload: plain}
signals:
  - {name: m.speed, type: double}
  - {name: m.order, type: string}
  - {name: m.blocked, type: bool}
  - {name: m.produced, type: int}
  - {name: "{m}.{k}", type: uint}
  - {name: "{m}.{k}.{path}", type: double}
  - {name: "{m}", type: string}
max_signals: 50
`)
		r := m.Route([]byte(topic))
		if r == nil {
			return
		}
		var out Reading
		for range 2 {
			m.Read(r, b, noon, &out)
			for _, x := range out.Flaws {
				if x.Fault == nil || x.Count < 1 {
					t.Errorf("flaw %+v", x)
				}
			}
			if out.Lost && len(out.Flaws) == 0 {
				t.Error("lost, and no reason")
			}
			for _, s := range out.Samples {
				if s.Time < earliest || s.Time > latest {
					t.Errorf("time %v", s.Time)
				}
			}
		}
		names := map[string]bool{}
		for _, s := range m.Table() {
			if names[s.Name] || !utf8.ValidString(s.Name) || len(s.Name) > 1024 {
				t.Errorf("name %q", s.Name)
			}
			names[s.Name] = true
			if s.ID < 4 {
				continue
			}
			for token := range strings.SplitSeq(s.Name, ".") {
				if _, ok := subject.Unescape(token); !ok {
					t.Errorf("token %q of %q comes from nothing", token, s.Name)
				}
			}
		}
	})
}

// Different places have different names, whatever stands there.
func FuzzTemplate_NamesTellApart(f *testing.F) {
	f.Add("a", "b", "a.b", "")
	f.Add("a%2E", "x\x01", "é", "\xff")
	f.Fuzz(func(t *testing.T, line1, key1, line2, key2 string) {
		m := mapper(t, `
topics: [{filter: "p/{line}/{machine}", signal: "{line}.m{machine}.{path}"}]
signals: [{name: "{a}.{b}.{path}", type: int}]
`)
		name := func(line, machine, one, two string) (string, bool) {
			if strings.Contains(line+machine, "/") || len(line)+len(machine) > 200 || len(one)+len(two) > 100 {
				return "", false
			}
			payload, err := json.Marshal(map[string]any{one: map[string]any{two: 1}})
			if err != nil || !utf8.ValidString(one+two) {
				return "", false
			}
			var out Reading
			m.Read(m.Route([]byte("p/"+line+"/"+machine)), payload, noon, &out)
			if len(out.Samples) != 1 {
				t.Fatalf("%q %q %s: %+v", line, machine, payload, out)
			}
			table := m.Table()
			return table[out.Samples[0].Signal-1].Name, true
		}
		seen := map[string][4]string{}
		for _, p := range [][4]string{{line1, line2, key1, key2}, {line2, line1, key1, key2}, {line1, line2, key2, key1}, {line1 + line2, "", key1 + key2, ""}, {line1, line2, key1 + "." + key2, ""}, {"", line1 + line2, "", key1 + key2}} {
			n, ok := name(p[0], p[1], p[2], p[3])
			if !ok {
				continue
			}
			if o, there := seen[n]; there && o != p {
				t.Fatalf("%q and %q are both %q", o, p, n)
			}
			seen[n] = p
		}
	})
}

// Numbers as devices print them are rounded as strconv rounds them.
func TestNumber_RoundsOnce(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 20_000 {
		f := math.Float64frombits(r.Uint64())
		if math.IsNaN(f) || math.IsInf(f, 0) {
			continue
		}
		m := r.Uint64() >> r.IntN(64)
		for _, s := range []string{
			strconv.FormatFloat(f, 'g', -1, 64), strconv.FormatFloat(r.NormFloat64()*1000, 'f', -1, 64), strconv.FormatFloat(r.NormFloat64(), 'f', r.IntN(25), 64),
			strconv.FormatUint(m, 10), fmt.Sprintf("%de-%d", m, r.IntN(25)), fmt.Sprintf("-%d.%d", r.IntN(1000), r.Uint64()),
			fmt.Sprintf("%d.5e-1", 1<<53+m>>12), // halves
		} {
			var d document
			if err := d.parse([]byte(s)); err != nil {
				t.Fatalf("%s: %v", s, err)
			}
			sameNumber(t, &d, &d.nodes[0])
		}
	}
}

func TestDocument_Bounds(t *testing.T) {
	deep := func(n int) string { return strings.Repeat("[", n) + strings.Repeat("]", n) }
	many := func(n int) string { return "[" + strings.TrimSuffix(strings.Repeat("1,", n), ",") + "]" }
	for _, c := range []struct {
		payload string
		want    error
	}{
		{deep(maxDepth), nil},
		{deep(maxDepth + 1), errTooDeep},
		{deep(1_000_000), errTooDeep},
		{many(maxValues - 1), nil},
		{many(maxValues), errTooMany},
		{"\"\xff\"", errNotUTF8},
		{"{\"\xc3\x28\":1}", errNotUTF8},
		{"\xff", errNotUTF8},
		{"1 \x00", errNotJSON},
	} {
		var d document
		if err := d.parse([]byte(c.payload)); !errors.Is(err, c.want) {
			t.Errorf("%.40q: %v, want %v", c.payload, err, c.want)
		}
	}
}
