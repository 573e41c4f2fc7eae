package forward

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"plantmesh/proto/mesh"
	"plantmesh/proto/subject"
	"plantmesh/proto/wire"
)

// message is one publish. Without data it only moves on over what the hub has.
type message struct {
	road    *road
	data    []byte
	runs    []mesh.Range
	descs   []mesh.Hash
	tries   int
	samples int    // in it
	done    func() // after it was published
}

// compose makes the next message; nil if there is nothing to send.
func (f *Forward) compose(ctx context.Context, now time.Time) (*message, error) {
	if m := f.asked(); m != nil {
		return m, nil
	}
	for range 2 {
		name := f.turn
		if f.turn = subject.Live; name == subject.Live {
			f.turn = subject.Backlog
		}
		m, err := f.composeOn(ctx, f.roads[name], now)
		if m != nil || err != nil {
			return m, err
		}
	}
	return nil, nil
}

// asked answers a receipt that lacks descriptors.
func (f *Forward) asked() *message {
	m := &message{road: f.roads[subject.Live], done: func() { f.lacks = nil }}
	for _, h := range f.lacks {
		for _, d := range f.descs {
			if d.Hash() == h && f.fits(m, sizeOf(d)) {
				m.data, m.descs = wire.AppendDescriptor(m.data, d), append(m.descs, h)
			}
		}
	}
	if len(m.data) == 0 {
		return nil
	}
	return m
}

// fits says whether n bytes more go into m: one thing goes whatever its size,
// as long as the hub takes it.
func (f *Forward) fits(m *message, n int) bool {
	if len(m.data) == 0 {
		return n <= f.most()
	}
	return len(m.data)+n <= f.max()
}

// sizeOf is what a descriptor takes on the wire, at most.
func sizeOf(d mesh.Descriptor) int { return len(d.Content) + frameBytes }

// frameBytes is more than a frame takes beside what it holds.
const frameBytes = 64

// max is the message that is aimed at now.
func (f *Forward) max() int { return min(int(f.cfg.MaxMessage), f.most()) }

// most is the largest message the hub takes, and the link.
func (f *Forward) most() int {
	n := wire.MaxFrame
	if l := int(f.limits.MaxBytes); l > 0 {
		n = min(n, l)
	}
	if f.linkMost > 0 {
		n = min(n, f.linkMost)
	}
	return n
}

// never says whether n bytes in one piece can't reach the hub however long one
// waits. A hub that takes less than leastMessage is set up wrong: that is put
// right there, and costs no data here.
func (f *Forward) never(n int) bool { return n > max(f.most(), leastMessage) }

func (f *Forward) composeOn(ctx context.Context, r *road, now time.Time) (m *message, err error) {
	full := len(f.roads[subject.Live].flights)+len(f.roads[subject.Backlog].flights) >= maxFlight
	switch {
	case r.name == subject.Live && !full:
		m, err = f.composeLive(ctx, r, now)
	case r.name == subject.Live:
	case len(f.again) > 0:
		m, err = f.composeJob(ctx, r, &f.again, now)
	case len(f.jobs) > 0 && !full && (f.limits.BacklogShare == 0 || int(f.limits.BacklogShare) < f.cfg.BacklogShare):
		m, err = f.composeJob(ctx, r, &f.jobs, now)
	case f.replaysNow(now) && !full && (f.limits.BacklogShare == 0 || int(f.limits.BacklogShare) < f.cfg.BacklogShare):
		m, err = f.composeJob(ctx, r, &f.replays, now)
	}
	if errors.Is(err, ErrLater) {
		return nil, nil
	}
	if m == nil || len(m.data) == 0 || err != nil || r.outset {
		return m, err
	}
	return f.first(r)
}

// first is what goes first on a road: descriptors, and the openings the hub
// has not accounted for.
func (f *Forward) first(r *road) (*message, error) {
	m := &message{road: r, done: func() {}}
	for _, d := range f.descs {
		h, n := d.Hash(), sizeOf(d)
		if r.descs[h] || f.never(n) { // what needs one that never passes is set aside
			continue
		}
		if len(m.data) > 0 && !f.fits(m, n) {
			return m, nil
		}
		m.data, m.descs = wire.AppendDescriptor(m.data, d), append(m.descs, h)
	}
	if len(m.data) >= f.max() {
		return m, nil
	}
	for _, o := range f.outset {
		if !f.account.Has(o.At) {
			m.data = wire.AppendRecord(m.data, o)
		}
	}
	m.done = func() { r.outset = true }
	return m, nil
}

