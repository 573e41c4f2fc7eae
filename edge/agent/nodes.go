package agent

import (
	"cmp"
	"context"
	"fmt"
	"strconv"
	"strings"

	"plantmesh/edge/source/opcua"
	"plantmesh/edge/source/sparkplug"
	"plantmesh/proto/mesh"
)

// ForeignNode is a Sparkplug node that spoke and that the source doesn't name.
type ForeignNode struct {
	Node     string `json:"node"` // group/node
	Messages int    `json:"messages"`
	Write    string `json:"write"` // the entry of nodes that would have it read
}

// nodes hears Sparkplug nodes for a stay, and follows what their messages hold.
func (c *Config) nodes(ctx context.Context, t *Tested, cfg *sparkplug.Config, stay Stay, now func() mesh.Nanos) error {
	t.MQTT, t.Endpoint, t.Journeys = true, cfg.URL, []Journey{}
	v, err := sparkplug.Visit(ctx, cfg, stay, now)
	if err != nil {
		return err
	}
	c.visited(t, cfg, &v)
	return nil
}

// visited follows what nodes said through the rules.
func (c *Config) visited(t *Tested, cfg *sparkplug.Config, v *sparkplug.Visited) {
	var (
		samples []mesh.Sample
		told    []*sparkplug.Told // of the sample with the same index
		of      []int             // its message
	)
	for i := range v.Looks {
		l := &v.Looks[i]
		look := MessageLook{Topic: l.Topic, Payload: l.Summary, Bytes: len(l.Payload), Retained: l.Retained, Says: l.Says, Refused: l.Refused, Journeys: []Journey{}}
		if l.More > 0 {
			look.Says = append(look.Says, fmt.Sprintf("%d metrics more, which are not told one by one", l.More))
		}
		lost := 0
		for k := range l.Told {
			x := &l.Told[k]
			if x.Sample.Agent != 0 {
				samples, told, of = append(samples, x.Sample), append(told, x), append(of, i)
				continue
			}
			look.LeftOut = append(look.LeftOut, leftOutOfNode(x))
			if !x.Meant {
				lost++
			}
		}
		if l.Refused {
			lost = max(lost, 1) // it is one that is not taken
		}
		t.Signals += lost
		t.Messages = append(t.Messages, look)
	}
	t.Signals += len(samples)
	finish := c.judged(t, samples, v.Table)
	for i, x := range told {
		j := finish(i, Journey{Raw: rawOfMetric(x, v.Looks[of[i]].At), Mapped: mappedOfMetric(x), Send: SendPlace{Signal: x.Signal.Name}})
		t.Messages[of[i]].Journeys = append(t.Messages[of[i]].Journeys, j)
	}
	for _, f := range v.Foreign {
		t.Foreign = append(t.Foreign, ForeignNode{f.Node, f.Messages, "- " + strconv.QuoteToASCII(f.Node)})
	}
	t.Notes = append(notesOnMode(cfg), v.Says...)
	if len(v.Unborn) > 0 {
		t.Notes = append(t.Notes, unborn(cfg, v.Unborn))
	}
}

// notesOnMode say what a test does not do that the agent would.
func notesOnMode(cfg *sparkplug.Config) (out []string) {
	switch cfg.Mode {
	case sparkplug.Active:
		out = append(out, "mode is active: the test only listens all the same, and asks no node for its births")
	case sparkplug.Primary:
		out = append(out, fmt.Sprintf("mode is primary: the test only listens all the same; it publishes no STATE, so nodes that wait for host_id %q keep their data until the agent runs", cfg.HostID))
	case sparkplug.Passive:
	}
	return out
}

// unborn says what to do where births were not heard.
func unborn(cfg *sparkplug.Config, who []string) string {
	const most = 10
	names := strings.Join(who[:min(len(who), most)], ", ")
	if n := len(who) - most; n > 0 {
		names += fmt.Sprintf(" and %d more", n)
	}
	agent := "an agent that runs with mode: active asks for it by itself; in mode: passive it waits for the next one"
	if cfg.Mode != sparkplug.Passive {
		agent = fmt.Sprintf("the agent that runs asks for it by itself, as mode is %s", cfg.Mode)
	}
	return fmt.Sprintf("no birth of %s was heard in this test, and without it nobody knows what its metrics are called, or of which type they are: say --wait longer and restart the node meanwhile, or have it publish its birth again (Node Control/Rebirth); %s, and keeps births on disk", names, agent)
}

func leftOutOfNode(x *sparkplug.Told) LeftOut {
	l := LeftOut{Place: x.Place, Value: short(strings.TrimSpace(x.Type + " " + x.Raw)), Name: x.Signal.Name, Meant: x.Meant, Lost: !x.Meant}
	if x.Why != nil {
		l.Why = x.Why.Error()
	}
	return l
}

func rawOfMetric(x *sparkplug.Told, at mesh.Nanos) RawValue {
	r := RawValue{Asked: x.Place, Node: x.Called, Type: x.Type, Value: short(x.Raw), Status: cmp.Or(x.Quality, "no Quality"), Source: instant(x.Stamp)}
	if x.Stamp == 0 && x.Sample.Source != 0 {
		r.Server = instant(x.Sample.Source) // of the whole message
	} else if x.Stamp == 0 {
		r.Server = instant(at)
	}
	return r
}

func mappedOfMetric(x *sparkplug.Told) MappedValue {
	m := MappedValue{
		Name: x.Signal.Name, Type: x.Signal.Type.String(), Unit: x.Signal.Unit, Value: short(inWords(x.Sample.Value, x.Signal)), Status: opcua.StatusName(x.Sample.Status),
		Time: instant(x.Sample.Time), Clock: "source", Taken: x.Sample.Value.Type != mesh.TypeNone,
	}
	switch {
	case x.Sample.Flags&mesh.FlagAgentTime != 0:
		m.Clock = "agent"
	case x.Stamp == 0:
		m.Clock = "node"
	}
	switch {
	case x.Why != nil:
		m.Conversion = x.Why.Error()
	case !m.Taken:
		m.Conversion = "no value, " + m.Status
	default:
		m.Conversion = fmt.Sprintf("%s becomes %s", x.Type, m.Type)
	}
	if x.Called != x.Signal.Name && strings.HasPrefix(x.Called, "alias ") {
		m.Conversion += "; its birth gave it that alias"
	}
	if x.Sample.Flags&mesh.FlagHistorical != 0 {
		m.Conversion += "; historical: not its value now"
	}
	if x.Sample.Flags&mesh.FlagSuspect != 0 {
		m.Conversion += "; its time lies ahead of this gateway's clock, or is none, and proves nothing"
	}
	return m
}
