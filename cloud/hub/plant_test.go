package hub

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	porthttp "plantmesh/cloud/port/http"
	"plantmesh/cloud/product"
	"plantmesh/cloud/registry"
	"plantmesh/cloud/registry/desk"
	"plantmesh/cloud/registry/plant"
	"plantmesh/proto/mesh"
	"plantmesh/proto/subject"
	"plantmesh/proto/wire"
)

// put makes a change as somebody who may, and says what is wrong with it.
func put(t *testing.T, l *siteLog, validFrom string, machines ...plant.Machine) (desk.Changed, error) {
	t.Helper()
	return l.Change(t.Context(), desk.Change{
		By: registry.Actor{Who: "anna", Via: "cli"}, Action: "machine.add", ValidFrom: validFrom, May: func(string) error { return nil },
		Make: func(plant.Scene) (plant.Delta, error) { return plant.Delta{Put: machines}, nil },
	})
}

// A change holds from its instant on, in each revision behind it, and leaves what others
// say there; a hub that starts again finds all of it.
func TestSiteLog_AChangeIsMadeInEachRevisionBehindIt(t *testing.T) {
	folder := t.TempDir()
	path := folder + "/site.yaml"
	check(t, os.WriteFile(path, []byte(siteFile), 0o600))
	day := func(n int) mesh.Nanos { return mesh.NanosOf(time.Date(2026, 11, n, 0, 0, 0, 0, time.UTC)) }
	now := day(10)
	l := hubOf(t, folder, 0)
	l.now = func() mesh.Nanos { return now }
	_, _, err := l.load(t.Context(), path)
	check(t, err)
	one := plant.Machine{ID: "one", Line: "l", Source: "s", SignalsPrefix: "one."}
	_, err = put(t, l, "", one)
	check(t, err)
	now = day(20)
	moved := one
	moved.SignalsPrefix = "moved."
	_, err = put(t, l, "", moved)
	check(t, err)
	now = day(25)
	done, err := put(t, l, "2026-11-05T00:00:00Z", plant.Machine{ID: "two", Line: "l", Source: "s", SignalsPrefix: "two."})
	if err != nil || done.Version != 3 {
		t.Fatalf("%+v %v", done, err)
	}
	want := func(l *siteLog) {
		t.Helper()
		is := l.is.Load()
		for n, want := range map[int]string{4: "", 6: "two two.", 12: "one one. two two.", 21: "one moved. two two.", 26: "one moved. two two."} {
			var got []string
			site := is.sites.Revisions()[is.sites.Index(day(n))].Site
			for i := range site.Equipment[1:] {
				got = append(got, site.Equipment[i+1].ID, site.Equipment[i+1].Prefix)
			}
			if strings.Join(got, " ") != want {
				t.Errorf("on day %d: %q, want %s", n, got, want)
			}
		}
		if is.register.Version != 3 || len(is.site.Equipment) != 3 || is.site.Mapping(is.site.Find("two")) != "1.0.0+3" || is.site.Mapping(is.site.Find("one")) != "1.0.0+2" || is.site.Mapping(is.site.Find("m")) != "1.0.0" {
			t.Errorf("now: %+v", is.register)
		}
	}
	want(l)
	again := &siteLog{store: l.store, ingest: l.ingest, now: l.now, trail: l.trail, log: l.log}
	site, _, err := again.load(t.Context(), path)
	if err != nil || site.Find("one") == nil {
		t.Fatalf("started again: %v", err)
	}
	want(again)
	// The site file changes, too: what is registered stays, at each time as it was.
	check(t, os.WriteFile(path, []byte(siteFile+"min_coverage: 0.4\nvalid_from: \"2026-11-15T00:00:00Z\"\n"), 0o600))
	_, _, err = again.load(t.Context(), path)
	check(t, err)
	want(again)
	for n, share := range map[int]float64{14: 0.5, 16: 0.4, 21: 0.4} {
		if got := again.is.Load().sites.Revisions()[again.is.Load().sites.Index(day(n))].Site.MinCoverage; got != share {
			t.Errorf("on day %d the share is %v", n, got)
		}
	}
	// A file that takes a registered machine's name is refused in words, and nothing is
	// done.
	check(t, os.WriteFile(path, []byte(strings.Replace(siteFile, "id: m,", "id: one,", 1)), 0o600))
	if _, _, err := again.load(t.Context(), path); err == nil || !strings.Contains(err.Error(), `equipment "one" stands in the site file and is registered at the hub, too`) || !strings.Contains(err.Error(), path) {
		t.Errorf("%v", err)
	}
	check(t, os.WriteFile(path, []byte(siteFile+"registered: {}\n"), 0o600))
	if _, _, err := again.load(t.Context(), path); err == nil || !strings.Contains(err.Error(), "registered") {
		t.Errorf("%v", err)
	}
}

