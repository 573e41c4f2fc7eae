package source

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"plantmesh/proto/mesh"
	"plantmesh/proto/wire"
)

// Times of the supervisor, in machine time.
const (
	backoffFirst   = 200 * time.Millisecond
	backoffLongest = 30 * time.Second
	healthyAfter   = time.Minute      // a worker that ran so long starts again at once
	crashWindow    = 10 * time.Minute // crashLimit crashes in it make a source quarantined
	crashLimit     = 5
	silenceLimit   = 30 * time.Second // fifteen missed heartbeats: the process hangs
	stopGrace      = 3 * time.Second  // from closing a worker's input to killing it
	retryFirst     = 200 * time.Millisecond
	retryLongest   = 5 * time.Second // between tries to append while the log takes nothing
)

// proofPrefix, put before a source's name, is the name under which the log
// keeps how far that source is proven, and when that was committed: two instants
// of the plant clock, eight bytes each.
const proofPrefix = "@proof/"

// doubtPrefix is where the log says that it lost what a source gave (form and
// reason: edge/buffer/fresh.go), until the source's proof is beyond that.
const doubtPrefix = "@doubt/"

// doubt is what stands there.
type doubt struct {
	mesh.Span // of what is lost behind the proof; To 0: there is none

	old   bool // the source's state may be older than what its device was told
	cause mesh.Cause
}

func (s *Supervisor) doubt() (d doubt, err error) {
	b, err := s.buffer.State(doubtPrefix + s.cfg.ID)
	if err != nil {
		return d, fmt.Errorf("read the source's doubt: %w", err)
	}
	if len(b) > 16 {
		d.From, d.To = mesh.Nanos(binary.LittleEndian.Uint64(b)), mesh.Nanos(binary.LittleEndian.Uint64(b[8:]))
		d.old, d.cause = b[16] != 0, mesh.Cause(b[17:])
	}
	return d, nil
}

// Config is what a Supervisor must know of one source.
type Config struct {
	ID     string // the source's name; no two sources of an agent share one
	Worker []byte // the configuration handed to the worker, as it stands
	// Listeners are who listens to raw values of sources; nil: nobody ever does.
	Listeners *Listeners
}

// Buffer is the agent's log as a supervisor needs it. Append makes all offers
// durable or none, and returns when they are; State is what the last offer of
// that source left, nil if there was none. Safe for concurrent use. The bytes
// of an offer belong to the buffer afterwards. Kept is what the source's offers left
// beside the state, by name; the map is the caller's.
type Buffer interface {
	Append(ctx context.Context, offers []mesh.Offer) ([]mesh.Position, error)
	State(source string) ([]byte, error)
	Kept(source string) (map[string][]byte, error)
}

// Process is a running worker. Stdin closed asks it to end, Kill makes it; both
// end Stdout. Wait is called once, after Stdout has ended. Kill may be called
// at any time from any goroutine. Whoever spawned it owns nothing of it.
type Process interface {
	Stdin() io.WriteCloser
	Stdout() io.Reader
	Wait() error
	Kill() error
}

// Supervisor keeps one source's worker running, brings its offers into the
// agent's log, and writes there what could not be heard while it was dead.
type Supervisor struct {
	cfg    Config
	spawn  func(ctx context.Context) (Process, error)
	buffer Buffer
	now    func() mesh.Nanos // plant clock
	log    *slog.Logger

	proof   mesh.Nanos // of the last durable offer; 0: none
	heard   mesh.Nanos // plant clock at that commit; 0: not known
	voided  mesh.Nanos // the end of the void written since then
	doubted bool       // the state this life began with may be older than what the device was told
	crashes []time.Time
	deaths  deaths
	wake    chan struct{} // Resume was called

	mu     sync.Mutex // protects status, and cfg.Worker
	status Status
}

// NewSupervisor makes the supervisor of one source. spawn starts a worker
// process that calls Work; now is the plant clock.
func NewSupervisor(cfg Config, spawn func(ctx context.Context) (Process, error), buffer Buffer, now func() mesh.Nanos, log *slog.Logger) *Supervisor {
	s := &Supervisor{cfg: cfg, spawn: spawn, buffer: buffer, now: now, log: log.With("source", cfg.ID), wake: make(chan struct{}, 1)}
	s.status = Status{Source: cfg.ID, State: StateStopped, Since: time.Now(), Down: time.Now()}
	return s
}

// Run keeps the source running until ctx ends; it returns nil then. No fault
// of a worker or of the log ends it earlier.
func (s *Supervisor) Run(ctx context.Context) error {
	delay := backoffFirst
	for ctx.Err() == nil {
		began, had := time.Now(), s.Status().Samples
		err := s.once(ctx)
		switch {
		case ctx.Err() != nil:
		case s.deaths.note(err, s.Status().Samples > had, time.Now()):
			s.setAside(ctx)
			delay = s.rest(ctx, asideEvery, delay)
		default:
			delay = s.ended(err, time.Since(began), delay)
			delay = s.rest(ctx, delay, min(2*delay, backoffLongest))
		}
	}
	s.set(StateStopped)
	return nil
}

