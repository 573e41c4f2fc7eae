package cli

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"plantmesh/edge/agent"
	"plantmesh/firmware-sim/mqtt/sparkplug"
	"plantmesh/firmware-sim/plant"
)

// openBroker lets everybody publish and subscribe: the plant's own feeds one session only.
func openBroker(t *testing.T) (address string) {
	t.Helper()
	s, err := sparkplug.Serve(sparkplug.Config{Source: "line9", Listen: "127.0.0.1:0"}, []plant.Signal{{Source: "line9", Name: "line9.filler.speed", Type: plant.Double}}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return strings.TrimPrefix(s.URL(), "mqtt://")
}

// whilePublished runs a command of the agent while a machine publishes, a round each time
// the one before is through.
func whilePublished(t *testing.T, address string, round func(now time.Time) [][2]string, args ...string) (out string, code int) {
	t.Helper()
	p := begin(t, t.TempDir(), nil, "plantmesh-edge", args...)
	for over := time.Now().Add(60 * time.Second); time.Now().Before(over); {
		for _, m := range round(time.Now()) {
			publish(t, address, m[0], m[1])
		}
		select {
		case <-p.done:
			code = p.ends(5 * time.Second)
			return p.out.String(), code
		default:
		}
	}
	t.Fatal("the command does not end")
	return "", 0
}

func machines(now time.Time) (out [][2]string) {
	ms := now.UnixMilli()
	return [][2]string{
		{"plant/line3/filler", fmt.Sprintf(`{"ts":%d,"speed":41.5,"state":6,"order":"A-1"}`, ms)},
		{"plant/line3/capper", fmt.Sprintf(`{"ts":%d,"speed":30,"state":2}`, ms)},
		{"plant/line3/heartbeat", fmt.Sprintf(`{"ts":%d}`, ms)},
	}
}

// A technician who knows nothing but the broker's address gets a file that the agent takes,
// and sees what it makes of each value.
func TestSourceTest_FromABrokerToASource(t *testing.T) {
	t.Parallel()
	address, dir, files := openBroker(t), folder(t), good()
	delete(files, "sources.d/a.yaml")
	delete(files, "sources.d/b.yaml")
	write(t, dir, files)
	edge, source := filepath.Join(dir, "edge.yaml"), filepath.Join(dir, "sources.d", "line3.yaml")

	out, code := whilePublished(t, address, machines, "source", "test", "mqtt://"+address, "--topic", "plant/#", "--messages", "9", "--wait", "40s", "--id", "line3", "--out", source)
	if code != 0 || !strings.Contains(out, "a source with 5 signals") {
		t.Fatalf("exit code %d: %s", code, out)
	}
	proposed, err := os.ReadFile(source)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"mqtt:\n  id: line3\n", `filter: "plant/line3/{machine}"`, `signal: "{topic}.{key}"`, "time: ts", "heartbeat: {topic: plant/line3/heartbeat, time: ts, time_unit: ms}",
		"{name: plant.line3.filler.speed, type: double} # \"41.5\"", "{name: plant.line3.capper.speed, type: int}", "{name: plant.line3.filler.order, type: string}",
	} {
		if !strings.Contains(string(proposed), want) {
			t.Errorf("the file lacks %s:\n%s", want, proposed)
		}
	}
	must(t, "plantmesh-edge", "check", "--config", edge, "--section", "configuration,identity")

	out, code = whilePublished(t, address, machines, "source", "test", "--config", edge, source, "--messages", "6", "--wait", "40s")
	for _, want := range []string{
		"plant.line3.filler.speed\n", `number "41.5", Good, source time `, `double "41.5", Good, at `, "(clock of the source): number becomes double",
		"subject  ingest.v1.graz.gw-1.live, as plant.line3.filler.speed of source line3", "heartbeat: everything before ", "10 of 10 values are taken as declared",
	} {
		if code != 0 || !strings.Contains(out, want) {
			t.Errorf("exit code %d, and it does not say %q:\n%s", code, want, out)
		}
	}

	// Then the machine sends what nobody declared, and a text for a number.
	worse := func(now time.Time) [][2]string {
		return [][2]string{{"plant/line3/filler", fmt.Sprintf(`{"ts":%d,"speed":"fast","colour":{"r":1}}`, now.UnixMilli())}, {"plant/line3/capper", "out of order"}}
	}
	out, code = whilePublished(t, address, worse, "--json", "source", "test", "--config", edge, source, "--messages", "2", "--wait", "40s")
	var e struct {
		Error struct {
			Code  string
			Cause []string
			Data  agent.Tested
		}
	}
	if err := json.Unmarshal([]byte(out), &e); err != nil || code != exitFindings || e.Error.Code != "source.findings" {
		t.Fatalf("exit code %d, %v: %s", code, err, out)
	}
	if all := strings.Join(e.Error.Cause, "\n"); !strings.Contains(all, "plant.line3.filler.speed: ") || !strings.Contains(all, "another type") || !strings.Contains(all, "payload is no JSON object") {
		t.Errorf("causes: %s", all)
	}
	for _, m := range e.Error.Data.Messages {
		if m.Topic == "plant/line3/filler" && (len(m.LeftOut) != 1 || m.LeftOut[0].Place != "colour" || m.LeftOut[0].Why == "") {
			t.Errorf("left out: %+v", m.LeftOut)
		}
	}
}

func TestSourceTest_NobodySaysAnything(t *testing.T) {
	t.Parallel()
	address, dir, files := openBroker(t), folder(t), good()
	files["quiet.yaml"] = strings.Replace(files["sources.d/b.yaml"], "127.0.0.1:1883", address, 1)
	write(t, dir, files)
	for _, args := range [][]string{
		{"source", "test", "mqtt://" + address, "--topic", "plant/#", "--wait", "500ms"},
		{"source", "test", "--config", filepath.Join(dir, "edge.yaml"), filepath.Join(dir, "quiet.yaml"), "--wait", "500ms"},
	} {
		if r := run(t, nil, "plantmesh-edge", args...); r.code != exitFindings || !strings.Contains(r.err, "--wait") {
			t.Errorf("%v: exit code %d: %s%s", args, r.code, r.out, r.err)
		}
	}
}