// composeLive takes the newest records. A road that fell behind for too long
// leaves what is waiting to the backlog.
func (f *Forward) composeLive(ctx context.Context, r *road, now time.Time) (*message, error) {
	if now.Sub(f.liveAt) > time.Duration(f.cfg.LiveLag) {
		end, err := f.refresh()
		if err != nil {
			return nil, err
		}
		f.add(job{after: f.live, until: end})
		f.live, f.liveAt = end, now
	}
	m, last, err := f.pack(ctx, r, &job{after: f.live})
	if err != nil {
		return nil, err
	}
	if m == nil {
		f.liveAt = now
		return nil, nil
	}
	atEnd := len(m.data) < f.max()/2
	m.done = func() {
		f.live = last
		if atEnd {
			f.liveAt = now
		}
	}
	return m, nil
}

// composeJob takes records of the first job of a list.
func (f *Forward) composeJob(ctx context.Context, r *road, list *[]job, now time.Time) (*message, error) {
	j := &(*list)[0]
	drop := func() { *list = (*list)[1:] }
	m, last, err := f.pack(ctx, r, j)
	if errors.Is(err, mesh.ErrGone) && j.takes != nil { // the log was cut: nobody waits for it
		return &message{road: r, done: drop}, nil
	}
	if err != nil {
		return nil, err
	}
	if m == nil {
		return &message{road: r, done: drop}, nil
	}
	m.tries = j.tries
	m.done = func() {
		j.paid(m.samples, now)
		j.after = last
		if f.compare(last, j.until) >= 0 {
			drop()
		}
	}
	return m, nil
}

// pack puts records of a job, with what they need and what the rules say, into one
// message; without an end if until is zero. last is the last record looked at. nil:
// there is none.
func (f *Forward) pack(ctx context.Context, r *road, j *job) (m *message, last mesh.Position, err error) {
	records, err := f.queue.Peek(j.after, f.max())
	if err != nil {
		return nil, last, fmt.Errorf("read the log behind %s: %w", j.after, err)
	}
	m = &message{road: r}
	for _, rec := range records {
		if err := f.learn(rec.At.Epoch); err != nil {
			return nil, last, err
		}
		if f.beyond(rec.At, j.until) {
			break
		}
		if f.passed(j, rec) {
			last = rec.At
			continue
		}
		if j.enough(m) {
			return m, last, nil
		}
		p, err := f.frames(ctx, r, m, rec)
		if err != nil {
			return held(m, last, err)
		}
		n := len(p.ahead) + len(p.body)
		switch {
		case p.never != "":
			if err := f.setAside(rec.At, p); err != nil {
				return nil, last, err
			}
			last = rec.At
			continue
		case len(m.data) == 0 && len(p.ahead) > 0 && n > f.most(): // together they are too much
			return &message{road: r, data: p.ahead[:p.first], descs: p.hashes[:1]}, cmp.Or(last, j.after), nil
		case len(m.data) > 0 && len(m.data)+n > f.max():
			return m, last, nil
		}
		m.data = append(append(m.data, p.ahead...), p.body...)
		m.descs, m.runs, last = append(m.descs, p.hashes...), extend(m.runs, rec.At), rec.At
		m.samples += p.samples
	}
	if last.IsZero() {
		return nil, last, nil
	}
	return m, last, nil
}

// beyond reports whether a record stands behind the end of a job; zero: it has none.
func (f *Forward) beyond(at, until mesh.Position) bool {
	return !until.IsZero() && f.compare(at, until) > 0
}

// held ends a message before a record that has no verdict yet.
func held(m *message, last mesh.Position, err error) (*message, mesh.Position, error) {
	if errors.Is(err, ErrLater) && !last.IsZero() {
		return m, last, nil
	}
	return nil, last, err
}

