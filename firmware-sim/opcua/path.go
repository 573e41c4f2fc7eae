package opcua

import (
	"slices"

	"github.com/gopcua/opcua/id"
	"github.com/gopcua/opcua/ua"
)

// translate follows browse names from node to node (OPC 10000-4 §5.9.4).
func (s *Server) translate(q *ua.TranslateBrowsePathsToNodeIDsRequest) ua.Response {
	results := make([]*ua.BrowsePathResult, len(q.BrowsePaths))
	for i, p := range q.BrowsePaths {
		results[i] = s.space.follow(p)
	}
	return &ua.TranslateBrowsePathsToNodeIDsResponse{ResponseHeader: s.header(q.RequestHeader, ua.StatusOK), Results: results, DiagnosticInfos: []*ua.DiagnosticInfo{}}
}

func (p *space) follow(path *ua.BrowsePath) *ua.BrowsePathResult {
	none := func(code ua.StatusCode) *ua.BrowsePathResult {
		return &ua.BrowsePathResult{StatusCode: code, Targets: []*ua.BrowsePathTarget{}}
	}
	if path.RelativePath == nil || len(path.RelativePath.Elements) == 0 {
		return none(ua.StatusBadNothingToDo)
	}
	if path.StartingNode == nil || !p.has(path.StartingNode) {
		return none(ua.StatusBadNodeIDUnknown)
	}
	at := []*ua.NodeID{path.StartingNode}
	for _, e := range path.RelativePath.Elements {
		if e.TargetName == nil || e.TargetName.Name == "" {
			return none(ua.StatusBadBrowseNameInvalid)
		}
		var next []*ua.NodeID
		for _, n := range at {
			next = p.named(next, n, e)
		}
		at = next
	}
	if len(at) == 0 {
		return none(ua.StatusBadNoMatch)
	}
	res := none(ua.StatusOK)
	for _, n := range at {
		res.Targets = append(res.Targets, &ua.BrowsePathTarget{TargetID: ua.NewExpandedNodeID(n, "", 0), RemainingPathIndex: 0xFFFFFFFF})
	}
	return res
}

// named adds the nodes that one element of a path leads to.
func (p *space) named(to []*ua.NodeID, from *ua.NodeID, e *ua.RelativePathElement) []*ua.NodeID {
	d := &ua.BrowseDescription{
		NodeID: from, BrowseDirection: ua.BrowseDirectionForward, ReferenceTypeID: e.ReferenceTypeID, IncludeSubtypes: e.IncludeSubtypes,
		ResultMask: uint32(ua.BrowseResultMaskAll),
	}
	if e.IsInverse {
		d.BrowseDirection = ua.BrowseDirectionInverse
	}
	if d.ReferenceTypeID == nil || d.ReferenceTypeID.Namespace() == 0 && d.ReferenceTypeID.IntID() == 0 {
		d.ReferenceTypeID, d.IncludeSubtypes = ua.NewNumericNodeID(0, id.References), true // none named: any
	}
	for _, ref := range p.references(d).References {
		same := ref.BrowseName.NamespaceIndex == e.TargetName.NamespaceIndex && ref.BrowseName.Name == e.TargetName.Name
		if n := ref.NodeID.NodeID; same && !slices.ContainsFunc(to, func(o *ua.NodeID) bool { return o.String() == n.String() }) {
			to = append(to, n)
		}
	}
	return to
}

// registerNodes gives the ids back as they are: they are fast already
// (OPC 10000-4 §5.9.5).
func (s *Server) registerNodes(q *ua.RegisterNodesRequest) ua.Response {
	if len(q.NodesToRegister) == 0 {
		return s.fault(q.RequestHeader, ua.StatusBadNothingToDo)
	}
	return &ua.RegisterNodesResponse{ResponseHeader: s.header(q.RequestHeader, ua.StatusOK), RegisteredNodeIDs: q.NodesToRegister}
}

func (s *Server) unregisterNodes(q *ua.UnregisterNodesRequest) ua.Response {
	return &ua.UnregisterNodesResponse{ResponseHeader: s.header(q.RequestHeader, ua.StatusOK)}
}
