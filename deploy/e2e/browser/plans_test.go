package browser

import (
	"testing"
	"time"

	"github.com/chromedp/chromedp"
)

// The page says what is planned of each machine by that one's calendar: a break, a day
// without a shift, another zone.
func TestPage_SaysWhatIsPlannedOfEachMachine(t *testing.T) {
	h := newHub()
	of := func(line string) (out []any) {
		for _, k := range kinds {
			out = append(out, line+"-"+k)
		}
		return out
	}
	ends := noon.Add(43 * time.Minute)
	site := everyDay("Europe/Vienna", of("line1")[1:])
	site["stops"] = append(site["stops"].([]any), stretch(noon.Add(-17*time.Minute), ends.Add(-30*time.Minute), ""))
	alone := object{"zone": "Europe/Vienna", "machines": of("line1")[:1], "stops": []any{}, "shifts": []any{stretch(noon.Add(-6*time.Hour), noon.Add(6*time.Hour+13*time.Minute), "long")}}
	pune := everyDay("Asia/Kolkata", of("line2"))
	monday := noon.Truncate(24 * time.Hour)
	// Nothing is planned from Saturday afternoon to Tuesday morning; on Tuesday somebody works.
	weekend := object{
		"zone": "Europe/Vienna", "machines": of("line3"), "stops": []any{stretch(monday.Add(-32*time.Hour), monday.Add(29*time.Hour), "")},
		"shifts": []any{stretch(monday.Add(-38*time.Hour), monday.Add(-32*time.Hour), "early"), stretch(monday.Add(29*time.Hour), monday.Add(37*time.Hour), "early")},
	}
	h.site["plans"] = []any{site, alone, pune, weekend}
	h.site["planned_through"] = stamp(noon.Add(42 * time.Hour)) // more than a page needs
	h.state("line1-capper", ago(40*time.Minute), nil, "operator")
	h.state("line1-filler", ago(40*time.Minute), nil, "operator") // has no break now
	h.state("line3-filler", ago(30*time.Hour), nil, "external")
	h.state("line3-capper", ago(70*time.Hour), nil, "no_order")
	h.state("line3-labeller", ago(40*time.Minute), nil, "failure")
	h.oee("line3-filler", "shift", object{"from": stamp(monday.Add(-38 * time.Hour)), "to": stamp(monday.Add(-32 * time.Hour)), "shift_id": "2026-02-28-early", "production_day": "2026-02-28"})
	ctx := look(t, h, "#line3-capper")

	says(ctx, t, "bar", "Early shift until 14:00", "Break until 13:00")
	says(ctx, t, "machine-line1-capper", "Break", "for 17 min: planned break")
	says(ctx, t, "machine-line1-filler", "Stopped", "for 40 min", "Long shift until 19:00")
	silentOn(ctx, t, "machine-line1-filler", "Break")
	silentOn(ctx, t, "machine-line1-labeller", "shift until") // its line's are the site's
	says(ctx, t, "line-line2", "17:17 Kolkata time", "Early shift until 18:30")
	says(ctx, t, "machine-line2-filler", "OEE early shift so far", "This hour")
	says(ctx, t, "line-line3", "Planned stop until Tue 3 Mar 06:00")
	silentOn(ctx, t, "line-line3", "Break", "shift until")
	says(ctx, t, "machine-line3-filler", "Planned stop", "for 1 d 6 h: nothing is planned until Tue 3 Mar 06:00", "OEE early shift, Sat 28 Feb")
	says(ctx, t, "machine-line3-capper", "Planned stop", "for 1 d 19 h") // not since it has no order
	says(ctx, t, "machine-line3-labeller", "Fault")
	counts := says(ctx, t, "counts", "1 on break", "2 in a planned stop", "1 with a fault", "1 stopped")
	t.Log(counts)
	// What a machine rested before the stop began is none of it.
	says(ctx, t, "detail", "What stopped it most")
	run(ctx, t, chromedp.Evaluate[string](`[...document.querySelectorAll('.choice button')].find((b) => b.innerText === '48 h').click() ?? ''`))
	says(ctx, t, "detail", "Planned stop", "No order", "no shift")
	shoot(ctx, t, "plans-desk")
	run(ctx, t, chromedp.EmulateViewport(390, 844))
	shoot(ctx, t, "plans-phone")
	if wide := run(ctx, t, chromedp.Evaluate[int](`document.documentElement.scrollWidth`)); wide > 390 {
		t.Errorf("the page is %d wide on a phone", wide)
	}

	// What is planned is asked for anew before it runs out, without a word from the hub.
	run(ctx, t, chromedp.EmulateViewport(1280, 900))
	h.set(func() { h.site["planned_through"] = stamp(noon.Add(time.Hour)) })
	says(ctx, t, "machine-line3-filler", "Planned stop")
	h.mu.Lock()
	h.site["plans"] = []any{site}
	h.mu.Unlock()
	says(ctx, t, "machine-line3-filler", "Waiting")
}