// rest waits for d before the next try, and says how long to wait after that one:
// next, or as at first where Resume was called.
func (s *Supervisor) rest(ctx context.Context, d, next time.Duration) time.Duration {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	case <-s.wake:
		s.deaths, s.crashes = deaths{}, nil
		s.anew()
		return backoffFirst
	}
	return next
}

// ended notes why a worker ended and says how long to wait before the next.
func (s *Supervisor) ended(err error, lived, delay time.Duration) time.Duration {
	if lived >= healthyAfter {
		delay = backoffFirst
	}
	state := StateRestarting
	if s.crashed(time.Now()) {
		state, delay = StateQuarantined, backoffLongest
	}
	s.failed(state, err)
	s.log.Warn("the worker ended, starting it again", "error", err.Error(), "after", delay.String(), "state", state)
	return delay
}

// crashed counts a crash and reports whether there were too many of late.
func (s *Supervisor) crashed(now time.Time) bool {
	s.crashes = append(s.crashes, now)
	for now.Sub(s.crashes[0]) > crashWindow {
		s.crashes = s.crashes[1:]
	}
	return len(s.crashes) >= crashLimit
}

// pause waits for d, or reports that ctx ended.
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

// once is one life of a worker. It returns why that ended.
func (s *Supervisor) once(ctx context.Context) error {
	s.set(StateStarting)
	resume, err := s.Prepare(ctx)
	if err != nil {
		return err
	}
	kept, err := s.buffer.Kept(s.cfg.ID)
	if err != nil {
		return fmt.Errorf("read what the source keeps: %w", err)
	}
	p, err := s.spawn(ctx)
	if err != nil {
		return fmt.Errorf("start the worker: %w", err)
	}
	r := &run{
		s: s, p: p, offers: make(chan mesh.Offer, Credit), heard: make(chan struct{}, 1), ended: make(chan struct{}), begun: make(chan struct{}),
		start: start{resume: resume, kept: kept, doubted: s.doubted, config: s.orders()},
	}
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error { return r.listen(gctx) })
	g.Go(func() error { return r.commit(gctx) })
	g.Go(func() error { return r.watch(gctx) })
	g.Go(func() error { return r.listeners(gctx) })
	err = g.Wait()
	return r.end(err, p.Wait())
}

// Prepare begins a life of the worker: it reads what the log knows of the
// source. Where something was proven before, the stretch until now was heard by
// nobody: it is voided before the worker can say anything, so that what the
// worker proves later counts again. Run calls it; so does who steps a source
// without a process.
func (s *Supervisor) Prepare(ctx context.Context) (resume []byte, err error) {
	resume, err = s.buffer.State(s.cfg.ID)
	if err != nil {
		return nil, fmt.Errorf("read the source's state: %w", err)
	}
	if len(resume) == 0 {
		resume = nil // a log may give no bytes where it has none
	}
	b, err := s.buffer.State(proofPrefix + s.cfg.ID)
	if err != nil {
		return nil, fmt.Errorf("read the source's proof: %w", err)
	}
	if len(b) >= 8 {
		s.proof = mesh.Nanos(binary.LittleEndian.Uint64(b))
	}
	if len(b) >= 16 {
		s.heard = mesh.Nanos(binary.LittleEndian.Uint64(b[8:]))
	}
	cause, why := mesh.CauseDied, "the worker that reads this source was not running"
	d, err := s.doubt()
	if err != nil {
		return nil, err
	}
	if s.doubted = d.old; s.doubted {
		// What is lost the log has voided itself. Of that the hub may have some,
		// which a void of a time would take back.
		cause, why = d.cause, lostNote
		if d.To > s.proof {
			s.proof, s.heard = d.To, d.To
		}
	}
	if !s.doubted && s.deaths.aside != "" {
		why = s.deaths.why()
	}
	return resume, s.unheard(ctx, cause, why)
}

// unheard voids what of the source nobody has heard until now.
func (s *Supervisor) unheard(ctx context.Context, cause mesh.Cause, why string) error {
	silent := mesh.Span{From: max(s.believed(), s.voided), To: s.now()}
	if s.proof == 0 || silent.Empty() {
		return nil
	}
	void := mesh.Void{Cause: cause, Parts: []mesh.Part{{Source: s.cfg.ID, Times: silent}}, Note: why}
	v, err := wire.SealVoid(void)
	if err != nil {
		return fmt.Errorf("seal the void of a dead worker: %w", err)
	}
	if err := s.append(ctx, []mesh.Offer{{Source: s.cfg.ID, Sealed: [][]byte{v}}}); err != nil {
		return err
	}
	s.voided = silent.To
	s.writtenOff(void)
	return nil
}

