package opcua

import (
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gopcua/opcua/id"
	"github.com/gopcua/opcua/server"
	"github.com/gopcua/opcua/ua"
	"github.com/gopcua/opcua/uasc"

	"plantmesh/proto/mesh"
)

// plc is a server whose nodes a test moves about. Its sessions and subscriptions
// outlive connections; channel and discovery are the library's. Its clock is noon
// and what passed since.
type plc struct {
	t        *testing.T
	endpoint string

	mu     sync.Mutex // protects everything below
	clock  mesh.Nanos
	uris   []string
	cells  map[string]*cell  // by node id
	paths  map[string]string // browse path to node id, "0:Objects/2:press/2:speed"
	most   int               // operations in one call
	says   map[uint32]uint32 // limits it says, by their node
	refuse func(ua.Request) error
	hangs  func(ua.Request) bool                                               // requests that it does not answer
	drops  int                                                                 // answers with values that get lost
	still  bool                                                                // it sends no values
	mutes  bool                                                                // it answers no publish request
	down   bool                                                                // no connection comes about
	item   func(*ua.MonitoredItemCreateRequest, *ua.MonitoredItemCreateResult) // has its say of each item
	sub    func(*ua.CreateSubscriptionResponse)                                // likewise of a subscription
	probes int                                                                 // reads of values with their time
	calls  map[string]int                                                      // by request
	subs   map[uint32]*plcSub
	last   uint32
	cables []net.Conn
	wait   []waiting
}

// cell is a node with a value.
type cell struct {
	value    *ua.DataValue
	dataType *ua.NodeID
	unit     *ua.EUInformation
	span     *ua.Range
}

type plcSub struct {
	seq   uint32
	items map[uint32]*plcItem
	queue []*ua.MonitoredItemNotification
	kept  map[uint32]*ua.NotificationMessage
	asked *ua.CreateSubscriptionRequest
}

type plcItem struct {
	cell   *cell
	handle uint32
	asked  *ua.MonitoringParameters
	queue  uint32 // values it keeps
}

type waiting struct {
	sc  *uasc.SecureChannel
	id  uint32
	req *ua.PublishRequest
}

func newPLC(t *testing.T) *plc {
	t.Helper()
	t.Parallel() // what these tests do most is wait
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr, ok := l.Addr().(*net.TCPAddr)
	if !ok {
		t.Fatal("no TCP address")
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	p := &plc{
		t: t, clock: noon,
		uris:  []string{"http://opcfoundation.org/UA/", "urn:own", "urn:press", "urn:other"},
		cells: map[string]*cell{}, paths: map[string]string{}, most: 1000, says: map[uint32]uint32{}, calls: map[string]int{}, subs: map[uint32]*plcSub{},
	}
	srv := server.New(server.EndPoint("127.0.0.1", addr.Port), server.EnableSecurity("None", ua.MessageSecurityModeNone), server.EnableAuthMode(ua.UserTokenTypeAnonymous))
	for typ, do := range map[uint16]func(ua.Request) (ua.Response, error){
		id.ActivateSessionRequest_Encoding_DefaultBinary:               p.activate,
		id.ReadRequest_Encoding_DefaultBinary:                          p.read,
		id.TranslateBrowsePathsToNodeIDsRequest_Encoding_DefaultBinary: p.translate,
		id.CreateSubscriptionRequest_Encoding_DefaultBinary:            p.create,
		id.DeleteSubscriptionsRequest_Encoding_DefaultBinary:           p.remove,
		id.TransferSubscriptionsRequest_Encoding_DefaultBinary:         p.transfer,
		id.CreateMonitoredItemsRequest_Encoding_DefaultBinary:          p.monitor,
		id.DeleteMonitoredItemsRequest_Encoding_DefaultBinary:          p.forget,
		id.RepublishRequest_Encoding_DefaultBinary:                     p.republish,
	} {
		srv.RegisterHandler(typ, func(_ *uasc.SecureChannel, r ua.Request, _ uint32) (ua.Response, error) {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.calls[strings.TrimPrefix(fmt.Sprintf("%T", r), "*ua.")]++
			if p.hangs != nil && p.hangs(r) {
				return nil, nil //nolint:nilnil // no answer
			}
			if p.refuse != nil {
				if err := p.refuse(r); err != nil {
					return nil, err
				}
			}
			return do(r)
		})
	}
	srv.RegisterHandler(id.PublishRequest_Encoding_DefaultBinary, p.publish)
	if err := srv.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = srv.Close() })
	p.wire(addr.String())
	return p
}

