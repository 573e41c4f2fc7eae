package torture

import (
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"time"
)

// t03 says samples at impossible instants, backwards and twice: they are kept
// at the instant they name, one from the future is flagged, and none of them
// moves what is known. What no stamp can say becomes a void.
func t03(x *trial) {
	r := x.rig(options{unreadable: true, twice: 6})
	r.flow()
	now := time.Now()
	year := func(y int) time.Time { return time.Date(y, 1, 2, 3, 4, 5, 0, time.UTC) }
	for _, f := range r.load.feeds {
		r.load.odd(f, 0, 1, year(1999), year(2085))
		if f.kind != "mqtt" { // there a number outside 1990 to 2100 is taken for one in another unit
			r.load.odd(f, 0, 1, time.UnixMilli(1), year(1970), year(2185), year(2250))
		}
		r.load.odd(f, 1, 2, now.Add(-90*time.Second), now.Add(-80*time.Second), now.Add(48*time.Hour))  // twice
		r.load.odd(f, 2, 1, now.Add(-70*time.Second), now.Add(-3*time.Hour), now.Add(-80*24*time.Hour)) // backwards
		if broker, ok := f.server.(interface{ Inject(string, []byte) }); ok {
			topic := fmt.Sprintf("plant/%s/%s", f.line, machine)
			for _, ts := range []string{"1", "-11644473600000", "253402300799000", "1e300", `"yesterday"`, "null"} {
				broker.Inject(topic, []byte(`{"ts":`+ts+`,"n03":1}`))
			}
		}
	}
	r.flow()
	pause(time.Second)
	if k := r.known(); k.After(time.Now().Add(time.Minute)) {
		x.Errorf("a stamp of the future moved what is known to %s", k)
	}
	r.settle()
	for _, s := range r.o.sources {
		flagged, all := 0, ""
		err := r.lines("signals", url.Values{"equipment": {s.equipment()}, "from": {now.Add(24 * time.Hour).UTC().Format(time.RFC3339)}, "to": {"2262-01-01T00:00:00Z"}}, func(b []byte) error {
			if strings.Contains(string(b), `"suspect"`) {
				flagged++
			}
			all += string(b) + "\n"
			return nil
		})
		want := map[string]int{"opcua": 4, "mqtt": 2}[s.kind]
		if err != nil || flagged != want {
			x.Errorf("%d samples of %s from the future are flagged, want %d: %v\n%s", flagged, s.id, want, err, all)
		}
	}
	for _, p := range []string{"coverage", "equipment-state"} {
		err := r.lines(p, url.Values{}, func(b []byte) error {
			var row struct {
				From time.Time
				To   *time.Time
			}
			err := json.Unmarshal(b, &row)
			if err == nil && row.To != nil && row.To.Before(row.From) {
				x.Errorf("%s has a row that ends before it begins: %s", p, b)
			}
			return err
		})
		if err != nil {
			x.Error(err)
		}
	}
	if out, err := asked(r.edge.path, "status", "--json", "--config", r.path("edge/edge.yaml")); err != nil || !strings.Contains(out, `"unreadable"`) {
		x.Errorf("the agent says nothing of stamps it can't read: %v", err)
	}
}

// t06 cuts the link for 72 hours of the plant's time, after windows before it
// were closed. What comes then is put where it belongs: every hour is final and
// counts what was made in it.
func t06(x *trial) {
	const every = 9 * time.Second // below the longest silence between two heartbeats
	var specs []sourceSpec
	for _, s := range defaultSources() {
		s.roles, s.signals, s.every = []string{"state", "mode", "produced"}, 3, time.Second
		s.value = func(role string, round uint64) int64 {
			return map[string]int64{"state": 6, "mode": 1, "produced": int64(round)}[role]
		}
		specs = append(specs, s)
	}
	r := x.rig(options{held: true, sources: specs})
	now := time.Now()
	begin := now.Add(-75 * time.Hour).Truncate(time.Hour)
	cut := begin.Add(now.Add(-72 * time.Hour).Sub(begin).Truncate(every)) // one grid before and after
	r.load.backlog(begin, cut, every)
	r.await("the time before the outage is in the products", settleWithin, func() bool { return r.known().After(cut.Add(-2 * every)) })
	before := r.hours(x)
	r.link.Cut(true)
	r.load.backlog(cut, now, every)
	r.load.hold(false)
	r.await("the agent has all of it", time.Minute, func() bool { return r.load.waiting() < 1000 })
	r.link.Cut(false)
	r.mended(x)
	r.settle()
	hours := r.hours(x)
	last := now.Add(-time.Hour)
	closed, complete := 0, 0
	for key, h := range hours {
		if was, ok := before[key]; ok && was.Final {
			closed++
		}
		if !h.From.After(begin) || h.From.After(last.Truncate(time.Hour).Add(-time.Second)) {
			continue // the first hour has no count before it, the last ones are not over
		}
		complete++
		if want := int64(time.Hour / every); h.Count == nil || int64(*h.Count) != want || !h.Final || h.Unknown != 0 {
			x.Errorf("%s: %+v, want %d made, final, nothing unknown", key, h, want)
		}
	}
	if closed == 0 || complete < 2*70 {
		x.Errorf("%d hours were closed before, %d were compared: too little was tested", closed, complete)
	}
	x.note("%d hours compared, %d of them closed before", complete, closed)
}

// hour is a row of product production-rate.
type hour struct {
	From    time.Time `json:"from"`
	Count   *float64  `json:"produced_count"`
	Unknown float64   `json:"unknown_seconds"`
	Final   bool      `json:"is_final"`
}

func (r *rig) hours(x *trial) map[string]hour {
	x.Helper()
	out := map[string]hour{}
	err := r.lines("production-rate", url.Values{"window": {"hour"}}, func(b []byte) error {
		var row struct {
			hour

			Equipment string `json:"equipment"`
		}
		err := json.Unmarshal(b, &row)
		out[row.Equipment+" "+row.From.UTC().Format(time.RFC3339)] = row.hour
		return err
	})
	if err != nil {
		x.Fatal(err)
	}
	return out
}
