package datatype

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/gopcua/opcua/id"
	"github.com/gopcua/opcua/ua"

	"plantmesh/edge/source/opcua/publish"
	"plantmesh/proto/mesh"
	"plantmesh/proto/wire"
)

// words is an item as a person would write it.
func words(i mesh.Item) string {
	var parts []string
	for _, x := range i.Items {
		parts = append(parts, words(x))
	}
	switch i.Value.Type {
	case mesh.TypeArray:
		return i.Of.String() + "[" + strings.Join(parts, " ") + "]"
	case mesh.TypeStruct, mesh.TypeEvent:
		return "{" + strings.Join(parts, " ") + "}"
	case mesh.TypeNone:
		return "-"
	case mesh.TypeBool, mesh.TypeInt, mesh.TypeUint, mesh.TypeDouble, mesh.TypeString, mesh.TypeBytes:
	}
	return i.Value.String()
}

func TestDecoder_Variants(t *testing.T) {
	deep := &ua.Variant{}
	for range wire.MaxDepth {
		deep = ua.MustVariant([]*ua.Variant{deep})
	}
	for _, c := range []struct {
		raw  any
		want string // or "!" and part of the error
	}{
		{[]int32{1, -2}, "int[1 -2]"},
		{[]uint16{}, "uint[]"},
		{[]bool{true, false}, "bool[true false]"},
		{[]float32{0.5}, "double[0.5]"},
		{[]string{"a", "x\xff"}, "string[a x\uFFFD]"},
		{[][]int32{{1, 2, 3}, {4, 5, 6}}, "array[int[1 2 3] int[4 5 6]]"},
		{[][][]int16{{{1}, {2}}, {{3}, {4}}, {{5}, {6}}}, "array[array[int[1] int[2]] array[int[3] int[4]] array[int[5] int[6]]]"},
		{[]*ua.LocalizedText{ua.NewLocalizedText("Halt"), {}}, "string[Halt ]"},
		{[]*ua.Variant{ua.MustVariant(2.5), ua.MustVariant([]int32{7})}, "struct[{2.5} {int[7]}]"},
		{[]ua.StatusCode{ua.StatusBad}, "uint[2147483648]"},
		{&ua.DataValue{EncodingMask: ua.DataValueValue | ua.DataValueStatusCode, Value: ua.MustVariant(int32(4)), Status: ua.StatusUncertain}, "4 status 1073741824"},
		{[]*ua.DataValue{{EncodingMask: ua.DataValueValue | ua.DataValueStatusCode, Value: ua.MustVariant(int32(4)), Status: 7}}, "struct[{4 7 - -}]"},
		{make([]byte, wire.MaxItems), "!more than is stored"},
		{make([]bool, wire.MaxItems), "!more than is stored"},
		{deep, "!16 levels"},
		{[]*ua.ExtensionObject{ua.NewExtensionObject(nil)}, "struct[{}]"},
		{ua.NewExtensionObject(&ua.Range{}), "!encoding i=886"},
	} {
		b, err := ua.MustVariant(c.raw).Encode()
		if b2, ok := c.raw.([]byte); ok { // the library makes a ByteString of it
			b, err = append(binary.LittleEndian.AppendUint32([]byte{hasElements | publish.TypeByte}, uint32(len(b2))), b2...), nil
		}
		if err != nil {
			t.Fatal(err)
		}
		var d Decoder
		i, status, err := d.Variant(b, Shape{})
		got := words(i)
		if status != 0 {
			got += fmt.Sprintf(" status %d", status)
		}
		want, bad := strings.CutPrefix(c.want, "!")
		if bad && (err == nil || !strings.Contains(err.Error(), want)) || !bad && (err != nil || got != want) {
			t.Errorf("%.60v is %s, %v; want %s", c.raw, got, err, c.want)
		}
	}
}

