package sparkplug

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"plantmesh/edge/source/mqtt/link"
	"plantmesh/edge/source/sparkplug/payload"
)

// Proposal is what a source file for nodes that were heard says beside its broker.
type Proposal struct {
	Namespace string
	Nodes     []Proposed
	Signals   int // that the births which were heard name
	Messages  int
	Notes     []string // what a person should know or decide
}

// Proposed is one node.
type Proposed struct {
	ID       string // group/node
	Messages int
	Born     bool // its birth was heard
}

// Propose makes a proposal of what was heard; nil where none of it is Sparkplug B. rest
// is what is not.
func Propose(all []link.Heard) (p *Proposal, rest []link.Heard) {
	var dec payload.Decoder
	count := map[string]int{} // by namespace
	for i := range all {
		if space, _, ok := speaks(&dec, &all[i]); ok {
			count[space]++
		}
	}
	if len(count) == 0 {
		return nil, all
	}
	spaces := slices.SortedFunc(maps.Keys(count), func(a, b string) int {
		return cmp.Or(cmp.Compare(count[b], count[a]), strings.Compare(a, b))
	})
	p = &Proposal{Namespace: spaces[0]}
	nodes, other := map[string]*Proposed{}, 0
	var mine []link.Heard
	for i := range all {
		x := &all[i]
		space, _, _ := strings.Cut(x.Topic, "/")
		_, t, ok := speaks(&dec, x)
		switch {
		case space != p.Namespace && ok: // told below
		case space != p.Namespace:
			rest = append(rest, *x)
		case p.host(x):
		case !ok || x.Retained || t.kind == ncmd || t.kind == dcmd:
			other++
		default:
			mine = append(mine, *x)
			id := t.group + "/" + t.node
			if nodes[id] == nil {
				nodes[id] = &Proposed{ID: id}
			}
			nodes[id].Messages++
			nodes[id].Born = nodes[id].Born || t.kind == nbirth
		}
	}
	p.Messages = len(mine)
	for _, space := range spaces[1:] {
		p.note("%d messages are of the namespace %s: it needs a file of its own", count[space], space)
	}
	if other > 0 {
		p.note("%d messages below %s are left out: commands of hosts, retained ones, or none of Sparkplug B", other, p.Namespace)
	}
	p.nodes(nodes)
	p.signals(mine)
	return p, rest
}

func (p *Proposal) note(format string, args ...any) {
	if s := fmt.Sprintf(format, args...); !slices.Contains(p.Notes, s) {
		p.Notes = append(p.Notes, s)
	}
}

// speaks reports whether a message is one of Sparkplug B, and of which namespace: its
// topic says so, and its payload can be read.
func speaks(dec *payload.Decoder, x *link.Heard) (space string, t topic, ok bool) {
	space, _, _ = strings.Cut(x.Topic, "/")
	if t, ok = parseTopic(space, x.Topic); !ok || !level(space) {
		return space, t, false
	}
	if x.TooLarge {
		return space, t, true
	}
	p, err := dec.Decode(x.Payload)
	if err != nil {
		return space, t, false
	}
	return space, t, p.HasSeq || t.kind == ndeath || t.kind == ncmd || t.kind == dcmd
}

// host takes what a host says of itself (specification, 6.4.25).
func (p *Proposal) host(x *link.Heard) bool {
	id, ok := strings.CutPrefix(x.Topic, p.Namespace+"/STATE/")
	if !ok {
		return false
	}
	switch said := string(x.Payload); {
	case strings.Contains(said, "true") || strings.Contains(said, "ONLINE"): // 3.0, and before
		p.note("%q is a host here, and says that it is there: the agent may read beside it, and mode: primary needs another host_id", id)
	default:
		p.note("%q was a host here, and is gone: nodes that wait for it (primary host) keep their data until somebody is it", id)
	}
	return true
}

func (p *Proposal) nodes(all map[string]*Proposed) {
	var unborn []string
	for _, id := range slices.Sorted(maps.Keys(all)) {
		if len(p.Nodes) == defaultMaxNodes {
			p.note("more than %d nodes: the rest is left out; plant/* names all of a group", defaultMaxNodes)
			break
		}
		if p.Nodes = append(p.Nodes, *all[id]); !all[id].Born {
			unborn = append(unborn, id)
		}
		if strings.Contains(id, "*") {
			p.note("node %q has a * in its name: in nodes it stands for any text", id)
		}
	}
	if n := len(unborn); n > 0 {
		p.note("the births of %d nodes were not heard (%s): what their metrics are called is known when they are born again, and an agent with mode: active asks them for that", n, some(unborn))
	}
}

// signals counts what the births name.
func (p *Proposal) signals(mine []link.Heard) {
	cfg := Config{ID: "proposed", Config: link.Config{URL: "mqtt://broker"}, Namespace: p.Namespace, Nodes: p.Names()}
	if len(cfg.Nodes) == 0 || cfg.Validate() != nil {
		return
	}
	if v, err := Explain(&cfg, mine); err == nil {
		p.Signals = len(v.Table)
	}
}

// Names are its nodes, as nodes names them.
func (p *Proposal) Names() (out []string) {
	for _, n := range p.Nodes {
		out = append(out, n.ID)
	}
	return out
}

// some are the first of a list in words.
func some(list []string) string {
	const most = 5
	if n := len(list) - most; n > 0 {
		return fmt.Sprintf("%s and %d more", strings.Join(list[:most], ", "), n)
	}
	return strings.Join(list, ", ")
}

// YAML are its lines of a file, each with an indent.
func (p *Proposal) YAML(indent string) string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, indent+format+"\n", args...) }
	if p.Namespace != defaultNamespace {
		line("namespace: %s", strconv.QuoteToASCII(p.Namespace))
	}
	line("mode: passive # only listens; active: may also ask a node for its births, without which its aliases have no names")
	line("nodes:")
	for _, n := range p.Nodes {
		birth := "its birth was not heard"
		if n.Born {
			birth = "its birth was heard"
		}
		line("  - %s # %d messages, %s", strconv.QuoteToASCII(n.ID), n.Messages, birth)
	}
	return b.String()
}
