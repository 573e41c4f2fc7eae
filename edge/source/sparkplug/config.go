package sparkplug

import (
	"fmt"
	"strings"
	"time"

	"plantmesh/edge/source"
	"plantmesh/edge/source/mqtt/link"
	"plantmesh/edge/source/sparkplug/payload"
	"plantmesh/proto/mesh"
	"plantmesh/proto/strict"
)

// Defaults and limits of a configuration.
const (
	defaultNamespace                      = "spBv1.0"
	defaultReorderTimeout strict.Duration = strict.Duration(5 * time.Second)
	defaultDisorder       strict.Duration = strict.Duration(5 * time.Second)
	defaultMaxSignals                     = 100_000
	defaultMaxNodes                       = 1_000
	largestMaxNodes                       = 10_000
	defaultEvery          strict.Duration = strict.Duration(10 * time.Second)
	defaultLongest        strict.Duration = strict.Duration(5 * time.Minute)
	defaultPerSecond                      = 10
	largestPerSecond                      = 1_000
	defaultName                           = "{group}.{node}.{device}.{metric}"
	// maxID bounds the name of a group, a node or a device: three of them name a part
	// of the state, see mesh.MaxKeptName.
	maxID = 128
)

// Mode says what this host may send.
type Mode string

// Modes of a host.
const (
	// Passive only listens. It is no Host Application in the words of the
	// specification, which wants STATE of each.
	Passive Mode = "passive"
	// Active may ask a node for its births: it writes Node Control/Rebirth and nothing
	// else, ever.
	Active Mode = "active"
	// Primary is active, and tells the nodes by STATE that it is there: those that
	// wait for it keep their data while it is not.
	Primary Mode = "primary"
)

// Config describes one MQTT broker and the Sparkplug B nodes to read there.
type Config struct {
	link.Config `yaml:",inline"` // max_packet at most 1MiB

	ID       string `yaml:"id"`        // name of the source, unique on the gateway
	ClientID string `yaml:"client_id"` // unique at the broker; default plantmesh-<id>

	Mode      Mode   `yaml:"mode"`      // passive (the default) only listens; active may ask nodes for their births; primary also tells them by STATE that it is there
	HostID    string `yaml:"host_id"`   // with primary: the id that nodes wait for
	Namespace string `yaml:"namespace"` // default spBv1.0

	Nodes  []string `yaml:"nodes"`  // who may speak: group/node, * for any text; whoever is not named is counted and refused
	Name   string   `yaml:"name"`   // of a signal: default {group}.{node}.{device}.{metric}; what holds {device} is left out for metrics of a node
	Ignore []string `yaml:"ignore"` // metrics that are no signals: group/node/metric or group/node/device/metric, * for any text

	// StoreAndForward names nodes, as nodes does, that keep what this host does not hear
	// and say it as historical values behind their births, from before it was missed.
	StoreAndForward []string `yaml:"store_and_forward"`

	Signals []SignalConfig `yaml:"signals"` // what else is known of some metrics; all others are read too

	ReorderTimeout strict.Duration `yaml:"reorder_timeout"` // how long a message that is missing may be overtaken; then it is lost; default 5s
	Disorder       strict.Duration `yaml:"disorder"`        // how late a value may come behind its time stamp; default 5s
	Rebirth        Rebirth         `yaml:"rebirth"`         // how often nodes are asked for their births

	MaxMetrics int           `yaml:"max_metrics"` // of one message; default and most 10000
	MaxNodes   int           `yaml:"max_nodes"`   // default 1000, at most 10000
	MaxSignals int           `yaml:"max_signals"` // default and most 100000
	Window     source.Window `yaml:"window"`      // when a commit closes
}

// Rebirth bounds how often nodes are asked for their births. Each request has a node
// send all it has: a broker with many nodes must not be made to do that at once.
type Rebirth struct {
	Every     strict.Duration `yaml:"every"`      // least time between two requests to a node; doubled for each that is not answered; default 10s
	Longest   strict.Duration `yaml:"longest"`    // of that time; default 5m
	PerSecond int             `yaml:"per_second"` // requests to all nodes together; default 10
}

// SignalConfig is what is known of one metric beside what its birth says.
type SignalConfig struct {
	Metric     string          `yaml:"metric"`      // group/node/metric or group/node/device/metric
	Name       string          `yaml:"name"`        // of the signal, instead of the one that the pattern makes
	Type       string          `yaml:"type"`        // bool, int, uint, double, string, bytes or array; a birth that says another is refused; default: what the birth says
	Unit       string          `yaml:"unit"`        // UNECE Rec 20 common code, such as CEL
	MaxSilence strict.Duration `yaml:"max_silence"` // longer without a value is a fault of the signal; default: no limit
}

// Validate fills in the defaults and checks the rest.
func (c *Config) Validate() error {
	c.defaults()
	if err := c.identity(); err != nil {
		return err
	}
	if err := c.limits(); err != nil {
		return err
	}
	for key, list := range map[string][]string{"nodes": c.Nodes, "store_and_forward": c.StoreAndForward} {
		for i, p := range list {
			if strings.Count(p, "/") != 1 || strings.HasPrefix(p, "/") || strings.HasSuffix(p, "/") || strings.ContainsAny(p, "+#") {
				return strict.At(fmt.Sprintf("%s[%d]", key, i), "%q is no group/node: write both, with * for any text", p)
			}
		}
	}
	for i, p := range c.Ignore {
		if strings.Count(p, "/") < 2 {
			return strict.At(fmt.Sprintf("ignore[%d]", i), "%q is no group/node/metric: write all three, with * for any text", p)
		}
	}
	if _, err := newNamer(c); err != nil {
		return err
	}
	return strict.Under("window", c.Window.Validate())
}

