package datatype

import (
	"context"
	"errors"
	"fmt"

	"github.com/gopcua/opcua/id"
	"github.com/gopcua/opcua/ua"

	"plantmesh/edge/source/opcua/publish"
	"plantmesh/proto/mesh"
)

// Book is what was read of a server's types during one connect. It is read by one
// goroutine, and by the same asked.
type Book struct {
	types     map[key]*Type // by node id
	encodings map[key]*Type // by the node id of the binary encoding
	unknown   map[key]error // encodings that the server doesn't explain, and why
	learned   int
	texts     int // bytes of the names of numbers
	fields    int // of structures
}

// NewBook knows the built-in types only.
func NewBook() *Book {
	b := &Book{types: map[key]*Type{}, encodings: map[key]*Type{}, unknown: map[key]error{}}
	// The types of OPC 10000-5 that have no other supertype than each other; up to
	// 25 their identifiers are those of the built-in types (OPC 10000-6 §5.1.2).
	names := []string{
		"", "Boolean", "SByte", "Byte", "Int16", "UInt16", "Int32", "UInt32", "Int64", "UInt64", "Float", "Double", "String", "DateTime", "Guid", "ByteString",
		"XmlElement", "NodeId", "ExpandedNodeId", "StatusCode", "QualifiedName", "LocalizedText", "Structure", "DataValue", "BaseDataType", "DiagnosticInfo",
		"Number", "Integer", "UInteger", "Enumeration",
	}
	for n := 1; n < len(names); n++ {
		t := &Type{Name: names[n], builtin: byte(n), key: number(uint32(n))}
		switch n {
		case id.Structure:
			t.structure, t.abstract = true, true
		case id.BaseDataType, id.Number, id.Integer, id.UInteger:
			t.builtin, t.abstract = publish.TypeVariant, true
		case id.Enumeration:
			t.builtin = publish.TypeInt32
		}
		b.types[t.key] = t
	}
	return b
}

// Builtin is the type of a built-in type's values (OPC 10000-6 §5.1.2); nil: there is none.
func (b *Book) Builtin(t byte) *Type { return b.types[number(uint32(t))] }

// number is the key of a node of namespace 0.
func number(n uint32) key { return key{form: formNumber, number: n} }

// Shapes reads what the values of nodes are; nil nodes have the zero Shape. The
// error is the connection's: what the server refuses is in the shapes.
func (b *Book) Shapes(ctx context.Context, c Caller, nodes []*ua.NodeID) ([]Shape, error) {
	types, ranks := make([]*ua.NodeID, len(nodes)), make([]int32, len(nodes))
	var ask []*ua.ReadValueID
	var of []int
	for i, n := range nodes {
		if n != nil {
			ask = append(ask, attribute(n, ua.AttributeIDDataType), attribute(n, ua.AttributeIDValueRank))
			of = append(of, i, i)
			ranks[i] = anyRank
		}
	}
	var wanted []*ua.NodeID
	err := read(ctx, c, ask, func(k int, v any) {
		switch x := v.(type) {
		case *ua.NodeID:
			if sound(x) {
				types[of[k]] = x
				wanted = append(wanted, x)
			}
		case int32:
			ranks[of[k]] = x
		}
	})
	if err != nil {
		return nil, err
	}
	if err := b.load(ctx, c, wanted); err != nil {
		return nil, err
	}
	out := make([]Shape, len(nodes))
	for i, n := range nodes {
		switch {
		case n == nil:
		case types[i] == nil:
			out[i].Err = errors.New("the server doesn't say which data type it has")
		default:
			t := b.types[keyOf(types[i])]
			if t == nil {
				t = tooMany()
			}
			out[i] = Shape{Type: t, Rank: ranks[i], Choices: t.choices, Err: t.err}
		}
	}
	return out, b.own(ctx, c, nodes, out)
}

// anyRank is the ValueRank of a node that may have scalars and arrays (OPC 10000-3 §5.6.2).
const anyRank = -2

