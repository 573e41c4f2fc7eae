package datatype

import (
	"context"
	"fmt"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/gopcua/opcua/id"
	"github.com/gopcua/opcua/ua"
)

// space is a server's address space with data types in it. It implements Caller.
type space struct {
	attrs  map[string]map[ua.AttributeID]any
	refs   map[string][]*ua.ReferenceDescription // of kind and direction, see ref
	most   int                                   // operations of one request; 0: any number
	fail   error                                 // of every request
	calls  int
	ids    map[reflect.Type]uint32
	browse int
}

func newSpace() *space {
	return &space{attrs: map[string]map[ua.AttributeID]any{}, refs: map[string][]*ua.ReferenceDescription{}, ids: map[reflect.Type]uint32{}}
}

func ref(node *ua.NodeID, kind uint32, forward bool) string {
	return fmt.Sprintf("%s %d %t", node, kind, forward)
}

func (s *space) Call(_ context.Context, req ua.Request) (ua.Response, error) {
	s.calls++
	if s.fail != nil {
		return nil, s.fail
	}
	switch r := req.(type) {
	case *ua.ReadRequest:
		if s.most > 0 && len(r.NodesToRead) > s.most {
			return nil, ua.StatusBadTooManyOperations
		}
		out := &ua.ReadResponse{}
		for _, n := range r.NodesToRead {
			v, ok := s.attrs[n.NodeID.String()][n.AttributeID]
			if !ok {
				out.Results = append(out.Results, &ua.DataValue{Status: ua.StatusBadAttributeIDInvalid})
				continue
			}
			out.Results = append(out.Results, &ua.DataValue{Value: ua.MustVariant(v)})
		}
		return out, nil
	case *ua.BrowseRequest:
		s.browse++
		if s.most > 0 && len(r.NodesToBrowse) > s.most {
			return nil, ua.StatusBadTooManyOperations
		}
		out := &ua.BrowseResponse{}
		for _, n := range r.NodesToBrowse {
			out.Results = append(out.Results, &ua.BrowseResult{References: slices.Clone(s.refs[ref(n.NodeID, n.ReferenceTypeID.IntID(), n.BrowseDirection == ua.BrowseDirectionForward)])})
		}
		return out, nil
	}
	return nil, ua.StatusBadServiceUnsupported
}

// link adds a reference and its inverse.
func (s *space) link(from *ua.NodeID, kind uint32, to *ua.NodeID, name string) {
	s.refs[ref(from, kind, true)] = append(s.refs[ref(from, kind, true)], &ua.ReferenceDescription{NodeID: &ua.ExpandedNodeID{NodeID: to}, BrowseName: &ua.QualifiedName{Name: name}})
	s.refs[ref(to, kind, false)] = append(s.refs[ref(to, kind, false)], &ua.ReferenceDescription{NodeID: &ua.ExpandedNodeID{NodeID: from}, BrowseName: &ua.QualifiedName{}})
}

// add makes a data type ns=1;i=n with encoding ns=1;i=n+5000.
func (s *space) add(n uint32, name string, base *ua.NodeID, def any) *ua.NodeID {
	node := ua.NewNumericNodeID(1, n)
	s.attrs[node.String()] = map[ua.AttributeID]any{ua.AttributeIDBrowseName: &ua.QualifiedName{Name: name}, ua.AttributeIDIsAbstract: false}
	if def != nil {
		s.attrs[node.String()][ua.AttributeIDDataTypeDefinition] = &ua.ExtensionObject{EncodingMask: 1, TypeID: ua.NewTwoByteExpandedNodeID(0), Value: def}
	}
	s.link(base, id.HasSubtype, node, name)
	if _, ok := def.(*ua.StructureDefinition); ok {
		s.link(node, id.HasEncoding, ua.NewNumericNodeID(1, n+5000), "Default Binary")
	}
	return node
}

