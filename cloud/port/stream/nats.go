package stream

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"plantmesh/proto/subject"
)

// duplicates is how long the stream tells repeats by their id. It saves work
// and proves nothing: 2 minutes is the server's own default.
const duplicates = 2 * time.Minute

// ackWait is how long an acknowledgement may take, and maxPending how many may
// be under way: more than one step sends.
const (
	ackWait    = 10 * time.Second
	maxPending = 4096
)

// settle is how long a server gets to put a deleted stream's files away before
// one of the same name is made: it takes the name off its list first.
const settle = time.Second

// JetStream publishes to the product stream of a NATS server.
type JetStream struct {
	js       jetstream.JetStream
	maxBytes int64
	made     time.Time
}

// Made is when the stream was made: it is another one where that is another.
func (j *JetStream) Made() time.Time { return j.made }

// Open makes sure of the product stream and returns its publisher. The stream
// is a copy for consumers, the output logs are the truth: when it is full, the
// oldest messages make room.
func Open(ctx context.Context, nc *nats.Conn, maxBytes int64) (*JetStream, error) {
	js, err := jetstream.New(nc, jetstream.WithPublishAsyncTimeout(ackWait), jetstream.WithPublishAsyncMaxPending(maxPending))
	if err != nil {
		return nil, fmt.Errorf("open the product stream: %w", err)
	}
	j := &JetStream{js: js, maxBytes: maxBytes}
	return j, j.ensure(ctx)
}

// ensure makes the product stream what it has to be.
func (j *JetStream) ensure(ctx context.Context) error {
	s, err := j.js.CreateOrUpdateStream(ctx, jetstream.StreamConfig{
		Name: subject.ProductStream, Subjects: []string{subject.ProductAll}, Storage: jetstream.FileStorage,
		Retention: jetstream.LimitsPolicy, Discard: jetstream.DiscardOld, MaxBytes: j.maxBytes, Duplicates: duplicates,
		Description: "changed rows of all products, in the order of each output log",
	})
	if err != nil {
		return fmt.Errorf("make sure of the product stream: %w", err)
	}
	j.made = s.CachedInfo().Created
	return nil
}

// Leave deletes the product stream of an account that has no products any more; false:
// there is none.
func Leave(ctx context.Context, nc *nats.Conn) (was bool, err error) {
	js, err := jetstream.New(nc)
	if err == nil {
		err = js.DeleteStream(ctx, subject.ProductStream)
	}
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("delete the product stream of before: %w", err)
	}
	return true, nil
}

// Publish implements Publisher. All messages are on their way at once; a wait
// for each would cost one sync of the server's disk a row.
func (j *JetStream) Publish(ctx context.Context, messages []Message) (stored int, err error) {
	if stored, err = j.publish(ctx, messages); err != nil && ctx.Err() == nil {
		// Somebody may have deleted or changed the stream: the next try finds it.
		err = errors.Join(err, j.again(ctx))
	}
	return stored, err
}

// again makes sure of a stream that was there before.
func (j *JetStream) again(ctx context.Context) error {
	if _, err := j.js.Stream(ctx, subject.ProductStream); errors.Is(err, jetstream.ErrStreamNotFound) {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(settle):
		}
	}
	return j.ensure(ctx)
}

func (j *JetStream) publish(ctx context.Context, messages []Message) (stored int, err error) {
	waits := make([]jetstream.PubAckFuture, 0, len(messages))
	for _, m := range messages {
		wait, sendErr := j.js.PublishMsgAsync(&nats.Msg{
			Subject: m.Subject, Data: m.Data,
			Header: nats.Header{"Content-Type": []string{"application/json"}},
		}, jetstream.WithMsgID(m.ID))
		if sendErr != nil {
			err = fmt.Errorf("send to %s: %w", m.Subject, sendErr)
			break
		}
		waits = append(waits, wait)
	}
	for i, wait := range waits {
		select {
		case <-wait.Ok():
			stored++
		case ackErr := <-wait.Err():
			return stored, fmt.Errorf("store a message on %s: %w", messages[i].Subject, ackErr)
		case <-ctx.Done():
			return stored, ctx.Err()
		}
	}
	return stored, err
}
