// Package datatype reads what the values of an OPC UA server's nodes are made of:
// structures and enumerations by their DataTypeDefinition (OPC 10000-3 §8.48),
// once per connect, into a Book. A Decoder makes items of mesh values by it, from
// the bytes that package publish leaves (OPC 10000-6 §5.2). Whatever a server
// says, the types kept and the items made are bounded in number, depth and size.
package datatype

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/gopcua/opcua/ua"

	"plantmesh/edge/source/opcua/publish"
	"plantmesh/proto/mesh"
	"plantmesh/proto/wire"
)

// Limits of what is kept of a server's types.
const (
	maxTypes   = 4096    // of one server
	maxFields  = 1024    // of one structure, and of one signal with all that is inside
	maxNames   = 1024    // of one enumeration
	maxTexts   = 1 << 20 // bytes of the names of all enumerations together
	perText    = 16      // what a name is counted as beside its bytes
	maxText    = 256     // bytes of a name
	maxAll     = 65536   // fields of all structures together
	maxID      = 512     // bytes of a type's node id
	maxRounds  = 32      // of types that stand in types
	maxLearned = 256     // types asked for because a value has them
	maxChain   = 64      // supertypes of a type
)

// ErrLimit says that a value has more in it than a body may hold (proto/wire).
var ErrLimit = errors.New("more than is stored of one value")

// Caller makes requests within a session. The error is the server's status
// (ua.StatusCode) where it gives one. Used by one goroutine at a time.
type Caller interface {
	Call(ctx context.Context, req ua.Request) (ua.Response, error)
}

// form is how a structure is encoded (OPC 10000-6 §5.2.6 to §5.2.8).
type form uint8

const (
	formPlain    form = iota // field by field
	formOptional             // behind a mask of what is there
	formUnion                // behind the number of the field that is there
)

// Type is a data type of a server. It is complete once the Book has read it, and
// not changed afterwards.
type Type struct {
	Name string

	base      *Type // nil: not known, or the root
	abstract  bool
	builtin   byte // it is encoded as this; TypeVariant where any may stand
	structure bool
	form      form
	fields    []field
	choices   *mesh.Choices
	err       error // why values of it can't be read

	key, baseKey key
	def          any // a *ua.StructureDefinition or a *ua.EnumDefinition
	props        map[string]*ua.NodeID
}

// field is one place of a structure.
type field struct {
	name     string
	of       *Type
	rank     int32
	optional bool // it has a bit in the mask
	subtyped bool // what stands there says its type itself
	inside   bool // of a structure, not an element of a Variant
	key      key
}

// is reports whether t is of or derives from it.
func (t *Type) is(of *Type) bool {
	for range maxChain {
		if t == of {
			return true
		}
		if t == nil || t.base == nil {
			return false
		}
		t = t.base
	}
	return false
}

// Structure reports whether values are structures.
func (t *Type) Structure() bool { return t != nil && t.structure }

// Shape is what the values of one node are. The zero Shape says nothing: what a
// structure is, its values must say themselves then.
type Shape struct {
	Type    *Type         // nil: not known
	Rank    int32         // ValueRank: -1 scalar, 1 an array, 2 a matrix; 0, -2 and -3: more than one of them
	Choices *mesh.Choices // what the numbers are called; nil: they have no names
	Err     error         // why the type is not known
}

// Signal completes a row of the signal table with what the shape says about values
// of its type.
func (s Shape) Signal(row mesh.Signal) mesh.Signal {
	row.Fields, row.Choices = nil, nil
	left := maxFields
	switch row.Type {
	case mesh.TypeArray:
		f := s.item(1, &left)
		f.Unit, f.Choices = row.Unit, s.Choices
		for range min(s.Rank, wire.MaxDepth/2) - 1 {
			f = mesh.Field{Type: mesh.TypeArray, Fields: []mesh.Field{f}}
		}
		row.Fields = []mesh.Field{f}
	case mesh.TypeStruct:
		row.Fields = s.item(0, &left).Fields
		if s.Type == nil {
			row.Fields = toldFields()
		}
	case mesh.TypeInt, mesh.TypeUint:
		if s.Rank < 1 {
			row.Choices = s.Choices
		}
	case mesh.TypeNone, mesh.TypeBool, mesh.TypeDouble, mesh.TypeString, mesh.TypeBytes, mesh.TypeEvent:
	}
	return row
}

// item is what one value or element of the shape is.
func (s Shape) item(level int, left *int) mesh.Field {
	if s.Type == nil {
		return mesh.Field{}
	}
	f := field{of: s.Type, rank: -1}
	return f.mesh(level, left, level > 0, nil)
}