// learn asks the log for its chain where an epoch is new.
func (f *Forward) learn(e mesh.Epoch) error {
	if f.rank(e) >= 0 {
		return nil
	}
	_, err := f.refresh()
	return err
}

// parts are the bytes of one record on the wire.
type parts struct {
	ahead   []byte      // descriptors it names that did not go on this road yet
	first   int         // length of the first of them
	hashes  []mesh.Hash // of them
	body    []byte      // itself, and its first verdict
	never   string      // why it can never pass; empty: it can
	about   mesh.Hash   // the descriptor that is to blame; zero: none
	samples int         // of the record
}

// frames takes a record to pieces that fit.
func (f *Forward) frames(ctx context.Context, r *road, m *message, rec mesh.Record) (p parts, err error) {
	h, err := wire.ParseHeader(rec.Sealed)
	if err != nil {
		p.body = wire.AppendRecord(nil, rec)
		return p, nil //nolint:nilerr // the hub says what is wrong with it
	}
	verdict, err := f.verdict(ctx, h.Kind, rec)
	if err != nil {
		return p, err
	}
	needs := h.Needs
	if v, err := wire.ParseHeader(verdict); err == nil {
		needs = append(slices.Clone(needs), v.Needs...)
	}
	for _, n := range needs {
		if r.descs[n] || slices.Contains(m.descs, n) || slices.Contains(p.hashes, n) {
			continue
		}
		d, ok, err := f.descriptor(n)
		if err != nil {
			return p, err
		}
		if !ok {
			r.descs[n] = true // not kept any more: the hub has it, or asks
			continue
		}
		if size := sizeOf(d); f.never(size) {
			p.about = n
			p.never = fmt.Sprintf("what it names (descriptor %s) has %d bytes, the hub takes at most %d in a message: read fewer signals with one source", n, size, f.most())
			return p, nil
		}
		p.ahead, p.hashes = wire.AppendDescriptor(p.ahead, d), append(p.hashes, n)
		if p.first == 0 {
			p.first = len(p.ahead)
		}
	}
	p.body, p.samples = wire.AppendRecord(nil, rec), int(h.Count)
	if verdict != nil {
		p.body = wire.AppendVerdict(p.body, verdict)
	}
	if f.never(len(p.body)) {
		p.never = fmt.Sprintf("with what the rules say of it, it has %d bytes, the hub takes at most %d in a message: let a batch hold fewer samples", len(p.body), f.most())
	}
	return p, nil
}

// setAside has the log void a record that can never pass, so that nothing
// behind it waits. Each reason is told once.
func (f *Forward) setAside(at mesh.Position, p parts) error {
	if f.cfg.Quarantine != nil {
		if err := f.cfg.Quarantine(at, p.never); err != nil {
			return fmt.Errorf("set aside %s, which can never pass: %w", at, err)
		}
	}
	if !f.told[p.about] {
		f.told[p.about] = true
		f.log.Error("record set aside, it can never reach the hub; likewise what comes with the same fault", "at", at.String(), "why", p.never)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.status.SetAside++
	f.status.Never = p.never
	return nil
}

// verdict is the first one on a batch, nil for none. Data goes without it where
// the rules can't say, but not where they only can't say yet.
func (f *Forward) verdict(ctx context.Context, k mesh.Kind, rec mesh.Record) ([]byte, error) {
	if k != mesh.KindBatch {
		return nil, nil
	}
	v, err := f.judge(ctx, rec)
	if errors.Is(err, ErrLater) {
		return nil, err
	}
	if err != nil {
		f.log.Warn("record goes without a verdict", "at", rec.At.String(), "err", err)
		return nil, nil
	}
	return v, nil
}

// descriptor looks one up, asking the log again where it is new.
func (f *Forward) descriptor(h mesh.Hash) (d mesh.Descriptor, ok bool, err error) {
	for range 2 {
		for _, d := range f.descs {
			if d.Hash() == h {
				return d, true, nil
			}
		}
		if _, err := f.refresh(); err != nil {
			return d, false, err
		}
	}
	return d, false, nil
}
