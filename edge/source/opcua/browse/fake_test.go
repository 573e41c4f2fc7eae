package browse

import (
	"context"
	"encoding/binary"
	"strconv"
	"sync"

	"github.com/gopcua/opcua/id"
	"github.com/gopcua/opcua/ua"
)

// fake is a server with any address space: below says what stands below a node.
type fake struct {
	spaces     []string
	below      func(node string) []*ua.ReferenceDescription
	many       int                                               // variables or objects below Objects, made as they are asked for
	class      ua.NodeClass                                      // of those
	reads      int                                               // attributes in one read that it takes; 0: any
	attribute  func(node string, a ua.AttributeID) *ua.DataValue // nil: nobody has attributes
	supertype  func(node string) *ua.NodeID
	limit      uint32 // nodes per browse or read; 0: not told
	most       int    // nodes per browse that it takes all the same
	endless    bool   // pages are empty, and more is always announced
	points     int    // continuation points in one answer; 0: as many as are needed
	mu         sync.Mutex
	browses    int
	released   int
	references int // given out
	largest    int // nodes in one request
}

func (f *fake) Call(_ context.Context, req ua.Request) (ua.Response, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch q := req.(type) {
	case *ua.ReadRequest:
		if f.reads > 0 && len(q.NodesToRead) > f.reads {
			return nil, ua.StatusBadTooManyOperations
		}
		r := &ua.ReadResponse{}
		for _, x := range q.NodesToRead {
			r.Results = append(r.Results, f.read(x))
		}
		return r, nil
	case *ua.BrowseRequest:
		f.browses++
		f.largest = max(f.largest, len(q.NodesToBrowse))
		if f.most > 0 && len(q.NodesToBrowse) > f.most {
			return nil, ua.StatusBadTooManyOperations
		}
		r := &ua.BrowseResponse{}
		free := f.points
		for _, d := range q.NodesToBrowse {
			x := f.page(d, 0, q.RequestedMaxReferencesPerNode)
			if f.points > 0 && len(x.ContinuationPoint) > 0 {
				if free--; free < 0 {
					x = &ua.BrowseResult{StatusCode: ua.StatusBadNoContinuationPoints}
				}
			}
			r.Results = append(r.Results, x)
		}
		return r, nil
	case *ua.BrowseNextRequest:
		r := &ua.BrowseNextResponse{}
		for _, p := range q.ContinuationPoints {
			if q.ReleaseContinuationPoints {
				f.released++
				r.Results = append(r.Results, &ua.BrowseResult{})
				continue
			}
			d := &ua.BrowseDescription{}
			if _, err := ua.Decode(p[8:], d); err != nil {
				return nil, err
			}
			r.Results = append(r.Results, f.page(d, binary.LittleEndian.Uint32(p), binary.LittleEndian.Uint32(p[4:])))
		}
		return r, nil
	}
	return nil, ua.StatusBadServiceUnsupported
}

func (f *fake) page(d *ua.BrowseDescription, skip, most uint32) *ua.BrowseResult {
	if d.BrowseDirection == ua.BrowseDirectionInverse {
		r := &ua.BrowseResult{}
		if f.supertype != nil {
			if up := f.supertype(d.NodeID.String()); up != nil {
				r.References = append(r.References, &ua.ReferenceDescription{NodeID: ua.NewExpandedNodeID(up, "", 0), BrowseName: &ua.QualifiedName{}})
			}
		}
		return r
	}
	all := []*ua.ReferenceDescription{}
	left := f.many - int(skip)
	switch {
	case f.many == 0:
		all = f.below(d.NodeID.String())
		all = all[min(int(skip), len(all)):]
		left = len(all)
	case d.NodeID.String() != "i=85":
		left = 0
	default:
		for i := range min(left, int(most)) {
			all = append(all, ref("n"+strconv.Itoa(int(skip)+i), f.class))
		}
	}
	r := &ua.BrowseResult{References: all}
	if f.endless {
		r.References = nil
	}
	if most > 0 && left > int(most) || f.endless {
		r.References = r.References[:min(len(r.References), int(most))]
		b, err := ua.Encode(d)
		if err != nil {
			return &ua.BrowseResult{StatusCode: ua.StatusBadInternalError}
		}
		r.ContinuationPoint = binary.LittleEndian.AppendUint32(nil, skip+most)
		r.ContinuationPoint = append(binary.LittleEndian.AppendUint32(r.ContinuationPoint, most), b...)
	}
	f.references += len(r.References)
	return r
}

func (f *fake) read(x *ua.ReadValueID) *ua.DataValue {
	good := func(v any) *ua.DataValue {
		return &ua.DataValue{EncodingMask: ua.DataValueValue, Value: ua.MustVariant(v)}
	}
	if x.NodeID.Namespace() == 0 {
		switch x.NodeID.IntID() {
		case id.Server_NamespaceArray:
			return good(append([]string{"http://opcfoundation.org/UA/"}, f.spaces...))
		case id.Server_ServerCapabilities_OperationLimits_MaxNodesPerBrowse, id.Server_ServerCapabilities_OperationLimits_MaxNodesPerRead:
			if f.limit > 0 {
				return good(f.limit)
			}
		}
	}
	if f.attribute != nil {
		if v := f.attribute(x.NodeID.String(), x.AttributeID); v != nil {
			return v
		}
	}
	return &ua.DataValue{EncodingMask: ua.DataValueStatusCode, Status: ua.StatusBadNodeIDUnknown}
}

// ref is a reference to a node whose name is its id.
func ref(node string, class ua.NodeClass) *ua.ReferenceDescription {
	return named(ua.NewStringNodeID(1, node), 1, node, class, ua.NewNumericNodeID(0, id.FolderType))
}

func named(node *ua.NodeID, ns uint16, name string, class ua.NodeClass, typ *ua.NodeID) *ua.ReferenceDescription {
	return &ua.ReferenceDescription{
		NodeID: ua.NewExpandedNodeID(node, "", 0), BrowseName: &ua.QualifiedName{NamespaceIndex: ns, Name: name}, NodeClass: class,
		TypeDefinition: ua.NewExpandedNodeID(typ, "", 0),
	}
}
