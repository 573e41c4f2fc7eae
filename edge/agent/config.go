package agent

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"plantmesh/edge/buffer"
	"plantmesh/edge/forward"
	"plantmesh/edge/page"
	"plantmesh/edge/quality"
	revisions "plantmesh/edge/revision"
	"plantmesh/edge/source"
	"plantmesh/edge/source/mqtt"
	"plantmesh/edge/source/opcua"
	"plantmesh/edge/source/sparkplug"
	"plantmesh/proto/revision"
	"plantmesh/proto/strict"
	"plantmesh/proto/systemd"
)

// Config is edge.yaml. Its comments are the manual; zero fields mean the
// defaults named here. Relative paths count from the file's own folder.
// Sources stand in sources.d/*.yaml beside it, rules in rules.d/*.yaml, and what they
// must find in rules.d/*_test.yaml (package quality, TestFile). The
// environment goes first, see envPrefix.
type Config struct {
	// Agent is this gateway's name at the hub: lower case letters, digits, '-', '_'.
	Agent string `yaml:"agent"`
	// Site is the site's name at the hub.
	Site string `yaml:"site"`
	// Data is the folder of the buffer. It must survive power loss.
	Data string `yaml:"data"`
	// Hub is where the data goes.
	Hub HubConfig `yaml:"hub"`
	// Forward is how it goes there.
	Forward forward.Config `yaml:"forward"`
	// Buffer bounds what waits on this gateway's disk.
	Buffer buffer.Config `yaml:"buffer"`
	// Window says when a batch closes: profile is latency (1 s, the default) or
	// flash (4 s); latency, bytes and max_samples go before it, and a source's own
	// window goes first. What each profile costs here `status` says.
	Window source.Window `yaml:"window"`
	// Revisions says how a configuration of the hub is tried before it is kept.
	Revisions revisions.Config `yaml:"revisions"`
	// PlantClock is the plant clock's file in a demo; empty: the wall clock.
	PlantClock string `yaml:"plant_clock"`
	// Status is the path of the local socket that answers `plantmesh-edge
	// status`; empty: data/status.sock.
	Status string `yaml:"status"`

	// Page is this gateway's page for a browser; without it there is none.
	Page page.Config `yaml:"page"`

	// Sources and Rules come from the folders beside the file.
	Sources []SourceFile   `yaml:"-"`
	Rules   *quality.Rules `yaml:"-"`

	// Manager is told how the agent is; zero: nobody is.
	Manager systemd.Manager `yaml:"-"`
	// Verbosity is how much log says; nil: it can't be changed while the agent runs.
	Verbosity *Verbosity `yaml:"-"`

	doc    *strict.Doc
	path   string
	faults []partFault

	// Of the hub's configuration: what is known of it, which revision stands here, which
	// files of it give way to the gateway's own, and why it can't be read.
	state   revisions.State
	applied revision.Ref
	drift   []string
	unread  error
}

// HubConfig is the one address the agent calls.
type HubConfig struct {
	// URL is nats://host:port, or wss://host where nothing but HTTPS is let out, and the
	// hub listens for that (nats.websocket of hub.yaml).
	URL string `yaml:"url"`
	// Proxy is the HTTP proxy on the way to the hub, for data and for Enroll: as
	// http://user@proxy.example:3128, or https://; none, whatever the environment says.
	// Default: HTTPS_PROXY and NO_PROXY of the environment, as the service has it. It is
	// asked for a way to host and port of URL (CONNECT), which it must let through.
	Proxy string `yaml:"proxy"`
	// ProxyPasswordFile holds the password of that user, and nothing else; cred:NAME is a
	// credential of the service, as for Key.
	ProxyPasswordFile string `yaml:"proxy_password_file"`
	// CA is who vouches for the certificate that is shown at URL, where that is not the
	// hub's own, as behind a load balancer that speaks TLS itself: a file of certificates in
	// PEM, or system: whom this machine trusts. Who holds such a certificate can read what
	// goes through. Default: the hub's own authority alone, which stands in Token.
	CA string `yaml:"ca"`
	// Enroll is the hub's address for people and programs, as https://hub.example.com:
	// where an agent whose token has ended asks for another. Without it somebody has
	// to enrol the key again by hand then.
	Enroll string `yaml:"enroll"`
	// Key is the file of this agent's key, made by `plantmesh-edge enroll` or keygen;
	// cred:NAME is a credential of the service, see credential.go.
	Key string `yaml:"key"`
	// Token is the file of the hub's signed answer to that key. The agent renews it
	// from a third of its life on.
	Token string `yaml:"token"`
	// Ping is how often the connection is asked whether it lives; default 15s. A
	// half-open one is noticed after two missed answers.
	Ping strict.Duration `yaml:"ping"`
	// Timeout is how long the hub's stream may take to answer a message; default
	// 10s. One that is late may have arrived all the same: it comes again, and
	// the hub's set decides.
	Timeout strict.Duration `yaml:"timeout"`
}

