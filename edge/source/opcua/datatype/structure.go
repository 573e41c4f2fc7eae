package datatype

import (
	"errors"
	"fmt"

	"plantmesh/edge/source/opcua/publish"
	"plantmesh/proto/mesh"
)

// Encodings of an ExtensionObject's body (OPC 10000-6 §5.2.2.15).
const (
	bodyNone   = 0
	bodyBinary = 1
)

// element reads an element of an array of structures: one that is null has no
// fields, because an array's items are all of one type.
func (d *Decoder) element(f *field, level int) mesh.Item {
	var i mesh.Item
	if f.inline() {
		i = d.inner(f.of, level)
	} else {
		i = d.extension(f.declared(), level)
	}
	i.Value.Type = mesh.TypeStruct
	return i
}

// declared is the type whose fields a structure in f has; nil: it says its type itself.
func (f *field) declared() *Type {
	if f.told() {
		return nil
	}
	return f.of
}

// inline reports whether a structure stands in f without an ExtensionObject
// around it, as it does inside of structures.
func (f *field) inline() bool { return f.inside && f.of.structure && !f.told() }

// extension reads an ExtensionObject. Without a declared type, or with one that
// several may stand for, the structure says its type itself: see toldFields.
func (d *Decoder) extension(of *Type, level int) (i mesh.Item) {
	k := d.nodeID()
	switch d.u8() {
	case bodyNone:
		return i
	case bodyBinary:
	default:
		d.fail(errXML)
		return i
	}
	n := d.count()
	if d.err != nil {
		return i
	}
	if n > d.left() {
		d.fail(publish.ErrShort)
		return i
	}
	t := d.known(k)
	if t == nil {
		return i
	}
	if of != nil && !of.abstract && !t.is(of) {
		d.fail(&TypeError{Type: of.Name, Err: fmt.Errorf("the value is a %s, which the node does not announce", t.Name)})
		return i
	}
	// The body ends where it says, and has nothing behind its fields.
	b := d.b
	d.b = b[:d.pos+n]
	if of == nil || of.abstract || d.telling {
		i = d.told(t, level)
	} else {
		i = d.structure(t, level)
	}
	if d.err == nil && d.pos != len(d.b) {
		d.fail(&TypeError{Type: t.Name, Err: fmt.Errorf("the value has %d bytes more than the definition: the server has changed the type", d.left())})
	}
	d.b = b
	if d.err != nil {
		d.pos = len(b)
	}
	return i
}

// known is the structure with this encoding id; some servers send the type's own.
func (d *Decoder) known(k key) *Type {
	if d.types != nil {
		t := d.types.encodings[k]
		if t == nil {
			t = d.types.types[k]
		}
		if t != nil {
			return t
		}
	}
	e := &UnknownError{Encoding: k.String(), key: k}
	if d.types != nil {
		e.Why = d.types.unknown[k]
	}
	d.fail(e)
	return nil
}

// structure reads a structure's fields (OPC 10000-6 §5.2.6 to §5.2.8).
func (d *Decoder) structure(t *Type, level int) mesh.Item {
	out := mesh.Item{Value: mesh.Value{Type: mesh.TypeStruct}}
	switch {
	case t.err != nil:
		d.fail(&TypeError{Type: t.Name, Err: t.err})
	case !t.structure:
		d.fail(&TypeError{Type: t.Name, Err: errors.New("it is no structure")})
	}
	if !d.enter(level) {
		return out
	}
	out.Items = d.items(len(t.fields))
	if d.err != nil {
		return out
	}
	if t.form == formUnion {
		d.union(t, out.Items, level)
		return out
	}
	present := ^uint32(0)
	if t.form == formOptional {
		present = d.u32()
	}
	for i := range t.fields {
		f := &t.fields[i]
		if f.optional {
			here := present&1 != 0
			present >>= 1
			if !here {
				continue
			}
		}
		out.Items[i] = d.field(f, level+1)
		if d.err != nil {
			d.in(t, f)
			return out
		}
	}
	if t.form == formOptional && present != 0 {
		d.fail(&TypeError{Type: t.Name, Err: errors.New("the value has optional fields that the definition doesn't know")})
	}
	return out
}

// union reads the field that is there; 0 is none.
func (d *Decoder) union(t *Type, items []mesh.Item, level int) {
	n := d.u32()
	switch {
	case d.err != nil || n == 0:
		return
	case uint64(n) > uint64(len(t.fields)):
		d.fail(&TypeError{Type: t.Name, Err: fmt.Errorf("the value has field %d of a union of %d", n, len(t.fields))})
		return
	}
	items[n-1] = d.field(&t.fields[n-1], level+1)
	d.in(t, &t.fields[n-1])
}

// in says of an error that names no type in which one it is.
func (d *Decoder) in(t *Type, f *field) {
	var typed *TypeError
	var unknown *UnknownError
	if d.err != nil && !errors.As(d.err, &typed) && !errors.As(d.err, &unknown) {
		d.err = &TypeError{Type: t.Name, Err: fmt.Errorf("field %s: %w", f.name, d.err)}
	}
}

// field reads one field of a structure.
func (d *Decoder) field(f *field, level int) mesh.Item {
	if f.of.err != nil {
		d.fail(&TypeError{Type: f.of.Name, Err: f.of.err})
		return mesh.Item{}
	}
	switch {
	case f.rank == 1:
		return d.array(d.count(), f, level)
	case f.rank > 1: // OPC 10000-6 §5.2.5: the dimensions, then the values
		dims, n := d.dimensions()
		return d.nest(d.array(n, f, level), dims)
	}
	switch t := f.encoded(); {
	case t != publish.TypeExtension:
		return d.value(t, f.of, level)
	case f.inline():
		return d.inner(f.of, level)
	}
	if !d.enter(level) {
		return mesh.Item{}
	}
	return d.extension(f.declared(), level)
}

// inner reads a structure inside of another. In one that says its type itself all
// do: nothing else names their fields.
func (d *Decoder) inner(t *Type, level int) mesh.Item {
	if d.telling {
		return d.told(t, level)
	}
	return d.structure(t, level)
}

// told reads a structure and says what it is: its type's name, and its fields,
// those that are there, with their names.
func (d *Decoder) told(t *Type, level int) mesh.Item {
	out := mesh.Item{Value: mesh.Value{Type: mesh.TypeStruct}}
	before := d.telling
	d.telling = true
	in := d.structure(t, level+wraps)
	d.telling = before
	if d.err != nil {
		return out
	}
	n := 0
	for i := range in.Items {
		if in.Items[i].Value.Type != mesh.TypeNone {
			n++
		}
	}
	pairs := d.items(n)
	n = 0
	for i := range in.Items {
		if in.Items[i].Value.Type == mesh.TypeNone {
			continue
		}
		pair := d.items(2)
		if pair == nil {
			return out
		}
		pair[0].Value, pair[1] = mesh.Text(t.fields[i].name), in.Items[i]
		pairs[n] = mesh.Item{Value: mesh.Value{Type: mesh.TypeStruct}, Items: pair}
		n++
	}
	if out.Items = d.items(2); out.Items == nil {
		return out
	}
	out.Items[0].Value = mesh.Text(t.Name)
	out.Items[1] = mesh.Item{Value: mesh.Value{Type: mesh.TypeArray}, Of: mesh.TypeStruct, Items: pairs}
	return out
}

// wraps is how much deeper fields stand in a structure that says its type itself:
// in a structure, in an array, in a structure.
const wraps = 2