// A gateway that is switched off for the weekend is planned, one that fell silent while the
// machine was to work is missing, and where all are off the page doesn't cry for it.
func TestPage_TellsPlannedFromMissing(t *testing.T) {
	h := newHub()
	monday := noon.Truncate(24 * time.Hour)
	weekend := func(line string, began time.Time) object {
		var of []any
		for _, k := range kinds {
			of = append(of, line+"-"+k)
		}
		return object{
			"zone": "Europe/Vienna", "machines": of, "stops": []any{stretch(began, monday.Add(29*time.Hour), "")},
			"shifts": []any{stretch(began.Add(-8*time.Hour), began, "late"), stretch(monday.Add(29*time.Hour), monday.Add(37*time.Hour), "early")},
		}
	}
	off := noon.Add(-10 * time.Hour)
	h.site["plans"] = []any{object{"zone": "Europe/Vienna", "machines": []any{}, "stops": []any{}, "shifts": []any{}}, weekend("line1", off), weekend("line2", off), weekend("line3", off.Add(3*time.Hour))}
	for _, l := range []string{"line1", "line2", "line3"} {
		for _, k := range kinds {
			h.state(l+"-"+k, ago(20*time.Hour), nil, "operator")
		}
	}
	h.state("line1-capper", ago(11*time.Hour), nil, "failure")
	// The gateways of two lines went off five minutes before their stop began, that of the third two hours before its.
	h.sources = []source{{"line1-opcua", 10*time.Hour + 5*time.Minute, true}, {"line2-opcua", 10*time.Hour + 5*time.Minute, true}, {"line3-opcua", 9*time.Hour + 5*time.Minute, true}}
	h.state("line1-filler", ago(10*time.Hour+5*time.Minute), nil, "operator") // at the very instant
	h.state("line2-filler", ago(10*time.Hour+5*time.Minute), nil, "unknown")
	ctx := look(t, h, "#line1-filler")

	for _, m := range []string{"line1-filler", "line2-capper", "line2-filler"} {
		says(ctx, t, "machine-"+m, "Planned stop", "for 10 h 00 min: nothing is planned until Tue 3 Mar 06:00; not heard since 02:4")
		silentOn(ctx, t, "machine-"+m, "No data")
	}
	says(ctx, t, "machine-line1-capper", "No data") // it had a fault when it was heard last
	says(ctx, t, "machine-line3-filler", "No data", "since 03:4")
	says(ctx, t, "attention", "Needs a look", "3filler", "1capper")
	silentOn(ctx, t, "attention", "2filler")
	says(ctx, t, "bar", "No machine is heard") // of some machines it is missed
	says(ctx, t, "detail", "Planned stop")
	shoot(ctx, t, "planned-and-missing")

	h.state("line1-capper", ago(11*time.Hour), nil, "operator")
	h.set(func() { h.site["plans"] = append(h.site["plans"].([]any)[:3], weekend("line3", off)) })
	says(ctx, t, "bar", "Planned stop: no machine is heard")
	says(ctx, t, "counts", "12 in a planned stop")
	silentOn(ctx, t, "attention", "Needs a look")
	shoot(ctx, t, "planned-all")
}

// A machine that is registered and whose source never said anything is missed by nobody yet;
// one whose source is heard, and says nothing of it, is.
func TestPage_NotHeardYetIsNotMissing(t *testing.T) {
	h := newHub()
	lines := h.site["lines"].([]any)
	lines[2].(object)["machines"] = append(lines[2].(object)["machines"].([]any),
		object{"id": "line3-new", "name": "3new", "kind": "filler", "source": "plc-9"}, object{"id": "line3-mute", "name": "3mute", "kind": "filler", "source": "line3-opcua"})
	h.sources = []source{{"line1-opcua", 0, false}, {"line2-opcua", 0, false}, {"line3-opcua", 0, false}}
	ctx := look(t, h, "")
	says(ctx, t, "machine-line3-new", "Not heard yet", "Its source has said nothing so far")
	silentOn(ctx, t, "machine-line3-new", "No data")
	says(ctx, t, "machine-line3-mute", "No data")
	says(ctx, t, "attention", "Needs a look", "3mute", "12 running, 1 without data, 1 not heard yet")
	silentOn(ctx, t, "attention", "3new")
	shoot(ctx, t, "not-heard-yet")
}
