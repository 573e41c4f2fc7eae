package product

import (
	"math"
	"strconv"

	"plantmesh/proto/mesh"
	"plantmesh/proto/wire"
)

// appendValue writes a value as JSON. A Double that JSON can't say is null, as is a
// body that can't be read; status and marks tell why.
func appendValue(b []byte, v mesh.Value, fields []mesh.Field) []byte {
	switch v.Type {
	case mesh.TypeBool:
		return strconv.AppendBool(b, v.Bits != 0)
	case mesh.TypeInt:
		return strconv.AppendInt(b, int64(v.Bits), 10)
	case mesh.TypeUint:
		return strconv.AppendUint(b, v.Bits, 10)
	case mesh.TypeDouble:
		return appendFloat(b, math.Float64frombits(v.Bits))
	case mesh.TypeString, mesh.TypeBytes:
		return appendText(b, string(v.Bytes))
	case mesh.TypeArray, mesh.TypeStruct, mesh.TypeEvent:
		if i, err := wire.ParseItem(v.Bytes); err == nil && i.Value.Type == v.Type {
			return appendItem(b, &i, fields)
		}
	case mesh.TypeNone:
	}
	return append(b, "null"...)
}

// appendItem writes what is inside a body: of a structure or an event an object of
// the fields that are there, by the names in the signal table. A field without a name
// there has its place, from 1 on. Beside a number that has a name stands
// "<field>_text".
func appendItem(b []byte, i *mesh.Item, fields []mesh.Field) []byte {
	switch i.Value.Type {
	case mesh.TypeArray:
		var of []mesh.Field
		if len(fields) == 1 {
			of = fields[0].Fields
		}
		b = append(b, '[')
		for k := range i.Items {
			if k > 0 {
				b = append(b, ',')
			}
			b = appendItem(b, &i.Items[k], of)
		}
		return append(b, ']')
	case mesh.TypeStruct, mesh.TypeEvent:
		return appendFields(b, i.Items, fields)
	case mesh.TypeNone, mesh.TypeBool, mesh.TypeInt, mesh.TypeUint, mesh.TypeDouble, mesh.TypeString, mesh.TypeBytes:
	}
	return appendValue(b, i.Value, nil)
}

func appendFields(b []byte, items []mesh.Item, fields []mesh.Field) []byte {
	b = append(b, '{')
	first := true
	name := func(s string) {
		if !first {
			b = append(b, ',')
		}
		first = false
		b = append(appendText(b, s), ':')
	}
	for k := range items {
		if items[k].Value.Type == mesh.TypeNone {
			continue // it is not there
		}
		f := mesh.Field{}
		if k < len(fields) {
			f = fields[k]
		}
		if f.Name == "" {
			f.Name = strconv.Itoa(k + 1)
		}
		name(f.Name)
		b = appendItem(b, &items[k], f.Fields)
		if text := f.Choices.Text(items[k].Value); text != "" {
			name(f.Name + "_text")
			b = appendText(b, text)
		}
	}
	return append(b, '}')
}
