package opcua

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/gopcua/opcua/ua"
	"golang.org/x/sync/errgroup"

	"plantmesh/edge/source"
	"plantmesh/edge/source/opcua/channel"
	"plantmesh/edge/source/opcua/publish"
	"plantmesh/proto/fault"
	"plantmesh/proto/mesh"
)

const (
	// lookEvery is how often the pump looks at its clocks.
	lookEvery = 100 * time.Millisecond
	// keptAtMost is how many messages a server is taken to keep for Republish
	// until it shows otherwise: the thousand of servers of some size. Half of it
	// closes a commit.
	keptAtMost = 1000
	// maxExtra is how many publish requests go out beside the others, to carry
	// acknowledgements at once.
	maxExtra = 2
	// leastAlive is the shortest silence that counts as a dead link.
	leastAlive = 2 * time.Second
)

// errUntold means that the server answers, but no publish request: one of them it
// should have within a publishing interval (OPC 10000-4 §5.14.1.1).
var errUntold = errors.New("no answer to publish requests, not even the first")

// pump publishes, delivers and commits until the connection breaks. worked says that
// the server answered a publish request: before that a connection is only promised.
func (r *Reader) pump(ctx context.Context) (worked bool, err error) {
	limit := max(leastAlive, 3*r.state.KeepAlive)
	token, err := channel.Token(r.sess.token)
	if err != nil {
		return false, err
	}
	done, durable := r.done, make(chan uint64)
	p := &pipeline{
		acks: &r.acks, ch: r.sess.ch, limit: limit, durable: durable,
		request: channel.PublishRequest{Token: token, Timeout: 2*limit + callTimeout, Subscription: r.state.Subscription},
		answers: make(chan channel.Posted, r.cfg.InFlight+maxExtra), out: map[uint32]posted{},
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return r.watch(ctx, done, durable) })
	r.past = past{asks: make(chan gap, 1), finds: make(chan found)}
	h, asks := r.historian(), r.past.asks
	g.Go(func() error { return h.answer(ctx, asks) })
	g.Go(func() error {
		// Cutting the connection ends the requests that hang on it.
		defer r.sess.detach()
		defer p.lose()
		return r.turn(ctx, p)
	})
	err = g.Wait()
	r.past = past{}
	if errors.Is(err, errGone) {
		r.gone = true
	}
	return p.answered, err
}

// pipeline are the publish requests of one connection; turn's goroutine alone
// touches it.
type pipeline struct {
	acks    *acks
	ch      *channel.Channel
	request channel.PublishRequest
	limit   time.Duration // without an answer: the link is dead
	answers chan channel.Posted
	durable <-chan uint64 // commits that are durable

	out      map[uint32]posted // requests without an answer
	alive    time.Time         // machine time of the last answer
	answered bool              // there was one
	regular  int               // publish requests that go out again and again
	extra    int               // publish requests beside them, which carry acknowledgements at once
	turned   time.Time         // machine time since when turn is at what it does
	stalled  bool              // it was at that for longer than queues of one value bridge
	sent     int               // answers to come of before the server had nothing to answer to
}

// posted is a publish request on its way.
type posted struct {
	acks []uint32
	once bool // beside the others
}

// post sends one publish request. Acknowledgements of what is committed ride on it.
// One that stands beside the others (once) shall not wait until the server has
// something to say.
func (p *pipeline) post(once bool) error {
	list := p.acks.send()
	fault.Point("source.ack.before")
	p.request.Acks = list
	id, err := p.ch.Post(&p.request, p.answers)
	if err != nil {
		p.acks.sent(list, false)
		return fmt.Errorf("publish: %w", err)
	}
	p.out[id] = posted{acks: list, once: once}
	return nil
}

// took notes that a request has its answer.
func (p *pipeline) took(a channel.Posted) posted {
	q := p.out[a.ID]
	delete(p.out, a.ID)
	p.acks.sent(q.acks, a.Err == nil)
	fault.Point("source.ack.after")
	return q
}

