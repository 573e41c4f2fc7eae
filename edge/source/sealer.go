package source

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"plantmesh/proto/mesh"
	"plantmesh/proto/strict"
	"plantmesh/proto/wire"
)

// Defaults of a commit window. 20,000 samples of about 24 bytes are half a
// mebibyte before compression: one fsync for many samples, and still far below
// the mebibyte that NATS takes in one message.
const (
	defaultBytes   strict.Size = 512 << 10
	defaultSamples             = 20_000
	// perSignal is how many samples of each signal a window has room for at least: a
	// column costs some bytes and a fraction of a microsecond, however short it is.
	perSignal = 12
)

// Profile is a choice between fresh data and flash that lasts: how long a commit
// waits for more. What each costs on a gateway its `status` prints.
type Profile string

// Profiles of a commit window.
const (
	ProfileLatency Profile = "latency" // 1 s: the default
	ProfileFlash   Profile = "flash"   // 4 s: fewer commits, and so fewer bytes of flash worn per value
)

// Profiles are all there are, in the order in which they wait.
func Profiles() []Profile { return []Profile{ProfileLatency, ProfileFlash} }

// Latency is how long a commit of this profile waits; 0: there is no such profile.
func (p Profile) Latency() time.Duration {
	switch p {
	case ProfileLatency:
		return time.Second
	case ProfileFlash:
		return 4 * time.Second
	}
	return 0
}

const (
	// sampleBytes is what a sample is counted as, before its text: event time,
	// source and server clock, status and a number.
	sampleBytes = 24
	// maxSealed bounds one sealed record. NATS takes 1 MiB by default and the
	// record's envelope and the message around it need room too.
	maxSealed = 700 << 10
	// maxNote bounds a void's note: a few lines for a person.
	maxNote = 1 << 10
	// maxHoles bounds what is kept of stretches beyond the proof: they stand in
	// the state of every commit.
	maxHoles = 256
)

// Window says when a commit closes: at the first of its three limits, or when
// half of what the device may have unacknowledged waits in it.
type Window struct {
	Profile    Profile         `yaml:"profile"`     // latency (the default) or flash; what stands beside it goes first
	Bytes      strict.Size     `yaml:"bytes"`       // uncompressed; default 512KiB, or 288 bytes a signal where that is more
	Latency    strict.Duration `yaml:"latency"`     // since the first sample or proof; default that of the profile: 1s or 4s; at most 1m
	MaxSamples int             `yaml:"max_samples"` // default 20000, or 12 a signal where that is more; at most 131072: wire.MaxSamples
}

// Validate fills in the defaults and checks the limits.
func (w *Window) Validate() error {
	if w.Bytes == 0 {
		w.Bytes = defaultBytes
	}
	if w.Profile == "" {
		w.Profile = ProfileLatency
	}
	if w.Latency == 0 {
		w.Latency = strict.Duration(w.Profile.Latency())
	}
	if w.MaxSamples == 0 {
		w.MaxSamples = defaultSamples
	}
	switch {
	case w.Profile.Latency() == 0:
		return strict.At("profile", "window.profile %q is neither latency (a commit each second) nor flash (one every 4 s: less wear)", w.Profile)
	case w.Bytes < 1<<10 || w.Bytes > 16<<20:
		return strict.At("bytes", "window.bytes must lie between 1KiB and 16MiB")
	case time.Duration(w.Latency) > time.Minute:
		return strict.At("latency", "window.latency must be at most 1m")
	case w.MaxSamples < 1 || w.MaxSamples > wire.MaxSamples:
		return strict.At("max_samples", "window.max_samples must lie between 1 and %d", wire.MaxSamples)
	}
	return nil
}

// Suit fills in the defaults that depend on how many signals a source has.
func (w *Window) Suit(signals int) {
	samples := min(max(defaultSamples, perSignal*signals), wire.MaxSamples)
	w.Bytes = cmp.Or(w.Bytes, max(defaultBytes, strict.Size(samples*sampleBytes)))
	w.MaxSamples = cmp.Or(w.MaxSamples, samples)
}

