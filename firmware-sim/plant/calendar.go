package plant

import (
	"fmt"
	"time"
)

// Zone is the IANA zone of the demo site.
const Zone = "Europe/Vienna"

// Clock is a local time of day in minutes after midnight.
type Clock int

// Break is a planned break, every day, in local time.
type Break struct{ From, To Clock }

// Shift is a shift, every day, in local time. To before From: it ends the next
// morning.
type Shift struct {
	Name     string
	From, To Clock
}

// DayStart is when a production day begins, in local time.
const DayStart Clock = 6 * 60

// Breaks are the planned breaks of the demo site, in the order of a
// production day.
func Breaks() []Break {
	return []Break{{10 * 60, 10*60 + 30}, {18 * 60, 18*60 + 30}, {2 * 60, 2*60 + 30}}
}

// Shifts are the shifts of the demo site, in the order of a production day.
func Shifts() []Shift {
	return []Shift{{"early", 6 * 60, 14 * 60}, {"late", 14 * 60, 22 * 60}, {"night", 22 * 60, 6 * 60}}
}

// At is the instant at which the wall clock of zone shows c on this date: the
// first one where it does so twice, the end of the skipped stretch where it
// never does. Days after the end of a month are days of the next one.
func (c Clock) At(year int, month time.Month, day int, zone *time.Location) time.Time {
	wall := time.Date(year, month, day, int(c)/60, int(c)%60, 0, 0, time.UTC)
	with := func(of time.Time) time.Time { // the offset that holds at of
		_, offset := of.In(zone).Zone()
		return wall.Add(-time.Duration(offset) * time.Second).In(zone)
	}
	shows := func(t time.Time) bool {
		_, offset := t.Zone()
		return t.Add(time.Duration(offset) * time.Second).Equal(wall)
	}
	before, after := with(wall.Add(-24*time.Hour)), with(wall.Add(24*time.Hour))
	switch {
	case shows(before):
		return before
	case shows(after):
		return after
	}
	end, _ := before.ZoneBounds() // the offset of before is too small by the stretch: it lies behind
	return end
}

// span is a stretch of plant time in milliseconds, [from, to).
type span struct{ from, to int64 }

// breaks walks the planned breaks forward.
type breaks struct {
	zone *time.Location
	next []span // what was computed and lies ahead, in time order
	day  time.Time
}

func newBreaks(start time.Time) (*breaks, error) {
	zone, err := time.LoadLocation(Zone)
	if err != nil {
		return nil, fmt.Errorf("load the site's zone: %w", err)
	}
	return &breaks{zone: zone, day: start.In(zone).AddDate(0, 0, -1)}, nil
}

// current is the break at or after ms; calls must not go back in time.
func (b *breaks) current(ms int64) span {
	for {
		for len(b.next) > 0 && b.next[0].to <= ms {
			b.next = b.next[1:]
		}
		if len(b.next) > 0 {
			return b.next[0]
		}
		y, m, d := b.day.Date()
		for _, p := range []Break{Breaks()[2], Breaks()[0], Breaks()[1]} { // 02:00 comes first in a calendar day
			b.next = append(b.next, span{p.From.At(y, m, d, b.zone).UnixMilli(), p.To.At(y, m, d, b.zone).UnixMilli()})
		}
		b.day = b.day.AddDate(0, 0, 1)
	}
}
