package link

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"unicode/utf8"
)

// Speech says who sent a packet, and in which version.
type Speech uint8

// Who may send us a PUBLISH.
const (
	FromBroker  Speech = iota // MQTT 5
	FromDevice5               // MQTT 5
	FromDevice4               // MQTT 3.1.1
)

// frame begins a packet of n bytes.
func frame(b []byte, head byte, n int) []byte {
	return binary.AppendUvarint(append(b, head), uint64(n)) // the coding is MQTT's too
}

// Parse takes a PUBLISH apart (MQTT 5, 3.3; MQTT 3.1.1, 3.3), b being what follows
// its fixed header. What the standard forbids is an error; a topic alias too, as we
// allow none. QoS 2 is taken from devices only.
func Parse(p *Packet, head byte, b []byte, from Speech) error {
	*p = Packet{QoS: head >> 1 & 3, Again: head&8 != 0, Retained: head&1 != 0}
	if p.QoS == 3 || p.QoS == 2 && from == FromBroker {
		return fmt.Errorf("%w: a publish of QoS %d", ErrFrame, p.QoS)
	}
	var ok bool
	if p.Topic, b, ok = text(b); !ok || !topical(p.Topic) {
		return fmt.Errorf("%w: a publish with a bad topic", ErrFrame)
	}
	if p.QoS > 0 {
		if len(b) < 2 || b[0]|b[1] == 0 {
			return fmt.Errorf("%w: a publish without a packet id", ErrFrame)
		}
		p.ID, b = binary.BigEndian.Uint16(b), b[2:]
	}
	if from != FromDevice4 {
		size, n, ok := varint(b)
		if !ok || n > len(b)-size {
			return fmt.Errorf("%w: a publish with bad properties", ErrFrame)
		}
		if n > 0 && !allowed(b[size:size+n], from) {
			return fmt.Errorf("%w: a publish with a property that it can't have", ErrFrame)
		}
		b = b[size+n:]
	}
	p.Payload = b
	return nil
}

// topical: a topic is not empty, is UTF-8 without control characters and
// non-characters (MQTT 5, 1.5.4), and has no wildcard (3.3.2.1).
func topical(topic []byte) bool {
	ascii := true
	for _, c := range topic {
		if c < 0x20 || c == 0x7F || c == '+' || c == '#' {
			return false
		}
		ascii = ascii && c < 0x80
	}
	return len(topic) > 0 && (ascii || clean(topic))
}

// clean: the rest of that, for what is not ASCII.
func clean(b []byte) bool {
	if !utf8.Valid(b) {
		return false
	}
	for _, r := range string(b) {
		if r >= 0x80 && r < 0xA0 || r&0xFFFE == 0xFFFE || r >= 0xFDD0 && r <= 0xFDEF {
			return false
		}
	}
	return true
}

// text reads a string with its length in front.
func text(b []byte) (s, rest []byte, ok bool) {
	if len(b) < 2 {
		return nil, nil, false
	}
	n := int(binary.BigEndian.Uint16(b))
	if n > len(b)-2 {
		return nil, nil, false
	}
	return b[2 : 2+n], b[2+n:], true
}

// varint reads a variable byte integer (MQTT 5, 1.5.5), which is no longer than it
// needs to be.
func varint(b []byte) (size, n int, ok bool) {
	for i := range min(len(b), 4) {
		n |= int(b[i]&0x7F) << (7 * i)
		if b[i] < 0x80 {
			return i + 1, n, i == 0 || b[i] != 0
		}
	}
	return 0, 0, false
}

// Properties of a PUBLISH (MQTT 5, 3.3.2.3).
const (
	propFormat        = 0x01
	propExpiry        = 0x02
	propContentType   = 0x03
	propResponseTopic = 0x08
	propCorrelation   = 0x09
	propSubscription  = 0x0B
	propUser          = 0x26
)

// allowed checks the properties of a PUBLISH. Nothing in them matters to a reader,
// but who sends a wrong one can't be trusted with the rest.
func allowed(b []byte, from Speech) bool {
	seen := uint64(0)
	for len(b) > 0 {
		id := b[0]
		again := id < 64 && seen>>id&1 != 0
		// A broker names each subscription that fits; a device has none to name.
		if again && id != propUser && (id != propSubscription || from != FromBroker) {
			return false
		}
		seen |= 1 << (id & 63)
		var ok bool
		if b, ok = property(id, b[1:]); !ok {
			return false
		}
	}
	return true
}

// property skips one.
func property(id byte, b []byte) (rest []byte, ok bool) {
	var s []byte
	switch id {
	case propFormat:
		return skip(b, 1, len(b) > 0 && b[0] <= 1)
	case propExpiry:
		return skip(b, 4, true)
	case propSubscription:
		size, n, ok := varint(b)
		return skip(b, size, ok && n > 0)
	case propContentType:
		s, rest, ok = text(b)
		return rest, ok && utf8.Valid(s)
	case propResponseTopic:
		s, rest, ok = text(b)
		return rest, ok && topical(s)
	case propCorrelation:
		_, rest, ok = text(b)
		return rest, ok
	case propUser:
		for range 2 {
			if s, b, ok = text(b); !ok || !utf8.Valid(s) || bytes.IndexByte(s, 0) >= 0 {
				return nil, false
			}
		}
		return b, true
	}
	return nil, false
}

func skip(b []byte, n int, valid bool) ([]byte, bool) {
	if !valid || n > len(b) {
		return nil, false
	}
	return b[n:], true
}