// wire lays a cable to the server, and has it say every now and then that it lives.
func (p *plc) wire(to string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		p.t.Fatal(err)
	}
	p.endpoint = "opc.tcp://" + l.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	var g sync.WaitGroup
	g.Go(func() {
		for pause(ctx, 200*time.Millisecond) {
			p.pulse()
		}
	})
	g.Go(func() {
		for {
			near, err := l.Accept()
			if err != nil {
				return
			}
			if p.isDown() {
				_ = near.Close()
				continue
			}
			far, err := net.Dial("tcp", to)
			if err != nil {
				_ = near.Close()
				continue
			}
			p.edit(func() { p.cables = append(p.cables, near, far) })
			g.Go(func() { _, _ = io.Copy(near, far); _ = near.Close() })
			g.Go(func() { _, _ = io.Copy(far, near); _ = far.Close() })
		}
	})
	p.t.Cleanup(func() {
		cancel()
		_ = l.Close()
		p.cut()
		g.Wait()
	})
}

func (p *plc) header() *ua.ResponseHeader {
	return &ua.ResponseHeader{Timestamp: p.clock.Time(), ServiceDiagnostics: &ua.DiagnosticInfo{}, AdditionalHeader: ua.NewExtensionObject(nil)}
}

// add makes a node, found by a path too where there is one.
func (p *plc) add(node, path string, value any) *cell {
	p.mu.Lock()
	defer p.mu.Unlock()
	c := &cell{dataType: ua.NewNumericNodeID(0, id.Int32)}
	if _, ok := value.(float64); ok {
		c.dataType = ua.NewNumericNodeID(0, id.Double)
	}
	c.value = p.stamped(value)
	p.cells[node] = c
	if path != "" {
		p.paths[path] = node
	}
	return c
}

func (p *plc) stamped(value any) *ua.DataValue {
	v := &ua.DataValue{Value: ua.MustVariant(value), SourceTimestamp: p.clock.Time(), ServerTimestamp: p.clock.Time()}
	v.UpdateMask()
	return v
}

// pass has time go by.
func (p *plc) pass(d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.clock = p.clock.Add(d)
}

// edit changes what the server has while nobody looks.
func (p *plc) edit(do func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	do()
}

// set gives a cell a value, a second later, and sends it.
func (p *plc) set(c *cell, value any) {
	p.pass(time.Second)
	p.edit(func() {
		c.value = p.stamped(value)
		p.queueOf(c)
		p.flush()
	})
}

func (p *plc) queueOf(c *cell) {
	for _, s := range p.subs {
		for _, it := range s.items {
			if it.cell == c {
				s.push(it, c.value)
			}
		}
	}
}

// pulse sends what waits, or a keep-alive.
func (p *plc) pulse() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for n, s := range p.subs {
		if len(s.queue) > 0 {
			p.flush()
			continue
		}
		p.answer(n, s, &ua.NotificationMessage{SequenceNumber: s.seq + 1, PublishTime: p.clock.Time(), NotificationData: []*ua.ExtensionObject{}})
	}
}

// cut ends every connection.
func (p *plc) cut() {
	p.edit(func() {
		for _, c := range p.cables {
			_ = c.Close() // it may have ended
		}
		p.cables, p.wait = nil, nil
	})
}

