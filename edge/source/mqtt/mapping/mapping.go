// Package mapping makes samples of the messages of devices: JSON in any shape, or
// plain values, by topics whose levels name the equipment. It has no connection, no
// clock and no goroutine; what a broker's reader and a listener for devices share.
//
// Two mappings never give one name: what fills a name is escaped and held apart, and a
// second topic that gives a name in use is refused. Once a topic and the shape of its
// payloads are known, numbers and booleans cost no memory.
package mapping

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/expr-lang/expr/vm"

	"plantmesh/proto/mesh"
	"plantmesh/proto/strict"
)

const (
	// maxRoutes bounds the topics remembered; a broker may make up any number.
	maxRoutes = 10_000
	// maxTopic bounds a topic in bytes. MQTT allows 65535; a name has room for less.
	maxTopic = 1 << 10
	// maxBindings bounds what is remembered of all payloads: which place of which topic is
	// which signal. One counts once for each placeBytes of what it is remembered by.
	maxBindings = 100_000
	placeBytes  = 128
	// maxTable bounds the table that patterns make, as it travels: it must fit into one
	// message of a NATS server as it comes (1 MiB).
	maxTable = 768 << 10
	rowBytes = 32 // of a row beside its name and unit, at most
	// maxOrder bounds the values of a payload whose order is remembered.
	maxOrder = 256
	// maxRemembered bounds one place of a payload that is remembered, in bytes.
	maxRemembered = 4 << 10
)

// Reasons why a value is not taken, though it could be read.
var (
	// ErrClash is for a name that another topic, or another entry of topics, gives already.
	ErrClash = errors.New("two topics give one signal")
	// ErrFull is for a signal of a pattern beyond max_signals.
	ErrFull = errors.New("the table of signals is full")
)

// Mapper turns payloads into samples. It knows topics by heart, up to a bound. Not safe
// for concurrent use.
type Mapper struct {
	heartbeat struct {
		topic string
		time  path
		form  form
	}
	plans    []plan
	filters  []string
	signals  map[string]*slot
	families []family
	table    []mesh.Signal
	bytes    int    // of the table, as it travels
	next     uint32 // the id of the next signal that a pattern finds
	most     int

	routes   map[string]*Route
	topic    string // the last one, and its route
	route    *Route
	bindings int // in all routes
	doc      document
	read     reading
	filled   []byte
	trace    *[]Told // nil: nobody wants to know

	machine *vm.VM // of expressions; nil before the first
	env     map[string]any
}

// slot is a signal of the table.
type slot struct {
	id    uint32
	kind  mesh.Type
	name  string
	owner *stream // who gives it; nil: nobody yet
	walk  uint64  // the last walk through an object that met it
	at    int     // its sample of that walk

	expr, when *formula // nil: none
}

// New makes a mapper of a configuration that Validate has filled in.
func New(c *Config) (*Mapper, error) {
	m := &Mapper{signals: make(map[string]*slot, len(c.Signals)), most: c.MaxSignals, routes: map[string]*Route{}, next: uint32(len(c.Signals))}
	for i := range c.Topics {
		p, err := c.Topics[i].compile()
		if err == nil {
			err = m.alone(&p, c.Topics[i].Signal)
		}
		if err != nil {
			return nil, strict.Under(fmt.Sprintf("topics[%d]", i), err)
		}
		m.plans = append(m.plans, p)
	}
	if err := m.beats(&c.Heartbeat); err != nil {
		return nil, err
	}
	for i := range c.Signals {
		if err := m.declare(i, &c.Signals[i]); err != nil {
			return nil, strict.Under(fmt.Sprintf("signals[%d]", i), err)
		}
	}
	if len(m.table) > m.most {
		return nil, strict.At("max_signals", "max_signals is %d, and signals has %d entries", m.most, len(m.table))
	}
	m.subscribe(c.Heartbeat.Topic)
	return m, nil
}

// alone refuses a name that does not depend on anything, where another entry has it.
func (m *Mapper) alone(p *plan, name string) error {
	for i := range m.plans {
		o := m.plans[i].name
		if len(p.name) == 1 && p.name[0].hole == fixed && slices.Equal(o, p.name) {
			return strict.At("signal", "signal %q is what topic %q gives, too", name, m.plans[i].filter.String())
		}
	}
	return nil
}

