package datatype

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/gopcua/opcua/id"
	"github.com/gopcua/opcua/ua"

	"plantmesh/edge/source/opcua/publish"
)

// load reads types, those they derive from, and those of their fields.
func (b *Book) load(ctx context.Context, c Caller, ids []*ua.NodeID) error {
	var all []*Type
	frontier := b.fresh(ids)
	for range maxRounds {
		if len(frontier) == 0 {
			break
		}
		all = append(all, frontier...)
		next, err := b.round(ctx, c, frontier)
		if err != nil {
			return err
		}
		frontier = b.fresh(next)
	}
	for _, t := range frontier {
		t.err = fmt.Errorf("types nested more than %d deep", maxRounds)
	}
	for _, t := range all {
		b.link(t)
	}
	var unnamed []*Type
	for _, t := range all {
		t.classify()
		if len(t.props) > 0 && t.choices == nil && !t.structure {
			unnamed = append(unnamed, t)
		}
	}
	if err := b.name(ctx, c, unnamed); err != nil {
		return err
	}
	b.finish(all)
	return nil
}

// link finds the types that t refers to.
func (b *Book) link(t *Type) {
	t.base = b.types[t.baseKey]
	for i := range t.fields {
		f := &t.fields[i]
		if f.of = b.types[f.key]; f.of == nil {
			f.of = tooMany()
		}
	}
}

// finish takes encodings from the definitions, and lets go of these.
func (b *Book) finish(types []*Type) {
	for _, t := range types {
		t.bits()
		if d, ok := t.def.(*ua.StructureDefinition); ok && t.structure && t.err == nil {
			if k := keyOf(d.DefaultEncodingID); !k.none() {
				b.encodings[k] = t
			}
		}
		t.def, t.props = nil, nil
	}
}

// fresh makes entries for the types that are not known yet. What would be too
// many has none.
func (b *Book) fresh(ids []*ua.NodeID) (out []*Type) {
	for _, n := range ids {
		k := keyOf(n)
		if k.none() || b.types[k] != nil || len(b.types) >= maxTypes {
			continue
		}
		t := &Type{Name: k.String(), key: k}
		b.types[k] = t
		out = append(out, t)
	}
	return out
}

// perRound is how many types are asked for at once: what is said of them is in
// memory together.
const perRound = 100

// round reads what the server has of each type, and returns the ids of the types
// that they refer to.
func (b *Book) round(ctx context.Context, c Caller, types []*Type) (next []*ua.NodeID, err error) {
	for some := range slices.Chunk(types, perRound) {
		var ask []*ua.ReadValueID
		var look []*ua.BrowseDescription
		for _, t := range some {
			n := nodeOf(t.key)
			if n == nil {
				n = ua.NewTwoByteNodeID(0) // refused by the server, as it should
			}
			ask = append(ask, attribute(n, ua.AttributeIDBrowseName), attribute(n, ua.AttributeIDIsAbstract), attribute(n, ua.AttributeIDDataTypeDefinition))
			look = append(look, references(n, ua.BrowseDirectionInverse, id.HasSubtype), properties(n), references(n, ua.BrowseDirectionForward, id.HasEncoding))
		}
		if err := read(ctx, c, ask, func(i int, v any) { next = append(next, b.attribute(some[i/3], v)...) }); err != nil {
			return nil, err
		}
		err := browse(ctx, c, look, func(i int, refs []*ua.ReferenceDescription) {
			switch t := some[i/3]; i % 3 {
			case 0:
				if len(refs) > 0 {
					t.baseKey = keyOf(target(refs[0]))
					next = append(next, target(refs[0]))
				}
			case 1:
				t.props = named(refs)
			default:
				b.encoded(t, refs)
			}
		})
		if err != nil {
			return nil, err
		}
	}
	return next, nil
}

// encoded notes under which id structures of t are sent (OPC 10000-3 §5.8.4).
func (b *Book) encoded(t *Type, refs []*ua.ReferenceDescription) {
	for _, r := range refs {
		if r.BrowseName != nil && r.BrowseName.Name == "Default Binary" {
			b.encodings[keyOf(target(r))] = t
			return
		}
	}
}

