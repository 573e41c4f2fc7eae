package measure

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/gopcua/opcua/id"
	"github.com/gopcua/opcua/ua"
)

// call is a CallResponse whose only output argument is v, encoded.
func call(v []byte) []byte {
	b := header(715)
	b = append(b, 1, 0, 0, 0)                // results
	b = append(b, 0, 0, 0, 0)                // good
	b = append(b, 0xff, 0xff, 0xff, 0xff)    // of the input arguments
	b = append(b, 0xff, 0xff, 0xff, 0xff)    // diagnostics of those
	b = append(append(b, 1, 0, 0, 0), v...)  // output arguments
	return append(b, 0xff, 0xff, 0xff, 0xff) // diagnostics
}

// header is a type id and a ResponseHeader.
func header(id uint16) []byte {
	b := append([]byte{1, 0, byte(id), byte(id >> 8)}, make([]byte, 8+4+4)...)
	return append(b, 0, 0, 0, 0, 0, 0, 0, 0) // no diagnostics, no texts, nothing else
}

func u32(b []byte, n uint32) []byte { return binary.LittleEndian.AppendUint32(b, n) }

// nested is b between n of before and after.
func nested(n int, before, b, after []byte) []byte {
	return append(append(bytes.Repeat(before, n), b...), bytes.Repeat(after, n)...)
}

// objects are filters whose operands are filters: extension objects in each other.
func objects(n int) []byte {
	b := []byte{0, 0, 0}
	for range n {
		body := append(u32([]byte{0, 0, 0, 0}, 1), b...) // an operator, then operands
		const element = id.ContentFilterElement_Encoding_DefaultBinary
		b = append(u32([]byte{1, 0, element & 0xff, element >> 8, 1}, uint32(len(body))), body...)
	}
	return b
}

// TestAnswer_Bombs: each is refused for what it is, fast, and nothing grows.
func TestAnswer_Bombs(t *testing.T) {
	const much = 2 << 20
	for name, c := range map[string]struct {
		b    []byte
		want error
	}{
		"variants in a variant, 2 MB":        {call(nested(much, []byte{24}, []byte{1, 1}, nil)), ErrDeep},
		"data values in a variant, 2 MB":     {call(nested(much/2, []byte{23, 1}, []byte{1, 1}, nil)), ErrDeep},
		"diagnostics in diagnostics, 2 MB":   {call(append([]byte{25}, bytes.Repeat([]byte{0x40}, much)...)), ErrDeep},
		"arrays of variants, each of 65,535": {call(nested(1000, []byte{24 | 0x80, 0xff, 0xff, 0, 0}, []byte{1, 1}, nil)), ErrCount},
		"arrays of variants in arrays":       {call(nested(much/5, []byte{24 | 0x80, 1, 0, 0, 0}, []byte{1, 1}, nil)), ErrDeep},
		"objects in objects":                 {call(append([]byte{22}, objects(200)...)), ErrDeep},
		"-2 elements":                        {call(u32([]byte{6 | 0x80}, math.MaxUint32-1)), ErrCount},
		"2^31 elements":                      {call(u32([]byte{6 | 0x80}, math.MaxInt32)), ErrCount},
		"50 million dimensions":              {call(u32(append(u32([]byte{6 | 0xc0}, 1), 0, 0, 0, 0), 50_000_000)), ErrForm},
		"dimensions of more than there is":   {call(append(u32([]byte{6 | 0xc0}, 1), 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0)), ErrForm},
		"dimensions of zero":                 {call(append(u32([]byte{6 | 0xc0}, 0), 1, 0, 0, 0, 0, 0, 0, 0)), ErrForm},
		"a text of 2^31":                     {call(u32([]byte{12}, math.MaxInt32)), ErrShort},
		"a text of -2":                       {call(u32([]byte{12}, math.MaxUint32-1)), ErrCount},
		"a type of variant that is none":     {call([]byte{26}), ErrKind},
		"2^31 results":                       {u32(header(715), math.MaxInt32), ErrCount},
		"a million empty results":            {append(u32(header(634), 15<<20), make([]byte, 15<<20)...), ErrLarge},
		"a million empty diagnostics":        {append(u32(append(header(715), 0, 0, 0, 0), 15<<20), make([]byte, 15<<20)...), ErrLarge},
		"a million endpoints":                {append(u32(header(431), 1<<20), make([]byte, 15<<20)...), ErrLarge},
	} {
		t.Run(name, func(t *testing.T) {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			began := time.Now()
			err := Answer(c.b)
			took := time.Since(began)
			runtime.ReadMemStats(&after)
			if !errors.Is(err, c.want) {
				t.Errorf("%v, want %v", err, c.want)
			}
			if grown := after.TotalAlloc - before.TotalAlloc; grown > 1<<20 || took > 10*time.Second {
				t.Errorf("%d bytes in %s", grown, took)
			}
		})
	}
}

