package hop

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"plantmesh/cloud/port/stream"
	"plantmesh/cloud/store"
	"plantmesh/proto/mesh"
	"plantmesh/proto/meshtest"
	"plantmesh/proto/subject"
)

// version is what a row should be.
type version struct {
	state mesh.RowState
	n     int
}

// rowWriter writes an output log as a runner does: the rows that are not as they
// should be, with the revisions that follow from those that stand.
type rowWriter struct {
	t          *testing.T
	store      *store.Store
	end, place mesh.Position
	stand      map[string]mesh.Row
	want       map[int]version
	clock      mesh.Nanos
}

func (h *portHop) openWriter(want map[int]version) *rowWriter {
	h.t.Helper()
	w := &rowWriter{t: h.t, store: openStore(h.t, h.dir), stand: map[string]mesh.Row{}, want: maps.Clone(want)}
	if w.want == nil {
		w.want = map[int]version{}
	}
	var err error
	w.end, w.place, err = w.store.Resume(h.t.Context(), portProduct, 0)
	check(h.t, err)
	rows, err := currentRows(h.t.Context(), w.store, portProduct)
	check(h.t, err)
	for _, r := range rows {
		w.stand[r.Key] = r
	}
	return w
}

func body(n, v int) []byte {
	return fmt.Appendf(nil, `{"equipment":"line1-filler","from":%q,"n":%d,"v":%d}`, meshtest.At(n).Time().Format(time.RFC3339Nano), n, v)
}

// make commits what differs, some rows at a time.
func (w *rowWriter) make(ctx context.Context) error {
	var rows []mesh.Row
	for _, n := range slices.Sorted(maps.Keys(w.want)) {
		v := w.want[n]
		r := mesh.Row{Product: portProduct, Entity: "line1-filler", Key: strconv.Itoa(n), From: meshtest.At(n), To: meshtest.At(n + 1), State: v.state, Revision: 1, Body: body(n, v.n)}
		was, ok := w.stand[r.Key]
		if ok && was.State == r.State && string(was.Body) == string(r.Body) {
			continue
		}
		if r.Revision = max(1, was.Revision); was.State == mesh.RowFinal {
			r.Revision++
		}
		rows = append(rows, r)
	}
	for some := range slices.Chunk(rows, 5) {
		if err := w.commit(ctx, some...); err != nil {
			return err
		}
	}
	return nil
}

func (w *rowWriter) commit(ctx context.Context, rows ...mesh.Row) error {
	w.clock = max(w.clock+mesh.Nanos(time.Millisecond), mesh.NanosOf(time.Now())) // rows say milliseconds
	for i := range rows {
		rows[i].Produced = w.clock
	}
	end, err := w.store.Commit(ctx, mesh.Step{Product: portProduct, After: w.end, PlaceWas: w.place, Place: w.place, Rows: rows})
	if err != nil {
		return err
	}
	w.end = end
	for _, r := range rows {
		w.stand[r.Key] = r
	}
	return nil
}

// revise has a row say something else.
func (w *rowWriter) revise(ctx context.Context, n int) error {
	v := w.want[n]
	w.want[n] = version{v.state, v.n + 1}
	return w.make(ctx)
}

// post is what lies between the port and the stream. Safe for concurrent use.
type post struct {
	mu    sync.Mutex // protects what follows
	armed []meshtest.Fault
	late  []stream.Message
}

func (p *post) strike(f meshtest.Fault) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.armed = append(p.armed, f)
}

func (p *post) unmet() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.armed)
}

// stragglers publishes what is late.
func (p *post) stragglers(ctx context.Context, to *port) error {
	p.mu.Lock()
	late := p.late
	p.late = nil
	p.mu.Unlock()
	return to.again(ctx, late)
}

// postman is the stream as one port sees it.
type postman struct {
	post *post
	port *port
	pub  stream.Publisher
}

// Publish implements stream.Publisher.
func (m postman) Publish(ctx context.Context, messages []stream.Message) (stored int, err error) {
	m.post.mu.Lock()
	f := meshtest.Fault("")
	if len(m.post.armed) > 0 {
		f, m.post.armed = m.post.armed[0], m.post.armed[1:]
	}
	if f == meshtest.MessageLate {
		m.post.late = append(m.post.late, messages...)
	}
	m.post.mu.Unlock()
	err = m.port.posts.do(func() error {
		switch f {
		case meshtest.MessageLost:
			_, err = m.pub.Publish(ctx, messages[1:])
			return errors.Join(errUnsaid, err)
		case meshtest.MessageLate:
			return errUnsaid
		case meshtest.MessageReordered:
			for _, one := range slices.Backward(messages) {
				if _, err = m.pub.Publish(ctx, []stream.Message{one}); err != nil {
					return err
				}
			}
			stored = len(messages)
			return nil
		default: // it goes out
		}
		if stored, err = m.pub.Publish(ctx, messages); err != nil {
			return err
		}
		switch f {
		case meshtest.AnswerLost:
			stored, err = 0, errUnsaid
		case meshtest.MessageDoubled:
			err = m.port.again(ctx, messages)
		default: // and that is all
		}
		return err
	})
	return stored, err
}

