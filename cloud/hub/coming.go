package hub

import (
	"math"
	"reflect"
	"slices"
	"time"

	"plantmesh/cloud/product"
	"plantmesh/cloud/registry/desk"
	"plantmesh/cloud/registry/plant"
	"plantmesh/proto/mesh"
)

// mostAhead is how long before it holds a calendar can be registered.
const mostAhead = 366 * 24 * time.Hour

// current is the site as it is at this instant of the plant. The products need no such
// turn: they look at the event times of what they fold.
func (l *siteLog) current() *siteNow {
	for {
		is := l.is.Load()
		if is == nil || is.until == math.MaxInt64 || l.now() < is.until {
			return is
		}
		next := *is
		if err := next.at(l.now()); err != nil { // it was read once, when it was registered
			l.log.Error("what was registered for now can't be read, the site stays as it was", "reason", err.Error())
			return is
		}
		if l.is.CompareAndSwap(is, &next) { // else somebody else did, or has changed it
			l.log.Info("what was registered for this time holds now", "from", is.until.String(), "version", next.register.Version)
			return &next
		}
	}
}

// at has it be the site of an instant.
func (is *siteNow) at(now mesh.Nanos) (err error) {
	all, i := is.sites.Revisions(), is.sites.Index(now)
	is.site, is.until = all[i].Site, math.MaxInt64
	if _, is.register, err = plant.Split(all[i].Text()); err != nil || i+1 == len(all) {
		return err
	}
	_, newest, err := plant.Split(all[len(all)-1].Text())
	is.register.Version, is.until = newest.Version, all[i+1].From
	return err
}

// turn is an instant at which calendars change that is still to come.
type turn struct {
	from     mesh.Nanos
	site     *product.Site
	was, now plant.Register
}

// turns are those behind an instant, in time order.
func (is *siteNow) turns(after mesh.Nanos) (out []turn, err error) {
	all := is.sites.Revisions()
	for i := 1; i < len(all); i++ {
		if all[i].From <= after || all[i].From < is.until {
			continue
		}
		t := turn{from: all[i].From, site: all[i].Site}
		if _, t.was, err = plant.Split(all[i-1].Text()); err != nil {
			return nil, err
		}
		if _, t.now, err = plant.Split(all[i].Text()); err != nil {
			return nil, err
		}
		out = append(out, t)
	}
	return out, nil
}

// changes reports whether a calendar is another from then on, comes or ends.
func (t *turn) changes(id string) bool {
	return !reflect.DeepEqual(t.was.Calendar(id), t.now.Calendar(id))
}

// stays says until when a calendar that is set holds: up to the instant at which another
// one with its id is registered to begin.
func stays(turns []turn, set []plant.Calendar) map[string]mesh.Nanos {
	out := map[string]mesh.Nanos{}
	for _, c := range set {
		if i := slices.IndexFunc(turns, func(t turn) bool { return t.changes(c.ID) }); i >= 0 {
			out[c.ID] = turns[i].from
		}
	}
	return out
}

// before is a change without the calendars that hold no longer at an instant.
func before(d plant.Delta, until map[string]mesh.Nanos, at mesh.Nanos) plant.Delta {
	d.Calendars = slices.DeleteFunc(slices.Clone(d.Calendars), func(c plant.Calendar) bool {
		end, ends := until[c.ID]
		return ends && end <= at
	})
	return d
}

// differs takes the calendars and machines out of a change that are so already, in each
// revision behind an instant: what is so today may have been otherwise last week.
func (is *siteNow) differs(d *plant.Delta, from mesh.Nanos, until map[string]mesh.Nanos) error {
	if len(d.Calendars)+len(d.Put) == 0 {
		return nil
	}
	all, differ, other := is.sites.Revisions(), map[string]bool{}, map[string]bool{}
	for i := max(is.sites.Index(from), 0); i < len(all); i++ {
		_, r, err := plant.Split(all[i].Text())
		if err != nil {
			return err
		}
		for _, c := range before(*d, until, max(all[i].From, from)).Calendars {
			was := r.Calendar(c.ID)
			differ[c.ID] = differ[c.ID] || was == nil || !reflect.DeepEqual(*was, c)
		}
		for _, m := range d.Put {
			was := r.Find(m.ID)
			other[m.ID] = other[m.ID] || was == nil || len(plant.Fields(*was, m)) > 0
		}
	}
	d.Put = slices.DeleteFunc(slices.Clone(d.Put), func(m plant.Machine) bool { return !other[m.ID] })
	d.Calendars = slices.DeleteFunc(slices.Clone(d.Calendars), func(c plant.Calendar) bool { return !differ[c.ID] })
	return nil
}

// coming are the calendars that are registered and don't hold yet.
func (is *siteNow) coming() (out []desk.Coming, err error) {
	turns, err := is.turns(math.MinInt64)
	for _, t := range turns {
		var ids []string
		for _, c := range slices.Concat(t.was.Calendars, t.now.Calendars) {
			if t.changes(c.ID) {
				ids = append(ids, c.ID)
			}
		}
		slices.Sort(ids)
		for _, id := range slices.Compact(ids) {
			out = append(out, t.coming(id))
		}
	}
	return out, err
}

// coming is what becomes of a calendar then.
func (t *turn) coming(id string) desk.Coming {
	c := t.now.Calendar(id)
	x := desk.Coming{ValidFrom: fromText(t.from), Ends: c == nil}
	if c == nil {
		c = t.was.Calendar(id)
	}
	x.Calendar = *c
	zone := t.site.Calendar.Zone()
	if own, err := time.LoadLocation(c.Zone); err == nil && c.Zone != "" {
		zone = own
	}
	x.Begins = t.from.Time().In(zone).Format("Mon 2006-01-02 15:04")
	for i := range t.site.Equipment {
		if e := t.site.Equipment[i].ID; t.site.CalendarID(e) == id { // of none where it ends
			x.Cuts = append(x.Cuts, e)
		}
	}
	return x
}
