// Package opcua reads one OPC UA server by subscription and loses nothing the
// server keeps: the session outlives its connection, the subscription outlives
// the session where the server can transfer it, what was sent and not
// committed is asked for again, and a message is acknowledged only after the
// agent's log has it. Where the server forgets, the stretch is said to be void.
package opcua

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/maphash"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/gopcua/opcua/ua"

	"plantmesh/edge/source"
	"plantmesh/proto/mesh"
)

// Times of reconnecting, in machine time.
const (
	backoffFirst   = 100 * time.Millisecond
	backoffLongest = 3 * time.Second
)

// maxNamed is how many signals one text names.
const maxNamed = 8

// Reader reads one server. It implements source.Reader; Run is called once.
type Reader struct {
	cfg   Config
	nodes []address
	table []mesh.Signal
	wants []wanted // of the table: a row of that lies elsewhere for each value
	hash  string
	now   func() mesh.Nanos // plant clock
	log   *slog.Logger

	state  state
	sealer *source.Sealer
	out    source.Log
	taps   *source.Taps // who listens to what comes, as it came
	sess   session

	limits     limits
	items      []item
	named      string
	profile    profile
	revised    revised
	polling    bool
	watched    []watched // signals with a max_silence; nil: none
	expected   []int     // which
	probed     time.Time // machine time of the last look at them
	sought     time.Time // and at signals without a node
	seekEvery  time.Duration
	polls      []polled
	looked     time.Time        // machine time of the last round of reads
	took       [2]time.Duration // of the last rounds of reads
	seed       maphash.Seed
	unfiltered []*ua.MonitoredItemCreateRequest // items to ask for again without a filter
	sieved     []sieve
	drifts     []bool       // signals whose values count for nothing
	checked    map[int]bool // signals whose change of meaning was looked into
	adopted    bool         // items knows what the state's subscription has
	sameFile   bool         // names and addresses are those of the state that was restored
	before     mesh.Nanos   // event time of the latest sample of the run before
	surveyed   mesh.Nanos   // the server's clock when it was looked last where nodes are
	foundAt    mesh.Nanos   // the same, of nodes that are new to their signals
	unnoted    bool         // the state's sketch is to be made anew
	again      []uint16     // how often the item of each signal was made again
	unanswered int          // connections in a row on which the server answered no publish request
	order      *sequence
	gone       bool         // the subscription can't be continued
	initial    []bool       // signals whose first value is still to come
	echo       bool         // the subscription was taken up: values that stand since before may come again (node-opcua does that)
	last       []mesh.Nanos // event time of the latest sample of each signal
	unread     unread
	spoilt     spoilt    // the message that could not be read last
	unsure     bool      // what was acknowledged may be lost, and the log has said so
	doubted    bool      // the server's clock was not believed at the last message
	taken      []uint32  // messages given to the sealer since the last commit
	pushed     []mark    // commits on their way, in order
	done       uint64    // commits that are durable
	kept       int       // messages the server keeps for Republish, as far as it has shown
	committed  uint32    // the last message that is durable
	since      time.Time // machine time since when taken waits; zero: it doesn't
	acks       acks
	ears       ears
	past       past
	shallow    shallow
	text       []byte      // of samples since the last block was full
	sampled    mesh.Sample // what is made of a value that has more to it than a number
	types      types
}

// wanted is what a sample needs of its signal.
type wanted struct {
	id     uint32
	kind   mesh.Type
	number mesh.Type // kind, where each number is taken as it comes; else 0
}

// mark is a commit on its way and the messages in it.
type mark struct {
	n    uint64
	seqs []uint32
}

