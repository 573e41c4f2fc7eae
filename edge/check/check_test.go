package check

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// after gives a result when so much time is over, whatever ctx says.
func after(d time.Duration, r Result) func(context.Context) Result {
	return func(context.Context) Result {
		<-time.After(d)
		return r
	}
}

func now(r Result) func(context.Context) Result { return after(0, r) }

// ended are the checks of a report, as ID=kind.
func ended(r Report) string {
	var out []string
	for _, o := range r.Checks {
		out = append(out, strings.TrimSpace(o.ID+" "+o.Source)+"="+string(o.Result))
	}
	return strings.Join(out, " ")
}

func TestRun_Needs(t *testing.T) {
	good, bad := now(Good("well")), now(Fail("do it", "not well"))
	chain := func(dns, tcp func(context.Context) Result) []Check {
		return []Check{
			{ID: "cfg-parse", Run: good},
			{ID: "net-dns", Needs: []string{"cfg-parse"}, Run: dns},
			{ID: "net-tcp", Needs: []string{"net-dns"}, Run: tcp},
			{ID: "net-tls", Needs: []string{"net-tcp"}, Run: good},
			{ID: "src-tcp", Source: "a", Needs: []string{"cfg-parse"}, Run: bad},
			{ID: "src-nodes", Source: "a", Needs: []string{"src-tcp"}, Run: good},
			{ID: "src-tcp", Source: "b", Needs: []string{"cfg-parse"}, Run: good},
			{ID: "src-nodes", Source: "b", Needs: []string{"src-tcp"}, Run: good},
		}
	}
	const of = " src-tcp a=error src-nodes a=skipped src-tcp b=ok src-nodes b=ok"
	for name, c := range map[string]struct {
		checks []Check
		sel    Selection
		want   string
	}{
		"well":               {chain(good, good), Selection{}, "cfg-parse=ok net-dns=ok net-tcp=ok net-tls=ok" + of},
		"what is behind":     {chain(bad, good), Selection{}, "cfg-parse=ok net-dns=error net-tcp=skipped net-tls=skipped" + of},
		"a warning is none":  {chain(now(Warn("", "hm")), good), Selection{}, "cfg-parse=ok net-dns=warning net-tcp=ok net-tls=ok" + of},
		"ignored is none":    {chain(now(None("no names")), good), Selection{}, "cfg-parse=ok net-dns=ignored net-tcp=ok net-tls=ok" + of},
		"of a section":       {chain(bad, good), Selection{Sections: []string{"cloud"}}, "net-dns=error net-tcp=skipped net-tls=skipped"},
		"what was not asked": {chain(bad, good), Selection{Only: []string{"net-tcp"}}, "net-tcp=ok"},
		"all but":            {chain(bad, good), Selection{Sections: []string{"cloud"}, Skip: []string{"net-dns"}}, "net-tcp=ok net-tls=ok"},
	} {
		r, err := Run(t.Context(), c.checks, c.sel)
		if got := ended(r); err != nil || got != c.want {
			t.Errorf("%s: %s, %v\nwant %s", name, got, err, c.want)
		}
	}
	r, err := Run(t.Context(), chain(bad, good), Selection{Sections: []string{"cloud"}})
	if err != nil || r.Checks[2].Message != "net-dns comes first" || r.Checks[2].Fix != "" {
		t.Errorf("%+v, %v", r.Checks[2], err)
	}
	for _, s := range []Selection{{Only: []string{"net-dsn"}}, {Skip: []string{"net-dsn"}}, {Sections: []string{"clouds"}}} {
		if _, err := Run(t.Context(), nil, s); err == nil || !strings.Contains(err.Error(), "did you mean") {
			t.Errorf("%+v: %v", s, err)
		}
	}
}

// Checks that need nothing of each other run beside each other; what hangs is left
// behind, and what has no time left says so.
func TestRun_Times(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var all []Check
		for range 4 {
			all = append(all, Check{ID: "net-dns", Run: after(5*time.Second, Good("slow"))})
		}
		began := time.Now()
		r, err := Run(t.Context(), all, Selection{})
		if took := time.Since(began); err != nil || took != 5*time.Second || r.Summary.OK != 4 || r.Checks[0].Seconds != 5 {
			t.Errorf("%s took %s, %v", ended(r), took, err)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		all := []Check{
			{ID: "net-dns", Run: after(time.Hour, Good("never"))},
			{ID: "net-tcp", Needs: []string{"net-dns"}, Run: now(Good("well"))},
			{ID: "net-rtt", Run: func(ctx context.Context) Result {
				<-ctx.Done()
				return Fail("", "%v", context.Cause(ctx))
			}},
		}
		began := time.Now()
		r, err := Run(t.Context(), all, Selection{})
		if took := time.Since(began); err != nil || took != defaultWithin+grace || ended(r) != "net-dns=error net-tcp=skipped net-rtt=error" || !strings.Contains(r.Checks[0].Message, "did not end within 10s") {
			t.Errorf("%s took %s, %v: %s", ended(r), took, err, r.Checks[0].Message)
		}
		<-time.After(2 * time.Hour) // what was left behind ends
	})
	synctest.Test(t, func(t *testing.T) {
		var all []Check
		for range 3 * atOnce {
			all = append(all, Check{ID: "net-dns", Run: after(2*time.Second, Good("slow"))})
		}
		r, err := Run(t.Context(), all, Selection{Timeout: 3 * time.Second})
		if err != nil || r.Summary.Skipped != atOnce || !r.Failed(false) && r.Summary.OK != 2*atOnce || r.Seconds != 4 {
			t.Errorf("%+v took %v, %v", r.Summary, r.Seconds, err)
		}
		<-time.After(time.Hour)
	})
}

