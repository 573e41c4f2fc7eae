package mqtt

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"plantmesh/edge/source"
	"plantmesh/proto/mesh"
)

const (
	// maxText bounds one string value.
	maxText = 64 << 10
	// maxRoutes bounds the topics remembered; a broker may make up any number.
	maxRoutes = 10_000
)

// Stamps outside of these years are no times at all.
const (
	earliest mesh.Nanos = 631_152_000e9   // 1990-01-01
	latest   mesh.Nanos = 4_102_444_800e9 // 2100-01-01
)

// Reasons why a payload can't become a sample.
var (
	errNotJSON   = errors.New("payload is no JSON object")
	errNotUTF8   = errors.New("payload is no valid UTF-8")
	errNoTime    = errors.New("payload has no usable time")
	errTwice     = errors.New("key stands twice in one object")
	errWrongType = errors.New("value has another type than the signal")
	errRange     = errors.New("number is out of range")
	errTooLong   = errors.New("text is longer than 64 KiB")
	errTooLarge  = errors.New("message is larger than max_packet")
)

// status is what a signal gets instead of a value that could not be taken
// (OPC 10000-6 A.2): the value before does not hold any more.
func status(fault error) mesh.Status {
	switch {
	case errors.Is(fault, errWrongType):
		return mesh.StatusBadTypeMismatch
	case errors.Is(fault, errRange):
		return mesh.StatusBadOutOfRange
	case errors.Is(fault, errTooLong), errors.Is(fault, errTooLarge):
		return mesh.StatusBadEncodingLimitsExceeded
	}
	return mesh.StatusBadDecodingError
}

// route is what a topic means.
type route struct {
	heartbeat bool
	time      string
	unit      time.Duration
	keys      []keyed // in the order of the configuration

	last mesh.Nanos // newest stamp of a payload that is not suspect; 0: none
	dark bool       // every key has been Bad since the last readable payload
}

type keyed struct {
	key    string
	signal mesh.Signal
}

// scanner turns payloads into samples. It knows topics by heart, up to a
// bound. Not safe for concurrent use.
type scanner struct {
	cfg    *Config
	table  []mesh.Signal
	routes map[string]*route
}

// reading is what one payload says.
type reading struct {
	samples []mesh.Sample
	time    mesh.Nanos // 0: not known
	unknown int        // keys that are no signals
	flaws   []flaw     // what could not be taken
}

// flaw is values of one payload that could not be taken, and why.
type flaw struct {
	fault error
	count int
}

// route is nil for a topic that no filter covers.
func (s *scanner) route(topic string) *route {
	if r, ok := s.routes[topic]; ok {
		return r
	}
	r := s.find(topic)
	if s.routes == nil || len(s.routes) >= maxRoutes {
		s.routes = map[string]*route{}
	}
	s.routes[topic] = r
	return r
}

func (s *scanner) find(topic string) *route {
	if h := s.cfg.Heartbeat; topic == h.Topic {
		return &route{heartbeat: true, time: h.Time, unit: unit(h.TimeUnit)}
	}
	for _, t := range s.cfg.Topics {
		if !matches(t.Filter, topic) {
			continue
		}
		name := t.Signal
		for i, level := range strings.Split(topic, "/") {
			name = strings.ReplaceAll(name, "{"+strconv.Itoa(i)+"}", level)
		}
		before, after, _ := strings.Cut(name, "{key}")
		r := &route{time: t.Time, unit: unit(t.TimeUnit)}
		for _, sig := range s.table {
			key, ok := strings.CutPrefix(sig.Name, before)
			if key, ok2 := strings.CutSuffix(key, after); ok && ok2 && key != "" {
				r.keys = append(r.keys, keyed{key, sig})
			}
		}
		return r
	}
	return nil
}

// scan reads one payload; now is the plant clock. Each value that can't be taken
// gives a flaw, and a sample that says so.
func (s *scanner) scan(r *route, payload []byte, now mesh.Nanos) (out reading) {
	values, err := object(payload)
	if err != nil {
		return reading{flaws: []flaw{{err, 1}}}
	}
	flags := mesh.FlagAgentTime
	out.time = now
	stamp := mesh.Nanos(0)
	if r.time != "" {
		if out.time, err = instant(values[r.time], r.unit); err != nil {
			return reading{flaws: []flaw{{err, max(1, len(values)-1)}}}
		}
		delete(values, r.time)
		stamp, flags = out.time, 0
		if source.Suspect(stamp, now) {
			flags |= mesh.FlagSuspect
		} else {
			r.last = max(r.last, stamp)
		}
	}
	r.dark = false
	for _, k := range r.keys {
		raw, ok := values[k.key]
		if !ok {
			continue
		}
		delete(values, k.key)
		m := mesh.Sample{Signal: k.signal.ID, Time: out.time, Source: stamp, Agent: now, Flags: flags}
		if raw == nil { // JSON's way to say that there is no value
			m.Status = mesh.StatusBadNoData
		} else if m.Value, err = value(raw, k.signal.Type); err != nil {
			out.flaws = append(out.flaws, flaw{fmt.Errorf("key %q: %w", k.key, err), 1})
			m.Value, m.Status = mesh.Value{}, status(err)
		}
		out.samples = append(out.samples, m)
	}
	out.unknown = len(values)
	return out
}