// SourceFile is one file of sources.d: exactly one section, named by the
// protocol.
type SourceFile struct {
	OPCUA     *opcua.Config     `yaml:"opcua"`
	MQTT      *mqtt.Config      `yaml:"mqtt"`
	Sparkplug *sparkplug.Config `yaml:"sparkplug"`
	// Listener is where devices call that know no broker.
	Listener *mqtt.ListenerConfig `yaml:"mqtt_listener"`

	// File and Raw are where it was read and what it says.
	File string `yaml:"-"`
	Raw  []byte `yaml:"-"`

	origin origin
	doc    *strict.Doc
}

// Warning says in words what is allowed in a source and hardly meant; empty:
// nothing.
func (s *SourceFile) Warning() string {
	if s.MQTT != nil && !s.MQTT.Provable() || s.Listener != nil && !s.Listener.Provable() {
		return fmt.Sprintf("%s: source %q declares neither heartbeat nor max_silence of a signal: values will be stored but nothing counts as known; declare heartbeat.topic, or max_silence of a signal that is always sent", s.File, s.ID())
	}
	return ""
}

// ID is the source's name.
func (s *SourceFile) ID() string {
	if all := s.sections(); len(all) > 0 {
		return all[0].id
	}
	return ""
}

// section is what the sections of all protocols have.
type section struct {
	key      string // of the file
	id       string
	window   *source.Window
	files    map[string]*string // that it names, below key and under
	under    string
	validate func() error
}

// sections are those of the file: one, where it was read without a fault.
func (s *SourceFile) sections() (out []section) {
	if c := s.OPCUA; c != nil {
		out = append(out, section{key: "opcua", id: c.ID, window: &c.Window, files: c.Security.Files(), under: ".security", validate: c.Validate})
	}
	if c := s.MQTT; c != nil {
		out = append(out, section{key: "mqtt", id: c.ID, window: &c.Window, files: c.Files(), validate: c.Validate})
	}
	if c := s.Sparkplug; c != nil {
		out = append(out, section{key: "sparkplug", id: c.ID, window: &c.Window, files: c.Files(), validate: c.Validate})
	}
	if c := s.Listener; c != nil {
		out = append(out, section{key: "mqtt_listener", id: c.ID, window: &c.Window, files: c.Files(), validate: c.Validate})
	}
	return out
}

// minTimer: less would be work without end.
const minTimer = 100 * time.Millisecond

// envPrefix begins the variables that are laid over edge.yaml:
// PLANTMESH_EDGE_BUFFER__MAX_BYTES=64MiB is max_bytes of buffer.
const envPrefix = "PLANTMESH_EDGE_"

// section is the place of its section.
func (s *SourceFile) section() string { return "$." + s.sections()[0].key }

// LoadConfig reads and checks edge.yaml and the folders beside it, all of it. Its
// errors are one line for people: file, line, what, nearest key.
func LoadConfig(path string) (c Config, err error) { return OpenConfig(path, parts()...) }

// address checks the one address the agent calls.
func address(hub string) error {
	u, err := url.Parse(hub)
	switch {
	case err != nil || u.Host == "" || u.Hostname() == "":
		return errors.New("no address such as nats://hub.example.com:4222")
	case !slices.Contains([]string{"nats", "tls", "ws", "wss"}, u.Scheme):
		return errors.New("the hub is called by nats://, tls://, ws:// or wss://")
	case u.User != nil:
		return errors.New("who the agent is says its key, not the address: leave out what stands before the @")
	}
	return nil
}

// loadSources reads files of sources: those that can be read by an agent, and what is
// wrong with the others.
func (c *Config) loadSources(files []origin) (out []SourceFile, faults []error) {
	for _, f := range files {
		s, err := c.loadSource(f, out)
		if err != nil {
			faults = append(faults, err)
			continue
		}
		out = append(out, s)
	}
	return out, faults
}