func TestSiteLog_ChangeIsRefusedInWords(t *testing.T) {
	folder := t.TempDir()
	path := folder + "/site.yaml"
	check(t, os.WriteFile(path, []byte(siteFile), 0o600))
	l := hubOf(t, folder, mesh.NanosOf(time.Date(2026, 11, 10, 0, 0, 0, 0, time.UTC)))
	_, _, err := l.load(t.Context(), path)
	check(t, err)
	good := plant.Machine{ID: "one", Source: "s", SignalsPrefix: "one."}
	for from, want := range map[string]string{"2026-11-11T00:00:00Z": "still to come", "tomorrow": "no instant"} {
		if _, err := put(t, l, from, good); !errors.Is(err, plant.ErrRefused) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", from, err)
		}
	}
	if _, err := put(t, l, "", plant.Machine{ID: "one", Source: "s", SignalsPrefix: "m."}); !errors.Is(err, plant.ErrRefused) || !strings.Contains(err.Error(), "m and one can't have the same signals") {
		t.Errorf("the signals of another: %v", err)
	}
	change := desk.Change{Action: "machine.add", By: registry.Actor{Who: "anna", Via: "cli"}, Version: new(int64(7)), May: func(string) error { return nil }, Make: func(plant.Scene) (plant.Delta, error) { return plant.Delta{Put: []plant.Machine{good}}, nil }}
	if _, err := l.Change(t.Context(), change); !errors.Is(err, plant.ErrVersion) {
		t.Errorf("another version: %v", err)
	}
	change.Version, change.May = nil, func(at string) error { return fmt.Errorf("not at %s", at) }
	if _, err := l.Change(t.Context(), change); !errors.Is(err, desk.ErrMay) || !strings.Contains(err.Error(), "not at graz/one") {
		t.Errorf("who may not: %v", err)
	}
	change.May, change.Dry = func(string) error { return nil }, true
	if done, err := l.Change(t.Context(), change); err != nil || done.Version != 1 {
		t.Errorf("a dry run: %+v %v", done, err)
	}
	if v := l.is.Load().register.Version; v != 0 || len(recordedFrom(t, l)) != 1 {
		t.Errorf("something was done: version %d", v)
	}
	for i := range mostPieces {
		now := l.now() + mesh.Nanos(i+1)
		l.now = func() mesh.Nanos { return now }
		m := good
		m.Name = strconv.Itoa(i)
		_, err := put(t, l, "", m)
		check(t, err)
	}
	good.ID, good.SignalsPrefix = "late", "late."
	if _, err := put(t, l, desk.Always, good); !errors.Is(err, plant.ErrRefused) || !strings.Contains(err.Error(), "64 times since") {
		t.Errorf("too far back: %v", err)
	}
}

