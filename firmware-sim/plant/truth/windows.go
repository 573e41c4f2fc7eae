package truth

import (
	"cmp"
	"slices"
	"time"

	"plantmesh/firmware-sim/plant"
)

// window is an hour (UTC), a shift or a production day (local).
type window struct {
	Span

	kind  string
	shift string // shift id, empty for a day
	day   string // production day
}

// windows are all that touch [k0, p).
func windows(k0, p int64, zone *time.Location) (out []window) {
	first := time.Unix(0, k0).In(zone).AddDate(0, 0, -2)
	var shifts, days []window
	for d := first; d.UnixNano() < p+int64(48*time.Hour); d = d.AddDate(0, 0, 1) {
		y, m, day := d.Date()
		name := time.Date(y, m, day, 12, 0, 0, 0, zone).Format("2006-01-02")
		days = append(days, window{Span{
			plant.DayStart.At(y, m, day, zone).UnixNano(), plant.DayStart.At(y, m, day+1, zone).UnixNano(),
		}, "day", "", name})
		for _, s := range plant.Shifts() {
			end := day
			if s.To <= s.From {
				end++
			}
			shifts = append(shifts, window{Span{
				s.From.At(y, m, day, zone).UnixNano(), s.To.At(y, m, end, zone).UnixNano(),
			}, "shift", name + "-" + s.Name, name})
		}
	}
	for h := k0 - k0%int64(time.Hour); h < p; h += int64(time.Hour) {
		of := shifts[slices.IndexFunc(shifts, func(s window) bool { return s.From <= h && h < s.To })]
		out = append(out, window{Span{h, h + int64(time.Hour)}, "hour", of.shift, of.day})
	}
	for _, w := range slices.Concat(shifts, days) {
		if w.From < p && w.To > k0 {
			out = append(out, w)
		}
	}
	slices.SortStableFunc(out, func(a, b window) int { return cmp.Compare(a.From, b.From) })
	return out
}

// pauses are the planned breaks that touch a stretch.
func pauses(s Span, zone *time.Location) (out []Span) {
	for d := time.Unix(0, s.From).In(zone).AddDate(0, 0, -1); d.UnixNano() < s.To+int64(24*time.Hour); d = d.AddDate(0, 0, 1) {
		y, m, day := d.Date()
		for _, b := range plant.Breaks() {
			if x := meet(s, Span{b.From.At(y, m, day, zone).UnixNano(), b.To.At(y, m, day, zone).UnixNano()}); x.To > x.From {
				out = append(out, x)
			}
		}
	}
	return out
}

func meet(a, b Span) Span { return Span{max(a.From, b.From), min(a.To, b.To)} }

// length of the part of a that lies in b.
func length(a, b Span) int64 {
	m := meet(a, b)
	return max(0, m.To-m.From)
}

// sums are what one window of one equipment adds up to. Times in nanoseconds.
type sums struct {
	elapsed       int64
	sourceUnknown int64 // before K0 and gaps
	unknown       int64 // the same and where the state isn't known
	planned       int64
	element       map[string]int64

	produced, scrap map[string]int64 // by product
	energy          float64
	resets          int64
	backwards       int64

	heard map[string]bool // counters that showed a value in known time
}

func (f *folded) sum(w window, zone *time.Location) *sums {
	s := &sums{element: map[string]int64{}, produced: map[string]int64{}, scrap: map[string]int64{}}
	past := Span{w.From, min(w.To, f.p)}
	s.elapsed = past.To - past.From
	s.sourceUnknown = s.elapsed
	for _, k := range f.of.known {
		s.sourceUnknown -= length(k, past)
	}
	s.unknown = length(past, Span{past.From, f.k0})
	s.heard = map[string]bool{}
	for role, t := range f.heard {
		for _, k := range f.of.known {
			s.heard[role] = s.heard[role] || length(k, Span{max(past.From, t), past.To}) > 0
		}
	}
	breaks := pauses(past, zone)
	for _, v := range f.during(past) {
		whole := length(v.Span, past)
		var planned int64
		for _, b := range breaks {
			planned += length(meet(v.Span, past), b)
		}
		s.planned += planned
		if !v.known {
			s.unknown += whole - planned
			continue
		}
		s.element[v.element] += whole - planned
	}
	for h := w.From; h < past.To; h += int64(time.Hour) {
		c := f.cells[h]
		if c == nil {
			continue
		}
		for p, n := range c.produced {
			s.produced[p] += n
		}
		for p, n := range c.scrap {
			s.scrap[p] += n
		}
		s.energy += c.energy
		s.resets += c.resets
		s.backwards += c.backwards
	}
	return s
}
