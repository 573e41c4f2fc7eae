package product

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"

	"plantmesh/proto/mesh"
)

// Revision is a site's file and the event times it holds for.
type Revision struct {
	mesh.Span

	Site   *Site
	source []byte
}

// Sites are the revisions of a site along event time. It never changes once
// made; With makes another.
//
//	file       A                        │ B                    time ──►
//	samples    mapped by A              │ mapped by B
//	cells      A ······· the last of A ····│ B                 ideal rates, breaks
//	windows    A ······ the last of A ·············│ B         edges, everything else
//
// A cell or window under way when another file begins to hold ends as it was
// meant to, and the next begins where it ends: none is cut, none overlap.
type Sites struct {
	revisions []Revision // in time order, disjoint
	reigns    []reign
	gone      gone
	several   bool // some equipment has a calendar of its own

	transforms bool // some equipment's model has some
}

// gone are names of revisions that hold for no time any more. Their rows stand
// until somebody withdraws them.
type gone struct{ Equipment, Sources []string }

// reign is the stretch in which new cells are cut by one calendar.
type reign struct {
	from     mesh.Nanos // an edge of the calendar before
	calendar *Calendar
	// under says where the windows end that were under way at from.
	under map[WindowKind]mesh.Nanos
}

// NewSites are the revisions of a site that has always been this one.
func NewSites(s *Site) *Sites {
	return newSites([]Revision{{mesh.Span{From: math.MinInt64, To: math.MaxInt64}, s, nil}}, gone{})
}

// Text is the site file of a revision, with what the hub wrote behind it.
func (r *Revision) Text() []byte { return r.source }

// With is what holds once src holds for the stretch. since is the first
// instant at which something changes; ok is false where nothing does.
func (s *Sites) With(valid mesh.Span, src []byte) (next *Sites, since mesh.Nanos, ok bool, err error) {
	site, err := ParseSite("site", src)
	if err != nil || valid.Empty() {
		return s, 0, false, err
	}
	out := []Revision{{valid, site, src}}
	same, g := false, gone{}
	if s != nil {
		g = s.gone
		for _, r := range s.revisions {
			same = same || r.From <= valid.From && valid.To <= r.To && string(r.source) == string(src)
			before, after := r, r
			before.To, after.From = min(r.To, valid.From), max(r.From, valid.To)
			stays := false
			for _, part := range []Revision{before, after} {
				if !part.Empty() {
					out, stays = append(out, part), true
				}
			}
			if !stays {
				g = g.with(r.Site)
			}
		}
	}
	if same {
		return s, 0, false, nil
	}
	slices.SortFunc(out, func(x, y Revision) int {
		if x.From < y.From {
			return -1
		}
		return 1
	})
	return newSites(out, g), valid.From, true, nil
}

func (g gone) with(s *Site) gone {
	out := gone{slices.Clone(g.Equipment), slices.Concat(g.Sources, s.Sources())}
	for i := range s.Equipment {
		out.Equipment = append(out.Equipment, s.Equipment[i].ID)
	}
	slices.Sort(out.Equipment)
	slices.Sort(out.Sources)
	return gone{slices.Compact(out.Equipment), slices.Compact(out.Sources)}
}

func newSites(revisions []Revision, g gone) *Sites {
	s := &Sites{revisions: revisions, gone: g}
	calendars := make([]*Calendar, len(revisions))
	for i := range revisions {
		site := revisions[i].Site
		calendars[i], s.several = &site.Calendar, s.several || len(site.own) > 0
		s.transforms = s.transforms || site.derives
	}
	s.cut(calendars)
	return s
}

// cut has one calendar reign after the other, by revision.
func (s *Sites) cut(calendars []*Calendar) {
	for i, c := range calendars {
		from := s.revisions[i].From
		if i == 0 {
			s.reigns = []reign{{math.MinInt64, c, nil}}
			continue
		}
		last := &s.reigns[len(s.reigns)-1]
		if from <= last.from { // the one before never began a cell
			last.calendar = c
			continue
		}
		if under := s.cell(from); under.From != from {
			from = under.To
		}
		next := reign{from, c, map[WindowKind]mesh.Nanos{}}
		for _, kind := range []WindowKind{WindowHour, WindowShift, WindowDay} {
			next.under[kind] = from
			if w, ok := s.Window(kind, from-1); ok {
				next.under[kind] = max(from, w.To)
			}
		}
		s.reigns = append(s.reigns, next)
	}
}

// otherwise are the revisions as cut by other calendars than the site's.
type otherwise struct {
	calendars []*Calendar // by revision
	sites     *Sites
}

// Cuts are the revisions as the calendars of single equipment cut time, by its id; what
// isn't there has the site's.
func (s *Sites) Cuts() map[string]*Sites {
	if !s.several {
		return nil
	}
	out := map[string]*Sites{}
	var others []otherwise // machines of one line have the same ones
	for _, id := range s.Equipment() {
		calendars, other := make([]*Calendar, len(s.revisions)), false
		for i := range s.revisions {
			site := s.revisions[i].Site
			calendars[i] = site.CalendarOf(id)
			other = other || calendars[i] != &site.Calendar
		}
		if !other {
			continue
		}
		k := slices.IndexFunc(others, func(o otherwise) bool { return slices.Equal(o.calendars, calendars) })
		if k < 0 {
			v := &Sites{revisions: s.revisions, gone: s.gone}
			v.cut(calendars)
			k, others = len(others), append(others, otherwise{calendars, v})
		}
		out[id] = others[k].sites
	}
	return out
}

func (s *Sites) reign(t mesh.Nanos) *reign {
	i := len(s.reigns) - 1
	for i > 0 && t < s.reigns[i].from {
		i--
	}
	return &s.reigns[i]
}

