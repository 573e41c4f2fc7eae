package forward

import (
	"errors"
	"time"

	"plantmesh/proto/mesh"
)

// maxReplays bounds the stretches that wait to be sent again.
const maxReplays = 16

// ErrReplays is returned where as much waits to be sent again as may.
var ErrReplays = errors.New("enough waits to be sent again: let that go first")

// Replay sends again what the hub has accounted for of a stretch of the log: behind after,
// through until, of the records that takes says. It goes last, when nothing else waits. The
// hub knows each record by its position and takes none twice. rate is how many samples a
// second go, on the average; 0: as many as the hub takes. takes is called by Step.
func (f *Forward) Replay(after, until mesh.Position, rate int, takes func(sealed []byte) bool) error {
	f.mu.Lock()
	waits := f.status.Replays
	f.mu.Unlock()
	if waits >= maxReplays {
		return ErrReplays
	}
	f.post(event{replay: &job{after: after, until: until, takes: takes, rate: rate, tries: 1}})
	return nil
}

// enough reports whether a message of a job has all it may have: a second's worth.
func (j *job) enough(m *message) bool { return j.rate > 0 && m.samples >= j.rate }

// paid has a job wait for as long as what went takes at its rate. It is looked at now and
// then only, so that a little too long a wait is made good.
func (j *job) paid(samples int, now time.Time) {
	if j.rate == 0 {
		return
	}
	if now.Sub(j.free) > time.Second {
		j.free = now
	}
	j.free = j.free.Add(time.Duration(float64(samples) / float64(j.rate) * float64(time.Second)))
}

// replaysNow reports whether something that was delivered may be sent again now.
func (f *Forward) replaysNow(now time.Time) bool {
	return len(f.jobs) == 0 && len(f.replays) > 0 && !now.Before(f.replays[0].free)
}

// passed reports whether a record is passed over by a job: the hub has it, or, where what
// was delivered is sent again, it was not, or is not asked for.
func (f *Forward) passed(j *job, rec mesh.Record) bool {
	if j.takes != nil {
		return !f.account.Has(rec.At) || !j.takes(rec.Sealed)
	}
	return !j.until.IsZero() && f.account.Has(rec.At)
}
