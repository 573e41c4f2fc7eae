package opcua

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/gopcua/opcua/ua"

	"plantmesh/edge/source/opcua/channel"
)

const (
	// itemsPerCall is how many monitored items are asked for at once; servers
	// take at least so many (OPC 10000-7, standard server profiles: 500).
	itemsPerCall = 500
	// notesPerMessage bounds one notification message: the unit of commit.
	notesPerMessage = 10_000
	// maxRepublished bounds how long a server may go on to republish: 64 times what
	// those of some size keep.
	maxRepublished = 1 << 16
	// maxKeepAlive is the longest silence that is taken for life.
	maxKeepAlive = time.Hour
)

// errGone means that the subscription can't be continued: a new one is made,
// and what lies between is void.
var errGone = errors.New("the server has dropped the subscription or a message of it")

// subscribe takes up the subscription of the state, or makes a new one.
func (r *Reader) subscribe(ctx context.Context) error {
	if err := r.learnLimits(ctx); err != nil {
		return err
	}
	if err := r.survey(ctx, r.every()); err != nil {
		return err
	}
	if err := r.typify(ctx); err != nil {
		return err
	}
	if err := r.declare(ctx); err != nil {
		return err
	}
	if r.state.Subscription != 0 && r.state.Table == r.hash && !r.gone {
		err := r.takeUp(ctx)
		if !errors.Is(err, errGone) {
			return err
		}
		r.log.Warn("the subscription can't be continued, making a new one", "subscription", r.state.Subscription, "error", err.Error())
	}
	if err := r.drop(ctx); err != nil {
		return err
	}
	if err := r.create(ctx); err != nil {
		return err
	}
	r.gone = false
	return nil
}

// takeUp continues the subscription: transferred where the session is new,
// and with what was sent but not committed asked for again.
func (r *Reader) takeUp(ctx context.Context) error {
	if r.state.Created < len(r.nodes) || len(r.state.Events) < len(r.cfg.Events) {
		// A call whose answer was lost may have made its items all the same. Made
		// again, each change would come twice for as long as the subscription lives.
		return fmt.Errorf("%w: its items were not all made when the connection ended", errGone)
	}
	if err := r.sameFields(); err != nil {
		return err
	}
	available, err := r.transfer(ctx)
	if err != nil {
		return err
	}
	if err := r.adopt(); err != nil {
		return err
	}
	r.sieves()
	moved := r.moved()
	if err := r.retire(moved); err != nil {
		return err
	}
	r.order = newSequence(after(r.state.Seq))
	r.available(available)
	if err := r.doubts(ctx); err != nil {
		return err
	}
	if err := r.republish(ctx, available); err != nil {
		return err
	}
	r.echo, r.shallow.again = true, true
	return r.remake(ctx, moved)
}

// transfer makes the subscription this session's, where it isn't. A session that goes
// on after its connection broke may have it already, though the answer never came:
// whether it does the next call shows.
func (r *Reader) transfer(ctx context.Context) (available []uint32, err error) {
	if r.sess.owns {
		return nil, nil
	}
	again := r.sess.asked
	r.sess.asked = true
	t, err := call[*ua.TransferSubscriptionsResponse](ctx, &r.sess, &ua.TransferSubscriptionsRequest{SubscriptionIDs: []uint32{r.state.Subscription}})
	code, refused := refusal(err)
	switch {
	case refused:
	case err != nil:
		return nil, fmt.Errorf("transfer the subscription: %w", err)
	case len(t.Results) != 1:
		return nil, fmt.Errorf("%w: transfer was answered with %d results", errGone, len(t.Results))
	default:
		code = t.Results[0].StatusCode
		available = t.Results[0].AvailableSequenceNumbers
	}
	if code != ua.StatusOK && !again {
		return nil, fmt.Errorf("%w: transfer: %w", errGone, code)
	}
	r.sess.owns = true
	return available, nil
}

// available acknowledges what the server still keeps though it is committed:
// an acknowledgement was lost on the way.
func (r *Reader) available(seqs []uint32) {
	if r.committed == 0 {
		return
	}
	for _, seq := range seqs {
		if !ahead(seq, r.committed) {
			r.acks.add(seq)
		}
	}
}

// depth learns how many messages the server keeps for Republish: it names them
// beside each message, and one that was taken before this and not acknowledged
// is among them unless it was pushed out. No server says its depth, and many
// keep ten or twenty: a commit must not wait for more than half of that. Nothing
// named at all is a server that doesn't tell.
func (r *Reader) depth(available []uint32, seq uint32) {
	pushedOut := slices.ContainsFunc(r.taken, func(taken uint32) bool {
		return ahead(seq, taken) && !slices.Contains(available, taken)
	})
	if !pushedOut || len(available) == 0 || len(available) >= r.kept {
		return
	}
	r.kept = len(available)
	r.log.Warn("the server keeps few messages for Republish: commits close at half of that", "messages", r.kept)
}

// republish asks for every message from the next one on until the server has
// no more. A hole before a message it does have can't be filled.
func (r *Reader) republish(ctx context.Context, available []uint32) error {
	for range maxRepublished {
		in, err := r.sess.republish(ctx, r.state.Subscription, r.order.next)
		if code, refused := refusal(err); refused {
			lost := slices.ContainsFunc(available, func(seq uint32) bool { return ahead(seq, r.order.next) })
			if code == ua.StatusBadMessageNotAvailable && !lost {
				return nil
			}
			if sessionLost(code) {
				r.sess.token = nil
				return fmt.Errorf("republish %d: %w", r.order.next, err)
			}
			return fmt.Errorf("%w: republish %d: %w", errGone, r.order.next, code)
		}
		if err != nil {
			return r.notRepeated(r.order.next, err)
		}
		if err := r.repeated(ctx, r.order.next, in); err != nil {
			return err
		}
	}
	return fmt.Errorf("%w: it had more than %d messages to republish", errGone, maxRepublished)
}

