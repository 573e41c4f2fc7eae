package opcua

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/gopcua/opcua/ua"

	"plantmesh/edge/source"
	"plantmesh/edge/source/opcua/channel"
	"plantmesh/edge/source/opcua/publish"
	"plantmesh/proto/mesh"
)

const (
	// defaultPoll is how often a server without subscriptions is read that the file
	// says nothing about.
	defaultPoll = time.Second
	// mostApart is how many intervals may lie between two rounds that follow each
	// other: beyond it what lay between was not looked at.
	mostApart = 2
	// againEvery is how often signals that have no node are looked for again.
	againEvery = 20 * time.Second
)

// errUnsubscribed means that the server has no subscriptions.
var errUnsubscribed = errors.New("the server has no subscriptions")

// polled is what was last read of a signal.
type polled struct {
	sum    uint64
	status uint32
	source int64
	some   bool
}

// interval is how often the server is read.
func (r *Reader) interval() time.Duration {
	if r.cfg.Poll > 0 {
		return time.Duration(r.cfg.Poll)
	}
	return defaultPoll
}

// poll reads every signal each interval, until the connection breaks. Two rounds at
// most mostApart intervals apart stand for what lies between them as a server's own
// sampling would: a change that comes and goes meanwhile nobody sees. What lies between
// rounds farther apart is void.
func (r *Reader) poll(ctx context.Context) (worked bool, err error) {
	if r.state.Subscription != 0 {
		if err := r.drop(ctx); err != nil {
			return false, err
		}
	}
	if err := r.learnLimits(ctx); err != nil {
		return false, err
	}
	if err := r.locate(ctx, r.every()); err != nil {
		return false, err
	}
	if err := r.typify(ctx); err != nil {
		return false, err
	}
	r.log.Info("the source is polled", "every", r.interval().String())
	r.doubted, r.polling = false, true
	source.Tell(r.out, r.connected())
	tick := time.NewTicker(r.interval())
	defer tick.Stop()
	for again := time.Now().Add(r.seekEvery); ; {
		if err := r.round(ctx); err != nil {
			return worked, err
		}
		worked = true
		if time.Now().After(again) && len(r.nowhere()) > 0 {
			again = time.Now().Add(r.seekEvery)
			if err := r.locate(ctx, r.nowhere()); err != nil {
				return worked, err
			}
			if err := r.typify(ctx); err != nil {
				return worked, err
			}
			source.Tell(r.out, r.connected())
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return worked, context.Cause(ctx)
		}
	}
}

// pollText is what the status says of polling.
func (r *Reader) pollText() string {
	switch {
	case !r.polling:
		return ""
	case r.cfg.Poll == 0 && len(r.cfg.Events) > 0:
		return fmt.Sprintf(", read each %s: the server has no subscriptions, and so events do not come", r.interval())
	case r.cfg.Poll == 0:
		return fmt.Sprintf(", read each %s: the server has no subscriptions", r.interval())
	}
	return fmt.Sprintf(", read each %s", r.interval())
}

// nowhere are the signals that have no node.
func (r *Reader) nowhere() (out []int) {
	for i := range r.items {
		if r.items[i].at == nil {
			out = append(out, i)
		}
	}
	return out
}

// locate looks where signals' nodes are.
func (r *Reader) locate(ctx context.Context, signals []int) error {
	if err := r.survey(ctx, signals); err != nil {
		return err
	}
	r.sieves()
	if !r.adopted {
		r.resumePolls()
		r.goesOn()
	}
	without := r.withoutItem()
	for _, i := range signals {
		it := &r.items[i]
		switch where := it.where(); {
		case it.made == where && !it.cleared && (it.at != nil || without[i]):
			continue
		case it.at == nil:
			if it.made != "" {
				r.unknown(i, statusOf(it.lost))
			}
			r.refuse(i, it.lost)
		case it.made != "":
			r.unknown(i, statusMoved)
			fallthrough
		default:
			r.state.Refused = slices.DeleteFunc(r.state.Refused, func(x refused) bool { return x.Signal == i })
			r.initial[i] = true
			if r.adopted || without[i] {
				r.moves(i)
			} else if !it.moved {
				r.keeps(i, r.whereabouts(i))
			}
		}
		it.made, it.cleared, r.polls[i] = it.where(), false, polled{}
	}
	r.adopted = true
	r.state.Nodes = r.fingerprint(func(i int) string { return r.items[i].made })
	return nil
}

// resumePolls takes up what a run before has read.
func (r *Reader) resumePolls() {
	if r.state.Table != r.hash {
		r.state.Refused = nil // of another file's signals
	}
	now := r.fingerprint(func(i int) string { return r.items[i].where() })
	if r.state.Polled == 0 || r.state.Table != r.hash || r.state.Nodes != now {
		// What was kept may be of other nodes: nothing is known since.
		r.state.Fresh, r.state.Polled = true, 0
		r.part()
		r.state.Table = r.hash
	}
}

