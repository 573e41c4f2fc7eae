package agent

import (
	"bytes"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	revisions "plantmesh/edge/revision"
	"plantmesh/proto/revision"
)

func ok(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// pushed is a revision of the hub.
func pushed(n uint64, files revision.Files) *revision.Revision {
	return &revision.Revision{Ref: revision.Ref{Number: n, Sum: files.Sum()}, By: "anna", Files: files}
}

// configured is a gateway with revisions on its disk, the last one in force; the state is
// what has become of them.
func configuredWith(t *testing.T, local map[string]string, become func(revisions.State) revisions.State, all ...*revision.Revision) (Config, string) {
	t.Helper()
	c, dir, err := load(t, local)
	ok(t, err)
	var st revisions.State
	for _, r := range all {
		ok(t, c.revisions().Stage(r))
		st = st.Offer(r.Ref).Begin(nil, time.Now())
		if r != all[len(all)-1] || become == nil {
			st = st.Confirm(time.Now(), "")
		}
	}
	if become != nil {
		st = become(st)
	}
	ok(t, c.revisions().Save(st))
	c, err = OpenConfig(filepath.Join(dir, "edge.yaml"))
	ok(t, err)
	return c, dir
}

const pushedYAML = "mqtt:\n  id: capper\n  url: mqtt://127.0.0.1:1884\n  topics: [{filter: c/+, signal: \"c.{1}.{key}\"}]\n  heartbeat: {topic: c/h}\n  signals: [{name: c.b.c, type: int}]\n"

// The gateway's own files and those of the revision are one configuration; of two of one
// name its own counts, and it is said.
func TestConfig_OfBothAndItsOwnGoesFirst(t *testing.T) {
	r := pushed(7, revision.Files{
		"sources.d/capper.yaml": pushedYAML, "rules.d/c.yaml": "revision: 1\nrules:\n  - {id: warm, kind: range, signal: a.b.c, min: 2}\n",
		"sources.d/a.yaml": "is not even read\n", "rules.d/b.yaml": files()["rules.d/b.yaml"],
	})
	c, _ := configuredWith(t, files(), nil, r)
	ok(t, c.Need(parts()...))
	if len(c.Sources) != 3 || c.source("capper") == nil || c.source("capper").origin.revision != 7 || c.source("filler").origin.revision != 0 {
		t.Errorf("%+v", c.Sources)
	}
	if strings.Join(c.drift, " ") != "sources.d/a.yaml" {
		t.Errorf("drift %v", c.drift)
	}
	all, err := c.ConfigFiles(true)
	ok(t, err)
	var said []string
	for _, f := range all {
		said = append(said, f.Name+"="+f.Origin)
	}
	const want = "edge.yaml=local sources.d/a.yaml=local sources.d/b.yaml=local sources.d/capper.yaml=revision 7 rules.d/a.yaml=local rules.d/b.yaml=local rules.d/c.yaml=revision 7"
	if got := strings.Join(said, " "); got != want || !all[1].Shadows || all[5].Shadows || !strings.Contains(all[3].Text, "id: capper") {
		t.Errorf("%s", got)
	}
	listed, _, err := c.FindSource(t.Context(), "capper")
	if err != nil || listed.Revision != 7 || !listed.Enabled {
		t.Errorf("%+v, %v", listed, err)
	}
	if _, err := c.SwitchSource(listed, false); !errors.Is(err, ErrOfRevision) {
		t.Errorf("it is switched off: %v", err)
	}
	if err := c.RemoveSource(listed); !errors.Is(err, ErrOfRevision) {
		t.Errorf("it is removed: %v", err)
	}
	of, changes, err := c.ConfigDiff()
	if err != nil || of != r.Ref || len(changes) != 1 || changes[0].Name != "sources.d/a.yaml" || changes[0].What != "changed" {
		t.Errorf("%v %+v, %v", of, changes, err)
	}
	h, err := c.ConfigHistory(time.Now())
	if err != nil || h.State != revision.Drift || len(h.Events) != 2 || h.Number != 7 {
		t.Errorf("%+v, %v", h, err)
	}
}

// A hub must not make an agent read what it can and send it to a broker: only files of the
// configuration folder, and of them none that is the agent's own.
func TestConfig_WhatARevisionMayName(t *testing.T) {
	local := files()
	local["edge.yaml"] = strings.Replace(local["edge.yaml"], "key: k", "key: cred:agent.nk", 1)
	local["certs/pass"], local["credentials/broker"], local["credentials/agent.nk"] = "pw\n", "pw\n", "SU…\n"
	c, dir, err := load(t, local)
	ok(t, err)
	outside := filepath.Join(t.TempDir(), "shadow")
	ok(t, os.WriteFile(outside, []byte("root:x\n"), 0o600))
	ok(t, os.Symlink(outside, filepath.Join(dir, "sources.d", "link")))
	ok(t, os.Symlink(filepath.Dir(outside), filepath.Join(dir, "certs", "folder")))
	ok(t, os.Link(filepath.Join(dir, "t"), filepath.Join(dir, "certs", "token")))
	ok(t, os.MkdirAll(filepath.Join(dir, "data", "pki"), 0o700))
	ok(t, os.WriteFile(filepath.Join(dir, "data", "pki", "own.key"), []byte("key\n"), 0o600))
	up := strings.Repeat("../", 30)
	for path, may := range map[string]bool{
		"secret": true, "../certs/pass": true, "./../certs/../certs/pass": true, "cred:broker": true,
		"/etc/shadow": false, outside: false, up + "etc/shadow": false, "link": false, "../certs/folder/shadow": false, "../edge.yaml": false,
		"../t": false, "../certs/token": false, "../data/pki/own.key": false, "../credentials/agent.nk": false, "cred:agent.nk": false,
		"cred:../edge.yaml": false, "cred:" + up + "etc/shadow": false, "cred:/etc/shadow": false, "cred:a/../broker": false, filepath.Join(dir, "certs", "pass"): false,
		"../../" + filepath.Base(filepath.Dir(outside)) + "/shadow": false, up + strings.TrimPrefix(outside, "/"): false,
	} {
		yaml := strings.Replace(pushedYAML, "  topics:", "  username: u\n  password_file: \""+path+"\"\n  topics:", 1)
		ref := pushed(7, revision.Files{"sources.d/capper.yaml": yaml})
		ok(t, os.RemoveAll(c.revisions().Folder(ref.Ref)))
		ok(t, c.revisions().Stage(ref))
		next, own, err := c.candidate(ref.Ref)
		if (err == nil) != may || own {
			t.Errorf("%s: may %v, own %v, %v", path, may, own, err)
		}
		if err != nil && (!strings.Contains(next.inRevision(ref.Ref, err), "sources.d/capper.yaml:5: ") || !strings.Contains(err.Error(), errNamed.Error())) {
			t.Errorf("%s: %s", path, next.inRevision(ref.Ref, err))
		}
		if may {
			if got := next.source("capper").MQTT.PasswordFile; !strings.HasPrefix(got, dir) {
				t.Errorf("%s leads to %s", path, got)
			}
			continue
		}
		// In a file of its own the gateway may name what it likes.
		local := c
		if _, err := local.parseSource(origin{path: "x", base: filepath.Join(dir, "sources.d")}, []byte(yaml)); err != nil && strings.Contains(err.Error(), errNamed.Error()) {
			t.Errorf("its own may not name %s: %v", path, err)
		}
	}
	// What is missing is said as of its own.
	yaml := strings.Replace(pushedYAML, "  topics:", "  username: u\n  password_file: nothing\n  topics:", 1)
	ref := pushed(8, revision.Files{"sources.d/capper.yaml": yaml})
	ok(t, c.revisions().Stage(ref))
	if _, _, err := c.candidate(ref.Ref); err == nil || !strings.Contains(err.Error(), "no such file") {
		t.Error(err)
	}
}

// What is wrong with a revision is told with its line, and not taken for a fault of the
// gateway's own files, nor the other way round.
func TestCandidate_WhoseFault(t *testing.T) {
	for name, c := range map[string]struct {
		files revision.Files
		spoil string
		own   bool
		want  string
	}{
		"an unknown key":      {revision.Files{"sources.d/x.yaml": "mqtt:\n  idd: x\n"}, "", false, `sources.d/x.yaml:2: unknown key "idd"`},
		"a source of its own": {revision.Files{"sources.d/0.yaml": strings.Replace(pushedYAML, "capper", "filler", 1)}, "", false, `sources.d/0.yaml:2: source "filler" stands in sources.d/a.yaml already`},
		"a rule of its own":   {revision.Files{"rules.d/0.yaml": "revision: 1\nrules:\n  - {id: hot, kind: range, signal: a.b.c, min: 1, max: 5}\n"}, "", false, `rules.d/0.yaml:3: rule "hot" stands in rules.d/a.yaml already`},
		"its own is broken":   {revision.Files{"sources.d/x.yaml": pushedYAML}, "sources.d/b.yaml", true, "a file of this gateway's own is wrong: "},
	} {
		cfg, dir, err := load(t, files())
		ok(t, err)
		if c.spoil != "" {
			ok(t, os.WriteFile(filepath.Join(dir, c.spoil), []byte("opcua: [\n"), 0o600))
		}
		r := pushed(7, c.files)
		ok(t, cfg.revisions().Stage(r))
		next, own, err := cfg.candidate(r.Ref)
		if err == nil || own != c.own || !strings.HasPrefix(next.inRevision(r.Ref, err), c.want) {
			t.Errorf("%s: own %v, %v", name, own, err)
		}
	}
}

// At the beginning the last good one is in force where the other can't be read, is damaged,
// or was tried too often; and a fault of the gateway's own files takes back nothing.
func TestBoot_TheLastGoodOne(t *testing.T) {
	good, bad := pushed(6, revision.Files{"sources.d/capper.yaml": pushedYAML}), pushed(7, revision.Files{"sources.d/capper.yaml": pushedYAML + "#\n"})
	broken := pushed(7, revision.Files{"sources.d/capper.yaml": "mqtt: [\n"})
	now := time.Now()
	trial := func(s revisions.State) revisions.State { return s }
	for name, c := range map[string]struct {
		become func(revisions.State) revisions.State
		all    []*revision.Revision
		spoil  func(c *Config, dir string)
		want   uint64
		state  revision.State
		says   string
		boots  int
	}{
		"good":            {nil, []*revision.Revision{good, bad}, nil, 7, revision.Current, "", 1},
		"tried":           {trial, []*revision.Revision{good, bad}, nil, 7, revision.Trial, "", 1},
		"tried too often": {trial, []*revision.Revision{good, bad}, nil, 6, revision.Reverted, "the agent ended 2 times", 2},
		"not readable":    {trial, []*revision.Revision{good, broken}, nil, 6, revision.Reverted, "could not be read when the agent began: sources.d/capper.yaml:1: ", 1},
		"none before":     {trial, []*revision.Revision{broken}, nil, 0, revision.Reverted, "could not be read", 1},
		"damaged": {nil, []*revision.Revision{good, bad}, func(c *Config, _ string) {
			ok(t, os.RemoveAll(filepath.Join(c.revisions().Folder(bad.Ref), "sources.d")))
		}, 6, revision.Pending, "", 1},
		"a state of rubbish": {nil, []*revision.Revision{good}, func(c *Config, _ string) {
			ok(t, os.WriteFile(filepath.Join(c.Data, revisionsFolder, "state.json"), []byte("{"), 0o600))
		}, 0, revision.Current, "", 1},
		"another of the name": {nil, []*revision.Revision{good}, func(_ *Config, dir string) {
			ok(t, os.WriteFile(filepath.Join(dir, "sources.d", "z.yaml"), []byte(pushedYAML), 0o600))
		}, 0, revision.Reverted, `source "capper" stands in sources.d/z.yaml already`, 1},
	} {
		t.Run(name, func(t *testing.T) {
			local := files()
			cfg, dir := configuredWith(t, local, c.become, c.all...)
			if c.spoil != nil {
				c.spoil(&cfg, dir)
			}
			var log bytes.Buffer
			var got Config
			var err error
			for range c.boots {
				got, err = Boot(filepath.Join(dir, "edge.yaml"), slog.New(slog.NewTextHandler(&log, nil)))
				ok(t, err)
			}
			said := got.state.Says(nil, got.drift, "", now)
			if said.Number != c.want || got.applied != got.state.Current || said.State != c.state || !strings.Contains(said.Why, c.says) {
				t.Errorf("%+v", said)
			}
			if s := got.source("capper"); (s != nil && s.origin.revision > 0) != (c.want > 0) {
				t.Errorf("sources %+v", got.Sources)
			}
			again, err := OpenConfig(filepath.Join(dir, "edge.yaml")) // as any other command sees it
			if err != nil || again.state.Current != got.state.Current && name != "a state of rubbish" {
				t.Errorf("%+v, %v", again.state, err)
			}
			if c.says != "" && !strings.Contains(log.String(), "level=WARN") {
				t.Errorf("nobody is told: %s", log.String())
			}
		})
	}
	cfg, dir := configuredWith(t, files(), nil, good)
	ok(t, os.WriteFile(filepath.Join(dir, "sources.d", "b.yaml"), []byte("opcua: [\n"), 0o600))
	if _, err := Boot(filepath.Join(dir, "edge.yaml"), slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), "sources.d/b.yaml:") {
		t.Error(err)
	}
	if st, err := cfg.revisions().Load(); err != nil || st.Current != good.Ref {
		t.Errorf("a fault of its own took back %+v, %v", st, err)
	}
}

