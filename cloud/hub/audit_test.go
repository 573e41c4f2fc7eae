package hub

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nkeys"

	"plantmesh/cloud/access"
	"plantmesh/cloud/audit"
	"plantmesh/cloud/registry"
)

func publicKey(t *testing.T) string {
	t.Helper()
	kp, err := nkeys.CreateUser()
	check(t, err)
	pub, err := kp.PublicKey()
	check(t, err)
	return pub
}

func actions(t *testing.T, cfg Config) (out []string) {
	t.Helper()
	entries, _, _, err := audit.Page(t.Context(), TrailFolder(cfg), audit.Filter{}, 0, 1000)
	check(t, err)
	for _, e := range entries {
		out = append(out, e.Action+" "+e.Object)
	}
	return out
}

// What a backup doesn't know yet is not forgotten by a restore of it; where there is no
// trail that goes on from the backup's, the backup's does.
func TestRestore_TheAuditTrailGoesOn(t *testing.T) {
	cfg := stopped(t)
	backup := filepath.Join(t.TempDir(), "backup")
	_, err := Backup(t.Context(), cfg, backup, quiet())
	check(t, err)
	before := actions(t, cfg)
	_, err = Enroll(cfg, "graz", "gw-9", publicKey(t), time.Hour, time.Now())
	check(t, err)
	_, err = Restore(t.Context(), cfg, backup, true, quiet())
	check(t, err)
	if got, want := actions(t, cfg), slices.Concat(before, []string{"agent.enroll graz/gw-9", "hub.restore graz"}); !slices.Equal(got, want) {
		t.Errorf("the trail says %q, want %q", got, want)
	}
	other := cfg
	other.Data = filepath.Join(t.TempDir(), "hub")
	_, err = Restore(t.Context(), other, backup, false, quiet())
	check(t, err)
	if got, want := actions(t, other), append(slices.Clip(before), "hub.restore graz"); !slices.Equal(got, want) {
		t.Errorf("the trail of another machine says %q, want %q", got, want)
	}
	check(t, os.RemoveAll(TrailFolder(cfg)))
	_, err = Enroll(cfg, "graz", "gw-10", publicKey(t), time.Hour, time.Now())
	check(t, err)
	_, err = Restore(t.Context(), cfg, backup, true, quiet())
	check(t, err)
	if got, want := actions(t, cfg), append(slices.Clip(before), "hub.restore graz"); !slices.Equal(got, want) {
		t.Errorf("where another trail was it says %q, want %q", got, want)
	}
}

// A trail that is broken keeps everything from being changed, and nothing from being
// read or restored.
func TestAudit_ABrokenTrail(t *testing.T) {
	cfg := stopped(t)
	backup := filepath.Join(t.TempDir(), "backup")
	at := filepath.Join(TrailFolder(cfg), "00000000000000000001.jsonl")
	b, err := os.ReadFile(at)
	check(t, err)
	b[len(b)/2] ^= 1
	check(t, os.WriteFile(at, b, 0o600))
	if _, err := Enroll(cfg, "graz", "gw-9", publicKey(t), time.Hour, time.Now()); err == nil {
		t.Error("an agent is enrolled")
	}
	if agents, _, err := Agents(cfg); err != nil || len(agents) != 1 {
		t.Errorf("%+v, %v", agents, err)
	}
	_, err = Backup(t.Context(), cfg, backup, quiet())
	check(t, err)
	_, err = Restore(t.Context(), cfg, backup, true, quiet())
	check(t, err)
	if got := actions(t, cfg); len(got) != 2 || got[1] != "hub.restore graz" {
		t.Errorf("the trail says %q", got)
	}
	if _, err := os.Stat(filepath.Join(cfg.Data, brokenTrail)); err != nil {
		t.Error(err)
	}
}

