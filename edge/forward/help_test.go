package forward

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"plantmesh/proto/mesh"
	"plantmesh/proto/subject"
	"plantmesh/proto/wire"
)

const testLog mesh.LogID = "agent/graz/gw-1"

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

func check(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

// memory is a log in memory.
type memory struct {
	t       testing.TB
	mu      sync.Mutex
	records []mesh.Record
	descs   []mesh.Descriptor
	tables  int // made by named
	changed chan struct{}
}

func newMemory(tb testing.TB) *memory {
	tb.Helper()
	m := &memory{t: tb, changed: make(chan struct{})}
	d, err := wire.DescribeSignals([]mesh.Signal{{ID: 1, Name: "line1.filler.speed", Type: mesh.TypeDouble}})
	check(tb, err)
	m.descs = []mesh.Descriptor{d}
	m.epoch()
	return m
}

// epoch begins a new one at the end.
func (m *memory) epoch() {
	var o mesh.Opening
	if n := len(m.records); n > 0 {
		o.Parent = m.records[n-1].At
	}
	sealed, err := wire.SealOpening(o)
	check(m.t, err)
	m.put(mesh.Record{At: mesh.Position{Log: testLog, Epoch: mesh.NewEpoch(), Seq: 1}, Sealed: sealed})
}

// batches appends n of them.
func (m *memory) batches(n int) {
	e, err := wire.NewEncoder()
	check(m.t, err)
	for range n {
		at := m.records[len(m.records)-1].At
		at.Seq++
		b := mesh.Batch{Source: "line1-opcua", Table: m.descs[0].Hash()}
		for i := range 20 {
			b.Samples = append(b.Samples, mesh.Sample{Signal: 1, Time: mesh.Nanos(at.Seq)*1000 + mesh.Nanos(i), Value: mesh.Double(1 / float64(at.Seq+uint64(i)))})
		}
		sealed, err := e.Seal(&b)
		check(m.t, err)
		m.put(mesh.Record{At: at, Sealed: sealed})
	}
}

// named appends a batch that names a signal table of its own: n names of bytes
// each. Samples don't compress, so many make a large record.
func (m *memory) named(n, bytes, samples int) mesh.Position {
	table := make([]mesh.Signal, n)
	for i := range table {
		table[i] = mesh.Signal{ID: uint32(i + 1), Name: fmt.Sprintf("%0*d", bytes, i+m.tables*n), Type: mesh.TypeDouble}
	}
	m.tables++
	d, err := wire.DescribeSignals(table)
	check(m.t, err)
	e, err := wire.NewEncoder()
	check(m.t, err)
	b := mesh.Batch{Source: "line1-opcua", Table: d.Hash()}
	random := rand.New(rand.NewPCG(1, 2))
	for i := range samples {
		b.Samples = append(b.Samples, mesh.Sample{Signal: 1, Time: mesh.Nanos(i), Value: mesh.Double(random.Float64())})
	}
	sealed, err := e.Seal(&b)
	check(m.t, err)
	m.mu.Lock()
	m.descs = append(m.descs, d)
	at := m.records[len(m.records)-1].At
	m.mu.Unlock()
	at.Seq++
	m.put(mesh.Record{At: at, Sealed: sealed})
	return at
}

// quarantine is the log's: a void stands for the record from here on.
func (m *memory) quarantine(at mesh.Position, why string) error {
	sealed, err := wire.SealVoid(mesh.Void{Lost: []mesh.Range{{Epoch: at.Epoch, First: at.Seq, Last: at.Seq}}, Cause: mesh.CauseUnreadable, Note: why})
	check(m.t, err)
	m.mu.Lock()
	m.records = slices.DeleteFunc(m.records, func(r mesh.Record) bool { return r.At == at })
	end := m.records[len(m.records)-1].At
	m.mu.Unlock()
	end.Seq = max(end.Seq, at.Seq) + 1
	m.put(mesh.Record{At: end, Sealed: sealed})
	return nil
}

func (m *memory) put(r mesh.Record) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.records = append(m.records, r)
	close(m.changed)
	m.changed = make(chan struct{})
}

func (m *memory) Changed() <-chan struct{} {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.changed
}

