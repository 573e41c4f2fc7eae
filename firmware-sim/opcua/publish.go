package opcua

import (
	"context"
	"slices"
	"time"

	"github.com/gopcua/opcua/id"
	"github.com/gopcua/opcua/ua"
)

// maxRequests is the most publish requests a session may have at hand.
const maxRequests = 100

// idleWait is how long the publishing loop sleeps when nothing is due.
const idleWait = time.Second

// publishRequest is a publish request waiting for something to say.
type publishRequest struct {
	conn    *conn
	id      uint32
	header  *ua.RequestHeader
	results []ua.StatusCode // of its acknowledgements
}

// outgoing is a response on its way to a connection.
type outgoing struct {
	conn *conn
	id   uint32
	resp ua.Response
}

// takePublish takes acknowledgements at once and keeps the request until there
// is something to say.
func (s *Server) takePublish(q *ua.PublishRequest, reqID uint32) ua.Response {
	s.mu.Lock()
	x := s.sessionOf(q.RequestHeader)
	if x == nil {
		s.mu.Unlock()
		return s.fault(q.RequestHeader, ua.StatusBadSessionIDInvalid)
	}
	results := make([]ua.StatusCode, len(q.SubscriptionAcknowledgements))
	var told []uint64
	for i, a := range q.SubscriptionAcknowledgements {
		told, results[i] = s.acknowledge(x, a, told)
	}
	var refuse ua.StatusCode
	switch {
	case !slices.ContainsFunc(s.subs, func(o *subscription) bool { return o.owner == x }):
		refuse = ua.StatusBadNoSubscription
	case x.pubs.len() >= maxRequests:
		refuse = ua.StatusBadTooManyPublishRequests
	default:
		x.pubs.push(publishRequest{conn: x.conn, id: reqID, header: q.RequestHeader, results: results})
	}
	s.mu.Unlock()
	if len(told) > 0 && s.received != nil {
		s.received(s.cfg.Source, told)
	}
	if refuse != ua.StatusOK {
		return s.fault(q.RequestHeader, refuse)
	}
	s.wake()
	return nil
}

// acknowledge forgets one sent message and appends to told the emissions the
// listener now has.
func (s *Server) acknowledge(owner *session, a *ua.SubscriptionAcknowledgement, told []uint64) ([]uint64, ua.StatusCode) {
	x := s.find(a.SubscriptionID)
	if x == nil || x.owner != owner {
		return told, ua.StatusBadSubscriptionIDInvalid
	}
	i := slices.IndexFunc(x.sent, func(m *message) bool { return m.seq == a.SequenceNumber })
	if i < 0 {
		return told, ua.StatusBadSequenceNumberUnknown
	}
	for _, h := range x.sent[i].held {
		if !h.told {
			h.told = true
			s.waiting--
			told = append(told, h.index)
		}
		s.release(h)
	}
	x.sent = slices.Delete(x.sent, i, i+1)
	if !s.storeShut {
		s.shutStore()
	}
	return told, ua.StatusOK
}

func (s *Server) republish(q *ua.RepublishRequest) ua.Response {
	s.mu.Lock()
	defer s.mu.Unlock()
	fault := func(code ua.StatusCode) ua.Response {
		return &ua.ServiceFault{ResponseHeader: headerAt(s.proved, q.RequestHeader, code)}
	}
	if s.cfg.Forgetful {
		return fault(ua.StatusBadMessageNotAvailable)
	}
	x := s.own(q.RequestHeader, q.SubscriptionID)
	if x == nil {
		return fault(ua.StatusBadSubscriptionIDInvalid)
	}
	x.alone = 0
	for _, m := range x.sent {
		if m.seq == q.RetransmitSequenceNumber {
			return &ua.RepublishResponse{ResponseHeader: headerAt(s.proved, q.RequestHeader, ua.StatusOK), NotificationMessage: m.wire}
		}
	}
	return fault(ua.StatusBadMessageNotAvailable)
}

