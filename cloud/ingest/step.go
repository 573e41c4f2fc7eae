package ingest

import (
	"context"
	"encoding/binary"
	"errors"
	"time"

	"plantmesh/proto/mesh"
	"plantmesh/proto/subject"
	"plantmesh/proto/wire"
)

// arrival is one record that came.
type arrival struct {
	log     mesh.LogID
	at      mesh.Position
	header  mesh.Header
	sealed  []byte
	sum     uint32
	opening mesh.Opening  // of an opening
	lost    []mesh.Range  // of a void
	verdict *mesh.Verdict // the first, where one came with it
}

// heard is an agent that is answered.
type heard struct {
	site, agent string
	log         mesh.LogID
}

// step is the making of one Take. It changes nothing of the ingest before
// settle.
type step struct {
	g        *Ingest
	stats    Stats
	arrivals []arrival
	heard    []heard
	entries  []mesh.Entry
	offered  []mesh.Descriptor // descriptors that came
	fresh    []mesh.Descriptor // those of them that are not stored
	have     map[mesh.Hash]bool
	absent   map[mesh.Hash]bool
	accounts map[mesh.LogID]*mesh.Account // copies, to be changed
	dirty    map[mesh.LogID]bool
	lacks    map[mesh.LogID]map[mesh.Hash]bool
	beyond   map[mesh.LogID]int       // taken, and off the chain
	sums     map[mesh.Position]uint32 // of positions whose bytes are stored
	asked    map[mesh.Position]bool   // positions sums was asked for
	forks    map[mesh.Epoch]bool
	further  []further // of branches taken in: what is stored of them is not accounted for yet
	now      time.Time // by the machine clock
	canary   string    // what the newest message of the hub's own said; empty: none came
}

func newStep(g *Ingest) *step {
	return &step{
		g: g, stats: g.stats, have: map[mesh.Hash]bool{}, absent: map[mesh.Hash]bool{},
		accounts: map[mesh.LogID]*mesh.Account{}, dirty: map[mesh.LogID]bool{}, lacks: map[mesh.LogID]map[mesh.Hash]bool{}, beyond: map[mesh.LogID]int{},
		sums: map[mesh.Position]uint32{}, asked: map[mesh.Position]bool{}, forks: map[mesh.Epoch]bool{}, now: g.cfg.Now(),
	}
}

// read takes a message apart. What is wrong with it ends there: frames before
// the fault count, but a batch whose verdict may be in what is lost does not,
// because it would be stored as if no rule had found anything.
func (s *step) read(ctx context.Context, m *Message) {
	if subject.ParseCanary(m.Subject) {
		s.canary = string(m.Data)
		return
	}
	s.stats.Messages++
	s.stats.Bytes += uint64(len(m.Data))
	site, agent, _, err := subject.ParseIngest(m.Subject)
	if err != nil {
		s.stats.Foreign++
		s.fault(ctx, "message on no agent's subject left out", "subject", m.Subject, "stream_seq", m.Place.Seq)
		return
	}
	log := mesh.LogID(subject.AgentLog(site, agent))
	s.hear(heard{site, agent, log})
	first := len(s.arrivals)
	for rest := m.Data; len(rest) > 0; {
		kind, frame, more, err := wire.Next(rest)
		if err == nil {
			err = s.frame(ctx, log, kind, frame, first)
		} else {
			s.dropUnjudged(first)
		}
		if err != nil {
			s.stats.Damaged++
			at := []any{"subject", m.Subject, "stream_seq", m.Place.Seq, "offset", len(m.Data) - len(rest), "err", err}
			if more == nil { // where the next frame begins can't be told
				s.fault(ctx, "damaged message left out from here on", at...)
				return
			}
			s.fault(ctx, "damaged frame left out, the next one is read", at...)
		}
		rest = more
	}
}

func (s *step) hear(h heard) {
	for _, o := range s.heard {
		if o.log == h.log {
			return
		}
	}
	s.heard = append(s.heard, h)
}