// said is a report with each kind of result.
func said(t *testing.T) Report {
	t.Helper()
	r, err := Run(t.Context(), []Check{
		{ID: "sys-version", Run: now(Good("v1"))},
		{ID: "net-dns", Run: now(Good("hub.example.com → 192.0.2.1"))},
		{ID: "net-proxy", Run: now(Warn("ask IT", "407 from proxy | x"))},
		{ID: "net-tcp", Run: now(Result{Kind: Error, Message: "refused", Why: "who knows", Details: map[string]any{"port": 1}})},
		{ID: "net-tls", Needs: []string{"net-tcp"}, Run: now(Good("never"))},
		{ID: "src-tcp", Source: "press", Run: now(None("no device"))},
	}, Selection{})
	if err != nil {
		t.Fatal(err)
	}
	for i := range r.Checks {
		r.Checks[i].Seconds = 0.25
	}
	r.Seconds = 4.1
	return r
}

const text = `System
  ✓ sys-version        v1
Cloud
  ✓ net-dns            hub.example.com → 192.0.2.1
  ! net-proxy          407 from proxy | x
                       why  data and confirmations go through it, and a token that has ended is asked for there; meanwhile data waits in the buffer
                       fix  ask IT
                       doc  edge/check/CHECKS.md#net-proxy
  ✗ net-tcp            refused
                       why  who knows
                       fix  ask IT to open that port outbound: plantmesh-edge check --firewall prints what to ask for
                       doc  edge/check/CHECKS.md#net-tcp
  · net-tls            net-tcp comes first
Source press
  - src-tcp            no device
2 ok · 1 warning · 1 error · 1 skipped · 1 not applicable · 4.1 s
`

func TestReport(t *testing.T) {
	r := said(t)
	var out bytes.Buffer
	if err := r.Print(&out, false); err != nil || out.String() != text {
		t.Errorf("%s\nwant\n%s%v", out.String(), text, err)
	}
	out.Reset()
	if err := r.Print(&out, true); err != nil || strings.Contains(out.String(), "sys-version") || !strings.Contains(out.String(), "net-tcp") {
		t.Errorf("brief:\n%s%v", out.String(), err)
	}
	b, err := json.Marshal(r)
	for _, want := range []string{
		`"summary":{"ok":2,"warnings":1,"errors":1,"skipped":1,"ignored":1}`,
		`{"id":"net-tcp","section":"cloud","result":"error","message":"refused","why":"who knows","fix":"ask IT to open`,
		`"details":{"port":1},"duration_seconds":0.25}`, `"source":"press"`, `"duration_seconds":4.1}`,
	} {
		if err != nil || !strings.Contains(string(b), want) {
			t.Errorf("%s\nwant %s, %v", b, want, err)
		}
	}
	if line, code := r.Nagios(); code != 2 || line != "PLANTMESH-EDGE CRITICAL - net-tcp: refused | ok=2 warnings=1 errors=1 skipped=1 time=4.1s" {
		t.Errorf("%d %s", code, line)
	}
	if !r.Failed(false) || !slices.Equal(r.Red(false), []string{"net-tcp"}) || !slices.Equal(r.Red(true), []string{"net-proxy", "net-tcp"}) {
		t.Errorf("%v %v", r.Red(false), r.Red(true))
	}
	r.Checks, r.Summary.Errors = r.Checks[:3], 0
	if line, code := r.Nagios(); code != 1 || !strings.HasPrefix(line, "PLANTMESH-EDGE WARNING - net-proxy: 407 from proxy / x | ") || r.Failed(false) || !r.Failed(true) {
		t.Errorf("%d %s", code, line)
	}
	r.Checks, r.Summary.Warnings = r.Checks[:2], 0
	if line, code := r.Nagios(); code != 0 || !strings.HasPrefix(line, "PLANTMESH-EDGE OK - 2 checks ok | ") || r.Failed(true) {
		t.Errorf("%d %s", code, line)
	}
}

// The page is what everybody reads who follows doc; PLANTMESH_GOLDEN=1 writes it anew.
func TestCatalogue_IsThePage(t *testing.T) {
	const page = "CHECKS.md"
	if os.Getenv("PLANTMESH_GOLDEN") != "" {
		if err := os.WriteFile(page, []byte(Page()), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	b, err := os.ReadFile(page)
	if err != nil || string(b) != Page() {
		t.Errorf("%s is not what the catalogue says: run this test with PLANTMESH_GOLDEN=1 and look at what changed (%v)", page, err)
	}
	seen := map[string]bool{}
	section := 0
	for _, e := range Catalogue() {
		at := slices.Index(Sections(), e.Section)
		if seen[e.ID] || e.Looks == "" || e.Why == "" || at < section {
			t.Errorf("%+v", e)
		}
		seen[e.ID], section = true, at
		if !strings.Contains(Page(), "\n### "+e.ID+"\n") || !strings.Contains(List(), " "+e.ID+" ") {
			t.Errorf("%s is not told", e.ID)
		}
	}
	if entry("none").Section != "" || !errors.As(known("net-dsn", "check", []string{"net-dns"}), new(*UnknownError)) {
		t.Error("what is not there is there")
	}
}
