package agent

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

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

	key, token string
	written    bool // edge.yaml is there
}

// Prepare finds out where this gateway's files are, and under which name it asks.
func (j *Joining) Prepare() error {
	abs, err := filepath.Abs(j.Config)
	if err != nil {
		return &strict.Fault{File: j.Config, What: "where is this file? " + err.Error()}
	}
	j.Config = abs
	base := filepath.Dir(abs)
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
	if j.Agent == "" {
		host, _ := os.Hostname() // a machine without a name has to be given one
		j.Agent = strings.Trim(regexp.MustCompile(`[^a-z0-9_-]+`).ReplaceAllString(strings.ToLower(host), "-"), "-_")
	}
	if !enroll.Name(j.Agent) {
		return &answer.Error{Code: answer.Usage, Message: fmt.Sprintf("%q is no name of an agent: say --agent with lower case letters, digits, '-' and '_', at most 63", j.Agent)}
	}
	j.key, j.token = cmp.Or(c.Hub.Key, filepath.Join(base, "agent.nk")), cmp.Or(c.Hub.Token, filepath.Join(base, "agent.jwt"))
	if err := os.MkdirAll(base, 0o750); err != nil {
		return &strict.Fault{File: base, What: "can't be made: " + err.Error()}
	}
	return nil
}

// Request is what this gateway asks with. oneTime is the file of a one-time key; empty:
// somebody approves it.
func (j *Joining) Request(oneTime, version string) (enroll.Signed, enroll.Request, error) {
	q := enroll.Request{Site: j.Site, Agent: j.Agent, Host: Host(version)}
	if oneTime != "" {
		b, err := os.ReadFile(oneTime)
		if err != nil {
			return enroll.Signed{}, q, &strict.Fault{File: oneTime, What: strict.Unreadable(err)}
		}
		if q.Key = strings.TrimSpace(string(b)); q.Key == "" || strings.ContainsAny(q.Key, " \r\n") {
			return enroll.Signed{}, q, &strict.Fault{File: oneTime, What: "holds no one-time key: it is the one word that plantmesh agents keys create printed"}
		}
	}
	return Sign(q, j.key)
}

// Complete takes what the hub answered: the token, and where no edge.yaml is yet the
// file, so that nobody has to write one. It says what is still to be written into one
// that is there.
func (j *Joining) Complete(a enroll.Answer, now time.Time) (lacks []string, err error) {
	if a.State != enroll.Approved {
		return nil, &answer.Error{Code: answer.Rejected, Message: "the hub does not let this gateway in: " + cmp.Or(a.Why, string(a.State))}
	}
	if err := Admit(a, j.key, j.token); err != nil {
		return nil, err
	}
	if !j.written {
		if err := j.write(a); err != nil {
			return nil, err
		}
	}
	c, err := OpenConfig(j.Config)
	if err != nil {
		return nil, err
	}
	return c.NotReady(now), nil
}

// write makes edge.yaml and the folders beside it.
func (j *Joining) write(a enroll.Answer) error {
	for _, dir := range []string{"sources.d", "rules.d"} {
		if err := os.MkdirAll(filepath.Join(filepath.Dir(j.Config), dir), 0o750); err != nil {
			return &strict.Fault{File: dir, What: "can't be made: " + err.Error()}
		}
	}
	var b strings.Builder
	b.WriteString("# The agent on this gateway, as plantmesh-edge enroll wrote it. Its machines stand in\n# sources.d/*.yaml beside this file, its quality rules in rules.d/*.yaml. Paths count from\n# this folder.\n")
	fmt.Fprintf(&b, "agent: %s\nsite: %s\ndata: %q   # the buffer; it must survive power loss\nhub:\n  url: %q\n", a.Agent, a.Site, cmp.Or(j.Data, "data"), a.NATS)
	if j.Hub != "" {
		fmt.Fprintf(&b, "  enroll: %q\n", strings.TrimSuffix(j.Hub, "/"))
	}
	fmt.Fprintf(&b, "  key: %q   # never leaves this gateway\n  token: %q   # the agent renews it\n", filepath.Base(j.key), filepath.Base(j.token))
	f, err := os.OpenFile(j.Config, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err == nil {
		_, err = f.WriteString(b.String())
		err = errors.Join(err, f.Sync(), f.Close())
	}
	if err != nil {
		return &strict.Fault{File: j.Config, What: "can't be written: " + err.Error()}
	}
	return nil
}
