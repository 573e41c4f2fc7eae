package opcua

import (
	"slices"
	"time"

	"github.com/gopcua/opcua/id"
	"github.com/gopcua/opcua/ua"
)

const (
	// minInterval is the shortest publishing interval.
	minInterval = 10 * time.Millisecond
	// maxNotes is the most values one notification message carries.
	maxNotes = 10_000
	// maxBody bounds the encoded values of one notification message, well
	// under the 2 MiB many clients take.
	maxBody = 1 << 20
	// maxSent bounds the retransmission queue, in messages. When it is full
	// nothing is sent: the queues fill, and overflow visibly.
	maxSent = 512
)

// subscription is one subscription (OPC 10000-4 §5.14.1). Its counters count
// publishing intervals.
type subscription struct {
	id        uint32
	owner     *session
	interval  time.Duration
	life      int // intervals without a publish request until it ends
	keepAlive int // intervals without a message until a keep-alive
	most      int // values per message
	enabled   bool
	items     map[uint32]*item
	clocks    []*item // items that show the server's clock

	queue fifo[*note]
	live  int // notes in queue that are not dropped
	sent  []*message
	seq   uint32 // of the last notification message with data

	next  time.Time // machine time of the next publishing interval
	first bool      // nothing was sent yet: the first interval sends in any case
	due   bool      // a message shall go out with the next publish request
	quiet int       // intervals since the last message
	alone int       // intervals without a publish request
}

// message is a notification message kept until it is acknowledged.
type message struct {
	seq  uint32
	wire *ua.NotificationMessage
	held []*held
}

func (x *subscription) add(n *note) {
	x.queue.push(n)
	x.live++
}

func (x *subscription) available() []uint32 {
	out := make([]uint32, len(x.sent))
	for i, m := range x.sent {
		out[i] = m.seq
	}
	return out
}

// revise settles the parameters a client asks for.
func (x *subscription) revise(interval float64, life, keepAlive, most uint32) {
	x.interval = max(minInterval, time.Duration(interval*float64(time.Millisecond)))
	x.keepAlive = int(min(max(1, keepAlive), 1_000_000))
	x.life = int(min(max(3*uint32(x.keepAlive), life), 100_000_000)) // §5.14.2.2: at least three times the keep-alive count
	x.most = maxNotes
	if most != 0 {
		x.most = int(min(most, maxNotes))
	}
}

func (s *Server) find(id uint32) *subscription {
	for _, x := range s.subs {
		if x.id == id {
			return x
		}
	}
	return nil
}

// own is subscription id of the session that asks, or nil.
func (s *Server) own(h *ua.RequestHeader, id uint32) *subscription {
	x := s.find(id)
	if x == nil || x.owner != s.sessionOf(h) {
		return nil
	}
	return x
}

// remove ends a subscription; what it held is gone, unless nobody ever
// acknowledged anything and the server remembers.
func (s *Server) remove(x *subscription) {
	s.subs = slices.DeleteFunc(s.subs, func(o *subscription) bool { return o == x })
	for _, it := range x.items {
		it.forget()
	}
	var lost []*held
	for _, m := range x.sent {
		lost = append(lost, m.held...)
	}
	for _, n := range x.queue.rest() {
		if !n.dropped {
			lost = append(lost, n.held)
		}
	}
	if !s.storeShut && !s.cfg.Forgetful {
		s.putBack(slices.DeleteFunc(lost, func(h *held) bool { return h.fixed != nil }))
		return
	}
	for _, h := range lost {
		s.release(h)
	}
}

// reclaim ends subscriptions whose listener went away before it acknowledged
// anything: an agent that died before its first commit and begins anew shall
// find the store as it was.
func (s *Server) reclaim() {
	if s.storeShut {
		return
	}
	for _, x := range slices.Clone(s.subs) {
		if x.owner.conn == nil {
			s.remove(x)
		}
	}
}

func (s *Server) createSubscription(q *ua.CreateSubscriptionRequest) ua.Response {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reclaim()
	s.lastID++
	x := &subscription{id: s.lastID, owner: s.sessionOf(q.RequestHeader), enabled: q.PublishingEnabled, items: map[uint32]*item{}, first: true}
	x.revise(q.RequestedPublishingInterval, q.RequestedLifetimeCount, q.RequestedMaxKeepAliveCount, q.MaxNotificationsPerPublish)
	x.next = time.Now().Add(x.interval)
	s.subs = append(s.subs, x)
	s.wake()
	return &ua.CreateSubscriptionResponse{
		ResponseHeader:            headerAt(s.proved, q.RequestHeader, ua.StatusOK),
		SubscriptionID:            x.id,
		RevisedPublishingInterval: float64(x.interval) / float64(time.Millisecond),
		RevisedLifetimeCount:      uint32(x.life),
		RevisedMaxKeepAliveCount:  uint32(x.keepAlive),
	}
}

