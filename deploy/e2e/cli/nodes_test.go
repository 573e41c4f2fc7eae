package cli

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"plantmesh/edge/agent"
	"plantmesh/edge/source/sparkplug/payload"
)

// nodeSays is what a node publishes: with births it names its metrics, and without them
// only their aliases.
func nodeSays(births bool) func(now time.Time) [][2]string {
	return func(now time.Time) (out [][2]string) {
		ms := uint64(now.UnixMilli())
		say := func(topic string, seq uint64, metrics ...payload.Metric) {
			out = append(out, [2]string{topic, string(payload.Append(nil, &payload.Payload{Timestamp: ms, Seq: seq, HasSeq: true, Metrics: metrics}))})
		}
		speed := payload.Metric{Alias: 1, HasAlias: true, Type: payload.Double, Value: payload.Value{Kind: payload.InDouble, Bits: 0x4044c00000000000}} // 41.5
		if births {
			named := speed
			named.Name = []byte("Filler/Speed")
			say("spBv1.0/plant/NBIRTH/line3", 0, payload.Metric{Name: []byte("bdSeq"), Type: payload.Int64, Value: payload.Value{Kind: payload.InLong}}, named)
		}
		say("spBv1.0/plant/NDATA/line3", 1, speed)
		return out
	}
}

// A technician who knows nothing but the broker's address gets a file for the nodes there,
// and sees what the agent makes of each metric.
func TestSourceTest_FromABrokerToNodes(t *testing.T) {
	t.Parallel()
	address, dir, files := openBroker(t), folder(t), good()
	for _, f := range []string{"a", "b", "c", "d"} {
		delete(files, "sources.d/"+f+".yaml")
	}
	write(t, dir, files)
	edge, source := filepath.Join(dir, "edge.yaml"), filepath.Join(dir, "sources.d", "line3.yaml")

	out, code := whilePublished(t, address, nodeSays(true), "source", "test", "mqtt://"+address, "--topic", "spBv1.0/plant/#", "--messages", "4", "--wait", "40s", "--out", source)
	if code != 0 || !strings.Contains(out, "a source with 1 nodes, whose births name 1 signals so far") {
		t.Fatalf("exit code %d: %s", code, out)
	}
	proposed := contents(t, source)
	for _, want := range []string{"# Proposed from 4 messages of 1 Sparkplug B nodes.", "sparkplug:\n  id: sparkplug-127.0.0.1-", "  mode: passive # ", "  - \"plant/line3\" # "} {
		if !strings.Contains(proposed, want) {
			t.Errorf("the file lacks %s:\n%s", want, proposed)
		}
	}
	must(t, "plantmesh-edge", "check", "--config", edge, "--section", "configuration,identity")

	// The node of the broker itself speaks, too.
	out, code = whilePublished(t, address, nodeSays(true), "source", "test", "--config", edge, source, "--messages", "4", "--wait", "40s")
	for _, want := range []string{
		"plant.line3.Filler.Speed\n", "asked    plant/line3/Filler/Speed", `raw      Double "41.5", no Quality`, `mapped   double "41.5", Good, at `, "(clock of the node): Double becomes double",
		"its birth gave it that alias", "left out plant/line3/bdSeq Int64 0: no value of the plant", "subject  ingest.v1.graz.gw-1.live, as plant.line3.Filler.Speed of source sparkplug-",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("exit code %d, and it does not say %q:\n%s", code, want, out)
		}
	}

	// Whose birth nobody heard has no names, and it is said what to do.
	out, code = whilePublished(t, address, nodeSays(false), "--json", "source", "test", "--config", edge, source, "--messages", "2", "--wait", "40s")
	var e struct {
		Error struct {
			Code  string
			Cause []string
		}
		Data agent.Tested
	}
	if err := json.Unmarshal([]byte(out), &e); err != nil || code != exitFindings || e.Error.Code != "source.findings" {
		t.Fatalf("exit code %d, %v: %s", code, err, out)
	}
	if notes := strings.Join(e.Data.Notes, "\n"); !strings.Contains(notes, "no birth of plant/line3 was heard in this test") || !strings.Contains(notes, "Node Control/Rebirth") {
		t.Errorf("notes: %s", notes)
	}
	if m := e.Data.Messages[0]; !m.Refused || len(m.LeftOut) != 1 || m.LeftOut[0].Place != "plant/line3/alias 1" || m.LeftOut[0].Value != "Double 41.5" {
		t.Errorf("%+v", m)
	}

	// A file that names another node says which there are.
	write(t, dir, map[string]string{"other.yaml": strings.Replace(proposed, `"plant/line3"`, `"plant/line4"`, 1)})
	out, code = whilePublished(t, address, nodeSays(true), "source", "test", "--config", edge, filepath.Join(dir, "other.yaml"), "--wait", "1s")
	if code != exitFindings || !strings.Contains(out, "node plant/line3 spoke too") || !strings.Contains(out, `to read it write in nodes: - "plant/line3"`) {
		t.Errorf("exit code %d: %s", code, out)
	}
}
