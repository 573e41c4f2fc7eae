package cli

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// page asks a hub's page as a browser does, and does not follow where it leads.
func page(t *testing.T, method, at string, form url.Values) (status int, said string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, at, strings.NewReader(form.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	if method == http.MethodPost {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Header.Set("Sec-Fetch-Site", "same-origin")
	}
	c := http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := c.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(resp.Body)
	if err != nil || resp.Body.Close() != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

// The address that a gateway prints is a page with one button, and who pressed it is in
// the audit trail, before the gateway is in.
func TestApprove_ByItsPage(t *testing.T) {
	t.Parallel()
	dir := folder(t)
	hub, at, _ := serving(t, dir)
	config := filepath.Join(dir, "gw", "edge.yaml")
	asks := begin(t, dir, nil, "plantmesh-edge", "enroll", "--config", config, "--agent", "gw-7", at)
	address := strings.Fields(asks.says(asks.err, "approve at", within))[2]
	status, said := page(t, http.MethodGet, address, nil)
	fingerprint := strings.TrimPrefix(strings.Fields(asks.err.with("fingerprint"))[1], "SHA256:")
	if status != http.StatusOK || !strings.Contains(said, "<span>"+fingerprint[:4]+"</span><span>"+fingerprint[4:8]+"</span>") || !strings.Contains(said, `value="gw-7"`) {
		t.Fatalf("the page: %d %s", status, said)
	}
	if status, said = page(t, http.MethodPost, address, url.Values{"do": {"approve"}, "as": {"press-7"}}); status != http.StatusSeeOther {
		t.Fatalf("pressing the button: %d %s", status, said)
	}
	if code := asks.ends(within); code != 0 {
		t.Fatalf("enroll ends with %d", code)
	}
	if status, said = page(t, http.MethodGet, address, nil); status != http.StatusOK || !strings.Contains(said, "press-7 is let in") {
		t.Errorf("the page after: %d %s", status, said)
	}
	agent := begin(t, dir, nil, "plantmesh-edge", "run", "--config", config)
	agent.says(agent.err, "state=connected", within)
	until(t, within, "the hub knows how the agent is", func() bool {
		_, said := page(t, http.MethodGet, at+"/api/v1/agents/graz/press-7", nil)
		return strings.Contains(said, `"state":"online"`) && strings.Contains(said, `"version":`) && strings.Contains(said, `"clock_offset_s":`) && strings.Contains(said, `"pending_records":`)
	})
	until(t, within, "agents list says so, too", func() bool {
		list := must(t, "plantmesh", "agents", "list", "--config", hub)
		return strings.Contains(list, "\tpress-7\tonline\tsince 2") && strings.Contains(list, "\tpending 0\tlag 0 s\tlost 0\t")
	})
	must(t, "plantmesh", "agents", "revoke", "--config", hub, "--site", "graz", "--reason", "its gateway was stolen", "press-7")

	var got []string
	list := must(t, "plantmesh", "audit", "list", "--config", hub)
	for line := range strings.Lines(list) {
		f := strings.Split(line, "\t")
		if f[4] == "agent.revoke" && !strings.HasSuffix(line, "\t\"its gateway was stolen\"\n") {
			t.Errorf("why it was revoked: %s", line)
		}
		got = append(got, strings.Join(f[3:6], " "))
	}
	if want := []string{"cli agent.revoke graz/press-7", "loopback agent.approve graz/press-7", "hub site.change graz", "hub audit.begin audit"}; !slices.Equal(got, want) {
		t.Errorf("the trail says %q, want %q", got, want)
	}
	export := filepath.Join(dir, "trail.jsonl")
	must(t, "plantmesh", "audit", "export", "--config", hub, export)
	trail := filepath.Join(dir, "hub", "audit", "00000000000000000001.jsonl")
	lines, err := os.ReadFile(trail)
	if err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(export); err != nil || !bytes.Equal(b, lines) {
		t.Errorf("the export is\n%s%v", b, err)
	}
	seal := strings.TrimSpace(strings.Split(must(t, "plantmesh", "audit", "verify", "--config", hub), "\t")[3])
	must(t, "plantmesh", "audit", "verify", "--config", hub, "--since", seal)
	if _, said = page(t, http.MethodGet, at+"/readyz?verbose", nil); !strings.Contains(said, "audit: ok, newest entry "+seal) {
		t.Errorf("readyz says %s", said)
	}
	var answered struct {
		Data []struct{ Action, Address string }
		Seal string
	}
	_, said = page(t, http.MethodGet, at+"/api/v1/audit?action=agent.approve", nil)
	if err := json.Unmarshal([]byte(said), &answered); err != nil || len(answered.Data) != 1 || answered.Data[0].Address != "127.0.0.1" || answered.Seal != seal {
		t.Errorf("the API says %s, %v", said, err)
	}

	cut := bytes.LastIndexByte(lines[:len(lines)-1], '\n') + 1
	if err := os.WriteFile(trail, lines[:cut], 0o600); err != nil { // as if nobody had revoked it
		t.Fatal(err)
	}
	verified := run(t, nil, "plantmesh", "audit", "verify", "--config", hub, "--since", seal)
	if !strings.Contains(verified.last(), "audit set-aside") || !strings.Contains(verified.last(), "--since "+seal) {
		t.Errorf("what helps is %s", verified.last())
	}
	oneLine(t, without(verified, verified.last()), exitFindings, "entry 4 was there and is not")
	if err := os.WriteFile(trail, bytes.Replace(lines, []byte("press-7"), []byte("press-8"), 1), 0o600); err != nil {
		t.Fatal(err)
	}
	verified = run(t, nil, "plantmesh", "audit", "verify", "--config", hub)
	oneLine(t, without(verified, verified.last()), exitFindings, "verified to 2; then", "00000000000000000001.jsonl:3: entry 3 has other bytes")

	// It goes on behind what is good, with an entry that says so; the hub that runs, too.
	if said := must(t, "plantmesh", "audit", "set-aside", "--config", hub, "--reason", "a drill"); !strings.Contains(said, "stays\tto 2:") || !strings.Contains(said, "goes on\twith 3:") {
		t.Errorf("set aside it says %s", said)
	}
	seal = strings.TrimSpace(strings.Split(must(t, "plantmesh", "audit", "verify", "--config", hub), "\t")[3])
	if _, said = page(t, http.MethodGet, at+"/readyz?verbose", nil); !strings.Contains(said, "audit: ok, newest entry "+seal) {
		t.Errorf("the hub says %s", said)
	}
	if said := must(t, "plantmesh", "audit", "list", "--config", hub, "--last", "1"); !strings.Contains(said, "audit.aside") || !strings.Contains(said, "good to 2:") || !strings.Contains(said, "a drill") {
		t.Errorf("the trail says %s", said)
	}
}