// believed is how far the source was heard: the proof, unless that lies beyond
// what the clock of its commit allows. A proof within the tolerance is a device
// whose clock is ahead, and what it proves later goes on from there.
func (s *Supervisor) believed() mesh.Nanos {
	if s.heard != 0 && Suspect(s.proof, s.heard) {
		return s.heard
	}
	return s.proof
}

// append brings offers into the log. While the log takes nothing (full, or
// being opened anew) it tries again: the worker meanwhile waits for credit, and
// the device keeps what is not acknowledged. Only what no retry heals is an error.
func (s *Supervisor) append(ctx context.Context, offers []mesh.Offer) error {
	for delay := retryFirst; ; delay = min(2*delay, retryLongest) {
		_, err := s.buffer.Append(ctx, offers)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil || errors.Is(err, mesh.ErrPermanent) {
			return fmt.Errorf("append to the agent's log: %w", err)
		}
		if s.failed(StateHeld, err) {
			s.log.Warn("the agent's log takes nothing, holding the source back", "error", err.Error())
		}
		if !pause(ctx, delay) {
			return context.Cause(ctx)
		}
	}
}

// Take brings the worker's offers into the log, with how far they prove the
// source. They are durable when it returns nil: only then may the device be
// told. Run calls it; so does who steps a source without a process.
func (s *Supervisor) Take(ctx context.Context, offers []mesh.Offer) error {
	sum, err := s.judge(offers)
	if err != nil {
		return err
	}
	sum.at = s.now()
	if sum.proof > 0 {
		b := binary.LittleEndian.AppendUint64(nil, uint64(sum.proof))
		offers = append(offers, mesh.Offer{Source: proofPrefix + s.cfg.ID, State: binary.LittleEndian.AppendUint64(b, uint64(sum.at))})
	}
	over, err := s.over(&sum)
	if err != nil {
		return err
	}
	if err := s.append(ctx, append(offers, over...)); err != nil {
		return err
	}
	s.doubted = false
	s.committed(sum)
	return nil
}

const lostNote = "the agent's disk lost what it had of this source"

// over is what stands behind offers while records of the source are lost: a void
// of what the offers prove and the lost records held.
func (s *Supervisor) over(sum *sum) ([]mesh.Offer, error) {
	d, err := s.doubt()
	if err != nil || d.To == 0 {
		return nil, err
	}
	var out []mesh.Offer
	if d.From > 0 && !s.doubted && !d.Empty() {
		v := mesh.Void{Cause: d.cause, Parts: []mesh.Part{{Source: s.cfg.ID, Times: d.Span}}, Note: mesh.NoteSaidAgain}
		sealed, err := wire.SealVoid(v)
		if err != nil {
			return nil, fmt.Errorf("seal the void of what is lost: %w", err)
		}
		out = append(out, mesh.Offer{Source: s.cfg.ID, Sealed: [][]byte{sealed}})
		sum.voids = append(sum.voids, v)
	}
	if s.doubted || sum.proof >= d.To {
		out = append(out, mesh.Offer{Source: doubtPrefix + s.cfg.ID, State: []byte{}})
	}
	return out, nil
}

// sum is what a run of offers amounts to.
type sum struct {
	proof          mesh.Nanos
	at             mesh.Nanos // plant clock of the commit
	samples, bytes uint64
	voids          []mesh.Void
}

// judge puts the source's name on offers and checks that they speak of
// nothing else: a worker whose memory went wrong must not write into another's
// history.
func (s *Supervisor) judge(offers []mesh.Offer) (sum, error) {
	total := sum{proof: s.proof}
	for i := range offers {
		offers[i].Source = s.cfg.ID
		for _, sealed := range offers[i].Sealed {
			h, err := wire.ParseHeader(sealed)
			if err != nil {
				return total, fmt.Errorf("read a record of the worker: %w", err)
			}
			if h.About != s.cfg.ID || h.Kind != mesh.KindBatch && h.Kind != mesh.KindVoid {
				return total, fmt.Errorf("%w: the worker of %q offers a %s about %q", errPipe, s.cfg.ID, h.Kind, h.About)
			}
			total.bytes += uint64(len(sealed))
			if h.Kind == mesh.KindBatch {
				total.samples += uint64(h.Count)
				total.proof = max(total.proof, h.Proven.To)
				continue
			}
			v, err := wire.OpenVoid(sealed)
			if err != nil {
				return total, fmt.Errorf("read a void of the worker: %w", err)
			}
			total.voids = append(total.voids, v)
		}
	}
	return total, nil
}
