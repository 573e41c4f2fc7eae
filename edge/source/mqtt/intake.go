package mqtt

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"plantmesh/edge/source"
	"plantmesh/edge/source/mqtt/link"
	"plantmesh/edge/source/mqtt/mapping"
	"plantmesh/proto/fault"
	"plantmesh/proto/mesh"
)

// intake decides what becomes of each packet: stored, known already, or
// unreadable. It has no clock, no connection and no goroutine.
//
// Not safe for concurrent use.
type intake struct {
	cfg     *Config
	sealer  *source.Sealer
	mapper  *mapping.Mapper
	vigil   *vigil   // nil: max_silence proves nothing here
	filters string   // what the session subscribes to, and what proves it
	stale   []string // what it subscribed to before, and the broker must be told so

	taps  *source.Taps    // who listens to what comes, as it came
	got   mapping.Reading // of the last packet
	grown bool            // the mapper has signals that the sealer's table has not
	wait  []mesh.Sample   // since then
	fault error           // the sealer refused the table

	known   map[string]*table // by session: the broker's own has no name
	blocks  int               // of those of devices
	kept    []mesh.Kept       // what else is to be kept with the next offer
	counts  counts
	holes   []mesh.Void           // of numbers that are missing, in this window
	doubted bool                  // the table may be older than what the broker was told is received
	lossy   map[string]mesh.Nanos // sessions of which messages came that nobody would know to be missing (QoS 0, without a number), and when last
	credit  credit
	sealed  uint64 // offers sealed in this run

	fresh     bool       // no proof yet in this session
	listening bool       // all filters are subscribed to on this connection
	was       mesh.Nanos // end of the proof of the session before; 0: none

	urgent   bool      // a proof ended: that must be on disk before another begins
	machine  time.Time // machine time as due was told last
	waiting  int       // packets in this window
	first    time.Time // when due first saw one of them
	bad      refusals  // of this window
	counters counters
}

// counters of one reader since its start.
type counters struct {
	messages, samples, again, missing, unknown, unreadable, retained, foreign, skipped uint64
}

// state is what is committed with each offer.
type state struct {
	Proof   mesh.Nanos  `json:"proof_ns"`
	Holes   []mesh.Span `json:"holes,omitempty"`
	Was     mesh.Nanos  `json:"was_ns,omitempty"` // see intake.was
	Fresh   bool        `json:"fresh,omitempty"`
	Filters string      `json:"filters"`
	Heard   []byte      `json:"heard,omitempty"` // see vigil.encode
	Lossy   bool        `json:"lossy,omitempty"` // see intake.lossy
	Stale   []string    `json:"stale,omitempty"` // see intake.stale
}

// maxWait bounds the samples that wait for a table.
const maxWait = 4096

func newIntake(cfg *Config, resume []byte, kept map[string][]byte) (*intake, error) {
	mapper, err := mapping.New(&cfg.Mapping)
	if err != nil {
		return nil, err
	}
	signals := mapper.Table()
	sealer, err := source.NewSealer(cfg.Window, cfg.ID, signals)
	if err != nil {
		return nil, err
	}
	in := &intake{cfg: cfg, sealer: sealer, mapper: mapper, vigil: newVigil(cfg, signals), fresh: true, known: map[string]*table{}, lossy: map[string]mesh.Nanos{}, counts: newCounts(), credit: credit{told: cfg.ReceiveMaximum}}
	in.filters = strings.Join(mapper.Filters(), "\n") + in.vigil.name()
	if resume == nil {
		return in, nil
	}
	var s state
	if err := json.Unmarshal(resume, &s); err != nil {
		return nil, fmt.Errorf("read the committed state of source %q: %w", cfg.ID, err)
	}
	if in.known, in.blocks, err = tables(kept); err == nil {
		err = in.counts.resume(kept)
	}
	if err != nil {
		return nil, fmt.Errorf("read the committed state of source %q: %w", cfg.ID, err)
	}
	in.sealer.Resume(s.Proof, s.Holes...)
	if in.fresh, in.was = s.Fresh, s.Was; s.Lossy {
		in.lossy[""] = s.Proof
	}
	in.stale = left(append(s.Stale, strings.Split(s.Filters, "\n")...), mapper.Filters())
	if s.Filters != in.filters { // other topics: the proof so far says nothing of them
		in.lose()
	} else if !in.vigil.resume(s.Heard) {
		return nil, fmt.Errorf("read the committed state of source %q: what was heard has an unknown form", cfg.ID)
	}
	return in, nil
}

