package agent

import (
	"cmp"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"time"

	"plantmesh/edge/forward"
	"plantmesh/edge/source"
	"plantmesh/proto/mesh"
	"plantmesh/proto/strict"
	"plantmesh/proto/subject"
)

// Part is a part of a configuration. Who runs an agent needs all of them; who looks
// at a machine while edge.yaml is being written, or asks an agent that runs, few.
type Part int

// The parts there are, in the order in which a fault is told.
const (
	Names   Part = iota // agent and site: they stand in certificates and subjects
	Data                // where buffer, certificates and socket are
	Sending             // hub and forward
	Clock               // plant_clock
	Keeping             // window and buffer
	Page                // page
	Sources             // sources.d
	Rules               // rules.d
)

func parts() []Part { return []Part{Names, Data, Sending, Clock, Keeping, Page, Sources, Rules} }

// partFault is what is wrong with a part.
type partFault struct {
	part Part
	err  error
}

// OpenConfig reads edge.yaml and the folders beside it as far as they are written.
// What is wrong with a part that is needed is an error, as is a file that is no
// configuration at all; NotReady tells the rest.
func OpenConfig(path string, needed ...Part) (c Config, err error) {
	doc, err := strict.Load(path, &c, strict.Env(envPrefix, os.Environ()))
	if err != nil {
		return c, err
	}
	c.doc = doc
	if c.path, err = filepath.Abs(path); err != nil {
		return c, doc.Fault("$", "where is this file? %v", err)
	}
	base := filepath.Dir(c.path)
	for _, p := range []*string{&c.Data, &c.Hub.Key, &c.Hub.Token, &c.Hub.ProxyPasswordFile, &c.PlantClock, &c.Status} {
		*p = located(*p, base, base)
	}
	if c.Hub.CA != forward.SystemCA {
		c.Hub.CA = located(c.Hub.CA, base, base)
	}
	c.fault(Names, c.named())
	c.fault(Data, c.placed())
	c.fault(Sending, c.sends())
	if err := c.exists("plant_clock", c.PlantClock); err != nil {
		c.fault(Clock, err)
	} else if _, err := plantNow(c.PlantClock); err != nil {
		c.fault(Clock, doc.Fault("$.plant_clock", "%v", err))
	}
	c.fault(Keeping, c.keeps())
	if err := c.Page.Validate(); err != nil {
		c.fault(Page, doc.Place("$.page", err))
	}
	if err := c.Revisions.Validate(); err != nil {
		c.fault(Keeping, doc.Place("$.revisions", err))
	}
	if c.Data != "" {
		// Who may not look into the agent's folder sees the gateway's own files alone.
		c.state, c.unread = c.revisions().Load()
	}
	c.load(c.state.Current)
	return c, c.Need(needed...)
}

// fault notes what is wrong with a part; nil: nothing.
func (c *Config) fault(p Part, faults ...error) {
	for _, err := range faults {
		if err != nil {
			c.faults = append(c.faults, partFault{p, err})
		}
	}
}

// Need is what is wrong with parts of the configuration: the first fault of them.
func (c *Config) Need(needed ...Part) error {
	for _, f := range c.faults {
		if slices.Contains(needed, f.part) {
			return f.err
		}
	}
	return nil
}

// NotReady says in words, a line each, what an agent could not run with, or what its
// hub would refuse: the first fault of each part, and of sources each.
func (c *Config) NotReady(now time.Time) (out []string) {
	for i, f := range c.faults {
		if f.part == Sources || i == 0 || c.faults[i-1].part != f.part {
			out = append(out, "not ready to run: "+f.err.Error())
		}
	}
	if c.Need(Names, Sending) == nil {
		if _, err := c.CheckToken(now); err != nil {
			out = append(out, "not ready to send: "+err.Error())
		}
	}
	return out
}

// named checks who this gateway is.
func (c *Config) named() error {
	name := regexp.MustCompile(`^[a-z0-9][a-z0-9_-]{0,62}$`)
	for _, f := range []struct{ at, value string }{{"agent", c.Agent}, {"site", c.Site}} {
		if f.value == "" {
			return c.doc.Fault("$."+f.at, "%s is missing (plantmesh-edge enroll writes it)", f.at)
		}
		if !name.MatchString(f.value) {
			return c.doc.Fault("$."+f.at, "%q is no name: use lower case letters, digits, '-' and '_', at most 63", f.value)
		}
	}
	return nil
}

