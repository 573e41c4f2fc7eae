package product

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"plantmesh/proto/mesh"
)

// calendarFile is a calendar in the site file, and in the hub's register.
type calendarFile struct {
	Zone               string      `json:"zone"`
	ProductionDayStart string      `json:"production_day_start"`
	Shifts             []shiftFile `json:"shifts"`
	Breaks             []breakFile `json:"breaks"`
	Holidays           []string    `json:"holidays"`
	Stops              []stopFile  `json:"stops"`
}

type shiftFile struct {
	ID    string   `yaml:"id" json:"id"`
	Start string   `yaml:"start" json:"start"`
	End   string   `yaml:"end" json:"end"`
	Days  []string `yaml:"days" json:"days"`
}

type breakFile struct {
	Start string   `yaml:"start" json:"start"`
	End   string   `yaml:"end" json:"end"`
	Days  []string `yaml:"days" json:"days"`
}

// stopFile is a planned stop that comes once, by local date and clock.
type stopFile struct {
	From string `yaml:"from" json:"from"`
	To   string `yaml:"to" json:"to"`
}

// registeredCalendar is a calendar of the register. Without lines and machines it is the
// site's.
type registeredCalendar struct {
	calendarFile

	ID       string   `json:"id"`
	Lines    []string `json:"lines"`
	Machines []string `json:"machines"`
}

func (x *registeredCalendar) ofSite() bool { return len(x.Lines)+len(x.Machines) == 0 }

// named is a calendar of the register.
type named struct {
	Calendar

	id string
}

// wrote says which parts of a calendar the site file has.
type wrote struct{ zone, rest bool }

// fileCalendar reads the site file's own calendar. A file without one is a site whose days
// are those of UTC, until one is registered.
func (s *Site) fileCalendar(fault faulty, f *siteFile) (err error) {
	x := calendarFile{f.Zone, f.ProductionDayStart, f.Shifts, f.Breaks, f.Holidays, f.Stops}
	s.wrote = wrote{x.Zone != "", x.ProductionDayStart != "" || len(x.Shifts)+len(x.Breaks)+len(x.Holidays)+len(x.Stops) > 0}
	var of *Calendar
	if !s.wrote.zone && !s.wrote.rest {
		of = &Calendar{zone: time.UTC, offsets: offsets(time.UTC)}
	}
	s.Calendar, err = readCalendar(fault, "$", &x, of, nil)
	return err
}

// readCalendar reads a calendar. What it doesn't say of its zone and of when its days start
// is as of another one; nil: there is none. What is known of a zone is taken from read,
// calendars by zone, as to find it takes a while.
func readCalendar(fault faulty, at string, x *calendarFile, of *Calendar, read map[string]*Calendar) (c Calendar, err error) {
	if of != nil {
		c = Calendar{zone: of.zone, offsets: of.offsets, start: of.start}
	}
	if same := read[x.Zone]; same != nil {
		c.zone, c.offsets = same.zone, same.offsets
	} else if of == nil || x.Zone != "" && x.Zone != of.zone.String() {
		zone, err := time.LoadLocation(x.Zone)
		if err != nil || x.Zone == "" {
			return c, fault(at+".zone", "%q is no IANA time zone such as Europe/Vienna", x.Zone)
		}
		c.zone, c.offsets = zone, offsets(zone)
	}
	if x.ProductionDayStart != "" {
		if c.start, err = parseClock(x.ProductionDayStart); err != nil {
			return c, fault(at+".production_day_start", "%v", err)
		}
	}
	if err = c.readShifts(fault, at, x.Shifts); err == nil {
		err = c.readBreaks(fault, at, x.Breaks)
	}
	if err == nil {
		err = c.readStops(fault, at, x)
	}
	return c, err
}

// Forms of what stands in a calendar once.
const (
	dateForm = "2006-01-02"
	stopForm = "2006-01-02T15:04"
)

// readStops reads what is planned not to be worked on single days.
func (c *Calendar) readStops(fault faulty, at string, x *calendarFile) error {
	for i, text := range x.Holidays {
		t, err := time.Parse(dateForm, text)
		if err != nil || t.Year() < 1971 || t.Year() > 2200 {
			return fault(fmt.Sprintf("%s.holidays[%d]", at, i), "%q is no date such as 2026-12-25", text)
		}
		if c.holidays == nil {
			c.holidays = map[date]bool{}
		}
		c.holidays[date{t.Year(), t.Month(), t.Day()}] = true
	}
	for i, y := range x.Stops {
		from, err := time.Parse(stopForm, y.From)
		to, err2 := time.Parse(stopForm, y.To)
		if err != nil || err2 != nil || !from.Before(to) || from.Year() < 1971 || to.Year() > 2200 {
			return fault(fmt.Sprintf("%s.stops[%d]", at, i), "a stop needs a from and a later to, such as 2026-12-24T14:00")
		}
		c.stops = append(c.stops, mesh.Span{From: c.instant(from), To: c.instant(to)})
	}
	return nil
}

// instant is when the clock of the zone shows what it shows here.
func (c *Calendar) instant(wall time.Time) mesh.Nanos {
	return c.at(date{wall.Year(), wall.Month(), wall.Day()}, clockTime(wall.Hour()*60+wall.Minute()))
}

func (c *Calendar) readShifts(fault faulty, at string, all []shiftFile) error {
	for i, x := range all {
		path := fmt.Sprintf("%s.shifts[%d]", at, i)
		from, to, err := clocks(x.Start, x.End)
		if err != nil || x.ID == "" {
			return fault(path, "a shift needs an id, a start and an end such as 06:00")
		}
		days, err := readDays(x.Days)
		if err == nil {
			err = c.addShift(shift{x.ID, from, to, days})
		}
		if err != nil {
			return fault(path, "%v", err)
		}
	}
	return nil
}