// variable makes a node of this type.
func (s *space) variable(name string, of *ua.NodeID, rank int32) *ua.NodeID {
	node := ua.NewStringNodeID(1, name)
	s.attrs[node.String()] = map[ua.AttributeID]any{ua.AttributeIDDataType: of, ua.AttributeIDValueRank: rank}
	return node
}

func zero(n uint32) *ua.NodeID { return ua.NewNumericNodeID(0, n) }

// structOf makes the data type of a Go type that the library encodes, and those in it.
func (s *space) structOf(t reflect.Type) *ua.NodeID {
	if n, ok := s.ids[t]; ok {
		return ua.NewNumericNodeID(1, n)
	}
	n := uint32(len(s.ids) + 1)
	s.ids[t] = n
	d := &ua.StructureDefinition{DefaultEncodingID: ua.NewNumericNodeID(1, n+5000), BaseDataType: zero(id.Structure)}
	for f := range t.Fields() {
		of, rank := f.Type, int32(-1)
		if of.Kind() == reflect.Slice && of != reflect.TypeFor[[]byte]() {
			of, rank = of.Elem(), 1
		}
		d.Fields = append(d.Fields, &ua.StructureField{Name: f.Name, DataType: s.typeOf(of), ValueRank: rank})
	}
	return s.add(n, t.Name(), zero(id.Structure), d)
}

func (s *space) typeOf(t reflect.Type) *ua.NodeID {
	switch t {
	case reflect.TypeFor[[]byte]():
		return zero(id.ByteString)
	case reflect.TypeFor[time.Time]():
		return zero(id.DateTime)
	case reflect.TypeFor[*ua.LocalizedText]():
		return zero(id.LocalizedText)
	case reflect.TypeFor[*ua.QualifiedName]():
		return zero(id.QualifiedName)
	case reflect.TypeFor[*ua.NodeID]():
		return zero(id.NodeID)
	case reflect.TypeFor[*ua.GUID]():
		return zero(id.GUID)
	case reflect.TypeFor[*ua.Variant]():
		return zero(id.BaseDataType)
	case reflect.TypeFor[ua.StatusCode]():
		return zero(id.StatusCode)
	case reflect.TypeFor[ua.ServerState]():
		return s.enum(900, "ServerState", zero(id.Enumeration))
	}
	switch t.Kind() { //nolint:exhaustive // the kinds that fields have
	case reflect.Pointer:
		return s.structOf(t.Elem())
	case reflect.Bool:
		return zero(id.Boolean)
	case reflect.Int8:
		return zero(id.SByte)
	case reflect.Uint8:
		return zero(id.Byte)
	case reflect.Int16:
		return zero(id.Int16)
	case reflect.Uint16:
		return zero(id.UInt16)
	case reflect.Int32:
		return zero(id.Int32)
	case reflect.Uint32:
		return zero(id.UInt32)
	case reflect.Int64:
		return zero(id.Int64)
	case reflect.Uint64:
		return zero(id.UInt64)
	case reflect.Float32:
		return zero(id.Float)
	case reflect.Float64:
		return zero(id.Double)
	case reflect.String:
		return zero(id.String)
	}
	panic(t.String())
}

func (s *space) enum(n uint32, name string, base *ua.NodeID) *ua.NodeID {
	if s.attrs[ua.NewNumericNodeID(1, n).String()] != nil {
		return ua.NewNumericNodeID(1, n)
	}
	return s.add(n, name, base, &ua.EnumDefinition{Fields: []*ua.EnumField{{Value: 0, Name: "Running"}, {Value: 1, Name: "Failed", DisplayName: &ua.LocalizedText{Text: "gestört"}}}})
}

// shapes reads what these nodes are.
func (s *space) shapes(t *testing.T, nodes ...*ua.NodeID) (*Book, []Shape) {
	t.Helper()
	b := NewBook()
	out, err := b.Shapes(t.Context(), s, nodes)
	if err != nil {
		t.Fatal(err)
	}
	return b, out
}
