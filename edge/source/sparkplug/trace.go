package sparkplug

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"strconv"

	"plantmesh/edge/source/mqtt/link"
	"plantmesh/edge/source/sparkplug/payload"
	"plantmesh/proto/mesh"
)

// Bounds of what is told.
const (
	// mostTold bounds the metrics of a visit that are told one by one.
	mostTold = 20_000
	// mostSays bounds the remarks on one message.
	mostSays = 20
	// maxRaw bounds what is told of one value, in bytes.
	maxRaw = 200
)

// Why a metric is told of and is no sample.
var (
	errQuiet     = errors.New("no value of the plant: it controls the node, or `ignore` names it")
	errTransient = errors.New("transient: its node does not want it kept")
	errUnheard   = errors.New("names and types are not known: no birth that says them was heard in this test")
	errBefore    = errors.New("names and types were not known yet: the birth that says them came later in this test")
)

// Look is one message, and what became of it.
type Look struct {
	link.Heard

	Summary string // what stands beside its metrics
	Says    []string
	Refused bool // all of it
	Told    []Told
	More    int // metrics beyond those
	Dark    map[mesh.Status]int
}

// Told is what became of one metric of a message.
type Told struct {
	Place   string     // group/node/metric or group/node/device/metric, as the configuration names it
	Called  string     // what it is called in the message: by its name or by its alias
	Type    string     // Sparkplug's
	Raw     string     // its value as it was sent
	Quality string     // what its property says; empty: it has none
	Stamp   mesh.Nanos // its own time; 0: it has none
	Signal  mesh.Signal
	Sample  mesh.Sample // Agent 0: it is none
	Why     error       // it was not taken as it was sent
	Meant   bool        // it is meant to be none
}

// trace notes what becomes of each message, for a person who looks. Its methods take a
// nil one: then nobody does. Not safe for concurrent use.
type trace struct {
	looks  []Look // by the number of the message; the first is of none
	at     uint64
	left   int                 // metrics that may still be told
	unborn map[string][]uint64 // of nodes and devices whose birth was not heard, the messages
	dec    payload.Decoder
	ear    *ear // instead of all that: see newEar
}

func newTrace(all []link.Heard) *trace {
	t := &trace{looks: make([]Look, len(all)+1), left: mostTold, unborn: map[string][]uint64{}}
	for i, x := range all {
		t.looks[i+1].Heard = x
		t.looks[i+1].Summary = t.summary(&x)
	}
	return t
}

// turn turns to a message, and gives the one before.
func (t *trace) turn(nth uint64) (before uint64) {
	if t == nil || t.ear != nil {
		return 0
	}
	before, t.at = t.at, nth
	return before
}

func (t *trace) say(format string, args ...any) {
	if t == nil {
		return
	}
	if t.ear != nil {
		t.ear.message(fmt.Sprintf(format, args...))
		return
	}
	if l := &t.looks[t.at]; len(l.Says) < mostSays {
		l.Says = append(l.Says, fmt.Sprintf(format, args...))
	}
}

// refuse is that a message was refused.
func (t *trace) refuse(err error) {
	if t == nil {
		return
	}
	if errors.Is(err, errPassive) {
		err = errUnheard
	}
	t.say("%v", err)
	if t.ear == nil {
		t.looks[t.at].Refused = true
	}
}

// darken is that a signal has no value any more.
func (t *trace) darken(s mesh.Status) {
	if t == nil || t.ear != nil {
		return
	}
	l := &t.looks[t.at]
	if l.Dark == nil {
		l.Dark = map[mesh.Status]int{}
	}
	l.Dark[s]++
}

// metric is that a metric has no signal.
func (t *trace) metric(c *carrier, name string, m *payload.Metric, why error) {
	if t == nil {
		return
	}
	t.tell(Told{Place: place(c.node.group, c.node.name, c.unit.device, name), Why: why}, m, m.Type)
}

// leave is that a metric is meant to be no sample.
func (t *trace) leave(c *carrier, x *metric, m *payload.Metric, why error) {
	if t == nil {
		return
	}
	t.tell(Told{Place: place(c.node.group, c.node.name, c.unit.device, x.name), Why: why, Meant: true}, m, x.of)
}

// sample is that a metric became a sample.
func (t *trace) sample(c *carrier, x *metric, m *payload.Metric, s mesh.Sample, fault error) {
	s.Value.Bytes = bytes.Clone(s.Value.Bytes)
	t.tell(Told{Place: place(c.node.group, c.node.name, c.unit.device, x.name), Signal: x.sig.row, Sample: s, Why: fault}, m, x.of)
}

