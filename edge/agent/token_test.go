package agent

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nkeys"
)

// signed is a token file as a hub writes it.
func signed(t *testing.T, subject string, site, name string, expires time.Time) string {
	t.Helper()
	hub, err := nkeys.CreateAccount()
	if err != nil {
		t.Fatal(err)
	}
	c := jwt.NewUserClaims(subject)
	c.Name = name
	c.Tags.Add("site:" + site)
	if !expires.IsZero() {
		c.Expires = expires.Unix()
	}
	text, err := c.Encode(hub)
	if err != nil {
		t.Fatal(err)
	}
	file, err := jwt.DecorateJWT(text)
	if err != nil {
		t.Fatal(err)
	}
	return string(file)
}

func TestCheckToken_SaysWhatTheHubWouldRefuse(t *testing.T) {
	now := time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)
	dir := t.TempDir()
	own, err := Keygen(filepath.Join(dir, "agent.nk"))
	if err != nil {
		t.Fatal(err)
	}
	other, err := Keygen(filepath.Join(dir, "other.nk"))
	if err != nil {
		t.Fatal(err)
	}
	edge := filepath.Join(dir, "edge.yaml")
	text := "agent: gw-1\nsite: graz\ndata: data\nhub: {url: \"nats://127.0.0.1:1\", key: agent.nk, token: agent.jwt}\n"
	if err := os.WriteFile(edge, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	day := 24 * time.Hour
	for name, c := range map[string]struct{ token, want string }{
		"good":         {signed(t, own, "graz", "gw-1", now.Add(day)), ""},
		"without end":  {signed(t, own, "graz", "gw-1", time.Time{}), ""},
		"expired":      {signed(t, own, "graz", "gw-1", now.Add(-day)), "agent.jwt expired on 2026-11-27"},
		"expires now":  {signed(t, own, "graz", "gw-1", now), "agent.jwt expired on 2026-11-28"},
		"another key":  {signed(t, other, "graz", "gw-1", now.Add(day)), "edge.yaml:4: " + filepath.Join(dir, "agent.jwt") + " was signed for the key " + other},
		"another site": {signed(t, own, "linz", "gw-1", now.Add(day)), `edge.yaml:2: site is "graz", and the hub signed this agent for site "linz"`},
		"another name": {signed(t, own, "graz", "gw-2", now.Add(day)), `edge.yaml:1: agent is "gw-1", and the hub signed it as "gw-2"`},
		"junk":         {"-----BEGIN NATS USER JWT-----\nabc\n------END NATS USER JWT------\n", "agent.jwt: is no token of a hub; put there"},
		"empty":        {"", "agent.jwt: is no token of a hub; put there"},
	} {
		t.Run(name, func(t *testing.T) {
			if err := os.WriteFile(filepath.Join(dir, "agent.jwt"), []byte(c.token), 0o600); err != nil {
				t.Fatal(err)
			}
			cfg, err := LoadConfig(edge)
			if err != nil {
				t.Fatal(err)
			}
			if told := cfg.ended(now); (len(told) == 1) != strings.HasPrefix(name, "expire") {
				t.Errorf("status finds %+v", told)
			}
			_, err = cfg.CheckToken(now)
			if c.want == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if err == nil || !strings.HasPrefix(err.Error(), dir+"/"+c.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("got  %v\nwant %s/%s", err, dir, c.want)
			}
		})
	}
}