// placed checks where its files are.
func (c *Config) placed() error {
	if c.Data == "" {
		return c.doc.Fault("$.data", "data is missing")
	}
	if c.Status == "" {
		c.Status = filepath.Join(c.Data, "status.sock")
	}
	if c.Buffer.Dir == "" {
		c.Buffer.Dir = filepath.Join(c.Data, "buffer")
	}
	return nil
}

// exists checks that a file is there, where one is named.
func (c *Config) exists(at, path string) error {
	if path == "" {
		return nil
	}
	if _, err := os.Stat(path); err != nil {
		return c.doc.Fault("$."+at, "%s: %s", path, strict.Unreadable(err))
	}
	return nil
}

// sends checks where it sends to.
func (c *Config) sends() error {
	for _, f := range []struct{ at, value string }{{"hub.url", c.Hub.URL}, {"hub.key", c.Hub.Key}, {"hub.token", c.Hub.Token}} {
		if f.value == "" {
			return c.doc.Fault("$."+f.at, "%s is missing (plantmesh-edge enroll writes it)", f.at)
		}
	}
	if err := cmp.Or(c.exists("hub.key", c.Hub.Key), c.exists("hub.token", c.Hub.Token)); err != nil {
		return err
	}
	if err := address(c.Hub.URL); err != nil {
		return c.doc.Fault("$.hub.url", "%q: %v", c.Hub.URL, err)
	}
	if err := c.passes(); err != nil {
		return err
	}
	if c.Hub.Enroll != "" {
		if _, err := HubAddress(c.Hub.Enroll); err != nil {
			return c.doc.Fault("$.hub.enroll", "%v", err)
		}
	}
	for _, f := range []struct {
		at string
		d  strict.Duration
	}{{"$.hub.ping", c.Hub.Ping}, {"$.hub.timeout", c.Hub.Timeout}} {
		if f.d != 0 && f.d < strict.Duration(minTimer) {
			return c.doc.Fault(f.at, "at least %s is needed", minTimer)
		}
	}
	c.Hub.Ping, c.Hub.Timeout = cmp.Or(c.Hub.Ping, strict.Duration(forward.DefaultPing)), cmp.Or(c.Hub.Timeout, strict.Duration(forward.DefaultTimeout))
	c.Forward.Site, c.Forward.Agent = c.Site, c.Agent
	if err := c.Forward.Validate(); err != nil {
		return c.doc.Place("$.forward", err)
	}
	return nil
}

// passes checks how it gets there, and how it knows who is there.
func (c *Config) passes() error {
	if err := c.road().Validate(); err != nil {
		return c.doc.Fault("$.hub.proxy", "%v", err)
	}
	ca := c.Hub.CA
	if ca == forward.SystemCA {
		ca = ""
	}
	return cmp.Or(c.exists("hub.proxy_password_file", c.Hub.ProxyPasswordFile), c.exists("hub.ca", ca))
}

// road is the way to the hub.
func (c *Config) road() forward.Road {
	return forward.Road{Proxy: c.Hub.Proxy, PasswordFile: c.Hub.ProxyPasswordFile}
}

// byProxy is the proxy through which data goes, without its user; empty: there is none.
func (c *Config) byProxy() string {
	host, port, err := forward.Address(c.Hub.URL)
	if err != nil {
		return ""
	}
	proxy, err := c.road().By(net.JoinHostPort(host, port))
	if err != nil || proxy == nil {
		return ""
	}
	return net.JoinHostPort(forward.ProxyAddress(proxy))
}

// dial is how the hub is called, with the token in a file.
func (c *Config) dial(token string) forward.DialConfig {
	return forward.DialConfig{
		URL: c.Hub.URL, Road: c.road(), Key: c.Hub.Key, Token: token, CA: c.Hub.CA, Site: c.Site, Agent: c.Agent,
		Ping: time.Duration(c.Hub.Ping), Timeout: time.Duration(c.Hub.Timeout),
	}
}

// keeps checks how it keeps what waits.
func (c *Config) keeps() error {
	said := c.Window // what it leaves out may depend on the source
	if err := said.Validate(); err != nil {
		c.Window = source.Window{} // else each source's would be wrong, too
		return c.doc.Place("$.window", err)
	}
	if c.Buffer.Dir == "" {
		return nil // for want of data, which is told
	}
	c.Buffer.Log = mesh.LogID(subject.AgentLog(c.Site, c.Agent))
	if err := c.Buffer.Validate(); err != nil {
		return c.doc.Place("$.buffer", err)
	}
	return nil
}
