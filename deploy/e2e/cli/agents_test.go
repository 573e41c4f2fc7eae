package cli

import (
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestAgents_RevokeMakesRoomForANewGateway(t *testing.T) {
	t.Parallel()
	dir := enrolled(t)
	hub := filepath.Join(dir, "hub.yaml")
	oneLine(t, run(t, nil, "plantmesh", "agents", "revoke", "--config", hub, "--site", "graz", "gw-9"), exitIdentity, "gw-9 at graz", "no agent")
	if said := must(t, "plantmesh", "agents", "revoke", "--config", hub, "--site", "graz", "gw-1"); !strings.HasPrefix(said, "graz\tgw-1\trevoked 2") {
		t.Errorf("revoke printed %q", said)
	}
	if list := must(t, "plantmesh", "agents", "list", "--config", hub); !strings.Contains(list, "\trevoked 2") {
		t.Errorf("agents list printed %q", list)
	}
	old := must(t, "plantmesh-edge", "keygen", filepath.Join(dir, "agent.nk"))
	oneLine(t, run(t, nil, "plantmesh", "agents", "enroll", "--config", hub, "--site", "graz", "gw-1", old), exitIdentity, "revoked")
	must(t, "plantmesh", "agents", "enroll", "--config", hub, "--site", "graz", "gw-1", must(t, "plantmesh-edge", "keygen", filepath.Join(dir, "new.nk")))
}

func TestHub_OneOnADataFolder(t *testing.T) {
	t.Parallel()
	dir := enrolled(t)
	hub := filepath.Join(dir, "hub.yaml")
	first := begin(t, dir, nil, "plantmesh", "serve", "--config", hub)
	first.says(first.err, "hub is up", 30*time.Second)
	oneLine(t, run(t, nil, "plantmesh", "serve", "--config", hub), exitState, filepath.Join(dir, "hub"), "in use by another hub (pid ", "stop that one")
	first.signal(syscall.SIGSTOP) // one that is paused holds it too
	oneLine(t, run(t, nil, "plantmesh", "serve", "--config", hub), exitState, "in use by another hub (pid ")
	first.signal(syscall.SIGCONT)
	must(t, "plantmesh", "agents", "list", "--config", hub) // which a running hub doesn't hinder
	first.signal(syscall.SIGTERM)
	if code := first.ends(20 * time.Second); code != 0 {
		t.Errorf("exit code %d", code)
	}
}
