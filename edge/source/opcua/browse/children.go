package browse

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/gopcua/opcua/id"
	"github.com/gopcua/opcua/ua"
	"golang.org/x/sync/errgroup"

	"plantmesh/edge/source/opcua/channel"
)

// Classes of nodes, as they are told.
const (
	classObject   = "object"
	classVariable = "variable"
	classMethod   = "method"
)

// typeProperty is the type of properties in namespace 0.
const typeProperty = "i=68"

// emptyPages is how many pages without a reference are taken one after the other:
// a page may be empty (OPC 10000-4 §5.9.3), but not for ever.
const emptyPages = 16

// found is what was found below one node.
type found struct {
	refs   []*ua.ReferenceDescription
	status ua.StatusCode
	why    error // the call failed, and is no reason to end the walk
	more   bool  // there is more, which was not taken
	stuck  bool  // pages without references came without end
}

// children asks what stands below each of a stretch of nodes, and claims what was
// not seen before. The lists are in the order of the nodes.
func (w *walker) children(ctx context.Context, of []Node, root bool) ([][]Node, error) {
	out := make([][]Node, len(of))
	var ask []int
	for i := range of {
		switch {
		case w.full || !w.goesBelow(&of[i]) && !root:
		case of[i].Depth+1 >= w.cfg.Depth:
			// Whether something stands there is not asked: the depth is what was wanted.
			if of[i].Class == classObject {
				w.stop("stopped at depth %d: the cap --depth", w.cfg.Depth)
			}
		default:
			ask = append(ask, i)
		}
	}
	got, err := w.browseAll(ctx, of, ask, root)
	if err != nil {
		return nil, err
	}
	for k, i := range ask {
		w.judge(&of[i], &got[k])
		out[i] = w.take(&of[i], got[k].refs)
		got[k].refs = nil
		if got[k].more && !w.full {
			w.full = true
			w.stop("stopped at %d nodes, with more references to them than the cap --max-nodes lets be looked at", w.told)
		}
	}
	return out, nil
}

// judge notes what was odd below a node.
func (w *walker) judge(n *Node, f *found) {
	name := func() string { return fmt.Sprintf("%s (%s)", n.Name, cut(n.ID, maxShown)) }
	switch {
	case f.why != nil:
		w.note("%s: what stands below could not be asked: %v", name(), f.why)
	case f.stuck:
		w.note("%s: the server sends pages without an entry and says there is more: given up after %d", name(), emptyPages)
	case f.status != ua.StatusOK:
		w.note("%s: what stands below is not told: %s", name(), statusName(f.status))
	}
}

// take claims the nodes of references, in their order.
func (w *walker) take(parent *Node, refs []*ua.ReferenceDescription) (out []Node) {
	for _, r := range refs {
		if w.full {
			break
		}
		if n, ok := w.node(parent, r); ok {
			out = append(out, n)
		}
	}
	return out
}

// node makes a node of a reference, where it is a new one.
func (w *walker) node(parent *Node, r *ua.ReferenceDescription) (n Node, ok bool) {
	at, ok := w.server.local(r.NodeID)
	if !ok || r.BrowseName == nil {
		return n, false
	}
	key := at.String()
	if len(key) > maxID {
		w.note("%s: a node id of %d bytes is left out: at most %d are allowed", parent.Name, len(key), maxID)
		return n, false
	}
	if !w.claim(key) {
		w.isUnit(parent, r, at)
		return n, false
	}
	if len(w.seen)-1 > w.cfg.MaxNodes {
		w.full = true
		w.stop("stopped at %d nodes: the cap --max-nodes", w.cfg.MaxNodes)
		return n, false
	}
	n = Node{
		ID: w.server.text(at), Name: cut(r.BrowseName.Name, maxName), Namespace: w.server.uri(r.BrowseName.NamespaceIndex),
		Class: className(r.NodeClass), Depth: parent.Depth + 1, node: at,
	}
	if t, ok := w.server.local(r.TypeDefinition); ok && r.NodeClass != ua.NodeClassMethod {
		n.Type = w.types.intern(t)
	}
	if w.text += len(n.ID) + len(n.Name); w.text > w.cfg.MaxText {
		w.full = true
		w.stop("stopped at %d MiB of names and node ids: the cap --max-text", w.cfg.MaxText>>20)
		return n, false
	}
	n.Picked = w.picks(&n)
	w.isUnit(parent, r, at)
	return n, true
}

