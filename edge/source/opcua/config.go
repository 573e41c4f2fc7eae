package opcua

import (
	"fmt"
	"net"
	"net/url"
	"strings"
	"time"

	"plantmesh/edge/source"
	"plantmesh/proto/mesh"
	"plantmesh/proto/strict"
)

// Defaults of a subscription.
const (
	defaultInterval  = strict.Duration(100 * time.Millisecond)
	defaultKeepAlive = 10
	defaultLifetime  = strict.Duration(time.Hour)
	defaultQueue     = 100_000
	defaultDisorder  = strict.Duration(5 * time.Second)
	defaultInFlight  = 3
	historyAuto      = "auto"
	historyOff       = "off"
	// maxSignals is what the lower half of a client handle can tell apart.
	maxSignals = 1 << 16
	// maxEvents is how many notifiers of one server are listened to: each has all
	// events of those below it.
	maxEvents = 64
)

// Config is one OPC UA server, as it stands in a file of sources.d. The
// comments are its manual.
type Config struct {
	ID       string   `yaml:"id"`       // the source's name, unique on this agent
	Endpoint string   `yaml:"endpoint"` // opc.tcp://host:port/path
	Security Security `yaml:"security"`

	Profile string `yaml:"profile"` // what server it is: s7-1200, s7-1500, kepware, ignition, prosys or generic, the default; see limits
	Limits  Limits `yaml:"limits"`  // what may be asked of it, where that is other than its profile says

	Poll               strict.Duration `yaml:"poll"`                // read all signals so often instead of subscribing; 0s, the default: only where the server has no subscriptions, each second. What changes and changes back between two reads nobody sees
	PublishingInterval strict.Duration `yaml:"publishing_interval"` // how often the server sends what changed; default 100ms
	SamplingInterval   strict.Duration `yaml:"sampling_interval"`   // how often the server looks at a node; 0s, the default: at each change
	KeepAliveCount     uint32          `yaml:"keep_alive_count"`    // intervals of silence after which the server says that it lives; default 10
	Lifetime           strict.Duration `yaml:"lifetime"`            // how long the server keeps subscription and session while nobody calls; default 1h
	Outage             strict.Duration `yaml:"outage"`              // how long an outage its queues shall bridge: queue_size follows, of signals with a sampling interval
	QueueSize          uint32          `yaml:"queue_size"`          // values the server keeps per node meanwhile; default 100000, at most 1000000
	Disorder           strict.Duration `yaml:"disorder"`            // the longest a value may come behind its time stamp; default 5s
	InFlight           int             `yaml:"in_flight"`           // publish requests waiting at the server; default that of the profile: 3, or 2

	History string `yaml:"history"` // auto, the default: where a server has not kept what changed, its history is asked; off: it isn't

	Signals []Signal      `yaml:"signals"`
	Events  []Events      `yaml:"events"`
	Window  source.Window `yaml:"window"`

	Application Application `yaml:"-"` // this client; the agent knows
}

// Signal is one node to read.
type Signal struct {
	Name             string          `yaml:"name"`              // "<line>.<machine>.<role>"
	Node             string          `yaml:"node"`              // nsu=URI;s=ID, or ns=2;s=ID; i=, g= and b= as in OPC UA. An index means what it meant when this signal was first read
	Path             string          `yaml:"path"`              // instead of node: browse names from the root, "/Objects/nsu=URI;Machines/2:press/Speed"; looked up at each connect; & before / & ; or : in a name
	Type             string          `yaml:"type"`              // bool, int, uint, double, string, bytes, array or struct
	Unit             string          `yaml:"unit"`              // UNECE Rec 20 common code, such as CEL; left out: what the server says
	TrustUnit        bool            `yaml:"trust_unit"`        // the server's EngineeringUnits are wrong: the unit here counts
	SamplingInterval strict.Duration `yaml:"sampling_interval"` // how often the server looks at the node; 0s, the default: as the source says
	QueueSize        uint32          `yaml:"queue_size"`        // values the server keeps of it; default: from outage, or as the source says
	Deadband         string          `yaml:"deadband"`          // changes up to so much don't count: 0.5, or 2% of its EURange
	Trigger          string          `yaml:"trigger"`           // what the server sends: value, the default, is each new value or status; status; timestamp, which is also the same value again
	MaxSilence       strict.Duration `yaml:"max_silence"`       // the node changes at least so often; 0s: not declared
}

// Validate fills in the defaults and checks what can be checked without the server.
func (c *Config) Validate() error {
	c.defaults()
	if c.ID == "" {
		return strict.At("id", "id is missing")
	}
	if f := Misaddressed(c.Endpoint); f != nil {
		return strict.At("endpoint", "endpoint %q is not opc.tcp://host:port%s", c.Endpoint, f)
	}
	if err := c.Security.validate(); err != nil {
		return strict.Under("security", err)
	}
	if err := c.profiled(); err != nil {
		return err
	}
	if err := c.bounded(); err != nil {
		return err
	}
	c.Window.Suit(len(c.Signals))
	if err := c.Window.Validate(); err != nil {
		return strict.Under("window", err)
	}
	return c.named()
}

