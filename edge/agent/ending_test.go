package agent

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"plantmesh/edge/source/opcua/trust"
)

// A certificate is told 30, 7 and 1 days before its end, and behind it; one that another
// has replaced is not.
func TestConfig_Endings(t *testing.T) {
	const server = "opc.tcp://10.0.0.5:4840"
	dir := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Join(dir, "sources.d"), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("edge.yaml", "agent: gw-1\nsite: graz\ndata: data\n")
	write("sources.d/a.yaml", "opcua:\n  id: a\n  endpoint: "+server+"\n  signals:\n    - {name: l.m.x, type: int, node: \"ns=2;s=x\"}\n")
	c, err := OpenConfig(filepath.Join(dir, "edge.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	now := time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)
	if got := c.endings(now); got != nil {
		t.Errorf("without certificates: %+v", got)
	}
	mine, app, err := Certificates(c)
	if err != nil {
		t.Fatal(err)
	}
	own, err := mine.Own(app.URI, app.Hosts, now)
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := trust.Open(filepath.Join(t.TempDir(), "pki"))
	if err != nil {
		t.Fatal(err)
	}
	shown, err := theirs.Own("urn:server", []string{"10.0.0.5"}, now.AddDate(0, 0, 10))
	if err != nil {
		t.Fatal(err)
	}
	write("server.der", string(shown.DER))
	if _, err := mine.TrustFile(filepath.Join(dir, "server.der"), server); err != nil {
		t.Fatal(err)
	}
	for days, want := range map[int][]string{
		31: nil, 29: {"this gateway's certificate ends in 29 days"}, 6: {"this gateway's certificate ends in 6 days", "the certificate of " + server + " ends in 16 days"},
		-1: {"this gateway's certificate ended at", "the certificate of " + server + " ends in 9 days"},
	} {
		got := c.endings(own.Cert.NotAfter.AddDate(0, 0, -days))
		if len(got) != len(want) {
			t.Errorf("%d days before: %+v", days, got)
			continue
		}
		for i := range got {
			if !strings.HasPrefix(endingWords(&got[i]), want[i]) || !strings.Contains(got[i].Fix, "cert") {
				t.Errorf("%d days before: %s; %s", days, endingWords(&got[i]), got[i].Fix)
			}
		}
	}
	levels := map[int]int{40: -1, 30: -1, 29: 30, 7: 30, 6: 7, 1: 7, 0: 1, -1: 0}
	for days, want := range levels {
		if level, near := endingLevel(days); near != (want >= 0) || near && level != want {
			t.Errorf("%d days before: %d, %t", days, level, near)
		}
	}
}