// Changes come one after the other, each of the register that the one before left, while
// others read it.
func TestSiteLog_ChangesAtOnce(t *testing.T) {
	folder := t.TempDir()
	path := folder + "/site.yaml"
	check(t, os.WriteFile(path, []byte(siteFile), 0o600))
	l := hubOf(t, folder, mesh.NanosOf(time.Date(2026, 11, 10, 0, 0, 0, 0, time.UTC)))
	_, _, err := l.load(t.Context(), path)
	check(t, err)
	h := &hub{sites: l}
	var all sync.WaitGroup
	for who := range 6 {
		all.Go(func() {
			for i := range 4 {
				id := fmt.Sprintf("m%d-%d", who, i)
				if _, err := put(t, l, "", plant.Machine{ID: id, Line: "l", Source: "s", SignalsPrefix: id + "."}); err != nil {
					t.Error(err)
				}
				if v := h.view(); len(v.Lines) != 1 || len(v.Lines[0].Machines) != int(v.Version)+1 || h.lineOf(id) != "l" {
					t.Errorf("version %d has %d machines", v.Version, len(v.Lines[0].Machines))
				}
			}
		})
	}
	all.Wait()
	if r := l.is.Load().register; r.Version != 24 || len(r.Machines) != 24 {
		t.Errorf("version %d, %d machines", r.Version, len(r.Machines))
	}
}

// Whatever is registered makes a site that the products can read.
func TestRegister_IsASite(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 3))
	builtin, err := plant.Builtin()
	check(t, err)
	for range 300 {
		s := plant.Scene{Models: builtin, File: []plant.Machine{{ID: "m", Line: "l", Source: "s", SignalsPrefix: "m."}}}
		ids := map[string]bool{"m": true}
		for i := range 1 + rng.IntN(5) {
			m := plant.Machine{ID: "m" + strconv.Itoa(rng.IntN(5)), Line: "l" + strconv.Itoa(rng.IntN(2)), Source: []string{"", "s"}[rng.IntN(2)], Model: []string{"", "counter-machine@1.1.0"}[rng.IntN(2)], Name: "a\"b\\ü: {x}"}
			if m.Source != "" {
				m.SignalsPrefix = m.Line + ".m" + strconv.Itoa(i) + "."
				m.Signals = map[string]string{"state": "whole." + m.Line + strconv.Itoa(i)}
				m.States = map[string]int64{strconv.Itoa(-i): 6}
			}
			if d, err := s.Add(m); err == nil {
				keepModels(&d, s)
				s.Register, err = s.Register.Apply(d, int64(i+1))
				check(t, err)
				ids[m.ID] = true
			}
		}
		if d, err := s.Clone(plant.Cloning{From: "l1", To: "l2", Source: "other"}); err == nil {
			for _, m := range d.Put {
				original := s.Register.Find(strings.Replace(m.ID, "l2-", "", 1))
				if original == nil || len(m.Signals) != len(original.Signals) || (m.SignalsPrefix == "") != (original.SignalsPrefix == "") {
					t.Fatalf("a clone has other roles: %+v of %+v", m, original)
				}
				ids[m.ID] = true
			}
			s.Register, err = s.Register.Apply(d, 9)
			check(t, err)
		}
		text, err := plant.Merge([]byte(siteFile), s.Register)
		check(t, err)
		site, err := product.ParseSite("site", text)
		if err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		if n := len(site.Equipment) + len(site.Planned); n != len(ids) {
			t.Fatalf("%d machines, want %d", n, len(ids))
		}
	}
}

// tell has an agent's batch of a machine's signals be in the hub's log.
func tell(t *testing.T, h *hub, prefix string, from, to time.Time) {
	t.Helper()
	var table []mesh.Signal
	values := map[string]mesh.Value{"state": mesh.Int(6), "mode": mesh.Int(1), "product": mesh.Text("bracket"), "produced": mesh.Int(0), "scrap": mesh.Int(0)}
	var samples []mesh.Sample
	for i, role := range []string{"state", "mode", "product", "produced", "scrap"} {
		table = append(table, mesh.Signal{ID: uint32(i + 1), Name: prefix + role, Type: values[role].Type})
		samples = append(samples, mesh.Sample{Signal: uint32(i + 1), Time: mesh.NanosOf(from), Value: values[role], Agent: mesh.NanosOf(from)})
	}
	for i := 1; i <= 60; i++ {
		at := mesh.NanosOf(from.Add(to.Sub(from) * time.Duration(i) / 61))
		samples = append(samples, mesh.Sample{Signal: 4, Time: at, Value: mesh.Int(int64(i)), Agent: at})
	}
	hear(t, h, table, from, to, samples...)
}

