package agent

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// What a package brings and what init writes have the same gaps, and an enrolment fills
// them: nobody edits a file by hand.
func TestFilledIn_FillsWhatIsEmptyAndNothingElse(t *testing.T) {
	packaged, err := os.ReadFile(filepath.Join("..", "..", "deploy", "release", "edge", "edge.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"packaged": string(packaged), "init": Initial{}.YAML()} {
		t.Run(name, func(t *testing.T) {
			now := filledIn(text, Initial{Agent: "gw-7", Site: "graz", Hub: "nats://hub.example.com:4222", Enroll: "https://hub.example.com"})
			path := filepath.Join(t.TempDir(), "edge.yaml")
			if err := os.WriteFile(path, []byte(now), 0o600); err != nil {
				t.Fatal(err)
			}
			c, err := OpenConfig(path, Names, Data, Keeping)
			if err != nil || c.Agent != "gw-7" || c.Site != "graz" || c.Hub.URL != "nats://hub.example.com:4222" || c.Hub.Enroll != "https://hub.example.com" {
				t.Errorf("%v:\n%s", err, now)
			}
			if was, is := strings.Count(text, "#"), strings.Count(now, "#"); was != is {
				t.Errorf("%d comments became %d:\n%s", was, is, now)
			}
			if again := filledIn(now, Initial{Agent: "gw-8", Site: "linz", Hub: "nats://other:4222", Enroll: "https://other"}); again != now {
				t.Errorf("what was there is changed:\n%s", again)
			}
		})
	}
}

// Names of any length that a hub takes are read as they were written.
func TestInitial_NamesOfAnyLength(t *testing.T) {
	for n := 1; n <= 63; n++ {
		name, path := strings.Repeat("g", n), filepath.Join(t.TempDir(), "edge.yaml")
		text := Initial{Agent: name, Site: name, Data: "/" + name, Hub: "nats://" + name + ":4222", Key: name, Token: name}.YAML()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := OpenConfig(path, Names, Data)
		if err != nil || c.Agent != name || c.Site != name || c.Data != "/"+name {
			t.Fatalf("%v: %q at %q in %q:\n%s", err, c.Agent, c.Site, c.Data, text)
		}
	}
}

func TestInitial_WritesOverNothing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "plant", "edge.yaml")
	if err := (Initial{Agent: "gw-1", Site: "graz", Hub: "nats://h:4222"}).Write(path, false); err != nil {
		t.Fatal(err)
	}
	c, err := OpenConfig(path, Names, Data)
	if err != nil || c.Agent != "gw-1" {
		t.Fatal(c.Agent, err)
	}
	key := filepath.Join(filepath.Dir(path), "agent.nk")
	if err := os.WriteFile(key, []byte("a key"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := (Initial{Agent: "gw-2"}).Write(path, false); !errors.Is(err, ErrConfigThere) {
		t.Errorf("written over: %v", err)
	}
	if err := (Initial{Agent: "gw-2"}).Write(path, true); err != nil {
		t.Fatal(err)
	}
	old, err := os.ReadFile(path + ".old")
	if err != nil || !strings.Contains(string(old), "agent: gw-1 ") {
		t.Errorf("%s, %v", old, err)
	}
	if b, err := os.ReadFile(key); err != nil || string(b) != "a key" {
		t.Errorf("the key is %q, %v", b, err)
	}
}

const aSource = "mqtt:\n  id: %\n  url: mqtt://127.0.0.1:1883\n  topics:\n    - {filter: plant/+, signal: \"line1.{1}.{key}\", time: ts}\n  heartbeat: {topic: plant/heartbeat}\n  signals:\n    - {name: line1.%.speed, type: double}\n"

func TestSources_AreSwitchedOffAndOn(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "edge.yaml")
	if err := (Initial{Agent: "gw-1", Site: "graz"}).Write(path, false); err != nil {
		t.Fatal(err)
	}
	put := func(file, id string) {
		if err := os.WriteFile(filepath.Join(dir, "sources.d", file), []byte(strings.ReplaceAll(aSource, "%", id)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	put("a.yaml", "press")
	put("b.yaml", "filler")
	put("notes.txt", "nobody reads this")
	again := func() (c Config) {
		c, err := OpenConfig(path, Sources)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	c := again()
	l, _, err := c.FindSource(t.Context(), "press")
	if err != nil || !l.Enabled || l.Signals != 1 || l.Endpoint != "mqtt://127.0.0.1:1883" {
		t.Fatalf("%+v, %v", l, err)
	}
	if _, err := c.SwitchSource(l, false); err != nil {
		t.Fatal(err)
	}
	if c = again(); len(c.Sources) != 1 || c.Sources[0].ID() != "filler" {
		t.Errorf("%d sources are read", len(c.Sources))
	}
	all, running, err := c.ListSources(t.Context())
	if err != nil || running || len(all) != 2 || all[0].Enabled || all[0].Source != "press" {
		t.Errorf("%+v, %v", all, err)
	}
	// A second one of the name came meanwhile: then the first is not let back in.
	put("c.yaml", "press")
	c = again()
	if l, _, err = c.FindSource(t.Context(), "a"); err != nil || l.Enabled {
		t.Fatalf("%+v, %v", l, err)
	}
	if _, err := c.SwitchSource(l, true); err == nil || !strings.Contains(err.Error(), "stands in") {
		t.Errorf("two sources of a name: %v", err)
	}
	other, _, err := c.FindSource(t.Context(), "c")
	if err != nil {
		t.Fatal(err)
	}
	if err := c.RemoveSource(other); err != nil {
		t.Fatal(err)
	}
	c = again()
	if _, err := c.SwitchSource(l, true); err != nil {
		t.Error(err)
	}
	if c = again(); len(c.Sources) != 2 {
		t.Errorf("%d sources are read", len(c.Sources))
	}
	// Its lines nobody can look up: what stands there is shown.
	for text, want := range map[string]string{
		strings.ReplaceAll(aSource, "%", "press"):                       `stands in ` + filepath.Join(dir, "sources.d", "a.yaml") + ` already; it stands where the file says "id: press"`,
		strings.ReplaceAll(aSource, "type: double", "type: dbl"):        `; it stands where the file says "- {name: line1.%.speed, type: dbl}"`,
		strings.ReplaceAll(aSource, "mqtt://127.0.0.1:1883", "opc://a"): `; it stands where the file says "url: opc://a"`,
	} {
		if _, err := c.Fits([]byte(text)); err == nil || !strings.HasSuffix(err.Error(), want) || !strings.HasPrefix(err.Error(), "the proposed file: ") {
			t.Errorf("%v, want %s", err, want)
		}
	}
	if file, err := c.Fits([]byte(strings.ReplaceAll(aSource, "%", "capper"))); err != nil || file != filepath.Join(dir, "sources.d", "capper.yaml") {
		t.Errorf("%s, %v", file, err)
	}
	if _, _, err := c.FindSource(t.Context(), "nobody"); !errors.Is(err, ErrNoSource) || !strings.Contains(err.Error(), "press, filler") {
		t.Errorf("%v", err)
	}
}

// What a template says holds, with its comments, and what stands there empty is filled in;
// what is asked for and can't be is said.
func TestInitial_Like(t *testing.T) {
	const template = "# of plant 7\nagent:   # its name\nsite: graz\ndata:\nhub:\n  url:\n  key: agent.nk\n  token: agent.jwt\nbuffer: {max_bytes: 64MiB}\n"
	i := Initial{Agent: "gw-9", Hub: "nats://hub:4222", Data: "/srv/plant mesh"}
	i, err := i.Like("t.yaml", []byte(template))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"# of plant 7\n", "agent: gw-9", "# its name", "site: graz", `data: "/srv/plant mesh"`, `  url: "nats://hub:4222"`, "64MiB"} {
		if !strings.Contains(i.YAML(), want) {
			t.Errorf("it lacks %q:\n%s", want, i.YAML())
		}
	}
	for name, c := range map[string]struct {
		template string
		asked    Initial
		want     string
	}{
		"another":    {"agent: gw-1\n", Initial{Agent: "gw-2"}, `t.yaml:1: it says "gw-1", and "gw-2" is asked for`},
		"no line":    {"agent: gw-1\n", Initial{Site: "graz"}, "it has no line for site"},
		"a wrong":    {"agnt: gw-1\n", Initial{}, `did you mean "agent"?`},
		"not a file": {"- a\n", Initial{}, "t.yaml:1"},
	} {
		if _, err := c.asked.Like("t.yaml", []byte(c.template)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
