package opcua

import (
	"encoding/binary"

	"github.com/gopcua/opcua/id"
	"github.com/gopcua/opcua/ua"
)

func (s *Server) browse(q *ua.BrowseRequest) ua.Response {
	results := make([]*ua.BrowseResult, len(q.NodesToBrowse))
	for i, d := range q.NodesToBrowse {
		results[i] = s.space.page(d, 0, q.RequestedMaxReferencesPerNode)
	}
	return &ua.BrowseResponse{ResponseHeader: s.header(q.RequestHeader, ua.StatusOK), Results: results, DiagnosticInfos: []*ua.DiagnosticInfo{}}
}

func (s *Server) browseNext(q *ua.BrowseNextRequest) ua.Response {
	results := make([]*ua.BrowseResult, len(q.ContinuationPoints))
	for i, point := range q.ContinuationPoints {
		results[i] = &ua.BrowseResult{References: []*ua.ReferenceDescription{}}
		if q.ReleaseContinuationPoints {
			continue // there is no state to release
		}
		d := new(ua.BrowseDescription)
		if len(point) < 8 {
			results[i].StatusCode = ua.StatusBadContinuationPointInvalid
			continue
		}
		if _, err := ua.Decode(point[8:], d); err != nil {
			results[i].StatusCode = ua.StatusBadContinuationPointInvalid
			continue
		}
		results[i] = s.space.page(d, binary.LittleEndian.Uint32(point), binary.LittleEndian.Uint32(point[4:]))
	}
	return &ua.BrowseNextResponse{ResponseHeader: s.header(q.RequestHeader, ua.StatusOK), Results: results, DiagnosticInfos: []*ua.DiagnosticInfo{}}
}

// page is what a browse finds from its skip-th reference on. A continuation
// point is (skip, most, description): the references never change.
func (p *space) page(d *ua.BrowseDescription, skip, most uint32) *ua.BrowseResult {
	res := p.references(d)
	res.References = res.References[min(int(skip), len(res.References)):]
	if most == 0 || len(res.References) <= int(most) {
		return res
	}
	b, err := ua.Encode(d)
	if err != nil {
		return &ua.BrowseResult{StatusCode: ua.StatusBadInternalError}
	}
	res.References = res.References[:most]
	res.ContinuationPoint = binary.LittleEndian.AppendUint32(nil, skip+most)
	res.ContinuationPoint = binary.LittleEndian.AppendUint32(res.ContinuationPoint, most)
	res.ContinuationPoint = append(res.ContinuationPoint, b...)
	return res
}

// references is everything a browse finds.
func (p *space) references(d *ua.BrowseDescription) *ua.BrowseResult {
	if d.NodeID.Namespace() == 0 {
		res := p.zero.Browse(d)
		if d.NodeID.IntID() == id.ObjectsFolder && d.BrowseDirection != ua.BrowseDirectionInverse {
			for _, c := range p.roots {
				res.References = p.find(res.References, d, c.ref, true, c.to)
			}
		}
		return res
	}
	e := p.nodes[d.NodeID.String()]
	if e == nil {
		return &ua.BrowseResult{StatusCode: ua.StatusBadNodeIDUnknown}
	}
	res := &ua.BrowseResult{References: []*ua.ReferenceDescription{}}
	if d.BrowseDirection != ua.BrowseDirectionInverse {
		res.References = p.typeOf(res.References, d, e)
		for _, c := range e.children {
			res.References = p.find(res.References, d, c.ref, true, c.to)
		}
	}
	if d.BrowseDirection != ua.BrowseDirectionForward && e.parent != nil {
		res.References = p.find(res.References, d, e.by, false, e.parent)
	}
	return res
}

func (p *space) find(refs []*ua.ReferenceDescription, d *ua.BrowseDescription, ref uint32, forward bool, to *entry) []*ua.ReferenceDescription {
	if !suits(d, ref) || d.NodeClassMask != 0 && d.NodeClassMask&uint32(to.class) == 0 {
		return refs
	}
	return append(refs, &ua.ReferenceDescription{
		ReferenceTypeID: ua.NewNumericNodeID(0, ref),
		IsForward:       forward,
		NodeID:          ua.NewExpandedNodeID(to.id, "", 0),
		BrowseName:      to.browse,
		DisplayName:     ua.NewLocalizedText(to.browse.Name),
		NodeClass:       to.class,
		TypeDefinition:  ua.NewExpandedNodeID(to.typ, "", 0),
	})
}

// typeOf adds the type definition of e.
func (p *space) typeOf(refs []*ua.ReferenceDescription, d *ua.BrowseDescription, e *entry) []*ua.ReferenceDescription {
	class := ua.NodeClassObjectType
	if e.class == ua.NodeClassVariable {
		class = ua.NodeClassVariableType
	}
	if !suits(d, id.HasTypeDefinition) || d.NodeClassMask != 0 && d.NodeClassMask&uint32(class) == 0 {
		return refs
	}
	return append(refs, &ua.ReferenceDescription{
		ReferenceTypeID: ua.NewNumericNodeID(0, id.HasTypeDefinition),
		IsForward:       true,
		NodeID:          ua.NewExpandedNodeID(e.typ, "", 0),
		BrowseName:      &ua.QualifiedName{},
		DisplayName:     ua.NewLocalizedText(""),
		NodeClass:       class,
		TypeDefinition:  ua.NewTwoByteExpandedNodeID(0),
	})
}

// suits says whether a browse asks for references of this type: the type
// itself, or one above it in the tree of reference types (OPC 10000-5 §11).
func suits(d *ua.BrowseDescription, ref uint32) bool {
	if d.ReferenceTypeID == nil || d.ReferenceTypeID.Namespace() != 0 {
		return d.ReferenceTypeID == nil
	}
	asked := d.ReferenceTypeID.IntID()
	if asked == 0 || asked == ref {
		return true
	}
	if !d.IncludeSubtypes {
		return false
	}
	for up := above(ref); up != 0; up = above(up) {
		if up == asked {
			return true
		}
	}
	return false
}

// above is the supertype of a reference type we use, or 0.
func above(ref uint32) uint32 {
	switch ref {
	case id.HasAddIn:
		return id.HasComponent
	case id.HasComponent, id.HasProperty:
		return id.Aggregates
	case id.Aggregates:
		return id.HasChild
	case id.Organizes, id.HasChild:
		return id.HierarchicalReferences
	case id.HasTypeDefinition:
		return id.NonHierarchicalReferences
	case id.HierarchicalReferences, id.NonHierarchicalReferences:
		return id.References
	}
	return 0
}