func (m *Mapper) beats(h *Heartbeat) (err error) {
	f, ok := parseForm(h.TimeUnit)
	switch {
	case h.Topic == "":
		return nil
	case strings.ContainsAny(h.Topic, "+#{}") || !ok:
		return strict.At("heartbeat", "heartbeat %q must be one topic with a time_unit of %s", h.Topic, forms)
	}
	m.heartbeat.topic, m.heartbeat.form = h.Topic, f
	if m.heartbeat.time, err = parsePath(h.Time); err != nil || m.heartbeat.time.count() > 0 {
		return strict.At("heartbeat.time", "heartbeat's time %q leads to no single time", h.Time)
	}
	return nil
}

func (m *Mapper) declare(i int, s *Signal) error {
	row, err := s.compile(i)
	if err != nil {
		return err
	}
	calc, err := s.formulas()
	if err != nil {
		return err
	}
	if !s.pattern() {
		if m.signals[s.Name] != nil {
			return strict.At("name", "signal %q stands twice", s.Name)
		}
		m.add(row, calc)
		return nil
	}
	f, err := s.family(row, calc)
	m.families = append(m.families, f)
	return err
}

func (m *Mapper) add(row mesh.Signal, calc [2]*formula) *slot {
	s := &slot{id: row.ID, kind: row.Type, name: row.Name, expr: calc[0], when: calc[1]}
	m.signals[row.Name], m.table = s, append(m.table, row)
	m.bytes += len(row.Name) + len(row.Unit) + rowBytes
	return s
}

// subscribe lists what is to be subscribed to: no topic falls under two of them, because
// a broker may send a message once per filter (MQTT 5, 3.3.4; mosquitto does).
func (m *Mapper) subscribe(heartbeat string) {
	var all [][]string
	for i := range m.plans {
		all = apart(all, m.plans[i].filter.levels)
	}
	if heartbeat != "" {
		all = apart(all, strings.Split(heartbeat, "/"))
	}
	for _, f := range all {
		m.filters = append(m.filters, strings.Join(f, "/"))
	}
}

// Table is the signal table. It grows while patterns find signals, see Reading.Grew; an
// id stands for the same signal as long as the mapper lives.
func (m *Mapper) Table() []mesh.Signal { return slices.Clone(m.table) }

// Filters are what is to be subscribed to.
func (m *Mapper) Filters() []string { return slices.Clone(m.filters) }

// Route is what a topic means. It belongs to its mapper.
type Route struct {
	heartbeat bool
	fault     error // the topic can't be taken
	streams   []*stream

	last mesh.Nanos // newest stamp of a payload that is not suspect; 0: none
	dark bool       // every signal has been Bad since the last readable payload
}

// Heartbeat reports whether messages of this topic are proof, see Mapper.Proof.
func (r *Route) Heartbeat() bool { return r.heartbeat }

// Stamped reports whether each payload of this topic has a time of its own: two that have
// the same bytes are then the same samples.
func (r *Route) Stamped() bool {
	return len(r.streams) > 0 && !slices.ContainsFunc(r.streams, func(s *stream) bool { return len(s.time) == 0 })
}

// stream is one entry of topics for one topic.
type stream struct {
	*plan

	topic  string
	levels map[string]string // that have names
	name   template          // of what payloads fill
	simple bool              // the key of a member is all that they fill
	known  map[string]*binding
	order  []*binding     // as the last payload had them; a guess at what the next has
	sole   *binding       // where payloads fill nothing; nil: not known yet
	match  *regexp.Regexp // the names it can give, where somebody asked; else nil
}

// binding is what a place of a stream's payloads is.
type binding struct {
	place string // as it stands in payloads
	slot  *slot  // nil: no signal
	fault error  // why, where somebody should know
}