func (s *Server) modifySubscription(q *ua.ModifySubscriptionRequest) ua.Response {
	s.mu.Lock()
	defer s.mu.Unlock()
	x := s.own(q.RequestHeader, q.SubscriptionID)
	if x == nil {
		return &ua.ServiceFault{ResponseHeader: headerAt(s.proved, q.RequestHeader, ua.StatusBadSubscriptionIDInvalid)}
	}
	x.revise(q.RequestedPublishingInterval, q.RequestedLifetimeCount, q.RequestedMaxKeepAliveCount, q.MaxNotificationsPerPublish)
	x.next = time.Now().Add(x.interval)
	x.alone = 0
	s.wake()
	return &ua.ModifySubscriptionResponse{
		ResponseHeader:            headerAt(s.proved, q.RequestHeader, ua.StatusOK),
		RevisedPublishingInterval: float64(x.interval) / float64(time.Millisecond),
		RevisedLifetimeCount:      uint32(x.life),
		RevisedMaxKeepAliveCount:  uint32(x.keepAlive),
	}
}

func (s *Server) setPublishingMode(q *ua.SetPublishingModeRequest) ua.Response {
	s.mu.Lock()
	defer s.mu.Unlock()
	results := s.each(q.RequestHeader, q.SubscriptionIDs, func(x *subscription) { x.enabled, x.alone = q.PublishingEnabled, 0 })
	return &ua.SetPublishingModeResponse{ResponseHeader: headerAt(s.proved, q.RequestHeader, ua.StatusOK), Results: results, DiagnosticInfos: []*ua.DiagnosticInfo{}}
}

func (s *Server) deleteSubscriptions(q *ua.DeleteSubscriptionsRequest) ua.Response {
	s.mu.Lock()
	defer s.mu.Unlock()
	results := s.each(q.RequestHeader, q.SubscriptionIDs, s.remove)
	return &ua.DeleteSubscriptionsResponse{ResponseHeader: headerAt(s.proved, q.RequestHeader, ua.StatusOK), Results: results, DiagnosticInfos: []*ua.DiagnosticInfo{}}
}

// each does something to the named subscriptions of the session that asks.
func (s *Server) each(h *ua.RequestHeader, ids []uint32, do func(*subscription)) []ua.StatusCode {
	results := make([]ua.StatusCode, len(ids))
	for i, id := range ids {
		x := s.own(h, id)
		if x == nil {
			results[i] = ua.StatusBadSubscriptionIDInvalid
			continue
		}
		do(x)
	}
	return results
}

// transferSubscriptions moves subscriptions to the session that asks
// (§5.14.7): an agent that restarted takes its own back.
func (s *Server) transferSubscriptions(q *ua.TransferSubscriptionsRequest) ua.Response {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cfg.Forgetful {
		return &ua.ServiceFault{ResponseHeader: headerAt(s.proved, q.RequestHeader, ua.StatusBadServiceUnsupported)}
	}
	results := make([]*ua.TransferResult, len(q.SubscriptionIDs))
	for i, number := range q.SubscriptionIDs {
		x := s.find(number)
		if x == nil {
			results[i] = &ua.TransferResult{StatusCode: ua.StatusBadSubscriptionIDInvalid, AvailableSequenceNumbers: []uint32{}}
			continue
		}
		s.farewell(x, s.sessionOf(q.RequestHeader))
		x.owner, x.alone = s.sessionOf(q.RequestHeader), 0
		results[i] = &ua.TransferResult{StatusCode: ua.StatusOK, AvailableSequenceNumbers: x.available()}
		if q.SendInitialValues {
			s.initial(x)
		}
	}
	s.wake()
	return &ua.TransferSubscriptionsResponse{ResponseHeader: headerAt(s.proved, q.RequestHeader, ua.StatusOK), Results: results, DiagnosticInfos: []*ua.DiagnosticInfo{}}
}

// farewell tells the session before that it has lost the subscription
// (§5.14.7), if it waits for an answer.
func (s *Server) farewell(x *subscription, to *session) {
	if x.owner == to || x.owner.pubs.len() == 0 {
		return
	}
	p := x.owner.pubs.pop()
	s.farewells = append(s.farewells, &outgoing{conn: p.conn, id: p.id, resp: &ua.PublishResponse{
		ResponseHeader: headerAt(s.proved, p.header, ua.StatusOK), SubscriptionID: x.id, AvailableSequenceNumbers: []uint32{},
		NotificationMessage: &ua.NotificationMessage{
			SequenceNumber: following(x.seq), PublishTime: s.proved,
			NotificationData: []*ua.ExtensionObject{{
				EncodingMask: ua.ExtensionObjectBinary, TypeID: ua.NewFourByteExpandedNodeID(0, id.StatusChangeNotification_Encoding_DefaultBinary),
				Value: &ua.StatusChangeNotification{Status: ua.StatusGoodSubscriptionTransferred, DiagnosticInfo: &ua.DiagnosticInfo{}},
			}},
		},
		Results: p.results, DiagnosticInfos: []*ua.DiagnosticInfo{},
	}})
}

// initial queues the current value of every item that has nothing waiting.
func (s *Server) initial(x *subscription) {
	for _, it := range x.items {
		switch {
		case it.queue.len() > 0:
		case it.node == nil:
			s.enqueueFixed(it)
		case it.node.newest != nil:
			s.enqueue(it, it.node.newest)
		}
	}
}
