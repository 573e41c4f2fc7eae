package agent

import (
	"context"
	"encoding/hex"
	"fmt"
	"log/slog"
	"math"
	"path/filepath"
	"strings"
	"time"

	"plantmesh/edge/quality"
	"plantmesh/edge/source/opcua"
	"plantmesh/proto/mesh"
	"plantmesh/proto/strict"
	"plantmesh/proto/subject"
	"plantmesh/proto/wire"
)

// Journey is how far a value would go: what the device said, what the agent makes
// of it, what the rules find, and where it would be sent. Nothing of it was sent or kept.
type Journey struct {
	Raw    RawValue    `json:"raw"`
	Mapped MappedValue `json:"mapped"`
	Rules  []RuleLook  `json:"rules"`
	Send   SendPlace   `json:"send"`
}

// RawValue is a value as the device said it.
type RawValue struct {
	Asked  string `json:"asked"`          // node, path or metric, as the configuration has it
	Node   string `json:"node,omitempty"` // where that leads at this server
	Type   string `json:"type,omitempty"` // as its protocol calls it
	Value  string `json:"value"`
	Status string `json:"status"`                // of Sparkplug what its property Quality says
	Source string `json:"source_time,omitempty"` // RFC 3339
	Server string `json:"server_time,omitempty"`
}

// MappedValue is what the agent makes of it.
type MappedValue struct {
	Name       string `json:"name"`
	Type       string `json:"type"` // declared
	Unit       string `json:"unit,omitempty"`
	Value      string `json:"value"`
	Status     string `json:"status"`
	Time       string `json:"time"`       // RFC 3339: the event time, chosen from those above
	Clock      string `json:"clock"`      // whose that is: source, server, agent, or node: of Sparkplug's whole message
	Conversion string `json:"conversion"` // from which type into which, or why not
	Taken      bool   `json:"taken"`      // the value is one of the declared type
}

// RuleLook is a quality rule that looks at the signal.
type RuleLook struct {
	ID    string `json:"id"`
	Says  string `json:"says"`
	Finds bool   `json:"finds"` // it marks this value
	Does  string `json:"does"`  // what with a value it marks
}

// SendPlace is where a value would go.
type SendPlace struct {
	Subject string `json:"subject"` // while the hub keeps up, else the same with backlog; empty: edge.yaml doesn't say yet who sends
	Source  string `json:"source"`
	Signal  string `json:"signal"`
}

// Tested is what testing a source file gave.
type Tested struct {
	File     string    `json:"file"`
	Source   string    `json:"source"`
	Endpoint string    `json:"endpoint"`
	Took     float64   `json:"seconds"`
	Signals  int       `json:"signals"`
	Good     int       `json:"good"`   // taken as declared, with a good status
	Marked   int       `json:"marked"` // that a rule marks
	Events   int       `json:"events"` // notifiers of events: they come by themselves, reading can't try them
	Journeys []Journey `json:"journeys"`

	MQTT     bool          `json:"mqtt,omitempty"`     // a broker was heard, or devices: signals and good count values
	Messages []MessageLook `json:"messages,omitempty"` // of MQTT: what came, with the values of each
	Foreign  []ForeignNode `json:"foreign,omitempty"`  // of Sparkplug: nodes that spoke, too
	Notes    []string      `json:"notes,omitempty"`    // what a person should know of the test

	NotReady []string `json:"not_ready,omitempty"` // what an agent could not run or send with, in words
}

// Test reads each signal of a source file once and follows its value to where it
// would be sent. It sends nothing and writes nothing but this gateway's certificate,
// where it has none yet; so it needs the rules, and what stands in that certificate,
// and of the rest of the configuration nothing. A broker is heard for a stay, and so
// are devices that call the agent.
func (c *Config) Test(ctx context.Context, file string, stay Stay, log *slog.Logger) (t Tested, err error) {
	abs, err := filepath.Abs(file)
	if err != nil {
		return t, fmt.Errorf("where is %s? %w", file, err)
	}
	raw, err := strict.Read(abs)
	if err != nil {
		return t, &strict.Fault{File: file, What: strict.Unreadable(err)}
	}
	s, err := ParseSource(abs, raw, c.Window)
	if err != nil {
		return t, err
	}
	t = Tested{File: file, Source: s.ID(), NotReady: c.NotReady(time.Now())}
	if err := c.Need(Clock, Rules); err != nil {
		return t, err
	}
	now, err := plantNow(c.PlantClock)
	if err != nil {
		return t, err
	}
	began := time.Now()
	switch {
	case s.MQTT != nil:
		err = c.hear(ctx, &t, s.MQTT, stay, now)
	case s.Sparkplug != nil:
		err = c.nodes(ctx, &t, s.Sparkplug, stay, now)
	case s.Listener != nil:
		err = c.attend(ctx, &t, s.Listener, stay, now)
	default:
		err = c.try(ctx, &t, s.OPCUA, now, log)
	}
	t.Took = time.Since(began).Seconds()
	return t, err
}

