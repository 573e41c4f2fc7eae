package mqtt

import (
	"context"
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"
)

const (
	// dropsTopic is where mosquitto counts the messages it threw away: it
	// acknowledges them first and tells nobody else.
	dropsTopic = "$SYS/broker/publish/messages/dropped"
	// dropsWithin is how long a broker may take to say its first count.
	// mosquitto says it every sys_interval, 10 s by default.
	dropsWithin = 12 * time.Second
)

// drops follows a given broker's count of dropped messages. The zero value has
// heard nothing. Safe for concurrent use.
type drops struct {
	mu    sync.Mutex // protects the fields below
	heard bool
	last  uint64
}

// count takes what the broker says, and gives what was dropped since the time
// before. A count that went back is one of a broker that restarted.
func (d *drops) count(payload []byte) (more uint64, err error) {
	n, err := strconv.ParseUint(strings.TrimSpace(string(payload)), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("the broker's count of dropped messages: %w", err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case d.heard && n >= d.last:
		more = n - d.last
	case d.heard:
		more = n
	}
	d.heard, d.last = true, n
	return more, nil
}

func (d *drops) silent() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return !d.heard
}

// warnUnseen says once, loudly, that this broker can lose messages and nobody
// would know.
func (s *Server) warnUnseen(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case <-s.subscribed:
	}
	select {
	case <-ctx.Done():
	case <-time.After(dropsWithin):
		if s.drops.silent() {
			s.log.Error("DROPS CAN'T BE SEEN: the broker does not say how many messages it threw away, so what it acknowledged may be lost; "+
				"set its queue limits to unbounded, or use the own broker", "broker", s.cfg.Broker, "topic", dropsTopic)
		}
	}
	return nil
}

// dropped hears the broker's count. One that rises ends the run: the device was
// told received for messages that nobody will ever get.
func (s *Server) dropped(head byte, body []byte) error {
	p := packets.Packet{ProtocolVersion: 5, FixedHeader: packets.FixedHeader{Type: packets.Publish, Qos: head >> 1 & 3}}
	if err := p.PublishDecode(body); err != nil {
		return fmt.Errorf("decode what the broker counts: %w", err)
	}
	if p.TopicName != dropsTopic {
		return nil // of a subscription this client id had before
	}
	more, err := s.drops.count(p.Payload)
	if err != nil || more == 0 {
		return err
	}
	err = fmt.Errorf("the broker threw %d messages away, which it had acknowledged: its queue limits are too small (mosquitto: max_queued_messages 0): %w", more, ErrDropped)
	s.fail(err)
	return err
}

// spareID is a packet id that no message in flight has.
func (s *Server) spareID() uint16 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.out.freeID()
}

// pubackID is the packet id of a PUBACK, with its reason.
func pubackID(body []byte) (id uint16, reason byte) {
	if len(body) > 2 {
		reason = body[2]
	}
	return binary.BigEndian.Uint16(body), reason
}
