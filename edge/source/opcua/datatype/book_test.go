package datatype

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/gopcua/opcua/id"
	"github.com/gopcua/opcua/ua"

	"plantmesh/proto/mesh"
)

// names are choices in words.
func names(c *mesh.Choices) string {
	if c == nil {
		return ""
	}
	out := []string{c.Name}
	if c.Bits {
		out = append(out, "bits")
	}
	for _, x := range c.List {
		out = append(out, fmt.Sprintf("%d=%s", x.Number, x.Text))
	}
	return strings.Join(out, " ")
}

func TestBook_NumbersAreNamedByWhateverTheServerHas(t *testing.T) {
	s := newSpace()
	property := func(of *ua.NodeID, name string, v any) {
		p := ua.NewStringNodeID(1, of.String()+name)
		s.attrs[p.String()] = map[ua.AttributeID]any{ua.AttributeIDValue: v}
		s.link(of, id.HasProperty, p, name)
	}
	texts := []*ua.LocalizedText{ua.NewLocalizedText("red"), nil, ua.NewLocalizedText("green")}
	values := []*ua.ExtensionObject{
		{EncodingMask: 1, TypeID: ua.NewTwoByteExpandedNodeID(0), Value: &ua.EnumValueType{Value: 7, DisplayName: ua.NewLocalizedText("on")}},
		{EncodingMask: 1, TypeID: ua.NewTwoByteExpandedNodeID(0), Value: &ua.Range{}},
	}
	strings, valued := s.add(2, "Strings", zero(id.Enumeration), nil), s.add(3, "Values", zero(id.Enumeration), nil)
	property(strings, "EnumStrings", texts)
	property(valued, "EnumValues", values)
	sub := s.add(4, "Sub", s.add(5, "Middle", zero(id.Enumeration), nil), &ua.EnumDefinition{Fields: []*ua.EnumField{nil, {Value: -3, Name: "below"}}})
	set, oldSet := s.enum(6, "Set", zero(id.UInt16)), s.add(7, "OldSet", zero(id.UInt32), nil)
	property(oldSet, "OptionSetValues", texts)
	light := s.variable("light", zero(id.UInt32), -1)
	property(light, "EnumStrings", texts)
	nameless := s.add(8, "Nameless", zero(id.Enumeration), nil)
	nodes := []*ua.NodeID{light, nil, s.variable("plain", zero(id.Int32), -1), ua.NewStringNodeID(1, "gone")}
	for i, of := range []*ua.NodeID{s.enum(900, "State", zero(id.Enumeration)), strings, valued, sub, set, oldSet, nameless} {
		nodes = append(nodes, s.variable(strconv.Itoa(i), of, -1))
	}
	s.most = 3 // a server that takes few operations at once
	_, shapes := s.shapes(t, nodes...)
	for i, want := range []string{
		"UInt32 0=red 2=green", "", "", "", "State 0=Running 1=gestört", "Strings 0=red 2=green", "Values 7=on", "Sub -3=below", "Set bits 0=Running 1=gestört", "OldSet bits 0=red 2=green", "",
	} {
		if got := names(shapes[i].Choices); got != want {
			t.Errorf("node %d: %q, want %q", i, got, want)
		}
	}
	if shapes[1].Type != nil || shapes[1].Err != nil || shapes[3].Err == nil || shapes[4].Err != nil {
		t.Errorf("no node %+v, one that is gone %+v, an enumeration %+v", shapes[1], shapes[3], shapes[4])
	}
}

