package mqtt

import (
	"slices"
	"strings"
	"testing"
	"time"

	"plantmesh/edge/source/mqtt/mapping"
	"plantmesh/proto/strict"
)

const goodYAML = `
id: line3-mqtt
url: mqtt://127.0.0.1:1883
topics:
  - filter: plant/line3/+
    signal: line3.{2}.{key}
    time: ts
heartbeat:
  topic: plant/line3/heartbeat
  every: 10s
signals:
  - {name: line3.filler.speed, type: double, unit: 1/min, max_silence: 1m}
`

func TestConfig_Defaults(t *testing.T) {
	var c Config
	if _, err := strict.Parse("x.yaml", []byte(goodYAML), &c); err != nil {
		t.Fatal(err)
	}
	if err := c.Validate(); err != nil {
		t.Fatal(err)
	}
	if c.ClientID != "plantmesh-line3-mqtt" || c.ReceiveMaximum != 20_000 || time.Duration(c.SessionExpiry) != 168*time.Hour ||
		c.MaxPacket != 1<<20 || time.Duration(c.Disorder) != 5*time.Second || c.Topics[0].TimeUnit != "ms" || c.Heartbeat.Time != "ts" {
		t.Errorf("got %+v", c)
	}
	m, err := mapping.New(&c.Mapping)
	if err != nil {
		t.Fatal(err)
	}
	if f := m.Filters(); !slices.Equal(f, []string{"plant/line3/+"}) {
		t.Errorf("filters %q: the heartbeat is covered already", f)
	}
}

func TestConfig_FaultsAreSaidInPlainWords(t *testing.T) {
	for want, change := range map[string]func(*Config){
		"id is missing":                     func(c *Config) { c.ID = "" },
		"url":                               func(c *Config) { c.URL = "tcp://x:1" },
		"receive_maximum":                   func(c *Config) { c.ReceiveMaximum = 70000 },
		"session_expiry":                    func(c *Config) { c.SessionExpiry = 1 },
		"max_packet":                        func(c *Config) { c.MaxPacket = 1 },
		"topics is empty":                   func(c *Config) { c.Topics = nil },
		"signals is empty":                  func(c *Config) { c.Signals = nil },
		"{key}":                             func(c *Config) { c.Topics[0].Signal = "x" },
		`time_unit "h"`:                     func(c *Config) { c.Topics[0].TimeUnit = "h" },
		"# only at the end":                 func(c *Config) { c.Topics[0].Filter = "a/#/b" },
		"stand alone":                       func(c *Config) { c.Topics[0].Filter = "a/b+" },
		"heartbeat":                         func(c *Config) { c.Heartbeat.Topic = "a/+" },
		`type "float"`:                      func(c *Config) { c.Signals[0].Type = "float" },
		"stands twice":                      func(c *Config) { c.Signals = append(c.Signals, c.Signals[0]) },
		"window.latency must be at most 1m": func(c *Config) { c.Window.Latency = strict.Duration(time.Hour) },
	} {
		var c Config
		if _, err := strict.Parse("x.yaml", []byte(goodYAML), &c); err != nil {
			t.Fatal(err)
		}
		change(&c)
		if err := c.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v does not say %q", err, want)
		}
	}
}
