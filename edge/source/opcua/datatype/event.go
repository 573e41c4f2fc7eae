package datatype

import (
	"context"

	"github.com/gopcua/opcua/id"
	"github.com/gopcua/opcua/ua"

	"plantmesh/proto/mesh"
)

// Limits of what is asked of event types.
const (
	maxEventTypes = 512  // of one filter, with all they derive from
	maxEventDepth = 16   // supertypes of one
	maxProperties = 1024 // of all of them
)

// EventField is a property that an event type declares for its events (OPC 10000-3
// §4.7.2), of one value.
type EventField struct {
	Of      *ua.NodeID // the type
	Name    *ua.QualifiedName
	Kind    mesh.Type     // of the field as it is kept: bool, int, uint, double or string
	Choices *mesh.Choices // what its numbers are called; nil: they have no names
}

// EventFields are the properties of event types, and of the types they derive from up
// to those of the standard (namespace 0), each once: those of the first type first, and
// of each type before those of its supertypes. At most most; left is how many there are
// beside, which are more, or arrays or structures. The error is the connection's.
func (b *Book) EventFields(ctx context.Context, c Caller, types []*ua.NodeID, most int) (out []EventField, left int, err error) {
	t, err := browseEventTypes(ctx, c, types)
	if err != nil || len(t) == 0 {
		return nil, 0, err
	}
	var nodes []*ua.NodeID
	for _, p := range t.declared(types) {
		out, nodes = append(out, EventField{Of: p.of, Name: p.name}), append(nodes, p.node)
	}
	shapes, err := b.Shapes(ctx, c, nodes)
	if err != nil {
		return nil, 0, err
	}
	taken := out[:0]
	for i, f := range out {
		if f.Kind, f.Choices = shapes[i].single(); f.Kind == mesh.TypeNone || len(taken) == most {
			left++
			continue
		}
		taken = append(taken, f)
	}
	return taken, left, nil
}

// single is what the one value of such a shape is kept as; of no type: it is more than one.
func (s Shape) single() (mesh.Type, *mesh.Choices) {
	if s.Type == nil || s.Rank >= 0 {
		return mesh.TypeNone, nil
	}
	switch kind := itemType(s.Type.builtin); kind {
	case mesh.TypeBool, mesh.TypeDouble, mesh.TypeString:
		return kind, nil
	case mesh.TypeInt, mesh.TypeUint:
		return kind, s.Choices
	case mesh.TypeBytes: // as the ids of events are: no text anywhere shows bytes
		return mesh.TypeString, nil
	case mesh.TypeNone, mesh.TypeArray, mesh.TypeStruct, mesh.TypeEvent:
	}
	return mesh.TypeNone, nil
}

// eventTypes are those that are not the standard's.
type eventTypes map[key]*eventType

type eventType struct {
	node       *ua.NodeID
	super      key
	properties []eventProperty
}

type eventProperty struct {
	of   *ua.NodeID // the type
	name *ua.QualifiedName
	node *ua.NodeID
}

// declared are the properties of these types and of those they derive from. What a type
// says of a property of its supertype's counts in the place of that.
func (all eventTypes) declared(types []*ua.NodeID) (out []eventProperty) {
	seen := map[*eventType]bool{}
	for _, n := range types {
		names := map[ua.QualifiedName]bool{}
		at := all[keyOf(n)]
		for deep := 0; at != nil && deep < maxEventDepth; deep++ {
			for _, p := range at.properties {
				if !names[*p.name] && !seen[at] {
					names[*p.name] = true
					out = append(out, p)
				}
			}
			seen[at] = true
			at = all[at.super]
		}
	}
	return out
}

// browseEventTypes are these types, and those they derive from.
func browseEventTypes(ctx context.Context, c Caller, types []*ua.NodeID) (eventTypes, error) {
	all, found := eventTypes{}, 0
	frontier := all.fresh(types)
	for range maxEventDepth {
		if len(frontier) == 0 {
			break
		}
		var look []*ua.BrowseDescription
		for _, t := range frontier {
			look = append(look, properties(t.node), references(t.node, ua.BrowseDirectionInverse, id.HasSubtype))
		}
		var next []*ua.NodeID
		err := browse(ctx, c, look, func(i int, refs []*ua.ReferenceDescription) {
			switch t := frontier[i/2]; {
			case i%2 == 0:
				t.declares(refs[:min(len(refs), maxProperties-found)])
				found += len(t.properties)
			case len(refs) > 0:
				t.super = keyOf(target(refs[0]))
				next = append(next, target(refs[0]))
			}
		})
		if err != nil {
			return nil, err
		}
		frontier = all.fresh(next)
	}
	return all, nil
}

// fresh makes entries for the types that are not known yet. What would be too many has none.
func (all eventTypes) fresh(nodes []*ua.NodeID) (out []*eventType) {
	for _, n := range nodes {
		k := keyOf(n)
		if k.none() || n.Namespace() == 0 || all[k] != nil || len(all) >= maxEventTypes {
			continue
		}
		all[k] = &eventType{node: n}
		out = append(out, all[k])
	}
	return out
}

func (t *eventType) declares(refs []*ua.ReferenceDescription) {
	for _, r := range refs {
		if r.BrowseName != nil && r.BrowseName.Name != "" && len(r.BrowseName.Name) <= maxText {
			t.properties = append(t.properties, eventProperty{t.node, r.BrowseName, target(r)})
		}
	}
}
