package sparkplug

import (
	"slices"
	"strings"
)

// kind is the kind of a message.
type kind uint8

const (
	nbirth kind = iota + 1
	ndeath
	ndata
	ncmd
	dbirth
	ddeath
	ddata
	dcmd
)

// topic is what the topic of a message says.
type topic struct {
	kind                kind
	group, node, device string
}

// parseTopic takes a topic apart (specification, 4): ok is false for what is none of
// Sparkplug's, or has a name that is longer than maxID.
func parseTopic(namespace, text string) (t topic, ok bool) {
	var levels [6]string
	n := 0
	for rest := text; n < len(levels); n++ {
		var more bool
		if levels[n], rest, more = strings.Cut(rest, "/"); !more {
			n++
			break
		}
	}
	if n < 4 || n > 5 || levels[0] != namespace {
		return t, false
	}
	t = topic{group: levels[1], node: levels[3], device: levels[4]}
	switch levels[2] {
	case "NBIRTH":
		t.kind = nbirth
	case "NDEATH":
		t.kind = ndeath
	case "NDATA":
		t.kind = ndata
	case "NCMD":
		t.kind = ncmd
	case "DBIRTH":
		t.kind = dbirth
	case "DDEATH":
		t.kind = ddeath
	case "DDATA":
		t.kind = ddata
	case "DCMD":
		t.kind = dcmd
	}
	if t.kind == 0 || (t.kind >= dbirth) != (n == 5) {
		return t, false
	}
	return t, level(t.group) && level(t.node) && (n == 4 || level(t.device))
}

// stateTopic is where a host says whether it is there.
func (c *Config) stateTopic() string { return c.Namespace + "/STATE/" + c.HostID }

// commandTopic is where a node is told something.
func (c *Config) commandTopic(group, node string) string {
	return c.Namespace + "/" + group + "/NCMD/" + node
}

// filters are what is subscribed to: no more than what the configuration names where
// MQTT has words for it, and no topic by two of them, because a broker may send a
// message once for each.
func (c *Config) filters() (out []string) {
	var pairs [][2]string
	for _, p := range c.Nodes {
		g, n, _ := strings.Cut(p, "/")
		if pair := [2]string{plus(g), plus(n)}; !slices.Contains(pairs, pair) {
			pairs = append(pairs, pair)
		}
	}
	for _, a := range pairs {
		covered := false
		for _, b := range pairs {
			switch {
			case a == b || covers(a, b):
			case covers(b, a):
				covered = true
			case covers([2]string{"+", b[1]}, a) && covers([2]string{a[0], "+"}, b), covers([2]string{b[0], "+"}, a) && covers([2]string{"+", a[1]}, b):
				// They cross: a topic may fall under both.
				return []string{c.Namespace + "/+/+/+", c.Namespace + "/+/+/+/+"}
			}
		}
		if !covered {
			out = append(out, c.Namespace+"/"+a[0]+"/+/"+a[1], c.Namespace+"/"+a[0]+"/+/"+a[1]+"/+")
		}
	}
	return out
}

// plus is MQTT's word for a pattern.
func plus(pattern string) string {
	if strings.Contains(pattern, "*") {
		return "+"
	}
	return pattern
}

// covers reports whether every topic of b falls under a.
func covers(a, b [2]string) bool {
	return (a[0] == "+" || a[0] == b[0]) && (a[1] == "+" || a[1] == b[1])
}
