package opcua

import (
	"context"
	"errors"
	"fmt"

	"github.com/gopcua/opcua/id"
	"github.com/gopcua/opcua/ua"
)

// limits are how many operations one call may carry.
type limits struct {
	read, translate, items int
}

// lower takes what the server says where that is less; 0 says nothing
// (OPC 10000-5 §6.3.11).
func lower(limit *int, said uint32) {
	if said > 0 && int64(said) < int64(*limit) {
		*limit = int(said)
	}
}

// learnLimits reads the server's OperationLimits. Not every server has them.
func (r *Reader) learnLimits(ctx context.Context) error {
	r.limits = limits{read: r.cfg.Limits.Read, translate: r.cfg.Limits.Translate, items: r.cfg.Limits.Items}
	nodes := []uint32{
		id.Server_ServerCapabilities_OperationLimits_MaxNodesPerRead,
		id.Server_ServerCapabilities_OperationLimits_MaxNodesPerTranslateBrowsePathsToNodeIDs,
		id.Server_ServerCapabilities_OperationLimits_MaxMonitoredItemsPerCall,
	}
	var wanted []*ua.ReadValueID
	for _, n := range nodes {
		wanted = append(wanted, attribute(ua.NewNumericNodeID(0, n), ua.AttributeIDValue))
	}
	values, err := r.readAll(ctx, wanted)
	if err != nil {
		return fmt.Errorf("read the server's limits: %w", err)
	}
	for i, limit := range []*int{&r.limits.read, &r.limits.translate, &r.limits.items} {
		said, _ := scalarOf[uint32](values[i])
		lower(limit, said)
	}
	r.log.Debug("what one call may ask of the server", "profile", r.cfg.Profile, "quirk", r.profile.quirk, "sessions", r.profile.sessions,
		"read", r.limits.read, "translate", r.limits.translate, "items", r.limits.items)
	return nil
}

func attribute(node *ua.NodeID, which ua.AttributeID) *ua.ReadValueID {
	return &ua.ReadValueID{NodeID: node, AttributeID: which, DataEncoding: &ua.QualifiedName{}}
}

// scalarOf is the value read, where it is good and of this type.
func scalarOf[T any](v *ua.DataValue) (out T, ok bool) {
	if v == nil || v.Value == nil || uint32(v.Status)&0xC0000000 != 0 {
		return out, false
	}
	out, ok = v.Value.Value().(T)
	return out, ok
}

// readAll reads attributes, in as few calls as the limits allow. A server that
// refuses the service as a whole gives nothing: each value is nil then.
func (r *Reader) readAll(ctx context.Context, wanted []*ua.ReadValueID) ([]*ua.DataValue, error) {
	out := make([]*ua.DataValue, 0, len(wanted))
	err := inCalls(&r.limits.read, wanted, func(some []*ua.ReadValueID) error {
		a, err := call[*ua.ReadResponse](ctx, &r.sess, &ua.ReadRequest{TimestampsToReturn: ua.TimestampsToReturnNeither, NodesToRead: some})
		if err != nil {
			return err
		}
		if len(a.Results) != len(some) {
			return fmt.Errorf("the server answered %d reads with %d results", len(some), len(a.Results))
		}
		out = append(out, a.Results...)
		return nil
	})
	if code, refused := refusal(err); refused && !sessionLost(code) {
		return make([]*ua.DataValue, len(wanted)), nil
	}
	return out, err
}

// translateAll asks where paths lead, in as few calls as the limits allow.
func (r *Reader) translateAll(ctx context.Context, paths []*ua.BrowsePath) ([]*ua.BrowsePathResult, error) {
	out := make([]*ua.BrowsePathResult, 0, len(paths))
	err := inCalls(&r.limits.translate, paths, func(some []*ua.BrowsePath) error {
		a, err := call[*ua.TranslateBrowsePathsToNodeIDsResponse](ctx, &r.sess, &ua.TranslateBrowsePathsToNodeIDsRequest{BrowsePaths: some})
		if err != nil {
			return err
		}
		if len(a.Results) != len(some) {
			return fmt.Errorf("the server answered %d paths with %d results", len(some), len(a.Results))
		}
		out = append(out, a.Results...)
		return nil
	})
	return out, err
}

// inCalls does all in calls of at most size. A call that is too large for the
// server is halved, and so are those behind it.
func inCalls[T any](size *int, all []T, do func(some []T) error) error {
	*size = max(1, *size)
	for len(all) > 0 {
		n := min(*size, len(all))
		err := do(all[:n])
		switch {
		case tooLarge(err) && n > 1:
			*size = n / 2
		case err != nil:
			return err
		default:
			all = all[n:]
		}
	}
	return nil
}

// tooLarge reports whether the server says that a call asks for too much at once.
func tooLarge(err error) bool {
	var code ua.StatusCode
	if !errors.As(err, &code) {
		return false
	}
	switch code {
	case ua.StatusBadTooManyOperations, ua.StatusBadEncodingLimitsExceeded, ua.StatusBadRequestTooLarge, ua.StatusBadResponseTooLarge:
		return true
	default:
		return false
	}
}