// round reads every signal once and takes what has changed.
func (r *Reader) round(ctx context.Context) error {
	var there []int
	for i := range r.items {
		if r.items[i].at != nil {
			there = append(there, i)
		}
	}
	var at mesh.Nanos
	unwell, now, began := false, r.now(), time.Now()
	err := inCalls(&r.limits.read, there, func(some []int) error {
		a, err := r.readValues(ctx, some)
		if err != nil {
			return err
		}
		defer r.sess.ch.Release(a)
		for k, i := range some {
			if err := r.learn(ctx, i, &a.Values[k]); err != nil {
				return err
			}
		}
		if at == 0 { // everything is read behind the first answer's instant
			at = stamp(a.Instant())
			r.follows(at, now)
		}
		bad, err := r.take(some, a.Values, now)
		unwell = unwell || bad
		return err
	})
	if err != nil {
		return err
	}
	r.state.Unwell, r.looked = unwell, began // of a whole round: what half of one heard proves nothing
	if !r.doubted && at != 0 {
		r.state.Polled = at
		r.sealer.Prove(at - mesh.Nanos(r.cfg.Disorder))
	}
	r.pushed = nil // there is nothing to acknowledge
	r.took[0], r.took[1] = r.took[1], time.Since(began)
	if r.interval() < time.Duration(r.cfg.Window.Latency) {
		return r.commitIfDue(ctx)
	}
	_, err = r.commit(ctx)
	return err
}

// apart is how far rounds may be from each other. One that takes long by itself is
// waited for, one that hung once is not.
func (r *Reader) apart() time.Duration {
	return mostApart * max(r.interval(), min(r.took[0], r.took[1]))
}

// readValues reads the values of signals.
func (r *Reader) readValues(ctx context.Context, some []int) (*channel.Answer, error) {
	req := &ua.ReadRequest{TimestampsToReturn: ua.TimestampsToReturnBoth}
	for _, i := range some {
		req.NodesToRead = append(req.NodesToRead, attribute(r.items[i].at, ua.AttributeIDValue))
	}
	if r.sess.ch == nil {
		return nil, errLost
	}
	a, err := r.sess.ch.Read(ctx, r.sess.token, r.sess.wait(), req)
	if err != nil {
		return nil, fmt.Errorf("read %d values: %w", len(some), err)
	}
	if len(a.Values) != len(some) {
		defer r.sess.ch.Release(a)
		return nil, fmt.Errorf("the server answered %d reads with %d results", len(some), len(a.Values))
	}
	return a, nil
}

// follows judges the server's clock at the beginning of a round, and whether the
// round before was near enough.
func (r *Reader) follows(at, now mesh.Nanos) {
	believed := at != 0 && !source.Suspect(at, now) && now.Sub(at) <= source.MaxBehind
	r.doubt(!believed, at)
	since := at.Sub(r.state.Polled) // behind a restart; in one run machine time counts
	if !r.looked.IsZero() {
		since = time.Since(r.looked)
	}
	if believed && (r.state.Fresh || since > r.apart()) {
		r.begin(at, now)
	}
}

// take gives the values that have changed to the sealer; unwell says that some are
// not good.
func (r *Reader) take(some []int, values []publish.Value, now mesh.Nanos) (unwell bool, err error) {
	for k, i := range some {
		values[k].Handle = r.state.handle(i, r.again[i])
		if r.taps.Open() {
			r.tellValue(i, &values[k], now)
		}
	}
	if r.meansAnew(values, semanticsChanged) {
		return false, errSemantics
	}
	for k, i := range some {
		v := &values[k]
		unwell = unwell || !mesh.Status(v.Status).IsGood()
		if !r.changed(i, v) {
			continue
		}
		if err := r.value(v, now); err != nil {
			return false, err
		}
	}
	return unwell, nil
}

// changed reports whether a value says more than the one before, and notes it. Behind
// a restart, one that was good and stands since long before the last round was taken
// then; of a younger one nobody knows, so it comes again, as what a reader begins with.
func (r *Reader) changed(i int, v *publish.Value) bool {
	before := r.polls[i]
	r.polls[i] = polled{sum: r.digest(v), status: v.Status, source: v.Source, some: true}
	if before.some {
		return before != r.polls[i]
	}
	at := stamp(v.Source)
	old := at != 0 && at <= r.state.Polled-mesh.Nanos(r.cfg.Disorder)
	r.initial[i] = !old || r.state.Unwell || r.items[i].moved || !mesh.Status(v.Status).IsGood()
	return r.initial[i]
}

func boolean(b bool) uint64 {
	if b {
		return 1
	}
	return 0
}
