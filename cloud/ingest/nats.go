package ingest

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"

	"plantmesh/proto/fault"
	"plantmesh/proto/mesh"
	"plantmesh/proto/subject"
)

// Bounds of one Step: it takes what is there, and waits for nothing more, so
// under load a transaction grows and without load a record is stored at once.
const (
	stepMessages = 256
	stepBytes    = 4 << 20
	// fetchMessages at a time: with the agents' messages of 256 KiB a fetch is
	// about stepBytes.
	fetchMessages = 16
	// fetchWait is how long a fetch waits for the first message.
	fetchWait = 5 * time.Second
	// callTimeout bounds the housekeeping of one tick, apiTimeout one request.
	// A server that starts loses requests, so they are better short and repeated.
	callTimeout = 10 * time.Second
	apiTimeout  = 2 * time.Second
	// settle is how long a server gets to put a deleted stream away. It takes the
	// name off its list first and the files after that (nats-server 2.15.2,
	// stream.stop): a stream made anew in between shares the folder, and either
	// loses its files or brings the server down.
	settle = time.Second
)

// errStalled is returned when the stream has messages the consumer doesn't give.
var errStalled = errors.New("the stream has messages that are not delivered")

// Run reads the ingest stream until ctx ends, which is no error. It makes the
// stream where there is none. Errors of the network and of the store are tried
// again for ever; only mesh.ErrMoved ends it: somebody else writes the log.
func (g *Ingest) Run(ctx context.Context, nc *nats.Conn) error {
	js, err := jetstream.New(nc, jetstream.WithDefaultTimeout(apiTimeout))
	if err != nil {
		return fmt.Errorf("use JetStream: %w", err)
	}
	sub, err := nc.Subscribe(subject.ResumeAll, func(m *nats.Msg) { g.resume(ctx, nc, m) })
	if err != nil {
		return fmt.Errorf("listen for agents that resume: %w", err)
	}
	defer func() {
		if err := sub.Unsubscribe(); err != nil && !errors.Is(err, nats.ErrConnectionClosed) {
			g.log.WarnContext(ctx, "stop listening for agents that resume", "err", err)
		}
	}()
	for wait := g.cfg.RetryFirst; ; {
		began := g.cfg.Now()
		err := g.session(ctx, nc, js)
		if ctx.Err() != nil {
			return nil
		}
		if errors.Is(err, mesh.ErrMoved) {
			return err
		}
		if g.cfg.Now().Sub(began) > time.Minute {
			wait = g.cfg.RetryFirst
		}
		g.interrupted(ctx, err, wait)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
		wait = min(2*wait, g.cfg.RetryMost)
	}
}

// session reads from one stream through one consumer until something breaks.
func (g *Ingest) session(ctx context.Context, nc *nats.Conn, js jetstream.JetStream) error {
	g.takes.Store(uint32(min(nc.MaxPayload(), math.MaxUint32)))
	stream, err := g.stream(ctx, js)
	if err != nil {
		return err
	}
	info := stream.CachedInfo()
	r := &reading{g: g, nc: nc, js: js, stream: stream, identity: identity(info)}
	place, err := g.Place(ctx)
	if err != nil {
		return err
	}
	from := uint64(1)
	switch {
	case place.Stream == r.identity && place.Seq <= info.State.LastSeq:
		from = place.Seq + 1
	case place.Stream == r.identity:
		g.counts.regressed.Add(1)
		g.log.ErrorContext(ctx, "the ingest stream went back behind what was read of it, is it an old copy? It is read from its first message; agents send again what is not accounted", "stream", r.identity, "was_seq", place.Seq, "last_seq", info.State.LastSeq)
	case place.Stream != "":
		g.counts.renewed.Add(1)
		g.log.ErrorContext(ctx, "the ingest stream was deleted and made anew: agents send again what is not accounted", "was", place.Stream, "was_seq", place.Seq, "is", r.identity, "last_seq", info.State.LastSeq)
		if err := g.Begin(ctx, r.identity); err != nil {
			return err
		}
	}
	c, err := stream.CreateConsumer(ctx, jetstream.ConsumerConfig{
		DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: from,
		AckPolicy: jetstream.AckNonePolicy, MaxDeliver: 1, MemoryStorage: true, Replicas: 1, InactiveThreshold: time.Minute,
	})
	if err != nil {
		return fmt.Errorf("read the ingest stream from %d: %w", from, err)
	}
	select {
	case <-g.renew: // was asked of a session before
	default:
	}
	g.trouble.Store(nil)
	g.log.InfoContext(ctx, "reading the ingest stream", "stream", r.identity, "from", from, "last_seq", info.State.LastSeq)
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return r.read(ctx, c) })
	group.Go(func() error { return r.keep(ctx) })
	group.Go(func() error { return r.guard(ctx) })
	return group.Wait()
}

