package hop

import (
	"context"
	"errors"
	"sync"

	"plantmesh/edge/buffer"
	"plantmesh/edge/forward"
	"plantmesh/proto/mesh"
	"plantmesh/proto/meshtest"
	"plantmesh/proto/subject"
)

// errUnsaid is what a publish says whose answer is lost.
var errUnsaid = errors.New("no answer came")

// pipe is what lies between an agent and the stream, and loses, doubles, turns
// round and holds back messages and receipts. Safe for concurrent use.
type pipe struct {
	mu       sync.Mutex       // protects what follows
	armed    []meshtest.Fault // for the next messages, one each
	swallow  int              // receipts, from now on
	deaf     bool             // every receipt is swallowed
	last     mesh.Place       // of the newest message the stream took
	overtake []letter         // goes out behind the next message
	late     []letter         // goes out when everything is over
}

type letter struct {
	subject string
	data    []byte
}

// strike has a fault strike the next message.
func (p *pipe) strike(f meshtest.Fault) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.armed = append(p.armed, f)
	if f == meshtest.AnswerLost {
		p.swallow += 5
	}
}

// unmet is how many faults struck nothing yet.
func (p *pipe) unmet() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.armed)
}

// stragglers are the messages that are late.
func (p *pipe) stragglers() (out []letter) {
	p.mu.Lock()
	defer p.mu.Unlock()
	out, p.late = p.late, nil
	return out
}

func (p *pipe) from(l forward.Link) forward.Link { return mouth{p, l} }

// mouth is the pipe as an agent sees it.
type mouth struct {
	p    *pipe
	link forward.Link
}

// Publish implements forward.Link.
func (m mouth) Publish(ctx context.Context, subj string, data []byte) (mesh.Place, error) {
	m.p.mu.Lock()
	f, told, after := meshtest.Fault(""), m.p.last, m.p.overtake
	if len(m.p.armed) > 0 {
		f, m.p.armed = m.p.armed[0], m.p.armed[1:]
	}
	own := letter{subj, append([]byte(nil), data...)}
	switch f {
	case meshtest.MessageReordered:
		m.p.overtake = append(m.p.overtake, own)
	case meshtest.MessageLate:
		m.p.late = append(m.p.late, own)
	default:
		m.p.overtake = nil
	}
	m.p.mu.Unlock()
	switch f {
	case meshtest.MessageLost, meshtest.MessageReordered, meshtest.MessageLate:
		// The stream said that it has the message, and has it not, or not yet.
		told.Stream = subject.IngestStream
		return told, nil
	case meshtest.MessageDoubled:
		after = append(after, own)
	default: // it goes out, whatever becomes of the answer
	}
	at, err := m.link.Publish(ctx, subj, data)
	if err == nil {
		for _, l := range after {
			if _, err := m.link.Publish(ctx, l.subject, l.data); err != nil {
				return mesh.Place{}, err
			}
		}
		m.p.mu.Lock()
		m.p.last = at
		m.p.mu.Unlock()
	}
	if f == meshtest.AnswerLost {
		return mesh.Place{}, errUnsaid
	}
	return at, err
}

func (p *pipe) to(r forward.Receiver) forward.Receiver { return ear{r, p} }

// ear is who hears of receipts, as far as they get there.
type ear struct {
	forward.Receiver

	p *pipe
}

// Receive implements forward.Receiver.
func (e ear) Receive(receipt []byte) error {
	e.p.mu.Lock()
	lost := e.p.deaf || e.p.swallow > 0
	e.p.swallow = max(0, e.p.swallow-1)
	e.p.mu.Unlock()
	if lost {
		return nil
	}
	return e.Receiver.Receive(receipt)
}

// atRest is an agent's log whose files can be copied between two calls.
type atRest struct {
	*buffer.Buffer

	acks *sync.Mutex
}

// Ack implements forward.Queue.
func (q atRest) Ack(r mesh.Receipt) ([]mesh.Range, error) {
	q.acks.Lock()
	defer q.acks.Unlock()
	return q.Buffer.Ack(r)
}
