package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestBackup_OfAHubThatRunsAndOfOneThatWasKilled goes through what an operator
// does: back up, read back, restore where that is allowed, and start again.
func TestBackup_OfAHubThatRunsAndOfOneThatWasKilled(t *testing.T) {
	t.Parallel()
	dir := folder(t)
	write(t, dir, good())
	config := filepath.Join(dir, "hub.yaml")
	program, args := hubCommand(dir)
	p := begin(t, dir, nil, program, args...)
	p.says(p.err, "hub is up", 20*time.Second)
	in := func(name string) string { return filepath.Join(dir, name) }
	r := run(t, nil, program, "backup", "--config", config, in("warm"))
	if r.code != 0 || !strings.Contains(r.err, "secret keys") || !strings.HasPrefix(r.last(), "Next:  plantmesh restore --config") {
		t.Errorf("exit code %d, stderr\n%s", r.code, r.err)
	}
	r = run(t, nil, program, "restore", "--config", config, "--force", in("warm"))
	if r.code != exitState || !strings.Contains(r.err, "in use by another hub") {
		t.Errorf("restored under a hub: exit code %d, stderr\n%s", r.code, r.err)
	}
	p.signal(os.Kill)
	<-p.done
	must(t, program, "backup", "--config", config, in("cold.tar"))
	for _, name := range []string{"warm", "cold.tar"} {
		said := must(t, program, "restore", "--config", config, "--check", in(name))
		if !strings.Contains(said, "is whole") || !strings.Contains(said, "site graz") {
			t.Errorf("%s: %s", name, said)
		}
		r = run(t, nil, program, "restore", "--config", config, in(name))
		if r.code != exitState || !strings.Contains(r.err, "--force") {
			t.Errorf("restored over data: exit code %d, stderr\n%s", r.code, r.err)
		}
		r = run(t, nil, program, "restore", "--config", config, "--force", in(name))
		if r.code != 0 || !strings.Contains(r.err, "moved aside") || !strings.HasPrefix(r.last(), "Next:  plantmesh serve --config") {
			t.Errorf("exit code %d, stderr\n%s", r.code, r.err)
		}
		p = begin(t, dir, nil, program, args...)
		p.says(p.err, "hub is up", 20*time.Second)
		p.signal(interrupt)
		if code := p.ends(20 * time.Second); code != 0 {
			t.Errorf("the hub on %s ended with %d", name, code)
		}
	}
}