// attribute keeps what was read of t: its name, whether it is abstract, or its
// definition. It returns the types t refers to.
func (b *Book) attribute(t *Type, v any) (next []*ua.NodeID) {
	switch x := v.(type) {
	case *ua.QualifiedName:
		if x.Name != "" {
			t.Name = clean(x.Name)
		}
	case bool:
		t.abstract = x
	case *ua.ExtensionObject:
		switch d := x.Value.(type) {
		case *ua.StructureDefinition:
			if b.fields += len(d.Fields); b.fields > maxAll {
				t.err = fmt.Errorf("the structures of the server have more than %d fields", maxAll)
				return nil
			}
			next = t.define(d)
			t.def = &ua.StructureDefinition{}
			if sound(d.DefaultEncodingID) {
				t.def = &ua.StructureDefinition{DefaultEncodingID: d.DefaultEncodingID}
			}
			if t.baseKey == (key{}) && sound(d.BaseDataType) { // a supertype that is browsed goes first
				t.baseKey = keyOf(d.BaseDataType)
				next = append(next, d.BaseDataType)
			}
		case *ua.EnumDefinition:
			t.choices = b.choices(t.Name, d)
			t.def = &ua.EnumDefinition{}
		}
	}
	return next
}

// define takes the fields of a structure (OPC 10000-3 §8.48).
func (t *Type) define(d *ua.StructureDefinition) (next []*ua.NodeID) {
	subtypes := false
	switch d.StructureType {
	case ua.StructureTypeStructure:
	case ua.StructureTypeStructureWithOptionalFields:
		t.form = formOptional
	case ua.StructureTypeUnion:
		t.form = formUnion
	case ua.StructureTypeStructureWithSubtypedValues:
		subtypes = true
	case ua.StructureTypeUnionWithSubtypedValues:
		t.form, subtypes = formUnion, true
	default:
		t.err = fmt.Errorf("a kind of structure (%d) that is not known", d.StructureType)
		return nil
	}
	if len(d.Fields) > maxFields {
		t.err = fmt.Errorf("it has %d fields, at most %d are read", len(d.Fields), maxFields)
		return nil
	}
	optional := 0
	for _, f := range d.Fields {
		if f == nil || !sound(f.DataType) || f.ValueRank == 0 || f.ValueRank < -1 || f.ValueRank > maxRank {
			t.err = errors.New("the server gives a definition with a field that can't be read")
			return nil
		}
		x := field{name: clean(f.Name), rank: f.ValueRank, key: keyOf(f.DataType), inside: true}
		x.subtyped = subtypes && f.IsOptional // §8.51: there it allows subtypes
		x.optional = t.form == formOptional && f.IsOptional
		if x.optional {
			optional++
		}
		t.fields = append(t.fields, x)
		next = append(next, f.DataType)
	}
	if optional > maxOptional {
		t.err = fmt.Errorf("it has %d optional fields, the encoding has room for %d", optional, maxOptional)
	}
	return next
}

const (
	maxRank     = 8  // dimensions of a field
	maxOptional = 32 // bits of the mask (OPC 10000-6 §5.2.7)
)

// classify finds as what t is encoded: as the built-in type it derives from.
func (t *Type) classify() {
	root := t
	for range maxChain {
		if root.base == nil {
			break
		}
		root = root.base
		if root.key.space == 0 && root.key.form == formNumber && root.key.number <= id.Enumeration && root.builtin != 0 {
			break
		}
	}
	switch t.def.(type) {
	case *ua.StructureDefinition:
		t.structure, t.builtin = true, publish.TypeExtension
		return
	case *ua.EnumDefinition:
		if root == t { // the server doesn't say what it derives from
			t.builtin = publish.TypeInt32
			return
		}
	}
	switch {
	case root == t || root.builtin == 0:
		t.fail(errors.New("the server doesn't say what it derives from"))
	case root.structure:
		t.structure, t.builtin = true, publish.TypeExtension
		if !t.abstract {
			t.fail(errors.New("the server has no DataTypeDefinition of it (servers before OPC UA 1.04 don't): update the server's firmware, or read the fields as nodes of their own"))
		}
	default:
		t.builtin = root.builtin
	}
}

func (t *Type) fail(err error) {
	if t.err == nil {
		t.err = err
	}
}

// bits says of names that are those of an unsigned number that they are its bits
// (OPC 10000-3 §8.40, OptionSet).
func (t *Type) bits() {
	unsigned := []byte{publish.TypeByte, publish.TypeUInt16, publish.TypeUInt32, publish.TypeUInt64}
	if t.choices != nil && slices.Contains(unsigned, t.builtin) {
		t.choices.Bits = true
	}
}

// name reads the names of enumerations that have no definition from their
// properties (OPC 10000-3 §5.8.3).
func (b *Book) name(ctx context.Context, c Caller, types []*Type) error {
	var ask []*ua.ReadValueID
	var of []*Type
	for _, t := range types {
		for _, p := range []string{"EnumStrings", "EnumValues", "OptionSetValues"} {
			if n := t.props[p]; n != nil {
				ask, of = append(ask, attribute(n, ua.AttributeIDValue)), append(of, t)
				break
			}
		}
	}
	return read(ctx, c, ask, func(i int, v any) { of[i].choices = b.choices(of[i].Name, v) })
}
