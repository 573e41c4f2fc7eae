package hub

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"plantmesh/proto/enroll"
	"plantmesh/proto/subject"
)

// An agent has its own token renewed, and nobody else's.
func TestGate_RenewsTheAgentsOwn(t *testing.T) {
	h := opened(t)
	enrol(t, h, "gw-2")
	seed, pub := key(t)
	token := enrolled(t, h, "gw-1", pub, time.Hour)
	nc, err := dial(h, "gw-1", nats.UserJWTAndSeed(token, seed))
	check(t, err)
	defer nc.Close()
	m, err := nc.Request(subject.Renew("graz", "gw-1"), nil, 10*time.Second)
	check(t, err)
	var a enroll.Answer
	check(t, json.Unmarshal(m.Data, &a))
	text, err := nkeys.ParseDecoratedJWT([]byte(a.Token))
	check(t, err)
	claims, err := jwt.DecodeUserClaims(text)
	check(t, err)
	if life := time.Until(time.Unix(claims.Expires, 0)); a.State != enroll.Approved || claims.Subject != pub || life < defaultLifetime-time.Minute {
		t.Errorf("%s for %s, good for %s", a.State, claims.Subject, life)
	}
	again, err := nc.Request(subject.Renew("graz", "gw-1"), nil, 10*time.Second) // who asks on and on costs no disk
	check(t, err)
	check(t, json.Unmarshal(again.Data, &a))
	if a.State != enroll.Pending {
		t.Errorf("again at once: %s", a.State)
	}
	if m, err := nc.Request(subject.Renew("graz", "gw-2"), nil, 300*time.Millisecond); err == nil {
		t.Errorf("another agent's token is answered: %s", m.Data)
	}
	if err := nc.LastError(); err == nil || !strings.Contains(err.Error(), "ermissions") {
		t.Errorf("asking for another's is told as %v", err)
	}
}

// A registry that can't be read tells an agent nothing of itself, and least of all that it is
// let in no more: it asks again, and is renewed when the registry is back.
func TestGate_CanNotTellWhereTheRegistryIsGone(t *testing.T) {
	h := opened(t)
	seed, pub := key(t)
	nc, err := dial(h, "gw-1", nats.UserJWTAndSeed(enrolled(t, h, "gw-1", pub, time.Hour), seed))
	check(t, err)
	defer nc.Close()
	ask := func() (a enroll.Answer) {
		t.Helper()
		h.gate.mu.Lock()
		clear(h.gate.renewed) // as if a second had passed
		h.gate.mu.Unlock()
		m, err := nc.Request(subject.Renew("graz", "gw-1"), nil, 10*time.Second)
		check(t, err)
		check(t, json.Unmarshal(m.Data, &a))
		return a
	}
	agents := filepath.Join(h.cfg.Data, registryName, "agents")
	for what, harm := range map[string]struct {
		do, undo func() error
		why      string
	}{
		"the folder is away": {func() error { return os.Rename(agents, agents+".away") }, func() error { return os.Rename(agents+".away", agents) }, "can't read or write its registry now"},
		"its file is away": {
			func() error { return os.Rename(filepath.Join(agents, "graz.gw-1.json"), agents+".gw-1") },
			func() error { return os.Rename(agents+".gw-1", filepath.Join(agents, "graz.gw-1.json")) }, "lacks this agent",
		},
	} {
		check(t, harm.do())
		if a := ask(); a.State != enroll.Pending || !strings.Contains(a.Why, harm.why) || a.Token != "" {
			t.Errorf("%s: %+v", what, a)
		}
		check(t, harm.undo())
		if a := ask(); a.State != enroll.Approved || a.Token == "" {
			t.Errorf("%s, and back: %+v", what, a)
		}
	}
}