func (m *memory) Peek(after mesh.Position, maxBytes int) (out []mesh.Record, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	i := 0
	if !after.IsZero() {
		i = slices.IndexFunc(m.records, func(r mesh.Record) bool { return r.At.Epoch == after.Epoch && r.At.Seq >= after.Seq })
		if after.Seq > 0 {
			i++
		}
	}
	for size := 0; i < len(m.records) && (size == 0 || size+len(m.records[i].Sealed) < maxBytes); i++ {
		out = append(out, m.records[i])
		size += len(m.records[i].Sealed)
	}
	return out, nil
}

func (m *memory) Ack(mesh.Receipt) ([]mesh.Range, error) { return nil, nil }

func (m *memory) Outset() (descs []mesh.Descriptor, openings []mesh.Record, end mesh.Position, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, r := range m.records {
		if r.At.Seq == 1 {
			openings = append(openings, r)
		}
	}
	return m.descs, openings, m.records[len(m.records)-1].At, nil
}

// stream is what lies between, and hub what stands behind it.
type stream struct {
	id       string
	messages []published
	most     int      // bytes of a message; 0: all go
	faults   []string // one for each publish from now on: "", failed, happened, lost, doubled, late
	late     []published
}

type published struct {
	subject string
	data    []byte
}

var errLink = errors.New("no answer from the hub")

func (s *stream) Publish(_ context.Context, subj string, data []byte) (mesh.Place, error) {
	if s.most > 0 && len(data) > s.most {
		return mesh.Place{}, mesh.Permanent(&SizeError{Bytes: int64(len(data)), Most: int64(s.most)})
	}
	fault := ""
	if len(s.faults) > 0 {
		fault, s.faults = s.faults[0], s.faults[1:]
	}
	p := published{subj, slices.Clone(data)}
	switch fault {
	case "failed":
		return mesh.Place{}, errLink
	case "late":
		s.late = append(s.late, p)
		return mesh.Place{Stream: "INGEST", Seq: uint64(len(s.messages))}, nil
	case "lost":
		return mesh.Place{Stream: "INGEST", Seq: uint64(len(s.messages))}, nil
	case "doubled":
		s.messages = append(s.messages, p)
	}
	s.messages = append(s.messages, p)
	if len(s.late) > 0 {
		s.messages, s.late = append(s.messages, s.late...), nil
	}
	if fault == "happened" {
		return mesh.Place{}, errLink
	}
	return mesh.Place{Stream: "INGEST", Seq: uint64(len(s.messages))}, nil
}

// hub accounts for what it reads, as ingest does.
type hub struct {
	t        testing.TB
	account  *mesh.Account
	by       mesh.Position
	place    int
	descs    map[mesh.Hash]bool
	lacks    map[mesh.Hash]bool
	got      map[mesh.Position]int
	verdicts int
	refused  int
	silent   bool // tells no place
	share    uint8
	most     uint32 // bytes of a message; 0: doesn't say
	voided   int
}

func newHub(tb testing.TB) *hub {
	tb.Helper()
	return &hub{
		t: tb, account: &mesh.Account{Log: testLog}, by: mesh.Position{Log: "hub/0", Epoch: mesh.NewEpoch(), Seq: 1},
		descs: map[mesh.Hash]bool{}, lacks: map[mesh.Hash]bool{}, got: map[mesh.Position]int{},
	}
}

func (h *hub) read(s *stream) { h.readTo(s, len(s.messages)) }

func (h *hub) readTo(s *stream, end int) {
	for ; h.place < min(end, len(s.messages)); h.place++ {
		for rest := s.messages[h.place].data; len(rest) > 0; {
			kind, frame, tail, err := wire.Next(rest)
			check(h.t, err)
			h.frame(kind, frame)
			rest = tail
		}
	}
}

func (h *hub) frame(kind wire.FrameKind, frame []byte) {
	switch kind {
	case wire.FrameDescriptor:
		d, err := wire.ParseDescriptor(frame)
		check(h.t, err)
		h.descs[d.Hash()] = true
		delete(h.lacks, d.Hash())
	case wire.FrameVerdict:
		h.verdicts++
	case wire.FrameRecord:
		r, err := wire.ParseRecord(frame)
		check(h.t, err)
		h.record(r)
	}
}