// unnamed is that all metrics of a message were refused.
func (t *trace) unnamed(x held, why error) {
	if t == nil {
		return
	}
	if errors.Is(why, errPassive) {
		why = errUnheard
		id := x.topic.group + "/" + x.topic.node
		if x.topic.device != "" {
			id += "/" + x.topic.device
		}
		if t.ear == nil {
			t.unborn[id] = append(t.unborn[id], t.at)
		}
	}
	p, err := t.dec.Decode(x.payload)
	if err != nil {
		return
	}
	for i := range p.Metrics {
		m := &p.Metrics[i]
		t.tell(Told{Place: place(x.topic.group, x.topic.node, x.topic.device, called(m)), Why: why}, m, m.Type)
	}
}

// born is that the birth of a node or a device came after all: what it said before is
// no fault of anybody.
func (t *trace) born(id string) {
	for _, nth := range t.unborn[id] {
		l := &t.looks[nth]
		l.Refused = false
		for i, s := range l.Says {
			if s == errUnheard.Error() {
				l.Says[i] = errBefore.Error()
			}
		}
		for i := range l.Told {
			l.Told[i].Why, l.Told[i].Meant = errBefore, true
		}
	}
	delete(t.unborn, id)
}

func (t *trace) tell(x Told, m *payload.Metric, is payload.Type) {
	if t.ear != nil {
		t.ear.metric(&x, m, is)
		return
	}
	l := &t.looks[t.at]
	if t.left == 0 {
		l.More++
		return
	}
	t.left--
	x.sent(m, is)
	l.Told = append(l.Told, x)
}

// sent notes what a metric says itself.
func (x *Told) sent(m *payload.Metric, is payload.Type) {
	x.Called, x.Raw, x.Quality = called(m), raw(m), qualityText(m)
	if x.Type = is.String(); is == payload.Unknown {
		x.Type = ""
	}
	if m.Timestamp >= earliest && m.Timestamp <= latest {
		x.Stamp = mesh.Nanos(m.Timestamp * 1e6)
	}
}

// summary is what stands in a payload beside its metrics.
func (t *trace) summary(x *link.Heard) string {
	p, err := t.dec.Decode(x.Payload)
	if err != nil || x.TooLarge {
		return fmt.Sprintf("%q", x.Payload[:min(len(x.Payload), link.Quoted)])
	}
	out := ""
	if p.Compressed() {
		out = "compressed, "
	}
	if p.HasSeq {
		out += fmt.Sprintf("seq %d, ", p.Seq)
	}
	if bd, ok := session(p); ok {
		out += fmt.Sprintf("bdSeq %d, ", bd)
	}
	if p.Timestamp >= earliest && p.Timestamp <= latest {
		out += spell(mesh.Nanos(p.Timestamp*1e6)) + ", "
	}
	return out + fmt.Sprintf("%d metrics", len(p.Metrics))
}

// qualityText is what a metric's property says of its quality.
func qualityText(m *payload.Metric) string {
	q := m.Property("Quality")
	switch {
	case q == nil:
		return ""
	case q.Null || q.Value.Kind != payload.InInt && q.Value.Kind != payload.InLong:
		return "Quality without a number"
	}
	return fmt.Sprintf("Quality %d", q.Value.Bits)
}

// raw is a value as it was sent. Signed numbers travel in unsigned fields: what they
// are is said by the type.
func raw(m *payload.Metric) string {
	v := m.Value
	switch {
	case m.Null:
		return "null"
	case v.Kind == payload.InInt || v.Kind == payload.InLong:
		return strconv.FormatUint(v.Bits, 10)
	case v.Kind == payload.InFloat:
		return strconv.FormatFloat(float64(math.Float32frombits(uint32(v.Bits))), 'g', -1, 32)
	case v.Kind == payload.InDouble:
		return strconv.FormatFloat(math.Float64frombits(v.Bits), 'g', -1, 64)
	case v.Kind == payload.InBoolean:
		return strconv.FormatBool(v.Bits != 0)
	case v.Kind == payload.InString:
		return string(v.Bytes[:min(len(v.Bytes), maxRaw)])
	case v.Kind == payload.InBytes:
		return fmt.Sprintf("%d bytes: %s", len(v.Bytes), hex.EncodeToString(v.Bytes[:min(len(v.Bytes), maxRaw/2)]))
	case v.Kind == payload.InDataSet && m.DataSet != nil:
		return fmt.Sprintf("a data set of %d columns and %d rows", len(m.DataSet.Types), len(m.DataSet.Rows))
	}
	return v.Kind.String()
}
