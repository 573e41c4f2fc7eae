package mqtt

import (
	"time"

	"plantmesh/edge/source"
	"plantmesh/edge/source/mqtt/link"
	"plantmesh/edge/source/mqtt/mapping"
	"plantmesh/proto/strict"
)

// Defaults and limits of a configuration.
const (
	defaultRate                          = 10_000
	mostRate                             = 10_000_000
	leastReceiveMaximum                  = 500
	defaultSessionExpiry strict.Duration = strict.Duration(7 * 24 * time.Hour)
	defaultDisorder      strict.Duration = strict.Duration(5 * time.Second)
)

// Config describes one MQTT broker and what to read there.
type Config struct {
	link.Config `yaml:",inline"` // which broker
	Mapping     `yaml:",inline"` // what to subscribe to, and what becomes of it

	ID       string `yaml:"id"`        // name of the source, unique on the gateway
	ClientID string `yaml:"client_id"` // must never change: the broker keeps messages under it; default plantmesh-<id>

	Rate           int             `yaml:"rate"`            // messages a second that the broker shall be able to send; default 10000
	ReceiveMaximum int             `yaml:"receive_maximum"` // messages taken and not yet on disk; 2 to 65535, default what comes in two windows at rate
	AtMostOnce     bool            `yaml:"at_most_once"`    // ask for QoS 0: cheaper, and what is lost is told only where devices number their messages, see sequence
	SessionExpiry  strict.Duration `yaml:"session_expiry"`  // how long the broker keeps messages for us; default 168h
	Disorder       strict.Duration `yaml:"disorder"`        // how late a value may come behind its time stamp; default 5s

	Window source.Window `yaml:"window"` // when a commit closes
}

type (
	// Mapping is what package mapping needs.
	Mapping = mapping.Config
	// Topic says how messages become samples.
	Topic = mapping.Topic
	// Heartbeat is a message with a time.
	Heartbeat = mapping.Heartbeat
	// SignalConfig is one signal to keep, or a pattern of signals.
	SignalConfig = mapping.Signal
)

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
	case c.Rate < 1 || c.Rate > mostRate:
		return strict.At("rate", "rate must lie between 1 and %d messages a second", mostRate)
	case c.ReceiveMaximum < 2 || c.ReceiveMaximum > 65535:
		return strict.At("receive_maximum", "receive_maximum must lie between 2 and 65535")
	case time.Duration(c.SessionExpiry) < time.Minute:
		return strict.At("session_expiry", "session_expiry must be at least 1m: the broker keeps messages only that long")
	}
	return c.Mapping.Validate()
}

func (c *Config) defaults() {
	setIfZero(&c.ClientID, "plantmesh-"+c.ID)
	setIfZero(&c.Rate, defaultRate)
	setIfZero(&c.ReceiveMaximum, receiveMaximum(c.Rate, time.Duration(c.Window.Latency)))
	setIfZero(&c.SessionExpiry, defaultSessionExpiry)
	setIfZero(&c.Disorder, defaultDisorder)
}

func setIfZero[T comparable](v *T, value T) {
	var zero T
	if *v == zero {
		*v = value
	}
}