// repeated takes a message that was asked for again.
func (r *Reader) repeated(ctx context.Context, seq uint32, in *channel.Answer) error {
	if in.Sequence != seq || in.Data == 0 {
		return fmt.Errorf("%w: republish %d gave message %d, of %d notifications", errGone, seq, in.Sequence, in.Data)
	}
	// More may be waiting: a message that comes twice proves nothing.
	r.order.put(notice{in: in, more: true, again: true})
	return r.deliver(ctx)
}

// sessionLost reports whether a refusal is about the session: the subscription
// may be well.
func sessionLost(code ua.StatusCode) bool {
	switch code {
	case ua.StatusBadSessionIDInvalid, ua.StatusBadSessionClosed, ua.StatusBadSessionNotActivated, ua.StatusBadSecureChannelIDInvalid:
		return true
	default:
		return false
	}
}

// drop forgets the subscription, here and as far as possible at the server. A new
// session must own it first: else it lives on, with full queues, for its lifetime.
func (r *Reader) drop(ctx context.Context) error {
	if r.state.Subscription != 0 && !r.sess.owns {
		_, err := call[*ua.TransferSubscriptionsResponse](ctx, &r.sess, &ua.TransferSubscriptionsRequest{SubscriptionIDs: []uint32{r.state.Subscription}})
		if _, refused := refusal(err); err != nil && !refused {
			return fmt.Errorf("take over the subscription to delete: %w", err)
		}
	}
	if r.state.Subscription != 0 {
		// What the server says doesn't matter: it may never have heard of it.
		_, err := call[*ua.DeleteSubscriptionsResponse](ctx, &r.sess, &ua.DeleteSubscriptionsRequest{SubscriptionIDs: []uint32{r.state.Subscription}})
		if _, refused := refusal(err); err != nil && !refused {
			return fmt.Errorf("delete the subscription: %w", err)
		}
	}
	r.state.Subscription, r.state.Seq, r.state.Created, r.state.Refused, r.state.Again, r.state.Events = 0, 0, 0, nil, nil, nil
	r.state.Heard, r.state.Shallow, r.state.Unweighed, r.shallow = 0, nil, false, shallow{}
	clear(r.again)
	clear(r.state.Dead)
	for i := range r.items {
		it := &r.items[i]
		it.made, it.id, it.moved, it.placed, it.cleared = "", 0, false, false, false
	}
	r.taken, r.pushed, r.committed = nil, nil, 0
	r.acks.reset()
	return nil
}

// create makes a new subscription. Its id is committed before the first item
// exists: a server that hands over values from its own store does so once, to
// a subscription that must not be forgotten.
func (r *Reader) create(ctx context.Context) error {
	interval := time.Duration(r.cfg.PublishingInterval)
	asked := &ua.CreateSubscriptionRequest{
		RequestedPublishingInterval: float64(interval) / float64(time.Millisecond),
		RequestedMaxKeepAliveCount:  r.cfg.KeepAliveCount,
		RequestedLifetimeCount:      uint32(min(time.Duration(r.cfg.Lifetime)/interval, 1<<31)),
		MaxNotificationsPerPublish:  notesPerMessage,
		PublishingEnabled:           true,
	}
	s, err := call[*ua.CreateSubscriptionResponse](ctx, &r.sess, asked)
	if errors.Is(err, ua.StatusBadServiceUnsupported) {
		return errUnsubscribed
	}
	if err != nil {
		return fmt.Errorf("create a subscription: %w", err)
	}
	if r.state.KeepAlive, err = keepAlive(s, interval, r.cfg.KeepAliveCount); err != nil {
		return err
	}
	r.sess.owns = true
	r.state.Bridged = min(cmp.Or(inMillis(s.RevisedPublishingInterval), interval), maxKeepAlive)
	r.revised, r.state.Revised = newRevised(), ""
	r.revised.ofSubscription(asked, s)
	r.sieves()
	incarnation, err := newIncarnation()
	if err != nil {
		return err
	}
	r.order, r.state.Fresh = newSequence(1), true
	r.part()
	r.state.Subscription, r.state.Incarnation, r.state.Table = s.SubscriptionID, incarnation, r.hash
	if err := r.commitNow(ctx); err != nil {
		return err
	}
	r.adopted = true
	if err := r.listen(ctx); err != nil {
		return err
	}
	return r.make(ctx, r.every())
}

// keepAlive is after which silence the server says that it lives, as it revised
// that. A revision to nothing is none, and one to more than maxKeepAlive is not
// waited for.
func keepAlive(s *ua.CreateSubscriptionResponse, interval time.Duration, count uint32) (time.Duration, error) {
	ms := s.RevisedPublishingInterval
	switch {
	case math.IsNaN(ms) || math.IsInf(ms, 0) || ms < 0:
		return 0, fmt.Errorf("the server revised the publishing interval to %v ms", ms)
	case ms == 0:
		ms = float64(interval) / float64(time.Millisecond)
	}
	if s.RevisedMaxKeepAliveCount > 0 {
		count = s.RevisedMaxKeepAliveCount
	}
	return time.Duration(min(ms*float64(count)*float64(time.Millisecond), float64(maxKeepAlive))), nil
}

// ended is what a change of the subscription's status means. That it was transferred is
// meant for the session before (OPC 10000-4 §5.14.7); a server may keep it as one of the
// subscription's messages. Where another client has taken it, publish says so.
func ended(code ua.StatusCode) error {
	if code == ua.StatusGoodSubscriptionTransferred {
		return nil
	}
	return fmt.Errorf("%w: %w", errGone, code)
}