// isUnit keeps a variable's property EngineeringUnits (OPC 10000-8 §5.6.3).
func (w *walker) isUnit(parent *Node, r *ua.ReferenceDescription, at *ua.NodeID) {
	if parent.Class == classVariable && r.BrowseName.NamespaceIndex == 0 && r.BrowseName.Name == "EngineeringUnits" {
		parent.unit = at
	}
}

func (w *walker) picks(n *Node) bool {
	return (w.cfg.Filter == nil || w.cfg.Filter.MatchString(n.Name)) &&
		(w.cfg.Class == "" || w.cfg.Class == n.Class) && contains(n, w.cfg.Spaces)
}

func className(c ua.NodeClass) string {
	switch c { //nolint:exhaustive // no others are asked for
	case ua.NodeClassVariable:
		return classVariable
	case ua.NodeClassMethod:
		return classMethod
	}
	return classObject
}

// browseAll asks for what is below the nodes of ask, some requests at a time.
func (w *walker) browseAll(ctx context.Context, of []Node, ask []int, root bool) ([]found, error) {
	got := make([]found, len(ask))
	per, refs := w.server.browseNodes, refsPerNode
	if root || len(ask) < per/10 { // few nodes: each may have many below it
		per, refs = max(1, per/10), refsPerStart/max(1, min(len(ask), per/10))
		refs = max(refs, refsPerNode)
	}
	// What a stretch may bring is bounded by what may still be told, and a quarter
	// more: some of it was seen before.
	budget := new(atomic.Int64)
	budget.Store(int64(w.cfg.MaxNodes-len(w.seen))*5/4 + 1000)
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(inFlight)
	for from := 0; from < len(ask); from += per {
		to := min(from+per, len(ask))
		p := &pager{server: &w.server, mask: w.mask(), refs: uint32(refs), budget: budget}
		for k := from; k < to; k++ {
			p.nodes, p.into = append(p.nodes, of[ask[k]].node), append(p.into, &got[k])
		}
		g.Go(func() error { return p.browse(gctx, p.nodes, p.into) })
	}
	return got, g.Wait()
}

func (w *walker) mask() uint32 {
	m := ua.NodeClassObject | ua.NodeClassVariable
	if w.cfg.Methods || w.cfg.Class == classMethod {
		m |= ua.NodeClassMethod
	}
	return uint32(m)
}

// pager takes what is below some nodes, page by page.
type pager struct {
	server *server
	nodes  []*ua.NodeID
	into   []*found
	mask   uint32
	refs   uint32 // of one node in one page
	budget *atomic.Int64
}

// browse asks for nodes; where the server refuses so many at once, for half of
// them and the other half.
func (p *pager) browse(ctx context.Context, nodes []*ua.NodeID, into []*found) error {
	req := &ua.BrowseRequest{RequestedMaxReferencesPerNode: p.refs, View: &ua.ViewDescription{ViewID: ua.NewTwoByteNodeID(0)}}
	for _, n := range nodes {
		req.NodesToBrowse = append(req.NodesToBrowse, &ua.BrowseDescription{
			NodeID: n, BrowseDirection: ua.BrowseDirectionForward, ReferenceTypeID: ua.NewNumericNodeID(0, id.HierarchicalReferences), IncludeSubtypes: true,
			NodeClassMask: p.mask, ResultMask: uint32(ua.BrowseResultMaskNodeClass | ua.BrowseResultMaskBrowseName | ua.BrowseResultMaskTypeDefinition),
		})
	}
	resp, err := p.server.call(ctx, req)
	if tooMuch(err) && len(nodes) > 1 {
		half := len(nodes) / 2
		if err := p.browse(ctx, nodes[:half], into[:half]); err != nil {
			return err
		}
		return p.browse(ctx, nodes[half:], into[half:])
	}
	if refused(err) {
		for _, f := range into {
			f.why = err
		}
		return nil
	}
	if err != nil {
		return fmt.Errorf("browse %d nodes: %w", len(nodes), err)
	}
	r, ok := resp.(*ua.BrowseResponse)
	if !ok || len(r.Results) != len(nodes) {
		return fmt.Errorf("the server was asked what stands below %d nodes and answered with %s", len(nodes), counted(resp))
	}
	return p.next(ctx, nodes, into, r.Results)
}

