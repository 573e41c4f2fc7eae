package runner

import (
	"slices"

	"plantmesh/cloud/product"
	"plantmesh/proto/mesh"
)

// window is a stretch of time of which all events there are held. Others are read
// back from the store when they are needed.
type window struct {
	mesh.Span // To before From is never: nothing is held where they are the same

	events []product.Event // in folding order, each once
}

func nowhere() window { return window{Span: mesh.Span{From: never, To: never}} }

func everywhere() window { return window{Span: mesh.Span{From: always, To: never}} }

// reaches reports whether a fold from t on can take its events here.
func (w *window) reaches(t mesh.Nanos) bool { return w.From <= t && t <= w.To }

// put takes sorted events that lie inside, each once, and says of each that it
// didn't have.
func (w *window) put(fresh []product.Event, isNew func(product.Event)) {
	if len(fresh) == 0 {
		return
	}
	at, _ := slices.BinarySearchFunc(w.events, fresh[0], product.Event.Compare)
	tail := slices.Clone(w.events[at:])
	w.events = w.events[:at]
	for len(tail) > 0 && len(fresh) > 0 {
		switch c := tail[0].Compare(fresh[0]); {
		case c < 0:
			w.events, tail = append(w.events, tail[0]), tail[1:]
		case c == 0:
			fresh = fresh[1:]
		default:
			isNew(fresh[0])
			w.events, fresh = append(w.events, fresh[0]), fresh[1:]
		}
	}
	for _, ev := range fresh {
		isNew(ev)
	}
	w.events = append(append(w.events, tail...), fresh...)
}

// extend takes all events there are from its end to another.
func (w *window) extend(loaded []product.Event, to mesh.Nanos) {
	w.events, w.To = append(w.events, sorted(loaded)...), to
}

// sorted puts events in folding order, each once.
func sorted(events []product.Event) []product.Event {
	slices.SortFunc(events, product.Event.Compare)
	return slices.CompactFunc(events, func(x, y product.Event) bool { return x.Compare(y) == 0 })
}

// from is the place of the first event at or after t.
func (w *window) from(t mesh.Nanos) int {
	k, _ := slices.BinarySearchFunc(w.events, t, func(x product.Event, t mesh.Nanos) int {
		if x.Time < t {
			return -1
		}
		return 1
	})
	return k
}

// end lets go of what is at or after t.
func (w *window) end(t mesh.Nanos) {
	if t >= w.To {
		return
	}
	w.events, w.To = w.events[:w.from(t)], max(w.From, t)
}

// begin lets go of what is before t.
func (w *window) begin(t mesh.Nanos) {
	if t <= w.From {
		return
	}
	w.events = slices.Clone(w.events[w.from(t):])
	w.From = min(t, w.To)
}

// lose lets go of a stretch, and with it of all on the shorter side of it.
func (w *window) lose(s mesh.Span) {
	switch {
	case w.Meet(s).Empty():
	case s.From > w.From:
		w.end(s.From)
	default:
		w.begin(s.To)
	}
}