// try reads each signal of a server once.
func (c *Config) try(ctx context.Context, t *Tested, cfg *opcua.Config, now func() mesh.Nanos, log *slog.Logger) error {
	if !cfg.Security.Insecure {
		if err := c.certified(); err != nil {
			return err
		}
	}
	cfg.Application = c.application()
	t.Endpoint = cfg.Endpoint
	tried, err := opcua.Try(ctx, *cfg, now, log)
	if err != nil {
		return err
	}
	t.Signals, t.Events = len(tried), len(cfg.Events)
	c.follow(t, tried)
	return nil
}

// follow follows what was read through the rules.
func (c *Config) follow(t *Tested, tried []opcua.Trial) {
	var samples []mesh.Sample
	table := make([]mesh.Signal, len(tried))
	for i, x := range tried {
		samples, table[i] = append(samples, x.Sample), x.Signal
	}
	finish := c.judged(t, samples, table)
	for i, x := range tried {
		t.Journeys = append(t.Journeys, finish(i, Journey{Raw: rawOf(x), Mapped: mappedOf(x), Send: SendPlace{Signal: x.Signal.Name}}))
	}
}

// judged has the rules look at samples, and gives what finishes the journey of each: what
// they find, and where it would be sent.
func (c *Config) judged(t *Tested, samples []mesh.Sample, table []mesh.Signal) func(i int, j Journey) Journey {
	found := map[int][]string{}
	for _, m := range c.Rules.Judge(mesh.Position{}, mesh.Batch{Source: t.Source, Samples: samples}, table, &quality.State{}).Marks {
		found[int(m.Index)] = append(found[int(m.Index)], m.Rule)
	}
	to := ""
	if c.Need(Names) == nil {
		to = subject.Ingest(c.Site, c.Agent, subject.Live)
	}
	return func(i int, j Journey) Journey {
		j.Send.Subject, j.Send.Source, j.Rules = to, t.Source, []RuleLook{}
		for _, r := range c.Rules.Applying(j.Send.Signal) {
			j.Rules = append(j.Rules, look(r, found[i]))
		}
		if j.Mapped.Taken && samples[i].Status.IsGood() {
			t.Good++
		}
		if len(found[i]) > 0 {
			t.Marked++
		}
		return j
	}
}

func rawOf(x opcua.Trial) RawValue {
	r := RawValue{Asked: x.Asked, Node: x.Node, Type: x.Raw.Type, Value: x.Raw.Text, Status: opcua.StatusName(x.Raw.Status), Source: instant(x.Raw.Source), Server: instant(x.Raw.Server)}
	if x.Raw.Array {
		r.Type += " array"
	}
	if x.Node == "" {
		r.Status = opcua.StatusName(x.Sample.Status)
	}
	return r
}

func mappedOf(x opcua.Trial) MappedValue {
	m := MappedValue{
		Name: x.Signal.Name, Type: x.Signal.Type.String(), Unit: x.Signal.Unit, Value: inWords(x.Sample.Value, x.Signal), Status: opcua.StatusName(x.Sample.Status),
		Time: instant(x.Sample.Time), Clock: "source", Taken: x.Sample.Value.Type != mesh.TypeNone,
	}
	switch {
	case x.Sample.Flags&mesh.FlagAgentTime != 0 || x.Node == "":
		m.Clock = "agent"
	case x.Sample.Source == 0:
		m.Clock = "server"
	}
	switch {
	case x.Why != "":
		m.Conversion = x.Why
	case !m.Taken:
		m.Conversion = "no value, " + m.Status
	default:
		m.Conversion = fmt.Sprintf("%s becomes %s", x.Raw.Type, m.Type)
	}
	if x.Sample.Flags&mesh.FlagSuspect != 0 {
		m.Conversion += "; its time lies ahead of this gateway's clock and proves nothing"
	}
	return m
}

