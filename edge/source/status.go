package source

import (
	"maps"
	"slices"
	"strings"
	"time"

	"plantmesh/proto/mesh"
)

// States of a source, for people.
const (
	StateStarting    = "starting"
	StateRunning     = "running"
	StateHeld        = "held back" // the agent's log takes nothing
	StateRestarting  = "waiting to restart"
	StateQuarantined = "quarantined" // it crashes again and again; still tried now and then
	StateAside       = "set aside"   // it dies of the same each time, and nothing comes through; tried seldom
	StateStopped     = "stopped"
)

// Status is what the status page says about a source. It is a copy.
type Status struct {
	Source     string
	State      string
	Since      time.Time // of the state
	Down       time.Time // since when it is not read; zero: it is
	Told       string    // the reader's own latest word, such as "connected"; empty while it has none
	Restarts   int       // since the agent started
	LastError  string
	Aside      *Aside     // why it is set aside; nil: it isn't
	LastCommit time.Time  // machine time; zero: none since the agent started
	Proof      mesh.Nanos // plant time through which the source is proven; 0: never
	Samples    uint64     // made durable since the agent started
	Bytes      uint64     // of sealed records, likewise
	// Voids says by cause what was written off since the agent started.
	Voids map[mesh.Cause]Voided
	// Troubles are the reasons why the device was not connected since the agent started,
	// the newest last: one that comes and goes is gone from Told when somebody looks.
	Troubles []Trouble
}

// Up says whether the source is read: its worker runs, and its device is not known to be away.
func (s Status) Up() bool { return s.State == StateRunning && !strings.HasPrefix(s.Told, away) }

// Trouble is one reason why a device was not connected.
type Trouble struct {
	Says        string
	Times       int
	First, Last time.Time
}

// away begins a reader's word while its device is not connected.
const away = "not connected: "

// mostTroubles is how many reasons are remembered.
const mostTroubles = 8

// trouble notes why the device is not connected; mu is held.
func (s *Supervisor) trouble(says string) {
	now := time.Now()
	t := Trouble{Says: says, First: now}
	all := s.status.Troubles
	if i := slices.IndexFunc(all, func(x Trouble) bool { return x.Says == says }); i >= 0 {
		t = all[i]
		all = slices.Delete(all, i, i+1)
	}
	t.Times, t.Last = t.Times+1, now
	if len(all) == mostTroubles {
		all = slices.Delete(all, 0, 1)
	}
	all = append(all, t)
	s.status.Troubles = all
}

// Voided is what one cause has taken from a source.
type Voided struct {
	Voids  uint64    // records of it
	Count  uint64    // values they speak of; a void of unknown extent counts none
	Latest string    // the newest one's note: the reason, and a few bytes of what was unreadable
	Last   time.Time // when values were last written off, by the machine's clock; zero: only voids of unknown extent
}

// Status is the source's state now. Safe for concurrent use.
func (s *Supervisor) Status() Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.copied()
}

// copied is the status; mu is held.
func (s *Supervisor) copied() Status {
	out := s.status
	out.Voids, out.Troubles = maps.Clone(out.Voids), slices.Clone(out.Troubles)
	return out
}

// writtenOff notes durable voids.
func (s *Supervisor) writtenOff(voids ...mesh.Void) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, v := range voids {
		if s.status.Voids == nil {
			s.status.Voids = map[mesh.Cause]Voided{}
		}
		was := s.status.Voids[v.Cause]
		was.Voids++
		was.Latest = v.Note
		before := was.Count
		for _, p := range v.Parts {
			was.Count += p.Count
		}
		if was.Count > before {
			was.Last = time.Now()
		}
		s.status.Voids[v.Cause] = was
	}
}

// set changes the state; a quarantined source, and one that is set aside, stay so
// until they work again.
func (s *Supervisor) set(state string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if state != StateStarting || s.status.State != StateQuarantined && s.status.State != StateAside {
		s.enter(state)
	}
	s.status.Proof = s.proof
}

// told notes the reader's word.
func (s *Supervisor) told(text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.status.Told = oneLine(text)
	if says, is := strings.CutPrefix(s.status.Told, away); is {
		s.trouble(says)
	}
	if s.status.State == StateStarting {
		s.enter(StateRunning)
	}
	s.timed()
}

// timed notes since when the source is not read; mu is held.
func (s *Supervisor) timed() {
	switch {
	case s.status.Up():
		s.status.Down = time.Time{}
	case s.status.Down.IsZero():
		s.status.Down = time.Now()
	}
}

// enter changes the state; mu is held.
func (s *Supervisor) enter(state string) {
	if s.status.State != state {
		s.status.State, s.status.Since = state, time.Now()
	}
	s.timed()
	switch state {
	case StateRestarting, StateQuarantined: // of another cause, or something came through
		s.status.Aside = nil
	case StateRunning:
		s.status.Aside = nil
		select {
		case <-s.wake: // Resume was called while it was being tried
		default:
		}
	}
}

// failed notes an error and reports whether the state is a new one.
func (s *Supervisor) failed(state string, err error) (changed bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	changed = s.status.State != state
	if state != StateHeld {
		s.status.Told = ""
	}
	if changed && state == StateAside || state == StateRestarting || state == StateQuarantined {
		s.status.Restarts++
	}
	if err != nil {
		s.status.LastError = oneLine(err.Error())
	}
	s.enter(state)
	return changed
}

// committed notes a durable append.
func (s *Supervisor) committed(c sum) {
	s.heard = c.at
	if c.proof > s.proof {
		s.proof, s.voided = c.proof, 0
	}
	s.writtenOff(c.voids...)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.status.State == StateHeld {
		s.status.LastError = "" // it was the log's, which takes again
	}
	s.enter(StateRunning)
	s.status.LastCommit, s.status.Proof = time.Now(), c.proof
	s.status.Samples += c.samples
	s.status.Bytes += c.bytes
}
