package main

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"plantmesh/firmware-sim/fault"
	"plantmesh/firmware-sim/plant"
	"plantmesh/proto/strict"
)

// config is sim.yaml. Paths are taken from the folder of the file.
type config struct {
	Seed       uint64         `yaml:"seed"`        // which plant; the same seed is the same plant for ever
	Start      string         `yaml:"start"`       // RFC 3339; the plant's first instant
	Until      string         `yaml:"until"`       // RFC 3339; history is emitted up to here before the clock runs
	Stop       string         `yaml:"stop"`        // RFC 3339; nothing happens after it; empty: never
	Clock      string         `yaml:"clock"`       // file of the plant clock
	Ledger     string         `yaml:"ledger"`      // file of what was emitted and received
	MaxWaiting int            `yaml:"max_waiting"` // history stops here while a source has so many unacknowledged
	Servers    []serverConfig `yaml:"servers"`     // one per source
	Replay     []replayConfig `yaml:"replay"`      // recordings played instead of the plant
	Late       []lateConfig   `yaml:"late"`        // stretches in which a device keeps what it has to say

	start, until, stop time.Time
	late               []fault.Late
	doc                *strict.Doc
}

type serverConfig struct {
	Source    string `yaml:"source"`    // which source it serves
	Kind      string `yaml:"kind"`      // opcua, mqtt or sparkplug
	Listen    string `yaml:"listen"`    // host:port; port 0 takes a free one
	Forgetful bool   `yaml:"forgetful"` // opcua: no Transfer, Republish, HistoryRead; the queue dies with the connection
	Broker    string `yaml:"broker"`    // mqtt, sparkplug: URL of a broker to publish to; empty: its own

	// Of kind sparkplug.
	Group           string          `yaml:"group"`             // empty: plant
	Host            string          `yaml:"host"`              // the primary host that nodes wait for; empty: nobody is waited for
	StoreAndForward bool            `yaml:"store_and_forward"` // what the host can't hear is kept for it
	KeepAlive       strict.Duration `yaml:"keep_alive"`        // of the connections, whole seconds; the host's must not be longer; empty: 30 s
}

type replayConfig struct {
	Source string `yaml:"source"` // the source the recording must be; empty: whatever its map says
	CSV    string `yaml:"csv"`    // the recording
	Map    string `yaml:"map"`    // how its columns become signals
}

type lateConfig struct {
	Prefix string `yaml:"prefix"` // of the signals' names
	From   string `yaml:"from"`   // RFC 3339; what they say from here on
	To     string `yaml:"to"`     // and before here
	Until  string `yaml:"until"`  // leaves the device at this instant
}

// defaultMaxWaiting is about four hours of a line.
const defaultMaxWaiting = 100_000

// loadConfig reads and checks the file at path; a fault names the line.
func loadConfig(path string) (*config, error) {
	c := &config{MaxWaiting: defaultMaxWaiting}
	doc, err := strict.Load(path, c)
	if err != nil {
		return nil, err
	}
	c.doc = doc
	folder := filepath.Dir(path)
	for i := range c.Replay {
		c.Replay[i].CSV, c.Replay[i].Map = in(folder, c.Replay[i].CSV), in(folder, c.Replay[i].Map)
	}
	c.Clock, c.Ledger = in(folder, c.Clock), in(folder, c.Ledger)
	if err := c.instants(); err != nil {
		return nil, err
	}
	return c, c.check()
}

func in(folder, path string) string {
	if path == "" || filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(folder, path)
}

func (c *config) instants() error {
	for _, f := range []struct {
		key, text string
		needed    bool
		into      *time.Time
	}{
		{"start", c.Start, len(c.Replay) == 0, &c.start},
		{"until", c.Until, len(c.Replay) == 0, &c.until},
		{"stop", c.Stop, false, &c.stop},
	} {
		if f.text == "" {
			if f.needed {
				return c.doc.Fault("$."+f.key, "%s is missing: write an instant such as 2026-03-01T04:00:00Z", f.key)
			}
			continue
		}
		var err error
		if *f.into, err = c.instant("$."+f.key, f.text); err != nil {
			return err
		}
	}
	switch {
	case !c.until.IsZero() && c.until.Before(c.start):
		return c.doc.Fault("$.until", "until is before start")
	case !c.stop.IsZero() && c.stop.Before(c.until):
		return c.doc.Fault("$.stop", "stop is before until")
	}
	return nil
}

func (c *config) instant(at, text string) (time.Time, error) {
	t, err := time.Parse(time.RFC3339Nano, text)
	if err != nil || t.Nanosecond()%int(time.Millisecond) != 0 {
		return t, c.doc.Fault(at, "%q is no instant: write one such as 2026-03-01T04:00:00Z, in whole milliseconds", text)
	}
	return t.UTC(), nil
}

