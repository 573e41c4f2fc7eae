package sparkplug

import (
	"fmt"
	"strings"
	"time"

	"plantmesh/edge/source"
	"plantmesh/proto/mesh"
)

const (
	// tellEvery is how often the status is put into words anew.
	tellEvery = time.Second
	// patience is how long the proof may stand before somebody is told.
	patience = time.Minute
)

// watch knows how the reader is, for the status and for the void of a broker
// that stays away. Not safe for concurrent use.
type watch struct {
	h *host

	linked bool
	heard  bool   // subscribed since the connection was lost last
	why    string // there is no connection; empty while none was tried
	away   source.Away

	seen  mesh.Nanos // the proof at the last look
	moved time.Time  // machine time when it did
	told  string
	at    time.Time // machine time of the last look; zero: something changed
}

func newWatch(h *host, now time.Time) *watch {
	w := &watch{h: h, moved: now}
	w.away.Begin(now)
	return w
}

func (w *watch) connected(now time.Time) { w.linked, w.moved, w.at = true, now, time.Time{} }

func (w *watch) subscribed() {
	w.heard = true
	w.away.End()
}

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
	if p := w.h.sealer.Proof(); p != w.seen {
		w.seen, w.moved = p, now
	}
	text = w.word()
	if w.linked {
		text += w.h.census() + w.unproven(now) + w.h.counters.leftOut()
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

// census says how many nodes there are.
func (h *host) census() string {
	var n [dead + 1]int
	for _, x := range h.nodes {
		n[x.phase]++
	}
	out := fmt.Sprintf(", %d nodes live", n[live]+n[doubtful])
	if n[dead] > 0 {
		out += fmt.Sprintf(", %d dead", n[dead])
	}
	if unknown := n[unborn] + n[strange]; unknown > 0 {
		out += fmt.Sprintf(", of %d the names are not known", unknown)
		if !h.cfg.asks() {
			out += " (passive mode cannot ask)"
		}
	}
	return out
}

// unproven says why what is heard does not count as known.
func (w *watch) unproven(now time.Time) string {
	if now.Sub(w.moved) <= patience {
		return ""
	}
	var slow *node
	for _, n := range w.h.nodes {
		if (n.phase == live || n.phase == doubtful) && (slow == nil || n.last < slow.last || n.last == slow.last && n.id() < slow.id()) {
			slow = n
		}
	}
	if slow == nil {
		return ""
	}
	return fmt.Sprintf(", but nothing more is proven: node %.260q said nothing since %s", slow.id(), spell(slow.last))
}

// leftOut names what was heard and not stored.
func (c *counters) leftOut() string {
	var out []string
	for _, x := range []struct {
		n    uint64
		what string
	}{
		{c.gaps, "gaps of nodes"},
		{c.unnamed, "values without names"},
		{c.unreadable, "refused values"},
		{c.foreign, "messages of foreign nodes"},
		{c.retained, "retained messages"},
		{c.transient, "transient values"},
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
