package sparkplug

import (
	"slices"
	"strings"
	"testing"
	"time"

	"plantmesh/edge/source/mqtt/link"
	"plantmesh/proto/strict"
)

func TestConfig_Defaults(t *testing.T) {
	c := testConfig(t, func(c *Config) { c.Mode = "" })
	if c.Mode != Passive || c.Namespace != "spBv1.0" || c.ClientID != "plantmesh-line3" || time.Duration(c.ReorderTimeout) != 5*time.Second ||
		time.Duration(c.Disorder) != 5*time.Second || c.Rebirth.PerSecond != 10 || c.MaxSignals != 100_000 || c.MaxPacket != 1<<20 {
		t.Errorf("defaults: %+v", c)
	}
}

func TestConfig_Refused(t *testing.T) {
	for name, x := range map[string]struct {
		change func(*Config)
		want   string
	}{
		"no id":                     {func(c *Config) { c.ID = "" }, "id is missing"},
		"no url":                    {func(c *Config) { c.URL = "localhost" }, "no mqtt://host:port"},
		"a mode that is none":       {func(c *Config) { c.Mode = "secondary" }, "passive (only listens)"},
		"a primary without a name":  {func(c *Config) { c.Mode = Primary }, "host_id"},
		"a primary with a wildcard": {func(c *Config) { c.Mode, c.HostID = Primary, "a/#" }, "host_id"},
		"a name for nobody":         {func(c *Config) { c.HostID = "scada" }, "host_id is for mode: primary"},
		"a deep namespace":          {func(c *Config) { c.Namespace = "a/b" }, "namespace"},
		"nobody":                    {func(c *Config) { c.Nodes = nil }, "nobody may speak"},
		"a node without a group":    {func(c *Config) { c.Nodes = []string{"filler"} }, "group/node"},
		"MQTT's own wildcards":      {func(c *Config) { c.Nodes = []string{"plant/+"} }, "group/node"},
		"who keeps what for nobody": {func(c *Config) { c.StoreAndForward = []string{"plant/*"} }, "store_and_forward is for mode"},
		"who keeps without a group": {func(c *Config) { c.Mode, c.StoreAndForward = Active, []string{"n"} }, "group/node"},
		"a short ignore":            {func(c *Config) { c.Ignore = []string{"x"} }, "group/node/metric"},
		"a name without a metric":   {func(c *Config) { c.Name = "{group}.{node}" }, "{metric}"},
		"two metrics in a name":     {func(c *Config) { c.Name = "{metric}.{metric}" }, "{metric}"},
		"an unknown capture":        {func(c *Config) { c.Name = "{site}.{metric}" }, "may hold"},
		"an empty token":            {func(c *Config) { c.Name = "a..{metric}" }, "may hold"},
		"a metric twice":            {func(c *Config) { c.Signals = []SignalConfig{{Metric: "a/b/c"}, {Metric: "a/b/c"}} }, "stands twice"},
		"a name twice": {func(c *Config) {
			c.Signals = []SignalConfig{{Metric: "a/b/c", Name: "x"}, {Metric: "a/b/d", Name: "x"}}
		}, "stands twice"},
		"a type that is none":      {func(c *Config) { c.Signals = []SignalConfig{{Metric: "a/b/c", Type: "float"}} }, "is none of"},
		"a short metric":           {func(c *Config) { c.Signals = []SignalConfig{{Metric: "a/b"}} }, "group/node/metric"},
		"no time to reorder":       {func(c *Config) { c.ReorderTimeout = strict.Duration(time.Millisecond) }, "reorder_timeout"},
		"a long disorder":          {func(c *Config) { c.Disorder = strict.Duration(2 * time.Hour) }, "disorder"},
		"too many nodes":           {func(c *Config) { c.MaxNodes = 1 << 20 }, "max_nodes"},
		"too many requests":        {func(c *Config) { c.Rebirth.PerSecond = 5000 }, "rebirth.per_second"},
		"requests without a pause": {func(c *Config) { c.Rebirth.Every = 1 }, "rebirth.every"},
		"large packets":            {func(c *Config) { c.MaxPacket = 2 << 20 }, "max_packet"},
	} {
		cfg := Config{ID: "line3", Config: link.Config{URL: "mqtt://127.0.0.1:1883"}, Nodes: []string{"plant/*"}}
		x.change(&cfg)
		if err := cfg.Validate(); err == nil || !strings.Contains(err.Error(), x.want) {
			t.Errorf("%s: %v, want %q", name, err, x.want)
		}
	}
}

// Every topic falls under one filter, and no filter asks for more than it must.
func TestConfig_Filters(t *testing.T) {
	for _, x := range []struct{ nodes, want []string }{
		{[]string{"a/b"}, []string{"spBv1.0/a/+/b", "spBv1.0/a/+/b/+"}},
		{[]string{"a/b", "a/b", "c/d"}, []string{"spBv1.0/a/+/b", "spBv1.0/a/+/b/+", "spBv1.0/c/+/d", "spBv1.0/c/+/d/+"}},
		{[]string{"a/b", "a/*"}, []string{"spBv1.0/a/+/+", "spBv1.0/a/+/+/+"}},
		{[]string{"a/line*", "a/*"}, []string{"spBv1.0/a/+/+", "spBv1.0/a/+/+/+"}},
		{[]string{"*/*", "a/b"}, []string{"spBv1.0/+/+/+", "spBv1.0/+/+/+/+"}},
		{[]string{"a/*", "*/b"}, []string{"spBv1.0/+/+/+", "spBv1.0/+/+/+/+"}},
		{[]string{"a/*", "b/*"}, []string{"spBv1.0/a/+/+", "spBv1.0/a/+/+/+", "spBv1.0/b/+/+", "spBv1.0/b/+/+/+"}},
	} {
		c := testConfig(t, func(c *Config) { c.Nodes = x.nodes })
		if got := c.filters(); !slices.Equal(got, x.want) {
			t.Errorf("%q: %q, want %q", x.nodes, got, x.want)
		}
	}
}

func TestGlob(t *testing.T) {
	for _, x := range []struct {
		pattern, text string
		want          bool
	}{
		{"a", "a", true},
		{"a", "b", false},
		{"a", "ab", false},
		{"*", "", true},
		{"*", "x/y", true},
		{"a*", "a", true},
		{"a*", "ba", false},
		{"*a", "ba", true},
		{"*a", "ab", false},
		{"a*b", "ab", true},
		{"a*b", "aXb", true},
		{"a*b", "aXbY", false},
		{"a*b*c", "a1b2b3c", true},
		{"a*b*c", "acb", false},
		{"a*a", "a", false},
		{"**", "x", true},
		{"a**b", "ab", true},
		{"", "", true},
		{"", "x", false},
	} {
		if got := glob(x.pattern, x.text); got != x.want {
			t.Errorf("glob(%q, %q) = %t", x.pattern, x.text, got)
		}
	}
}