// identity names a stream so that one made anew is another.
func identity(i *jetstream.StreamInfo) string {
	return i.Config.Name + "@" + i.Created.UTC().Format(time.RFC3339Nano)
}

// stream makes the ingest stream, or brings it to what it has to be.
func (g *Ingest) stream(ctx context.Context, js jetstream.JetStream) (jetstream.Stream, error) {
	s, err := js.Stream(ctx, subject.IngestStream)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return g.make(ctx, js)
	}
	if err != nil {
		return nil, fmt.Errorf("find the ingest stream: %w", err)
	}
	return g.right(ctx, js, s)
}

// make makes the ingest stream. Where there was one before, it waits until that
// is put away, and has the new one take a message: one that lost its files never
// answers, and is made once more.
func (g *Ingest) make(ctx context.Context, js jetstream.JetStream) (jetstream.Stream, error) {
	place, err := g.Place(ctx)
	if err != nil {
		return nil, err
	}
	again := place.Stream != ""
	if again {
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(settle):
		}
	}
	s, err := js.CreateStream(ctx, g.wanted())
	if err != nil {
		return nil, fmt.Errorf("make the ingest stream: %w", err)
	}
	if !again {
		return s, nil
	}
	if _, err := js.Publish(ctx, subject.Canary, nil, jetstream.WithRetryAttempts(0)); err != nil {
		err = fmt.Errorf("the ingest stream was made anew and takes no message: %w", err)
		return nil, errors.Join(err, js.DeleteStream(ctx, subject.IngestStream))
	}
	return s, nil
}

// reading is one session's view of the stream.
type reading struct {
	g        *Ingest
	nc       *nats.Conn
	js       jetstream.JetStream
	stream   jetstream.Stream
	identity string
	idle     atomic.Bool // waiting for a message
}

// read takes message after message. The consumer counts what it delivers: a
// number left out was lost on the way, and the session begins anew.
func (r *reading) read(ctx context.Context, c jetstream.Consumer) error {
	var last uint64
	for {
		msgs, err := r.collect(ctx, c, &last)
		if err != nil {
			return err
		}
		fault.Point("hub.fetched")
		answers, err := r.g.Step(ctx, msgs)
		if err != nil {
			return err
		}
		r.answer(ctx, answers)
	}
}

// collect waits for a message, and takes what else is there.
func (r *reading) collect(ctx context.Context, c jetstream.Consumer, last *uint64) (msgs []Message, err error) {
	r.idle.Store(true)
	for len(msgs) == 0 {
		waiting, cancel := context.WithTimeout(ctx, fetchWait)
		b, err := c.Fetch(1, jetstream.FetchContext(waiting))
		if err == nil {
			msgs, err = r.drain(msgs, b, last)
		}
		cancel()
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if err != nil && !errors.Is(err, context.DeadlineExceeded) {
			return nil, err
		}
	}
	r.idle.Store(false)
	bytes := len(msgs[0].Data)
	for n := 0; n < len(msgs) && len(msgs) < stepMessages && bytes < stepBytes; {
		n = len(msgs)
		b, err := c.FetchNoWait(min(fetchMessages, stepMessages-n))
		if err != nil {
			return nil, fmt.Errorf("fetch from the ingest stream: %w", err)
		}
		if msgs, err = r.drain(msgs, b, last); err != nil {
			return nil, err
		}
		for _, m := range msgs[n:] {
			bytes += len(m.Data)
		}
	}
	return msgs, nil
}

// drain appends what a fetch brings.
func (r *reading) drain(msgs []Message, b jetstream.MessageBatch, last *uint64) ([]Message, error) {
	for m := range b.Messages() {
		meta, err := m.Metadata()
		if err != nil {
			return nil, fmt.Errorf("read where a message stood: %w", err)
		}
		if meta.Sequence.Consumer != *last+1 {
			return nil, fmt.Errorf("message %d came after %d of this consumer: %w", meta.Sequence.Consumer, *last, errStalled)
		}
		*last = meta.Sequence.Consumer
		msgs = append(msgs, Message{m.Subject(), mesh.Place{Stream: r.identity, Seq: meta.Sequence.Stream}, m.Data()})
	}
	if err := b.Error(); err != nil {
		return msgs, fmt.Errorf("fetch from the ingest stream: %w", err)
	}
	return msgs, nil
}

