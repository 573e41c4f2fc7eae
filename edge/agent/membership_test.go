package agent

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

// Where a gateway stands with its hub its own files say, from before it has a key on.
func TestMembership(t *testing.T) {
	now := time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)
	dir := t.TempDir()
	edge := filepath.Join(dir, "edge.yaml")
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	says := func(state string) Membership {
		t.Helper()
		c, err := OpenConfig(edge)
		if err != nil {
			t.Fatal(err)
		}
		m, err := c.Membership(now)
		if err != nil || m.State != state || (m.Says == "") != (state == LetIn) {
			t.Errorf("%+v, %v; want %s", m, err, state)
		}
		return m
	}
	write("edge.yaml", "data: data\n")
	if m := says(NotLetIn); m.Code != "" {
		t.Errorf("%+v", m)
	}
	own, err := Keygen(filepath.Join(dir, "agent.nk"))
	if err != nil {
		t.Fatal(err)
	}
	if m := says(NotLetIn); m.Code == "" || m.Fingerprint == "" || m.Token != "" {
		t.Errorf("%+v", m)
	}
	write("edge.yaml", "agent: gw-1\nsite: graz\ndata: data\nhub: {url: \"nats://127.0.0.1:1\", key: agent.nk, token: agent.jwt}\n")
	says(NotLetIn)
	write("agent.jwt", signed(t, own, "graz", "gw-1", now.Add(time.Hour)))
	if m := says(LetIn); m.Agent != "gw-1" || m.Site != "graz" || m.Expires != "2026-11-28T13:00:00Z" {
		t.Errorf("%+v", m)
	}
	write("agent.jwt", signed(t, own, "graz", "gw-1", now))
	says(LetInBefore)
	write("agent.jwt", "junk")
	c, err := OpenConfig(edge)
	if err != nil {
		t.Fatal(err)
	}
	if m, err := c.Membership(now); err == nil {
		t.Errorf("of a token that is none: %+v", m)
	}
}