// lose gives up requests without an answer: what they acknowledge may not have
// arrived, and goes again.
func (p *pipeline) lose() {
	for _, q := range p.out {
		p.acks.sent(q.acks, false)
	}
}

// longestAnswer is how long an answer may be on its way beyond the limit, as long as
// bytes of it come: 16 MiB take so long at half a megabyte a second.
const longestAnswer = 30 * time.Second

// dead reports whether a link is given up: nothing was answered within the limit,
// and nothing is on its way.
func dead(now, answered, heard time.Time, limit time.Duration) bool {
	silent := now.Sub(answered)
	return silent > limit && (now.Sub(heard) > limit || silent > limit+longestAnswer)
}

// watch tells how many commits are durable.
func (r *Reader) watch(ctx context.Context, done uint64, durable chan<- uint64) error {
	for {
		n, err := r.out.Committed(ctx, done)
		if err != nil && ctx.Err() == nil {
			return &fatalError{fmt.Errorf("wait for the log: %w", err)}
		}
		done = n
		select {
		case durable <- n:
		case <-ctx.Done():
			return nil
		}
	}
}

// turn is the reader's own goroutine: it alone touches the order of messages,
// the sealer and the state.
func (r *Reader) turn(ctx context.Context, p *pipeline) error {
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	p.alive, p.regular = time.Now(), r.cfg.InFlight
	for range p.regular {
		if err := p.post(false); err != nil {
			return err
		}
	}
	for p.turned = time.Now(); ; p.turn(max(r.state.Bridged, 4*lookEvery)) {
		var err error
		select {
		case <-ctx.Done():
			err = context.Cause(ctx)
		case <-p.ch.Done():
			err = fmt.Errorf("%w: %w", errLost, p.ch.Err())
		case n := <-p.durable:
			r.settle(n)
			if p.extra < maxExtra && r.acks.any() {
				p.extra++
				err = p.post(true)
			}
		case a := <-p.answers:
			err = r.posted(ctx, p, a)
		case f := <-r.past.finds:
			err = r.tookPast(ctx, f)
		case <-look.C:
			err = r.look(ctx, p)
		}
		if err != nil {
			return err
		}
	}
}

// posted takes an answer and, where its request goes out again and again, sends
// the next one first: the server then has as many as before while this one is
// looked at.
func (r *Reader) posted(ctx context.Context, p *pipeline, a channel.Posted) error {
	q := p.took(a)
	first := !p.answered
	if p.refused(a, q.once) {
		return nil
	}
	if first && p.answered {
		source.Tell(r.out, r.connected())
	}
	if err := r.starved(ctx, p); err != nil {
		return err
	}
	if !q.once && a.Err == nil {
		if err := p.post(false); err != nil {
			return err
		}
	}
	if err := r.answered(ctx, a); err != nil {
		return err
	}
	return r.fed(ctx, p)
}

// refused counts an answer, and reports whether it only says that the server
// keeps fewer publish requests than it was sent: then the others must do.
func (p *pipeline) refused(a channel.Posted, once bool) bool {
	if a.Err != nil || a.In.Subscription == p.request.Subscription { // another's proves nothing
		p.alive = time.Now()
		p.answered = p.answered || a.Err == nil
	}
	few := errors.Is(a.Err, ua.StatusBadTooManyPublishRequests)
	switch {
	case once:
		p.extra--
	case few:
		p.regular--
	}
	return few && p.regular > 0
}

// look does what is due by the clock.
func (r *Reader) look(ctx context.Context, p *pipeline) error {
	if err := r.commitIfDue(ctx); err != nil {
		return err
	}
	if err := r.fillHole(ctx); err != nil {
		return err
	}
	if err := r.refresh(ctx); err != nil {
		return err
	}
	if err := r.probe(ctx); err != nil {
		return err
	}
	if err := r.seek(ctx); err != nil {
		return err
	}
	if len(p.answers) == 0 && dead(time.Now(), p.alive, p.ch.Heard(), p.limit) {
		if !p.answered {
			return fmt.Errorf("%w, for %s", errUntold, p.limit)
		}
		return fmt.Errorf("%w: no answer to publish requests for %s", errLost, p.limit)
	}
	return nil
}