// services are the answers that the library knows.
func services() (out []reflect.Type) {
	for id := range uint16(1000) {
		_, v, _ := ua.DecodeService([]byte{1, 0, byte(id), byte(id >> 8)})
		if r, ok := v.(ua.Response); ok {
			out = append(out, reflect.TypeOf(r))
		}
	}
	return out
}

// filler makes values as a well-meaning server would send them.
type filler struct {
	*rand.Rand

	depth int
}

func (f *filler) fill(v reflect.Value) {
	f.depth++
	defer func() { f.depth-- }()
	if x := f.special(v.Type()); x != nil {
		v.Set(reflect.ValueOf(x))
		return
	}
	switch v.Kind() {
	case reflect.Bool:
		v.SetBool(f.IntN(2) == 1)
	case reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		v.SetInt(int64(f.IntN(100)))
	case reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		v.SetUint(uint64(f.IntN(100)))
	case reflect.Float32, reflect.Float64:
		v.SetFloat(f.Float64())
	case reflect.String:
		v.SetString(strings.Repeat("ä", f.IntN(9)))
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		f.fill(v.Elem())
	case reflect.Slice:
		if f.depth > 6 {
			return
		}
		v.Set(reflect.MakeSlice(v.Type(), f.IntN(4), 4))
		for i := range v.Len() {
			f.fill(v.Index(i))
		}
	case reflect.Struct:
		for _, field := range v.Fields() {
			f.fill(field)
		}
	default:
		panic(v.Type().String())
	}
}

func (f *filler) special(t reflect.Type) any {
	switch t {
	case reflect.TypeFor[time.Time]():
		return time.Unix(int64(f.IntN(1<<30)), 0).UTC()
	case reflect.TypeFor[*ua.NodeID]():
		return []*ua.NodeID{
			ua.NewTwoByteNodeID(3), ua.NewFourByteNodeID(1, 300), ua.NewNumericNodeID(2, 70_000), ua.NewStringNodeID(2, "x"), ua.NewByteStringNodeID(3, []byte("opaque")),
			ua.NewGUIDNodeID(1, "72962B91-FA75-4AE6-8D28-B404DC7DAF63"),
		}[f.IntN(6)]
	case reflect.TypeFor[*ua.ExpandedNodeID]():
		return ua.NewExpandedNodeID(ua.NewNumericNodeID(2, 4), []string{"", "urn:x"}[f.IntN(2)], uint32(f.IntN(2)))
	case reflect.TypeFor[*ua.GUID]():
		return ua.NewGUID("72962B91-FA75-4AE6-8D28-B404DC7DAF63")
	case reflect.TypeFor[*ua.LocalizedText]():
		return ua.NewLocalizedTextWithLocale("Druck", "de")
	case reflect.TypeFor[*ua.DiagnosticInfo]():
		d := &ua.DiagnosticInfo{SymbolicID: 1, LocalizedText: 3, AdditionalInfo: "x", InnerStatusCode: 7}
		if f.IntN(2) == 0 {
			d.InnerDiagnosticInfo = &ua.DiagnosticInfo{NamespaceURI: 3}
		}
		d.UpdateMask()
		return d
	case reflect.TypeFor[*ua.ExtensionObject]():
		return []*ua.ExtensionObject{
			ua.NewExtensionObject(nil), ua.NewExtensionObject(&ua.EUInformation{DisplayName: ua.NewLocalizedText("bar"), Description: ua.NewLocalizedText("")}),
			ua.NewExtensionObject(&ua.Argument{Name: "x", DataType: ua.NewTwoByteNodeID(1), Description: ua.NewLocalizedText("y"), ArrayDimensions: []uint32{1}}),
			{TypeID: ua.NewFourByteExpandedNodeID(4, 4), EncodingMask: ua.ExtensionObjectBinary, Value: []byte("unknown")},
		}[f.IntN(4)]
	case reflect.TypeFor[*ua.DataValue]():
		d := &ua.DataValue{Value: f.variant(), Status: 3, SourceTimestamp: time.Unix(1, 0), ServerPicoseconds: 4}
		d.UpdateMask()
		return d
	case reflect.TypeFor[*ua.Variant]():
		return f.variant()
	}
	return nil
}