// Route is nil for a topic that no filter covers. A known topic costs no memory. What is
// known of topics is forgotten all at once when it is more than a broker should have.
func (m *Mapper) Route(topic []byte) *Route {
	if m.route != nil && m.topic == string(topic) {
		return m.route
	}
	if r, ok := m.routes[string(topic)]; ok {
		m.route = nil
		if r != nil && len(r.streams) > 0 {
			m.topic, m.route = r.streams[0].topic, r
		}
		return r
	}
	if len(topic) > maxTopic {
		return m.find(string(topic))
	}
	if len(m.routes) >= maxRoutes || m.bindings >= maxBindings {
		m.routes, m.bindings, m.route = map[string]*Route{}, 0, nil
	}
	name := string(topic)
	r := m.find(name)
	m.routes[name] = r
	return r
}

func (m *Mapper) find(topic string) *Route {
	if m.heartbeat.topic != "" && topic == m.heartbeat.topic {
		return &Route{heartbeat: true}
	}
	levels, r, chosen := strings.Split(topic, "/"), (*Route)(nil), ""
	for i := range m.plans {
		p := &m.plans[i]
		f := p.filter.String()
		// The first filter that covers a topic has it; entries of one filter share it.
		if r != nil && f != chosen || r == nil && !p.filter.matches(levels) {
			continue
		}
		if r == nil {
			r, chosen = &Route{}, f
		}
		if len(topic) > maxTopic {
			r.fault = errLongTopic
			return r
		}
		if name, ok := p.name.bind(levels); ok {
			simple := p.byKey && name.count(place) == 0
			r.streams = append(r.streams, &stream{plan: p, topic: topic, levels: p.filter.named(levels), name: name, simple: simple, known: map[string]*binding{}})
		}
	}
	if r != nil && len(r.streams) == 0 { // it has fewer levels than the names need
		return nil
	}
	return r
}

// binding is what a place is; filled are the parts of the name as they stand there. It
// is the nth value of its payload.
func (m *Mapper) binding(s *stream, filled []byte, nth int) *binding {
	if len(s.name) == 1 && s.name[0].hole == fixed {
		if s.sole == nil {
			s.sole = m.bind(s, nil)
		}
		return s.sole
	}
	if len(filled) > maxRemembered {
		return &binding{fault: errLongName}
	}
	if nth < len(s.order) && s.order[nth].place == string(filled) {
		return s.order[nth]
	}
	b, ok := s.known[string(filled)]
	if !ok {
		b = m.bind(s, filled)
		if m.bindings >= maxBindings {
			return b
		}
		b.place = string(filled)
		s.known[b.place] = b
		m.bindings += 1 + len(filled)/placeBytes
	}
	if nth < len(s.order) {
		s.order[nth] = b
	} else if nth == len(s.order) && nth < maxOrder {
		s.order = append(s.order, b)
	}
	return b
}

func (m *Mapper) bind(s *stream, filled []byte) *binding {
	name, err := s.name.name(filled)
	if err != nil {
		return &binding{fault: err}
	}
	x := m.signals[name]
	if x == nil {
		if x, err = m.discover(name); x == nil {
			return &binding{fault: err}
		}
	}
	switch o := x.owner; {
	case o == nil || o.plan == s.plan && o.topic == s.topic: // also the same stream, made anew
		x.owner = s
	case o.topic == s.topic:
		return &binding{fault: fmt.Errorf("%w: %q comes of topic %.200q by two entries of topics", ErrClash, name, s.topic)}
	default:
		return &binding{fault: fmt.Errorf("%w: %q comes of topic %.200q already, and of %.200q now", ErrClash, name, o.topic, s.topic)}
	}
	return &binding{slot: x}
}

// discover is a signal that a pattern declares; nil: none does, or there is no room.
func (m *Mapper) discover(name string) (*slot, error) {
	for i := range m.families {
		if !m.families[i].match(name) {
			continue
		}
		if len(m.table) >= m.most || m.bytes+len(name) > maxTable {
			return nil, fmt.Errorf("%w, %d signals of at most %d (max_signals), or 768 KiB of names", ErrFull, len(m.table), m.most)
		}
		row := m.families[i].row
		row.ID, row.Name = m.next, name
		m.next++
		m.read.grew = true
		return m.add(row, m.families[i].calc), nil
	}
	return nil, nil //nolint:nilnil // nobody asked for it: that is no error
}
