package opcua

import (
	"slices"
	"time"

	"github.com/gopcua/opcua/ua"
)

const (
	// maxQueue is the longest queue of one monitored item.
	maxQueue = 1_000_000
	// defaultQueue is what a client gets that asks for 0.
	defaultQueue = 1
)

func (s *Server) createItems(q *ua.CreateMonitoredItemsRequest) ua.Response {
	s.mu.Lock()
	defer s.mu.Unlock()
	x := s.own(q.RequestHeader, q.SubscriptionID)
	if x == nil {
		return &ua.ServiceFault{ResponseHeader: headerAt(s.proved, q.RequestHeader, ua.StatusBadSubscriptionIDInvalid)}
	}
	x.alone = 0
	results := make([]*ua.MonitoredItemCreateResult, len(q.ItemsToCreate))
	var made []*item
	for i, want := range q.ItemsToCreate {
		it, code := s.newItem(x, want)
		results[i] = &ua.MonitoredItemCreateResult{StatusCode: code, FilterResult: ua.NewExtensionObject(nil)}
		if it == nil {
			continue
		}
		it.server = q.TimestampsToReturn == ua.TimestampsToReturnBoth || q.TimestampsToReturn == ua.TimestampsToReturnServer
		results[i].MonitoredItemID, results[i].RevisedQueueSize = it.id, uint32(it.size)
		if it.node == nil && ticks(it.nid) {
			results[i].RevisedSamplingInterval = float64(x.interval) / float64(time.Millisecond)
		}
		made = append(made, it)
	}
	had := s.handOver(made)
	for _, it := range made {
		x.items[it.id] = it
		if it.node == nil {
			s.unsignalled(it)
			continue
		}
		it.node.items = append(it.node.items, it)
		if !had[it.node] && it.node.newest != nil {
			s.enqueue(it, it.node.newest)
		}
	}
	s.wake()
	return &ua.CreateMonitoredItemsResponse{ResponseHeader: headerAt(s.proved, q.RequestHeader, ua.StatusOK), Results: results, DiagnosticInfos: []*ua.DiagnosticInfo{}}
}

// newItem checks what a client asks for. Every change is reported whatever the
// sampling interval; a deadband would lose some, so it is refused.
func (s *Server) newItem(x *subscription, want *ua.MonitoredItemCreateRequest) (*item, ua.StatusCode) {
	if want.ItemToMonitor.AttributeID != ua.AttributeIDValue {
		return nil, ua.StatusBadAttributeIDInvalid
	}
	n := s.signal(want.ItemToMonitor.NodeID)
	if n == nil && !s.space.has(want.ItemToMonitor.NodeID) {
		return nil, ua.StatusBadNodeIDUnknown
	}
	if n == nil {
		v := s.space.value(want.ItemToMonitor.NodeID, s.began, s.proved)
		if v == nil || v.Status == ua.StatusBadAttributeIDInvalid {
			return nil, ua.StatusBadAttributeIDInvalid // an object has no value
		}
	}
	p := want.RequestedParameters
	if f := p.Filter; f != nil && f.Value != nil {
		if change, ok := f.Value.(*ua.DataChangeFilter); !ok || change.DeadbandType != uint32(ua.DeadbandTypeNone) {
			return nil, ua.StatusBadMonitoredItemFilterUnsupported
		}
	}
	s.lastID++
	it := &item{id: s.lastID, handle: p.ClientHandle, sub: x, node: n, nid: want.ItemToMonitor.NodeID, oldest: p.DiscardOldest, off: want.MonitoringMode == ua.MonitoringModeDisabled}
	it.resize(p.QueueSize)
	return it, ua.StatusOK
}

func (it *item) resize(want uint32) {
	it.size = defaultQueue
	if want > 0 {
		it.size = int(min(want, maxQueue))
	}
}

// forget takes the item out of its node.
func (it *item) forget() {
	if it.node == nil {
		it.sub.clocks = slices.DeleteFunc(it.sub.clocks, func(o *item) bool { return o == it })
		return
	}
	kept := it.node.items[:0]
	for _, o := range it.node.items {
		if o != it {
			kept = append(kept, o)
		}
	}
	clear(it.node.items[len(kept):])
	it.node.items = kept
}