// left are the filters of before that are none of now. A session keeps what it subscribed
// to, and of what falls under two filters a broker may send two copies.
func left(before, now []string) (out []string) {
	for _, f := range before {
		if f != "" && !strings.HasPrefix(f, vigilName) && !slices.Contains(now, f) && !slices.Contains(out, f) {
			out = append(out, f)
		}
	}
	return out
}

// counted reports whether what is committed is of a session of the broker's: its proof, or
// its packet ids. Another session must not be taken for that one.
func (in *intake) counted() bool { return !in.fresh || in.known[""] != nil }

// connected is told of each new connection. Without the session of before the
// broker has forgotten what it had for us, and may give any packet id anew.
func (in *intake) connected(sessionPresent bool) {
	in.listening = false
	if sessionPresent {
		if t := in.known[""]; t != nil {
			t.arrive(nil)
		}
		if len(in.lossy) > 0 || in.cfg.AtMostOnce && len(in.counts.by) == 0 { // what came meanwhile the broker has not kept
			in.lose()
		}
		return
	}
	in.doubted, in.stale = false, nil // of the new session all is known
	clear(in.lossy)
	in.urgent = in.urgent || in.known[""] != nil
	in.end("")
	in.lose()
}

// session is the table of one.
func (in *intake) session(name string) *table {
	t := in.known[name]
	if t == nil {
		t = &table{unsure: name != ""}
		in.known[name] = t
	}
	return t
}

// arrive is told on which connection a session is.
func (in *intake) arrive(name string, on answerer) {
	if t := in.known[name]; t != nil && t.on != on {
		t.arrive(on)
	}
}

// keep has a session last: what comes again in it is known, or was not stored.
func (in *intake) keep(name string) { in.session(name).unsure = false }

// end forgets a session.
func (in *intake) end(name string) {
	if t := in.known[name]; t != nil {
		if name != "" {
			in.blocks -= t.count
		}
		if t.clear(); !t.unsure {
			in.kept = append(in.kept, t.take(name)...)
		}
		delete(in.known, name)
	}
	delete(in.lossy, name)
}

// subscribed is told when the broker has granted every filter; it was told before of those
// that are no more.
func (in *intake) subscribed() { in.listening, in.stale = true, nil }

// lose ends the proof; the next heartbeat begins another.
func (in *intake) lose() {
	in.vigil.forget()
	if !in.fresh {
		in.fresh, in.was, in.urgent = true, in.sealer.Proof(), true
	}
}

// doubt ends the proof where the state may be older than what the broker was told
// is received. The log has said what is lost.
func (in *intake) doubt() {
	in.vigil.forget()
	in.fresh, in.was, in.urgent, in.doubted = true, 0, true, true
}

// take takes one packet of a session at plant time now. It returns the number of the offer
// that must be committed before the packet is acknowledged; 0: at once.
func (in *intake) take(p *link.Packet, session string, now mesh.Nanos) (after uint64) {
	in.counters.messages++
	fault.Point("source.received")
	r := in.mapper.Route(p.Topic)
	if p.QoS > 0 {
		known := in.session(session)
		if was, ok := known.find(p.ID, p.Hash); ok && (p.Again || known.before(p.ID) && in.stamped(r, p, now)) {
			in.counters.again++
			in.tellPayload(p, session, now, "said again: it was taken before")
			return was
		}
		if known.put(p.ID, p.Hash, in.sealed+1) && session != "" {
			in.bound()
		}
		in.credit.take(in.machine, time.Duration(in.cfg.Window.Latency))
	}
	in.waiting++
	switch {
	case p.Retained: // said before we listened, perhaps long ago, perhaps never true
		in.counters.retained++
	case r == nil:
		in.counters.foreign++
	case p.TooLarge:
		in.unreadable(r, unknown(mapping.ErrTooLarge), p, now)
	case r.Heartbeat():
		in.heartbeat(r, p, now)
	default:
		in.read(r, p, session, now)
	}
	if in.taps.Open() {
		in.tellRaw(r, p, session, now)
	}
	return in.sealed + 1
}