// again publishes messages as if the stream's memory of their ids had run out.
func (p *port) again(ctx context.Context, messages []stream.Message) error {
	if len(messages) == 0 {
		return nil
	}
	s, err := p.js.Stream(ctx, subject.ProductStream)
	if err != nil {
		return err
	}
	cfg := s.CachedInfo().Config
	// Twice: a server looks for what it may forget before the new window counts, and
	// then again when the window it knew has gone by. The last is the least it takes.
	for _, window := range []time.Duration{150 * time.Millisecond, 100 * time.Millisecond} {
		cfg.Duplicates = window
		if _, err := p.js.UpdateStream(ctx, cfg); err != nil {
			return err
		}
	}
	for _, m := range messages {
		err := poll(ctx, "the stream has forgotten an id", func() (bool, error) {
			ack, err := p.js.PublishMsg(ctx, &nats.Msg{Subject: m.Subject, Data: m.Data}, jetstream.WithMsgID(m.ID))
			return err == nil && !ack.Duplicate, err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// change is one change of a row, as its message says it.
type change struct {
	N        int
	V        int
	From     string
	Revision uint32
	Final    bool   `json:"is_final"`
	Produced string `json:"produced_at"`
}

func (c change) at() mesh.Nanos {
	at, err := time.Parse(time.RFC3339Nano, c.From)
	if err != nil {
		return 0
	}
	return mesh.NanosOf(at)
}

// above reports whether c stands above another change of its row. When it was made
// goes before its revision: where a hub was put back, rows are made again, and
// revisions that somebody has seen are given once more.
func (c *consumer) above(one, than change) bool {
	switch {
	case c.byArrival:
		return true
	case one.Produced != than.Produced && !c.byRevision:
		return one.Produced > than.Produced
	case one.Revision != than.Revision:
		return one.Revision > than.Revision
	}
	return one.Produced >= than.Produced
}

// consumer keeps the newest of each row. Its zero value has read nothing.
type consumer struct {
	stream  time.Time // when the stream it reads was made
	seq     uint64    // read through here
	ids     map[string]bool
	table   map[int]change
	changes map[change]int // how often each was taken for one

	forgets    bool // it looks at no id
	byArrival  bool // what comes last is the newest
	byRevision bool // the highest revision is
}

func (c *consumer) clone() *consumer {
	out := *c
	out.ids, out.table, out.changes = maps.Clone(c.ids), maps.Clone(c.table), maps.Clone(c.changes)
	return &out
}

// read takes what the stream has. Of a stream that was made anew it may have
// missed something: it takes the rows as they are, as any port gives them, and
// goes on from there.
func (c *consumer) read(ctx context.Context, p *port) error {
	s, err := p.js.Stream(ctx, subject.ProductStream)
	if err != nil {
		return err
	}
	info := s.CachedInfo()
	if !info.Created.Equal(c.stream) {
		c.stream, c.seq, c.ids, c.table, c.changes = info.Created, 0, map[string]bool{}, map[int]change{}, map[change]int{}
		if err := c.snapshot(ctx, p.store); err != nil {
			return err
		}
	}
	for ; c.seq < info.State.LastSeq; c.seq++ {
		m, err := s.GetMsg(ctx, c.seq+1)
		if err != nil {
			return err
		}
		id := m.Header.Get(jetstream.MsgIDHeader)
		if c.ids[id] && !c.forgets {
			continue
		}
		c.ids[id] = true
		var one change
		if err := json.Unmarshal(m.Data, &one); err != nil {
			return err
		}
		c.changes[one]++
		if was, ok := c.table[one.N]; !ok || c.above(one, was) {
			c.table[one.N] = one
		}
	}
	return nil
}

func (c *consumer) snapshot(ctx context.Context, s *store.Store) error {
	rows, err := currentRows(ctx, s, portProduct)
	if err != nil {
		return err
	}
	for _, r := range rows {
		one := change{Revision: r.Revision, Final: r.State == mesh.RowFinal, Produced: r.Produced.Time().Format("2006-01-02T15:04:05.000Z07:00")}
		if err := json.Unmarshal(r.Body, &one); err != nil {
			return err
		}
		c.table[one.N] = one
	}
	return nil
}