// job is a server with structures that the library has no types for.
func job() (s *space, nodes []*ua.NodeID) {
	s = newSpace()
	field := func(name string, of *ua.NodeID, rank int32, optional bool) *ua.StructureField {
		return &ua.StructureField{Name: name, DataType: of, ValueRank: rank, IsOptional: optional}
	}
	def := func(n uint32, kind ua.StructureType, fields ...*ua.StructureField) *ua.NodeID {
		return s.add(n, fmt.Sprintf("T%d", n), zero(id.Structure), &ua.StructureDefinition{DefaultEncodingID: ua.NewNumericNodeID(1, n+5000), StructureType: kind, Fields: fields})
	}
	self := ua.NewNumericNodeID(1, 5)
	state := s.enum(900, "State", zero(id.Enumeration))
	optional := def(1, ua.StructureTypeStructureWithOptionalFields, field("A", zero(id.Byte), -1, true), field("B", zero(id.Byte), -1, false), field("C", zero(id.Byte), -1, true))
	union := def(2, ua.StructureTypeUnion, field("N", state, -1, false), field("S", optional, -1, false))
	subtyped := def(3, ua.StructureTypeStructureWithSubtypedValues, field("X", zero(id.Number), -1, true), field("Y", optional, 1, true), field("Z", zero(id.Byte), -1, false))
	matrix := def(4, ua.StructureTypeStructure, field("M", zero(id.Byte), 2, false), field("E", state, 1, false))
	tree := def(5, ua.StructureTypeStructure, field("V", zero(id.Byte), -1, false), field("T", self, 1, false))
	empty := def(6, ua.StructureTypeStructure)
	empties := def(7, ua.StructureTypeStructure, field("E", empty, 1, false))
	base := def(8, ua.StructureTypeStructure, field("A", zero(id.Byte), -1, false))
	derived := s.add(9, "T9", base, &ua.StructureDefinition{DefaultEncodingID: ua.NewNumericNodeID(1, 5009), Fields: []*ua.StructureField{field("A", zero(id.Byte), -1, false), field("B", zero(id.Byte), -1, false)}})
	old := s.add(10, "T10", zero(id.Structure), nil) // of a server before 1.04
	s.link(old, id.HasEncoding, ua.NewNumericNodeID(1, 5010), "Default Binary")
	holder := def(11, ua.StructureTypeStructure, field("Old", old, -1, false))
	for n, of := range []*ua.NodeID{nil, optional, union, subtyped, matrix, tree, empty, empties, base, derived, old, holder} {
		if of != nil {
			nodes = append(nodes, s.variable(fmt.Sprintf("v%d", n), of, -1))
		}
	}
	return s, append(nodes, s.variable("any", zero(id.Structure), -1))
}

// wrap puts a body into an ExtensionObject, encoding ns=1;i=n+5000, and that into a Variant.
func wrap(n uint32, body ...byte) []byte {
	return append([]byte{publish.TypeExtension}, bare(n, body...)...)
}

func bare(n uint32, body ...byte) []byte {
	b := []byte{formFour, 1, byte(n + 5000), byte((n + 5000) >> 8), bodyBinary, byte(len(body)), byte(len(body) >> 8), 0, 0}
	return append(b, body...)
}

func join(parts ...[]byte) (out []byte) {
	for _, p := range parts {
		out = append(out, p...)
	}
	return out
}