func TestBook_WhatCanNotBeReadIsSaid(t *testing.T) {
	field := func(of *ua.NodeID, rank int32) *ua.StructureField {
		return &ua.StructureField{Name: "f", DataType: of, ValueRank: rank}
	}
	many := &ua.StructureDefinition{StructureType: ua.StructureTypeStructureWithOptionalFields}
	for range maxOptional + 1 {
		many.Fields = append(many.Fields, &ua.StructureField{Name: "f", DataType: zero(id.Byte), ValueRank: -1, IsOptional: true})
	}
	huge := &ua.StructureDefinition{Fields: make([]*ua.StructureField, maxFields+1)}
	for name, c := range map[string]struct {
		def  any
		base *ua.NodeID
		want string
	}{
		"no definition": {nil, zero(id.Structure), "servers before OPC UA 1.04"},
		"no supertype":  {nil, ua.NewNumericNodeID(7, 7), "doesn't say what it derives from"},
		"null field":    {&ua.StructureDefinition{Fields: []*ua.StructureField{nil}}, zero(id.Structure), "a field that can't be read"},
		"any rank":      {&ua.StructureDefinition{Fields: []*ua.StructureField{field(zero(id.Byte), -2)}}, zero(id.Structure), "a field that can't be read"},
		"rank":          {&ua.StructureDefinition{Fields: []*ua.StructureField{field(zero(id.Byte), 1<<30)}}, zero(id.Structure), "a field that can't be read"},
		"kind":          {&ua.StructureDefinition{StructureType: 99}, zero(id.Structure), "a kind of structure (99)"},
		"optional":      {many, zero(id.Structure), "33 optional fields"},
		"fields":        {huge, zero(id.Structure), "1025 fields"},
	} {
		s := newSpace()
		_, shapes := s.shapes(t, s.variable("v", s.add(1, "Bad", c.base, c.def), -1))
		if err := shapes[0].Err; err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

func TestBook_TakesTheSupertypeOfTheDefinitionWhereNoneIsBrowsed(t *testing.T) {
	s := newSpace()
	base := s.add(1, "Base", zero(id.Structure), &ua.StructureDefinition{BaseDataType: zero(id.Structure)})
	node := s.add(2, "Derived", base, &ua.StructureDefinition{BaseDataType: base, DefaultEncodingID: ua.NewNumericNodeID(1, 5002)})
	clear(s.refs)
	book, shapes := s.shapes(t, s.variable("v", node, -1))
	if x := shapes[0]; x.Err != nil || !x.Type.is(book.types[keyOf(base)]) || !x.Type.is(book.types[number(id.Structure)]) || book.encodings[keyOf(ua.NewNumericNodeID(1, 5002))] != x.Type {
		t.Errorf("%+v", x)
	}
}

// Types that never end, however they do it, cost no more than the limits.
func TestBook_EndlessTypesEnd(t *testing.T) {
	s := newSpace()
	for n := uint32(1); n <= maxRounds+10; n++ { // each has the next
		s.add(n, "Chain", zero(id.Structure), &ua.StructureDefinition{Fields: []*ua.StructureField{{Name: "f", DataType: ua.NewNumericNodeID(1, n+1), ValueRank: -1}}})
	}
	wide := &ua.StructureDefinition{}
	for n := range uint32(maxFields) {
		wide.Fields = append(wide.Fields, &ua.StructureField{Name: "f", DataType: ua.NewNumericNodeID(2, n), ValueRank: -1})
	}
	loop := ua.NewNumericNodeID(1, 501)
	s.add(500, "Loop", loop, nil)
	s.add(501, "Loop", ua.NewNumericNodeID(1, 500), nil)
	book, shapes := s.shapes(t, s.variable("chain", ua.NewNumericNodeID(1, 1), -1), s.variable("wide", s.add(900, "Wide", zero(id.Structure), wide), -1), s.variable("loop", loop, -1))
	if len(book.types) > maxTypes {
		t.Errorf("%d types", len(book.types))
	}
	if shapes[2].Err == nil {
		t.Error("a type that derives from itself is known")
	}
	many := newSpace()
	var nodes []*ua.NodeID
	for n := range uint32(maxAll/maxFields + 1) {
		d := &ua.StructureDefinition{}
		for range maxFields {
			d.Fields = append(d.Fields, &ua.StructureField{Name: strings.Repeat("f", 2*maxText), DataType: zero(id.Byte), ValueRank: -1})
		}
		nodes = append(nodes, many.variable(fmt.Sprintf("v%d", n), many.add(n+1, "Many", zero(id.Structure), d), -1))
	}
	_, shapes = many.shapes(t, nodes...)
	if err := shapes[len(shapes)-1].Err; err == nil || !strings.Contains(err.Error(), "more than 65536 fields") || shapes[0].Err != nil || len(shapes[0].Type.fields[0].name) != maxText {
		t.Errorf("too many fields: %v, the first %v", err, shapes[0].Err)
	}
	// Each field has twice what the one before has: 2^16 of them would be in a table.
	s = newSpace()
	for n := uint32(1); n <= 20; n++ {
		next := ua.NewNumericNodeID(1, n+1)
		s.add(n, "Twice", zero(id.Structure), &ua.StructureDefinition{Fields: []*ua.StructureField{{Name: "a", DataType: next, ValueRank: -1}, {Name: "b", DataType: next, ValueRank: -1}}})
	}
	_, shapes = s.shapes(t, s.variable("twice", ua.NewNumericNodeID(1, 1), -1))
	var count func([]mesh.Field) int
	count = func(in []mesh.Field) (n int) {
		for _, f := range in {
			n += 1 + count(f.Fields)
		}
		return n
	}
	if n := count(shapes[0].Signal(mesh.Signal{Type: mesh.TypeStruct}).Fields); n < 16 || n > 2*maxFields {
		t.Errorf("%d fields in the table", n)
	}
}

func TestBook_Learn(t *testing.T) {
	s, nodes := job()
	book, shapes := s.shapes(t, nodes[len(nodes)-1]) // of abstract type: it announces nothing
	var d Decoder
	d.Use(book)
	read := func(b []byte) (string, error) {
		i, _, err := d.Variant(b, shapes[0])
		return words(i), err
	}
	learn := func(b []byte) (asked bool, err error) {
		var unknown *UnknownError
		if _, err := read(b); !errors.As(err, &unknown) || unknown.Why != nil {
			t.Fatalf("%v is not to be learned", err)
		}
		_, err = read(b)
		errors.As(err, &unknown)
		return book.Learn(t.Context(), s, unknown)
	}
	known, foreign, old := wrap(8, 3), wrap(300, 3), wrap(10, 3)
	s.fail = errCut
	if _, err := learn(known); !errors.Is(err, errCut) {
		t.Errorf("a connection that is gone: %v", err)
	}
	s.fail = nil
	for _, c := range []struct {
		b    []byte
		want string
	}{{known, "{T8 struct[{A 3}]}"}, {foreign, "!encoding ns=1;i=5300): the server gives no data type for it"}, {old, "!type T10: the server has no DataTypeDefinition"}} {
		if asked, err := learn(c.b); !asked || err != nil {
			t.Errorf("%x: asked %t, %v", c.b, asked, err)
		}
		calls := s.calls
		got, err := read(c.b)
		want, bad := strings.CutPrefix(c.want, "!")
		if bad && (err == nil || !strings.Contains(err.Error(), want)) || !bad && got != want {
			t.Errorf("%x is %s, %v; want %s", c.b, got, err, c.want)
		}
		if unknown, ok := errors.AsType[*UnknownError](err); ok {
			if asked, _ := book.Learn(t.Context(), s, unknown); asked || s.calls != calls {
				t.Errorf("%x is asked for twice", c.b)
			}
		}
	}
	for n := uint32(301); n < 301+2*maxLearned; n++ { // a server that makes up types
		if asked, _ := book.Learn(t.Context(), s, &UnknownError{key: key{form: formNumber, space: 1, number: n}}); !asked {
			return
		}
	}
	t.Errorf("asked for %d types", 2*maxLearned)
}

func TestBook_AConnectionThatEndsIsAnError(t *testing.T) {
	s, nodes := job()
	for _, err := range []error{errCut, ua.StatusBadSessionIDInvalid} {
		s.fail = err
		if _, got := NewBook().Shapes(t.Context(), s, nodes); !errors.Is(got, err) {
			t.Errorf("%v: %v", err, got)
		}
	}
	s.fail = ua.StatusBadServiceUnsupported // it only refuses
	shapes, err := NewBook().Shapes(t.Context(), s, nodes)
	if err != nil || shapes[0].Err == nil {
		t.Errorf("refused: %+v, %v", shapes[0], err)
	}
}
