package sim

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"plantmesh/cloud/ingest"
	"plantmesh/proto/mesh"
)

var errLink = errors.New("the link is cut")

// luck is a stream of numbers that belongs to one event, so that taking other
// events away changes nothing of it. SplitMix64.
type luck uint64

func (l *luck) next() uint64 {
	*l += 0x9e3779b97f4a7c15
	z := uint64(*l)
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

func (l *luck) below(n int) int { return int(l.next() % uint64(n)) }

// broker is a model of the broker's stream with the links to it.
type broker struct {
	w    *world
	luck luck // of the event at hand
	made int
	id   string
	seq  uint64
	msgs []ingest.Message
	late []ingest.Message // refused, and on its way all the same
	harm int              // percent of messages something happens to
}

func newBroker(w *world) *broker {
	s := &broker{w: w}
	s.renew()
	return s
}

// renew is a stream that was deleted and made again.
func (s *broker) renew() {
	s.made++
	s.id, s.seq, s.msgs = fmt.Sprintf("INGEST@%d", s.made), 0, nil
}

// back takes the newest n messages away: the broker was restored.
func (s *broker) back(n int) {
	n = min(n, len(s.msgs))
	s.msgs = slices.Clone(s.msgs[:len(s.msgs)-n])
	s.seq -= uint64(n)
}

// uplink is one agent's way to the stream.
type uplink struct {
	s  *broker
	up bool
	// back are receipts on their way.
	back [][]byte
}

// Publish implements forward.Link.
func (u *uplink) Publish(_ context.Context, to string, data []byte) (mesh.Place, error) {
	s := u.s
	if !u.up {
		return mesh.Place{}, errLink
	}
	s.w.tell("    sent: %d bytes as %d of %s", len(data), s.seq+1, s.id)
	m := ingest.Message{Subject: to, Data: slices.Clone(data)}
	if s.harm == 0 || s.luck.below(100) >= s.harm {
		return s.store(m), nil
	}
	switch s.luck.below(7) {
	case 0: // nothing came
		s.w.hit(faultMessageLost)
		return mesh.Place{}, errLink
	case 1: // it came, its answer did not
		s.w.hit(faultPubAckLost)
		s.store(m)
		return mesh.Place{}, errLink
	case 2: // it comes later, behind others
		s.w.hit(faultMessageLate)
		s.late = append(s.late, m)
		return mesh.Place{}, errLink
	case 3: // it was there, and is forgotten
		s.w.hit(faultMessageForgotten)
		s.seq++
		return mesh.Place{Stream: s.id, Seq: s.seq}, nil
	case 4:
		s.w.hit(faultMessageDoubled)
		s.store(m)
		return s.store(m), nil
	case 5: // it changes places with the one before
		place := s.store(m)
		if n := len(s.msgs); n > 1 {
			s.w.hit(faultMessageReordered)
			a, b := &s.msgs[n-2], &s.msgs[n-1]
			a.Data, b.Data, a.Subject, b.Subject = b.Data, a.Data, b.Subject, a.Subject
		}
		return place, nil
	default:
		s.w.hit(faultMessageDamaged)
		m.Data[s.luck.below(len(m.Data))] ^= 1 << s.luck.below(8)
		return s.store(m), nil
	}
}

func (s *broker) store(m ingest.Message) mesh.Place {
	s.seq++
	m.Place = mesh.Place{Stream: s.id, Seq: s.seq}
	s.msgs = append(s.msgs, m)
	return m.Place
}

// from are messages behind a sequence, in order.
func (s *broker) from(seq uint64, most int) []ingest.Message {
	if n := len(s.late); n > 0 && (s.harm == 0 || s.luck.below(3) == 0) {
		m := s.late[0]
		s.late = s.late[1:]
		s.store(m)
	}
	i, _ := slices.BinarySearchFunc(s.msgs, seq+1, func(m ingest.Message, seq uint64) int { return int(m.Place.Seq) - int(seq) })
	return s.msgs[i:min(len(s.msgs), i+most)]
}

// answer takes a receipt on its way back.
func (u *uplink) answer(b []byte) {
	s := u.s
	if !u.up {
		return
	}
	if s.harm > 0 && s.luck.below(100) < s.harm {
		if s.luck.below(2) == 0 {
			s.w.hit(faultReceiptLost)
			return
		}
		s.w.hit(faultReceiptDoubled)
		u.back = append(u.back, b)
	}
	u.back = append(u.back, b)
}

// arrived is the next receipt, not always the oldest.
func (u *uplink) arrived() []byte {
	if len(u.back) == 0 {
		return nil
	}
	i := 0
	if u.s.harm > 0 {
		if i = u.s.luck.below(len(u.back)); i > 0 {
			u.s.w.hit(faultReceiptReordered)
		}
	}
	b := u.back[i]
	u.back = slices.Delete(u.back, i, i+1)
	return b
}
