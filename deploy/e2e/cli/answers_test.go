package cli

import (
	"encoding/json"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// envelope is one document of --json.
type envelope struct {
	OK     bool            `json:"ok"`
	Schema string          `json:"schema"`
	Data   json.RawMessage `json:"data"`
	Error  *struct {
		Code    string `json:"code"`
		Hint    string `json:"hint"`
		Doc     string `json:"doc"`
		Message string `json:"message"`
	} `json:"error"`
}

// answered reads the last line of stdout.
func answered(t *testing.T, out string) (e envelope) {
	t.Helper()
	lines := strings.Split(strings.TrimSuffix(out, "\n"), "\n")
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &e); err != nil {
		t.Fatalf("%v: stdout %q", err, out)
	}
	return e
}

// call is a command line and what it must answer.
type call struct {
	program, command string
	args             []string
	code             int
	slug             string // "": it goes well
	next             bool   // there is something to do next
}

// calls are ways to call every command that ends by itself, well where it can.
func calls(dir, at string) []call {
	in := func(name string) string { return filepath.Join(dir, name) }
	none := in("none.yaml")
	const edge, hub, sim, key = "plantmesh-edge", "plantmesh", "firmware-sim", "UDXU4RCSJNZOIQHZNWXHXORDPRTGNJAHAHFRGZNEEJCPQTT2M7NLCNF4"
	return []call{
		{edge, "version", nil, 0, "", false},
		{edge, "version", []string{"--frob"}, exitUsage, "usage", false},
		{edge, "init", []string{"--config", in("fresh/edge.yaml"), "--print"}, 0, "", false},
		{edge, "init", []string{"--config", in("edge.yaml")}, exitState, "file.exists", false},
		{edge, "init", []string{"--config", in("fresh/edge.yaml"), "--agent", "GW 1"}, exitUsage, "usage", false},
		{edge, "init", []string{"--config", in("fresh/edge.yaml"), "--print", "--from", in("edge.yaml")}, 0, "", false},
		{edge, "init", []string{"--config", in("fresh/edge.yaml"), "--from", in("unknown.yaml")}, exitConfig, "config.unknown_key", false},
		{edge, "cheat", nil, 0, "", false},
		{edge, "config schema", nil, 0, "", false},
		{edge, "config schema", []string{"source"}, 0, "", false},
		{edge, "config validate", []string{"--config", in("edge.yaml")}, 0, "", true},
		{edge, "config validate", []string{"--config", in("unknown.yaml")}, exitConfig, "config.unknown_key", false},
		{edge, "config show", []string{"--config", in("edge.yaml"), "--values"}, 0, "", false},
		{edge, "check", []string{"--config", in("edge.yaml"), "--section", "configuration,identity", "--yes"}, exitUsage, "usage", false},
		{edge, "check", []string{"--config", in("edge.yaml"), "--section", "configuration,identity", "--fix"}, 0, "", true},
		{edge, "completion", []string{"bash"}, 0, "", false},
		{edge, "completion", []string{"zsh"}, 0, "", false},
		{edge, "completion", []string{"fish"}, 0, "", false},
		{edge, "source add", []string{"--insecure", "--config", in("edge.yaml"), "opc.tcp://" + at}, exitNetwork, "net.unreachable", false},
		{edge, "source add", []string{"opc.tcp://" + at}, exitUsage, "usage", false},
		{edge, "source add", []string{"--config", in("edge.yaml"), "--asset", "../press", "opc.tcp://" + at}, exitUsage, "usage", false},
		{edge, "source add", []string{"--config", in("edge.yaml"), "mqtt://127.0.0.1:1"}, exitUsage, "usage", false},
		{edge, "source add", []string{"--config", in("edge.yaml"), "mqqt://127.0.0.1:1", "--topic", "a"}, exitUsage, "usage", false},
		{edge, "source add", []string{"--config", in("edge.yaml"), "mqtt://127.0.0.1:1", "--topic", "plant/#", "--wait", "1s"}, exitNetwork, "net.unreachable", false},
		{edge, "source list", []string{"--config", in("edge.yaml")}, 0, "", false},
		{edge, "source show", []string{"--config", in("edge.yaml"), "press"}, 0, "", false},
		{edge, "source show", []string{"--config", in("edge.yaml"), "nobody"}, exitUsage, "usage", false},
		{edge, "source edit", []string{"--config", in("edge.yaml"), "press"}, exitUsage, "usage", true},
		{edge, "source edit", []string{"--config", in("edge.yaml"), "nobody"}, exitUsage, "usage", false},
		{edge, "source enable", []string{"--config", in("edge.yaml"), "press"}, 0, "", false},
		{edge, "source disable", []string{"--config", in("edge.yaml"), "nobody"}, exitUsage, "usage", false},
		{edge, "source remove", []string{"--config", in("edge.yaml"), "press"}, exitUsage, "confirmation_required", false},
		{edge, "keygen", []string{in("new.nk")}, 0, "", true},
		{edge, "keygen", []string{in("edge.yaml")}, exitConfig, "config.invalid", false},
		{edge, "enroll ask", []string{"--config", in("edge.yaml"), "http://127.0.0.1:1"}, exitNetwork, "net.unreachable", false},
		{edge, "enroll ask", []string{"--config", in("edge.yaml"), "http://hub.example.com"}, exitUsage, "usage", false},
		{edge, "enroll ask", []string{"--config", in("edge.yaml"), "--proxy", "http://127.0.0.1:1", "https://hub.example.com"}, exitNetwork, "net.unreachable", false},
		{edge, "enroll ask", []string{"--config", in("edge.yaml"), "--proxy", "http://anna:secret@127.0.0.1:1", "https://hub.example.com"}, exitUsage, "usage", false},
		{edge, "enroll ask", []string{"--config", in("edge.yaml"), "--proxy", "http://anna@127.0.0.1:1", "--proxy-password-file", in("none"), "https://hub.example.com"}, exitConfig, "config.invalid", false},
		{edge, "enroll ask", []string{"--config", in("edge.yaml"), "--agent", "gw-9", "http://127.0.0.1:1"}, exitUsage, "usage", false},
		{edge, "enroll ask", []string{"--config", in("edge.yaml"), "reset"}, exitUsage, "usage", true},
		{edge, "enroll status", []string{"-c", in("edge.yaml")}, 0, "", true},
		{edge, "enroll status", []string{"--config", none}, exitConfig, "config.invalid", false},
		{edge, "enroll request", []string{"--config", in("edge.yaml"), "--out", in("hub.yaml")}, exitState, "file.exists", false},
		{edge, "enroll complete", []string{"--config", in("edge.yaml"), in("hub.yaml")}, exitConfig, "config.invalid", false},
		{edge, "check", []string{"--config", in("edge.yaml"), "--section", "configuration,identity"}, 0, "", true},
		{edge, "check", []string{"--config", in("edge.yaml"), "--section", "cloud"}, exitFindings, "check.failed", false},
		{edge, "check", []string{"--config", in("edge.yaml"), "--firewall"}, 0, "", false},
		{edge, "check", []string{"--list"}, 0, "", false},
		{edge, "check", nil, exitUsage, "usage", false},
		{edge, "check", []string{"--config", in("edge.yaml"), "--only", "net-dsn"}, exitUsage, "usage", false},
		{edge, "check", []string{"--config", in("edge.yaml"), "--section", "cloudy"}, exitUsage, "usage", false},
		{edge, "check", []string{"--config", none}, exitConfig, "config.invalid", false},
		{edge, "check", []string{"--config", in("unknown.yaml")}, exitConfig, "config.unknown_key", false},
		{edge, "status", []string{"-c", in("edge.yaml")}, exitState, "daemon.not_running", true},
		{edge, "status", []string{"--config", in("edge.yaml"), "--watch", "--every", "1ms"}, exitUsage, "usage", false},
		{edge, "status", []string{"--config", in("edge.yaml"), "--for", "1s"}, exitUsage, "usage", false},
		{edge, "buffer status", []string{"--config", in("edge.yaml")}, exitState, "daemon.not_running", true},
		{edge, "tap", []string{"--config", in("edge.yaml"), "*.press.*"}, exitState, "daemon.not_running", true},
		{edge, "tap", []string{"--config", in("edge.yaml"), "[a"}, exitUsage, "usage", false},
		{edge, "tap", []string{"--raw", "--config", in("edge.yaml"), "plant/*"}, exitState, "daemon.not_running", true},
		{edge, "tap", []string{"--config", in("edge.yaml"), "--rate", "0"}, exitUsage, "usage", false},
		{edge, "buffer peek", []string{"--config", in("edge.yaml")}, exitState, "daemon.not_running", true},
		{edge, "buffer peek", []string{"--config", in("edge.yaml"), "--limit", "0"}, exitUsage, "usage", false},
		{edge, "buffer peek", []string{"--config", in("edge.yaml"), "--from", "yesterday"}, exitUsage, "usage", false},
		{edge, "buffer verify", []string{"--config", in("edge.yaml")}, exitState, "daemon.not_running", true},
		{edge, "buffer export", []string{"--config", in("edge.yaml"), in("kept.frames")}, exitState, "daemon.not_running", true},
		{edge, "buffer export", []string{"--config", in("edge.yaml"), "--last", "24h", "--format", "csv", in("kept.csv")}, exitState, "daemon.not_running", true},
		{edge, "buffer export", []string{"--config", in("edge.yaml"), "--last", "24h", "--to", "2026-03-01T06:00:00Z", in("kept.csv")}, exitUsage, "usage", false},
		{edge, "browse", []string{"--insecure", "opc.tcp://" + at}, exitNetwork, "net.unreachable", false},
		{edge, "browse", []string{"opc.tcp://127.0.0.1:1", "--trust", "0123456789abcdef"}, exitUsage, "usage", false},
		{edge, "browse", []string{"opc.tcp://" + at}, exitUsage, "usage", false},
		{edge, "browse", []string{"--config", in("edge.yaml"), "nobody"}, exitUsage, "usage", false},
		{edge, "browse", []string{"--config", none, "opc.tcp://" + at}, exitConfig, "config.invalid", false},
		{edge, "browse", []string{"--insecure", "opc.tcp://127.0.0.1:99999"}, exitUsage, "usage", false},
		{edge, "browse", nil, exitUsage, "usage", false},
		{edge, "browse", []string{"--timeout", "1ms", "--insecure", "opc.tcp://" + at}, exitEnded, "wait.timeout", false},
		{edge, "browse", []string{"--timeout=-1s", "--insecure", "opc.tcp://" + at}, exitUsage, "usage", false},
		{edge, "run", []string{"--timeout", "1s", "--config", in("edge.yaml")}, exitUsage, "usage", false},
		{edge, "check", []string{"--quiet", "--config", in("edge.yaml"), "--section", "configuration,identity"}, 0, "", false},
		{edge, "status", []string{"--quiet", "--config", in("edge.yaml")}, exitState, "daemon.not_running", false},
		{edge, "browse", []string{at}, exitNetwork, "net.unreachable", false},
		{edge, "browse", []string{"--endpoints", "--config", in("edge.yaml"), "opc.tcp://" + at}, exitNetwork, "net.unreachable", false},
		{edge, "browse", []string{"--endpoints", "--config", in("edge.yaml"), "filler"}, exitUsage, "usage", false},
		{edge, "browse", []string{"--config", in("away/edge.yaml")}, exitNetwork, "net.unreachable", false},
		{edge, "browse", []string{"--config", in("away/edge.yaml"), "--insecure"}, exitUsage, "usage", false},
		{edge, "browse", []string{"--config", in("away/edge.yaml"), "--mode", "Sign", "press"}, exitUsage, "usage", false},
		{edge, "browse", []string{"--endpoints", "--csv", "opc.tcp://" + at}, exitUsage, "usage", false},
		{edge, "browse", []string{"--csv", "--propose", "--insecure", "opc.tcp://" + at}, exitUsage, "usage", false},
		{edge, "browse", []string{"--insecure", "--user-certificate", in("agent.jwt"), "opc.tcp://" + at}, exitUsage, "usage", false},
		{edge, "source test", []string{"--config", in("edge.yaml"), in("away.yaml")}, exitNetwork, "net.unreachable", false},
		{edge, "source test", []string{"--config", in("edge.yaml"), in("unreached.yaml")}, exitNetwork, "net.unreachable", false},
		{edge, "source test", []string{"--config", in("edge.yaml"), "--topic", "a/#", in("unreached.yaml")}, exitUsage, "usage", false},
		{edge, "source test", []string{"--config", in("edge.yaml"), "--messages", "0", in("unreached.yaml")}, exitUsage, "usage", false},
		{edge, "source test", []string{in("unreached.yaml")}, exitUsage, "usage", false},
		{edge, "source test", []string{"--config", in("edge.yaml"), in("nodes.yaml")}, exitNetwork, "net.unreachable", false},
		{edge, "source test", []string{"--config", in("edge.yaml"), in("devices.yaml")}, exitNetwork, "net.in_use", true},
		{edge, "source test", []string{"--config", in("edge.yaml"), in("nowhere.yaml")}, exitNetwork, "net.listen", false},
		{edge, "source test", []string{"mqtt://127.0.0.1:1", "--topic", "plant/#", "--wait", "1s"}, exitNetwork, "net.unreachable", false},
		{edge, "source test", []string{"mqtt://127.0.0.1:1"}, exitUsage, "usage", false},
		{edge, "source test", []string{"http://127.0.0.1:1", "--topic", "a"}, exitUsage, "usage", false},
		{edge, "source test", []string{"mqtt://:1883", "--topic", "a"}, exitUsage, "usage", false},
		{edge, "source test", []string{"opc.tcp://" + at}, exitUsage, "usage", true},
		{edge, "source test", []string{"mqtt://127.0.0.1:1", "--topic", "a", "--wait", "2h"}, exitUsage, "usage", false},
		{edge, "source test", []string{"--config", in("edge.yaml"), none}, exitConfig, "config.invalid", false},
		{edge, "source resume", []string{"--config", in("edge.yaml"), "press"}, exitState, "daemon.not_running", true},
		{edge, "source resume", []string{"--config", none, "press"}, exitConfig, "config.invalid", false},
		{edge, "quarantine list", []string{"--config", in("edge.yaml")}, exitState, "daemon.not_running", true},
		{edge, "quarantine show", []string{"--config", in("edge.yaml"), "0a1b2c3d-4"}, exitState, "daemon.not_running", true},
		{edge, "quarantine release", []string{"--config", in("edge.yaml"), "0a1b2c3d-4"}, exitState, "daemon.not_running", true},
		{edge, "quarantine drop", []string{"--config", in("edge.yaml"), "0a1b2c3d-4"}, exitUsage, "confirmation_required", false},
		{edge, "quarantine drop", []string{"--config", in("edge.yaml"), "--confirm", "gw-1", "0a1b2c3d-4"}, exitState, "daemon.not_running", true},
		{edge, "replay", []string{"--config", in("edge.yaml"), "--last", "2h"}, exitState, "daemon.not_running", true},
		{edge, "replay", []string{"--config", in("edge.yaml")}, exitUsage, "usage", false},
		{edge, "replay", []string{"--config", in("edge.yaml"), "--last", "2h", "--rate", "fast"}, exitUsage, "usage", false},
		{edge, "quarantine list", []string{"--config", in("edge.yaml"), "--since", "yesterday"}, exitUsage, "usage", false},
		{edge, "replay", []string{"--config", in("edge.yaml"), "--from", "yesterday"}, exitUsage, "usage", false},
		{edge, "replay", []string{"--config", in("edge.yaml"), "--from", "2026-03-02T00:00:00Z", "--to", "2026-03-01T00:00:00Z"}, exitUsage, "usage", false},
		{edge, "ui", []string{"--config", in("edge.yaml")}, exitState, "page.off", false},
		{edge, "ui", []string{"--config", in("paged/edge.yaml")}, exitState, "daemon.not_running", true},
		{edge, "rules list", []string{"--config", in("edge.yaml")}, 0, "", true},
		{edge, "rules list", []string{"--config", none}, exitConfig, "config.invalid", false},
		{edge, "rules explain", []string{"--config", in("edge.yaml"), "line1.press.temperature"}, 0, "", false},
		{edge, "rules show", []string{"--config", in("edge.yaml"), "temperature-range"}, 0, "", true},
		{edge, "rules show", []string{"--config", in("edge.yaml"), "temperature-rang"}, exitUsage, "usage", false},
		{edge, "rules backtest", []string{"--config", in("edge.yaml"), "--input", none}, exitConfig, "config.invalid", false},
		{edge, "rules backtest", []string{"--config", in("edge.yaml"), "--input", in("hub2.yaml")}, exitFindings, "file.damaged", false},
		{edge, "rules backtest", []string{"--config", in("edge.yaml")}, exitState, "daemon.not_running", true},
		{edge, "rules backtest", []string{"--config", in("edge.yaml"), none}, exitConfig, "config.invalid", false},
		{edge, "rules test", []string{"--config", in("edge.yaml")}, 0, "", false},
		{edge, "rules test", []string{"--config", in("edge.yaml"), in("tested/rules.d/r_test.yaml")}, exitFindings, "rules.test_failed", false},
		{edge, "rules test", []string{"--config", in("edge.yaml"), "--format", "text"}, 0, "", false},
		{edge, "rules test", []string{"--config", in("edge.yaml"), in("rules.d/r.yaml")}, exitConfig, "config.invalid", false},
		{edge, "cert list", []string{"--config", in("edge.yaml")}, 0, "", false},
		{edge, "cert trust", []string{"--config", in("edge.yaml"), "0123456789abcdef"}, exitIdentity, "opcua.cert_unknown", false},
		{edge, "cert trust", []string{"--config", in("edge.yaml"), "front panel"}, exitUsage, "usage", false},
		{edge, "cert show", []string{"--config", in("edge.yaml")}, 0, "", true},
		{edge, "cert show", []string{"--config", in("edge.yaml"), "0123456789abcdef"}, exitIdentity, "opcua.cert_unknown", false},
		{edge, "cert export", []string{"--config", in("edge.yaml")}, 0, "", false},
		{edge, "cert export", []string{"--config", in("edge.yaml"), "--der"}, exitUsage, "usage", false},
		{edge, "cert export", []string{"--config", in("edge.yaml"), "--out", in("hub.yaml")}, exitState, "file.exists", false},
		{edge, "cert trust", []string{"--config", in("edge.yaml"), "0123"}, exitUsage, "usage", false},
		{edge, "cert distrust", []string{"--config", in("edge.yaml"), "0123456789abcdef"}, exitIdentity, "opcua.cert_unknown", false},
		{edge, "cert adopt", []string{"--config", none}, exitConfig, "config.invalid", false},
		{edge, "cert renew", []string{"--config", in("edge.yaml")}, 0, "", true},
		{edge, "config show", []string{"--config", in("edge.yaml"), "--effective"}, 0, "", false},
		{edge, "config show", []string{"--config", none}, exitConfig, "config.invalid", false},
		{edge, "config diff", []string{"--config", in("edge.yaml")}, 0, "", false},
		{edge, "config history", []string{"--config", in("edge.yaml")}, 0, "", false},
		{edge, "config rollback", []string{"--config", in("edge.yaml")}, exitState, "daemon.not_running", true},
		{edge, "config confirm", []string{"--config", in("edge.yaml")}, exitState, "daemon.not_running", true},
		{edge, "hold", []string{"--config", in("edge.yaml"), "--reason", "night shift", "--until", "06:00"}, exitState, "daemon.not_running", true},
		{edge, "hold", []string{"--config", in("edge.yaml"), "--reason", "night shift", "--until", "soon"}, exitUsage, "usage", false},
		{edge, "hold", []string{"--config", in("edge.yaml"), "--reason", "night shift", "--until", "06:00", "--for", "8h"}, exitUsage, "usage", false},
		{edge, "release", []string{"--config", in("edge.yaml")}, exitState, "daemon.not_running", true},
		{edge, "log debug", []string{"--config", in("edge.yaml"), "--for", "1m"}, exitState, "daemon.not_running", true},
		{edge, "log debug", []string{"--config", in("edge.yaml"), "--for", "3h"}, exitUsage, "usage", false},
		{edge, "support-bundle", []string{"--config", in("edge.yaml"), "--list"}, 0, "", false},
		{edge, "support-bundle", []string{"--config", in("edge.yaml"), "--out", in("hub.yaml")}, exitState, "file.exists", false},
		{edge, "buffer compact", []string{"--config", in("edge.yaml")}, exitState, "daemon.not_running", true},
		{edge, "run", []string{"--config", none}, exitConfig, "config.invalid", false},
		{edge, "dump", []string{in("hub2.yaml")}, exitFindings, "file.damaged", false},
		{edge, "dump", []string{"--format", "csv", in("hub2.yaml")}, exitFindings, "file.damaged", false},
		{edge, "dump", []string{"--from", "yesterday", in("hub2.yaml")}, exitUsage, "usage", false},
		{edge, "dump", []string{none}, exitConfig, "config.invalid", false},
		{hub, "version", nil, 0, "", false},
		{hub, "version", []string{"--frob"}, exitUsage, "usage", false},
		{hub, "check", []string{"--config", in("hub.yaml")}, 0, "", true},
		{hub, "check", []string{"--config", none}, exitConfig, "config.invalid", false},
		{hub, "agents list", []string{"--config", in("hub.yaml")}, 0, "", true},
		{hub, "agents list", []string{"--config", none}, exitConfig, "config.invalid", false},
		{hub, "agents enroll", []string{"--config", in("hub2.yaml"), "--site", "graz", "gw-7", key}, 0, "", true},
		{hub, "agents enroll", []string{"--config", in("hub.yaml"), "--site", "linz", "gw-7", key}, exitIdentity, "enroll.rejected", false},
		{hub, "agents enroll", []string{"--config", in("hub.yaml"), "--site", "graz", "gw-7", "UABC"}, exitIdentity, "enroll.rejected", false},
		{hub, "agents revoke", []string{"--config", in("hub.yaml"), "--site", "graz", "gw-9"}, exitIdentity, "enroll.rejected", false},
		{hub, "agents enroll", []string{"--config", in("hub.yaml"), "--site", "graz", "--for", "1s", "gw-7", key}, exitUsage, "usage", false},
		{hub, "agents rotate", []string{"--config", in("hub2.yaml"), "--reason", "a drill"}, 0, "", true},
		{hub, "agents rotate", []string{"--config", in("hub2.yaml"), "--reason", "a drill", "--grace", "800h"}, exitUsage, "usage", false},
		{hub, "agents rotate", []string{"--config", none, "--reason", "a drill"}, exitConfig, "config.invalid", false},
		{hub, "agents configure", []string{"--config", in("hub.yaml"), "gw-1"}, exitUsage, "usage", false},
		{hub, "agents configure", []string{"--config", in("hub.yaml"), "--from", dir, "gw-9"}, exitState, "config.refused", false},
		{hub, "agents configuration", []string{"--config", in("hub.yaml"), "gw-9"}, exitState, "config.refused", false},
		{hub, "agents configuration", []string{"--config", none, "gw-9"}, exitConfig, "config.invalid", false},
		{hub, "agents inbox", []string{"--config", in("hub.yaml")}, 0, "", true},
		{hub, "agents approve", []string{"--config", in("hub.yaml"), "KXQ7-2MPL"}, exitIdentity, "enroll.rejected", false},
		{hub, "agents approve", []string{"--config", in("hub.yaml")}, exitUsage, "usage", false},
		{hub, "agents approve", []string{"--config", in("hub.yaml"), "--request", in("hub.yaml")}, exitConfig, "config.invalid", false},
		{hub, "agents refuse", []string{"--config", in("hub.yaml"), "--why", "not ours", "KXQ7-2MPL"}, exitIdentity, "enroll.rejected", false},
		{hub, "agents keys create", []string{"--config", in("hub.yaml")}, 0, "", true},
		{hub, "agents keys create", []string{"--config", in("hub.yaml"), "--uses", "0"}, exitUsage, "usage", false},
		{hub, "agents keys list", []string{"--config", in("hub2.yaml")}, 0, "", false},
		{hub, "agents keys end", []string{"--config", in("hub.yaml"), "12345678"}, exitUsage, "usage", false},
		{hub, "authority", []string{"--config", in("hub.yaml")}, 0, "", true},
		{hub, "users list", []string{"--config", in("hub.yaml")}, 0, "", true},
		{hub, "users list", []string{"--config", none}, exitConfig, "config.invalid", false},
		{hub, "users add", []string{"--config", in("hub.yaml"), "--role", "viewer", "Anna"}, exitIdentity, "access.refused", false},
		{hub, "users add", []string{"--config", in("hub.yaml"), "--role", "root", "anna"}, exitIdentity, "access.refused", false},
		{hub, "users add", []string{"--config", in("hub.yaml"), "--role", "viewer@linz", "anna"}, exitIdentity, "access.refused", false},
		{hub, "users show", []string{"--config", in("hub.yaml"), "anna"}, exitIdentity, "access.refused", false},
		{hub, "users role grant", []string{"--config", in("hub.yaml"), "anna", "viewer"}, exitIdentity, "access.refused", false},
		{hub, "users role withdraw", []string{"--config", in("hub.yaml"), "anna", "viewer"}, exitIdentity, "access.refused", false},
		{hub, "users reset", []string{"--config", in("hub.yaml"), "anna"}, exitIdentity, "access.refused", false},
		{hub, "users end", []string{"--config", in("hub.yaml"), "anna"}, exitIdentity, "access.refused", false},
		{hub, "tokens create", []string{"--config", in("hub.yaml"), "--user", "anna", "--role", "viewer", "--for", "720h"}, exitIdentity, "access.refused", false},
		{hub, "tokens list", []string{"--config", in("hub.yaml")}, 0, "", false},
		{hub, "tokens end", []string{"--config", in("hub.yaml"), "0123456789ab"}, exitIdentity, "access.refused", false},
		{hub, "readers add", []string{"--config", in("hub.yaml"), "--product", "signals", "mes"}, exitIdentity, "access.refused", false},
		{hub, "readers add", []string{"--config", in("hub.yaml"), "A.B"}, exitIdentity, "access.refused", false},
		{hub, "readers add", []string{"--config", in("hub.yaml"), "--out", in("site.yaml"), "mes"}, exitState, "file.exists", false},
		{hub, "readers renew", []string{"--config", in("hub.yaml"), "mes"}, exitIdentity, "access.refused", false},
		{hub, "readers list", []string{"--config", in("hub2.yaml")}, 0, "", true},
		{hub, "readers rewind", []string{"--config", in("hub.yaml"), "--all", "mes"}, exitIdentity, "access.refused", false},
		{hub, "readers rewind", []string{"--config", in("hub.yaml"), "mes"}, exitUsage, "usage", false},
		{hub, "readers rewind", []string{"--config", in("hub.yaml"), "--from", "yesterday", "mes"}, exitUsage, "usage", false},
		{hub, "readers revoke", []string{"--config", in("hub.yaml"), "mes"}, exitIdentity, "access.refused", false},
		{hub, "check", []string{"--config", in("all.yaml")}, exitState, "access.no_users", false},
		{hub, "serve", []string{"--config", in("all.yaml")}, exitState, "access.no_users", false},
		{hub, "audit list", []string{"--config", in("hub.yaml")}, 0, "", false},
		{hub, "audit list", []string{"--config", in("hub.yaml"), "--last", "0"}, exitUsage, "usage", false},
		{hub, "audit verify", []string{"--config", in("hub2.yaml")}, 0, "", true},
		{hub, "audit verify", []string{"--config", in("hub.yaml"), "--since", "12"}, exitUsage, "usage", false},
		{hub, "audit export", []string{"--config", in("hub.yaml"), in("site.yaml")}, exitState, "file.exists", false},
		{hub, "audit set-aside", []string{"--config", in("hub2.yaml"), "--reason", "a drill"}, exitUsage, "usage", false},
		{hub, "serve", []string{"--config", none}, exitConfig, "config.invalid", false},
		{hub, "serve", []string{"--config", in("taken.yaml")}, exitNetwork, "net.in_use", false},
		{hub, "machines list", []string{"--config", in("hub.yaml")}, exitState, "data.unusable", false},
		{hub, "machines inbox", []string{"--config", in("hub.yaml")}, exitState, "data.unusable", false},
		{hub, "machines rules", []string{"--config", in("hub.yaml")}, exitState, "data.unusable", false},
		{hub, "machines rules", []string{"--config", in("hub.yaml"), "--agent", "gw-1"}, exitState, "data.unusable", false},
		{hub, "machines show", []string{"--config", in("hub.yaml"), "press-1"}, exitState, "data.unusable", false},
		{hub, "machines approve", []string{"--config", in("hub.yaml"), "press", "line1.press."}, exitState, "daemon.not_running", true},
		{hub, "machines approve", []string{"--config", in("hub.yaml"), "--external", "maximo", "press", "line1.press."}, exitUsage, "usage", false},
		{hub, "machines approve", []string{"--config", in("hub.yaml"), "--all", "press"}, exitUsage, "usage", false},
		{hub, "machines add", []string{"--config", in("hub.yaml"), "press-9"}, exitState, "daemon.not_running", true},
		{hub, "machines add", []string{"--config", in("hub.yaml"), "--state", "1=run", "press-9"}, exitUsage, "usage", false},
		{hub, "machines import", []string{"--config", in("hub.yaml"), in("site.yaml")}, exitState, "daemon.not_running", true},
		{hub, "machines import", []string{"--config", in("hub.yaml"), none}, exitConfig, "config.invalid", false},
		{hub, "machines export", []string{"--config", in("hub.yaml")}, exitState, "daemon.not_running", true},
		{hub, "machines clone", []string{"--config", in("hub.yaml"), "line1", "line2"}, exitState, "daemon.not_running", true},
		{hub, "machines retire", []string{"--config", in("hub.yaml"), "press-9"}, exitState, "daemon.not_running", true},
		{hub, "models list", []string{"--config", in("hub.yaml")}, exitState, "daemon.not_running", true},
		{hub, "models show", []string{"--config", in("hub.yaml"), "packml-machine"}, exitState, "daemon.not_running", true},
		{hub, "models add", []string{"--config", in("hub.yaml"), in("site.yaml")}, exitConfig, "config.unknown_key", false},
		{hub, "models diff", []string{"--config", in("hub.yaml"), "press", "1.0.0", "1.1.0"}, exitState, "daemon.not_running", true},
		{hub, "models upgrade", []string{"--config", in("hub.yaml"), "press", "1.1.0"}, exitState, "daemon.not_running", true},
		{hub, "calendars list", []string{"--config", in("hub.yaml")}, exitState, "daemon.not_running", true},
		{hub, "calendars show", []string{"--config", in("hub.yaml"), "site"}, exitState, "daemon.not_running", true},
		{hub, "calendars set", []string{"--config", in("hub.yaml"), "plant"}, exitUsage, "usage", false},
		{hub, "calendars set", []string{"--config", in("hub.yaml"), "plant", in("site.yaml")}, exitConfig, "config.unknown_key", false},
		{hub, "calendars set", []string{"--config", in("hub.yaml"), "--line", "line1", "plant"}, exitState, "daemon.not_running", true},
		{hub, "calendars remove", []string{"--config", in("hub.yaml"), "plant"}, exitState, "daemon.not_running", true},
		{hub, "export", []string{"--config", in("hub.yaml"), "--from", "2026-03-01", "--out", dir}, exitState, "data.unusable", false},
		{hub, "export", []string{"--config", in("hub.yaml"), "--from", "yesterday", "--out", dir}, exitUsage, "usage", false},
		{hub, "backup", []string{"--config", in("hub.yaml"), in("backup")}, exitState, "data.unusable", false},
		{hub, "backup", []string{"--config", in("hub.yaml"), dir}, exitUsage, "usage", false},
		{hub, "restore", []string{"--config", in("hub.yaml"), none}, exitUsage, "usage", false},
		{hub, "restore", []string{"--config", in("hub.yaml"), in("hub.yaml")}, exitFindings, "file.damaged", false},
		{hub, "restore", []string{"--config", in("hub.yaml"), "--check", in("hub.yaml")}, exitFindings, "file.damaged", false},
		{hub, "demo", []string{"--assert"}, exitUsage, "usage", false},
		{hub, "demo", []string{"--listen", at}, exitNetwork, "net.in_use", false},
		{sim, "version", nil, 0, "", false},
		{sim, "version", []string{"--frob"}, exitUsage, "usage", false},
		{sim, "truth", []string{"--config", in("sim.yaml"), "--known", in("known.json"), "--at", "2026-03-01T04:10:00Z", "--out", in("truth.ndjson")}, 0, "", false},
		{sim, "truth", []string{"--config", in("sim.yaml"), "--known", none, "--at", "2026-03-01T05:00:00Z"}, exitConfig, "config.invalid", false},
		{sim, "run", []string{"--config", none}, exitConfig, "config.invalid", false},
	}
}