// blackout gives each signal that a topic can carry a sample without a value: a
// payload of it said something, nobody knows what. It is dated behind what this
// topic said last and behind the proof, so that it hides nothing that was
// known; what the topic says next lies behind it. One is enough until then.
func (r *route) blackout(fault error, proof, now mesh.Nanos) (out []mesh.Sample, at mesh.Nanos) {
	at = now
	flags := mesh.FlagAgentTime
	if r.time != "" && max(r.last, proof) != 0 {
		at, flags = max(r.last+1, proof), 0
	}
	if r.dark {
		return nil, at
	}
	r.dark = len(r.keys) > 0
	for _, k := range r.keys {
		out = append(out, mesh.Sample{Signal: k.signal.ID, Time: at, Agent: now, Status: status(fault), Flags: flags})
	}
	return out, at
}

// proof reads a heartbeat.
func (s *scanner) proof(r *route, payload []byte) (mesh.Nanos, error) {
	values, err := object(payload)
	if err != nil {
		return 0, err
	}
	return instant(values[r.time], r.unit)
}

// twice stands for the value of a key that came twice: which is meant, nobody
// knows (RFC 8259, 4).
type twice struct{}

func object(payload []byte) (values map[string]any, err error) {
	d := json.NewDecoder(bytes.NewReader(payload))
	d.UseNumber()
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return nil, errNotJSON
	}
	values = map[string]any{}
	for d.More() {
		t, err := d.Token()
		key, ok := t.(string)
		var v any
		if err != nil || !ok || d.Decode(&v) != nil {
			return nil, errNotJSON
		}
		if _, again := values[key]; again {
			v = twice{}
		}
		values[key] = v
	}
	if t, err := d.Token(); err != nil || t != json.Delim('}') {
		return nil, errNotJSON
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errNotJSON
	}
	if !utf8.Valid(payload) {
		return nil, errNotUTF8
	}
	return values, nil
}

func instant(v any, unit time.Duration) (mesh.Nanos, error) {
	if v == (twice{}) {
		return 0, fmt.Errorf("%w: its %w", errNoTime, errTwice)
	}
	n, ok := v.(json.Number)
	if !ok {
		return 0, errNoTime
	}
	i, ok := whole(n)
	if !ok || i > math.MaxInt64/int64(unit) || i < 0 {
		return 0, errNoTime
	}
	t := mesh.Nanos(i * int64(unit))
	if t < earliest || t > latest {
		return 0, errNoTime
	}
	return t, nil
}

// whole is a JSON number without a fraction, 12.0 and 1e3 included.
func whole(n json.Number) (int64, bool) {
	if i, err := strconv.ParseInt(n.String(), 10, 64); err == nil {
		return i, true
	}
	f, err := strconv.ParseFloat(n.String(), 64)
	return int64(f), err == nil && f == math.Trunc(f) && math.Abs(f) < 1<<53
}

// value is raw as a value of type t; integers never pass through a float.
func value(raw any, t mesh.Type) (mesh.Value, error) {
	switch v := raw.(type) {
	case bool:
		if t == mesh.TypeBool {
			return mesh.Bool(v), nil
		}
	case string:
		if t == mesh.TypeString {
			if len(v) > maxText {
				return mesh.Value{}, errTooLong
			}
			return mesh.Text(v), nil
		}
	case json.Number:
		return number(v, t)
	case twice:
		return mesh.Value{}, errTwice
	}
	return mesh.Value{}, errWrongType
}

func number(n json.Number, t mesh.Type) (mesh.Value, error) {
	switch t {
	case mesh.TypeInt:
		if i, ok := whole(n); ok {
			return mesh.Int(i), nil
		}
	case mesh.TypeUint:
		if u, err := strconv.ParseUint(n.String(), 10, 64); err == nil {
			return mesh.Uint(u), nil
		}
		if i, ok := whole(n); ok && i >= 0 {
			return mesh.Uint(uint64(i)), nil
		}
	case mesh.TypeDouble:
		if f, err := strconv.ParseFloat(n.String(), 64); err == nil {
			return mesh.Double(f), nil
		}
	default:
		return mesh.Value{}, errWrongType
	}
	// A number for a number: without a fraction it is only too large, or negative.
	if f, err := strconv.ParseFloat(n.String(), 64); err != nil || f == math.Trunc(f) {
		return mesh.Value{}, errRange
	}
	return mesh.Value{}, errWrongType
}
