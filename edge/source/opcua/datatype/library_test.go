package datatype

import (
	"math"
	"reflect"
	"testing"
	"time"

	"github.com/gopcua/opcua/ua"
	"pgregory.net/rapid"

	"plantmesh/edge/source/opcua/publish"
	"plantmesh/proto/mesh"
	"plantmesh/proto/wire"
)

// everything has a field of each kind that the library encodes.
type everything struct {
	Bool    bool
	SByte   int8
	Byte    uint8
	I16     int16
	U16     uint16
	I32     int32
	U32     uint32
	I64     int64
	U64     uint64
	Float   float32
	Double  float64
	Text    string
	At      time.Time
	Bytes   []byte
	Local   *ua.LocalizedText
	Name    *ua.QualifiedName
	Node    *ua.NodeID
	GUID    *ua.GUID
	Code    ua.StatusCode
	State   ua.ServerState
	Any     *ua.Variant
	In      *inside
	Many    []*inside
	Doubles []float64
	Texts   []string
	Locals  []*ua.LocalizedText
	Anys    []*ua.Variant
}

type inside struct {
	A    int32
	More []*ua.Range
}

// draw is a value of a type, at random.
func draw(r *rapid.T, t reflect.Type) reflect.Value {
	v := reflect.New(t).Elem()
	switch t {
	case reflect.TypeFor[time.Time]():
		v.Set(reflect.ValueOf(time.Unix(rapid.Int64Range(-1e9, 5e9).Draw(r, "s"), rapid.Int64Range(0, 9_999_999).Draw(r, "ns")*100).UTC()))
		return v
	case reflect.TypeFor[*ua.NodeID]():
		v.Set(reflect.ValueOf(rapid.SampledFrom([]*ua.NodeID{ua.NewTwoByteNodeID(9), ua.NewNumericNodeID(3, 1<<20), ua.NewStringNodeID(2, "Machine;x"), ua.NewGUIDNodeID(1, "AAAABBBB-CCDD-EEFF-0011-223344556677"), ua.NewByteStringNodeID(4, []byte("x\x00"))}).Draw(r, "node")))
		return v
	case reflect.TypeFor[*ua.GUID]():
		v.Set(reflect.ValueOf(ua.NewGUID("AAAABBBB-CCDD-EEFF-0011-223344556677")))
		return v
	case reflect.TypeFor[*ua.LocalizedText]():
		v.Set(reflect.ValueOf(&ua.LocalizedText{Locale: "de", Text: text(r), EncodingMask: ua.LocalizedTextLocale | ua.LocalizedTextText}))
		return v
	case reflect.TypeFor[*ua.Variant]():
		v.Set(reflect.ValueOf(ua.MustVariant(rapid.SampledFrom([]any{nil, int16(-4), "x", []float64{1, 2}, [][]int32{{1, 2}, {3, 4}, {5, 6}}, true}).Draw(r, "any"))))
		return v
	}
	switch t.Kind() { //nolint:exhaustive // the kinds that fields have
	case reflect.Bool:
		v.SetBool(rapid.Bool().Draw(r, "bool"))
	case reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		v.SetInt(rapid.Int64().Draw(r, "int") >> (64 - t.Bits()))
	case reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		v.SetUint(rapid.Uint64().Draw(r, "uint") >> (64 - t.Bits()))
	case reflect.Float32, reflect.Float64:
		v.SetFloat(rapid.SampledFrom([]float64{0, -1.5, 1e30, math.Inf(1)}).Draw(r, "float"))
	case reflect.String:
		v.SetString(text(r))
	case reflect.Pointer:
		v.Set(draw(r, t.Elem()).Addr())
	case reflect.Slice:
		v.Set(reflect.MakeSlice(t, 0, 3))
		for range rapid.IntRange(0, 3).Draw(r, "n") {
			v.Set(reflect.Append(v, draw(r, t.Elem())))
		}
	case reflect.Struct:
		for i := range t.NumField() {
			if t.Field(i).IsExported() {
				v.Field(i).Set(draw(r, t.Field(i).Type))
			}
		}
	}
	return v
}

func text(r *rapid.T) string {
	return rapid.SampledFrom([]string{"", "a", "läuft", "\x00", string(make([]byte, 300))}).Draw(r, "text")
}