func TestAnswers_EveryCommand(t *testing.T) {
	dir, files, at := folder(t), good(), taken(t)
	files["unknown.yaml"] = "sight: graz\n" + files["edge.yaml"]
	files["hub2.yaml"] = strings.Replace(files["hub.yaml"], "data: hub", "data: hub2", 1)
	files["taken.yaml"] = strings.Replace(files["hub.yaml"], "http:\n  listen: 127.0.0.1:0", "http:\n  listen: "+at, 1)
	files["all.yaml"] = strings.Replace(files["hub2.yaml"], "http:\n  listen: 127.0.0.1:0", "http:\n  listen: 0.0.0.0:0", 1)
	files["away.yaml"] = strings.Replace(files["sources.d/a.yaml"], "127.0.0.1:4840", at, 1)
	files["unreached.yaml"] = strings.Replace(files["sources.d/b.yaml"], "127.0.0.1:1883", "127.0.0.1:1", 1)
	files["nodes.yaml"] = strings.Replace(files["sources.d/c.yaml"], "127.0.0.1:1884", "127.0.0.1:1", 1)
	files["devices.yaml"] = strings.NewReplacer("127.0.0.1:1885", at, "labeller.pass", "sources.d/labeller.pass").Replace(files["sources.d/d.yaml"])
	files["nowhere.yaml"] = strings.Replace(files["devices.yaml"], at, "192.0.2.1:1885\n  insecure: true", 1) // TEST-NET-1, RFC 5737
	files["away/edge.yaml"], files["away/sources.d/a.yaml"] = files["edge.yaml"], files["away.yaml"]
	files["tested/rules.d/r.yaml"] = files["rules.d/r.yaml"]
	files["tested/rules.d/r_test.yaml"] = "tests:\n  - {name: hot, signal: line1.press.temperature, samples: [{value: 119.5, finds: [temperature-range]}]}\n"
	files["paged/edge.yaml"] = files["edge.yaml"] + "page: {listen: \"127.0.0.1:8088\"}\n"
	files["known.json"] = `{"line1-opcua":[[1772337600000000000,1772338200000000000]]}`
	write(t, dir, files)
	for _, c := range calls(dir, at) {
		args := append(strings.Fields(c.command), c.args...)
		t.Run(c.program+" "+strings.Join(args, " "), func(t *testing.T) {
			t.Parallel()
			c.inWords(t, run(t, nil, c.program, args...))
			if len(args)%2 == 0 { // one order of the two: each command has several calls
				c.inJSON(t, run(t, nil, c.program, append([]string{"--json"}, args...)...))
				return
			}
			c.inJSON(t, run(t, nil, c.program, append(args, "--json")...))
		})
	}
}