// identity checks who this host is, and whom it listens to.
func (c *Config) identity() error {
	if c.ID == "" {
		return strict.At("id", "id is missing")
	}
	if err := c.Config.Validate(); err != nil {
		return err
	}
	switch {
	case c.MaxPacket > payload.MaxBytes:
		return strict.At("max_packet", "max_packet must lie between 1KiB and 1MiB")
	case c.Mode != Passive && c.Mode != Active && c.Mode != Primary:
		return strict.At("mode", "mode %q is none of passive (only listens), active (may ask nodes for their births), primary (also tells them that it is there)", c.Mode)
	case c.Mode == Primary && !level(c.HostID):
		return strict.At("host_id", "host_id %q: a primary host needs the id that nodes wait for, without / + #", c.HostID)
	case c.Mode != Primary && c.HostID != "":
		return strict.At("host_id", "host_id is for mode: primary")
	case !level(c.Namespace):
		return strict.At("namespace", "namespace %q must be one level of a topic, such as %s", c.Namespace, defaultNamespace)
	case c.Mode == Passive && len(c.StoreAndForward) > 0:
		return strict.At("store_and_forward", "store_and_forward is for mode: primary, which nodes wait for, or active: nobody else is told again")
	case len(c.Nodes) == 0:
		return strict.At("nodes", "nodes is empty: nobody may speak; write group/node of each, with * for any text")
	}
	return nil
}

func (c *Config) limits() error {
	for _, d := range []struct {
		key         string
		value       strict.Duration
		least, most time.Duration
	}{
		{"reorder_timeout", c.ReorderTimeout, 10 * time.Millisecond, 5 * time.Minute},
		{"disorder", c.Disorder, 0, time.Hour},
		{"rebirth.every", c.Rebirth.Every, time.Second, time.Hour},
		{"rebirth.longest", c.Rebirth.Longest, time.Duration(c.Rebirth.Every), 24 * time.Hour},
	} {
		if v := time.Duration(d.value); v < d.least || v > d.most {
			return strict.At(d.key, "%s must lie between %s and %s", d.key, d.least, d.most)
		}
	}
	for _, n := range []struct {
		key               string
		value, least, max int
	}{
		{"max_metrics", c.MaxMetrics, 1, payload.MaxMetrics},
		{"max_nodes", c.MaxNodes, 1, largestMaxNodes},
		{"max_signals", c.MaxSignals, 1, defaultMaxSignals},
		{"rebirth.per_second", c.Rebirth.PerSecond, 1, largestPerSecond},
	} {
		if n.value < n.least || n.value > n.max {
			return strict.At(n.key, "%s must lie between %d and %d", n.key, n.least, n.max)
		}
	}
	return nil
}

func (c *Config) defaults() {
	setIfZero(&c.ClientID, "plantmesh-"+c.ID)
	setIfZero(&c.Mode, Passive)
	setIfZero(&c.Namespace, defaultNamespace)
	setIfZero(&c.Name, defaultName)
	setIfZero(&c.ReorderTimeout, defaultReorderTimeout)
	setIfZero(&c.Disorder, defaultDisorder)
	setIfZero(&c.Rebirth.Every, defaultEvery)
	setIfZero(&c.Rebirth.Longest, max(defaultLongest, c.Rebirth.Every))
	setIfZero(&c.Rebirth.PerSecond, defaultPerSecond)
	setIfZero(&c.MaxMetrics, payload.MaxMetrics)
	setIfZero(&c.MaxNodes, defaultMaxNodes)
	setIfZero(&c.MaxSignals, defaultMaxSignals)
}

func setIfZero[T comparable](v *T, value T) {
	var zero T
	if *v == zero {
		*v = value
	}
}

// asks reports whether this host may ask for births.
func (c *Config) asks() bool { return c.Mode != Passive }

// allows reports whether a node may speak.
func (c *Config) allows(group, node string) bool { return named(c.Nodes, group, node) }

// keeps reports whether a node keeps what we do not hear.
func (c *Config) keeps(group, node string) bool { return named(c.StoreAndForward, group, node) }

func named(patterns []string, group, node string) bool {
	for _, p := range patterns {
		g, n, _ := strings.Cut(p, "/")
		if glob(g, group) && glob(n, node) {
			return true
		}
	}
	return false
}

// level reports whether a text can be one level of a topic that is published to.
func level(s string) bool {
	return s != "" && len(s) <= maxID && !strings.ContainsAny(s, "/+#\x00")
}

// glob reports whether a text is what a pattern says, in which * stands for any text.
func glob(pattern, text string) bool {
	first, rest, star := strings.Cut(pattern, "*")
	if !star {
		return pattern == text
	}
	text, ok := strings.CutPrefix(text, first)
	if !ok {
		return false
	}
	for {
		var part string
		part, rest, star = strings.Cut(rest, "*")
		if !star {
			return strings.HasSuffix(text, part)
		}
		if _, text, ok = strings.Cut(text, part); !ok {
			return false
		}
	}
}

// kindOf is the type that a signal must have; TypeNone: the one its birth says.
func (s *SignalConfig) kind() (t mesh.Type, ok bool) {
	if s.Type == "" {
		return mesh.TypeNone, true
	}
	t, ok = mesh.ParseType(s.Type)
	return t, ok && t != mesh.TypeNone && t <= mesh.TypeArray
}