func TestDecoder_Structures(t *testing.T) {
	s, nodes := job()
	book, shapes := s.shapes(t, nodes...)
	tree := []byte{}
	for range wire.MaxDepth {
		tree = join([]byte{1, 1, 0, 0, 0}, tree)
	}
	for _, c := range []struct {
		of   int // node v1 is 1; 12 is any
		b    []byte
		want string
	}{
		{1, wrap(1, 0, 0, 0, 0, 7), "{- 7 -}"},
		{1, wrap(1, 2, 0, 0, 0, 7, 8), "{- 7 8}"},
		{1, wrap(1, 3, 0, 0, 0, 6, 7, 8), "{6 7 8}"},
		{1, wrap(1, 4, 0, 0, 0, 7), "!type T1: the value has optional fields that the definition doesn't know"},
		{1, wrap(1, 0, 0, 0, 0, 7, 9), "!type T1: the value has 1 bytes more than the definition"},
		{1, wrap(1, 0, 0, 0, 0), "!type T1: field B: ends early"},
		{1, wrap(2, 0, 0, 0, 0), "!type T1: the value is a T2, which the node does not announce"},
		{1, wrap(77), "!encoding ns=1;i=5077): the server has not been asked yet"},
		{1, []byte{publish.TypeExtension, 0, 0, bodyNone}, "-"},
		{1, []byte{publish.TypeExtension, 0, 0, 2, 0, 0, 0, 0}, "!in XML"},
		{2, wrap(2, 0, 0, 0, 0), "{- -}"},
		{2, wrap(2, 1, 0, 0, 0, 1, 0, 0, 0), "{1 -}"},
		{2, wrap(2, 2, 0, 0, 0, 1, 0, 0, 0, 5, 6), "{- {5 6 -}}"},
		{2, wrap(2, 3, 0, 0, 0), "!type T2: the value has field 3 of a union of 2"},
		{3, wrap(3, join([]byte{publish.TypeByte, 4}, []byte{2, 0, 0, 0}, bare(1, 0, 0, 0, 0, 7), []byte{0, 0, 0}, []byte{9})...), "{4 struct[{T1 struct[{B 7}]} {}] 9}"},
		{4, wrap(4, 2, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 1, 2, 3, 4, 5, 6, 1, 0, 0, 0, 1, 0, 0, 0), "{array[uint[1 2 3] uint[4 5 6]] int[1]}"},
		{4, wrap(4, 2, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0xFF, 0xFF, 0xFF, 0xFF), "{uint[] int[]}"},
		{4, wrap(4, 2, 0, 0, 0, 0xFF, 0, 0, 0, 0xFF, 0, 0, 0), "!more than is stored"},
		{4, wrap(4, 2, 0, 0, 0, 9, 0, 0, 0, 9, 0, 0, 0), "!a count that can't be"},
		{5, wrap(5, 1, 1, 0, 0, 0, 2, 0, 0, 0, 0), "{1 struct[{2 struct[]}]}"},
		{5, wrap(5, tree...), "!levels deep"},
		{7, wrap(7, 3, 0, 0, 0), "{struct[{} {} {}]}"},
		{7, wrap(7, 0xFF, 0xFF, 0, 0), "!more than is stored"},
		{8, wrap(9, 1, 2), "{1 2}"}, // a subtype has more
		{9, wrap(8, 1), "!type T9: the value is a T8"},
		{10, wrap(10, 1), "!type T10: the server has no DataTypeDefinition"},
		{11, wrap(11, 1), "!type T10: the server has no DataTypeDefinition"},
		{12, wrap(4, 0, 0, 0, 0, 0, 0, 0, 0), "{T4 struct[{M uint[]} {E int[]}]}"},
		{12, wrap(8, 3), "{T8 struct[{A 3}]}"},
		{12, wrap(2, 2, 0, 0, 0, 1, 0, 0, 0, 5, 6), "{T2 struct[{S {T1 struct[{A 5} {B 6}]}}]}"},
		{8, join([]byte{hasElements | publish.TypeExtension, 2, 0, 0, 0}, bare(8, 1), []byte{0, 0, 0}), "struct[{1} {}]"},
	} {
		var d Decoder
		d.Use(book)
		i, _, err := d.Variant(c.b, shapes[c.of-1])
		want, bad := strings.CutPrefix(c.want, "!")
		if bad && (err == nil || !strings.Contains(err.Error(), want)) || !bad && (err != nil || words(i) != want) {
			t.Errorf("v%d % x is %s, %v; want %s", c.of, c.b, words(i), err, c.want)
		}
		if err == nil {
			if _, err := wire.ParseItem(wire.AppendItem(nil, i)); err != nil {
				t.Errorf("v%d % x makes a body that can't be read: %v", c.of, c.b, err)
			}
		}
	}
}

// What a table says of a shape fits what values of it become.
func TestShape_Signal(t *testing.T) {
	s, nodes := job()
	nodes = append(nodes, s.variable("ints", zero(id.Int32), 1), s.variable("states", s.enum(900, "State", zero(id.Enumeration)), 2), s.variable("state", s.enum(900, "State", zero(id.Enumeration)), -1))
	_, shapes := s.shapes(t, nodes...)
	outline := func(kind mesh.Type, shape Shape) string {
		row := shape.Signal(mesh.Signal{Type: kind, Unit: "CEL"})
		var say func([]mesh.Field) string
		say = func(in []mesh.Field) string {
			var out []string
			for _, f := range in {
				x := f.Name + ":" + f.Type.String() + f.Unit
				if f.Choices != nil {
					x += "#" + f.Choices.Name
				}
				if len(f.Fields) > 0 {
					x += "(" + say(f.Fields) + ")"
				}
				out = append(out, x)
			}
			return strings.Join(out, " ")
		}
		out := say(row.Fields)
		if row.Choices != nil {
			out += "#" + row.Choices.Name
		}
		return out
	}
	shapes = append(shapes, Shape{})
	told := "type:string fields:array(:struct(name:string value:none))"
	for _, c := range []struct {
		of   int
		kind mesh.Type
		want string
	}{
		{1, mesh.TypeStruct, "A:uint B:uint C:uint"},
		{2, mesh.TypeStruct, "N:int#State S:struct(A:uint B:uint C:uint)"},
		{3, mesh.TypeStruct, "X:none Y:array(:struct(" + told + ")) Z:uint"},
		{4, mesh.TypeStruct, "M:array(:array(:uint)) E:array(:int#State)"},
		{5, mesh.TypeStruct, "V:uint T:array(:struct)"}, // itself again
		{1, mesh.TypeArray, ":structCEL(A:uint B:uint C:uint)"},
		{12, mesh.TypeStruct, told},
		{13, mesh.TypeArray, ":intCEL"},
		{14, mesh.TypeArray, ":array(:intCEL#State)"},
		{15, mesh.TypeInt, "#State"},
		{16, mesh.TypeStruct, told}, // nothing is known
		{16, mesh.TypeInt, ""},
	} {
		if got := outline(c.kind, shapes[c.of-1]); got != c.want {
			t.Errorf("v%d as %s is %s, want %s", c.of, c.kind, got, c.want)
		}
	}
}

