package cli

import (
	"encoding/csv"
	"encoding/json"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// A server without protection: the way out is named, by the flag for browse and by
// the key for a source's file.
func TestBrowse_EndpointsWithoutProtection(t *testing.T) {
	t.Parallel()
	dir := folder(t)
	url := device(t, dir)
	edge := filepath.Join(dir, "edge.yaml")
	wayOut := "Enable Basic256Sha256 with SignAndEncrypt at the server. If it can't, and everyone on that network may read and change what is sent: "
	source := func(id, security, url string) string {
		return "opcua:\n  id: " + id + "\n  endpoint: " + url + "\n  security: {" + security + "}\n  signals:\n    - {name: line1.filler.state, type: int, node: \"nsu=urn:plantmesh:firmware-sim;s=line1.filler.state\"}\n"
	}
	write(t, dir, map[string]string{
		"edge.yaml": "agent: gw-1\nsite: graz\ndata: data\n", "sources.d/filler.yaml": source("filler", "", url), "sources.d/gone.yaml": source("gone", "insecure: true", "opc.tcp://127.0.0.1:1"),
	})
	r := run(t, nil, "plantmesh-edge", "browse", hostPort(url))
	if r.code != 0 || !strings.Contains(r.out, "not taken: neither signed nor encrypted: only --insecure takes that\nbut          the server does not offer ") || !strings.Contains(r.out, wayOut+"--insecure\n") || r.err != "" {
		t.Errorf("exit code %d: %s%s", r.code, r.out, r.err)
	}
	r = run(t, nil, "plantmesh-edge", "browse", url, "--config", edge)
	if r.code != exitNetwork || !strings.HasSuffix(r.last(), wayOut+"--insecure [net.unreachable]") {
		t.Errorf("exit code %d: %s", r.code, r.err)
	}
	r = run(t, nil, "plantmesh-edge", "source", "test", "--config", edge, filepath.Join(dir, "sources.d", "filler.yaml"))
	if r.code != exitNetwork || !strings.HasSuffix(r.last(), wayOut+"security.insecure: true [net.unreachable]") {
		t.Errorf("exit code %d: %s", r.code, r.err)
	}
	write(t, dir, map[string]string{"open.yaml": source("filler", "insecure: true", url)}) // as it says
	if code, _, got := tried(t, dir, "open.yaml"); code != 0 || got.Good != 1 {
		t.Errorf("exit code %d: %+v", code, got)
	}
	r = run(t, nil, "plantmesh-edge", "browse", "--endpoints", "--insecure", url)
	if r.code != 0 || !strings.Contains(r.out, "-> None                   None            anonymous                         taken: unprotected, as --insecure asks for\n") || r.last() != "Next:  plantmesh-edge browse "+url+" --insecure" {
		t.Errorf("exit code %d: %s%s", r.code, r.out, r.err)
	}
	offersOfSources(t, edge, url)
}

// offersOfSources: without a server all sources are asked, and one that can't be is told.
func offersOfSources(t *testing.T, edge, url string) {
	t.Helper()
	r := run(t, nil, "plantmesh-edge", "browse", "--config", edge, "--json")
	e := answered(t, r.out)
	var got struct {
		Servers []struct {
			Source, Endpoint, Error string
			Obstacles               []string
			Offers                  []struct {
				Policy, Mode, Why string
				Taken             bool
				Logins            []string
			}
		}
		NotReady []string `json:"not_ready"`
	}
	if err := json.Unmarshal(e.Data, &got); err != nil {
		t.Fatalf("%v: %s%s", err, r.out, r.err)
	}
	if len(got.Servers) != 2 || len(got.NotReady) != 1 {
		t.Fatalf("%s", r.out)
	}
	if s := got.Servers[0]; s.Source != "filler" || s.Endpoint != url || s.Error != "" || len(s.Obstacles) != 1 || !strings.HasSuffix(s.Obstacles[0], ": security.insecure: true") || len(s.Offers) != 1 || s.Offers[0].Taken || s.Offers[0].Policy != "None" || !slices.Equal(s.Offers[0].Logins, []string{"anonymous"}) {
		t.Errorf("%+v", s)
	}
	if s := got.Servers[1]; s.Source != "gone" || !strings.Contains(s.Error, "127.0.0.1 is there, and nothing listens at this port") {
		t.Errorf("%+v", s)
	}
	words := run(t, nil, "plantmesh-edge", "browse", "--config", edge)
	if words.code != 0 || !strings.Contains(words.out, "source       filler\nserver       ") || !strings.Contains(words.out, "source       gone\nserver       opc.tcp://127.0.0.1:1: not connected: 127.0.0.1 is there") || strings.Contains(words.err, "Next:") {
		t.Errorf("exit code %d: %s%s", words.code, words.out, words.err)
	}
	if one := run(t, nil, "plantmesh-edge", "browse", "--endpoints", "filler", "--config", edge); one.code != 0 || !strings.HasPrefix(one.out, "source       filler\n") {
		t.Errorf("exit code %d: %s%s", one.code, one.out, one.err)
	}
}

// A table of all nodes, with what a source file would call them.
func TestBrowse_CSV(t *testing.T) {
	t.Parallel()
	url := device(t, folder(t))
	r := run(t, nil, "plantmesh-edge", "browse", url, "--insecure", "--csv", "--values")
	rows, err := csv.NewReader(strings.NewReader(r.out)).ReadAll() // each with as many fields as the first
	if err != nil || r.code != 0 || !strings.Contains(r.err, " nodes in ") {
		t.Fatalf("exit code %d, %v: %s%s", r.code, err, r.out, r.err)
	}
	at := map[string]int{}
	for i, name := range rows[0] {
		at[name] = i
	}
	if want := "path,name,node,class,data_type,type,array,unit,access,namespace,value,status,source_time,machine,signal,role\n"; !strings.HasPrefix(r.out, want) {
		t.Fatalf("columns %q, want %q", rows[0], want)
	}
	signals := 0
	for _, row := range rows[1:] {
		if row[at["signal"]] != "" {
			signals++
		}
		switch row[at["signal"]] {
		case "line1.filler.temperature":
			want := map[string]string{"name": "temperature", "node": "nsu=urn:plantmesh:firmware-sim;s=line1.filler.temperature", "class": "variable", "data_type": "Double", "type": "double", "array": "false", "unit": "CEL", "status": "Good", "machine": "line1-filler", "role": ""}
			for column, value := range want {
				if row[at[column]] != value {
					t.Errorf("%s is %q, want %q", column, row[at[column]], value)
				}
			}
			if !strings.HasSuffix(row[at["path"]], "Monitoring/temperature") || row[at["value"]] == "" || !strings.HasPrefix(row[at["source_time"]], "2026-03-02T06:") {
				t.Errorf("%q", row)
			}
		case "line1.filler.state":
			if row[at["role"]] != "state" {
				t.Errorf("%q", row)
			}
		}
	}
	if signals != 56 {
		t.Errorf("%d nodes have a signal", signals)
	}
	picked := run(t, nil, "plantmesh-edge", "browse", url, "--insecure", "--csv", "--filter", "^temperature$")
	if n := strings.Count(picked.out, "\n"); picked.code != 0 || n != 5 || strings.Count(picked.out, "/temperature,temperature,") != 4 {
		t.Errorf("exit code %d: %s%s", picked.code, picked.out, picked.err)
	}
}
