package agent

import (
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