// Misaddressed says why a text is no endpoint; nil: it is one.
func Misaddressed(endpoint string) *strict.AddressFault {
	return strict.Address(endpoint, strict.Scheme{Name: "opc.tcp", Port: "4840"})
}

// Server names the server that is read: two sources of one would need two sessions
// of the few it has.
func (c *Config) Server() string {
	u, err := url.Parse(c.Endpoint)
	if err != nil {
		return c.Endpoint
	}
	port := u.Port()
	set(&port, "4840") // OPC 10000-6 §7.4: registered for opc.tcp
	return net.JoinHostPort(strings.ToLower(u.Hostname()), port) + strings.TrimSuffix(u.EscapedPath(), "/")
}

// bounded checks how much is asked for, and how often.
func (c *Config) bounded() error {
	switch {
	case time.Duration(c.PublishingInterval) < 10*time.Millisecond || time.Duration(c.PublishingInterval) > time.Minute:
		return strict.At("publishing_interval", "publishing_interval must lie between 10ms and 1m")
	case c.KeepAliveCount > 1000:
		return strict.At("keep_alive_count", "keep_alive_count must be at most 1000")
	case c.Lifetime < 3*c.PublishingInterval*strict.Duration(c.KeepAliveCount):
		return strict.At("lifetime", "lifetime must be at least three times publishing_interval x keep_alive_count")
	case c.History != historyAuto && c.History != historyOff:
		return strict.At("history", "history %q is neither auto nor off", c.History)
	case c.InFlight < 1 || c.InFlight > 16:
		return strict.At("in_flight", "in_flight must lie between 1 and 16")
	case len(c.Signals)+len(c.Events) == 0:
		return strict.At("signals", "signals is empty: nothing would be read")
	case c.Poll > 0 && (time.Duration(c.Poll) < 100*time.Millisecond || time.Duration(c.Poll) > time.Hour):
		return strict.At("poll", "poll must lie between 100ms and 1h")
	case c.Poll > 0 && len(c.Events) > 0:
		return strict.At("poll", "poll reads values only: events need a subscription")
	case len(c.Events) > maxEvents:
		return strict.At("events", "events has %d entries, one source takes at most %d", len(c.Events), maxEvents)
	}
	if err := c.tooMany(); err != nil {
		return err
	}
	return c.outlasting()
}

// named checks signals and events, each for itself and their names together.
func (c *Config) named() error {
	seen := make(map[string]bool, len(c.Signals))
	for i, s := range c.Signals {
		if err := s.validate(); err != nil {
			return strict.Under(fmt.Sprintf("signals[%d]", i), err)
		}
		if seen[s.Name] {
			return strict.At(fmt.Sprintf("signals[%d].name", i), "signal %q stands twice", s.Name)
		}
		seen[s.Name] = true
	}
	for i := range c.Events {
		e := &c.Events[i]
		if err := e.validate(); err != nil {
			return strict.Under(fmt.Sprintf("events[%d]", i), err)
		}
		if seen[e.Name] {
			return strict.At(fmt.Sprintf("events[%d].name", i), "signal %q stands twice", e.Name)
		}
		seen[e.Name] = true
	}
	return nil
}

func (c *Config) defaults() {
	set(&c.PublishingInterval, defaultInterval)
	set(&c.KeepAliveCount, defaultKeepAlive)
	set(&c.Lifetime, defaultLifetime)
	set(&c.QueueSize, defaultQueue)
	set(&c.Disorder, defaultDisorder)
	set(&c.History, historyAuto)
}

func set[T comparable](v *T, value T) {
	var zero T
	if *v == zero {
		*v = value
	}
}

func (s Signal) validate() error {
	if s.Name == "" {
		return strict.At("name", "a signal has no name")
	}
	if t, ok := mesh.ParseType(s.Type); !ok || t == mesh.TypeNone {
		return strict.At("type", "type %q is none of bool, int, uint, double, string, bytes, array, struct", s.Type)
	}
	if s.TrustUnit && s.Unit == "" {
		return strict.At("trust_unit", "trust_unit has no unit beside it")
	}
	if s.QueueSize > maxQueue {
		return strict.At("queue_size", "queue_size must be at most %d", maxQueue)
	}
	if err := s.sifted(); err != nil {
		return err
	}
	_, err := s.address()
	return err
}

// table is the signal table: the row's place in the configuration is its id.
func (c *Config) table() []mesh.Signal {
	out := make([]mesh.Signal, len(c.Signals), len(c.Signals)+len(c.Events))
	for i, s := range c.Signals {
		t, _ := mesh.ParseType(s.Type)
		out[i] = mesh.Signal{ID: uint32(i), Name: s.Name, Type: t, Unit: s.Unit, MaxSilence: mesh.Nanos(s.MaxSilence)}
	}
	for i := range c.Events {
		out = append(out, c.Events[i].row(len(out)))
	}
	return out
}
