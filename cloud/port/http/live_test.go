package porthttp

import (
	"bufio"
	"context"
	"encoding/json"
	"log/slog"
	"math"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"plantmesh/cloud/port"
	"plantmesh/proto/mesh"
)

func TestLive_SendsProgressThenChangedRows(t *testing.T) {
	h, f := serve(t)
	srv := httptest.NewServer(h)
	defer srv.Close()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, srv.URL+"/api/v1/live", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := resp.Body.Close(); err != nil {
			t.Error(err)
		}
	}()
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, 1<<20)
	next := func(prefix string) string {
		t.Helper()
		for lines.Scan() {
			if rest, ok := strings.CutPrefix(lines.Text(), prefix); ok {
				return rest
			}
		}
		t.Fatalf("the feed ended before %q: %v", prefix, lines.Err())
		return ""
	}
	if e := next("event: "); e != "progress" {
		t.Fatalf("first event %q", e)
	}
	from := f.now.Time()
	f.mu.Lock()
	for range 3 { // three revisions in one moment go out as the last one
		f.put("equipment-state", mesh.Row{Entity: "line1-filler", Key: "k", From: f.now, State: mesh.RowProvisional},
			stateBody("line1", "line1-filler", from, time.Time{}, tuples()[1], from))
	}
	f.wakeLocked()
	f.mu.Unlock()
	if e := next("event: "); e != "rows" {
		t.Fatalf("second event %q", e)
	}
	var got struct {
		Product string
		Rows    []map[string]any
	}
	if err := json.Unmarshal([]byte(next("data: ")), &got); err != nil {
		t.Fatal(err)
	}
	if got.Product != "equipment-state" || len(got.Rows) != 1 || got.Rows[0]["packml_name"] != "Suspended" {
		t.Errorf("%+v", got)
	}
}

func TestFeed_SlowReaderFallsOut(t *testing.T) {
	f := newFeed(Deps{})
	for range ringFrames + 1 {
		f.pushLocked(event("rows", []byte("{}")))
	}
	if _, ok := f.after(0); ok {
		t.Error("a reader behind the ring got frames")
	}
	if n, ok := f.after(1); !ok || len(n.frames) != ringFrames {
		t.Errorf("%d frames, %v", len(n.frames), ok)
	}
	for range 4 {
		f.pushLocked(make(frame, ringBytes/2))
	}
	if len(f.ring) > 2 {
		t.Errorf("the ring holds %d large frames", len(f.ring))
	}
}

