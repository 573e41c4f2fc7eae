package agent

import (
	"time"

	"plantmesh/edge/buffer"
	"plantmesh/edge/source"
	"plantmesh/edge/status"
)

const day = 24 * time.Hour

// leastCounted is how long must have been counted before anything is said of a day.
const leastCounted = 10 * time.Second

// diskCosts says what commits cost here and what each window profile would,
// from what the buffer counted until now. windows are those of the sources.
func diskCosts(c buffer.Commits, now time.Time, windows map[string]source.Window) (d status.Disk) {
	counted := now.Sub(c.Since)
	if c.Count == 0 || c.Batches == 0 || counted < leastCounted {
		return d
	}
	var values uint64
	for _, n := range c.Sources {
		values += n.Values
	}
	perDay := float64(day) / float64(counted)
	d = status.Disk{
		Since: stamp(c.Since), CommitMS: milliseconds(c.Took) / float64(c.Count), SlowestMS: milliseconds(c.Slowest),
		CommitsPerMin: float64(c.Count) / counted.Minutes(), ValuesPerSec: float64(values) / counted.Seconds(),
		WrittenPerDay: float64(c.Written) * perDay,
	}
	beside := (float64(c.Written) - float64(c.Payload)) / float64(c.Count)
	for _, p := range source.Profiles() {
		share, inUse := closing(c, counted, windows, p)
		commits := float64(c.Count-c.Batches) + float64(c.Batches)*share
		written := float64(c.Payload) + commits*beside
		d.Profiles = append(d.Profiles, status.Profile{
			Profile: string(p), InUse: inUse, WithinSeconds: (p.Latency() + c.Slowest).Seconds(),
			CommitsPerDay: commits * perDay, WrittenPerCommit: written / commits,
			WrittenPerDay: written * perDay, WrittenPerValue: written / float64(max(1, values)),
		})
	}
	return d
}

// closing is how many windows the sources would close with a profile, for each
// that they closed; inUse: all wait as long as it does now.
func closing(c buffer.Commits, counted time.Duration, windows map[string]source.Window, p source.Profile) (share float64, inUse bool) {
	var was, would float64
	inUse = true
	for id, n := range c.Sources {
		w, ok := windows[id]
		was += float64(n.Windows)
		if !ok || n.Windows == 0 {
			would += float64(n.Windows) // not a source of this configuration any more
			continue
		}
		waits := time.Duration(w.Latency)
		inUse = inUse && waits == p.Latency()
		every := counted / time.Duration(n.Windows)
		// A window opens with the first value that comes: what is longer than its
		// wait is silence. One that closes earlier was full, by bytes or by what
		// the device may have unacknowledged.
		next := p.Latency() + every - waits
		if every < waits {
			next = min(p.Latency(), every)
		}
		if most := time.Duration(w.MaxSamples); n.Values > 0 && most > 0 {
			next = min(next, max(every, most*counted/time.Duration(n.Values)))
		}
		would += float64(counted) / float64(next)
	}
	return would / was, inUse
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// window is when the source's commits close.
func (s *SourceFile) window() source.Window {
	return *s.sections()[0].window
}