// publish sends what is due until ctx ends.
func (s *Server) publish(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case <-s.kick:
		}
		for {
			out, wake := s.step(time.Now())
			if out == nil {
				timer.Reset(max(0, time.Until(wake)))
				break
			}
			// A dead connection is no loss: the message is kept until it is
			// acknowledged, and send hangs up.
			if err := out.conn.send(ctx, out.id, out.resp); err != nil {
				s.log.Debug("notification not sent", "err", err)
			}
		}
	}
}

// step advances the publishing intervals to machine instant now and gives one
// message to send, or the instant to look again.
func (s *Server) step(now time.Time) (*outgoing, time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.farewells) > 0 {
		out := s.farewells[0]
		s.farewells = s.farewells[1:]
		return out, now
	}
	wake := now.Add(idleWait)
	s.expireSessions(now)
	for _, x := range slices.Clone(s.subs) {
		if !now.Before(x.next) {
			s.sample(x)
			x.tick()
			x.next = x.next.Add(x.interval)
			if x.next.Before(now) {
				x.next = now.Add(x.interval)
			}
		}
		if x.alone > x.life {
			s.remove(x)
			s.log.Info("subscription expired", "subscription", x.id)
			continue
		}
		if x.next.Before(wake) {
			wake = x.next
		}
	}
	for i, x := range s.subs {
		if !x.due || x.owner.pubs.len() == 0 {
			continue
		}
		out := s.compose(x, x.owner.pubs.pop())
		s.subs = append(slices.Delete(s.subs, i, i+1), x) // the others first, next time
		return out, now
	}
	return nil, wake
}

// tick ends one publishing interval (§5.14.1.2).
func (x *subscription) tick() {
	if x.owner.pubs.len() == 0 {
		x.alone++
	} else {
		x.alone = 0
	}
	x.quiet++
	if x.first || x.enabled && x.live > 0 && len(x.sent) < maxSent || x.quiet >= x.keepAlive {
		x.due = true
	}
}

// compose makes the next message of a subscription: values, or a keep-alive.
// The publish time is the server's clock, taken together with the queue: what
// is not in this message or one before it, nor announced by
// MoreNotifications, was not emitted by then.
func (s *Server) compose(x *subscription, p publishRequest) *outgoing {
	wire := &ua.NotificationMessage{SequenceNumber: following(x.seq), PublishTime: s.proved, NotificationData: []*ua.ExtensionObject{}}
	if x.enabled && x.live > 0 && len(x.sent) < maxSent {
		body, held := x.take()
		x.seq = following(x.seq)
		wire.NotificationData = append(wire.NotificationData, &ua.ExtensionObject{
			EncodingMask: ua.ExtensionObjectBinary,
			TypeID:       ua.NewFourByteExpandedNodeID(0, id.DataChangeNotification_Encoding_DefaultBinary),
			Value:        body,
		})
		x.sent = append(x.sent, &message{seq: x.seq, wire: wire, held: held})
	}
	more := x.live > 0
	x.first, x.quiet, x.alone = false, 0, 0
	x.due = more && x.enabled && len(x.sent) < maxSent
	return &outgoing{conn: p.conn, id: p.id, resp: &ua.PublishResponse{
		ResponseHeader:           headerAt(s.proved, p.header, ua.StatusOK),
		SubscriptionID:           x.id,
		AvailableSequenceNumbers: x.available(),
		MoreNotifications:        more,
		NotificationMessage:      wire,
		Results:                  p.results,
		DiagnosticInfos:          []*ua.DiagnosticInfo{},
	}}
}

// take encodes as many waiting values as one message may carry.
func (x *subscription) take() (*changes, []*held) {
	body := new(changes)
	var held []*held
	for x.queue.len() > 0 && body.count < x.most && len(body.b) < maxBody {
		n := x.queue.pop()
		if n.dropped {
			continue
		}
		if !n.stored {
			n.item.queue.pop()
		}
		x.live--
		body.add(n)
		held = append(held, n.held)
	}
	return body, held
}

// following is the sequence number after seq; 0 is never used (§5.14.1.1).
func following(seq uint32) uint32 { return max(1, seq+1) }