func (c *Calendar) addShift(s shift) (err error) {
	for _, o := range c.shifts {
		switch both := o.days & s.days; {
		case o.id != s.id || both == 0: // early on Saturdays may be another than early
		case both == everyDay:
			return fmt.Errorf("shift %q stands twice", s.id)
		default:
			return fmt.Errorf("shift %q stands twice on %s", s.id, strings.Join(both.words(), ", "))
		}
	}
	c.weekly = c.weekly || s.days != everyDay
	c.shifts, err = c.beside(c.shifts, s)
	return err
}

func (c *Calendar) readBreaks(fault faulty, at string, all []breakFile) error {
	for i, x := range all {
		path := fmt.Sprintf("%s.breaks[%d]", at, i)
		from, to, err := clocks(x.Start, x.End)
		if err != nil {
			return fault(path, "a break needs a start and an end such as 10:00")
		}
		days, err := readDays(x.Days)
		if err == nil {
			c.breaks, err = c.beside(c.breaks, shift{"", from, to, days})
		}
		if err != nil {
			return fault(path, "%v", err)
		}
	}
	return nil
}

// readCalendars reads those of the register: the site's first, of which others have what
// they don't say.
func (s *Site) readCalendars(fault faulty, all []registeredCalendar) error {
	for i := range all {
		if x := &all[i]; x.ofSite() {
			if err := s.takeCalendar(fault, x); err != nil {
				return err
			}
		}
	}
	read := map[string]*Calendar{}
	lines, machines := map[string]*named{}, map[string]*named{}
	for i := range all {
		x := &all[i]
		if x.ofSite() {
			continue
		}
		c, err := registeredOf(fault, x, &s.Calendar, read)
		if err == nil {
			read[c.zone.String()] = &c.Calendar
			err = claimed(fault, "line", lines, x.Lines, c)
		}
		if err == nil {
			err = claimed(fault, "machine", machines, x.Machines, c)
		}
		if err != nil {
			return err
		}
	}
	s.own = map[string]*named{}
	for _, e := range slices.Concat(s.Equipment, s.Planned) {
		if c := cmp.Or(machines[e.ID], lines[e.Line]); c != nil {
			s.own[e.ID] = c
		}
	}
	return nil
}

// takeCalendar has a calendar of the register be the site's.
func (s *Site) takeCalendar(fault faulty, x *registeredCalendar) error {
	switch {
	case s.siteCalendar != "":
		return fault("", "calendars %q and %q are both the site's: say which lines or machines one of them is of", s.siteCalendar, x.ID)
	case s.wrote.rest:
		return fault("", "the site's calendar stands in the site file, and calendar %q is registered as the site's, too: take production_day_start, shifts, breaks, holidays and stops out of the file, or say which lines or machines the other is of", x.ID)
	case s.wrote.zone && x.Zone != "" && x.Zone != s.Calendar.zone.String():
		return fault("", "the site file has zone %s, and calendar %q has %s: take it out of one of them", s.Calendar.zone, x.ID, x.Zone)
	}
	var of *Calendar
	if s.wrote.zone {
		of = &s.Calendar
	}
	c, err := registeredOf(fault, x, of, nil)
	if err != nil {
		return err
	}
	s.Calendar, s.siteCalendar = c.Calendar, x.ID
	return nil
}

func registeredOf(fault faulty, x *registeredCalendar, of *Calendar, read map[string]*Calendar) (*named, error) {
	said := func(_, format string, args ...any) error {
		return fault("", "calendar %q: %s", x.ID, fmt.Sprintf(format, args...))
	}
	c, err := readCalendar(said, "", &x.calendarFile, of, read)
	return &named{c, x.ID}, err
}

// claimed notes whose a calendar is: a line, or a machine, has one.
func claimed(fault faulty, what string, of map[string]*named, names []string, c *named) error {
	for _, name := range names {
		if o := of[name]; o != nil {
			return fault("", "%s %s is of calendar %q and of calendar %q: it has one", what, name, o.id, c.id)
		}
		of[name] = c
	}
	return nil
}

// CalendarOf is the calendar of an equipment: its own, its line's, or the site's.
func (s *Site) CalendarOf(equipment string) *Calendar {
	if c := s.own[equipment]; c != nil {
		return &c.Calendar
	}
	return &s.Calendar
}

// calendarSays is the calendar of an equipment in words, and whether it has shifts.
func (s *Site) calendarSays(equipment string) (says string, ok bool) {
	of, c := "", s.CalendarOf(equipment)
	if own := s.own[equipment]; own != nil {
		of = ", calendar " + own.id
	}
	switch {
	case len(c.shifts) > 0:
		return fmt.Sprintf("%d shifts%s", len(c.shifts), of), true
	case of != "":
		return "no shifts" + of, false
	}
	return "the site has no shifts", false
}

// noShifts is a machine's lack of them.
func (s *Site) noShifts(equipment string) Lack {
	says, _ := s.calendarSays(equipment)
	fix := "write shifts into the site file, or register a calendar: plantmesh calendars set"
	if c := s.own[equipment]; c != nil {
		fix = "give it shifts: plantmesh calendars set " + c.id
	}
	return Lack{strings.ReplaceAll(says, "no shifts, calendar ", "no shifts in calendar "), []string{"oee.shift_id", "production-rate.shift_id"}, fix}
}
