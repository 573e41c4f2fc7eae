package datatype

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/gopcua/opcua/id"
	"github.com/gopcua/opcua/ua"
)

// perCall is how many operations one request has; servers that take fewer are
// asked for fewer.
const perCall = 500

// each makes requests of many operations. What the server refuses has no answer;
// only what breaks the connection is an error. Answers are used one by one and not
// kept: each may be as large as a message.
func each[Q any](list []Q, call func(from int, part []Q) error) error {
	size := perCall
	for from := 0; from < len(list); {
		part := list[from:min(from+size, len(list))]
		err := call(from, part)
		var code ua.StatusCode
		switch {
		case err == nil:
		case !errors.As(err, &code) || sessionLost(code):
			return err
		case len(part) > 1 && large(code):
			size = max(1, len(part)/2)
			continue
		}
		from += len(part)
	}
	return nil
}

// large reports whether a refusal says that less at a time may be taken.
func large(code ua.StatusCode) bool {
	switch code {
	case ua.StatusBadTooManyOperations, ua.StatusBadResponseTooLarge, ua.StatusBadRequestTooLarge, ua.StatusBadEncodingLimitsExceeded:
		return true
	default:
		return false
	}
}

func sessionLost(code ua.StatusCode) bool {
	switch code {
	case ua.StatusBadSessionIDInvalid, ua.StatusBadSessionClosed, ua.StatusBadSessionNotActivated, ua.StatusBadSecureChannelIDInvalid, ua.StatusBadTimeout:
		return true
	default:
		return false
	}
}

func attribute(n *ua.NodeID, a ua.AttributeID) *ua.ReadValueID {
	return &ua.ReadValueID{NodeID: n, AttributeID: a, DataEncoding: &ua.QualifiedName{}}
}

// read reads attributes and gives those that the server has to take.
func read(ctx context.Context, c Caller, list []*ua.ReadValueID, take func(i int, v any)) error {
	err := each(list, func(from int, part []*ua.ReadValueID) error {
		r, err := c.Call(ctx, &ua.ReadRequest{TimestampsToReturn: ua.TimestampsToReturnNeither, NodesToRead: part})
		if err != nil {
			return err
		}
		v, ok := r.(*ua.ReadResponse)
		if !ok || len(v.Results) != len(part) {
			return fmt.Errorf("the server answered a read of %d attributes otherwise (%T)", len(part), r)
		}
		for i, x := range v.Results {
			if y := content(x); y != nil {
				take(from+i, y)
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("read the data types: %w", err)
	}
	return nil
}

// content is the value read, nil where it is bad or none.
func content(v *ua.DataValue) any {
	if v == nil || v.Value == nil || uint32(v.Status)&(1<<31) != 0 {
		return nil
	}
	return v.Value.Value()
}

func references(n *ua.NodeID, direction ua.BrowseDirection, kind uint32) *ua.BrowseDescription {
	return &ua.BrowseDescription{
		NodeID: n, BrowseDirection: direction, ReferenceTypeID: ua.NewNumericNodeID(0, kind), ResultMask: uint32(ua.BrowseResultMaskBrowseName),
	}
}

func properties(n *ua.NodeID) *ua.BrowseDescription {
	return references(n, ua.BrowseDirectionForward, id.HasProperty)
}

// browse follows references and gives those of each node to take. Types and their
// properties have few: where a server wants to be asked again for more, the first
// are enough.
func browse(ctx context.Context, c Caller, list []*ua.BrowseDescription, take func(i int, refs []*ua.ReferenceDescription)) error {
	err := each(list, func(from int, part []*ua.BrowseDescription) error {
		r, err := c.Call(ctx, &ua.BrowseRequest{View: &ua.ViewDescription{ViewID: ua.NewTwoByteNodeID(0)}, NodesToBrowse: part})
		if err != nil {
			return err
		}
		v, ok := r.(*ua.BrowseResponse)
		if !ok || len(v.Results) != len(part) {
			return fmt.Errorf("the server answered a browse of %d nodes otherwise (%T)", len(part), r)
		}
		var more [][]byte
		for i, x := range v.Results {
			if x == nil {
				continue
			}
			if len(x.ContinuationPoint) > 0 {
				more = append(more, x.ContinuationPoint)
			}
			take(from+i, slices.DeleteFunc(x.References, func(r *ua.ReferenceDescription) bool { return r == nil || target(r) == nil }))
		}
		return release(ctx, c, more)
	})
	if err != nil {
		return fmt.Errorf("browse the data types: %w", err)
	}
	return nil
}

// release lets the server forget what it has left over.
func release(ctx context.Context, c Caller, more [][]byte) error {
	return each(more, func(_ int, part [][]byte) error {
		_, err := c.Call(ctx, &ua.BrowseNextRequest{ReleaseContinuationPoints: true, ContinuationPoints: part})
		return err
	})
}

// target is the node a reference leads to; nil where it is on another server.
func target(r *ua.ReferenceDescription) *ua.NodeID {
	if r.NodeID == nil || r.NodeID.ServerIndex != 0 || r.NodeID.NamespaceURI != "" || !sound(r.NodeID.NodeID) {
		return nil
	}
	return r.NodeID.NodeID
}

// sound reports whether a node id is one, and not so long that many could not be kept.
func sound(n *ua.NodeID) bool { return n != nil && len(n.StringID()) <= maxID }

// named are references by the browse names of their targets.
func named(refs []*ua.ReferenceDescription) map[string]*ua.NodeID {
	var out map[string]*ua.NodeID
	for _, r := range refs {
		if r.BrowseName == nil {
			continue
		}
		switch r.BrowseName.Name {
		case "EnumStrings", "EnumValues", "OptionSetValues":
			if out == nil {
				out = map[string]*ua.NodeID{}
			}
			out[r.BrowseName.Name] = target(r)
		}
	}
	return out
}
