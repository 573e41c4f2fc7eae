package mqtt

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"plantmesh/edge/source"
	"plantmesh/edge/source/mqtt/link"
	"plantmesh/proto/mesh"
	"plantmesh/proto/strict"
)

// Defaults and limits of a configuration.
const (
	defaultRate                          = 10_000
	leastReceiveMaximum                  = 500
	defaultSessionExpiry strict.Duration = strict.Duration(7 * 24 * time.Hour)
	defaultDisorder      strict.Duration = strict.Duration(5 * time.Second)
	defaultEvery         strict.Duration = strict.Duration(10 * time.Second)
)

// Config describes one MQTT broker and what to read there.
type Config struct {
	ID       string `yaml:"id"`        // name of the source, unique on the gateway
	ClientID string `yaml:"client_id"` // must never change: the broker keeps messages under it; default plantmesh-<id>

	link.Config `yaml:",inline"`

	Rate           int             `yaml:"rate"`            // messages a second that the broker shall be able to send; default 10000
	ReceiveMaximum int             `yaml:"receive_maximum"` // messages taken and not yet on disk; 2 to 65535, default what comes in two windows at rate
	SessionExpiry  strict.Duration `yaml:"session_expiry"`  // how long the broker keeps messages for us; default 168h
	Disorder       strict.Duration `yaml:"disorder"`        // how late a value may come behind its time stamp; default 5s

	Topics    []Topic        `yaml:"topics"`    // what to subscribe to
	Heartbeat Heartbeat      `yaml:"heartbeat"` // what proves that silence is silence; without it max_silence of the signals must
	Signals   []SignalConfig `yaml:"signals"`   // what to keep; other keys are counted and left out
	Window    source.Window  `yaml:"window"`    // when a commit closes
}

// Topic says how messages become samples: JSON objects of the form
// {"ts": 1767225600000, "speed": 41.5, "state": 6}.
type Topic struct {
	Filter   string `yaml:"filter"`    // subscription, such as plant/line3/+
	Signal   string `yaml:"signal"`    // name of the signal: {key} is the key, {0}, {1} ... the levels of the topic
	Time     string `yaml:"time"`      // key with the time since 1970; empty: the gateway's clock
	TimeUnit string `yaml:"time_unit"` // s, ms, us or ns; default ms
}

// Heartbeat is a message with a time: everything with a time stamp older than
// that, less the disorder, was published before it.
type Heartbeat struct {
	Topic    string          `yaml:"topic"`
	Every    strict.Duration `yaml:"every"`     // longest time between two; default 10s
	Time     string          `yaml:"time"`      // key with the time; default ts
	TimeUnit string          `yaml:"time_unit"` // s, ms, us or ns; default ms
}

// SignalConfig is one signal to keep.
type SignalConfig struct {
	Name       string          `yaml:"name"`
	Type       string          `yaml:"type"`        // bool, int, uint, double or string
	Unit       string          `yaml:"unit"`        // UNECE Rec 20 common code, such as CEL
	MaxSilence strict.Duration `yaml:"max_silence"` // longer without a value is a fault of the signal, and without a heartbeat the end of what is known; default: no limit
}

// Validate fills in the defaults and checks the rest.
func (c *Config) Validate() error {
	if c.ID == "" {
		return strict.At("id", "id is missing")
	}
	if err := c.Config.Validate(); err != nil {
		return err
	}
	if err := c.Window.Validate(); err != nil {
		return strict.Under("window", err)
	}
	c.defaults()
	switch {
	case c.Rate < 1 || c.Rate > 10_000_000:
		return strict.At("rate", "rate must lie between 1 and 10000000 messages a second")
	case c.ReceiveMaximum < 2 || c.ReceiveMaximum > 65535:
		return strict.At("receive_maximum", "receive_maximum must lie between 2 and 65535")
	case time.Duration(c.SessionExpiry) < time.Minute:
		return strict.At("session_expiry", "session_expiry must be at least 1m: the broker keeps messages only that long")
	case len(c.Topics) == 0:
		return strict.At("topics", "topics is empty: nothing to subscribe to")
	case len(c.Signals) == 0:
		return strict.At("signals", "signals is empty: nothing to keep")
	}
	for i, t := range c.Topics {
		if err := t.validate(); err != nil {
			return strict.Under(fmt.Sprintf("topics[%d]", i), err)
		}
	}
	if h := c.Heartbeat; h.Topic != "" && (strings.ContainsAny(h.Topic, "+#") || unit(h.TimeUnit) == 0) {
		return strict.At("heartbeat", "heartbeat %q must be one topic with a time_unit of s, ms, us or ns", h.Topic)
	}
	_, err := c.table()
	return err
}

