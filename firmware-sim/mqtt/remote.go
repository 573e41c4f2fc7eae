package mqtt

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/url"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"plantmesh/firmware-sim/mqtt/client"
)

const (
	remoteKeepAlive = 30 * time.Second
	remoteBackoff   = 500 * time.Millisecond // before the next try
)

// errNobody is the broker saying that no session wants the message (PUBACK
// reason 0x10): it would be lost, so it is kept and tried again.
var errNobody = errors.New("the broker has no subscriber yet")

// remote is a connection to a given broker.
type remote struct{ *client.Conn }

// dial keeps a connection to the given broker until ctx ends. What the broker
// acknowledged counts as received, so it must keep it: its limits per
// subscriber have to hold what the plant says while the subscriber is away.
// mosquitto: max_queued_messages 0, max_queued_bytes 0, and max_inflight_messages
// 0 or at least the subscriber's receive maximum; its defaults (1,000 queued)
// throw messages away. A mosquitto that does is noticed and fails the run, up to
// its sys_interval (10 s) later.
func (s *Server) dial(ctx context.Context) error {
	u, err := url.Parse(s.cfg.Broker)
	if err != nil || u.Scheme != "mqtt" || u.Host == "" {
		return fmt.Errorf("broker %q of source %q is no mqtt://host:port", s.cfg.Broker, s.cfg.Source)
	}
	last := ""
	for {
		why := s.session(ctx, u.Host)
		if ctx.Err() == nil && why.Error() != last {
			last = why.Error()
			s.log.Warn("broker connection ended", "broker", s.cfg.Broker, "error", why)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(remoteBackoff):
		}
	}
}

// session is one connection: it sends one message until the broker took one
// for a subscriber, then as many as it may.
func (s *Server) session(ctx context.Context, address string) error {
	conn, welcome, err := client.Dial(ctx, address, client.Hello{
		Client: "firmware-sim-" + s.cfg.Source, Version: 5, KeepAlive: remoteKeepAlive, Expiry: sessionExpiry,
	})
	if err != nil {
		return err
	}
	r := remote{conn}
	defer r.Close()
	defer context.AfterFunc(ctx, r.Close)()
	if !welcome.Present {
		s.forget()
	}
	if err := r.Subscribe(s.spareID(), 0, dropsTopic); err != nil {
		return fmt.Errorf("ask for the count of dropped messages: %w", err)
	}
	s.attach(r, 1, true, nil)
	defer s.detach(r)
	for first := true; ; {
		head, body, err := r.Read()
		if err != nil {
			return fmt.Errorf("read from the broker: %w", err)
		}
		switch kind := head >> 4; {
		case kind == packets.Suback:
			poke(s.subscribed)
			continue
		case kind == packets.Publish:
			if err := s.dropped(head, body); err != nil {
				return err
			}
			continue
		case kind != packets.Puback || len(body) < 2:
			continue
		}
		id, reason := pubackID(body)
		switch {
		case reason == packets.CodeNoMatchingSubscribers.Code:
			return errNobody
		case reason >= packets.ErrUnspecifiedError.Code:
			err := fmt.Errorf("broker refused a message with reason 0x%02x: %w", reason, ErrDropped)
			s.fail(err)
			return err
		}
		s.acked(r, id)
		if first {
			first = false
			s.widen(r, min(maxUnacknowledged, cmp.Or(welcome.Window, maxUnacknowledged)))
		}
	}
}

func (r remote) write(frames []byte) error { return r.Write(frames) }

func (r remote) stop(error) { r.Close() }