// hear has an agent's batch be in the hub's log.
func hear(t *testing.T, h *hub, table []mesh.Signal, from, to time.Time, samples ...mesh.Sample) {
	t.Helper()
	d, err := wire.DescribeSignals(table)
	check(t, err)
	enc, err := wire.NewEncoder()
	check(t, err)
	sealed, err := enc.Seal(&mesh.Batch{Source: "saw", Table: d.Hash(), Proven: mesh.Span{From: mesh.NanosOf(from), To: mesh.NanosOf(to)}, Complete: mesh.NanosOf(to), Samples: samples})
	check(t, err)
	open, err := wire.SealOpening(mesh.Opening{})
	check(t, err)
	at := mesh.Position{Log: mesh.LogID(subject.AgentLog("graz", "gw-1")), Epoch: mesh.NewEpoch(), Seq: 1}
	next := at
	next.Seq = 2
	data := wire.AppendRecord(wire.AppendRecord(wire.AppendDescriptor(nil, d), mesh.Record{At: at, Sealed: open}), mesh.Record{At: next, Sealed: sealed})
	nc, err := dial(h, "gw-1", enrol(t, h, "gw-1"))
	check(t, err)
	defer nc.Close()
	js, err := jetstream.New(nc)
	check(t, err)
	until(t, 20*time.Second, "the stream is there", func() bool {
		within, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := js.Publish(within, subject.Ingest("graz", "gw-1", subject.Live), data, jetstream.WithRetryAttempts(0))
		return err == nil
	})
}

// asks is how the hub is asked over HTTP, on its own machine: what it has to answer with, and
// what is read out of that.
func asks(t *testing.T, h *hub) func(method, target, body string, want int, out any) {
	t.Helper()
	srv, err := h.web(porthttp.New(porthttp.Config{AnyHost: true}, h.deps(), h.log))
	check(t, err)
	return func(method, target, body string, want int, out any) {
		t.Helper()
		r := httptest.NewRequestWithContext(t.Context(), method, target, strings.NewReader(body))
		r.Host = "localhost"
		w := httptest.NewRecorder()
		srv.Handler.ServeHTTP(w, r)
		if w.Code != want || out != nil && json.Unmarshal(w.Body.Bytes(), out) != nil {
			t.Fatalf("%s %s: %d %s", method, target, w.Code, w.Body)
		}
	}
}