// answered takes what one publish request brought.
func (r *Reader) answered(ctx context.Context, a channel.Posted) error {
	if a.Err != nil {
		if errors.Is(a.Err, ua.StatusBadNoSubscription) {
			return fmt.Errorf("%w: %w", errGone, a.Err)
		}
		return fmt.Errorf("publish: %w", a.Err)
	}
	if a.In.Subscription != r.state.Subscription {
		return nil // of one that was given up
	}
	fault.Point("source.received")
	r.available(a.In.Available)
	r.depth(a.In.Available, a.In.Sequence)
	r.order.put(notice{in: a.In, more: a.In.More})
	if err := r.deliver(ctx); err != nil {
		return err
	}
	if r.order.crowded(r.cfg.InFlight) {
		return r.fillHole(ctx)
	}
	return nil
}

// fillHole asks for a message that should have come. One that the server no
// longer has ends the subscription: values that were in it may not change
// again for hours, so every node is asked for its value anew.
func (r *Reader) fillHole(ctx context.Context) error {
	if !r.order.missing(time.Now(), r.cfg.InFlight) {
		return nil
	}
	seq := r.order.next
	in, err := r.sess.republish(ctx, r.state.Subscription, seq)
	if code, refused := refusal(err); refused {
		return fmt.Errorf("%w: message %d: %w", errGone, seq, code)
	}
	if err != nil {
		return r.notRepeated(seq, err)
	}
	return r.repeated(ctx, seq, in)
}

// deliver takes everything that is in order, closing commits as they fill.
func (r *Reader) deliver(ctx context.Context) error {
	for {
		n, ok := r.order.take()
		if !ok {
			return r.commitIfDue(ctx)
		}
		if err := r.prepare(ctx, n.in); err != nil {
			return err
		}
		if err := r.accept(n); err != nil {
			return err
		}
		if r.sess.ch != nil {
			r.sess.ch.Release(n.in)
		}
		if err := r.commitIfDue(ctx); err != nil {
			return err
		}
	}
}

// accept gives one notice in order to the sealer.
func (r *Reader) accept(n notice) error {
	if r.meansAnew(n.in.Values, n.in.Statuses) {
		return errSemantics
	}
	now := r.now()
	if r.taps.Open() {
		r.tellRaw(n.in, now)
	}
	at := stamp(n.in.Instant())
	believed := at != 0 && !source.Suspect(at, now) && now.Sub(at) <= source.MaxBehind
	r.doubt(!believed, at)
	switch {
	case r.shallow.on:
		r.weigh(n, at, now, believed)
	case r.state.Fresh && believed:
		r.begin(at, now)
	}
	if err := r.values(n.in.Values, now); err != nil {
		return err
	}
	for i := range n.in.Events {
		if err := r.event(n.in, i, now); err != nil {
			return err
		}
	}
	for _, status := range n.in.Status {
		if err := ended(ua.StatusCode(status)); err != nil {
			return err
		}
	}
	if !n.alive() {
		r.state.Seq = n.in.Sequence
		r.taken = append(r.taken, n.in.Sequence)
	}
	if !n.more && len(n.in.Values) > 0 {
		r.echo = false
	}
	if !n.more && believed {
		r.proves(at, now)
	}
	return nil
}

func (r *Reader) void(cause mesh.Cause, times mesh.Span, note string) mesh.Void {
	return mesh.Void{Cause: cause, Parts: []mesh.Part{{Source: r.cfg.ID, Times: times}}, Note: note}
}