// own reads what nodes themselves call their numbers, as multi-state items do
// (OPC 10000-8 §5.3.3.3, §5.3.3.4), where the data type says nothing.
func (b *Book) own(ctx context.Context, c Caller, nodes []*ua.NodeID, shapes []Shape) error {
	var ask []*ua.BrowseDescription
	var of []int
	for i, s := range shapes {
		if nodes[i] == nil || s.Type == nil || s.Choices != nil {
			continue
		}
		if t := itemType(s.Type.builtin); t == mesh.TypeInt || t == mesh.TypeUint || s.Type.builtin == publish.TypeVariant {
			ask, of = append(ask, properties(nodes[i])), append(of, i)
		}
	}
	var values []*ua.ReadValueID
	var at []int
	err := browse(ctx, c, ask, func(k int, refs []*ua.ReferenceDescription) {
		props := named(refs)
		for _, name := range []string{"EnumStrings", "EnumValues"} {
			if p := props[name]; p != nil {
				values, at = append(values, attribute(p, ua.AttributeIDValue)), append(at, of[k])
			}
		}
	})
	if err != nil {
		return err
	}
	return read(ctx, c, values, func(k int, v any) {
		if s := &shapes[at[k]]; s.Choices == nil {
			s.Choices = b.choices(s.Type.Name, v)
		}
	})
}

// Learn asks the server for the type of a structure that a value has. It reports
// whether the server was asked: the type is known now, or why it is not. The error
// is the connection's.
func (b *Book) Learn(ctx context.Context, c Caller, e *UnknownError) (bool, error) {
	if _, asked := b.unknown[e.key]; asked {
		return false, nil
	}
	if b.learned++; b.learned > maxLearned {
		return false, nil
	}
	b.unknown[e.key] = errors.New("the server gives no data type for it")
	encoding := nodeOf(e.key)
	if encoding == nil {
		b.unknown[e.key] = errors.New("its id is none of this server's")
		return true, nil
	}
	var node *ua.NodeID
	ask := []*ua.BrowseDescription{references(encoding, ua.BrowseDirectionInverse, id.HasEncoding)}
	err := browse(ctx, c, ask, func(_ int, refs []*ua.ReferenceDescription) {
		if len(refs) > 0 {
			node = target(refs[0])
		}
	})
	if err == nil && node == nil {
		return true, nil
	}
	if err == nil {
		err = b.load(ctx, c, []*ua.NodeID{node})
	}
	if err != nil {
		delete(b.unknown, e.key) // the next connection may know
		return false, err
	}
	t := b.types[keyOf(node)]
	switch {
	case t == nil:
		b.unknown[e.key] = tooMany().err
	case t.err != nil:
		b.unknown[e.key] = &TypeError{Type: t.Name, Err: t.err}
	case t.structure:
		b.encodings[e.key] = t
		delete(b.unknown, e.key)
	}
	return true, nil
}

// nodeOf is the node id again; nil where it is none of this server.
func nodeOf(k key) *ua.NodeID {
	if k.uri != "" || k.server != 0 {
		return nil
	}
	n, err := ua.ParseNodeID(k.String())
	if err != nil {
		return nil
	}
	return n
}

func tooMany() *Type {
	return &Type{Name: "?", err: fmt.Errorf("the server has more than %d data types", maxTypes)}
}

// choices makes names of what an enumeration's property has: EnumStrings, whose
// numbers count from 0, OptionSetValues likewise, or EnumValues. nil: none.
func (b *Book) choices(name string, v any) *mesh.Choices {
	c := &mesh.Choices{Name: clean(name)}
	switch list := v.(type) {
	case []*ua.LocalizedText:
		for i, t := range list {
			b.add(c, int64(i), t)
		}
	case []*ua.ExtensionObject:
		for _, x := range list {
			if x == nil {
				continue
			}
			if e, ok := x.Value.(*ua.EnumValueType); ok {
				b.add(c, e.Value, e.DisplayName)
			}
		}
	case *ua.EnumDefinition:
		for _, f := range list.Fields {
			if f != nil && !b.add(c, f.Value, f.DisplayName) {
				b.add(c, f.Value, &ua.LocalizedText{Text: f.Name})
			}
		}
	}
	if len(c.List) == 0 {
		return nil
	}
	return c
}

// add names one number, and reports whether there is a name.
func (b *Book) add(c *mesh.Choices, number int64, text *ua.LocalizedText) bool {
	if text == nil || text.Text == "" || len(c.List) >= maxNames || b.texts >= maxTexts {
		return false
	}
	x := mesh.Choice{Number: number, Text: clean(text.Text)}
	b.texts += len(x.Text) + perText
	c.List = append(c.List, x)
	return true
}