// While the hub runs, a machine in the inbox is approved; its rows are there from
// valid_from on, the page knows it, and after a restart it is still there.
func TestRegister_AMachineOutOfTheInbox(t *testing.T) {
	h := opened(t)
	ask := asks(t, h)
	from := time.Now().UTC().Truncate(time.Hour).Add(-3 * time.Hour)
	tell(t, h, "line2.saw.", from, from.Add(2*time.Hour))
	var inbox struct {
		Data []desk.Candidate `json:"data"`
	}
	until(t, 10*time.Second, "the saw is in the inbox", func() bool {
		ask(http.MethodGet, "/api/v1/registry/inbox", "", http.StatusOK, &inbox)
		return len(inbox.Data) == 1
	})
	if c := inbox.Data[0]; c.Source != "saw" || c.Prefix != "line2.saw." || c.ID != "line2-saw" || c.Model == nil || c.Model.Model != "packml-machine@1.1.0" || c.Model.Matched != 5 || c.Model.Of != 8 {
		t.Fatalf("%+v %+v", c, c.Model)
	}
	valid := from.Add(time.Hour).Format(time.RFC3339)
	approve := `{"source": "saw", "signals_prefix": "line2.saw.", "owner": "anna", "valid_from": "` + valid + `"}`
	var done desk.Changed
	ask(http.MethodPost, "/api/v1/registry/inbox/approve", approve, http.StatusOK, &done)
	if done.Version != 1 || !slices.Equal(done.Put, []string{"line2-saw"}) {
		t.Fatalf("%+v", done)
	}
	ask(http.MethodPost, "/api/v1/registry/inbox/approve", approve, http.StatusNotFound, nil)
	type rows struct {
		Data []map[string]any `json:"data"`
	}
	var got rows
	until(t, 10*time.Second, "there are rows of the saw", func() bool {
		got = rows{}
		ask(http.MethodGet, "/api/v1/products/oee/rows?equipment=line2-saw&window=hour", "", http.StatusOK, &got)
		return len(got.Data) > 0
	})
	for _, r := range got.Data {
		if at, err := time.Parse(time.RFC3339, fmt.Sprint(r["from"])); err != nil || at.Before(from.Add(time.Hour)) || r["line"] != "line2" || r["mapping_version"] != "1.0.0+1" {
			t.Errorf("a row before it held, or of something else: %v", r)
		}
	}
	var machines struct {
		Data []struct {
			desk.Row

			Readiness product.Readiness `json:"readiness"`
		} `json:"data"`
	}
	ask(http.MethodGet, "/api/v1/registry/machines", "", http.StatusOK, &machines)
	if len(machines.Data) != 2 || machines.Data[0].From != "file" || machines.Data[1].From != "register" || machines.Data[1].Owner != "anna" || machines.Data[1].Readiness.Signals != 5 {
		t.Errorf("%+v", machines.Data)
	}
	if v := h.view(); len(v.Lines) != 2 || v.Lines[1].Machines[0].ID != "line2-saw" {
		t.Errorf("the page sees %+v", v.Lines)
	}
	ask(http.MethodPut, "/api/v1/registry/machines/line2-saw", `{"version": 9, "machine": {"id": "line2-saw", "source": "saw", "signals_prefix": "line2.saw."}}`, http.StatusConflict, nil)
	ask(http.MethodPut, "/api/v1/registry/machines/line1-press", `{"machine": {"source": "saw", "signals_prefix": "x."}}`, http.StatusUnprocessableEntity, nil)
	ask(http.MethodPut, "/api/v1/registry/machines/line2-saw", `{"machine": {"id": "x"}}`, http.StatusBadRequest, nil)
	ask(http.MethodPost, "/api/v1/registry/machines", `{"machines": [{"id": "a", "lane": "b"}]}`, http.StatusBadRequest, nil)
	ask(http.MethodPost, "/api/v1/registry/machines", `{}`, http.StatusBadRequest, nil)
	ask(http.MethodPost, "/api/v1/registry/machines/import?dry_run=true", "id,line\nline9-x,line9\nA b,l\n", http.StatusOK, nil)
	ask(http.MethodPost, "/api/v1/registry/machines/import", "id,line\nA b,l\n", http.StatusUnprocessableEntity, nil)
	ask(http.MethodPost, "/api/v1/registry/machines/import", "id,line\nline9-x,line9\n", http.StatusOK, nil)
	ask(http.MethodPost, "/api/v1/registry/machines/clone", `{"from": "line2", "to": "line3", "source": "saw3"}`, http.StatusOK, nil)
	ask(http.MethodPost, "/api/v1/registry/machines/clone", `{"from": "line2", "to": "line3", "source": "saw3"}`, http.StatusUnprocessableEntity, nil)
	ask(http.MethodDelete, "/api/v1/registry/machines/line9-x", "", http.StatusOK, nil)
	ask(http.MethodDelete, "/api/v1/registry/machines/line9-x", "", http.StatusNotFound, nil)
	ask(http.MethodPost, "/api/v1/registry/models", `{"model": {"id": "saw", "version": "1.0.0", "properties": [{"name": "state", "kind": "measurement"}]}}`, http.StatusOK, nil)
	ask(http.MethodGet, "/api/v1/registry/models/saw/diff?from=1.0.0&to=1.0.0", "", http.StatusOK, nil)
	ask(http.MethodGet, "/api/v1/registry/models/saw@3.0.0", "", http.StatusNotFound, nil)
	ask(http.MethodPost, "/api/v1/registry/models/packml-machine/upgrade", `{"to": "1.1.0"}`, http.StatusOK, nil)
	site, register, err := effectiveSite(t.Context(), h.cfg, h.store)
	if err != nil || register.Version != 5 || site.Find("line3-saw") == nil || site.Find("line9-x") != nil || len(register.Models) != 2 {
		t.Errorf("recorded: %+v %v", register, err)
	}
	if facts := recordedSpans(t, h); facts[0].From != math.MinInt64 || facts[1].From != mesh.NanosOf(from.Add(time.Hour)) {
		t.Errorf("recorded from %v", facts)
	}
}

