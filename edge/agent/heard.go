package agent

import (
	"context"
	"fmt"
	"strings"
	"time"

	"plantmesh/edge/source"
	"plantmesh/edge/source/mqtt"
	"plantmesh/edge/source/mqtt/link"
	"plantmesh/edge/source/mqtt/mapping"
	"plantmesh/edge/source/opcua"
	"plantmesh/edge/source/sparkplug"
	"plantmesh/proto/mesh"
)

// MessageLook is one message of a broker or a device, and what becomes of it.
type MessageLook struct {
	Topic    string    `json:"topic"`
	User     string    `json:"user,omitempty"` // of the device, where it called the agent
	Payload  string    `json:"payload"`        // its beginning, quoted; of Sparkplug what stands beside its metrics
	Bytes    int       `json:"bytes"`          // of what was read of it
	Retained bool      `json:"retained,omitempty"`
	Says     []string  `json:"says,omitempty"` // about the whole message: why it is not taken, or what it proves
	Refused  bool      `json:"refused,omitempty"`
	Journeys []Journey `json:"journeys"`
	LeftOut  []LeftOut `json:"left_out,omitempty"`
}

// LeftOut is a value that becomes no sample.
type LeftOut struct {
	Place string `json:"place"` // path in the payload, or the metric
	Value string `json:"value"`
	Name  string `json:"name,omitempty"`  // of the signal that it would be
	Why   string `json:"why"`             // in words
	Write string `json:"write,omitempty"` // the line that would have it kept
	Meant bool   `json:"meant,omitempty"` // the configuration, or its protocol, wants it so
	Lost  bool   `json:"lost,omitempty"`  // it counts as a value that is not taken
}

// Stay says how long a broker is heard.
type Stay = link.Stay

// Overheard is a proposal of what a broker said.
type Overheard struct {
	mapping.Proposal

	Nodes            *sparkplug.Proposal // instead, where all that was heard is Sparkplug B; nil: it is not
	Messages, Topics int
}

// Overhear hears a broker that need not be a source, and proposes how its messages become
// samples. It disturbs nobody there.
func Overhear(ctx context.Context, cfg *link.Config, filters []string, stay Stay) (o Overheard, err error) {
	now := func() mesh.Nanos { return mesh.NanosOf(time.Now()) }
	all, err := link.Visit(ctx, cfg, filters, stay, now)
	if err != nil {
		return o, err
	}
	topics := map[string]bool{}
	for _, h := range all {
		topics[h.Topic] = true
	}
	o.Messages, o.Topics = len(all), len(topics)
	nodes, rest := sparkplug.Propose(all)
	if nodes != nil && len(rest) == 0 {
		o.Nodes = nodes
		return o, nil
	}
	messages := make([]mapping.Message, 0, len(rest))
	for _, h := range rest {
		if !h.TooLarge {
			messages = append(messages, mapping.Message{Topic: h.Topic, Payload: h.Payload})
		}
	}
	if o.Proposal = mapping.Propose(messages, now()); nodes != nil {
		o.Notes = append(o.Notes, fmt.Sprintf("%d messages of %d nodes are Sparkplug B, which needs a source file of its own: hear them alone by --topic '%s/#'", nodes.Messages, len(nodes.Nodes), nodes.Namespace))
	}
	return o, nil
}

// hear hears a broker for a stay, and follows what its messages hold.
func (c *Config) hear(ctx context.Context, t *Tested, cfg *mqtt.Config, stay Stay, now func() mesh.Nanos) error {
	t.MQTT, t.Endpoint, t.Journeys = true, cfg.URL, []Journey{}
	m, err := mapping.New(&cfg.Mapping)
	if err != nil {
		return err
	}
	all, err := link.Visit(ctx, &cfg.Config, m.Filters(), stay, now)
	if err != nil {
		return err
	}
	c.overhear(t, m, all)
	return nil
}

// overhear follows what messages hold through the mapping and the rules.
func (c *Config) overhear(t *Tested, m *mapping.Mapper, all []link.Heard) {
	var (
		samples []mesh.Sample
		told    []mapping.Told // of the sample with the same index
		of      []int          // its message
	)
	for i, h := range all {
		look, kept := lookAt(m, h)
		for _, x := range kept {
			samples, told, of = append(samples, x.Sample), append(told, x), append(of, i)
		}
		t.Messages = append(t.Messages, look)
		t.Signals += len(kept)
		if look.Refused {
			t.Signals++ // it is one that is not taken
		}
	}
	finish := c.judged(t, samples, m.Table())
	for i, x := range told {
		j := finish(i, Journey{Raw: rawOfMessage(x, all[of[i]].At), Mapped: mappedOfMessage(x), Send: SendPlace{Signal: x.Signal.Name}})
		t.Messages[of[i]].Journeys = append(t.Messages[of[i]].Journeys, j)
	}
}