// flush sends what is queued, as far as somebody asks.
func (p *plc) flush() {
	for n, s := range p.subs {
		if len(s.queue) == 0 || len(p.wait) == 0 || p.still {
			continue
		}
		s.seq++
		m := &ua.NotificationMessage{
			SequenceNumber: s.seq, PublishTime: p.clock.Time(),
			NotificationData: []*ua.ExtensionObject{ua.NewExtensionObject(&ua.DataChangeNotification{MonitoredItems: s.queue, DiagnosticInfos: []*ua.DiagnosticInfo{}})},
		}
		s.queue, s.kept[s.seq] = nil, m
		p.answer(n, s, m)
	}
}

func (p *plc) answer(n uint32, s *plcSub, m *ua.NotificationMessage) {
	if len(p.wait) == 0 {
		return
	}
	w := p.wait[0]
	p.wait = p.wait[1:]
	a := &ua.PublishResponse{ResponseHeader: p.header(), SubscriptionID: n, NotificationMessage: m, Results: []ua.StatusCode{}, DiagnosticInfos: []*ua.DiagnosticInfo{}}
	for seq := range s.kept {
		a.AvailableSequenceNumbers = append(a.AvailableSequenceNumbers, seq)
	}
	a.ResponseHeader.RequestHandle = w.req.RequestHeader.RequestHandle
	if p.drops > 0 && len(m.NotificationData) > 0 {
		p.drops--
		return
	}
	_ = w.sc.SendResponseWithContext(p.t.Context(), w.id, a) // it may be cut
}

func (p *plc) publish(sc *uasc.SecureChannel, r ua.Request, n uint32) (ua.Response, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	req, ok := r.(*ua.PublishRequest)
	if !ok || len(p.subs) == 0 {
		return nil, ua.StatusBadNoSubscription
	}
	for _, a := range req.SubscriptionAcknowledgements {
		if s := p.subs[a.SubscriptionID]; s != nil {
			delete(s.kept, a.SequenceNumber)
		}
	}
	if p.mutes {
		return nil, nil //nolint:nilnil // no answer
	}
	p.wait = append(p.wait, waiting{sc, n, req})
	p.flush()
	return nil, nil //nolint:nilnil // it is answered later
}

func (p *plc) activate(ua.Request) (ua.Response, error) {
	return &ua.ActivateSessionResponse{ResponseHeader: p.header(), ServerNonce: make([]byte, 32)}, nil
}

// number is the node of a limit.
func (p *plc) valueOf(n *ua.NodeID) *ua.DataValue {
	if n.Namespace() == 0 && n.IntID() == id.Server_NamespaceArray {
		return p.stamped(p.uris)
	}
	if said, ok := p.says[n.IntID()]; ok && n.Namespace() == 0 {
		return p.stamped(said)
	}
	if c := p.cells[n.String()]; c != nil {
		return c.value
	}
	if base, ok := strings.CutSuffix(n.String(), ".unit"); ok && p.cells[base] != nil && p.cells[base].unit != nil {
		return p.stamped(ua.NewExtensionObject(p.cells[base].unit))
	}
	if base, ok := strings.CutSuffix(n.String(), ".range"); ok && p.cells[base] != nil && p.cells[base].span != nil {
		return p.stamped(ua.NewExtensionObject(p.cells[base].span))
	}
	return nil
}

func (p *plc) read(r ua.Request) (ua.Response, error) {
	req := r.(*ua.ReadRequest)
	if len(req.NodesToRead) > p.most {
		return nil, ua.StatusBadTooManyOperations
	}
	if req.TimestampsToReturn == ua.TimestampsToReturnBoth {
		p.probes++
	}
	out := &ua.ReadResponse{ResponseHeader: p.header(), DiagnosticInfos: []*ua.DiagnosticInfo{}}
	for _, n := range req.NodesToRead {
		var v *ua.DataValue
		c := p.cells[n.NodeID.String()]
		switch {
		case n.AttributeID == ua.AttributeIDValue:
			v = p.valueOf(n.NodeID)
		case c == nil:
		case n.AttributeID == ua.AttributeIDDataType:
			v = p.stamped(c.dataType)
		case n.AttributeID == ua.AttributeIDValueRank:
			v = p.stamped(int32(-1))
		}
		if v == nil {
			v = &ua.DataValue{EncodingMask: ua.DataValueStatusCode, Status: ua.StatusBadNodeIDUnknown}
		}
		out.Results = append(out.Results, v)
	}
	return out, nil
}

