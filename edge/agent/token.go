package agent

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nkeys"

	"plantmesh/edge/status"
	"plantmesh/proto/answer"
	"plantmesh/proto/strict"
)

// Token is what the hub has signed for this agent.
type Token struct {
	Agent, Site string
	Expires     time.Time // zero: never
}

// CheckToken reads the hub's token and holds it against the agent's own key
// and edge.yaml. The hub has the last word; what it would refuse for sure is
// said here in one line.
func (c *Config) CheckToken(now time.Time) (t Token, err error) {
	from := c.newest()
	claims, err := readToken(from)
	if err != nil {
		return t, err
	}
	own, err := ownKey(c.Hub.Key)
	if err != nil {
		return t, err
	}
	t.Agent = claims.Name
	if claims.Expires != 0 {
		t.Expires = time.Unix(claims.Expires, 0).UTC()
	}
	if i := slices.IndexFunc(claims.Tags, func(tag string) bool { return strings.HasPrefix(tag, "site:") }); i >= 0 {
		t.Site = strings.TrimPrefix(claims.Tags[i], "site:")
	}
	again := fmt.Sprintf("enrol again: plantmesh agents enroll --config hub.yaml --site %s %s %s > agent.jwt", c.Site, c.Agent, own)
	switch {
	case claims.Subject != own:
		return t, c.doc.Fault("$.hub.token", "%s was signed for the key %s, and %s holds %s; %s", from, claims.Subject, c.Hub.Key, own, again)
	case t.Site != c.Site:
		return t, c.doc.Fault("$.site", "site is %q, and the hub signed this agent for site %q; write that, or %s", c.Site, t.Site, again)
	case t.Agent != c.Agent:
		return t, c.doc.Fault("$.agent", "agent is %q, and the hub signed it as %q; write that, or %s", c.Agent, t.Agent, again)
	case !t.Expires.IsZero() && !now.Before(t.Expires):
		return t, &answer.Error{Code: answer.Expired, Message: fmt.Sprintf("%s expired on %s", from, t.Expires.Format(time.DateOnly)), Hint: again}
	}
	return t, nil
}

// ended says that the hub's token is out of date, where it is.
func (c *Config) ended(now time.Time) []status.Finding {
	_, err := c.CheckToken(now)
	e, is := errors.AsType[*answer.Error](err)
	if !is || e.Code != answer.Expired {
		return nil // what else is wrong with it the connection says
	}
	fix := answer.Command("plantmesh-edge", "check", "--section", "identity", "--config", c.path)
	return []status.Finding{{Code: answer.Degraded, What: e.Message + ": the hub takes nothing", Fix: fix}}
}

// renewedToken is where the token lies that counts: hub.token may be a credential, which
// is nobody's to write.
func (c *Config) renewedToken() string { return filepath.Join(c.Data, "agent.jwt") }

// newest is the file of the token that was signed last for this agent's key: the one
// of hub.token, or the one that the hub has renewed since.
func (c *Config) newest() string {
	renewed, err := readToken(c.renewedToken())
	if err != nil {
		return c.Hub.Token
	}
	given, err := readToken(c.Hub.Token)
	if err == nil && (given.Subject != renewed.Subject || given.IssuedAt > renewed.IssuedAt) {
		return c.Hub.Token
	}
	return c.renewedToken()
}

// adopt has the newest token lie where it is read at each connect.
func (c *Config) adopt() error {
	from := c.newest()
	if from == c.renewedToken() {
		return nil
	}
	b, err := os.ReadFile(from)
	if err != nil {
		return &strict.Fault{File: from, What: strict.Unreadable(err)}
	}
	return replace(c.renewedToken(), b)
}

// readToken reads the file that `plantmesh agents enroll` printed.
func readToken(path string) (*jwt.UserClaims, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, &strict.Fault{File: path, What: strict.Unreadable(err)}
	}
	token, err := nkeys.ParseDecoratedJWT(b)
	if err != nil {
		token = ""
	}
	claims, err := jwt.DecodeUserClaims(token)
	if err != nil {
		return nil, &strict.Fault{File: path, What: "is no token of a hub; put there, whole, what plantmesh agents enroll printed"}
	}
	return claims, nil
}

// ownKey is the public half of the agent's key.
func ownKey(path string) (string, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return "", &strict.Fault{File: path, What: strict.Unreadable(err)}
	}
	kp, err := nkeys.ParseDecoratedUserNKey(b)
	if err != nil {
		return "", &strict.Fault{File: path, What: "holds no key of an agent; make one with plantmesh-edge keygen, and enrol again"}
	}
	return kp.PublicKey()
}
