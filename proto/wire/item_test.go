package wire

import (
	"errors"
	"reflect"
	"testing"

	"pgregory.net/rapid"

	"plantmesh/proto/mesh"
)

// items draws an item of type t, or of any type where t is 0.
func items(t mesh.Type, depth int) *rapid.Generator[mesh.Item] {
	return rapid.Custom(func(r *rapid.T) mesh.Item {
		kind := t
		if kind == 0 {
			kind = mesh.Type(rapid.IntRange(1, 9).Draw(r, "type"))
		}
		if depth == 0 && kind >= mesh.TypeArray {
			rapid.Bool().Draw(r, "empty") // rapid wants each generator to draw
			return mesh.Item{Value: mesh.Value{Type: kind}, Of: map[bool]mesh.Type{true: mesh.TypeInt}[kind == mesh.TypeArray]}
		}
		switch kind {
		case mesh.TypeArray:
			of := mesh.Type(rapid.IntRange(1, 9).Draw(r, "of"))
			return mesh.Item{Value: mesh.Value{Type: kind}, Of: of, Items: rapid.SliceOfN(items(of, depth-1), 1, 4).Draw(r, "items")}
		case mesh.TypeStruct, mesh.TypeEvent:
			return mesh.Item{Value: mesh.Value{Type: kind}, Items: rapid.SliceOfN(items(0, depth-1), 1, 4).Draw(r, "fields")}
		case mesh.TypeBool:
			return mesh.Item{Value: mesh.Bool(rapid.Bool().Draw(r, "bool"))}
		case mesh.TypeString, mesh.TypeBytes:
			return mesh.Item{Value: mesh.Value{Type: kind, Bytes: rapid.SliceOfN(rapid.Byte(), 1, 9).Draw(r, "bytes")}}
		default:
			return mesh.Item{Value: mesh.Value{Type: kind, Bits: rapid.Uint64().Draw(r, "bits")}}
		}
	})
}

func TestItem_ParseOfAppendIsIdentity(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := items(0, 3).Draw(t, "item")
		b := AppendItem(nil, want)
		got, err := ParseItem(b)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Fatalf("%x reads %+v, %v; want %+v", b, got, err, want)
		}
		for i := range b { // cut anywhere, it is never taken for whole
			if _, err := ParseItem(b[:i]); err == nil {
				t.Fatalf("%x, cut to %d bytes, is read", b, i)
			}
		}
	})
}

func TestItem_RefusesWhatIsTooDeepOrTooMuch(t *testing.T) {
	deep := mesh.Item{Value: mesh.Value{Type: mesh.TypeStruct}}
	for range MaxDepth {
		deep = mesh.Item{Value: mesh.Value{Type: mesh.TypeStruct}, Items: []mesh.Item{deep}}
	}
	for name, b := range map[string][]byte{
		"too deep":            AppendItem(nil, deep),
		"arrays of arrays":    append([]byte{byte(mesh.TypeArray)}, repeat([]byte{byte(mesh.TypeArray), 1}, 100_000)...),
		"more than it may be": {byte(mesh.TypeArray), byte(mesh.TypeNone), 0xFF, 0xFF, 0xFF, 0x7F},
		"much of nothing":     {byte(mesh.TypeArray), byte(mesh.TypeNone), 0x80, 0x80, 0x01},
	} {
		if _, err := ParseItem(b); !errors.Is(err, ErrLimit) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func repeat(b []byte, n int) (out []byte) {
	for range n {
		out = append(out, b...)
	}
	return out
}
