package source

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	"plantmesh/proto/mesh"
)

const (
	// deathLimit deaths in a row of the same cause set a source aside: what it is
	// sent kills its worker each time, and another try changes nothing.
	deathLimit = 5
	// asideEvery is how often one that is set aside is tried all the same: a server
	// gets another value, or another program, without telling anybody here.
	asideEvery = 10 * time.Minute
	// maxReason bounds a cause in status, log and void.
	maxReason = 400
)

// DeathError is the end of a worker that nobody asked for and that its reader said
// nothing about: a panic, memory without end, a signal, a hang, nonsense in the pipe.
type DeathError struct {
	Reason string // one line
}

func (d *DeathError) Error() string { return d.Reason }

// deaths are those in a row of one cause.
type deaths struct {
	cause string // without its numbers
	n     int
	last  time.Time
	aside string // why the source is set aside; empty: it isn't
}

// note counts the end of a life and reports whether the source is to be set aside
// now. A life that made samples durable, an end with an error in words, or another
// cause begin anew: as long as something comes through, trying goes on.
func (d *deaths) note(err error, progress bool, now time.Time) bool {
	death, died := errors.AsType[*DeathError](err)
	if !died || progress {
		*d = deaths{}
	}
	if !died {
		return false
	}
	cause := numbers.ReplaceAllString(death.Reason, "#")
	if cause != d.cause || d.aside == "" && now.Sub(d.last) > crashWindow {
		*d = deaths{cause: cause}
	}
	d.n, d.last = d.n+1, now
	if d.n < deathLimit {
		return false
	}
	d.aside = death.Reason
	return true
}

// numbers are what differs between two deaths of the same cause: addresses,
// lengths, goroutines.
var numbers = regexp.MustCompile(`0x[0-9a-f]+|[0-9]+`)

// why says of a source that is set aside what people must know.
func (d *deaths) why() string {
	return fmt.Sprintf("set aside: its worker died %d times in a row of the same cause, and nothing came through: %s", d.n, d.aside)
}

// Aside is why a source is set aside.
type Aside struct {
	Reason string
	Since  time.Time // of the first time in a row
	Deaths int
	Next   time.Time // when it is tried again
}

// setAside takes a source out of the round: it is said in the log with a void, and
// tried again seldom.
func (s *Supervisor) setAside(ctx context.Context) {
	why := s.deaths.why()
	told := fmt.Errorf("%s. It is tried again every %s, when the agent starts, and when it is resumed: look at what the device sends, or take the signal or the source out of its file", why, asideEvery)
	s.noteAside(Aside{Reason: s.deaths.aside, Since: time.Now(), Deaths: s.deaths.n, Next: time.Now().Add(asideEvery)})
	s.failed(StateAside, told)
	s.log.Error("the source is set aside", "error", why, "again_in", asideEvery.String())
	if err := s.unheard(ctx, mesh.CauseDied, why); err != nil && ctx.Err() == nil {
		s.log.Error("the log takes no void of a source that is set aside", "error", err.Error())
	}
	if s.Status().State == StateHeld { // the log took nothing for a while
		s.failed(StateAside, told)
	}
}

// noteAside notes it for the status page.
func (s *Supervisor) noteAside(a Aside) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if was := s.status.Aside; was != nil {
		a.Since = was.Since
	}
	s.status.Aside = &a
}

// Resume has a source that waits between two tries, as one that is set aside does,
// tried now, and as often again as one that is well; worker is its configuration from
// then on. It gives how the source was. One that runs, or can't for want of room in
// the agent's log, is left alone, and false is given.
func (s *Supervisor) Resume(worker []byte) (was Status, done bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch s.status.State {
	case StateAside, StateQuarantined, StateRestarting:
	default:
		return s.copied(), false
	}
	s.cfg.Worker = worker
	select {
	case s.wake <- struct{}{}:
	default: // it was told before
	}
	return s.copied(), true
}

// anew is the state of a source that begins again.
func (s *Supervisor) anew() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.status.LastError, s.status.Told, s.status.Aside = "", "", nil
	s.enter(StateStarting)
}

// orders are the worker's, as they are now.
func (s *Supervisor) orders() []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.cfg.Worker
}

func reason(text string) string {
	text = strings.ToValidUTF8(oneLine(text), "?")
	if len(text) > maxReason {
		text = strings.ToValidUTF8(text[:maxReason], "") + "…"
	}
	return text
}