func (f *filler) variant() *ua.Variant {
	values := []any{
		nil, true, int8(1), uint8(1), int16(-3), uint16(4), int32(1), uint32(2), int64(3), uint64(4), float32(1), 2.5, "text", time.Unix(5, 0), ua.NewGUID("72962B91-FA75-4AE6-8D28-B404DC7DAF63"),
		[]byte("bytes"), ua.XMLElement("<a/>"), ua.NewStringNodeID(1, "y"), ua.NewTwoByteExpandedNodeID(1), ua.StatusBad, &ua.QualifiedName{NamespaceIndex: 1, Name: "q"},
		ua.NewLocalizedText("z"), ua.NewExtensionObject(&ua.Range{Low: 1}), &ua.DataValue{EncodingMask: 1, Value: ua.MustVariant(int32(3))}, ua.MustVariant(ua.MustVariant("in")), &ua.DiagnosticInfo{EncodingMask: 0x40, InnerDiagnosticInfo: &ua.DiagnosticInfo{}},
		[]float64{1, 2, 3},
		[]string{"a", ""},
		[][]int32{{1, 2}, {3, 4}},
		[]*ua.Variant{ua.MustVariant(true), ua.MustVariant([]string{"x"})},
		[]*ua.ExtensionObject{ua.NewExtensionObject(&ua.Range{})},
		ua.ByteArray{1, 2},
		[]bool{},
		[]*ua.DataValue{{EncodingMask: 1, Value: ua.MustVariant(1.5)}},
		[]*ua.LocalizedText{ua.NewLocalizedText("a")},
		[]*ua.NodeID{ua.NewTwoByteNodeID(9)},
	}
	return ua.MustVariant(values[f.IntN(len(values))])
}

// TestAnswer_WhatServersSend is accepted, of every service, to the last byte.
func TestAnswer_WhatServersSend(t *testing.T) {
	all := services()
	if len(all) < 30 {
		t.Fatalf("%d services", len(all))
	}
	f := filler{Rand: rand.New(rand.NewPCG(1, 2))}
	for _, typ := range all {
		for n := range 50 {
			v := reflect.New(typ.Elem())
			f.fill(v.Elem())
			r := v.Interface().(ua.Response)
			b, err := ua.Encode(r)
			if err != nil {
				t.Fatalf("%s: %v", typ, err)
			}
			kind := ua.ServiceTypeID(r)
			b = append([]byte{1, 0, byte(kind), byte(kind >> 8)}, b...)
			w := walker{b: b, room: Bytes}
			w.expandedNodeID()
			w.pointed(serviceType(b[:w.pos]))
			if w.err != nil || w.pos != len(b) {
				t.Fatalf("%s %d: %v at %d of %d", typ, n, w.err, w.pos, len(b))
			}
			if _, _, err := ua.DecodeService(b); err != nil {
				t.Fatalf("%s: the library can't read its own: %v", typ, err)
			}
			for cut := 4; cut < len(b); cut += 1 + len(b)/40 {
				if err := Answer(b[:cut]); err == nil {
					t.Fatalf("%s cut at %d of %d is accepted", typ, cut, len(b))
				}
			}
		}
	}
}