// frame reads one frame; first is where the message's own arrivals begin.
func (s *step) frame(ctx context.Context, log mesh.LogID, kind wire.FrameKind, frame []byte, first int) error {
	switch kind {
	case wire.FrameDescriptor:
		d, err := wire.ParseDescriptor(frame)
		if err != nil {
			return err
		}
		s.offered = append(s.offered, d)
		return nil
	case wire.FrameVerdict:
		v, err := wire.ParseVerdict(frame)
		if err != nil {
			s.dropUnjudged(first)
			return err
		}
		for i := len(s.arrivals) - 1; i >= first; i-- {
			if s.arrivals[i].at == v.Of {
				s.arrivals[i].verdict = &v
				return nil
			}
		}
		return errors.New("a verdict without its batch")
	case wire.FrameRecord:
		r, err := wire.ParseRecord(frame)
		if err != nil {
			return err
		}
		if r.At.Log != log {
			s.stats.Foreign++
			s.fault(ctx, "record of another log left out", "subject_log", string(log), "log", string(r.At.Log))
			return nil
		}
		a, err := arrive(r)
		if err != nil {
			return err
		}
		s.arrivals = append(s.arrivals, a)
		return nil
	}
	return nil // a kind of a later program: what it means can't matter to this one
}

// dropUnjudged takes back the batch whose verdict can't be read.
func (s *step) dropUnjudged(first int) {
	if n := len(s.arrivals); n > first && s.arrivals[n-1].header.Kind == mesh.KindBatch && s.arrivals[n-1].verdict == nil {
		s.arrivals = s.arrivals[:n-1]
	}
}

// arrive reads of a record what accounting needs. The body of a batch stays
// packed.
func arrive(r mesh.Record) (a arrival, err error) {
	if r.At.Seq == 0 || r.At.Epoch.IsZero() {
		return a, errors.New("a record without a position")
	}
	a = arrival{log: r.At.Log, at: r.At, sealed: r.Sealed}
	if a.header, err = wire.ParseHeader(r.Sealed); err != nil {
		return a, err
	}
	a.sum = binary.LittleEndian.Uint32(r.Sealed[len(r.Sealed)-4:])
	if a.header.Kind == mesh.KindOpening {
		a.opening, err = wire.OpenOpening(r.Sealed)
		if err == nil && !a.opening.Parent.IsZero() && (a.opening.Parent.Seq == 0 || a.opening.Parent.Log != a.log) {
			err = errors.New("an opening that follows no record of its own log")
		}
	}
	if a.header.Kind == mesh.KindVoid {
		var v mesh.Void
		v, err = wire.OpenVoid(r.Sealed)
		a.lost = v.Lost
	}
	return a, err
}

// resolve finds out which of the descriptors that came are new.
func (s *step) resolve(ctx context.Context) error {
	for _, d := range s.offered {
		h := d.Hash()
		stored, err := s.ready(ctx, h)
		if err != nil {
			return err
		}
		if !stored {
			s.fresh = append(s.fresh, d)
			s.have[h] = true
		}
	}
	return nil
}

// ready reports whether a descriptor is stored, or comes in this step.
func (s *step) ready(ctx context.Context, h mesh.Hash) (bool, error) {
	if s.have[h] || s.g.known[h] || h == (mesh.Hash{}) {
		return true, nil
	}
	if s.absent[h] {
		return false, nil
	}
	_, ok, err := s.g.store.Descriptor(ctx, h)
	if err != nil {
		return false, err
	}
	if ok {
		s.have[h] = true
	} else {
		s.absent[h] = true
	}
	return ok, nil
}

// account is the step's own copy of a log's account.
func (s *step) account(log mesh.LogID) *mesh.Account {
	a := s.accounts[log]
	if a == nil {
		if old := s.g.accounts[log]; old != nil {
			a = old.Clone()
		} else {
			a = &mesh.Account{Log: log}
		}
		s.accounts[log] = a
	}
	return a
}

func (s *step) changed() (out []*mesh.Account) {
	for log := range s.dirty {
		out = append(out, s.accounts[log])
	}
	return out
}

// settle makes the step's view the ingest's, after the Take.
func (s *step) settle() {
	g := s.g
	for log := range s.dirty {
		g.accounts[log] = s.accounts[log]
	}
	for h := range s.have {
		g.known[h] = true
	}
	for log, l := range s.lacks {
		if len(g.lacks[log])+len(l) > maxLacks || g.lacks[log] == nil {
			g.lacks[log] = map[mesh.Hash]bool{}
		}
		for h := range l {
			g.lacks[log][h] = true
		}
	}
	for _, l := range g.lacks {
		for h := range l {
			if g.known[h] {
				delete(l, h)
			}
		}
	}
	for e := range s.forks {
		g.held[e] = true
	}
	for i := range s.arrivals {
		a := &s.arrivals[i]
		if acc := g.accounts[a.log]; acc != nil && a.at.Epoch == tip(acc) {
			g.spoke[a.log] = spoke{a.at.Epoch, s.now}
		}
	}
	g.stats = s.stats
}
