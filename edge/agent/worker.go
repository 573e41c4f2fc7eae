package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"

	"plantmesh/edge/source"
	"plantmesh/edge/source/mqtt"
	"plantmesh/edge/source/opcua"
	"plantmesh/edge/source/opcua/trust"
	"plantmesh/edge/source/sparkplug"
	"plantmesh/proto/clock"
	"plantmesh/proto/mesh"
	"plantmesh/proto/strict"
)

// job is what a worker is told: one source's file, when a commit closes where that
// doesn't say, and the clock to read.
type job struct {
	File       string        `json:"file"`
	Base       string        `json:"base"` // paths in it count from there
	Raw        []byte        `json:"raw"`
	Window     source.Window `json:"window"`
	PlantClock string        `json:"plant_clock,omitempty"`

	Application opcua.Application `json:"application"`
}

// application is this agent as OPC UA servers know it.
func (c *Config) application() opcua.Application {
	host, err := os.Hostname()
	if err != nil || host == "" {
		host = c.Agent
	}
	return opcua.Application{
		Store: filepath.Join(c.Data, "pki"), URI: "urn:plantmesh:" + c.Site + ":" + c.Agent, Hosts: []string{host}, Config: c.path,
	}
}

// Certificates are those this agent shows to OPC UA servers, and those it trusts.
// They need no more of the configuration than what stands in them and where they are.
func Certificates(c Config) (*trust.Store, opcua.Application, error) {
	if err := c.certified(); err != nil {
		return nil, opcua.Application{}, err
	}
	app := c.application()
	s, err := trust.Open(app.Store)
	return s, app, err
}

// certified says what is missing for this gateway's certificate.
func (c *Config) certified() error {
	err := c.Need(Names, Data)
	if f, ok := errors.AsType[*strict.Fault](err); ok {
		named := *f
		named.What += ": a protected connection needs this gateway's certificate, and that needs agent, site and data"
		return &named
	}
	return err
}

// plantNow is the plant clock: a file in a demo, the wall clock in a plant.
func plantNow(path string) (func() mesh.Nanos, error) {
	if path == "" {
		return clock.Machine{}.Now, nil
	}
	f, err := clock.Open(path)
	if err != nil {
		return nil, err
	}
	return f.Now, nil
}

// Work is the life of a worker process: it reads one device and speaks with
// the agent over r and w. The agent decides when it ends, by closing r.
func Work(ctx context.Context, r io.Reader, w io.Writer, log *slog.Logger) error {
	return source.Work(context.WithoutCancel(ctx), r, w, func(config []byte) (source.Reader, error) {
		var j job
		if err := json.Unmarshal(config, &j); err != nil {
			return nil, fmt.Errorf("read the agent's orders: %w", err)
		}
		c := Config{Window: j.Window}
		s, err := c.parseSource(origin{path: j.File, base: j.Base}, j.Raw)
		if err != nil {
			return nil, err
		}
		now, err := plantNow(j.PlantClock)
		if err != nil {
			return nil, err
		}
		switch {
		case s.OPCUA != nil:
			s.OPCUA.Application = j.Application
			return opcua.New(*s.OPCUA, now, log)
		case s.Sparkplug != nil:
			spread := rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64())) //nolint:gosec // spreads requests in time, keeps no secret
			return sparkplug.New(*s.Sparkplug, now, spread, log)
		case s.Listener != nil:
			return mqtt.NewListener(*s.Listener, now, log)
		}
		return mqtt.New(*s.MQTT, now, log)
	})
}