func recordedSpans(t *testing.T, h *hub) (out []mesh.Span) {
	t.Helper()
	facts, err := h.store.Facts(t.Context(), 0)
	check(t, err)
	for i := range facts {
		f, err := wire.OpenFact(facts[i].Sealed)
		check(t, err)
		out = append(out, f.Valid)
	}
	return out
}

// Who may register what, told again here: by location, and what can be read.
func TestRegister_IsForThoseWhoMay(t *testing.T) {
	h := opened(t)
	srv, err := h.web(porthttp.New(porthttp.Config{AnyHost: true}, h.deps(), h.log))
	check(t, err)
	all := people(t, h.access, "viewer@graz", "operator@graz", "operator@graz/line7", "operator@linz", "admin")
	add := func(p person, id, line string) int {
		body := fmt.Sprintf(`{"machines": [{"id": %q, "line": %q, "source": %q, "signals_prefix": "a."}]}`, id, line, id)
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/api/v1/registry/machines", strings.NewReader(body))
		r.Host = "localhost"
		r.Header.Set("Authorization", "Bearer "+p.token)
		w := httptest.NewRecorder()
		srv.Handler.ServeHTTP(w, r)
		return w.Code
	}
	for i, c := range []struct {
		who, line string
		want      int
	}{
		{"viewer@graz", "line7", 403},
		{"operator@linz", "line7", 403},
		{"operator@graz/line7", "line8", 403},
		{"operator@graz/line7", "line7", 200},
		{"operator@graz", "line8", 200},
		{"admin", "line8", 200},
	} {
		if got := add(person{token: all[c.who].token}, "m"+strconv.Itoa(i), c.line); got != c.want {
			t.Errorf("%s at %s: %d, want %d", c.who, c.line, got, c.want)
		}
	}
	reads := func(p person) (n int) {
		var l struct {
			Data []desk.Row `json:"data"`
		}
		_, w := person{token: p.token}.ask(t, srv.Handler, http.MethodGet, "/api/v1/registry/machines")
		if json.Unmarshal(w.Body.Bytes(), &l) != nil {
			return -1
		}
		return len(l.Data)
	}
	for who, want := range map[string]int{"viewer@graz": 4, "operator@graz/line7": 1, "admin": 4} {
		if n := reads(all[who]); n != want {
			t.Errorf("%s sees %d machines, want %d", who, n, want)
		}
	}
	if code, _ := (person{token: all["operator@graz/line7"].token}).ask(t, srv.Handler, http.MethodGet, "/api/v1/registry/inbox"); code != http.StatusForbidden {
		t.Errorf("one of a line sees the inbox of the site: %d", code)
	}
	if code, _ := (person{cookie: all["admin"].cookie}).ask(t, srv.Handler, http.MethodDelete, "/api/v1/registry/machines/m3"); code != http.StatusForbidden {
		t.Errorf("a browser without its form token: %d", code)
	}
	if code, _ := (person{}).ask(t, srv.Handler, http.MethodGet, "/api/v1/registry/machines"); code != http.StatusUnauthorized {
		t.Errorf("nobody: %d", code)
	}
}