// New makes the reader of one server; now is the plant clock.
func New(cfg Config, now func() mesh.Nanos, log *slog.Logger) (*Reader, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	r := &Reader{cfg: cfg, table: cfg.table(), now: now, kept: keptAtMost, seekEvery: againEvery, log: log.With("source", cfg.ID)}
	h := sha256.New()
	for _, s := range cfg.Signals {
		n, err := s.address()
		if err != nil {
			return nil, err
		}
		r.nodes = append(r.nodes, n)
		h.Write([]byte(s.Name + "\x00" + s.Node + s.Path + "\x00"))
	}
	for _, e := range cfg.Events {
		h.Write(fmt.Appendf(nil, "%s\x00%s\x00%q\x00%d\x00", e.Name, e.Node, e.Types, e.MinSeverity))
	}
	r.hash = hex.EncodeToString(h.Sum(nil)[:8])
	for i, t := range r.table {
		w := wanted{id: t.ID, kind: t.Type}
		if i < len(cfg.Signals) && cfg.Signals[i].MaxSilence == 0 && cfg.Signals[i].Deadband == "" && t.Type <= mesh.TypeDouble {
			w.number = t.Type
		}
		r.wants = append(r.wants, w)
	}
	r.named, r.drifts, r.checked = r.hash, make([]bool, len(r.nodes)), map[int]bool{}
	r.revised = newRevised()
	r.initial = make([]bool, len(r.table))
	r.last = make([]mesh.Nanos, len(r.table))
	r.hash += cfg.asked()
	r.profile = profiles()[cfg.Profile]
	r.polls, r.seed = make([]polled, len(r.nodes)), maphash.MakeSeed()
	r.items, r.again = make([]item, len(r.nodes)), make([]uint16, len(r.nodes))
	r.ears = newEars(len(cfg.Events))
	r.sess = session{endpoint: cfg.Endpoint, life: time.Duration(cfg.Lifetime), security: cfg.Security, app: cfg.Application, log: r.log}
	return r, nil
}

// Run implements source.Reader. It reconnects by itself; only the log's end of
// the hand-over, or a state that can't be read, ends it before ctx does.
func (r *Reader) Run(ctx context.Context, resume []byte, log source.Log) (err error) {
	if err := r.restore(resume); err != nil {
		return err
	}
	r.out, r.taps, r.committed = log, source.TapsOf(log), r.state.Seq
	r.acks.reset()
	delay, silent := backoffFirst, false
	away := source.Away{}
	away.Begin(time.Now())
	for ctx.Err() == nil {
		began := time.Now()
		worked, err := r.connection(ctx)
		if ctx.Err() != nil {
			break
		}
		if fatal(err) {
			return err
		}
		if worked {
			delay, silent = backoffFirst, false
			away.Begin(time.Now())
		}
		why := r.sess.explain(err)
		if away.Due(time.Now()) && r.sealer.Unheard(r.now(), "not connected: "+why) {
			if _, err := r.commit(ctx); err != nil && ctx.Err() == nil {
				return err
			}
		}
		source.Tell(log, "not connected: "+why)
		if !silent {
			r.log.Warn("the connection ended, trying again", "error", why, "after", time.Since(began).Round(time.Millisecond).String())
			silent = !worked
		}
		if !pause(ctx, delay/2+rand.N(delay)) { //nolint:gosec // only spreads the tries of many readers
			break
		}
		delay = min(2*delay, backoffLongest)
	}
	return context.Cause(ctx)
}

// restore takes up what was committed last.
func (r *Reader) restore(resume []byte) (err error) {
	if r.state, err = decodeState(resume); err != nil {
		return err
	}
	r.sameFile, r.before, r.foundAt = r.state.Named == r.named, r.state.Last, r.state.Found
	if r.sameFile {
		r.recall()
	}
	if r.sealer, err = source.NewSealer(r.cfg.Window, r.cfg.ID, r.table); err != nil {
		return err
	}
	r.sealer.Resume(r.state.Proof, r.state.Holes...)
	// The file may name fewer signals than before.
	r.state.Refused = slices.DeleteFunc(r.state.Refused, func(x refused) bool { return x.Signal < 0 || x.Signal >= len(r.table) })
	for i, n := range r.state.Again {
		if i >= 0 && i < len(r.again) {
			r.again[i] = n
		}
	}
	return nil
}

// Doubt implements source.Doubter: the server's numbers show what is missing.
func (r *Reader) Doubt() { r.unsure = true }

// connected is the reader's word while it publishes.
func (r *Reader) connected() string {
	return "connected" + r.pollText() + r.refusedText() + r.revisedText() + r.driftText() + r.shapeText() + r.heard()
}

func (r *Reader) revisedText() string {
	if r.state.Revised == "" {
		return ""
	}
	return "; the server does not do all that was asked: " + r.state.Revised
}