// Default takes what w leaves out from d. A profile of its own says how long w
// waits, whatever d says of that.
func (w *Window) Default(d Window) {
	if w.Latency == 0 && w.Profile != "" {
		w.Latency = strict.Duration(w.Profile.Latency())
	}
	w.Profile = cmp.Or(w.Profile, d.Profile)
	w.Bytes, w.Latency, w.MaxSamples = cmp.Or(w.Bytes, d.Bytes), cmp.Or(w.Latency, d.Latency), cmp.Or(w.MaxSamples, d.MaxSamples)
}

// Sealer gathers what one source says until a commit closes, and seals it. It
// has no clock and no goroutine: a test steps it sample by sample.
//
// What is proven: Begin(p) starts a proof at p, Prove(q) claims [p, q), the
// next Prove(r) claims [q, r). Each batch claims what was proven since the
// batch before, and its Complete is the end of that claim. A stretch that was
// given to Void and lies beyond the proof is left out of all later claims,
// because a claim after a void makes the stretch known again.
//
// Not safe for concurrent use.
type Sealer struct {
	window Window
	source string
	table  *table // of the samples to come
	enc    *wire.Encoder

	begun    bool
	from     mesh.Nanos // where the next claim starts
	complete mesh.Nanos // the end of the last claim; 0: none yet
	holes    []mesh.Span
	closed   []part // ended by Begin or a hole, not sealed yet
	open     part
	spare    *wire.Gather // of a part that was sealed, for one to come
	voids    []mesh.Void
	closing  int       // samples of closed
	held     int       // bytes of closed
	first    time.Time // when Due first saw something waiting
}

// part is a run of samples with one claim.
type part struct {
	samples *wire.Gather
	proven  mesh.Span
	table   *table // the samples refer to it; set when the part is closed
}

// bytes are what a part counts in a window.
func (p *part) bytes() int { return p.samples.Len()*sampleBytes + p.samples.Bytes() }

// NewSealer makes a sealer for the source called name, whose samples refer to
// signals. Zero fields of w get their defaults.
func NewSealer(w Window, name string, signals []mesh.Signal) (*Sealer, error) {
	if err := w.Validate(); err != nil {
		return nil, err
	}
	if name == "" || len(name) > wire.MaxName {
		return nil, fmt.Errorf("source name of %d bytes: 1 to %d are allowed", len(name), wire.MaxName)
	}
	d, err := describe(name, signals)
	if err != nil {
		return nil, err
	}
	enc, err := wire.NewEncoder()
	if err != nil {
		return nil, err
	}
	return &Sealer{window: w, source: name, table: d, enc: enc, open: part{samples: &wire.Gather{}}}, nil
}

// table is a signal table as it travels.
type table struct {
	descriptor mesh.Descriptor
	hash       mesh.Hash
}

func describe(source string, signals []mesh.Signal) (*table, error) {
	seen := make(map[uint32]string, len(signals))
	for _, s := range signals {
		if other, ok := seen[s.ID]; ok {
			return nil, fmt.Errorf("signals %q and %q of source %q have the same id %d", other, s.Name, source, s.ID)
		}
		seen[s.ID] = s.Name
	}
	d, err := wire.DescribeSignals(signals)
	if err != nil {
		return nil, err
	}
	return &table{descriptor: d, hash: d.Hash()}, nil
}

// Retable has the samples from here on refer to another table: what is known of
// a device's signals may change when it is connected to. Samples that are here
// already keep theirs. With an error nothing changes.
func (s *Sealer) Retable(signals []mesh.Signal) error {
	d, err := describe(s.source, signals)
	if err != nil || d.hash == s.table.hash {
		return err
	}
	s.closePart()
	s.table = d
	return nil
}

// Grow has the samples of this commit and those to come refer to a table that says
// more than the one before: all of its signals, with the same ids, and others. So a
// device that names its signals one message after the other makes one table of a
// commit. With an error nothing changes.
func (s *Sealer) Grow(signals []mesh.Signal) error {
	d, err := describe(s.source, signals)
	if err != nil || d.hash == s.table.hash {
		return err
	}
	for i := range s.closed {
		if s.closed[i].table == s.table { // else it is of one that Retable has ended
			s.closed[i].table = d
		}
	}
	s.table = d
	return nil
}

