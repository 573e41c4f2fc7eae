package hub

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"plantmesh/cloud/audit"
	"plantmesh/cloud/product"
	"plantmesh/cloud/registry"
	"plantmesh/cloud/registry/desk"
	"plantmesh/cloud/registry/plant"
)

// fileCalendar is the site file's calendar, in the words of the register; nil: it has none.
func fileCalendar(site *product.Site) *plant.Calendar {
	if !site.FileCalendar() {
		return nil
	}
	c := &site.Calendar
	out := &plant.Calendar{ID: plant.FileCalendar, Zone: c.Zone().String(), ProductionDayStart: c.Start(), Holidays: c.Holidays()}
	for _, x := range c.Shifts() {
		out.Shifts = append(out.Shifts, plant.Shift{ID: x.ID, Start: x.Start, End: x.End, Days: x.Days})
	}
	for _, x := range c.Breaks() {
		out.Breaks = append(out.Breaks, plant.Stretch{Start: x.Start, End: x.End, Days: x.Days})
	}
	for _, x := range c.Stops() {
		out.Stops = append(out.Stops, plant.Stop{From: x.Start, To: x.End})
	}
	return out
}

// calendarID is the calendar of a machine; empty: none.
func calendarID(site *product.Site, machine string) string {
	if id := site.CalendarID(machine); id != "" || !site.FileCalendar() {
		return id
	}
	return plant.FileCalendar
}

// mayChange asks for each place where something changes: where it was and where it comes.
func mayChange(c desk.Change, site string, s plant.Scene, d plant.Delta) error {
	var at []string
	if len(d.Models) > 0 {
		at = append(at, site)
	}
	was := func(id string) {
		if m := s.Register.Find(id); m != nil {
			at = append(at, m.Location(site))
		}
	}
	for _, m := range d.Put {
		at = append(at, m.Location(site))
		was(m.ID)
	}
	for _, id := range d.Retire {
		was(id)
	}
	for _, x := range d.Calendars {
		at = append(at, s.Places(&x)...)
		if o := s.Register.Calendar(x.ID); o != nil {
			at = append(at, s.Places(o)...)
		}
	}
	for _, id := range d.Drop {
		if o := s.Register.Calendar(id); o != nil {
			at = append(at, s.Places(o)...)
		}
	}
	slices.Sort(at)
	for _, location := range slices.Compact(at) {
		if err := c.May(location); err != nil {
			return fmt.Errorf("%w: %w", desk.ErrMay, err)
		}
	}
	return nil
}

// actOf is a change for the record: one machine as it was and will be, several by their
// names.
func actOf(c desk.Change, is *siteNow, d plant.Delta, version int64, mark string) audit.Change {
	out := changeOf(registry.Act{Actor: c.By, Action: c.Action, Object: is.site.Name, Reason: c.Reason})
	revisions := is.sites.Revisions()
	out.Before = fmt.Sprintf("register %d, %s", is.register.Version, textMark(revisions[len(revisions)-1].Text()))
	out.After = fmt.Sprintf("register %d, %s", version, mark)
	var names []string
	for _, m := range d.Put {
		names = append(names, m.ID)
	}
	names = append(names, d.Retire...)
	switch {
	case len(names) == 1:
		id := names[0]
		if was := is.register.Find(id); was != nil {
			out.Object, out.Before = was.Location(is.site.Name), out.Before+": "+asText(*was, id)
		}
		if len(d.Put) == 1 {
			out.Object, out.After = d.Put[0].Location(is.site.Name), out.After+": "+asText(d.Put[0], id)
		}
	case len(names) > 1:
		out.After += ": " + strings.Join(names, " ")
	case len(d.Calendars)+len(d.Drop) > 0:
		calendarAct(&out, is, d)
	case len(d.Models) == 1:
		out.Object = is.site.Name + "/" + d.Models[0].Ref()
	}
	return out
}

// calendarAct is a change of a calendar for the record.
func calendarAct(out *audit.Change, is *siteNow, d plant.Delta) {
	ids := slices.Clone(d.Drop)
	for _, c := range d.Calendars {
		ids, out.After = append(ids, c.ID), out.After+": "+asText(c, c.ID)
	}
	for _, id := range ids {
		out.Object = is.site.Name + "/calendars/" + id
		if was := is.register.Calendar(id); was != nil {
			out.Before += ": " + asText(*was, id)
		}
	}
}

// asText is something as JSON, or else by its id.
func asText(v any, id string) string {
	b, err := json.Marshal(v)
	if err != nil {
		return id
	}
	return string(b)
}