// mostBlocks bounds the blocks of devices' tables, a KiB each: all are given to a worker
// that begins.
const mostBlocks = 16 << 10

// bound keeps them few: of whoever has most the oldest goes. Its ids were used a long
// time ago, so what comes under them now is a new message.
func (in *intake) bound() {
	if in.blocks++; in.blocks <= mostBlocks {
		return
	}
	var most *table
	for name, t := range in.known {
		if name != "" && (most == nil || t.count > most.count) {
			most = t
		}
	}
	if most.shed() {
		in.blocks--
	}
}

// stamped reports whether a payload has a time of its own, so that what has the same
// bytes is the same: some devices say again what was not acknowledged on a connection
// before and leave DUP out (MQTT.js). What can't be read has none. On one connection an id
// is used for ever new messages, and of so many two have the same hash in the end.
func (in *intake) stamped(r *mapping.Route, p *link.Packet, now mesh.Nanos) bool {
	if r == nil || r.Heartbeat() || p.TooLarge || !r.Stamped() {
		return false
	}
	in.mapper.Read(r, p.Payload, now, &in.got)
	in.grown = in.grown || in.got.Grew
	return len(in.got.Flaws) == 0 && !in.got.Lost && len(in.got.Samples) > 0
}

// unknown is a payload of which nobody knows what it says.
func unknown(fault error) *mapping.Reading {
	return &mapping.Reading{Flaws: []mapping.Flaw{{Fault: fault, Count: 1}}, Lost: true}
}

// read takes what a payload says.
func (in *intake) read(r *mapping.Route, p *link.Packet, session string, now mesh.Nanos) {
	got := &in.got
	// It was sent before, and nobody knows whether it was stored then.
	unsure := p.Again && (in.doubted || p.QoS > 0 && in.session(session).unsure)
	in.mapper.Read(r, p.Payload, now, got)
	in.grown = in.grown || got.Grew
	counted := len(got.Samples) > 0 && got.Samples[0].Seq != 0
	if counted && in.numbered(p, session, got.Samples, now) {
		in.counters.again++
		return
	}
	if p.QoS == 0 && !p.Will && !counted && len(got.Samples) > 0 {
		in.lossy[session] = now
	}
	for i := range got.Samples {
		if unsure && !counted && got.Samples[i].Flags&mesh.FlagAgentTime != 0 {
			got.Samples[i].Flags |= mesh.FlagRepeated // with a stamp it would be the same sample
		}
		in.add(got.Samples[i])
	}
	in.counters.samples += uint64(len(got.Samples))
	in.counters.unknown += uint64(got.Unknown)
	in.counters.skipped += uint64(got.Skipped)
	if len(got.Flaws) > 0 {
		in.unreadable(r, got, p, now)
	}
	in.witness(got.Samples, now)
}

// add takes a sample into the window. Those of signals that were just found wait: a new
// table for each would be much work in a broker's first minute.
func (in *intake) add(m mesh.Sample) {
	if !in.grown {
		in.sealer.Add(m)
		return
	}
	if in.wait = append(in.wait, m); len(in.wait) >= maxWait {
		in.grow()
	}
}

// grow gives the sealer the table with the signals found since, and what waits for it.
// What proves a stretch comes behind its samples, so it is called before.
func (in *intake) grow() {
	if !in.grown {
		return
	}
	in.fault = errors.Join(in.fault, in.sealer.Retable(in.mapper.Table()))
	for _, m := range in.wait {
		in.sealer.Add(m)
	}
	in.wait, in.grown = in.wait[:0], false
}

// heartbeat moves the proof. One ahead of the plant clock, or far behind it,
// proves nothing.
func (in *intake) heartbeat(r *mapping.Route, p *link.Packet, now mesh.Nanos) {
	t, err := in.mapper.Proof(p.Payload, now)
	if err == nil && source.Suspect(t, now) {
		err = fmt.Errorf("heartbeat is ahead of the plant clock: %w", mapping.ErrNoTime)
	}
	if err == nil && now.Sub(t) > source.MaxBehind {
		err = fmt.Errorf("heartbeat is more than a year behind the plant clock: %w", mapping.ErrNoTime)
	}
	if err != nil {
		in.unreadable(r, unknown(err), p, now)
		return
	}
	if in.fresh && !in.listening {
		return // of the filters before; the new ones may have missed something
	}
	in.grow()
	if in.fresh {
		in.begin(t)
	}
	in.sealer.Prove(t.Add(-time.Duration(in.cfg.Disorder)))
}