// Add takes one sample into the open commit. The sample's bytes belong to the
// sealer afterwards.
func (s *Sealer) Add(m mesh.Sample) { s.open.samples.Add(&m) }

// Open takes the samples of the open commit from who has many: through Add, as wire's
// Gather has it. It holds until anything else is asked of the sealer but Void.
func (s *Sealer) Open() *wire.Gather { return s.open.samples }

// Begin starts a fresh proof at the instant at: nothing between the proof
// before and at is claimed. It never moves back behind what is proven.
func (s *Sealer) Begin(at mesh.Nanos) {
	at = max(at, s.from)
	s.closeClaim()
	s.begun, s.from = true, at
	s.dropHoles()
}

// Resume continues an unbroken proof after a restart: from what Proof and
// Holes were when the state was sealed. A proof of 0 resumes nothing.
func (s *Sealer) Resume(proof mesh.Nanos, holes ...mesh.Span) {
	if proof == 0 {
		return
	}
	s.begun, s.from = true, proof
	s.holes = merge(slices.Clone(holes))
	s.dropHoles()
}

// Prove claims that the source was heard without a break, and that nothing
// older is expected, through the instant to (already less the disorder of the
// source). Before Begin or Resume, and where to does not move on, it does nothing.
func (s *Sealer) Prove(to mesh.Nanos) {
	for s.begun && to > s.from {
		if len(s.holes) == 0 || s.holes[0].From >= to {
			s.claim(to)
			return
		}
		hole := s.holes[0]
		s.claim(hole.From)
		s.closeClaim()
		s.from = min(hole.To, to)
		s.dropHoles()
	}
}

// claim extends the open part's claim to the instant to.
func (s *Sealer) claim(to mesh.Nanos) {
	if to <= s.from {
		return
	}
	if s.open.proven.Empty() {
		s.open.proven.From = s.from
	}
	s.open.proven.To, s.from = to, to
}

// Void says that a stretch has no data. It goes out with the next offer, behind
// its batches. What of its stretches lies beyond the proof stays out of later claims.
func (s *Sealer) Void(v mesh.Void) {
	s.say(v)
	for _, p := range v.Parts {
		if p.Source == s.source && !p.Times.Empty() && p.Times.To > s.from {
			s.holes = append(s.holes, p.Times)
		}
	}
	s.holes = merge(s.holes)
}

// Unheard says that the source has not been heard since the proof, until now,
// and why. Other than after Void that stretch may be claimed later: where the
// source kept what changed, a claim that stands behind this void makes it known
// again. So the caller seals at once: a claim of the same offer would stand
// before it. Where nothing was ever proven there is nothing to say.
func (s *Sealer) Unheard(now mesh.Nanos, why string) (said bool) {
	silent := mesh.Span{From: s.from, To: now}
	if !s.begun || silent.Empty() {
		return false
	}
	s.say(mesh.Void{Cause: mesh.CauseDisconnected, Parts: []mesh.Part{{Source: s.source, Times: silent}}, Note: why})
	return true
}

func (s *Sealer) say(v mesh.Void) {
	// protobuf takes valid UTF-8 only, and a note may quote a device.
	note := oneLine(v.Note)
	v.Note = strings.ToValidUTF8(note[:min(len(note), maxNote)], "?")
	if len(v.Parts) == 0 {
		v.Parts = []mesh.Part{{Source: s.source}}
	}
	s.voids = append(s.voids, v)
}

// Len is the number of samples waiting for Seal.
func (s *Sealer) Len() int { return s.closing + s.open.samples.Len() }

// Proof is where the next claim starts: everything before was claimed, or was
// given up by Begin. 0: nothing was ever proven or begun. A reader keeps it in
// its state, with Holes, for Resume.
func (s *Sealer) Proof() mesh.Nanos { return s.from }

// Holes are the stretches beyond Proof that must never be claimed.
func (s *Sealer) Holes() []mesh.Span { return slices.Clone(s.holes) }

// Due reports whether the open commit should be sealed at machine time now:
// it is full, or something waits since a call of Due at least a latency ago.
func (s *Sealer) Due(now time.Time) bool {
	if !s.waiting() {
		return false
	}
	if s.first.IsZero() {
		s.first = now
	}
	return s.held+s.open.bytes() >= int(s.window.Bytes) || s.Len() >= s.window.MaxSamples || now.Sub(s.first) >= time.Duration(s.window.Latency)
}

