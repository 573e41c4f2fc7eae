package mqtt

import (
	"context"
	"errors"
	"slices"
	"time"

	mochi "github.com/mochi-mqtt/server/v2"

	"plantmesh/firmware-sim/mqtt/client"
)

const (
	// mostShown bounds what waits to be shown; what is more onlookers do not see.
	mostShown = 256
	// looksWithin is how long an onlooker may take for a message: others wait for it.
	looksWithin = time.Second
)

// look has a client see what falls under a filter: a session that ends with its
// connection, as of who tries a broker out. It sees what comes with QoS 0 while it is
// there, and nothing waits for it: what is promised is promised to the listener. The
// caller holds mu.
func (b *broker) look(cl *mochi.Client, filter string) {
	if !slices.Contains(b.onlookers[cl], filter) {
		b.onlookers[cl] = append(b.onlookers[cl], filter)
	}
	b.looks.Store(int32(len(b.onlookers)))
}

// unlook takes filters of an onlooker away. The caller holds mu.
func (b *broker) unlook(cl *mochi.Client, filter string) {
	if filters, ok := b.onlookers[cl]; ok {
		b.onlookers[cl] = slices.DeleteFunc(filters, func(f string) bool { return f == filter })
	}
}

// who wants a topic.
func (b *broker) who(topic string) (out []subscriber) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for cl, filters := range b.onlookers {
		if slices.ContainsFunc(filters, func(f string) bool { return matches(f, topic) }) {
			out = append(out, subscriber{cl})
		}
	}
	return out
}

// show shows what is queued to who looks on, until ctx ends.
func (s *Server) show(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-s.shown:
		}
		s.mu.Lock()
		said := s.said
		s.said = nil
		s.mu.Unlock()
		for _, m := range said {
			for _, to := range s.broker.who(m.Topic) {
				if err := to.within(looksWithin, client.AppendPublish(nil, m, to.c.Properties.ProtocolVersion)); err != nil {
					to.stop(err)
				}
			}
		}
	}
}

// within is write with a limit: who takes nothing ends.
func (c *subscriber) within(limit time.Duration, frames []byte) error {
	conn := c.c.Net.Conn
	if err := conn.SetWriteDeadline(time.Now().Add(limit)); err != nil {
		return err
	}
	return errors.Join(c.write(frames), conn.SetWriteDeadline(time.Time{}))
}