// FuzzDecoder: whatever comes, nothing panics, and what is made can be read again.
func FuzzDecoder(f *testing.F) {
	s, nodes := job()
	book := NewBook()
	shapes, err := book.Shapes(f.Context(), s, nodes)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(uint8(0), wrap(1, 3, 0, 0, 0, 6, 7, 8))
	f.Add(uint8(2), wrap(3, join([]byte{publish.TypeByte, 4}, []byte{2, 0, 0, 0}, bare(1, 0, 0, 0, 0, 7), []byte{0, 0, 0}, []byte{9})...))
	f.Add(uint8(3), wrap(4, 2, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 1, 2, 3, 4, 5, 6, 1, 0, 0, 0, 1, 0, 0, 0))
	f.Add(uint8(11), wrap(2, 2, 0, 0, 0, 1, 0, 0, 0, 5, 6))
	for _, v := range []any{[][]int32{{1, 2}, {3, 4}}, []*ua.Variant{ua.MustVariant("x")}, &ua.DataValue{EncodingMask: ua.DataValueValue, Value: ua.MustVariant([]float64{1})}, ua.NewNumericNodeID(1, 2)} {
		b, err := ua.MustVariant(v).Encode()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(uint8(40), b)
	}
	var d Decoder
	d.Use(book)
	f.Fuzz(func(t *testing.T, of uint8, b []byte) {
		var shape Shape
		if int(of) < len(shapes) {
			shape = shapes[of]
		}
		i, _, err := d.Variant(b, shape)
		if err != nil {
			return
		}
		body := wire.AppendItem(nil, i)
		if len(body) > 64*(len(b)+1) && len(body) > wire.MaxText {
			t.Fatalf("%d bytes became %d", len(b), len(body))
		}
		if len(body) > wire.MaxText {
			return
		}
		if back, err := wire.ParseItem(body); err != nil || words(back) != words(i) {
			t.Fatalf("%s reads %s, %v", words(i), words(back), err)
		}
	})
}

func TestDecoder_SteadyValuesTakeLittleMemory(t *testing.T) {
	b, err := ua.MustVariant(make([]float64, 1000)).Encode()
	if err != nil {
		t.Fatal(err)
	}
	var d Decoder
	shape := Shape{Type: NewBook().types[number(id.Double)], Rank: 1}
	if n := testing.AllocsPerRun(100, func() {
		if _, _, err := d.Variant(b, shape); err != nil {
			t.Fatal(err)
		}
	}); n > 0 {
		t.Errorf("%v allocations for an array", n)
	}
}

func BenchmarkDecoder(b *testing.B) {
	array, err := ua.MustVariant(make([]float64, 1000)).Encode()
	if err != nil {
		b.Fatal(err)
	}
	s, nodes := job()
	book := NewBook()
	shapes, err := book.Shapes(b.Context(), s, nodes)
	if err != nil {
		b.Fatal(err)
	}
	for name, c := range map[string]struct {
		b []byte
		s Shape
	}{
		"array of 1000": {array, Shape{Type: book.types[number(id.Double)], Rank: 1}},
		"structure":     {wrap(2, 2, 0, 0, 0, 1, 0, 0, 0, 5, 6), shapes[1]},
	} {
		b.Run(name, func(b *testing.B) {
			var d Decoder
			d.Use(book)
			b.ReportAllocs()
			for b.Loop() {
				if _, _, err := d.Variant(c.b, c.s); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

var errCut = errors.New("the connection is gone")
