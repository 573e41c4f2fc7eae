package runner

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"plantmesh/cloud/product"
	"plantmesh/proto/mesh"
)

// threeDays makes something each hour.
func (b *bench) threeDays() { b.hours(0, 72) }

func (b *bench) hours(from, to int) {
	b.t.Helper()
	for i := from; i < to; i++ {
		at := time.Duration(i) * time.Hour
		b.hub.arrive(b.heard(at+time.Hour, b.sample(at, "state", mesh.Int(6)), b.sample(at, "product", mesh.Text("a")), b.sample(at, "produced", mesh.Int(int64(100*i)))), nil)
	}
	b.step()
}

// stand are the rows of a machine's OEE as they stand.
func (b *bench) stand(entity string) map[string]string {
	out := map[string]string{}
	for _, r := range b.out.log {
		if r.Product != "oee" || r.Entity != entity {
			continue
		}
		if out[r.Key] = string(r.Body); r.State == mesh.RowWithdrawn {
			delete(out, r.Key)
		}
	}
	return out
}

// A calendar that one machine gets from a day on leaves its rows of before as they are,
// and all of the others'; from there on they are those of a site that has that calendar.
func TestRunner_ACalendarFromADayOnLeavesWhatWasBefore(t *testing.T) {
	tuesday := mesh.NanosOf(time.Date(2026, 3, 3, 5, 0, 0, 0, time.UTC)) // 06:00 in Vienna
	days := strings.NewReplacer(`{id: early, start: "06:00", end: "14:00"}`, `{id: long, start: "07:00", end: "19:00"}`, "\n  - {id: late, start: \"14:00\", end: \"22:00\"}", "",
		"\n  - {id: night, start: \"22:00\", end: \"06:00\"}", "", `{start: "10:00", end: "10:30"}`, `{start: "12:00", end: "13:00"}`).Replace(oneSource())
	b := newBench(t, Config{Eager: true})
	b.threeDays()
	n, capper := len(b.out.log), b.stand("l1-capper")
	b.hub.siteFrom(tuesday, oneSource()+`registered: {"version": 1, "calendars": [{"id": "days", "zone": "Europe/Vienna", "production_day_start": "06:00", "shifts": [{"id": "long", "start": "07:00", "end": "19:00"}], "breaks": [{"start": "12:00", "end": "13:00"}], "machines": ["l1-filler"]}]}`+"\n")
	b.step()
	for _, r := range b.out.log[n:] {
		if r.Product == "oee" && (r.From < tuesday || r.Entity != "l1-filler") {
			t.Errorf("%s of %s is written again", r.Key, r.Entity)
		}
	}
	if !maps.Equal(capper, b.stand("l1-capper")) || len(capper) == 0 {
		t.Errorf("%d rows of the other machine have changed", len(capper))
	}
	other := newBench(t, Config{Eager: true})
	other.threeDays()
	other.hub.siteFrom(tuesday, days)
	other.step()
	got, want := b.stand("l1-filler"), other.stand("l1-filler")
	for _, key := range slices.Sorted(maps.Keys(want)) {
		if got[key] != want[key] {
			t.Errorf("%s is\n%s\nwant\n%s", key, got[key], want[key])
		}
	}
	if long := "shift/" + product.TimeText(tuesday.Add(time.Hour)); len(got) != len(want) || !strings.Contains(got[long], "2026-03-03-long") {
		t.Errorf("%d rows, want %d; of the long shift %s", len(got), len(want), got[long])
	}
}

// A calendar can be known before it holds: nothing is written of it until its time comes,
// then windows are cut by it, with or without a restart on the way, as if it had been
// registered at that instant.
func TestRunner_ACalendarThatIsStillToComeWaits(t *testing.T) {
	tuesday := mesh.NanosOf(time.Date(2026, 3, 3, 5, 0, 0, 0, time.UTC)) // 06:00 in Vienna
	later := oneSource() + `registered: {"version": 1, "calendars": [{"id": "days", "shifts": [{"id": "long", "start": "07:00", "end": "19:00", "days": ["tue"]}], "machines": ["l1-filler"]}]}` + "\n"
	hour := int(tuesday.Sub(start()) / time.Hour)
	want := newBench(t, Config{Eager: true})
	want.hours(0, 72)
	want.hub.siteFrom(tuesday, later)
	want.step()
	for _, restarts := range [][]int{nil, {hour - 10}, {hour - 1, hour + 1}} {
		b := newBench(t, Config{Eager: true})
		b.hours(0, hour-20)
		n := len(b.out.log)
		b.hub.siteFrom(tuesday, later)
		b.step()
		if len(b.out.log) != n {
			t.Errorf("restarts at %v: %d rows are written of what is still to come", restarts, len(b.out.log)-n)
		}
		at := hour - 20
		for _, next := range append(slices.Clone(restarts), 72) {
			b.hours(at, next)
			b.open(Config{Eager: true})
			at = next
		}
		b.step()
		got, all := b.stand("l1-filler"), want.stand("l1-filler")
		for _, key := range slices.Sorted(maps.Keys(all)) {
			if got[key] != all[key] {
				t.Errorf("restarts at %v: %s is\n%s\nwant\n%s", restarts, key, got[key], all[key])
			}
		}
		if long := "shift/" + product.TimeText(tuesday.Add(time.Hour)); len(got) != len(all) || !strings.Contains(got[long], "2026-03-03-long") {
			t.Errorf("restarts at %v: %d rows, want %d; of the long shift %s", restarts, len(got), len(all), got[long])
		}
		// What had ended before then was final, and is as it was.
		seen := map[string]string{}
		for _, r := range b.out.log {
			if r.Product != "oee" || r.Entity != "l1-filler" || r.To == 0 || r.To > tuesday || r.State != mesh.RowFinal {
				continue
			}
			if was, ok := seen[r.Key]; ok {
				t.Errorf("restarts at %v: %s was final as %s and is written again as %s", restarts, r.Key, was, r.Body)
			}
			seen[r.Key] = string(r.Body)
		}
		if len(seen) == 0 {
			t.Error("no row was final")
		}
	}
}
