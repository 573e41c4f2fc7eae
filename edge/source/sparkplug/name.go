package sparkplug

import (
	"fmt"
	"slices"
	"strings"

	"plantmesh/proto/mesh"
	"plantmesh/proto/strict"
	"plantmesh/proto/subject"
	"plantmesh/proto/wire"
)

// namer names the signals of metrics.
type namer struct {
	tokens []string // of the pattern, between its dots
	known  map[string]known
	ignore []string
}

// known is what the configuration says of one metric.
type known struct {
	name, unit string
	kind       mesh.Type // TypeNone: any
	silence    mesh.Nanos
}

func captures() []string { return []string{"{group}", "{node}", "{device}", "{metric}"} }

func newNamer(c *Config) (*namer, error) {
	n := &namer{tokens: strings.Split(c.Name, "."), known: make(map[string]known, len(c.Signals)), ignore: c.Ignore}
	if !slices.Contains(n.tokens, "{metric}") || strings.Count(c.Name, "{metric}") != 1 {
		return nil, strict.At("name", "name %q must hold {metric} once, between dots", c.Name)
	}
	rest := c.Name
	for _, x := range captures() {
		rest = strings.ReplaceAll(rest, x, "")
	}
	if strings.ContainsAny(rest, "{}*> \t") || slices.Contains(n.tokens, "") || len(c.Name) > maxID {
		return nil, strict.At("name", "name %q may hold {group}, {node}, {device} and {metric}, and between them letters, digits, '_', '-' and dots", c.Name)
	}
	names := map[string]bool{}
	for i, s := range c.Signals {
		at := fmt.Sprintf("signals[%d]", i)
		kind, ok := s.kind()
		switch {
		case strings.Count(s.Metric, "/") < 2:
			return nil, strict.At(at+".metric", "metric %q is no group/node/metric or group/node/device/metric", s.Metric)
		case !ok:
			return nil, strict.At(at+".type", "type %q of metric %q is none of bool, int, uint, double, string, bytes, array", s.Type, s.Metric)
		case len(s.Name) > wire.MaxName:
			return nil, strict.At(at+".name", "a name of %d bytes: at most %d are allowed", len(s.Name), wire.MaxName)
		case s.Name != "" && names[s.Name]:
			return nil, strict.At(at+".name", "signal %q stands twice", s.Name)
		}
		if _, twice := n.known[s.Metric]; twice {
			return nil, strict.At(at+".metric", "metric %q stands twice", s.Metric)
		}
		names[s.Name] = true
		n.known[s.Metric] = known{s.Name, s.Unit, kind, mesh.Nanos(s.MaxSilence)}
	}
	return n, nil
}

// place is a metric's place among all: group/node/metric, or with its device.
func place(group, node, device, metric string) string {
	if device == "" {
		return group + "/" + node + "/" + metric
	}
	return group + "/" + node + "/" + device + "/" + metric
}

// ignores reports whether a metric is to be left out. What controls a node is no
// value of the plant (specification, 6.4.22), and bdSeq counts connections.
func (n *namer) ignores(device, metric, place string) bool {
	if strings.HasPrefix(metric, "Node Control/") || strings.HasPrefix(metric, "Device Control/") || device == "" && metric == "bdSeq" {
		return true
	}
	return slices.ContainsFunc(n.ignore, func(p string) bool { return glob(p, place) })
}

// name is what the pattern makes of a metric: each level of its path is one token.
func (n *namer) name(group, node, device, metric string) string {
	var b strings.Builder
	for _, t := range n.tokens {
		if device == "" && strings.Contains(t, "{device}") {
			continue
		}
		if b.Len() > 0 {
			b.WriteByte('.')
		}
		if t == "{metric}" {
			for i, l := range strings.Split(metric, "/") {
				if i > 0 {
					b.WriteByte('.')
				}
				b.WriteString(subject.Escape(l))
			}
			continue
		}
		for _, x := range [...][2]string{{"{group}", group}, {"{node}", node}, {"{device}", device}} {
			if strings.Contains(t, x[0]) {
				t = strings.ReplaceAll(t, x[0], subject.Escape(x[1]))
			}
		}
		b.WriteString(t)
	}
	return b.String()
}