func (r *Reader) refusedText() string {
	bad := r.state.Refused
	if len(bad) == 0 {
		return ""
	}
	var named []string
	for _, x := range bad[:min(len(bad), maxNamed)] {
		named = append(named, fmt.Sprintf("%s (%s)", r.table[x.Signal].Name, statusName(x.Status)))
	}
	if more := len(bad) - len(named); more > 0 {
		named = append(named, fmt.Sprintf("and %d more", more))
	}
	return fmt.Sprintf(", %d of %d signals refused: %s", len(bad), len(r.table), strings.Join(named, ", "))
}

// statusName is what OPC UA calls a status; the library spells Id as ID.
func statusName(s mesh.Status) string {
	d, ok := ua.StatusCodes[ua.StatusCode(s)]
	if !ok {
		return fmt.Sprintf("0x%08X", uint32(s))
	}
	return strings.ReplaceAll(strings.TrimPrefix(d.Name, "Status"), "ID", "Id")
}

// fatalError ends the reader: the log can't be reached any more.
type fatalError struct{ err error }

func (e *fatalError) Error() string { return e.err.Error() }
func (e *fatalError) Unwrap() error { return e.err }

func fatal(err error) bool {
	var f *fatalError
	return errors.As(err, &f)
}

func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// connection is one life of a connection: on the session before where the server
// still knows it, else on a new one, read until something breaks. worked says
// that it came as far as publishing.
func (r *Reader) connection(ctx context.Context) (worked bool, err error) {
	if r.sess.token != nil {
		known, err := r.sess.resume(ctx, func() (err error) {
			worked, err = r.read(ctx)
			return err
		})
		if known {
			return worked, err
		}
		if r.sess.mute <= mostMute {
			r.log.Info("the server gives the session no more, asking for another one", "error", err.Error())
		}
	}
	err = r.sess.open(ctx, r.cfg.ID, func() (err error) {
		worked, err = r.read(ctx)
		return err
	})
	return worked, err
}

// read takes up the subscription or makes a new one, and publishes.
func (r *Reader) read(ctx context.Context) (worked bool, err error) {
	if r.cfg.Poll > 0 || r.polling {
		return r.poll(ctx)
	}
	err = r.subscribe(ctx)
	if errors.Is(err, errUnsubscribed) {
		return r.poll(ctx)
	}
	if err != nil {
		return false, err
	}
	r.log.Info("the source is being read", "subscription", r.state.Subscription, "from", r.order.next, "keep_alive", r.state.KeepAlive.String())
	r.watches()
	r.doubted, r.ears.due = false, len(r.cfg.Events) > 0
	worked, err = r.pump(ctx)
	switch {
	case worked:
		r.unanswered = 0
	case errors.Is(err, errUntold):
		if r.unanswered++; r.unanswered >= mostMute {
			r.unanswered, r.gone = 0, true
		}
	}
	return worked, err
}

// acks are the messages to acknowledge: committed, and not yet known to be
// forgotten by the server. Not safe for concurrent use.
type acks struct {
	waiting map[uint32]bool
	sending map[uint32]bool
}

func (a *acks) reset() { a.waiting, a.sending = map[uint32]bool{}, map[uint32]bool{} }

// add puts a message on the list, unless it is on its way already.
func (a *acks) add(seqs ...uint32) {
	for _, seq := range seqs {
		if !a.sending[seq] && len(a.waiting) < mostAcks {
			a.waiting[seq] = true
		}
	}
}

// any reports whether there is something to acknowledge.
func (a *acks) any() bool { return len(a.waiting) > 0 }

const (
	// maxAcks is the most acknowledgements one publish request carries.
	maxAcks = 1000
	// mostAcks is how many wait at most: a server may name any number of messages
	// that it still keeps.
	mostAcks = 1 << 16
)

// send takes acknowledgements for one publish request.
func (a *acks) send() (list []uint32) {
	for seq := range a.waiting {
		if len(list) == maxAcks {
			break
		}
		delete(a.waiting, seq)
		a.sending[seq] = true
		list = append(list, seq)
	}
	return list
}

// sent says how a publish request went: acknowledgements of one that failed
// may not have arrived and go again.
func (a *acks) sent(list []uint32, ok bool) {
	for _, seq := range list {
		delete(a.sending, seq)
		if !ok {
			a.waiting[seq] = true
		}
	}
}