// A hub of before has to record the key of its domain, so that a broken trail keeps it from
// its first start, in words that say where. Set aside, it starts; one that runs then goes on,
// too, and its readiness says what to do until that.
func TestAudit_SetAside(t *testing.T) {
	cfg := testConfig(t)
	check(t, os.MkdirAll(cfg.Data, 0o700))
	fromBefore(t, cfg, 1)
	_, err := Enroll(cfg, "graz", "gw-9", publicKey(t), time.Hour, time.Now())
	check(t, err)
	harm := func(was, is string) {
		t.Helper()
		at := filepath.Join(TrailFolder(cfg), "00000000000000000001.jsonl")
		b, err := os.ReadFile(at)
		check(t, err)
		check(t, os.WriteFile(at, bytes.Replace(b, []byte(was), []byte(is), 1), 0o600))
	}
	harm("gw-9", "gw-8")
	began := func() (*hub, error) {
		h := &hub{cfg: cfg, log: quiet(), counts: &tally{}, accounts: &server.MemAccResolver{}}
		return h, h.open(t.Context())
	}
	h, err := began()
	if !errors.Is(err, audit.ErrBroken) || !strings.Contains(err.Error(), "00000000000000000001.jsonl:") {
		t.Errorf("it begins: %v", err)
	}
	check(t, h.close())
	a, err := SetTrailAside(t.Context(), cfg, "the disk", nil)
	check(t, err)
	if _, err := SetTrailAside(t.Context(), cfg, "again", nil); !errors.Is(err, ErrUsage) {
		t.Errorf("set aside while it is whole: %v", err)
	}
	h, err = began()
	check(t, err)
	defer func() { check(t, h.close()) }()
	if got := actions(t, cfg); !slices.Contains(got, "audit.aside audit") || !slices.ContainsFunc(got, func(s string) bool { return strings.HasPrefix(s, "domain-key.make ") }) {
		t.Errorf("the trail says %q", got)
	}
	seal := h.sealed()
	harm("the disk", "no disk.")
	_, err = Enroll(cfg, "graz", "gw-10", publicKey(t), time.Hour, time.Now())
	if !errors.Is(err, audit.ErrBroken) {
		t.Errorf("broken again: %v", err)
	}
	s, err := audit.ParseSeal(strings.TrimPrefix(seal, "newest entry "))
	check(t, err)
	check(t, os.Truncate(filepath.Join(TrailFolder(cfg), "00000000000000000001.jsonl"), 100))
	if said := h.sealed(); !strings.Contains(said, "nothing can be changed") || !strings.Contains(said, "plantmesh audit set-aside") {
		t.Errorf("ready says %s", said)
	}
	b, err := SetTrailAside(t.Context(), cfg, "the disk again", &s)
	check(t, err)
	if said := h.sealed(); a.Folder == b.Folder || said != "newest entry "+b.Seal.String() {
		t.Errorf("ready says %s, set aside is %+v", said, b)
	}
	h.gate.mu.Lock()
	_, err = h.reg.Enroll("graz", "gw-11", publicKey(t), time.Hour, time.Now())
	h.gate.mu.Unlock()
	check(t, err)
	if _, err := audit.Verify(t.Context(), TrailFolder(cfg), &b.Seal); err != nil {
		t.Error(err)
	}
}

// A hub that runs finds damage in a file that nobody appends to any more: its readiness, its
// log, its metrics and the API name file and entry, and the newest entries are still read.
func TestAudit_RoundsFindAnOlderFile(t *testing.T) {
	h := opened(t)
	dir := TrailFolder(h.cfg)
	var months []audit.Change
	for i := range 150 { // beyond 4 MiB the next file begins
		months = append(months, audit.Change{Who: "anna", Via: audit.CLI, Action: "machine.add", Object: fmt.Sprintf("graz/m-%d", i), Before: strings.Repeat("<", 2000), After: strings.Repeat("<", 2000), Reason: strings.Repeat("<", 1000)})
	}
	_, err := h.trail.Append(months...)
	check(t, err)
	first := filepath.Join(dir, "00000000000000000001.jsonl")
	b, err := os.ReadFile(first)
	check(t, err)
	check(t, os.WriteFile(first, bytes.Replace(b, []byte("graz/m-7\""), []byte("graz/m-8\""), 1), 0o600))
	_, err = h.trail.Append(audit.Change{Who: "anna", Via: audit.CLI, Action: "machine.add", Object: "graz/last"})
	check(t, err)
	if said := h.sealed(); strings.Contains(said, "damaged") {
		t.Errorf("before it looked: %s", said)
	}
	var told bytes.Buffer
	h.log = slog.New(slog.NewTextHandler(&told, nil))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	check(t, h.goRounds(ctx, time.Hour)) // one look
	said := h.sealed()
	for _, want := range []string{"newest entry ", "an older one is damaged", "00000000000000000001.jsonl:", "has other bytes", "plantmesh audit set-aside"} {
		if !strings.Contains(said, want) {
			t.Errorf("ready says %q, without %q", said, want)
		}
	}
	if log := told.String(); !strings.Contains(log, "level=ERROR") || !strings.Contains(log, "file=00000000000000000001.jsonl") || !strings.Contains(log, "entry=") || h.counts.broken.Load() != 1 {
		t.Errorf("the log says %s", log)
	}
	w := httptest.NewRecorder()
	(&audit.Desk{Trail: h.trail, Rounds: h.rounds, Log: quiet(), May: func(*http.Request, string, string) error { return nil }}).
		ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/api/v1/audit?order=newest&limit=2", nil))
	if body := w.Body.String(); w.Code != http.StatusOK || !strings.Contains(body, "graz/last") || !strings.Contains(body, `"broken":{"file":"00000000000000000001.jsonl"`) {
		t.Errorf("the API says %d %.300s", w.Code, body)
	}
}