func (s *Sealer) waiting() bool {
	return s.Len() > 0 || len(s.closed) > 0 || len(s.voids) > 0 || !s.open.proven.Empty()
}

// Seal closes the commit: batches in order, then voids, the signal table, and
// the state that belongs to them. With nothing waiting the offer carries only
// the state. After an error the sealer must not be used any more.
func (s *Sealer) Seal(state []byte) (mesh.Offer, error) {
	s.closePart()
	o := mesh.Offer{Source: s.source, State: state, Descriptors: []mesh.Descriptor{s.table.descriptor}}
	named := s.table
	for _, p := range s.closed {
		if p.table != s.table && p.table != named {
			named = p.table
			o.Descriptors = append(o.Descriptors, named.descriptor)
		}
		sealed, err := s.sealPart(p)
		if err != nil {
			return mesh.Offer{}, fmt.Errorf("seal a batch of source %q: %w", s.source, err)
		}
		o.Sealed = append(o.Sealed, sealed...)
		p.samples.Reset()
		s.spare = p.samples
	}
	for _, v := range s.voids {
		sealed, err := wire.SealVoid(v)
		if err != nil {
			return mesh.Offer{}, fmt.Errorf("seal a void of source %q: %w", s.source, err)
		}
		o.Sealed = append(o.Sealed, sealed)
	}
	s.closed, s.voids, s.closing, s.held, s.first = nil, nil, 0, 0, time.Time{}
	return o, nil
}

// sealPart seals one part, as several batches where one would not fit into a
// message. Only the last one claims: what is claimed must not stand before
// samples that belong to it.
func (s *Sealer) sealPart(p part) ([][]byte, error) {
	b := mesh.Batch{Source: s.source, Table: p.table.hash, Proven: mesh.Span{From: s.complete, To: s.complete}, Complete: s.complete}
	if !p.proven.Empty() {
		b.Proven, b.Complete = p.proven, p.proven.To
	}
	sealed, err := s.enc.SealGather(&b, p.samples)
	if n := p.samples.Len(); n > 1 && (errors.Is(err, wire.ErrLimit) || err == nil && len(sealed) > maxSealed) {
		return s.halved(p)
	}
	if err != nil {
		return nil, err
	}
	s.complete = b.Complete
	return [][]byte{sealed}, nil
}

// halved seals a part as two.
func (s *Sealer) halved(p part) ([][]byte, error) {
	all := p.samples.Samples()
	var halves [2][][]byte
	for i, of := range [2][]mesh.Sample{all[:len(all)/2], all[len(all)/2:]} {
		half := part{samples: &wire.Gather{}, table: p.table}
		for k := range of {
			half.samples.Add(&of[k])
		}
		if i == 1 {
			half.proven = p.proven
		}
		var err error
		if halves[i], err = s.sealPart(half); err != nil {
			return nil, err
		}
	}
	return append(halves[0], halves[1]...), nil
}

// closeClaim ends the open part if it claims something: what is claimed next
// doesn't follow it.
func (s *Sealer) closeClaim() {
	if !s.open.proven.Empty() {
		s.closePart()
	}
}

// closePart ends the open part if there is anything in it.
func (s *Sealer) closePart() {
	if s.open.samples.Len() > 0 || !s.open.proven.Empty() {
		s.open.table = s.table
		s.closed, s.closing, s.held = append(s.closed, s.open), s.Len(), s.held+s.open.bytes()
		s.open, s.spare = part{samples: cmp.Or(s.spare, &wire.Gather{})}, nil
	}
}

func (s *Sealer) dropHoles() {
	s.holes = slices.DeleteFunc(s.holes, func(h mesh.Span) bool { return h.To <= s.from })
}

// merge sorts spans and joins those that touch. Of more than maxHoles the
// farthest are one: what lies between them is not claimed either.
func merge(spans []mesh.Span) []mesh.Span {
	out := mesh.Joined(spans)
	if n := len(out); n > maxHoles {
		out[maxHoles-1].To = out[n-1].To
		out = out[:maxHoles]
	}
	return out
}
