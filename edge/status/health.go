package status

import (
	"fmt"
	"time"

	"plantmesh/proto/answer"
	"plantmesh/proto/mesh"
)

// Finding is something that was lost, or that needs somebody.
type Finding struct {
	Code answer.Code `json:"code"` // answer.DataLost or answer.Degraded
	What string      `json:"what"`
	Fix  string      `json:"fix"`
}

// word is how a line about it begins.
func (f Finding) word() string {
	if f.Code == answer.DataLost {
		return "lost"
	}
	return "wrong"
}

const (
	// LostWithin is how long a loss counts: then it was told for a day, and its gap stays named
	// at the hub.
	LostWithin = 24 * time.Hour
	// patience is how long a connection may be away before that is somebody's matter: a device
	// or a hub that begins anew is back by then.
	patience = time.Minute
	// nearlyFull is the share of the buffer from which on it is.
	nearlyFull = 0.9
)

// Judge says what of a snapshot was lost within the last 24 hours, and what needs somebody,
// losses first. config is the file that commands which help are called with.
func (s Snapshot) Judge(now time.Time, config string) (out []Finding) {
	command := func(words ...string) string {
		return answer.Command(append(append([]string{"plantmesh-edge"}, words...), "--config", config)...)
	}
	out = s.lost(now, command)
	wrong := func(fix, what string, args ...any) {
		out = append(out, Finding{answer.Degraded, fmt.Sprintf(what, args...), fix})
	}
	for i := range s.Sources {
		src := &s.Sources[i]
		switch {
		case src.Aside != nil:
			wrong(src.Aside.Resume, "source %s is set aside since %s: %s", src.Source, src.Aside.Since, src.Aside.Reason)
		case before(src.Down, now.Add(-patience)):
			wrong(command("check", "--section", "sources"), "source %s is not read since %s: %s", src.Source, src.Down, src.why())
		}
	}
	if !s.Hub.Connected && before(s.Hub.Since, now.Add(-patience)) {
		wrong(command("check", "--section", "identity,cloud"), "the hub is not connected since %s, everything is kept meanwhile", s.Hub.Since)
	}
	if b := &s.Buffer; b.Pending > 0 && float64(b.Bytes) > nearlyFull*float64(b.MaxBytes) {
		wrong(command("check", "--section", "cloud,buffer"), "the buffer is %.0f %% full of what the hub has not: full, it holds its sources back", 100*float64(b.Bytes)/float64(max(1, b.MaxBytes)))
	}
	if n := s.Buffer.SetAside; n > 0 {
		wrong(command("quarantine", "list"), "%d records are set aside, and wait to be released or dropped", n)
	}
	for _, e := range s.Endings {
		if e.Days < 0 {
			wrong(e.Fix, "%s ended at %s", e.What, e.Until)
		}
	}
	return out
}

// lost are the losses, by whichever run of the agent they were.
func (s Snapshot) lost(now time.Time, command func(words ...string) string) (out []Finding) {
	since := now.Add(-LostWithin)
	for _, l := range s.Buffer.Losses {
		if before(l.Last, since) {
			continue
		}
		what, fix := fmt.Sprintf("%d values", l.Count), command("buffer", "status")
		if l.Count == 0 {
			what = "records"
		}
		if l.Source != "" {
			what, fix = what+" of source "+l.Source, command("check", "--section", "sources")
		}
		if l.Cause == string(mesh.CauseDiskPolicy) || l.Cause == string(mesh.CauseDamaged) || l.Cause == string(mesh.CauseNotKept) {
			fix = command("buffer", "status")
		}
		out = append(out, Finding{answer.DataLost, fmt.Sprintf("%s since %s, the last at %s, cause %s", what, l.Since, l.Last, l.Cause), fix})
	}
	if b := &s.Buffer; b.Damaged != "" && !before(b.Damaged, since) {
		out = append(out, Finding{
			answer.DataLost, fmt.Sprintf("%d segments or records on the disk could not be read since %s, the last at %s", b.Damages, s.Since, b.Damaged),
			command("buffer", "verify"),
		})
	}
	return out
}

// why is the reason why a source is not read, in words.
func (s Source) why() string {
	for _, says := range []string{s.Says, s.LastError} {
		if says != "" {
			return says
		}
	}
	return s.State
}

// before says whether a stamp lies before an instant; none does not.
func before(stamp string, at time.Time) bool {
	t, err := time.Parse(time.RFC3339, stamp)
	return err == nil && t.Before(at)
}