func TestRecordChange_ThingsFirst(t *testing.T) {
	for words, want := range map[string]string{"add user": "user.add", "end session": "session.end", "sign in": "sign.in", "fail to sign in": "sign.in.failed"} {
		if got := actionOf(words); got != want {
			t.Errorf("%q is %q, want %q", words, got, want)
		}
	}
	cfg := stopped(t)
	check(t, recordChange(cfg, access.Change{Who: "root", Via: access.ViaCLI, Action: "add user", Object: "user anna", After: "admin"}))
	if got := actions(t, cfg); got[len(got)-1] != "user.add user anna" {
		t.Errorf("the trail says %q", got)
	}
}

// A hub whose keys are sealed is backed up and restored with their key, and by nobody
// without it.
func TestKeyFile_BackupAndRestore(t *testing.T) {
	cfg := testConfig(t)
	cfg.Identity.KeyFile = filepath.Join(t.TempDir(), "key")
	h := &hub{cfg: cfg, log: quiet(), counts: &tally{}, accounts: &server.MemAccResolver{}}
	check(t, h.open(t.Context()))
	check(t, h.close())
	_, err := Enroll(cfg, "graz", "gw-1", publicKey(t), time.Hour, time.Now())
	check(t, err)
	backup := filepath.Join(t.TempDir(), "backup")
	_, err = Backup(t.Context(), cfg, backup, quiet())
	check(t, err)
	b, err := os.ReadFile(filepath.Join(backup, dataPart, registryName, "keys.json"))
	if err != nil || bytes.Contains(b, []byte("seed")) {
		t.Errorf("the backup's keys are readable: %s, %v", b, err)
	}
	_, err = Enroll(cfg, "graz", "gw-2", publicKey(t), time.Hour, time.Now())
	check(t, err)
	if r, err := Restore(t.Context(), cfg, backup, true, quiet()); err != nil || r.Kept != 1 {
		t.Errorf("%+v, %v", r, err)
	}
	if agents, _, err := Agents(cfg); err != nil || len(agents) != 2 {
		t.Errorf("%+v, %v", agents, err)
	}
	without := cfg
	without.Identity.KeyFile = ""
	if _, _, err := Agents(without); !errors.Is(err, registry.ErrSealed) {
		t.Errorf("without the key: %v", err)
	}
}

func TestConfig_KeyFileOutsideTheData(t *testing.T) {
	for at, ok := range map[string]bool{"hub/key": false, "hub/x/../key": false, "key": true, "hub2/key": true} {
		dir := t.TempDir()
		check(t, os.WriteFile(filepath.Join(dir, "site.yaml"), []byte(testSite), 0o600))
		check(t, os.WriteFile(filepath.Join(dir, "hub.yaml"), []byte("data: hub\nsite_file: site.yaml\nidentity: {key_file: "+at+"}\n"), 0o600))
		if _, err := LoadConfig(filepath.Join(dir, "hub.yaml")); (err == nil) != ok {
			t.Errorf("%s: %v", at, err)
		}
	}
}
