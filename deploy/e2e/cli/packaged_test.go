package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// What the packages bring as configuration lacks only what nobody but the operator
// knows, and says so; filled in it is taken.
func TestPackaged_ConfigurationLacksOnlyWhatTheOperatorKnows(t *testing.T) {
	t.Parallel()
	packages := filepath.Join(root(t), "deploy", "release")
	dir := folder(t)
	edge, hub := filepath.Join(dir, "edge.yaml"), filepath.Join(dir, "hub.yaml")
	text := func(path ...string) string {
		b, err := os.ReadFile(filepath.Join(path...))
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	write(t, dir, map[string]string{"edge.yaml": text(packages, "edge", "edge.yaml"), "hub.yaml": text(packages, "hub", "hub.yaml")})
	oneLine(t, run(t, nil, "plantmesh-edge", "check", "--config", edge, "--section", "configuration"), exitConfig, "agent is missing")
	oneLine(t, run(t, nil, "plantmesh", "check", "--config", hub), exitConfig, "site.yaml: no such file")

	env := []string{"PLANTMESH_EDGE_AGENT=gw-1", "PLANTMESH_EDGE_SITE=graz", "PLANTMESH_EDGE_HUB__URL=nats://127.0.0.1:4222"}
	oneLine(t, run(t, env, "plantmesh-edge", "check", "--config", edge, "--section", "configuration,identity"), exitConfig, filepath.Join("credentials", "agent.nk"))
	write(t, dir, map[string]string{"credentials/agent.nk": seed, "credentials/agent.jwt": token})
	if r := run(t, env, "plantmesh-edge", "check", "--config", edge, "--section", "configuration,identity"); r.code != 0 {
		t.Errorf("with all of it: %d %s", r.code, r.err)
	}
	write(t, dir, map[string]string{"site.yaml": text(root(t), "deploy", "examples", "hub", "site.yaml")})
	if r := run(t, nil, "plantmesh", "check", "--config", hub); r.code != 0 || !strings.Contains(r.out, "ok, with ") {
		t.Errorf("with a site file: %d %s%s", r.code, r.out, r.err)
	}
}