func (p *plc) translate(r ua.Request) (ua.Response, error) {
	req := r.(*ua.TranslateBrowsePathsToNodeIDsRequest)
	if len(req.BrowsePaths) > p.most {
		return nil, ua.StatusBadTooManyOperations
	}
	out := &ua.TranslateBrowsePathsToNodeIDsResponse{ResponseHeader: p.header(), DiagnosticInfos: []*ua.DiagnosticInfo{}}
	for _, q := range req.BrowsePaths {
		var names []string
		for _, e := range q.RelativePath.Elements {
			names = append(names, fmt.Sprintf("%d:%s", e.TargetName.NamespaceIndex, e.TargetName.Name))
		}
		res := &ua.BrowsePathResult{StatusCode: ua.StatusBadNoMatch, Targets: []*ua.BrowsePathTarget{}}
		for _, node := range p.leads(q.StartingNode.String(), strings.Join(names, "/")) {
			n, err := ua.ParseNodeID(node)
			if err != nil {
				p.t.Error(err)
				continue
			}
			res.StatusCode = ua.StatusOK
			res.Targets = append(res.Targets, &ua.BrowsePathTarget{TargetID: ua.NewExpandedNodeID(n, "", 0), RemainingPathIndex: 0xFFFFFFFF})
		}
		out.Results = append(out.Results, res)
	}
	return out, nil
}

// leads are the nodes that a path leads to.
func (p *plc) leads(from, path string) []string {
	c := p.cells[from]
	switch {
	case c != nil && path == "0:EngineeringUnits" && c.unit != nil:
		return []string{from + ".unit"}
	case c != nil && path == "0:EURange" && c.span != nil:
		return []string{from + ".range"}
	case p.paths[path] != "" && from == "i=84":
		return strings.Split(p.paths[path], " ")
	}
	return nil
}

func (p *plc) create(r ua.Request) (ua.Response, error) {
	req := r.(*ua.CreateSubscriptionRequest)
	p.last++
	p.subs[p.last] = &plcSub{items: map[uint32]*plcItem{}, kept: map[uint32]*ua.NotificationMessage{}, asked: req}
	res := &ua.CreateSubscriptionResponse{
		ResponseHeader: p.header(), SubscriptionID: p.last, RevisedPublishingInterval: req.RequestedPublishingInterval,
		RevisedLifetimeCount: req.RequestedLifetimeCount, RevisedMaxKeepAliveCount: req.RequestedMaxKeepAliveCount,
	}
	if p.sub != nil {
		p.sub(res)
	}
	return res, nil
}

func (p *plc) remove(r ua.Request) (ua.Response, error) {
	req := r.(*ua.DeleteSubscriptionsRequest)
	for _, n := range req.SubscriptionIDs {
		delete(p.subs, n)
	}
	return &ua.DeleteSubscriptionsResponse{ResponseHeader: p.header(), Results: make([]ua.StatusCode, len(req.SubscriptionIDs)), DiagnosticInfos: []*ua.DiagnosticInfo{}}, nil
}

func (p *plc) transfer(r ua.Request) (ua.Response, error) {
	req := r.(*ua.TransferSubscriptionsRequest)
	out := &ua.TransferSubscriptionsResponse{ResponseHeader: p.header(), DiagnosticInfos: []*ua.DiagnosticInfo{}}
	for _, n := range req.SubscriptionIDs {
		res := &ua.TransferResult{StatusCode: ua.StatusBadSubscriptionIDInvalid, AvailableSequenceNumbers: []uint32{}}
		if s := p.subs[n]; s != nil {
			res.StatusCode = ua.StatusOK
			for seq := range s.kept {
				res.AvailableSequenceNumbers = append(res.AvailableSequenceNumbers, seq)
			}
		}
		out.Results = append(out.Results, res)
	}
	return out, nil
}