// Revisions are what holds when, in time order.
func (s *Sites) Revisions() []Revision { return s.revisions }

// Index says which revision holds at t; before all it is the first.
func (s *Sites) Index(t mesh.Nanos) int {
	i := len(s.revisions) - 1
	for i > 0 && t < s.revisions[i].From {
		i--
	}
	return i
}

// Last is the site that holds from the last change on.
func (s *Sites) Last() *Site { return s.revisions[len(s.revisions)-1].Site }

// Equipment are the ids of all equipment there ever was, sorted.
func (s *Sites) Equipment() []string {
	all := map[string]bool{}
	for _, id := range s.gone.Equipment {
		all[id] = true
	}
	for _, r := range s.revisions {
		for i := range r.Site.Equipment {
			all[r.Site.Equipment[i].ID] = true
		}
	}
	return slices.Sorted(maps.Keys(all))
}

// Sources are the sources of all equipment there ever was, sorted.
func (s *Sites) Sources() []string {
	out := slices.Clone(s.gone.Sources)
	for _, r := range s.revisions {
		out = append(out, r.Site.Sources()...)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// Window is the window of a kind that t lies in: see Calendar. It is that of
// the site that holds at the window's beginning.
func (s *Sites) Window(kind WindowKind, t mesh.Nanos) (w Window, ok bool) {
	r := s.reign(t)
	under, changed := r.under[kind]
	if changed && t < under {
		return s.Window(kind, r.from-1)
	}
	if w, ok = r.calendar.Window(kind, t); ok && changed {
		w.From = max(w.From, under)
	}
	return w, ok
}

// Windows are the windows of a kind that meet span, in time order.
func (s *Sites) Windows(kind WindowKind, span mesh.Span) (out []Window) {
	for t := span.From; t < span.To; {
		if w, ok := s.Window(kind, t); ok && w.Has(t) {
			out = append(out, w)
			t = w.To
			continue
		}
		t = s.cell(t).To
	}
	return out
}

// cell is the cell t lies in.
func (s *Sites) cell(t mesh.Nanos) cell {
	r := s.reign(t)
	out := r.calendar.cell(t)
	if r.under == nil {
		return out
	}
	out.From = max(out.From, r.from)
	for _, edge := range r.under {
		if edge <= t {
			out.From = max(out.From, edge)
		} else {
			out.To = min(out.To, edge)
		}
	}
	return out
}

// Stops are what of a stretch is planned not to be worked, in time order; none touches
// another.
func (s *Sites) Stops(span mesh.Span) (out []mesh.Span) {
	for t := span.From; t < span.To; {
		c := s.cell(t)
		for _, b := range c.breaks {
			if part := b.Meet(c.Span).Meet(span); !part.Empty() {
				out = append(out, part)
			}
		}
		t = c.To
	}
	return mesh.Joined(out)
}

// HourEnd is the end of the hour t lies in, where cells of all calendars end.
func HourEnd(t mesh.Nanos) mesh.Nanos { return hourSpan(t).To }

// CellEnd is the end of the cell t lies in: the next instant at which a state is
// kept.
func (s *Sites) CellEnd(t mesh.Nanos) mesh.Nanos { return s.cell(t).To }

// CellBegin is the beginning of the cell t lies in.
func (s *Sites) CellBegin(t mesh.Nanos) mesh.Nanos { return s.cell(t).From }

// OpenCell is the cell a state stands in, so far.
func (s *Sites) OpenCell(st *State) Cell {
	return Cell{From: st.CellAt, To: s.cell(st.CellAt).To, Totals: st.Cell}
}

// Fold is Site.Fold, with the site that holds at each instant. At the instants
// in anew other signals begin to fill the registers: what these held is of
// something else, so they are empty until the new signals speak.
func (s *Sites) Fold(st *State, events []Event, known []mesh.Span, until mesh.Nanos, anew []mesh.Nanos) (out Trace) {
	for st.At < until {
		i, to := s.Index(st.At), until
		if i+1 < len(s.revisions) {
			to = min(to, s.revisions[i+1].From)
		}
		f := folder{site: s.revisions[i].Site, cellAt: s.cell, st: st, known: known}
		f.begin(events)
		if slices.Contains(anew, st.At) {
			f.forget()
		}
		for f.step(to) {
		}
		out.Intervals = append(out.Intervals, f.trace.Intervals...)
		out.Edges = append(out.Edges, f.trace.Edges...)
	}
	return out
}

// revisionState is a revision as it is stored.
type revisionState struct {
	From, To mesh.Nanos
	Source   []byte
}

type sitesState struct {
	Revisions []revisionState
	Gone      gone
}

// Encode is the revisions as bytes: canonical JSON.
func (s *Sites) Encode() ([]byte, error) {
	st := sitesState{Gone: s.gone}
	for _, r := range s.revisions {
		st.Revisions = append(st.Revisions, revisionState{r.From, r.To, r.source})
	}
	b, err := json.Marshal(st)
	if err != nil {
		return nil, fmt.Errorf("encode the site: %w", err)
	}
	return b, nil
}

// DecodeSites reads what Encode wrote.
func DecodeSites(b []byte) (*Sites, error) {
	var st sitesState
	if err := json.Unmarshal(b, &st); err != nil {
		return nil, fmt.Errorf("decode the site: %w", err)
	}
	out := make([]Revision, 0, len(st.Revisions))
	var p Parser
	for _, r := range st.Revisions {
		site, err := p.Parse("site", r.Source)
		if err != nil {
			return nil, err
		}
		out = append(out, Revision{mesh.Span{From: r.From, To: r.To}, site, r.Source})
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("decode the site: %w: it is empty", mesh.ErrPermanent)
	}
	return newSites(out, st.Gone), nil
}