// Bounds of a value in words.
const (
	maxShownItems = 8
	maxShownText  = 400
)

// inWords is a value for people, with what stands inside of it, and the text of a
// number that has one.
func inWords(v mesh.Value, s mesh.Signal) string {
	if v.Type != mesh.TypeArray && v.Type != mesh.TypeStruct {
		out := v.String()
		if means := meaning(v, s); means != "" {
			out += " (" + means + ")"
		}
		return out
	}
	item, err := wire.ParseItem(v.Bytes)
	if err != nil {
		return v.String()
	}
	var b strings.Builder
	writeItem(&b, item, s.Fields, maxShownItems, maxShownText)
	if b.Len() > maxShownText {
		return strings.ToValidUTF8(b.String()[:maxShownText], "") + "…"
	}
	return b.String()
}

// meaning is what a number is called; empty: it has no name.
func meaning(v mesh.Value, s mesh.Signal) string {
	i, ok := v.Int()
	if !ok || s.Choices == nil || s.Choices.Bits {
		return ""
	}
	for _, c := range s.Choices.List {
		if c.Number == i {
			return c.Text
		}
	}
	return ""
}

// exactly is a value as it is: of an array, a structure or an event with all that stands inside.
func exactly(v mesh.Value, s mesh.Signal) string {
	switch v.Type {
	case mesh.TypeBytes:
		return hex.EncodeToString(v.Bytes)
	case mesh.TypeArray, mesh.TypeStruct, mesh.TypeEvent:
		item, err := wire.ParseItem(v.Bytes)
		if err != nil {
			return hex.EncodeToString(v.Bytes)
		}
		var b strings.Builder
		writeItem(&b, item, s.Fields, math.MaxInt, math.MaxInt)
		return b.String()
	case mesh.TypeNone, mesh.TypeBool, mesh.TypeInt, mesh.TypeUint, mesh.TypeDouble, mesh.TypeString:
	}
	return v.String()
}

// writeItem writes what stands in a value: so many items at each depth, and some more than so
// many bytes.
func writeItem(b *strings.Builder, i mesh.Item, fields []mesh.Field, most, text int) {
	t := i.Value.Type
	if t != mesh.TypeArray && t != mesh.TypeStruct && t != mesh.TypeEvent {
		b.WriteString(i.Value.String())
		return
	}
	open, end := "{", "}"
	if t == mesh.TypeArray {
		open, end = "[", "]"
	}
	b.WriteString(open)
	for k, in := range i.Items {
		if k > 0 {
			b.WriteString(", ")
		}
		if k == most || b.Len() > text {
			fmt.Fprintf(b, "and %d more", len(i.Items)-k)
			break
		}
		var inner []mesh.Field
		switch {
		case t == mesh.TypeArray && len(fields) == 1:
			inner = fields[0].Fields
		case t == mesh.TypeStruct && len(fields) == len(i.Items):
			inner = fields[k].Fields
			b.WriteString(fields[k].Name + ": ")
		}
		writeItem(b, in, inner, most, text)
	}
	b.WriteString(end)
}

// look is a rule in words.
func look(r quality.Rule, found []string) RuleLook {
	l := RuleLook{ID: r.ID, Does: r.Action, Says: r.Kind}
	if l.Does == "" {
		l.Does = "annotate"
	}
	for _, id := range found {
		l.Finds = l.Finds || id == r.ID
	}
	switch r.Kind {
	case "range":
		var parts []string
		if r.Min != nil {
			parts = append(parts, fmt.Sprintf("at least %g", *r.Min))
		}
		if r.Max != nil {
			parts = append(parts, fmt.Sprintf("at most %g", *r.Max))
		}
		l.Says = strings.Join(parts, ", ")
	case "enumeration":
		l.Says = strings.Trim(strings.ReplaceAll(fmt.Sprint(r.Values), " ", ", "), "[]")
		l.Says = "one of " + l.Says
	case "stale":
		l.Says = fmt.Sprintf("a value each %s; one value alone can't show that", time.Duration(r.MaxSilence))
	case "backwards":
		l.Says = "never less than before; one value alone can't show that"
	}
	return l
}

func instant(n mesh.Nanos) string {
	if n == 0 {
		return ""
	}
	return n.Time().UTC().Format(time.RFC3339Nano)
}
