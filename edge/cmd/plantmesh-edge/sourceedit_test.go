package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"plantmesh/edge/agent"
)

// What can't be read is never written; what can takes the file's place, with its mode.
func TestEdited(t *testing.T) {
	const text = "mqtt:\n  id: press\n  url: mqtt://127.0.0.1:1883\n  topics:\n    - {filter: plant/+, signal: \"line1.{1}.{key}\", time: ts}\n  heartbeat: {topic: plant/heartbeat}\n  signals:\n    - {name: line1.a.speed, type: double}\n"
	gone := errors.New("the editor is gone")
	for name, c := range map[string]struct {
		saves   []string // what the editor saves, each time; "-": it fails
		meddle  string   // what somebody else writes meanwhile
		changed bool
		is      string // what the file says then; empty: what it did
		says    string
	}{
		"good":            {[]string{strings.Replace(text, "1883", "1884", 1)}, "", true, strings.Replace(text, "1883", "1884", 1), ""},
		"as it was":       {[]string{text}, "", false, "", ""},
		"wrong, then not": {[]string{strings.Replace(text, "url", "urk", 1), strings.Replace(text, "1883", "1885", 1)}, "", true, strings.Replace(text, "1883", "1885", 1), ""},
		"wrong":           {[]string{strings.Replace(text, "url", "urk", 1)}, "", false, "", `press.yaml:3: unknown key "urk"`},
		"another name":    {[]string{strings.Replace(text, "press", "press2", 1)}, "", false, "", `would be "press2"`},
		"a name there is": {[]string{strings.Replace(text, "press", "filler", 1)}, "", false, "", `would be "filler"`},
		"meanwhile":       {[]string{strings.Replace(text, "1883", "1884", 1)}, text + "# mine\n", false, text + "# mine\n", "somebody else has changed"},
		"no editor":       {[]string{"-"}, "", false, "", "the editor is gone"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			at := func(name string) string { return filepath.Join(dir, name) }
			write := func(name, text string, mode os.FileMode) {
				t.Helper()
				if err := os.MkdirAll(filepath.Dir(at(name)), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(at(name), []byte(text), mode); err != nil {
					t.Fatal(err)
				}
			}
			write("edge.yaml", "agent: gw-1\nsite: graz\ndata: data\n", 0o600)
			write("sources.d/press.yaml", text, 0o640)
			write("sources.d/filler.yaml", strings.NewReplacer("press", "filler", "line1", "line2").Replace(text), 0o640)
			cfg, err := agent.OpenConfig(at("edge.yaml"), agent.Sources)
			if err != nil {
				t.Fatal(err)
			}
			l, _, err := cfg.FindSource(t.Context(), "press")
			if err != nil {
				t.Fatal(err)
			}
			turn := 0
			edit := func(file string) error {
				said := c.saves[turn]
				if turn++; said == "-" {
					return gone
				}
				if c.meddle != "" {
					write("sources.d/press.yaml", c.meddle, 0o640)
				}
				return os.WriteFile(file, []byte(said), 0o600)
			}
			changed, err := edited(&cfg, l, edit, func(error) bool { return turn < len(c.saves) })
			if changed != c.changed || (err == nil) != (c.says == "") || err != nil && !strings.Contains(err.Error(), c.says) {
				t.Errorf("changed %v, %v; want %v, %q", changed, err, c.changed, c.says)
			}
			want := c.is
			if want == "" {
				want = text
			}
			is, err := os.ReadFile(at("sources.d/press.yaml"))
			info, err2 := os.Stat(at("sources.d/press.yaml"))
			if err != nil || err2 != nil || string(is) != want || info.Mode().Perm() != 0o640 {
				t.Errorf("%v, %v: the file says\n%s", err, err2, is)
			}
			if all, err := os.ReadDir(at("sources.d")); err != nil || len(all) != 2 {
				t.Errorf("there are %v, %v", all, err)
			}
		})
	}
}