func (h *hub) record(r mesh.Record) {
	if h.account.Has(r.At) {
		h.got[r.At]++
		return
	}
	header, err := wire.ParseHeader(r.Sealed)
	check(h.t, err)
	for _, n := range header.Needs {
		if !h.descs[n] {
			h.lacks[n] = true
			h.refused++
			return
		}
	}
	if o, err := wire.OpenOpening(r.Sealed); err == nil && h.account.Open(r.At.Epoch, o) != nil {
		h.refused++
		return
	}
	if h.account.Add(mesh.Range{Epoch: r.At.Epoch, First: r.At.Seq, Last: r.At.Seq}) != nil {
		h.refused++
		return
	}
	if v, err := wire.OpenVoid(r.Sealed); err == nil {
		for _, lost := range v.Lost {
			check(h.t, h.account.Add(lost))
			h.voided++
		}
	}
	h.got[r.At]++
	h.by.Seq++
}

func (h *hub) receipt(s *stream) []byte {
	r := mesh.Receipt{By: h.by, Have: h.account.Set, Chain: h.account.Chain, Limits: mesh.Limits{MaxBytes: h.most, BacklogShare: h.share}}
	for l := range h.lacks {
		r.Lacks = append(r.Lacks, l)
	}
	if !h.silent {
		r.Place = mesh.Place{Stream: s.id, Seq: uint64(h.place)}
	}
	b, err := wire.EncodeReceipt(r)
	check(h.t, err)
	return b
}

// rig is an agent, a stream and a hub on one clock.
type rig struct {
	t   *testing.T
	log *memory
	s   *stream
	hub *hub
	f   *Forward
	now time.Time
}

func newRig(t *testing.T) *rig {
	t.Helper()
	r := &rig{t: t, log: newMemory(t), s: &stream{id: "INGEST@1"}, hub: newHub(t), now: time.Unix(1e9, 0)}
	r.f = r.forward()
	return r
}

func (r *rig) forward() *Forward {
	cfg := Config{Site: "graz", Agent: "gw-1", MaxMessage: 4 << 10, Quarantine: r.log.quarantine}
	verdict, err := wire.SealVerdict("line1-opcua", mesh.Verdict{Revision: 1, Of: mesh.Position{Log: testLog, Epoch: mesh.Epoch{1}, Seq: 1}})
	check(r.t, err)
	judge := func(_ context.Context, rec mesh.Record) ([]byte, error) {
		if rec.At.Seq%7 == 0 {
			return verdict, nil
		}
		return nil, nil
	}
	return New(cfg, r.log, r.s, judge, func() time.Time { return r.now }, quiet())
}

func (r *rig) connect() {
	check(r.t, r.f.Receive(r.hub.receipt(r.s)))
	r.f.Connected()
}

// steps goes on until there is nothing to do or a publish failed.
func (r *rig) steps() error {
	for range 10000 {
		worked, err := r.f.Step(r.t.Context())
		if err != nil || !worked {
			return err
		}
	}
	r.t.Fatal("there is no end")
	return nil
}

// settle lets time go by, the hub read and answer, until all has arrived.
func (r *rig) settle(seconds int) {
	r.t.Helper()
	for range seconds {
		if err := r.steps(); err != nil && !errors.Is(err, errLink) && ignoreSize(err) != nil {
			r.t.Fatal(err)
		}
		r.hub.read(r.s)
		check(r.t, r.f.Receive(r.hub.receipt(r.s)))
		if err := r.steps(); err != nil && !errors.Is(err, errLink) && ignoreSize(err) != nil {
			r.t.Fatal(err)
		}
		if r.hub.account.Set.Through == r.log.records[len(r.log.records)-1].At {
			return
		}
		r.now = r.now.Add(time.Second)
	}
	r.t.Fatalf("after %d s the hub is contiguous through %s %v, the log ends at %s", seconds, r.hub.account.Set.Through, r.hub.account.Set.Islands, r.log.records[len(r.log.records)-1].At)
}

// sent counts the messages of a road.
func (r *rig) sent(road subject.Road) (n int) {
	for _, m := range r.s.messages {
		if m.subject == subject.Ingest("graz", "gw-1", road) {
			n++
		}
	}
	return n
}