// mesh is the field as a signal table says it; array: it is an array's element.
// A structure that stands in itself is not told again.
func (f *field) mesh(level int, left *int, array bool, path []*Type) mesh.Field {
	out := mesh.Field{Name: f.name}
	*left--
	if f.rank >= 1 {
		out.Type = mesh.TypeArray
		if level+int(f.rank) >= wire.MaxDepth {
			return out
		}
		inner := *f
		inner.name, inner.rank = "", -1
		e := inner.mesh(level+int(f.rank), left, true, path)
		for range f.rank - 1 {
			e = mesh.Field{Type: mesh.TypeArray, Fields: []mesh.Field{e}}
		}
		out.Fields = []mesh.Field{e}
		return out
	}
	out.Choices = f.of.choices
	switch t := f.encoded(); {
	case t == publish.TypeExtension && f.told():
		out.Type = mesh.TypeStruct
		if level+3 <= wire.MaxDepth {
			out.Fields = toldFields()
		}
	case t == publish.TypeExtension:
		out.Type = mesh.TypeStruct
		if level >= wire.MaxDepth || *left < len(f.of.fields) || slices.Contains(path, f.of) {
			return out
		}
		path = append(slices.Clip(path), f.of)
		for i := range f.of.fields {
			out.Fields = append(out.Fields, f.of.fields[i].mesh(level+1, left, false, path))
		}
	case t == publish.TypeDataValue:
		out.Type, out.Fields = mesh.TypeStruct, dataValueFields()
	case t == publish.TypeVariant && array:
		out.Type, out.Fields = mesh.TypeStruct, []mesh.Field{{Name: "value"}}
	default:
		out.Type = itemType(t)
	}
	return out
}

// encoded is the built-in type as which the field is encoded.
func (f *field) encoded() byte {
	if f.subtyped && !f.of.structure {
		return publish.TypeVariant
	}
	return f.of.builtin
}

// told reports whether a structure in the field says its type itself, because
// several may stand there (OPC 10000-6 §5.2.6).
func (f *field) told() bool { return f.subtyped || f.of.abstract }

// toldFields are those of a structure that says its type itself.
func toldFields() []mesh.Field {
	return []mesh.Field{
		{Name: "type", Type: mesh.TypeString},
		{Name: "fields", Type: mesh.TypeArray, Fields: []mesh.Field{{Type: mesh.TypeStruct, Fields: []mesh.Field{{Name: "name", Type: mesh.TypeString}, {Name: "value"}}}}},
	}
}

func dataValueFields() []mesh.Field {
	return []mesh.Field{
		{Name: "value"},
		{Name: "status", Type: mesh.TypeUint},
		{Name: "source_time", Type: mesh.TypeString},
		{Name: "server_time", Type: mesh.TypeString},
	}
}

// itemType is the type of items that values of a built-in type become in an array.
func itemType(t byte) mesh.Type {
	switch t {
	case publish.TypeBoolean:
		return mesh.TypeBool
	case publish.TypeSByte, publish.TypeInt16, publish.TypeInt32, publish.TypeInt64:
		return mesh.TypeInt
	case publish.TypeByte, publish.TypeUInt16, publish.TypeUInt32, publish.TypeUInt64, publish.TypeStatusCode:
		return mesh.TypeUint
	case publish.TypeFloat, publish.TypeDouble:
		return mesh.TypeDouble
	case publish.TypeByteString:
		return mesh.TypeBytes
	case publish.TypeExtension, publish.TypeDataValue:
		return mesh.TypeStruct
	case publish.TypeVariant, publish.TypeDiagnostic, publish.TypeNull:
		return mesh.TypeNone
	}
	return mesh.TypeString
}

// UnknownError says that a value has a structure of a type that the Book does not know.
type UnknownError struct {
	Encoding string // node id under which the server sends it
	Why      error  // why it could not be learned; nil: not asked yet
	key      key
}

func (e *UnknownError) Error() string {
	why := "the server has not been asked yet what it is"
	if e.Why != nil {
		why = e.Why.Error()
	}
	return fmt.Sprintf("a structure of an unknown type (encoding %s): %s", e.Encoding, why)
}

func (e *UnknownError) Unwrap() error { return e.Why }

// TypeError says that values of a type can't be read.
type TypeError struct {
	Type string
	Err  error
}

func (e *TypeError) Error() string { return fmt.Sprintf("type %s: %s", e.Type, e.Err) }

func (e *TypeError) Unwrap() error { return e.Err }

// clean is a name as it may stand in a table: UTF-8, and not endless.
func clean(s string) string {
	if len(s) > maxText {
		s = strings.Clone(s[:maxText]) // the rest must not be kept
	}
	s = strings.ToValidUTF8(s, "\uFFFD")
	for len(s) > maxText {
		_, size := utf8.DecodeLastRuneInString(s)
		s = s[:len(s)-size]
	}
	return s
}