func (c call) inWords(t *testing.T, r result) {
	t.Helper()
	lines := strings.Split(strings.TrimSuffix(r.err, "\n"), "\n")
	if next := strings.HasPrefix(lines[len(lines)-1], "Next:  "); next != c.next || strings.Count(r.err, "Next:") > 1 {
		t.Errorf("stderr says what comes next: %v, want %v:\n%s", next, c.next, r.err)
	}
	if strings.Contains(r.out, "Next:") || strings.HasPrefix(r.out, "{") && c.command != "config schema" { // which is JSON by its nature
		t.Errorf("stdout %q", r.out)
	}
	told := slices.ContainsFunc(lines, func(l string) bool {
		return strings.HasPrefix(l, c.program+": ") && strings.HasSuffix(l, " ["+c.slug+"]")
	})
	if r.code != c.code || told != (c.slug != "") {
		t.Errorf("exit code %d, want %d and slug %q; stderr:\n%s", r.code, c.code, c.slug, r.err)
	}
}

func (c call) inJSON(t *testing.T, r result) {
	t.Helper()
	e := answered(t, r.out)
	schema := c.program + "/" + strings.ReplaceAll(c.command, " ", "-") + "/v1"
	if c.slug == "usage" && c.command == "version" { // no command was understood
		schema = c.program + "/usage/v1"
	}
	if r.code != c.code || e.OK != (c.code == 0) || e.Schema != schema || strings.Count(r.out, "\n") != 1 {
		t.Errorf("exit code %d, want %d; stdout %s", r.code, c.code, r.out)
	}
	if e.OK != (e.Error == nil) || e.OK && len(e.Data) == 0 || !e.OK && (e.Error.Code != c.slug || e.Error.Message == "") {
		t.Errorf("want slug %q; stdout %s", c.slug, r.out)
	}
	if !e.OK && (e.Error.Hint == "" || e.Error.Doc != "answers.md#"+c.slug) {
		t.Errorf("an error has a hint, and a place in the document; stdout %s", r.out)
	}
	if strings.Contains(r.err, "Next:") {
		t.Errorf("--json needs no advice:\n%s", r.err)
	}
}

