package mqtt

import (
	"fmt"
	"strings"
	"time"

	"plantmesh/edge/source"
	"plantmesh/proto/mesh"
)

// tellEvery is how often the status is put into words anew.
const tellEvery = time.Second

// watch knows how the reader is, for the status and for the void of a broker
// that stays away. Not safe for concurrent use.
type watch struct {
	cfg *Config
	in  *intake

	linked bool   // connected
	heard  bool   // subscribed since the connection was lost last
	why    string // there is no connection; empty while none was tried
	away   source.Away

	seen  mesh.Nanos // the proof at the last look
	moved time.Time  // machine time when it did
	told  string
	at    time.Time // machine time of the last look; zero: something changed
}

func newWatch(cfg *Config, in *intake, now time.Time) *watch {
	w := &watch{cfg: cfg, in: in, moved: now}
	w.away.Begin(now)
	return w
}

// connected is told of each new connection.
func (w *watch) connected(now time.Time) { w.linked, w.moved, w.at = true, now, time.Time{} }

// subscribed is told when the broker has granted every filter.
func (w *watch) subscribed() {
	w.heard = true
	w.away.End()
}

// lost is told when a connection, or the try to make one, has ended, and why.
func (w *watch) lost(why string, now time.Time) {
	if w.heard {
		w.away.Begin(now)
	}
	w.linked, w.heard, w.why, w.at = false, false, why, time.Time{}
}

// due reports whether the log should be told that the broker stays away.
func (w *watch) due(now time.Time) bool { return !w.linked && w.why != "" && w.away.Due(now) }

// news is the word for the status, where it is another than before.
func (w *watch) news(now time.Time) (text string, news bool) {
	if now.Sub(w.at) < tellEvery || !w.linked && w.why == "" {
		return "", false
	}
	w.at = now
	if p := w.in.sealer.Proof(); p != w.seen {
		w.seen, w.moved = p, now
	}
	text = w.word()
	if w.linked {
		text += w.unproven(now) + w.in.counters.leftOut()
	}
	if text == w.told {
		return "", false
	}
	w.told = text
	return text, true
}

func (w *watch) word() string {
	if !w.linked {
		return "not connected: " + w.why
	}
	return "connected"
}

// unproven says why what is heard does not count as known.
func (w *watch) unproven(now time.Time) string {
	still, v := now.Sub(w.moved), w.in.vigil
	switch {
	case !w.cfg.Provable():
		return ", heard, but unproven: no heartbeat or max_silence declared"
	case v != nil && still > v.patience():
		return ", but nothing more is proven: " + v.late()
	case v == nil && still > 3*time.Duration(w.cfg.Heartbeat.Every):
		return ", but nothing more is proven: no heartbeat on " + w.cfg.Heartbeat.Topic
	}
	return ""
}

// leftOut names what was missing, and what was heard and not stored.
func (c counters) leftOut() string {
	if n := c.missing; n > 0 {
		c.missing = 0
		return fmt.Sprintf("; %d messages never came, by their numbers", n) + c.leftOut()
	}
	var out []string
	for _, x := range []struct {
		n    uint64
		what string
	}{
		{c.unreadable, "unreadable values"},
		{c.unknown, "values of unknown keys"},
		{c.skipped, "values by a condition (when)"},
		{c.foreign, "messages of foreign topics"},
		{c.retained, "retained messages"},
	} {
		if x.n > 0 {
			out = append(out, fmt.Sprintf("%d %s", x.n, x.what))
		}
	}
	if out == nil {
		return ""
	}
	return "; left out: " + strings.Join(out, ", ")
}