// Who may not look into the agent's folder sees the gateway's own files.
func TestOpenConfig_WithoutTheRightToLook(t *testing.T) {
	cfg, dir := configuredWith(t, files(), nil, pushed(6, revision.Files{"sources.d/capper.yaml": pushedYAML}))
	if os.Getuid() == 0 { // root may: a file in the way does as well
		ok(t, os.RemoveAll(filepath.Join(cfg.Data, revisionsFolder)))
		ok(t, os.WriteFile(filepath.Join(cfg.Data, revisionsFolder), nil, 0o600))
	} else {
		ok(t, os.Chmod(filepath.Join(cfg.Data, revisionsFolder), 0))
	}
	c, err := OpenConfig(filepath.Join(dir, "edge.yaml"), Sources, Rules)
	if err != nil || len(c.Sources) != 2 || c.unread == nil {
		t.Errorf("%d sources, %v, %v", len(c.Sources), c.unread, err)
	}
	if _, err := c.ConfigHistory(time.Now()); err == nil || errors.Is(err, os.ErrNotExist) {
		t.Errorf("%v", err)
	}
}

// A hub that just starts is asked again soon, one that never answers each minute.
func TestNextQuestion(t *testing.T) {
	for unanswered, want := range map[int]time.Duration{0: time.Minute, 1: 2 * time.Second, 2: 4 * time.Second, 5: 32 * time.Second, 6: time.Minute, 1000: time.Minute} {
		if got := nextQuestion(unanswered); got != want {
			t.Errorf("after %d: %s, want %s", unanswered, got, want)
		}
	}
}
