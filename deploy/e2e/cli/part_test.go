package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A technician looks at the machine first and has the gateway enrolled later: what is
// missing for sending keeps nobody from browsing or testing, and is said.
func TestBrowse_BeforeTheGatewayIsEnrolled(t *testing.T) {
	t.Parallel()
	dir := folder(t)
	url := device(t, dir)
	edge, file := filepath.Join(dir, "edge.yaml"), filepath.Join(dir, "sources.d", "line1.yaml")
	begun := "agent: gw-1\nsite: graz\ndata: data\n"
	write(t, dir, map[string]string{"edge.yaml": begun, "sources.d/other.yaml": "opcua:\n  id: other\n", "rules.d/r.yaml": good()["rules.d/r.yaml"]})
	other := "note: not ready to run: " + filepath.Join(dir, "sources.d", "other.yaml") + `:1: endpoint "" is not opc.tcp://host:port` + "\n"
	r := run(t, nil, "plantmesh-edge", "browse", url, "--insecure", "--out", file, "--measure", "300ms", "--config", edge)
	if r.code != 0 || !strings.HasPrefix(r.err, "note: not ready to run: "+edge+":1: hub.url is missing (plantmesh-edge enroll writes it)\n"+other) {
		t.Fatalf("exit code %d: %s%s", r.code, r.out, r.err)
	}
	for _, c := range []struct {
		name, edge, want string // what is missing now
		subject          string
	}{
		{"no hub", begun, edge + ":1: hub.url is missing (plantmesh-edge enroll writes it)", "ingest.v1.graz.gw-1.live"},
		{"no key", good()["edge.yaml"], edge + ":6: " + filepath.Join(dir, "agent.nk") + ": no such file", "ingest.v1.graz.gw-1.live"},
		{"nothing", "# to be written\n", edge + ":1: agent is missing (plantmesh-edge enroll writes it)", ""},
	} {
		write(t, dir, map[string]string{"edge.yaml": c.edge})
		code, _, got := tried(t, dir, "sources.d/line1.yaml")
		if code != 0 || got.Good != 56 || len(got.NotReady) < 2 || got.NotReady[0] != "not ready to run: "+c.want || got.Journeys[0].Send.Subject != c.subject {
			t.Errorf("%s: exit code %d, %d good, not ready: %q, subject %q", c.name, code, got.Good, got.NotReady, got.Journeys[0].Send.Subject)
		}
		words := run(t, nil, "plantmesh-edge", "source", "test", "--config", edge, file)
		if words.code != 0 || !strings.HasPrefix(words.err, "note: not ready to run: "+c.want+"\n") || !strings.Contains(words.out, "56 of 56 signals are taken") {
			t.Errorf("%s: exit code %d: %s", c.name, words.code, words.err)
		}
		if named := run(t, nil, "plantmesh-edge", "browse", browsedID(t, contents(t, file)), "--config", edge, "--names"); named.code != 0 {
			t.Errorf("%s: exit code %d: %s", c.name, named.code, named.err)
		}
	}
	// A source that can't be read may be the one that is meant.
	oneLine(t, run(t, nil, "plantmesh-edge", "browse", "other", "--config", edge), exitConfig, "sources.d/other.yaml:1: endpoint")
	// A protected connection needs a certificate, and that says who this is.
	oneLine(t, run(t, nil, "plantmesh-edge", "browse", url, "--config", edge), exitConfig, "agent is missing (plantmesh-edge enroll writes it): a protected connection needs this gateway's certificate")
	oneLine(t, run(t, nil, "plantmesh-edge", "cert", "list", "--config", edge), exitConfig, "agent is missing")
	write(t, dir, map[string]string{"rules.d/r.yaml": "revision: one\n"}) // half of what a test shows
	r = run(t, nil, "plantmesh-edge", "source", "test", "--config", edge, file)
	if r.code != exitConfig || !strings.Contains(r.last(), "rules.d/r.yaml:1: ") {
		t.Errorf("exit code %d: %s", r.code, r.err)
	}
}

func contents(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// Who asks a running agent needs to know where its socket is, and nothing else.
func TestStatus_OfAnAgentWhoseFilesAreChanged(t *testing.T) {
	t.Parallel()
	dir := enrolled(t)
	edge := filepath.Join(dir, "edge.yaml")
	p := begin(t, t.TempDir(), nil, "plantmesh-edge", "run", "--config", edge)
	p.says(p.err, "agent is up", 20*time.Second)
	until(t, 10*time.Second, "the agent answers", func() bool { return ask(t, edge, new(status)) })
	if err := os.Remove(filepath.Join(dir, "agent.jwt")); err != nil {
		t.Fatal(err)
	}
	write(t, dir, map[string]string{"sources.d/half.yaml": "opcua:\n", "rules.d/r.yaml": "revision: one\n"})
	for _, words := range [][]string{{"status"}, {"buffer", "status"}, {"buffer", "verify"}, {"buffer", "compact"}, {"buffer", "export", filepath.Join(dir, "kept.frames")}} {
		must(t, "plantmesh-edge", append(words, "--config", edge)...)
	}
	oneLine(t, run(t, nil, "plantmesh-edge", "check", "--config", edge, "--section", "identity"), exitConfig, "agent.jwt: no such file")
}