// large is what an answer may take of memory in the library: what is counted here,
// and what the library makes on the way and throws away.
const large = 6 * Bytes

// FuzzAnswer: what is accepted here the library decodes within bounds.
func FuzzAnswer(f *testing.F) {
	f.Add(call(nested(10, []byte{24}, []byte{1, 1}, nil)))
	f.Add(call(append([]byte{22}, objects(5)...)))
	f.Add(u32(header(634), 4))
	f.Add(call(append(u32([]byte{6 | 0xc0}, 2), 1, 0, 0, 0, 2, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0)))
	fill := filler{Rand: rand.New(rand.NewPCG(3, 4))}
	for _, typ := range services() {
		v := reflect.New(typ.Elem())
		fill.fill(v.Elem())
		r := v.Interface().(ua.Response)
		b, err := ua.Encode(r)
		if err != nil {
			f.Fatal(err)
		}
		kind := ua.ServiceTypeID(r)
		f.Add(append([]byte{1, 0, byte(kind), byte(kind >> 8)}, b...))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if Answer(b) != nil {
			return
		}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		if err := library(b); err != nil {
			t.Error(err)
		}
		runtime.ReadMemStats(&after)
		if grown := after.TotalAlloc - before.TotalAlloc; grown > large {
			t.Errorf("%d bytes for %d", grown, len(b))
		}
	})
}

// library decodes, and says where it panics.
func library(b []byte) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("the library panics: %v", p)
		}
	}()
	_, _, _ = ua.DecodeService(b)
	return nil
}

// TestAnswer_TheLargestAccepted: what just fits here fits a worker's memory.
func TestAnswer_TheLargestAccepted(t *testing.T) {
	if testing.Short() {
		t.Skip("skipped: it decodes half a gigabyte; it runs without -short")
	}
	element := map[string]struct {
		id    uint16
		piece []byte
	}{
		"data values":  {634, []byte{0}},
		"references":   {530, nil}, // of a browse result
		"diagnostics":  {715, []byte{0}},
		"status codes": {676, []byte{0, 0, 0, 0}},
	}
	for name, c := range element {
		t.Run(name, func(t *testing.T) {
			message := func(n int) []byte {
				switch c.id {
				case 530:
					// A result: status, no continuation point, n references of the fewest bytes.
					reference := []byte{0, 0, 1, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0}
					b := append(u32(header(530), 1), 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff)
					b = append(u32(b, uint32(n)), bytes.Repeat(reference, n)...)
					return append(b, 0xff, 0xff, 0xff, 0xff)
				case 715:
					return append(u32(append(header(715), 0, 0, 0, 0), uint32(n)), bytes.Repeat(c.piece, n)...)
				}
				b := append(u32(header(c.id), uint32(n)), bytes.Repeat(c.piece, n)...)
				return append(b, 0xff, 0xff, 0xff, 0xff)
			}
			n := 1
			for step := 1 << 22; step > 1<<15; step /= 2 {
				if b := message(n + step); len(b) <= 16<<20 && Answer(b) == nil {
					n += step
				}
			}
			b := message(n)
			if err := Answer(b); err != nil {
				t.Fatal(err)
			}
			var before, after runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&before)
			_, v, err := ua.DecodeService(b)
			if err != nil {
				t.Fatal(err)
			}
			runtime.GC()
			runtime.ReadMemStats(&after)
			runtime.KeepAlive(v)
			held := int64(after.HeapAlloc) - int64(before.HeapAlloc)
			t.Logf("%d of them in %d bytes: %d MiB held", n, len(b), held>>20)
			if held > Bytes*3/2 {
				t.Errorf("%d bytes are held, counted were at most %d", held, Bytes)
			}
			if name == "references" && n < 50_000 {
				t.Errorf("only %d references are accepted", n)
			}
		})
	}
}
