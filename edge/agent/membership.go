package agent

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"plantmesh/proto/answer"
	"plantmesh/proto/enroll"
)

// States of a gateway with its hub, as its own files have it.
const (
	NotLetIn    = "not let in"
	LetIn       = "let in"
	LetInBefore = "expired" // its token is out of date
)

// Membership is where a gateway stands with its hub.
type Membership struct {
	State       string `json:"state"`
	Says        string `json:"says,omitempty"` // why it is not let in
	Agent       string `json:"agent,omitempty"`
	Site        string `json:"site,omitempty"`
	Hub         string `json:"hub,omitempty"`
	Enroll      string `json:"enroll,omitempty"`      // where it asks to be let in
	Token       string `json:"token,omitempty"`       // its file
	Expires     string `json:"expires,omitempty"`     // RFC 3339; empty: never
	Fingerprint string `json:"fingerprint,omitempty"` // of its key
	Code        string `json:"code,omitempty"`        // by which somebody approves it
}

// Asked is what is known of a gateway that has asked to be let in and has no edge.yaml yet, as
// that is written once a hub has let it in; nil: there is one, or it never asked.
func Asked(path string) *Config {
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		return nil
	}
	c := &Config{path: path}
	if _, err := os.Stat(c.key()); err != nil {
		return nil
	}
	for _, others := range []string{"*.yaml", "*.yml", "*.jwt"} { // of one that was let in: the path is a slip
		if found, err := filepath.Glob(filepath.Join(filepath.Dir(path), others)); err != nil || len(found) > 0 {
			return nil
		}
	}
	return c
}

// key is the file of the gateway's key, as Joining has it.
func (c *Config) key() string {
	return cmp.Or(c.Hub.Key, filepath.Join(filepath.Dir(c.path), "agent.nk"))
}

// Membership reads it. The hub is not asked: check does that.
func (c *Config) Membership(now time.Time) (m Membership, err error) {
	m = Membership{State: NotLetIn, Agent: c.Agent, Site: c.Site, Hub: c.Hub.URL, Enroll: c.Hub.Enroll}
	key := c.key()
	if _, err := os.Stat(key); errors.Is(err, os.ErrNotExist) {
		m.Says = "this gateway has no key yet: it never asked a hub to let it in"
		return m, nil
	}
	own, err := ownKey(key)
	if err != nil {
		return m, err
	}
	m.Fingerprint, m.Code = enroll.Fingerprint(own), enroll.Code(own)
	m.Token = c.newest()
	if _, err := os.Stat(m.Token); m.Token == "" || errors.Is(err, os.ErrNotExist) {
		m.Token = ""
		m.Says = fmt.Sprintf("no hub has let this gateway in yet: its code is %s, its fingerprint %s", m.Code, m.Fingerprint)
		return m, nil
	}
	t, err := c.CheckToken(now)
	e, is := errors.AsType[*answer.Error](err)
	switch {
	case is && e.Code == answer.Expired:
		m.State, m.Says = LetInBefore, e.Message
	case err != nil:
		return m, err
	default:
		m.State = LetIn
	}
	m.Agent, m.Site = t.Agent, t.Site
	m.Expires = stampOf(t.Expires)
	return m, nil
}