// value gives one data value to the sealer.
func (r *Reader) value(v *publish.Value, now mesh.Nanos) error {
	i, again, ours := r.state.signal(v.Handle)
	if !ours || i >= len(r.items) || again > r.again[i] {
		return r.foreign(v.Handle)
	}
	if again != r.again[i] {
		return nil // of a node that the signal had
	}
	s := &r.sampled
	err := r.sample(s, r.wants[i], v, now)
	if s.Status&mesh.StatusOverflow == mesh.StatusOverflow {
		r.overflow(i, min(s.Time, now))
	}
	if s.Status.IsBad() || len(r.state.Dead) > 0 {
		r.dies(i, s.Status)
	}
	if r.drifts[i] && !s.Status.IsBad() {
		s.Status = statusDrifted
	}
	if err != nil {
		r.unread.add(r.table[i].Name, s.Time, err)
	}
	if r.initial[i] {
		r.initial[i] = false
		s.Flags |= mesh.FlagInitial
		if r.items[i].moved {
			r.arrives(i, s, mesh.Status(v.Status), now)
		}
	} else if r.echo && s.Time == r.last[i] {
		s.Flags |= mesh.FlagInitial
	}
	if r.watched != nil && r.cfg.Signals[i].MaxSilence > 0 {
		r.watched[i].sum, r.watched[i].heard = r.digest(v), true
	}
	if r.sieved != nil && r.held(i, s) {
		return nil
	}
	if s.Flags&mesh.FlagSuspect == 0 {
		r.last[i] = max(r.last[i], s.Time)
	}
	r.sealer.Open().Add(s)
	return nil
}

// foreign gives up a subscription that has become somebody else's.
func (r *Reader) foreign(handle uint32) error {
	r.state.Subscription = 0 // not ours: neither acknowledge nor delete it
	return fmt.Errorf("%w: client handle %d is not of this reader: the server has given the subscription's number to somebody else", errGone, handle)
}

// overflow says that values of signal i before the instant to were lost in the
// server's queue. Everything before the proof came, so nothing older is lost.
func (r *Reader) overflow(i int, to mesh.Nanos) {
	from := max(r.last[i], r.sealer.Proof())
	note := fmt.Sprintf("the server's queue of %s ran over", r.table[i].Name)
	r.sealer.Void(r.void(mesh.CauseOverflow, mesh.Span{From: from, To: max(to, from+1)}, note))
}

// commitIfDue closes a commit when its window is full or old, or when much of
// what the server keeps for Republish waits for it.
func (r *Reader) commitIfDue(ctx context.Context) error {
	now := time.Now()
	if len(r.taken) > 0 && r.since.IsZero() {
		r.since = now
	}
	// A message without a sample gives the sealer nothing, but is acknowledged too.
	old := len(r.taken) > 0 && now.Sub(r.since) >= time.Duration(r.cfg.Window.Latency)
	if !r.sealer.Due(now) && !old && len(r.taken) < max(1, r.kept/2) {
		return nil
	}
	_, err := r.commit(ctx)
	return err
}

// commit hands everything taken so far to the log, with the state that belongs to it.
func (r *Reader) commit(ctx context.Context) (uint64, error) {
	if v, ok := r.unread.flush(r.cfg.ID); ok {
		r.sealer.Void(v)
	}
	r.note()
	b, err := r.state.encode(r.sealer)
	if err != nil {
		return 0, &fatalError{err}
	}
	o, err := r.sealer.Seal(b)
	if err != nil {
		return 0, &fatalError{err}
	}
	n, err := r.out.Append(ctx, o)
	if err != nil {
		return 0, &fatalError{fmt.Errorf("hand over to the log: %w", err)}
	}
	r.pushed = append(r.pushed, mark{n: n, seqs: r.taken})
	r.taken, r.since = nil, time.Time{}
	return n, nil
}

// commitNow is commit, and waits until it is durable.
func (r *Reader) commitNow(ctx context.Context) error {
	n, err := r.commit(ctx)
	if err != nil {
		return err
	}
	done, err := r.out.Committed(ctx, n-1)
	if err != nil {
		return &fatalError{fmt.Errorf("wait for the log: %w", err)}
	}
	r.settle(done)
	return nil
}

// settle acknowledges what is durable.
func (r *Reader) settle(done uint64) {
	r.done = max(r.done, done)
	for len(r.pushed) > 0 && r.pushed[0].n <= r.done {
		if seqs := r.pushed[0].seqs; len(seqs) > 0 {
			r.acks.add(seqs...)
			r.committed = seqs[len(seqs)-1]
		}
		r.pushed = slices.Delete(r.pushed, 0, 1)
	}
}
