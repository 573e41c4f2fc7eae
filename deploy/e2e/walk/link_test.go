package walk

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"

	"plantmesh/cloud/ingest"
	"plantmesh/proto/mesh"
	"plantmesh/proto/subject"
)

var errLink = errors.New("the link is cut")

// link stands where NATS stands: a stream that may lose, double, delay and
// damage what it is given, and loses answers. Its luck is its own, so that
// what happens at the plant does not depend on it.
type link struct {
	luck   *rand.Rand
	faulty bool
	up     bool
	stream string
	made   int
	seq    uint64
	stored []ingest.Message
	late   []ingest.Message // refused, and on its way all the same
	back   [][]byte         // receipts on their way
	hurt   int              // how often it did harm
}

func newLink(seed uint64, faulty bool) *link {
	l := &link{luck: rand.New(rand.NewPCG(seed, 3)), faulty: faulty}
	l.renew()
	return l
}

// renew is a stream that was deleted and made again.
func (l *link) renew() {
	l.made++
	l.stream, l.seq, l.stored = fmt.Sprintf("stream-%d", l.made), 0, nil
}

// strikes says whether a fault of so many per cent happens now.
func (l *link) strikes(percent int) bool {
	hit := l.luck.IntN(100) < percent
	if !l.faulty {
		return false
	}
	if hit {
		l.hurt++
	}
	return hit
}

// Publish implements forward.Link.
func (l *link) Publish(_ context.Context, to string, data []byte) (mesh.Place, error) {
	if !l.up {
		return mesh.Place{}, errLink
	}
	m := ingest.Message{Subject: to, Data: slices.Clone(data)}
	switch n := l.luck.IntN(100); {
	case !l.faulty || n >= 16:
	case n < 4: // nothing came
		l.hurt++
		return mesh.Place{}, errLink
	case n < 8: // it came, and its answer did not
		l.hurt++
		l.store(m)
		return mesh.Place{}, errLink
	case n < 12: // it comes later, behind others
		l.hurt++
		l.late = append(l.late, m)
		return mesh.Place{}, errLink
	case n < 14: // it was there, and is forgotten
		l.hurt++
		l.seq++
		return mesh.Place{Stream: l.stream, Seq: l.seq}, nil
	default: // another message than was sent
		l.hurt++
		m.Data[l.luck.IntN(len(m.Data))] ^= 1 << l.luck.IntN(8)
	}
	place := l.store(m)
	if l.strikes(4) { // twice
		l.store(m)
	}
	return place, nil
}

func (l *link) store(m ingest.Message) mesh.Place {
	l.seq++
	m.Place = mesh.Place{Stream: l.stream, Seq: l.seq}
	l.stored = append(l.stored, m)
	return m.Place
}

// next are messages behind a place, in the order of the stream.
func (l *link) next(after mesh.Place, most int) []ingest.Message {
	if n := len(l.late); n > 0 && (!l.faulty || l.luck.IntN(4) == 0) {
		i := l.luck.IntN(n)
		l.store(l.late[i])
		l.late = slices.Delete(l.late, i, i+1)
	}
	from := 0
	if after.Stream == l.stream {
		from, _ = slices.BinarySearchFunc(l.stored, after.Seq+1, func(m ingest.Message, seq uint64) int { return int(m.Place.Seq) - int(seq) })
	}
	l.stored = slices.Delete(l.stored, 0, from)
	return l.stored[:min(most, len(l.stored))]
}

// answer takes receipts on their way back.
func (l *link) answer(receipts []ingest.Answer) {
	for _, a := range receipts {
		if a.Site != site || a.Agent != agentName || !l.up || l.strikes(15) {
			continue
		}
		l.back = append(l.back, a.Receipt)
		if l.strikes(5) {
			l.back = append(l.back, a.Receipt)
		}
	}
}

// arrived is the next receipt, out of order where the link is faulty.
func (l *link) arrived() []byte {
	if len(l.back) == 0 {
		return nil
	}
	i := 0
	if l.faulty {
		i = l.luck.IntN(len(l.back))
	}
	b := l.back[i]
	l.back = slices.Delete(l.back, i, i+1)
	return b
}

// roads says on which roads messages wait, for whoever reads a failure.
func (l *link) roads() map[subject.Road]int {
	out := map[subject.Road]int{}
	for _, m := range l.stored {
		if _, _, road, err := subject.ParseIngest(m.Subject); err == nil {
			out[road]++
		}
	}
	return out
}