// lookAt is what the mapping makes of one message, and the values that become samples.
func lookAt(m *mapping.Mapper, h link.Heard) (look MessageLook, kept []mapping.Told) {
	look = MessageLook{Topic: h.Topic, Payload: fmt.Sprintf("%q", h.Payload[:min(len(h.Payload), link.Quoted)]), Bytes: len(h.Payload), Retained: h.Retained, Journeys: []Journey{}}
	refuse := func(format string, args ...any) {
		look.Says, look.Refused = append(look.Says, fmt.Sprintf(format, args...)), true
	}
	r := m.Route([]byte(h.Topic))
	switch {
	case h.Retained:
		look.Says = append(look.Says, "retained: said before we listened, so the agent leaves it out")
		return look, nil
	case r == nil:
		refuse("no filter of topics has this topic")
		return look, nil
	case h.TooLarge:
		refuse("%v: every signal of this topic becomes Bad", mapping.ErrTooLarge)
		return look, nil
	case r.Heartbeat():
		switch at, err := m.Proof(h.Payload, h.At); {
		case err != nil:
			refuse("heartbeat that proves nothing: %v", err)
		case source.Suspect(at, h.At) || h.At.Sub(at) > source.MaxBehind:
			refuse("heartbeat that proves nothing: its time %s is too far from the gateway's clock", instant(at))
		default:
			look.Says = append(look.Says, "heartbeat: everything before "+instant(at)+" is told, less the disorder")
		}
		return look, nil
	}
	got, all := m.Explain(r, h.Payload, h.At)
	if got.Skipped > 0 {
		look.Says = append(look.Says, fmt.Sprintf("%d left out by a condition (when)", got.Skipped))
	}
	if got.Lost {
		refuse("%v: every signal of this topic becomes Bad", got.Flaws[0].Fault)
	}
	for _, x := range all {
		if x.Sample.Agent != 0 {
			kept = append(kept, x)
			continue
		}
		look.LeftOut = append(look.LeftOut, leftOut(x))
	}
	if len(all) == 0 && len(look.Says) == 0 {
		refuse("%s", nothingIn(&got))
	}
	return look, kept
}

func nothingIn(got *mapping.Reading) string {
	if len(got.Flaws) > 0 {
		return got.Flaws[0].Fault.Error()
	}
	return "nothing stands where value leads: look at value, key and time of this topic"
}

func leftOut(x mapping.Told) LeftOut {
	l := LeftOut{Place: x.Place, Value: short(x.Raw), Name: x.Name}
	switch {
	case x.Why != nil:
		l.Why = x.Why.Error()
	case x.Known:
		l.Why, l.Meant = "left out by a condition (when)", true
	default:
		l.Why, l.Write = "no signal has this name", x.Declare()
	}
	return l
}

func rawOfMessage(x mapping.Told, at mesh.Nanos) RawValue {
	r := RawValue{Asked: strings.TrimSpace(x.Topic + " " + x.Place), Node: x.Place, Type: x.Kind, Value: short(x.Raw), Status: opcua.StatusName(x.Sample.Status), Source: instant(x.Sample.Source)}
	if r.Node == "" {
		r.Node = "payload"
	}
	if x.Sample.Source == 0 {
		r.Server = instant(at)
	}
	return r
}

func mappedOfMessage(x mapping.Told) MappedValue {
	m := MappedValue{
		Name: x.Signal.Name, Type: x.Signal.Type.String(), Unit: x.Signal.Unit, Value: short(x.Sample.Value.String()), Status: opcua.StatusName(x.Sample.Status),
		Time: instant(x.Sample.Time), Clock: "source", Taken: x.Sample.Value.Type != mesh.TypeNone,
	}
	if x.Sample.Flags&mesh.FlagAgentTime != 0 {
		m.Clock = "agent"
	}
	switch {
	case x.Why != nil:
		m.Conversion = x.Why.Error()
	case !m.Taken:
		m.Conversion = "no value, " + m.Status
	default:
		m.Conversion = fmt.Sprintf("%s becomes %s", x.Kind, m.Type)
	}
	if x.Sample.Flags&mesh.FlagSuspect != 0 {
		m.Conversion += "; its time lies ahead of this gateway's clock and proves nothing"
	}
	return m
}

// short is a text for people.
func short(s string) string {
	if len(s) > maxShownText {
		s = s[:maxShownText] + "…"
	}
	return strings.ToValidUTF8(s, "?")
}
