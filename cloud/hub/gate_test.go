package hub

import (
	"encoding/json"
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