// empty drops everything that waits for the item.
func (s *Server) empty(it *item) {
	for _, n := range it.sub.queue.rest() {
		if n.item == it {
			s.drop(n)
		}
	}
	it.queue = fifo[*note]{}
}

func (s *Server) modifyItems(q *ua.ModifyMonitoredItemsRequest) ua.Response {
	s.mu.Lock()
	defer s.mu.Unlock()
	x := s.own(q.RequestHeader, q.SubscriptionID)
	if x == nil {
		return &ua.ServiceFault{ResponseHeader: headerAt(s.proved, q.RequestHeader, ua.StatusBadSubscriptionIDInvalid)}
	}
	x.alone = 0
	results := make([]*ua.MonitoredItemModifyResult, len(q.ItemsToModify))
	for i, want := range q.ItemsToModify {
		results[i] = &ua.MonitoredItemModifyResult{StatusCode: ua.StatusBadMonitoredItemIDInvalid, FilterResult: ua.NewExtensionObject(nil)}
		it := x.items[want.MonitoredItemID]
		if it == nil {
			continue
		}
		it.handle, it.oldest = want.RequestedParameters.ClientHandle, want.RequestedParameters.DiscardOldest
		it.server = q.TimestampsToReturn == ua.TimestampsToReturnBoth || q.TimestampsToReturn == ua.TimestampsToReturnServer
		it.resize(want.RequestedParameters.QueueSize)
		for it.queue.len() > it.size {
			s.drop(it.queue.pop())
			(*it.queue.first()).over = it.size > 1
		}
		results[i].StatusCode, results[i].RevisedQueueSize = ua.StatusOK, uint32(it.size)
	}
	return &ua.ModifyMonitoredItemsResponse{ResponseHeader: headerAt(s.proved, q.RequestHeader, ua.StatusOK), Results: results, DiagnosticInfos: []*ua.DiagnosticInfo{}}
}

func (s *Server) setMonitoringMode(q *ua.SetMonitoringModeRequest) ua.Response {
	s.mu.Lock()
	defer s.mu.Unlock()
	results, code := s.eachItem(q.RequestHeader, q.SubscriptionID, q.MonitoredItemIDs, func(it *item) {
		it.off = q.MonitoringMode == ua.MonitoringModeDisabled
		if it.off {
			s.empty(it)
		}
	})
	if code != ua.StatusOK {
		return &ua.ServiceFault{ResponseHeader: headerAt(s.proved, q.RequestHeader, code)}
	}
	return &ua.SetMonitoringModeResponse{ResponseHeader: headerAt(s.proved, q.RequestHeader, ua.StatusOK), Results: results, DiagnosticInfos: []*ua.DiagnosticInfo{}}
}

func (s *Server) deleteItems(q *ua.DeleteMonitoredItemsRequest) ua.Response {
	s.mu.Lock()
	defer s.mu.Unlock()
	results, code := s.eachItem(q.RequestHeader, q.SubscriptionID, q.MonitoredItemIDs, func(it *item) {
		s.empty(it)
		it.forget()
		delete(it.sub.items, it.id)
	})
	if code != ua.StatusOK {
		return &ua.ServiceFault{ResponseHeader: headerAt(s.proved, q.RequestHeader, code)}
	}
	return &ua.DeleteMonitoredItemsResponse{ResponseHeader: headerAt(s.proved, q.RequestHeader, ua.StatusOK), Results: results, DiagnosticInfos: []*ua.DiagnosticInfo{}}
}

// eachItem does something to the named items of a subscription.
func (s *Server) eachItem(h *ua.RequestHeader, sub uint32, ids []uint32, do func(*item)) ([]ua.StatusCode, ua.StatusCode) {
	x := s.own(h, sub)
	if x == nil {
		return nil, ua.StatusBadSubscriptionIDInvalid
	}
	x.alone = 0
	results := make([]ua.StatusCode, len(ids))
	for i, id := range ids {
		if it := x.items[id]; it != nil {
			do(it)
		} else {
			results[i] = ua.StatusBadMonitoredItemIDInvalid
		}
	}
	return results, ua.StatusOK
}
