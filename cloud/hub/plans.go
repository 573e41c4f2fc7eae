package hub

import (
	"time"

	porthttp "plantmesh/cloud/port/http"
	"plantmesh/cloud/product"
	"plantmesh/proto/mesh"
)

// So far around now reaches what plans say: the page shows two days, and says how long a
// week without a shift lasts.
const (
	plansBack    = 50 * time.Hour
	plansForward = 8 * 24 * time.Hour
)

func (h *hub) plans() porthttp.Plans { return h.plansAt(h.now()) }

// plansAt are what is planned around an instant, by the cuts that rows are made by.
func (h *hub) plansAt(now mesh.Nanos) porthttp.Plans {
	is := h.sites.current()
	span := mesh.Span{From: now.Add(-plansBack), To: now.Add(plansForward)}
	out := porthttp.Plans{From: product.TimeText(span.From), Through: product.TimeText(span.To)}
	cuts, at := is.sites.Cuts(), map[*product.Sites]int{}
	plan := func(sites *product.Sites, equipment string) *porthttp.Plan {
		i, ok := at[sites]
		if !ok {
			i = len(out.Plans)
			at[sites] = i
			out.Plans = append(out.Plans, planOf(sites, span))
			p := &out.Plans[i]
			p.Calendar, p.Zone = is.site.CalendarID(equipment), is.site.CalendarOf(equipment).Zone().String()
		}
		return &out.Plans[i]
	}
	plan(is.sites, "") // of nobody in particular
	for i := range is.site.Equipment {
		id := is.site.Equipment[i].ID
		sites := cuts[id]
		if sites == nil {
			sites = is.sites
		}
		p := plan(sites, id)
		p.Machines = append(p.Machines, id)
	}
	return out
}

func planOf(sites *product.Sites, span mesh.Span) porthttp.Plan {
	stop := func(s mesh.Span) porthttp.PlannedStop {
		return porthttp.PlannedStop{From: product.TimeText(s.From), To: product.TimeText(s.To)}
	}
	p := porthttp.Plan{Machines: []string{}, Shifts: []porthttp.PlannedShift{}, Stops: []porthttp.PlannedStop{}}
	for _, w := range sites.Windows(product.WindowShift, span) {
		p.Shifts = append(p.Shifts, porthttp.PlannedShift{ShiftID: w.ShiftID, PlannedStop: stop(w.Span)})
	}
	for _, s := range sites.Stops(span) {
		p.Stops = append(p.Stops, stop(s))
	}
	return p
}
