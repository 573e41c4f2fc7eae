package agent

import (
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"plantmesh/edge/source/opcua"
	"plantmesh/proto/mesh"
)

// A configuration that is not finished is good for what is written of it, and says
// what is missing for the rest.
func TestOpenConfig_InParts(t *testing.T) {
	now := time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC)
	for name, c := range map[string]struct {
		file, old, text string
		lacks           Part
		want            []string // behind "DIR/", of NotReady
	}{
		"no hub":         {"edge.yaml", `hub: {url: "nats://127.0.0.1:1", key: k, token: t}` + "\n", "", Sending, []string{"edge.yaml:1: hub.url is missing"}},
		"no token yet":   {"t", "", "", Sending, []string{"edge.yaml:4: DIR/t: no such file"}},
		"no key yet":     {"k", "", "", Sending, []string{"edge.yaml:4: DIR/k: no such file"}},
		"hub by http":    {"edge.yaml", "nats://127", "http://127", Sending, []string{"edge.yaml:4: "}},
		"forward":        {"edge.yaml", "plant_clock", "forward: {backlog_share: 101}\nplant_clock", Sending, []string{"edge.yaml:5: forward.backlog_share"}},
		"no site":        {"edge.yaml", "site: graz\n", "", Names, []string{"edge.yaml:1: site is missing"}},
		"no data":        {"edge.yaml", "data: data\n", "", Data, []string{"edge.yaml:1: data is missing"}},
		"no clock":       {"clock.json", "", "", Clock, []string{"edge.yaml:5: DIR/clock.json: no such file"}},
		"buffer":         {"edge.yaml", "plant_clock", "buffer: {max_bytes: 1MiB}\nplant_clock", Keeping, []string{"edge.yaml:5: buffer.max_bytes is too small"}},
		"window":         {"edge.yaml", "latency: 4s", "latency: 4h", Keeping, []string{"edge.yaml:6: window.latency must be"}},
		"another source": {"sources.d/a.yaml", "type: int", "type: integer", Sources, []string{"sources.d/a.yaml:8: type "}},
		"rules":          {"rules.d/b.yaml", "kind: range", "kind: rang", Rules, []string{`rules.d/b.yaml:3: kind "rang"`}},
		"nothing": {"edge.yaml", files()["edge.yaml"], "# later\n", Names, []string{
			"edge.yaml:1: agent is missing", "edge.yaml:1: data is missing", "edge.yaml:1: hub.url is missing",
		}},
	} {
		t.Run(name, func(t *testing.T) {
			f := files()
			if c.old == "" {
				delete(f, c.file)
			} else {
				f[c.file] = strings.Replace(f[c.file], c.old, c.text, 1)
			}
			_, dir, err := load(t, f)
			if err == nil {
				t.Error("all of it is taken")
			}
			got, err := OpenConfig(dir + "/edge.yaml")
			if err != nil {
				t.Fatal(err)
			}
			others := slices.DeleteFunc(parts(), func(p Part) bool {
				return p == c.lacks || name == "nothing" && (p == Data || p == Sending)
			})
			if err := got.Need(others...); err != nil {
				t.Errorf("other parts: %v", err)
			}
			said := got.NotReady(now)
			if err := got.Need(c.lacks); err == nil || said[0] != "not ready to run: "+err.Error() {
				t.Errorf("%v, noted as %q", err, said)
			}
			said = slices.DeleteFunc(said, func(l string) bool { return strings.HasPrefix(l, "not ready to send: ") })
			for i, w := range c.want {
				if w = "not ready to run: " + dir + "/" + strings.ReplaceAll(w, "DIR", dir); len(said) != len(c.want) || !strings.HasPrefix(said[i], w) || strings.Contains(said[i], "\n") {
					t.Errorf("it says %q, want %q", said, w)
				}
			}
			if c.lacks != Sources && len(got.Sources) != 2 {
				t.Errorf("%d sources", len(got.Sources))
			}
		})
	}
}

// What a hub would refuse is no fault of the file, and told beside.
func TestConfig_NotReadyToSend(t *testing.T) {
	c, _, err := load(t, files())
	if err != nil {
		t.Fatal(err)
	}
	if got := c.NotReady(time.Now()); len(got) != 1 || !strings.HasPrefix(got[0], "not ready to send: ") || !strings.Contains(got[0], "is no token of a hub") {
		t.Errorf("%q", got)
	}
}

// A certificate needs names and a place, and nothing else.
func TestCertificates_OfAnUnfinishedConfig(t *testing.T) {
	f := files()
	f["edge.yaml"] = "agent: gw-1\nsite: graz\ndata: data\n"
	f["sources.d/a.yaml"] = "opcua: [\n"
	_, dir, _ := load(t, f)
	c, err := OpenConfig(dir + "/edge.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if _, app, err := Certificates(c); err != nil || app.URI != "urn:plantmesh:graz:gw-1" || app.Store != dir+"/data/pki" {
		t.Errorf("%+v, %v", app, err)
	}
	for _, lacking := range []string{"site: graz\ndata: data\n", "agent: gw-1\nsite: graz\n"} {
		f["edge.yaml"] = lacking
		_, dir, _ := load(t, f)
		c, err := OpenConfig(dir + "/edge.yaml")
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := Certificates(c); err == nil || !strings.Contains(err.Error(), ": a protected connection needs this gateway's certificate") {
			t.Errorf("%v", err)
		}
		f["new.yaml"] = strings.Replace(f["sources.d/b.yaml"], "insecure: true", "", 1)
		_, dir, _ = load(t, f)
		if _, err := c.Test(t.Context(), dir+"/new.yaml", Stay{}, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), ": a protected connection needs") {
			t.Errorf("%v", err)
		}
	}
}

// Who would send is not known: no subject is invented.
func TestConfig_FollowWithoutAName(t *testing.T) {
	tried := []opcua.Trial{{Signal: mesh.Signal{Name: "a.b.c"}}}
	for site, want := range map[string]string{"site: graz\n": "ingest.v1.graz.gw-1.live", "": ""} {
		f := files()
		f["edge.yaml"] = "agent: gw-1\ndata: data\n" + site
		_, dir, _ := load(t, f)
		c, err := OpenConfig(dir + "/edge.yaml")
		if err != nil {
			t.Fatal(err)
		}
		var got Tested
		c.follow(&got, tried)
		if got.Journeys[0].Send.Subject != want {
			t.Errorf("%q, want %q", got.Journeys[0].Send.Subject, want)
		}
	}
}
