package agent

import (
	"math"
	"strings"
	"testing"
)

func TestRedacted(t *testing.T) {
	const jwt = "eyJ0eXAiOiJKV1QiLCJhbGciOiJlZDI1NTE5LW5rZXkifQ.eyJqdGkiOiJBQkNERUZHSElKS0xNTk9QUVJTIn0.c2lnbmF0dXJlLW9mLWl0"
	for text, want := range map[string]string{
		"password: hunter2\n":                                                  "password: (taken out)\n",
		"  password: \"hunter 2\" # mine\n":                                    "  password: (taken out) # mine\n",
		"security: {user: anna, password: hunter2}\n":                          "security: {user: anna, password: (taken out)}\n",
		"  client_secret = abc\n":                                              "  client_secret = (taken out)\n",
		"password_file: anna.pass\n":                                           "password_file: anna.pass\n",
		"key: agent.nk\ntoken: cred:agent.jwt\n":                               "key: agent.nk\ntoken: cred:agent.jwt\n",
		"url: mqtt://anna:hunter2@broker:1883\n":                               "url: mqtt://(taken out)@broker:1883\n",
		"url: mqtt://anna:hunt@'er2@broker:1883\n":                             "url: mqtt://(taken out)@broker:1883\n",
		"  proxy: \"http://anna:hunt/er2@proxy\"\n":                            "  proxy: (taken out)@proxy\"\n",
		"  proxy: anna:hunter 2@proxy:3128 # no URL\n":                         "  proxy: (taken out)@proxy:3128 # no URL\n",
		"  proxy: http://proxy:3128\n":                                         "  proxy: http://proxy:3128\n",
		"endpoint: opc.tcp://plc-7:4840\n":                                     "endpoint: opc.tcp://plc-7:4840\n",
		"seed is SUACSSL3UAHUDXKFSNVUZRF5UHPMWZ6BFDTJ7M6USDXIEDNPPQYYYCU3VY\n": "seed is (taken out)\n",
		"token: " + jwt + "\n":                                                 "token: (taken out)\n",
		"-----BEGIN PRIVATE KEY-----\nMII\n-----END PRIVATE KEY-----\nx":       "(taken out)\nx",
		"- {name: line1.press.speed, type: double}\n":                          "- {name: line1.press.speed, type: double}\n",
	} {
		if got := string(redacted([]byte(text))); got != want {
			t.Errorf("%q becomes %q, want %q", text, got, want)
		}
	}
}

// A bundle of a gateway that is not even let in, whose file has a key that nobody knows.
func TestBundle(t *testing.T) {
	path := begun(t, map[string]string{
		"edge.yaml": edgeYAML + "password: hunter2\n", "agent.nk": "SUACSSL3UAHUDXKFSNVUZRF5UHPMWZ6BFDTJ7M6USDXIEDNPPQYYYCU3VY\n",
		"sources.d/a.yaml": aYAML, "sources.d/anna.pass": "hunter2\n", "rules.d/r.yaml": "revision: 1\n",
	})
	all, err := Bundle(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, p := range all {
		names = append(names, p.Name)
		if s := string(p.Content); strings.Contains(s, "hunter2") || strings.Contains(s, "SUACSSL3") || s == "" {
			t.Errorf("%s: %s", p.Name, s)
		}
	}
	if got, want := strings.Join(names, " "), "READ-ME.txt version.json check.json status.json config/edge.yaml config/sources.d/a.yaml config/rules.d/r.yaml log.txt"; got != want {
		t.Errorf("%s\nwant %s", got, want)
	}
	if list := Contents(all); strings.Count(list, "\n") != len(all) || !strings.Contains(list, "  check.json\n") {
		t.Errorf("%s", list)
	}
}

// What holds is shown without a login that doesn't belong there, also of a proxy that is no URL.
func TestValues_WithoutLogins(t *testing.T) {
	for proxy, want := range map[string]string{
		"anna:hunter2@proxy:3128": "(taken out)@proxy:3128", "http://anna:hunt@er2@proxy": "(taken out)@proxy", "http://proxy:3128": "http://proxy:3128",
	} {
		path := begun(t, map[string]string{"edge.yaml": strings.Replace(edgeYAML, "hub:", "hub:\n  proxy: "+proxy, 1)})
		cfg, err := OpenConfig(path)
		if err != nil {
			t.Fatal(err)
		}
		var got string
		for _, v := range cfg.Values() {
			if v.Key == "hub.proxy" {
				got = v.Text
			}
		}
		if got != want {
			t.Errorf("%s is shown as %q, want %q", proxy, got, want)
		}
	}
}

// A window that ends in 9999 has no end; one that begins behind what 64 bits hold is not one of the past.
func TestWindowOf_BeyondWhatNanosecondsReach(t *testing.T) {
	const now = "2026-03-01T06:00:00Z"
	for _, end := range []string{"2500-01-01T00:00:00Z", "9999-12-31T23:59:59Z"} {
		s, err := windowOf(now, end)
		if err != nil || s.To != math.MaxInt64 || instant(s.From) != now {
			t.Errorf("to %s: %v, %v", end, s, err)
		}
	}
	if s, err := windowOf("2600-01-01T00:00:00Z", ""); err == nil {
		t.Errorf("from 2600: %v", s)
	}
	if s, err := windowOf("0001-01-01T00:00:00Z", now); err != nil || s.From != math.MinInt64 {
		t.Errorf("from 1: %v, %v", s, err)
	}
}
