package cli

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestDemo_FinalRowsAreThoseOfACalmRun breaks the same plant in three ways and
// demands the same final rows, to the byte, apart from what says when and where
// a row was made.
func TestDemo_FinalRowsAreThoseOfACalmRun(t *testing.T) {
	if os.Getenv("PLANTMESH_DEMO") != "full" {
		t.Skip("takes five minutes: make demo-bars, or PLANTMESH_DEMO=full")
	}
	start := time.Now().UTC().Add(-72 * time.Hour).Truncate(time.Hour).Format(time.RFC3339)
	rows := func(faults string) map[string]string {
		dir := filepath.Join(folder(t), "kept")
		args := []string{"--for", "1h", "--start", start, "--seed", "5", "--dir", dir}
		if faults != "" {
			args = append(args, "--fault", faults)
		}
		d := demo(t, append([]string{"--speed", "60", "--assert"}, args...)...)
		code := d.ends(10 * time.Minute)
		t.Logf("%q: %s", faults, d.out.with("demo: "))
		if code != 0 {
			t.Fatalf("exit code %d", code)
		}
		return finals(t, dir)
	}
	calm := rows("")
	if len(calm) < 10_000 {
		t.Fatalf("%d rows", len(calm))
	}
	for _, faults := range []string{"outage", "late", "kill-hub", "outage,late,kill-hub"} {
		got := rows(faults)
		var differ []string
		for name, body := range calm {
			if got[name] != body {
				differ = append(differ, name)
			}
		}
		for name := range got {
			if _, ok := calm[name]; !ok {
				differ = append(differ, name)
			}
		}
		slices.Sort(differ)
		t.Logf("%q: of %d final rows %d differ", faults, len(calm), len(differ))
		for _, name := range differ[:min(5, len(differ))] {
			t.Errorf("%s:\n%q\n%q", name, calm[name], got[name])
		}
	}
}

// listens is the address a hub says it serves its page at.
var listens = regexp.MustCompile(`http://127\.0\.0\.1:\d+`)

// finals are the final rows of a demo's folder, as a hub on it gives them.
func finals(t *testing.T, dir string) map[string]string {
	t.Helper()
	hub := begin(t, dir, []string{"PLANTMESH_HUB_HTTP__LISTEN=127.0.0.1:0"}, "plantmesh", "serve", "--config", filepath.Join(dir, "hub.yaml"))
	page := listens.FindString(hub.says(hub.err, "http://127.0.0.1:", time.Minute))
	out := map[string]string{}
	for _, product := range []string{"equipment-state", "production-rate", "oee", "coverage", "signals"} {
		all := answer(t, page+"/api/v1/products/"+product+"/rows?format=ndjson")
		for line := range bytes.Lines(all) {
			var r map[string]any
			if err := json.Unmarshal(line, &r); err != nil {
				t.Fatalf("%s: %v: %s", product, err, line)
			}
			if final, _ := r["is_final"].(bool); !final && product != "signals" {
				continue
			}
			maps.DeleteFunc(r, func(column string, _ any) bool {
				return column == "position" || column == "revision" || column == "produced_at"
			})
			body, err := json.Marshal(r)
			if err != nil {
				t.Fatal(err)
			}
			if at, _ := r["time"].(string); product == "signals" { // too many to keep: a sum of each machine's hour
				name := fmt.Sprint(product, " ", r["equipment"], " ", at[:len("2026-03-01T04")])
				sum := sha256.Sum256(append([]byte(out[name]), body...))
				out[name] = string(sum[:])
				continue
			}
			out[fmt.Sprint(product, " ", r["equipment"], " ", r["source"], " ", r["window"], " ", r["from"])] = string(body)
		}
	}
	hub.signal(interrupt)
	if code := hub.ends(goneWithin); code != 0 {
		t.Errorf("the hub ends with %d", code)
	}
	return out
}

func answer(t *testing.T, url string) []byte {
	t.Helper()
	var body bytes.Buffer
	until(t, time.Minute, "the hub answers", func() bool {
		resp, err := http.Get(url)
		if err != nil {
			return false
		}
		defer resp.Body.Close()
		body.Reset()
		_, err = body.ReadFrom(resp.Body)
		return err == nil && resp.StatusCode == http.StatusOK && strings.Contains(resp.Header.Get("Content-Type"), "ndjson")
	})
	return body.Bytes()
}
