package product

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"plantmesh/proto/strict"
)

// weekdays are days of the week, as bits, Monday the lowest.
type weekdays uint8

const (
	oneWeek           = 7
	everyDay weekdays = 1<<oneWeek - 1
)

func dayNames() []string { return []string{"mon", "tue", "wed", "thu", "fri", "sat", "sun"} }

// on reports whether a date is one of them.
func (w weekdays) on(d date) bool {
	if w == everyDay {
		return true
	}
	day := time.Date(d.year, d.month, d.day, 12, 0, 0, 0, time.UTC).Weekday()
	return w.has((int(day) + oneWeek - 1) % oneWeek)
}

func (w weekdays) has(day int) bool { return w>>day&1 == 1 }

// readDays reads days and ranges of days, as mon and mon-fri; nil is every day.
func readDays(said []string) (out weekdays, err error) {
	if said == nil {
		return everyDay, nil
	}
	if len(said) == 0 {
		return 0, errors.New("days names no day: leave it out where every day is meant")
	}
	for _, x := range said {
		first, last, ranges := strings.Cut(x, "-")
		if !ranges {
			last = first
		}
		from, err := dayOf(first)
		if err != nil {
			return 0, err
		}
		to, err := dayOf(last)
		if err != nil {
			return 0, err
		}
		if ranges && from == to {
			return 0, fmt.Errorf("%q ends on the day that it begins with: write %s, or mon-sun", x, first)
		}
		for day := from; ; day = (day + 1) % oneWeek {
			out |= 1 << day
			if day == to {
				break
			}
		}
	}
	return out, nil
}

func dayOf(name string) (int, error) {
	names := dayNames()
	if day := slices.Index(names, name); day >= 0 {
		return day, nil
	}
	near := ""
	if n := strict.Nearest(strings.ToLower(name), names); n != "" {
		near = fmt.Sprintf("; did you mean %q?", n)
	}
	return 0, fmt.Errorf("%q is no day of the week, mon to sun, nor are two of them with a hyphen between, as mon-fri%s", name, near)
}

// words are they as readDays takes them; nil: every day.
func (w weekdays) words() (out []string) {
	if w == everyDay {
		return nil
	}
	names := dayNames()
	for from := 0; from < oneWeek; from++ {
		if !w.has(from) {
			continue
		}
		to := from
		for to+1 < oneWeek && w.has(to+1) {
			to++
		}
		switch to - from {
		case 0:
			out = append(out, names[from])
		case 1:
			out = append(out, names[from], names[to])
		default:
			out = append(out, names[from]+"-"+names[to])
		}
		from = to
	}
	return out
}

// meets says on which days two stretches lie over each other, each by the production day
// that it begins in; ok is false where they never do. What begins on Sunday may end on
// Monday.
func (c *Calendar) meets(a, b shift) (onA, onB int, ok bool) {
	const week = oneWeek * wholeDay
	begin := func(s shift, day int) clockTime {
		return clockTime(day)*wholeDay + (s.from-c.start+wholeDay)%wholeDay
	}
	for x := range oneWeek {
		for y := range oneWeek {
			if !a.days.has(x) || !b.days.has(y) {
				continue
			}
			p, q := begin(a, x), begin(b, y)
			if (q-p+week)%week < a.length() || (p-q+week)%week < b.length() {
				return x, y, true
			}
		}
	}
	return 0, 0, false
}

// beside puts a stretch of the day to the others. Time belongs to one of them at most, or
// sums would have it twice.
func (c *Calendar) beside(others []shift, s shift) ([]shift, error) {
	if s.from == s.to {
		return nil, fmt.Errorf("%s starts and ends at %s: leave it out, or end it later", s, s.from)
	}
	for _, o := range others {
		x, y, ok := c.meets(s, o)
		switch {
		case !ok:
		case s.days == everyDay && o.days == everyDay:
			return nil, fmt.Errorf("%s, %s to %s, overlaps %s, %s to %s", s, s.from, s.to, o, o.from, o.to)
		default:
			names := dayNames()
			return nil, fmt.Errorf("%s of %s, %s to %s, overlaps %s of %s, %s to %s", s, names[x], s.from, s.to, o, names[y], o.from, o.to)
		}
	}
	return append(others, s), nil
}
