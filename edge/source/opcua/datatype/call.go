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

// each makes requests of many operations: of what the server refuses the answers
// are zero. Only what breaks the connection is an error.
func each[Q, A any](list []Q, call func([]Q) ([]A, error)) (out []A, err error) {
	size := perCall
	for len(out) < len(list) {
		part := list[len(out):min(len(out)+size, len(list))]
		got, err := call(part)
		var code ua.StatusCode
		switch {
		case errors.As(err, &code) && sessionLost(code):
			return nil, err
		case errors.As(err, &code) && len(part) > 1 && large(code):
			size = max(1, len(part)/2)
			continue
		case errors.As(err, &code):
			got = make([]A, len(part))
		case err != nil:
			return nil, err
		case len(got) != len(part):
			return nil, fmt.Errorf("the server answered %d operations with %d results", len(part), len(got))
		}
		out = append(out, got...)
	}
	return out, nil
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

func read(ctx context.Context, c Caller, list []*ua.ReadValueID) ([]*ua.DataValue, error) {
	got, err := each(list, func(part []*ua.ReadValueID) ([]*ua.DataValue, error) {
		r, err := c.Call(ctx, &ua.ReadRequest{TimestampsToReturn: ua.TimestampsToReturnNeither, NodesToRead: part})
		if err != nil {
			return nil, err
		}
		v, ok := r.(*ua.ReadResponse)
		if !ok {
			return nil, fmt.Errorf("the server answered a read with %T", r)
		}
		return v.Results, nil
	})
	if err != nil {
		return nil, fmt.Errorf("read the data types: %w", err)
	}
	return got, nil
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

// browse follows references. Types and their properties have few: where a server
// wants to be asked again for more, the first are enough.
func browse(ctx context.Context, c Caller, list []*ua.BrowseDescription) ([][]*ua.ReferenceDescription, error) {
	var more [][]byte
	got, err := each(list, func(part []*ua.BrowseDescription) (out [][]*ua.ReferenceDescription, err error) {
		r, err := c.Call(ctx, &ua.BrowseRequest{View: &ua.ViewDescription{ViewID: ua.NewTwoByteNodeID(0)}, NodesToBrowse: part})
		if err != nil {
			return nil, err
		}
		v, ok := r.(*ua.BrowseResponse)
		if !ok {
			return nil, fmt.Errorf("the server answered a browse with %T", r)
		}
		for _, x := range v.Results {
			if x == nil {
				x = &ua.BrowseResult{}
			}
			if len(x.ContinuationPoint) > 0 {
				more = append(more, x.ContinuationPoint)
			}
			out = append(out, slices.DeleteFunc(x.References, func(r *ua.ReferenceDescription) bool { return r == nil || target(r) == nil }))
		}
		return out, nil
	})
	if err == nil && len(more) > 0 {
		_, err = each(more, func(part [][]byte) ([]bool, error) {
			_, err := c.Call(ctx, &ua.BrowseNextRequest{ReleaseContinuationPoints: true, ContinuationPoints: part})
			return make([]bool, len(part)), err
		})
	}
	if err != nil {
		return nil, fmt.Errorf("browse the data types: %w", err)
	}
	return got, nil
}

// target is the node a reference leads to; nil where it is on another server.
func target(r *ua.ReferenceDescription) *ua.NodeID {
	if r.NodeID == nil || r.NodeID.ServerIndex != 0 || r.NodeID.NamespaceURI != "" {
		return nil
	}
	return r.NodeID.NodeID
}

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
