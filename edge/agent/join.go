package agent

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"plantmesh/edge/forward"
	"plantmesh/proto/answer"
	"plantmesh/proto/enroll"
	"plantmesh/proto/strict"
)

// Joining is a gateway that is to be let in by a hub.
type Joining struct {
	Config string // edge.yaml, which need not be there yet
	Hub    string // as https://hub.example.com; empty: the answer comes in a file
	Agent  string // the name it would have; empty: that of edge.yaml, else the machine's
	Site   string // empty: the hub's own
	Data   string // of an edge.yaml that is written; empty: data beside it
	// Road is the way to the hub; zero: as edge.yaml says.
	Road forward.Road

	key, token string
	base       string // the folder of edge.yaml
	written    bool   // edge.yaml is there
}

// Prepare finds out where this gateway's files are, and under which name it asks.
func (j *Joining) Prepare() error {
	abs, err := filepath.Abs(j.Config)
	if err != nil {
		return &strict.Fault{File: j.Config, What: "where is this file? " + err.Error()}
	}
	j.Config = abs
	base := filepath.Dir(abs)
	j.base = base
	var c Config
	if _, err := os.Stat(abs); !errors.Is(err, fs.ErrNotExist) {
		if c, err = OpenConfig(abs); err != nil {
			return err
		}
		j.written = true
	}
	for _, f := range []struct {
		flag string
		is   *string
		file string
	}{{"agent", &j.Agent, c.Agent}, {"site", &j.Site, c.Site}} {
		if *f.is != "" && f.file != "" && *f.is != f.file {
			return &answer.Error{Code: answer.Usage, Message: fmt.Sprintf("--%s is %s, and %s says %s: leave out the flag, or change the file", f.flag, *f.is, j.Config, f.file)}
		}
		*f.is = cmp.Or(*f.is, f.file)
	}
	if err := j.passes(c.road()); err != nil {
		return err
	}
	j.Agent = cmp.Or(j.Agent, HostAgent())
	if !enroll.Name(j.Agent) {
		return &answer.Error{Code: answer.Usage, Message: fmt.Sprintf("%q is no name of an agent: say --agent with lower case letters, digits, '-' and '_', at most 63", j.Agent)}
	}
	j.key, j.token = cmp.Or(c.Hub.Key, filepath.Join(base, "agent.nk")), cmp.Or(c.Hub.Token, filepath.Join(base, "agent.jwt"))
	if err := os.MkdirAll(base, 0o750); err != nil {
		return &strict.Fault{File: base, What: "can't be made: " + err.Error()}
	}
	return nil
}

// passes finds the way to the hub: what is said goes where the file says nothing.
func (j *Joining) passes(file forward.Road) error {
	if file.Proxy != "" && j.Road.Proxy != "" && j.Road != file {
		return &answer.Error{Code: answer.Usage, Message: fmt.Sprintf("--proxy is another way than %s says: leave out the flags, or change the file", j.Config)}
	}
	if j.Road.Proxy == "" && j.Road.PasswordFile == "" {
		j.Road = file
	}
	if err := j.Road.Validate(); err != nil {
		return &answer.Error{Code: answer.Usage, Message: "--proxy: " + err.Error()}
	}
	if _, err := os.Stat(j.Road.PasswordFile); j.Road.PasswordFile != "" && err != nil {
		return &strict.Fault{File: j.Road.PasswordFile, What: strict.Unreadable(err)}
	}
	return nil
}

// Sends is where an answer of the hub has this gateway send: by WebSocket where a proxy is on
// the way, as most of them let nothing through but HTTPS.
func (j *Joining) Sends(a enroll.Answer) string {
	if host, port, err := forward.Address(a.WebSocket); err == nil {
		if proxy, err := j.Road.By(net.JoinHostPort(host, port)); err == nil && proxy != nil {
			return a.WebSocket
		}
	}
	return a.NATS
}

// Request is what this gateway asks with. oneTime is the file of a one-time key; empty:
// somebody approves it.
func (j *Joining) Request(oneTime, version string) (enroll.Signed, enroll.Request, error) {
	q := enroll.Request{Site: j.Site, Agent: j.Agent, Host: Host(version)}
	if oneTime != "" {
		b, err := strict.Read(oneTime)
		if err != nil {
			return enroll.Signed{}, q, &strict.Fault{File: oneTime, What: strict.Unreadable(err)}
		}
		if q.Key = strings.TrimSpace(string(b)); q.Key == "" || strings.ContainsAny(q.Key, " \r\n") {
			return enroll.Signed{}, q, &strict.Fault{File: oneTime, What: "holds no one-time key: it is the one word that plantmesh agents keys create printed"}
		}
	}
	return Sign(q, j.key)
}

// Complete takes what the hub answered: the token, and edge.yaml, which is written where
// there is none, and in which agent, site and hub.url are filled in where they are left
// empty, so that nobody has to. It says what is still to be written into it.
func (j *Joining) Complete(a enroll.Answer, now time.Time) (lacks []string, err error) {
	if a.State != enroll.Approved {
		return nil, &answer.Error{Code: answer.Rejected, Message: "the hub does not let this gateway in: " + cmp.Or(a.Why, string(a.State))}
	}
	if err := Admit(a, j.key, j.token); err != nil {
		return nil, err
	}
	if err := j.write(a); err != nil {
		return nil, err
	}
	c, err := OpenConfig(j.Config)
	if err != nil {
		return nil, err
	}
	return c.NotReady(now), nil
}

// write makes edge.yaml and the folders beside it; one that is there has what was left
// empty in it filled in, and nothing else changed.
func (j *Joining) write(a enroll.Answer) error {
	secret := j.Road.PasswordFile
	if rel, err := filepath.Rel(j.base, secret); secret != "" && err == nil && filepath.IsLocal(rel) {
		secret = rel
	}
	i := Initial{
		Agent: a.Agent, Site: a.Site, Data: j.Data, Hub: j.Sends(a), Enroll: strings.TrimSuffix(j.Hub, "/"), Key: filepath.Base(j.key), Token: filepath.Base(j.token),
		Proxy: j.Road.Proxy, ProxyPasswordFile: secret,
	}
	if !j.written {
		return i.Write(j.Config, false)
	}
	was, err := os.ReadFile(j.Config)
	if err != nil {
		return &strict.Fault{File: j.Config, What: strict.Unreadable(err)}
	}
	now := filledIn(string(was), i)
	if now == string(was) {
		return nil
	}
	return replaceLike(j.Config, []byte(now))
}