// loadSource reads one of them, beside those that were read before.
func (c *Config) loadSource(file origin, others []SourceFile) (s SourceFile, err error) {
	raw, err := strict.Read(file.path)
	if err != nil {
		return s, &strict.Fault{File: file.path, What: strict.Unreadable(err)}
	}
	if s, err = c.parseSource(file, raw); err != nil {
		return s, err
	}
	return s, s.beside(others)
}

// beside says why a source can't be read beside others; nil: it can.
func (s *SourceFile) beside(others []SourceFile) error {
	for _, o := range others {
		if o.ID() == s.ID() {
			return s.doc.Fault(s.section()+".id", "source %q stands in %s already", s.ID(), o.File)
		}
		if s.Listener != nil && o.Listener != nil && s.Listener.Listen == o.Listener.Listen {
			return s.doc.Fault("$.mqtt_listener.listen", "%s is listened on by %s already", s.Listener.Listen, o.File)
		}
		if s.OPCUA != nil && o.OPCUA != nil && o.OPCUA.Server() == s.OPCUA.Server() {
			return s.doc.Fault("$.opcua.endpoint", "endpoint %s is read by %s already: a server takes few sessions, put the signals into that file", s.OPCUA.Endpoint, o.File)
		}
	}
	return nil
}

// yamlFiles lists a folder's *.yaml files. A file that only looks like one is
// a fault: it would be left out without a word.
func yamlFiles(dir string) (out []string, err error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, &strict.Fault{File: dir, What: strict.Unreadable(err)}
	}
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		switch filepath.Ext(path) {
		case ".yaml":
			out = append(out, path)
		case ".yml":
			return nil, &strict.Fault{File: path, What: "is not read: only files that end with .yaml are; rename it"}
		}
	}
	return out, nil
}

// ParseSource reads and checks one file of sources.d. Where it says nothing of
// when a commit closes, window does. Paths in it count from its own folder.
func ParseSource(file string, raw []byte, window source.Window) (s SourceFile, err error) {
	c := Config{Window: window}
	return c.parseSource(origin{path: file, base: filepath.Dir(file)}, raw)
}

// parseSource is ParseSource of a file that is the gateway's own, or of a revision.
func (c *Config) parseSource(file origin, raw []byte) (s SourceFile, err error) {
	doc, err := strict.Parse(file.path, raw, &s)
	if err != nil {
		return s, err
	}
	s.File, s.Raw, s.doc, s.origin = file.path, raw, doc, file
	all := s.sections()
	if len(all) != 1 {
		return s, doc.Fault("$", "a source file has exactly one section: opcua, mqtt, sparkplug or mqtt_listener")
	}
	one := all[0]
	one.window.Default(c.Window)
	if err := c.locate(&s, one.key+one.under, one.files); err != nil {
		return s, err
	}
	if err := one.validate(); err != nil {
		return s, doc.Place("$."+one.key, err)
	}
	if !regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$`).MatchString(s.ID()) {
		return s, doc.Fault(s.section()+".id", "%q is no source id: use letters, digits, '.', '-' and '_', at most 128", s.ID())
	}
	return s, nil
}

// locate makes the files that a section names absolute, and looks whether they
// are there: a worker that can't read them would only say so later.
func (c *Config) locate(s *SourceFile, section string, named map[string]*string) error {
	for _, at := range slices.Sorted(maps.Keys(named)) {
		path := named[at]
		if *path == "" {
			continue
		}
		whole := located(*path, s.origin.base, filepath.Dir(s.origin.base))
		if s.origin.revision > 0 {
			if err := c.mayName(*path, whole); err != nil {
				return s.doc.Fault("$."+section+"."+at, "%v", err)
			}
		}
		*path = whole
		if _, err := os.Stat(*path); err != nil {
			return s.doc.Fault("$."+section+"."+at, "%s: %s", *path, strict.Unreadable(err))
		}
	}
	return nil
}

// loadRules reads files of rules; what stands beside them is for tests.
func loadRules(files []origin) (*quality.Rules, error) {
	var out []*quality.Rules
	for _, f := range files {
		if strings.HasSuffix(f.path, testSuffix) {
			continue
		}
		r, err := ruleFile(f.path)
		if err != nil {
			return nil, err
		}
		out = append(out, r)
	}
	return quality.Join(out)
}