func TestFeed_FindsTheEndByReading(t *testing.T) {
	hub := newFake(noon())
	deps := hub.deps()
	deps.End = nil
	s := New(Config{}, deps, slog.New(slog.DiscardHandler)).server
	f := s.feed
	if _, _, err := f.join(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	for _, p := range deps.Catalogue {
		if want, err := hub.End(t.Context(), p.ID); err != nil || f.tails[p.ID] != want {
			t.Errorf("the tail of %s is %v, want %v (%v)", p.ID, f.tails[p.ID], want, err)
		}
	}
	hub.epoch = mesh.NewEpoch() // a hub that went back to a backup
	for _, rows := range hub.out {
		for i := range rows {
			rows[i].At.Epoch = hub.epoch
		}
	}
	f.pumped = time.Time{}
	if err := f.pump(t.Context(), s); err != nil || len(f.ring) == 0 || !strings.HasPrefix(string(f.ring[0]), "event: resync") {
		t.Errorf("readers were not told to ask anew: %v, %d frames", err, len(f.ring))
	}
}

// A machine that is registered is on the pages that are open: they ask anew.
func TestFeed_AnotherSiteIsToldToReaders(t *testing.T) {
	hub := newFake(noon())
	deps := hub.deps()
	version, site := int64(1), deps.Site
	deps.Site = func() SiteView { v := site(); v.Version = version; return v }
	s := New(Config{}, deps, slog.New(slog.DiscardHandler)).server
	if _, _, err := s.feed.join(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	for i, want := range []int{0, 0, 1, 1, 2} {
		if i == 2 || i == 4 {
			version++
		}
		s.feed.pumped = time.Time{}
		if err := s.feed.pump(t.Context(), s); err != nil {
			t.Fatal(err)
		}
		told := 0
		for _, f := range s.feed.ring {
			if strings.HasPrefix(string(f), "event: resync") {
				told++
			}
		}
		if told != want {
			t.Errorf("after %d looks %d readings anew are asked for, want %d", i+1, told, want)
		}
	}
}

// A page that is told how far a product is known has the rows that say so: where
// more rows wait than go into one frame, the word waits for the last of them.
func TestFeed_StandsBehindItsRows(t *testing.T) {
	hub := newFake(noon())
	hub.progress = hub.now.Add(-10 * time.Hour)
	s := New(Config{}, hub.deps(), slog.New(slog.DiscardHandler)).server
	f := s.feed
	next, _, err := f.join(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	pump := func() news {
		t.Helper()
		f.pumped = time.Time{}
		if err := f.pump(t.Context(), s); err != nil {
			t.Fatal(err)
		}
		n, ok := f.after(next)
		if !ok {
			t.Fatal("the reader fell behind")
		}
		next += uint64(len(n.frames))
		return n
	}
	if n := pump(); !n.stands["oee"].CatchingUp || n.behind {
		t.Fatalf("at first: %+v", n.stands["oee"])
	}
	from := hub.now.Time()
	for i := range 2*pumpRows + 1 {
		hub.put("oee", mesh.Row{Entity: "line1-filler", Key: strconv.Itoa(i), From: hub.now, State: mesh.RowProvisional},
			stateBody("line1", "line1-filler", from, time.Time{}, tuples()[1], from))
	}
	hub.progress, hub.now = hub.now, hub.now.Add(time.Second)
	for i := range 3 {
		n := pump()
		oee, last := n.stands["oee"], i == 2
		if len(n.frames) != 1 || n.behind == last || oee.CatchingUp == last || n.stands["coverage"].CatchingUp {
			t.Errorf("frame %d of 3: %d frames, more waits %v, oee catches up %v, coverage %v", i+1, len(n.frames), n.behind, oee.CatchingUp, n.stands["coverage"].CatchingUp)
		}
		if want := hub.now.Time().Format(port.Stamp); oee.PlantNow != want {
			t.Errorf("the state is of %s, now is %s", oee.PlantNow, want)
		}
	}
}

// While a fold takes several passes the sources are known further than the rows say:
// nobody is told more than the rows, neither at /status nor behind the rows of a pass.
func TestStatus_StandsWhereTheRowsDo(t *testing.T) {
	hub := newFake(noon())
	hub.progress = hub.now
	deps, stands := hub.deps(), hub.now.Add(-3*time.Hour)
	deps.Sources = func(context.Context, string) ([]SourceEnd, error) {
		return []SourceEnd{{"line1-opcua", hub.now}, {"line4-opcua", 0}}, nil
	}
	deps.Stands = func(_ context.Context, product string) (mesh.Nanos, error) {
		if product != "oee" {
			return math.MaxInt64, nil
		}
		return stands, nil
	}
	h := New(Config{}, deps, slog.New(slog.DiscardHandler))
	told := func(product string) mesh.Nanos {
		t.Helper()
		var st state
		if err := json.Unmarshal(get(t, h, "/api/v1/products/"+product+"/status").Body.Bytes(), &st); err != nil {
			t.Fatal(err)
		}
		if st.Progress == nil {
			return 0
		}
		at, err := time.Parse(port.Stamp, *st.Progress)
		if err != nil || st.CatchingUp != (hub.now.Sub(mesh.NanosOf(at)) > time.Minute) {
			t.Errorf("%s: %+v, %v", product, st, err)
		}
		return mesh.NanosOf(at)
	}
	for _, c := range []struct{ stands, want mesh.Nanos }{{stands, stands}, {math.MinInt64, 0}, {math.MaxInt64, hub.now}} {
		if stands = c.stands; told("oee") != c.want || told("coverage") != hub.now {
			t.Errorf("oee stands at %s and is told at %s, coverage at %s", c.stands, told("oee"), told("coverage"))
		}
	}

	s := h.server
	next, _, err := s.feed.join(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	// A pass withdraws rows after the feed has asked where the product stands, and before it reads them.
	hub.put("oee", mesh.Row{Entity: "line1-filler", Key: "hour/x", From: hub.now, State: mesh.RowWithdrawn}, map[string]any{})
	asked := 0
	s.deps.Stands = func(_ context.Context, product string) (mesh.Nanos, error) {
		if product != "oee" {
			return math.MaxInt64, nil
		}
		if asked++; asked == 1 {
			return math.MaxInt64, nil
		}
		return hub.now.Add(-time.Hour), nil
	}
	s.feed.pumped = time.Time{}
	if err := s.feed.pump(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	n, _ := s.feed.after(next)
	if st := n.stands["oee"]; len(n.frames) != 1 || st.through != hub.now.Add(-time.Hour) || !st.CatchingUp || n.stands["coverage"].CatchingUp {
		t.Errorf("behind %d frames oee is told at %s, coverage at %s", len(n.frames), st.through, n.stands["coverage"].through)
	}
}