// begin starts the proof of this session.
func (in *intake) begin(t mesh.Nanos) {
	in.fresh = false
	if gap := (mesh.Span{From: in.was, To: t}); in.was != 0 && !gap.Empty() {
		in.sealer.Void(mesh.Void{
			Cause: mesh.CauseDisconnected,
			Parts: []mesh.Part{{Source: in.cfg.ID, Times: gap}},
			Note:  "the broker kept no session, or other topics were subscribed; what was published between is not known",
		})
	}
	in.was = 0
	in.sealer.Begin(t)
}

// witness moves the proof by what declares max_silence.
func (in *intake) witness(samples []mesh.Sample, now mesh.Nanos) {
	v := in.vigil
	if v == nil || in.fresh && !in.listening {
		return
	}
	for _, m := range samples {
		if v.hear(m, now) && !in.fresh {
			in.sealer.Begin(m.Time) // what lies between stays unproven
		}
	}
	in.claim()
}

// claim proves through what was heard.
func (in *intake) claim() {
	v := in.vigil
	if v == nil || in.grown || in.fresh && !in.listening {
		return
	}
	through := v.through()
	if through == 0 {
		return
	}
	if in.fresh {
		in.begin(slices.Max(v.heard))
	}
	in.sealer.Prove(through.Add(-time.Duration(in.cfg.Disorder)))
}

// unheard says that the broker can't be reached, and why, and has it committed
// before anything can be proven behind it.
func (in *intake) unheard(now mesh.Nanos, why string) {
	if in.sealer.Unheard(now, why) {
		in.urgent = true
	}
}

// full reports whether the window should be sealed whatever the time.
func (in *intake) full() bool { return in.urgent || in.credit.half() }

// due reports at machine time now whether the window should be sealed: half of
// what the broker may send is in it, or it is full or old enough. A packet that
// became nothing must be committed too, or it is never acknowledged.
func (in *intake) due(now time.Time) bool {
	if in.waiting > 0 && in.first.IsZero() {
		in.first = now
	}
	in.machine = now
	old := in.waiting > 0 && now.Sub(in.first) >= time.Duration(in.cfg.Window.Latency)
	return in.full() || old || in.sealer.Due(now)
}

// seal closes the window. Its offer's number is what take returned.
func (in *intake) seal() (mesh.Offer, error) {
	if in.grown {
		in.grow()
		in.claim()
	}
	if in.fault != nil {
		return mesh.Offer{}, fmt.Errorf("signals of source %q: %w", in.cfg.ID, in.fault)
	}
	for _, v := range append(in.bad.take(), in.holes...) {
		in.sealer.Void(v)
	}
	in.holes = nil
	s := state{Proof: in.sealer.Proof(), Holes: in.sealer.Holes(), Was: in.was, Fresh: in.fresh, Filters: in.filters, Heard: in.vigil.encode(), Lossy: len(in.lossy) > 0, Stale: in.stale}
	b, err := json.Marshal(s)
	if err != nil {
		return mesh.Offer{}, fmt.Errorf("encode the state of source %q: %w", in.cfg.ID, err)
	}
	in.sealed++
	in.credit.seal(in.machine, time.Duration(in.cfg.Window.Latency), !in.full())
	in.waiting, in.first, in.urgent = 0, time.Time{}, false
	o, err := in.sealer.Seal(b)
	o.Kept, in.kept = in.kept, nil
	o.Kept = append(o.Kept, in.counts.take()...)
	for name, t := range in.known {
		if !t.unsure {
			o.Kept = append(o.Kept, t.take(name)...)
		}
	}
	return o, err
}

// FNV-1a, 64 bit (Fowler, Noll, Vo).
const (
	hashStart = 14695981039346656037
	hashPrime = 1099511628211
)

func hashMore(h uint64, b []byte) uint64 {
	for _, c := range b {
		h = (h ^ uint64(c)) * hashPrime
	}
	return h
}