// Provable reports whether anything can prove that silence is silence. Without
// it values are stored, but nothing counts as known.
func (c *Config) Provable() bool {
	return c.Heartbeat.Topic != "" || slices.ContainsFunc(c.Signals, func(s SignalConfig) bool { return s.MaxSilence > 0 })
}

func (c *Config) defaults() {
	setIfZero(&c.ClientID, "plantmesh-"+c.ID)
	setIfZero(&c.Rate, defaultRate)
	setIfZero(&c.ReceiveMaximum, receiveMaximum(c.Rate, time.Duration(c.Window.Latency)))
	setIfZero(&c.SessionExpiry, defaultSessionExpiry)
	setIfZero(&c.Disorder, defaultDisorder)
	setIfZero(&c.Heartbeat.Every, defaultEvery)
	setIfZero(&c.Heartbeat.Time, "ts")
	setIfZero(&c.Heartbeat.TimeUnit, "ms")
	for i := range c.Topics {
		setIfZero(&c.Topics[i].TimeUnit, "ms")
	}
}

func setIfZero[T comparable](v *T, value T) {
	var zero T
	if *v == zero {
		*v = value
	}
}

func (t Topic) validate() error {
	switch {
	case t.Filter == "":
		return strict.At("filter", "a topic has no filter")
	case strings.Count(t.Signal, "{key}") != 1:
		return strict.At("signal", "signal %q of topic %q must hold {key} once", t.Signal, t.Filter)
	case unit(t.TimeUnit) == 0:
		return strict.At("time_unit", "time_unit %q of topic %q is none of s, ms, us, ns", t.TimeUnit, t.Filter)
	}
	for i, level := range strings.Split(t.Filter, "/") {
		last := i == strings.Count(t.Filter, "/")
		if strings.ContainsAny(level, "+#") && (len(level) > 1 || level == "#" && !last) {
			return strict.At("filter", "filter %q: + and # stand alone between slashes, # only at the end", t.Filter)
		}
	}
	return nil
}

// unit is the length of one unit of time; 0 for a name that is none.
func unit(name string) time.Duration {
	switch name {
	case "s":
		return time.Second
	case "ms":
		return time.Millisecond
	case "us":
		return time.Microsecond
	case "ns":
		return time.Nanosecond
	}
	return 0
}

// table is the signal table of the source.
func (c *Config) table() ([]mesh.Signal, error) {
	seen := make(map[string]bool, len(c.Signals))
	table := make([]mesh.Signal, 0, len(c.Signals))
	for i, s := range c.Signals {
		t, ok := mesh.ParseType(s.Type)
		at := fmt.Sprintf("signals[%d]", i)
		switch {
		case s.Name == "":
			return nil, strict.At(at, "a signal has no name")
		case seen[s.Name]:
			return nil, strict.At(at+".name", "signal %q stands twice", s.Name)
		case !ok || t == mesh.TypeNone || t == mesh.TypeBytes:
			return nil, strict.At(at+".type", "type %q of signal %q is none of bool, int, uint, double, string", s.Type, s.Name)
		}
		seen[s.Name] = true
		table = append(table, mesh.Signal{ID: uint32(i), Name: s.Name, Type: t, Unit: s.Unit, MaxSilence: mesh.Nanos(s.MaxSilence)})
	}
	return table, nil
}

// filters are what is subscribed to: each topic once, and the heartbeat where
// no topic covers it, because a broker may send a message once per filter.
func (c *Config) filters() (out []string) {
	for _, t := range c.Topics {
		if !slices.Contains(out, t.Filter) {
			out = append(out, t.Filter)
		}
	}
	h := c.Heartbeat.Topic
	if h != "" && !slices.ContainsFunc(out, func(f string) bool { return matches(f, h) }) {
		out = append(out, h)
	}
	return out
}

// matches reports whether a topic falls under a filter (MQTT 5, 4.7).
func matches(filter, topic string) bool {
	f, t := strings.Split(filter, "/"), strings.Split(topic, "/")
	if strings.HasPrefix(topic, "$") && !strings.HasPrefix(filter, "$") {
		return false
	}
	for i, level := range f {
		switch {
		case level == "#":
			return true
		case i >= len(t), level != "+" && level != t[i]:
			return false
		}
	}
	return len(f) == len(t)
}
