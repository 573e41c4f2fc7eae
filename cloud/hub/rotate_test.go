package hub

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"plantmesh/proto/enroll"
	"plantmesh/proto/subject"
)

// renewed is a token that the hub signs for an agent that asks over its connection.
func renewed(t *testing.T, nc *nats.Conn, agent string) string {
	t.Helper()
	var a enroll.Answer
	until(t, 30*time.Second, "it is renewed", func() bool { // another one may just have been
		m, err := nc.Request(subject.Renew("graz", agent), nil, 10*time.Second)
		check(t, err)
		check(t, json.Unmarshal(m.Data, &a))
		return a.State == enroll.Approved
	})
	token, err := nkeys.ParseDecoratedJWT([]byte(a.Token))
	check(t, err)
	return token
}

// A drill: the key that signs agents' tokens was stolen. A thief who made a token of it
// and who is connected is out within five seconds, and gets nothing by the time between;
// an agent that is asked to renew has a token of the new key by then, and its old one is
// worth nothing.
func TestRotate_AStolenKeyIsOutWithinFiveSeconds(t *testing.T) {
	h := opened(t)
	seed, pub := key(t)
	token := enrolled(t, h, "gw-1", pub, time.Hour)
	gone := make(chan struct{}, 2)
	once := []nats.Option{nats.NoReconnect(), nats.ClosedHandler(func(*nats.Conn) { gone <- struct{}{} })}
	agent, err := dial(h, "gw-1", nats.UserJWTAndSeed(token, seed), once...)
	check(t, err)
	defer agent.Close()
	asked := make(chan string, 1)
	_, err = agent.Subscribe(subject.Refresh("graz", "gw-1"), func(m *nats.Msg) {
		select {
		case asked <- string(m.Data):
		default:
		}
	})
	check(t, err)
	check(t, agent.FlushTimeout(10*time.Second))

	// The thief's own key, under the agent's name, signed by what was stolen.
	b, err := os.ReadFile(filepath.Join(h.cfg.Data, registryName, "keys.json"))
	check(t, err)
	var stolen struct {
		Seed string `json:"agent_signing_seed"`
	}
	check(t, json.Unmarshal(b, &stolen))
	signer, err := nkeys.FromSeed([]byte(stolen.Seed))
	check(t, err)
	thiefSeed, thiefPub := key(t)
	claims, err := jwt.DecodeUserClaims(token)
	check(t, err)
	forged := jwt.NewUserClaims(thiefPub)
	forged.Name, forged.IssuerAccount, forged.Tags = claims.Name, claims.IssuerAccount, claims.Tags
	forged.SetScoped(true)
	forgery, err := forged.Encode(signer)
	check(t, err)
	thief, err := dial(h, "gw-1", nats.UserJWTAndSeed(forgery, thiefSeed), once...)
	check(t, err)
	defer thief.Close()

	c, err := jwt.DecodeUserClaims(renewed(t, thief, "gw-1")) // under the agent's name
	check(t, err)
	if c.Subject != pub {
		t.Errorf("the thief gets a token for %s", c.Subject)
	}
	began := time.Now()
	r, err := Rotate(h.cfg, 0, "a drill", time.Now())
	check(t, err)
	if r.Agents != 1 || len(r.Retired) != 1 {
		t.Errorf("%+v", r)
	}
	select {
	case <-asked:
	case <-time.After(5 * time.Second):
		t.Fatal("the agent is not asked to renew")
	}
	token = renewed(t, agent, "gw-1")
	if c, err = jwt.DecodeUserClaims(token); err != nil || c.Subject != pub || c.Issuer != r.Key {
		t.Errorf("a token for %s, signed by %s, %v", c.Subject, c.Issuer, err)
	}
	for range 2 {
		select {
		case <-gone:
		case <-time.After(5*time.Second - time.Since(began)):
			t.Fatal("a token of the stolen key is still good after 5 s")
		}
	}
	t.Logf("out after %s", time.Since(began).Round(time.Millisecond))
	if nc, err := dial(h, "gw-1", nats.UserJWTAndSeed(forgery, thiefSeed)); err == nil {
		nc.Close()
		t.Error("the thief comes in again")
	}
	again, err := dial(h, "gw-1", nats.UserJWTAndSeed(token, seed))
	check(t, err)
	again.Close()
}

// With time between, nobody is cut off: tokens of both keys are good, new ones are of the
// new key, and an agent that has one is not asked again.
func TestRotate_WithTimeBetween(t *testing.T) {
	h := opened(t)
	seed, pub := key(t)
	token := enrolled(t, h, "gw-1", pub, time.Hour)
	nc, err := dial(h, "gw-1", nats.UserJWTAndSeed(token, seed))
	check(t, err)
	defer nc.Close()
	asked, err := nc.SubscribeSync(subject.Refresh("graz", "gw-1"))
	check(t, err)
	check(t, nc.FlushTimeout(10*time.Second))
	s, err := rotated(h.reg, time.Hour, "as each year", operator(), time.Now())
	check(t, err)
	m, err := asked.NextMsg(5 * time.Second)
	check(t, err)
	if string(m.Data) != "30000" { // milliseconds: remindEvery, as there is time
		t.Errorf("it is to be done within %s ms", m.Data)
	}
	next := renewed(t, nc, "gw-1")
	c, err := jwt.DecodeUserClaims(next)
	check(t, err)
	if c.Issuer != s.Key || !nc.IsConnected() || nc.Stats().Reconnects > 0 {
		t.Errorf("signed by %s; connected %t, %d reconnects", c.Issuer, nc.IsConnected(), nc.Stats().Reconnects)
	}
	for name, with := range map[string]string{"of before": token, "of the new key": next} {
		again, err := dial(h, "gw-1", nats.UserJWTAndSeed(with, seed))
		if err != nil {
			t.Errorf("a token %s: %v", name, err)
			continue
		}
		again.Close()
	}
	signing, err := h.reg.Signing()
	check(t, err)
	h.remind(t.Context(), signing, time.Now())
	check(t, h.conn.FlushTimeout(10*time.Second))
	check(t, nc.FlushTimeout(10*time.Second))
	if n, _, err := asked.Pending(); err != nil || n > 0 {
		t.Errorf("it is asked %d times more, %v", n, err)
	}
}