// lateness reads the faults of kind late.
func (c *config) lateness() error {
	for i, l := range c.Late {
		f := fault.Late{Prefix: l.Prefix}
		for _, x := range []struct {
			key, text string
			into      *time.Time
		}{{"from", l.From, &f.From}, {"to", l.To, &f.To}, {"until", l.Until, &f.Until}} {
			var err error
			if *x.into, err = c.instant(fmt.Sprintf("$.late[%d].%s", i, x.key), x.text); err != nil {
				return err
			}
		}
		switch {
		case !f.From.After(c.start): // every listener waits for a source's first values
			return c.doc.Fault(fmt.Sprintf("$.late[%d].from", i), "from must be after start")
		case !f.From.Before(f.To) || f.Until.Before(f.To):
			return c.doc.Fault(fmt.Sprintf("$.late[%d].from", i), "from, to and until must follow each other")
		}
		c.late = append(c.late, f)
	}
	return nil
}

func (c *config) check() error {
	if c.MaxWaiting <= 0 {
		return c.doc.Fault("$.max_waiting", "max_waiting must be above 0")
	}
	if err := c.lateness(); err != nil {
		return err
	}
	for i, r := range c.Replay {
		for key, file := range map[string]string{"csv": r.CSV, "map": r.Map} {
			at := fmt.Sprintf("$.replay[%d].%s", i, key)
			if file == "" {
				return c.doc.Fault(at, "%s is missing", key)
			}
			if _, err := os.Stat(file); errors.Is(err, fs.ErrNotExist) {
				return c.doc.Fault(at, "%s: no such file", file)
			}
		}
	}
	seen := map[string]bool{}
	for i, s := range c.Servers {
		at := fmt.Sprintf("$.servers[%d]", i)
		switch {
		case s.Source == "":
			return c.doc.Fault(at+".source", "source is missing")
		case seen[s.Source]:
			return c.doc.Fault(at+".source", "source %q is served twice", s.Source)
		case s.Listen == "" && s.Broker == "":
			return c.doc.Fault(at+".listen", "listen is missing: write host:port, such as 127.0.0.1:0")
		}
		if err := c.checkKind(at, s); err != nil {
			return err
		}
		seen[s.Source] = true
	}
	return nil
}

// checkKind checks what only some kinds of server have.
func (c *config) checkKind(at string, s serverConfig) error {
	sparkplug := s.Kind == "sparkplug"
	for _, f := range []struct {
		wrong     bool
		key, what string
	}{
		{!slices.Contains([]string{"opcua", "mqtt", "sparkplug"}, s.Kind), "kind", fmt.Sprintf("kind is %q: write opcua, mqtt or sparkplug", s.Kind)},
		{s.Kind == "opcua" && s.Broker != "", "broker", "only kinds mqtt and sparkplug have a broker"},
		{s.Kind != "opcua" && s.Forgetful, "forgetful", "only kind opcua can be forgetful"},
		{!sparkplug && s.Group != "", "group", "only kind sparkplug has a group"},
		{!sparkplug && s.Host != "", "host", "only kind sparkplug has a host"},
		{!sparkplug && s.StoreAndForward, "store_and_forward", "only kind sparkplug has store_and_forward: the others do it by themselves"},
		{!sparkplug && s.KeepAlive != 0, "keep_alive", "only kind sparkplug has keep_alive"},
		{strings.ContainsAny(s.Group, "+/#"), "group", fmt.Sprintf("group %q can't be part of a topic: leave out + / #", s.Group)},
		{strings.ContainsAny(s.Host, "+/#"), "host", fmt.Sprintf("host %q can't be part of a topic: leave out + / #", s.Host)},
		{s.KeepAlive != 0 && !keepable(time.Duration(s.KeepAlive)), "keep_alive", "keep_alive must be whole seconds, from 1s to 65535s"},
	} {
		if f.wrong {
			return c.doc.Fault(at+"."+f.key, "%s", f.what)
		}
	}
	return nil
}

// keepable says whether MQTT can say a keep-alive (MQTT 3.1.1, 3.1.2.10).
func keepable(d time.Duration) bool {
	return d%time.Second == 0 && d >= time.Second && d <= math.MaxUint16*time.Second
}

// serves checks what only run needs, against the sources there are.
func (c *config) serves(signals []plant.Signal) error {
	switch {
	case len(c.Servers) == 0:
		return c.doc.Fault("$.servers", "servers is missing: nothing would be served")
	case c.Clock == "":
		return c.doc.Fault("$.clock", "clock is missing: write the path of the plant clock file")
	case c.Ledger == "":
		return c.doc.Fault("$.ledger", "ledger is missing: write the path of a file to keep it in")
	}
	var names []string
	for _, s := range signals {
		if !slices.Contains(names, s.Source) {
			names = append(names, s.Source)
		}
	}
	for i, s := range c.Servers {
		if slices.Contains(names, s.Source) {
			continue
		}
		err := c.doc.Fault(fmt.Sprintf("$.servers[%d].source", i), "there is no source %q to serve", s.Source)
		if fault, ok := errors.AsType[*strict.Fault](err); ok {
			fault.Nearest = strict.Nearest(s.Source, names)
		}
		return err
	}
	return nil
}