// want is the item that a Go value must become.
func want(v reflect.Value) mesh.Item {
	list := func(kind mesh.Type) mesh.Item {
		i := mesh.Item{Value: mesh.Value{Type: kind}}
		for k := range v.Len() {
			i.Items = append(i.Items, want(v.Index(k)))
		}
		return i
	}
	switch x := v.Interface().(type) {
	case time.Time:
		return mesh.Item{Value: mesh.Text(x.Format(time.RFC3339Nano))}
	case *ua.LocalizedText:
		return mesh.Item{Value: mesh.Text(x.Text)}
	case *ua.QualifiedName:
		return mesh.Item{Value: mesh.Text(x.Name)}
	case *ua.NodeID:
		return mesh.Item{Value: mesh.Text(x.String())}
	case *ua.GUID:
		return mesh.Item{Value: mesh.Text(x.String())}
	case *ua.Variant:
		if x.Value() == nil {
			return mesh.Item{}
		}
		return want(reflect.ValueOf(x.Value()))
	case []byte:
		return mesh.Item{Value: mesh.Value{Type: mesh.TypeBytes, Bytes: x}}
	case []*ua.Variant:
		i := mesh.Item{Value: mesh.Value{Type: mesh.TypeArray}, Of: mesh.TypeStruct}
		for k := range x {
			i.Items = append(i.Items, mesh.Item{Value: mesh.Value{Type: mesh.TypeStruct}, Items: []mesh.Item{want(reflect.ValueOf(x[k]))}})
		}
		return i
	}
	switch v.Kind() {
	case reflect.Bool:
		return mesh.Item{Value: mesh.Bool(v.Bool())}
	case reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return mesh.Item{Value: mesh.Int(v.Int())}
	case reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		if v.Type() == reflect.TypeFor[ua.ServerState]() {
			return mesh.Item{Value: mesh.Int(int64(int32(v.Uint())))}
		}
		return mesh.Item{Value: mesh.Uint(v.Uint())}
	case reflect.Float32, reflect.Float64:
		return mesh.Item{Value: mesh.Double(v.Float())}
	case reflect.String:
		return mesh.Item{Value: mesh.Text(v.String())}
	case reflect.Pointer:
		return want(v.Elem())
	case reflect.Slice:
		i := list(mesh.TypeArray)
		switch e := v.Type().Elem(); {
		case e == reflect.TypeFor[*ua.LocalizedText]():
			i.Of = mesh.TypeString
		case e.Kind() == reflect.Pointer:
			i.Of = mesh.TypeStruct
		default:
			i.Of = want(reflect.New(e).Elem()).Value.Type
		}
		return i
	default:
		i := mesh.Item{Value: mesh.Value{Type: mesh.TypeStruct}}
		for _, f := range v.Fields() {
			i.Items = append(i.Items, want(f))
		}
		return i
	}
}

// object encodes a structure in a Variant, as a server does.
func object(t interface{ Fatal(...any) }, encoding uint32, v any) []byte {
	body, err := ua.Encode(v)
	if err != nil {
		t.Fatal(err)
	}
	b := []byte{publish.TypeExtension, formFour, 1, byte(encoding), byte(encoding >> 8), bodyBinary, byte(len(body)), byte(len(body) >> 8), byte(len(body) >> 16), 0}
	return append(b, body...)
}

// What the library encodes is decoded to the same, by the definitions of the types.
func TestDecoder_ReadsWhatTheLibraryWrites(t *testing.T) {
	for _, of := range []reflect.Type{
		reflect.TypeFor[everything](), reflect.TypeFor[ua.ServerStatusDataType](), reflect.TypeFor[ua.ServerDiagnosticsSummaryDataType](), reflect.TypeFor[ua.EUInformation](), reflect.TypeFor[ua.Argument](),
	} {
		t.Run(of.Name(), func(t *testing.T) {
			s := newSpace()
			node := s.variable("v", s.structOf(of), -1)
			book, shapes := s.shapes(t, node)
			var d Decoder
			d.Use(book)
			rapid.Check(t, func(t *rapid.T) {
				v := draw(t, of)
				b := object(t, s.ids[of]+5000, v.Addr().Interface())
				got, _, err := d.Variant(b, shapes[0])
				if err != nil {
					t.Fatal(err)
				}
				body, expected := wire.AppendItem(nil, got), wire.AppendItem(nil, want(v))
				if string(body) != string(expected) {
					t.Fatalf("%+v\nreads %+v\nwant  %+v", v, got, want(v))
				}
				if len(body) <= wire.MaxText {
					if _, err := wire.ParseItem(body); err != nil {
						t.Fatal(err)
					}
				}
				// Cut anywhere, it is never taken for whole.
				cut := rapid.IntRange(0, len(b)-1).Draw(t, "cut")
				if _, _, err := d.Variant(b[:cut], shapes[0]); err == nil {
					t.Fatalf("cut to %d of %d bytes it is read", cut, len(b))
				}
			})
		})
	}
}