// next takes pages and asks for those that follow, until none does.
func (p *pager) next(ctx context.Context, nodes []*ua.NodeID, into []*found, page []*ua.BrowseResult) error {
	var alone []int // the server had no continuation point left for them
	empty := 0
	open := make([]int, len(nodes))
	for i := range open {
		open[i] = i
	}
	for len(open) > 0 {
		points, still, took := p.page(into, open, page, &alone)
		if empty++; took > 0 {
			empty = 0
		}
		over := p.budget.Load() <= 0
		if len(still) > 0 && (over || empty >= emptyPages) {
			for _, i := range still {
				into[i].more, into[i].stuck = over, !over
			}
			p.release(ctx, points)
			break
		}
		open = still
		if len(open) == 0 {
			break
		}
		var err error
		if page, err = p.follow(ctx, points); err != nil {
			return err
		}
	}
	for _, i := range alone {
		if len(nodes) == 1 {
			into[i].status = ua.StatusBadNoContinuationPoints
			break
		}
		into[i].refs = nil
		if err := p.browse(ctx, nodes[i:i+1], into[i:i+1]); err != nil {
			return err
		}
	}
	return nil
}

// page takes one page of results; open says whose they are.
func (p *pager) page(into []*found, open []int, page []*ua.BrowseResult, alone *[]int) (points [][]byte, still []int, took int) {
	for k, r := range page {
		i := open[k]
		switch {
		case r == nil:
			into[i].status = ua.StatusBadNoData
			continue
		case r.StatusCode == ua.StatusBadNoContinuationPoints:
			*alone = append(*alone, i)
			continue
		case uint32(r.StatusCode)&0x80000000 != 0:
			into[i].status = r.StatusCode
			continue
		}
		left := p.budget.Add(-int64(len(r.References)))
		if left < 0 { // what is over it is not kept
			keep := max(0, len(r.References)+int(left))
			into[i].more = true
			r.References = r.References[:keep]
		}
		took += len(r.References)
		into[i].refs = append(into[i].refs, r.References...)
		if len(r.ContinuationPoint) > 0 {
			points, still = append(points, r.ContinuationPoint), append(still, i)
		}
	}
	return points, still, took
}

func (p *pager) follow(ctx context.Context, points [][]byte) ([]*ua.BrowseResult, error) {
	resp, err := p.server.call(ctx, &ua.BrowseNextRequest{ContinuationPoints: points})
	if err != nil {
		return nil, fmt.Errorf("browse on: %w", err)
	}
	r, ok := resp.(*ua.BrowseNextResponse)
	if !ok || len(r.Results) != len(points) {
		return nil, fmt.Errorf("the server was asked to go on at %d places and answered with %s", len(points), counted(resp))
	}
	return r.Results, nil
}

// release gives continuation points back.
func (p *pager) release(ctx context.Context, points [][]byte) {
	// What the server says doesn't matter: they end with the session.
	_, _ = p.server.call(ctx, &ua.BrowseNextRequest{ReleaseContinuationPoints: true, ContinuationPoints: points})
}

// tooMuch reports whether a call failed for its size.
func tooMuch(err error) bool {
	for _, code := range []ua.StatusCode{ua.StatusBadTooManyOperations, ua.StatusBadResponseTooLarge, ua.StatusBadRequestTooLarge, ua.StatusBadEncodingLimitsExceeded} {
		if errors.Is(err, code) {
			return true
		}
	}
	return errors.Is(err, channel.ErrTooLarge)
}

// refused reports whether the server itself said no to a call; the session lives.
func refused(err error) bool {
	code, ok := errors.AsType[ua.StatusCode](err)
	if !ok {
		return false
	}
	switch code { // these end the session, the others don't
	case ua.StatusBadSessionIDInvalid, ua.StatusBadSessionClosed, ua.StatusBadSessionNotActivated, ua.StatusBadSecureChannelIDInvalid, ua.StatusBadSecureChannelClosed, ua.StatusBadServerHalted, ua.StatusBadShutdown:
		return false
	}
	return true
}
