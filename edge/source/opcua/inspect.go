package opcua

import (
	"context"
	"fmt"
	"strings"

	"github.com/gopcua/opcua/id"
	"github.com/gopcua/opcua/ua"

	"plantmesh/proto/mesh"
)

const (
	// unece is the namespace of units whose number is a common code of UNECE
	// Recommendation 20, its letters as bytes (OPC 10000-8 §5.6.4.3).
	unece = "http://www.opcfoundation.org/UA/units/un/cefact"
	// statusDrifted is the status of values whose meaning is another one than agreed.
	// They are kept, and count for nothing.
	statusDrifted = mesh.StatusBadConfigurationError
	// statusMoved is that of a signal that is read from another node from here on.
	statusMoved = mesh.StatusBadConfigurationError
	// semanticsChanged is the info bit of a value that says that its unit, its range or
	// its texts are other ones from here on (OPC 10000-4 §7.39.1).
	semanticsChanged = 1 << 14
)

// facts are what a server says of a node beside its value.
type facts struct {
	known   bool      // the node has a data type
	kind    string    // its data type, with the namespace by URI
	rank    int32     // -1: scalar (OPC 10000-3 §5.6.2)
	unit    string    // common code of UNECE, or the unit's name in quotes; empty: none given
	span    *ua.Range // of the values; nil: none given
	minimum float64   // ms, the fastest sampling; 0: each change, -1: not known
}

// inspect reads, at each connect, what the values of every signal mean: a node that
// gives another type or unit than before must not be taken for what it was.
func (r *Reader) inspect(ctx context.Context, n namespaces, signals []int) error {
	units, spans, err := r.properties(ctx, signals)
	if err != nil {
		return err
	}
	var all questions
	for _, i := range signals {
		if r.items[i].at != nil {
			all.about(&r.items[i], n, units[i], spans[i])
		}
	}
	values, err := r.readAll(ctx, all.wanted)
	if err != nil {
		return fmt.Errorf("read types and units: %w", err)
	}
	for k, v := range values {
		all.put[k](v)
	}
	return r.compare(signals)
}

// questions are attributes to read, and what to do with their values.
type questions struct {
	wanted []*ua.ReadValueID
	put    []func(v *ua.DataValue)
}

func (q *questions) ask(node *ua.NodeID, which ua.AttributeID, put func(v *ua.DataValue)) {
	q.wanted, q.put = append(q.wanted, attribute(node, which)), append(q.put, put)
}

// about asks for the facts of one signal's node.
func (q *questions) about(it *item, n namespaces, unit, span *ua.NodeID) {
	it.facts = facts{rank: -1, minimum: -1}
	f := &it.facts
	q.ask(it.at, ua.AttributeIDDataType, func(v *ua.DataValue) {
		if v != nil && v.Status == ua.StatusBadNodeIDUnknown {
			it.at, it.lost = nil, fmt.Errorf("node %s: %w", it.at, v.Status)
			return
		}
		t, ok := scalarOf[*ua.NodeID](v)
		if f.known = ok && t != nil; f.known {
			f.kind = n.name(t)
		}
	})
	q.ask(it.at, ua.AttributeIDValueRank, func(v *ua.DataValue) {
		if rank, ok := scalarOf[int32](v); ok {
			f.rank = rank
		}
	})
	q.ask(it.at, ua.AttributeIDMinimumSamplingInterval, func(v *ua.DataValue) {
		if ms, ok := scalarOf[float64](v); ok {
			f.minimum = ms
		}
	})
	if unit != nil {
		q.ask(unit, ua.AttributeIDValue, func(v *ua.DataValue) { f.unit = unitOf(v) })
	}
	if span != nil {
		q.ask(span, ua.AttributeIDValue, func(v *ua.DataValue) { f.span, _ = objectOf[*ua.Range](v) })
	}
}

// properties finds the nodes of units and ranges. They are looked up each time: a
// server that was loaded anew may have given their ids to others.
func (r *Reader) properties(ctx context.Context, signals []int) (units, spans []*ua.NodeID, err error) {
	units, spans = make([]*ua.NodeID, len(r.items)), make([]*ua.NodeID, len(r.items))
	var paths []*ua.BrowsePath
	var put []**ua.NodeID
	for _, i := range signals {
		it := &r.items[i]
		if it.at == nil || !numeric(r.table[i].Type) {
			continue
		}
		for name, to := range map[string]**ua.NodeID{"EngineeringUnits": &units[i], "EURange": &spans[i]} {
			paths = append(paths, &ua.BrowsePath{StartingNode: it.at, RelativePath: &ua.RelativePath{Elements: []*ua.RelativePathElement{hop(id.HasProperty, 0, name)}}})
			put = append(put, to)
		}
	}
	results, err := r.translateAll(ctx, paths)
	if code, refused := refusal(err); refused && !sessionLost(code) {
		return units, spans, nil // it has no paths, and so nothing is known of units
	}
	if err != nil {
		return nil, nil, fmt.Errorf("look up units: %w", err)
	}
	for k, res := range results {
		if found, err := target(namespaces{}, res); err == nil {
			*put[k] = found
		}
	}
	return units, spans, nil
}

func numeric(t mesh.Type) bool {
	return t == mesh.TypeInt || t == mesh.TypeUint || t == mesh.TypeDouble
}

// name is a node id that means the same whatever index its namespace has.
func (n namespaces) name(t *ua.NodeID) string {
	_, rest, ok := strings.Cut(t.String(), ";")
	if i := int(t.Namespace()); ok && i > 0 && i < len(n.uris) {
		return "nsu=" + n.uris[i] + ";" + rest
	}
	return t.String()
}

// objectOf is the structure read, where it is good and of this type.
func objectOf[T any](v *ua.DataValue) (out T, ok bool) {
	x, ok := scalarOf[*ua.ExtensionObject](v)
	if !ok || x == nil {
		return out, false
	}
	out, ok = x.Value.(T)
	return out, ok
}

// unitOf is the unit that EngineeringUnits says.
func unitOf(v *ua.DataValue) string {
	u, ok := objectOf[*ua.EUInformation](v)
	if !ok || u == nil {
		return ""
	}
	if code, ok := commonCode(u.UnitID); ok && u.NamespaceURI == unece {
		return code
	}
	if u.DisplayName != nil && u.DisplayName.Text != "" {
		return fmt.Sprintf("%.40q", u.DisplayName.Text)
	}
	return ""
}

// commonCode is the code in the bytes of a unit's number: 4408652 is CEL.
func commonCode(number int32) (code string, ok bool) {
	for shift := 24; shift >= 0; shift -= 8 {
		switch c := byte(number >> shift); {
		case c == 0 && code == "":
		case c >= '0' && c <= '9' || c >= 'A' && c <= 'Z':
			code += string(rune(c))
		default:
			return "", false
		}
	}
	return code, len(code) >= 2
}

// typeOf is the type of samples that a built-in data type or one of OPC 10000-5's own
// gives; none: it depends.
func typeOf(kind string) mesh.Type {
	switch kind {
	case "i=1":
		return mesh.TypeBool
	case "i=2", "i=4", "i=6", "i=8", "i=27":
		return mesh.TypeInt
	case "i=3", "i=5", "i=7", "i=9", "i=19", "i=28":
		return mesh.TypeUint
	case "i=10", "i=11", "i=290":
		return mesh.TypeDouble
	case "i=12", "i=13", "i=14", "i=16", "i=17", "i=20", "i=21", "i=294":
		return mesh.TypeString
	case "i=15":
		return mesh.TypeBytes
	}
	return mesh.TypeNone
}
