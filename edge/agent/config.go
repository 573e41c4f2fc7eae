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
	"time"

	"plantmesh/edge/buffer"
	"plantmesh/edge/forward"
	"plantmesh/edge/quality"
	"plantmesh/edge/source"
	"plantmesh/edge/source/mqtt"
	"plantmesh/edge/source/opcua"
	"plantmesh/edge/source/sparkplug"
	"plantmesh/proto/strict"
	"plantmesh/proto/systemd"
)

// Config is edge.yaml. Its comments are the manual; zero fields mean the
// defaults named here. Relative paths count from the file's own folder.
// Sources stand in sources.d/*.yaml beside it, rules in rules.d/*.yaml. The
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
	// PlantClock is the plant clock's file in a demo; empty: the wall clock.
	PlantClock string `yaml:"plant_clock"`
	// Status is the path of the local socket that answers `plantmesh-edge
	// status`; empty: data/status.sock.
	Status string `yaml:"status"`

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
}

// HubConfig is the one address the agent calls.
type HubConfig struct {
	// URL is nats://host:port.
	URL string `yaml:"url"`
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

	doc *strict.Doc
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

// loadSources reads a folder of sources: those that can be read by an agent, and
// what is wrong with the others.
func loadSources(dir string, window source.Window) (out []SourceFile, faults []error) {
	files, err := yamlFiles(dir)
	if err != nil {
		return nil, []error{err}
	}
	for _, f := range files {
		s, err := loadSource(f, window, out)
		if err != nil {
			faults = append(faults, err)
			continue
		}
		out = append(out, s)
	}
	return out, faults
}

// loadSource reads one of them, beside those that were read before.
func loadSource(file string, window source.Window, others []SourceFile) (s SourceFile, err error) {
	raw, err := os.ReadFile(file)
	if err != nil {
		return s, &strict.Fault{File: file, What: strict.Unreadable(err)}
	}
	if s, err = ParseSource(file, raw, window); err != nil {
		return s, err
	}
	for _, o := range others {
		if o.ID() == s.ID() {
			return s, s.doc.Fault(s.section()+".id", "source %q stands in %s already", s.ID(), o.File)
		}
		if s.Listener != nil && o.Listener != nil && s.Listener.Listen == o.Listener.Listen {
			return s, s.doc.Fault("$.mqtt_listener.listen", "%s is listened on by %s already", s.Listener.Listen, o.File)
		}
		if s.OPCUA != nil && o.OPCUA != nil && o.OPCUA.Server() == s.OPCUA.Server() {
			return s, s.doc.Fault("$.opcua.endpoint", "endpoint %s is read by %s already: a server takes few sessions, put the signals into that file", s.OPCUA.Endpoint, o.File)
		}
	}
	return s, nil
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
	doc, err := strict.Parse(file, raw, &s)
	if err != nil {
		return s, err
	}
	s.File, s.Raw, s.doc = file, raw, doc
	all := s.sections()
	if len(all) != 1 {
		return s, doc.Fault("$", "a source file has exactly one section: opcua, mqtt, sparkplug or mqtt_listener")
	}
	one := all[0]
	one.window.Default(window)
	if err := s.files(one.key+one.under, filepath.Dir(file), one.files); err != nil {
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

// files makes the files that a section names absolute, and looks whether they
// are there: a worker that can't read them would only say so later.
func (s *SourceFile) files(section, base string, named map[string]*string) error {
	for _, at := range slices.Sorted(maps.Keys(named)) {
		path := named[at]
		if *path == "" {
			continue
		}
		*path = located(*path, base, filepath.Dir(base))
		if _, err := os.Stat(*path); err != nil {
			return s.doc.Fault("$."+section+"."+at, "%s: %s", *path, strict.Unreadable(err))
		}
	}
	return nil
}

func loadRules(dir string) (*quality.Rules, error) {
	var out []*quality.Rules
	files, err := yamlFiles(dir)
	if err != nil {
		return nil, err
	}
	for _, f := range files {
		src, err := os.ReadFile(f)
		if err != nil {
			return nil, &strict.Fault{File: f, What: strict.Unreadable(err)}
		}
		r, err := quality.Parse(f, src)
		if err != nil {
			return nil, err
		}
		out = append(out, r)
	}
	return quality.Join(out)
}