// A command that nobody wrote a call for would answer as it likes.
func TestAnswers_NoCommandIsForgotten(t *testing.T) {
	called := map[string]bool{}
	for _, c := range calls("", "") {
		called[c.program+" "+c.command] = true
	}
	there := map[string]bool{}
	for _, program := range []string{"plantmesh", "plantmesh-edge", "firmware-sim"} {
		_, list, _ := strings.Cut(must(t, program, "--help"), "Commands:\n")
		for line := range strings.Lines(list) {
			words := strings.Fields(line)
			if !strings.HasPrefix(line, "  ") || strings.HasPrefix(line, "   ") {
				continue
			}
			if i := slices.IndexFunc(words, func(w string) bool { return strings.ContainsAny(w[:1], "-<[") }); i >= 0 {
				words = words[:i]
			}
			there[program+" "+strings.Join(words, " ")] = true
		}
	}
	if !maps.Equal(called, there) {
		t.Errorf("called %v\nthere are %v", slices.Sorted(maps.Keys(called)), slices.Sorted(maps.Keys(there)))
	}
}

// What runs until it is asked to end gives its envelope then.
func TestAnswers_AtTheEndOfARun(t *testing.T) {
	for name, c := range map[string]struct {
		command func(dir string) (string, []string)
		up      string
	}{
		"hub": {hubCommand, "hub is up"},
		"agent": {func(dir string) (string, []string) {
			_, a := edgeCommand(dir)
			return "plantmesh-edge", append([]string{"run"}, a[1:3]...)
		}, "agent is up"},
		"sim": {simCommand, `"event":"ready"`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir, files := folder(t), good()
			delete(files, "sources.d/a.yaml")
			delete(files, "sources.d/b.yaml")
			write(t, dir, files)
			program, args := c.command(dir)
			p := begin(t, dir, nil, program, append(args, "--json")...)
			until(t, 20*time.Second, "it says "+c.up, func() bool { return p.err.with(c.up) != "" || p.out.with(c.up) != "" })
			p.signal(interrupt)
			if code := p.ends(20 * time.Second); code != 0 {
				t.Errorf("exit code %d", code)
			}
			if e := answered(t, p.out.String()); !e.OK || e.Schema != program+"/"+args[0]+"/v1" {
				t.Errorf("stdout %s", p.out)
			}
		})
	}
}