func (r *reading) answer(ctx context.Context, answers []Answer) {
	for _, a := range answers {
		if err := r.nc.Publish(subject.Receipt(a.Site, a.Agent), a.Receipt); err != nil {
			r.g.log.WarnContext(ctx, "receipt not sent, it will be repeated", "site", a.Site, "agent", a.Agent, "err", err)
		}
	}
}

// resume answers an agent that asks for its receipt.
func (g *Ingest) resume(ctx context.Context, nc *nats.Conn, m *nats.Msg) {
	site, agent, err := subject.ParseResume(m.Subject)
	if err != nil {
		g.log.WarnContext(ctx, "request on an unknown subject", "subject", m.Subject, "err", err)
		return
	}
	receipt, err := g.Receipt(ctx, site, agent)
	if err != nil {
		g.log.WarnContext(ctx, "agent that resumes got no receipt, it will ask again", "site", site, "agent", agent, "err", err)
		return
	}
	to := m.Reply
	if !subject.MayAnswer(agent, to) {
		to = subject.Receipt(site, agent)
	}
	if err := nc.Publish(to, receipt); err != nil {
		g.log.WarnContext(ctx, "receipt not sent, it will be repeated", "site", site, "agent", agent, "err", err)
	}
}

// keep repeats receipts, purges what is stored, and notices a stream that was
// made anew or doesn't deliver.
func (r *reading) keep(ctx context.Context) error {
	receipts, purge := time.NewTicker(r.g.cfg.ReceiptEvery), time.NewTicker(r.g.cfg.PurgeEvery)
	defer receipts.Stop()
	defer purge.Stop()
	var s standing
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-receipts.C:
			place, last, err := r.look(ctx)
			if err != nil {
				return err
			}
			if s.still(place, r.idle.Load() && place.Seq < last) {
				return errStalled
			}
			answers, err := r.g.Receipts(ctx)
			if err != nil {
				return err
			}
			r.answer(ctx, answers)
		case <-purge.C:
			if err := r.purge(ctx); err != nil {
				r.g.log.WarnContext(ctx, "stored messages not purged, trying again", "err", err)
			}
		}
	}
}

// standing notices a place that stays where it is although more is there.
type standing struct {
	was   mesh.Place
	looks int
}

// still reports whether two looks in a row saw no progress.
func (s *standing) still(place mesh.Place, behind bool) bool {
	if s.looks++; !behind || place != s.was {
		s.looks = 0
	}
	s.was = place
	return s.looks >= 2
}

// look sees whether the stream is still the same.
func (r *reading) look(ctx context.Context) (place mesh.Place, last uint64, err error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	info, err := r.stream.Info(ctx)
	if err != nil {
		return place, 0, fmt.Errorf("look at the ingest stream: %w", err)
	}
	if place, err = r.g.Place(ctx); err != nil {
		return place, 0, err
	}
	if id := identity(info); id != r.identity || place.Stream == id && place.Seq > info.State.LastSeq {
		return place, 0, fmt.Errorf("the stream is %s with %d messages, not %s: %w", id, info.State.LastSeq, r.identity, errStalled)
	}
	return place, info.State.LastSeq, nil
}

// purge removes of every agent and road what stands behind the place, and
// leaves the last message: an empty subject would forget its sequence.
func (r *reading) purge(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	place, err := r.g.Place(ctx)
	if err != nil || place.Stream != r.identity {
		return err
	}
	info, err := r.stream.Info(ctx, jetstream.WithSubjectFilter(subject.IngestAll))
	if err != nil {
		return fmt.Errorf("list the subjects of the ingest stream: %w", err)
	}
	for s, n := range info.State.Subjects {
		if n < 2 {
			continue
		}
		last, err := r.stream.GetLastMsgForSubject(ctx, s)
		if err != nil {
			return fmt.Errorf("find the last message on %s: %w", s, err)
		}
		if err := r.stream.Purge(ctx, jetstream.WithPurgeSubject(s), jetstream.WithPurgeSequence(min(place.Seq+1, last.Sequence))); err != nil {
			return fmt.Errorf("purge %s: %w", s, err)
		}
	}
	return nil
}
