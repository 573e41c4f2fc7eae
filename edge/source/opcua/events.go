package opcua

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/gopcua/opcua/id"
	"github.com/gopcua/opcua/ua"

	"plantmesh/edge/source"
	"plantmesh/edge/source/opcua/channel"
	"plantmesh/edge/source/opcua/datatype"
	"plantmesh/edge/source/opcua/publish"
	"plantmesh/proto/mesh"
	"plantmesh/proto/strict"
	"plantmesh/proto/wire"
)

// Events is one notifier to listen to. Its events and alarms are one signal of type
// event; what is inside of them, clauses tells.
type Events struct {
	Name        string   `yaml:"name"`         // "<line>.<machine>.<role>"
	Node        string   `yaml:"node"`         // of the notifier, as of a signal; default i=2253: the Server object, which has all events of the server
	Types       []string `yaml:"types"`        // nodes of event types: only events of these and of types derived from them, with what properties these types have of their own (at most 32); default: of all
	MinSeverity uint16   `yaml:"min_severity"` // 1 to 1000: none below, but for the end of a condition that came; default: all
}

// maxTypes is how many types one filter names: each costs the server a comparison
// with every event.
const maxTypes = 32

func (e *Events) validate() error {
	if e.Name == "" {
		return strict.At("name", "events have no name")
	}
	if e.Node == "" {
		e.Node = fmt.Sprintf("i=%d", id.Server)
	}
	if _, err := parseNode(e.Node); err != nil {
		return strict.Under("node", err)
	}
	for i, t := range e.Types {
		if _, err := parseNode(t); err != nil {
			return strict.Under(fmt.Sprintf("types[%d]", i), err)
		}
	}
	switch {
	case e.MinSeverity > 1000: // OPC 10000-5 §6.4.2
		return strict.At("min_severity", "min_severity must lie between 1 and 1000")
	case len(e.Types) > maxTypes:
		return strict.At("types", "types has %d entries, at most %d are taken", len(e.Types), maxTypes)
	}
	return nil
}

// clause is a field that is asked for of every event.
type clause struct {
	field string    // in the body of the sample; empty: it is not there
	typ   mesh.Type // in the body
	of    uint32    // the event type that has it
	path  []string  // browse names from the event on; none: the node id of the condition

	own *datatype.EventField // in place of the event type and the path, of a type that is not the standard's
}

// Places in clauses.
const (
	atEventID = iota
	atEventType
	atSourceNode
	atSourceName
	atTime
	atReceived
	atMessage
	atSeverity
	atCondition
	atConditionName
	atBranch
	atRetain
	atEnabled
	atActive
	atAcknowledged
	atConfirmed
	countClauses
)

// basic are the clauses of BaseEventType, which every server has.
const basic = uint64(1<<(atSeverity+1) - 1)

// standard are all that the standard's types have.
const standard = uint64(1<<countClauses - 1)

// clauses are the fields that are asked for, in this order: of every event (OPC
// 10000-5 §6.4.2), of conditions (OPC 10000-9 §5.5.2), of what can be
// acknowledged (§5.7.2) and of alarms (§5.8.2). Of an event that is no condition
// the latter are absent, and so are those that a server doesn't give. The time is
// the sample's, and when the server received the event is its server clock.
func clauses() []clause {
	const text, yes = mesh.TypeString, mesh.TypeBool
	return []clause{
		atEventID:       {field: "event_id", typ: text, of: id.BaseEventType, path: []string{"EventId"}},
		atEventType:     {field: "event_type", typ: text, of: id.BaseEventType, path: []string{"EventType"}},
		atSourceNode:    {field: "source_node", typ: text, of: id.BaseEventType, path: []string{"SourceNode"}},
		atSourceName:    {field: "source_name", typ: text, of: id.BaseEventType, path: []string{"SourceName"}},
		atTime:          {field: "", typ: 0, of: id.BaseEventType, path: []string{"Time"}},
		atReceived:      {field: "", typ: 0, of: id.BaseEventType, path: []string{"ReceiveTime"}},
		atMessage:       {field: "message", typ: text, of: id.BaseEventType, path: []string{"Message"}},
		atSeverity:      {field: "severity", typ: mesh.TypeUint, of: id.BaseEventType, path: []string{"Severity"}},
		atCondition:     {field: "condition_id", typ: text, of: id.ConditionType, path: nil},
		atConditionName: {field: "condition_name", typ: text, of: id.ConditionType, path: []string{"ConditionName"}},
		atBranch:        {field: "branch_id", typ: text, of: id.ConditionType, path: []string{"BranchId"}},
		atRetain:        {field: "retain", typ: yes, of: id.ConditionType, path: []string{"Retain"}},
		atEnabled:       {field: "enabled", typ: yes, of: id.ConditionType, path: []string{"EnabledState", "Id"}},
		atActive:        {field: "active", typ: yes, of: id.AlarmConditionType, path: []string{"ActiveState", "Id"}},
		atAcknowledged:  {field: "acknowledged", typ: yes, of: id.AcknowledgeableConditionType, path: []string{"AckedState", "Id"}},
		atConfirmed:     {field: "confirmed", typ: yes, of: id.AcknowledgeableConditionType, path: []string{"ConfirmedState", "Id"}},
	}
}

// row is the row of e in the signal table.
func (e *Events) row(place int) mesh.Signal {
	s := mesh.Signal{ID: uint32(place), Name: e.Name, Type: mesh.TypeEvent}
	for _, c := range clauses() {
		if c.field != "" {
			s.Fields = append(s.Fields, mesh.Field{Name: c.field, Type: c.typ})
		}
	}
	return s
}

// ears are what the reader needs for events and can do without after a restart.
type ears struct {
	clauses [][]clause      // by notifier
	raw     []publish.Value // of one event, as they came
	values  []publish.Value // of one event, by their places in clauses
	spaces  namespaces      // of the server
	due     bool            // the conditions' states are to be asked for
	mute    string          // why the server doesn't give them
}

func newEars(notifiers int) ears {
	const most = countClauses + maxOwn
	return ears{clauses: slices.Repeat([][]clause{clauses()}, notifiers), raw: make([]publish.Value, most), values: make([]publish.Value, most)}
}

// eventState is what is committed of one notifier.
type eventState struct {
	Clauses    uint64     `json:"clauses"`              // bits of those asked for; 0: the server refuses it
	Lacks      uint64     `json:"lacks,omitempty"`      // bits of those that the server doesn't have
	Own        string     `json:"own,omitempty"`        // hash of those that are of the filter's types alone
	Unfiltered bool       `json:"unfiltered,omitempty"` // the server takes no filter by type
	Refresh    mesh.Nanos `json:"refresh,omitempty"`    // since when the server gives the conditions' states anew; 0: it doesn't
}

// Event types of the protocol itself (OPC 10000-9 §5.11.2 to 5.11.4, OPC 10000-4 §7.22.3).
const (
	typeRefreshStart    = id.RefreshStartEventType
	typeRefreshEnd      = id.RefreshEndEventType
	typeRefreshRequired = id.RefreshRequiredEventType
	typeOverflow        = id.EventQueueOverflowEventType
)

// event gives event k of a message to the sealer.
func (r *Reader) event(in *channel.Answer, k int, now mesh.Nanos) error {
	e := &in.Events[k]
	i, again, ours := r.state.signal(e.Handle)
	if !ours || again > 0 || i >= len(r.table) {
		return r.foreign(e.Handle)
	}
	n := i - len(r.cfg.Signals)
	if n < 0 || n >= len(r.state.Events) {
		r.unread.add(r.table[i].Name, now, errors.New("an event, where a value is read"))
		return nil
	}
	st := &r.state.Events[n]
	v := r.ears.spread(e, n, st.Clauses)
	at := moment(&v[atTime])
	switch kindOf(e, v) {
	case typeRefreshStart:
		st.Refresh = max(at, 1)
		return nil
	case typeRefreshEnd:
		st.Refresh = 0
		return nil
	case typeRefreshRequired:
		r.ears.due = true
		return nil
	case typeOverflow:
		r.eventsLost(in, k, at, now)
		return nil
	}
	name := r.table[i].Name
	if v[atSeverity].Type != publish.TypeNull && v[atSeverity].Bits < uint64(r.cfg.Events[n].MinSeverity) && !r.state.Conditions.known(name, v) {
		return nil
	}
	s := mesh.Sample{Signal: r.table[i].ID, Source: at, Server: moment(&v[atReceived]), Agent: now}
	chosen(&s, now)
	body, cut := r.ears.body(n)
	if cut != "" {
		r.unread.add(name, s.Time, errors.New(cut))
	}
	if st.Refresh != 0 && s.Time <= st.Refresh {
		s.Flags |= mesh.FlagInitial
	}
	if r.state.Conditions.seen(name, v, body) {
		return nil
	}
	s.Value = mesh.Value{Type: mesh.TypeEvent, Bytes: body}
	if s.Flags&mesh.FlagSuspect == 0 {
		r.last[i] = max(r.last[i], s.Time)
	}
	r.sealer.Add(s)
	return nil
}

// typeBareOverflow is the overflow type of older versions of open62541, of its own.
const typeBareOverflow = 4035

// kindOf is the number of an event's type where that is one of the protocol itself. That
// a queue ran over open62541 says with the type alone, as the first field, whatever
// fields were asked for.
func kindOf(e *publish.Event, v []publish.Value) uint32 {
	if e.Count == 1 {
		switch protocolType(&v[atEventID]) {
		case typeOverflow, typeBareOverflow:
			return typeOverflow
		}
	}
	return protocolType(&v[atEventType])
}

// eventsLost says that events were lost in the server's queue. What they were lost
// before is the next one in it: the oldest are discarded (OPC 10000-4 §7.21), and
// this one stands in their place.
func (r *Reader) eventsLost(in *channel.Answer, k int, at, now mesh.Nanos) {
	e := &in.Events[k]
	i, _, _ := r.state.signal(e.Handle)
	to := stamp(in.Instant())
	for n := range in.Events[k+1:] {
		next := &in.Events[k+1+n]
		if next.Handle != e.Handle {
			continue
		}
		v := r.ears.spread(next, i-len(r.cfg.Signals), r.state.Events[i-len(r.cfg.Signals)].Clauses)
		if t := moment(&v[atTime]); t != 0 {
			to = t
			break
		}
	}
	from := max(r.last[i], r.sealer.Proof())
	to = max(from+1, min(now, max(at, to)))
	r.sealer.Void(r.void(mesh.CauseOverflow, mesh.Span{From: from, To: to}, "the server's queue of "+r.table[i].Name+" ran over"))
}

// spread gives the fields of an event of notifier n by their places in its clauses;
// they hold until the next call.
func (e *ears) spread(event *publish.Event, n int, asked uint64) []publish.Value {
	raw := event.Read(e.raw)
	clear(e.values)
	for place := range e.clauses[n] {
		if asked&(1<<place) == 0 {
			continue
		}
		if len(raw) == 0 {
			break
		}
		e.values[place], raw = raw[0], raw[1:]
	}
	return e.values
}

// moment is a time in a field; 0: none.
func moment(v *publish.Value) mesh.Nanos {
	if v.Type != publish.TypeDateTime || v.Array {
		return 0
	}
	return stamp(int64(v.Bits))
}

// protocolType is the number of an event's type where that is one of the protocol
// itself, in namespace 0.
func protocolType(v *publish.Value) uint32 {
	n := nodeOf(v)
	if n == nil || n.Namespace() != 0 || n.Type() == ua.NodeIDTypeString {
		return 0
	}
	return n.IntID()
}

// nodeOf is the node id in a field; nil: none, or one that can't be read.
func nodeOf(v *publish.Value) *ua.NodeID {
	if v.Array || v.Type != publish.TypeNodeID && v.Type != publish.TypeExpandedNodeID || len(v.Bytes) < 2 {
		return nil
	}
	n := new(ua.ExpandedNodeID)
	if _, err := n.Decode(v.Bytes[1:]); err != nil {
		return nil
	}
	return n.NodeID
}

// global is a node id that is the same whatever the server's namespaces are
// numbered as; "" is the null node.
func (e *ears) global(n *ua.NodeID) string {
	text := n.String()
	if n.Namespace() == 0 {
		if text == "i=0" {
			return ""
		}
		return text
	}
	_, rest, _ := strings.Cut(text, ";")
	if int(n.Namespace()) >= len(e.spaces.uris) {
		return text
	}
	return "nsu=" + e.spaces.uris[n.Namespace()] + ";" + rest
}

// body is the sample's body of the event of notifier n in values. cut says what of it
// is left out.
func (e *ears) body(n int) (b []byte, cut string) {
	i := mesh.Item{Value: mesh.Value{Type: mesh.TypeEvent}, Items: make([]mesh.Item, 0, len(e.clauses[n]))}
	for place, c := range e.clauses[n] {
		if c.field == "" {
			continue
		}
		v := e.inside(c, &e.values[place])
		most := maxField
		switch {
		case place == atMessage:
			most = maxEventText
		case c.own != nil:
			most = maxOwnField
		}
		if len(v.Bytes) > most {
			cut = fmt.Sprintf("%d bytes of %s, at most %d are stored", len(v.Bytes), c.field, most)
			v.Bytes = v.Bytes[:most]
		}
		if v.Type == mesh.TypeString {
			v.Bytes = legible(v.Bytes, most)
		}
		i.Items = append(i.Items, mesh.Item{Value: v})
	}
	return wire.AppendItem(nil, i), cut
}

// legible is a text in UTF-8. What is put in the place of bytes that are none may be
// longer than they are: it is cut again.
func legible(b []byte, most int) []byte {
	b = bytes.ToValidUTF8(b, []byte("\uFFFD"))
	for len(b) > most {
		_, size := utf8.DecodeLastRune(b)
		b = b[:len(b)-size]
	}
	return b
}

// Limits of an event's texts. Together they stay below what a body may have.
const (
	maxEventText = 24 << 10 // of the message
	maxField     = 2 << 10  // of the others
	maxOwnField  = 512      // of those of types that are not the standard's
)

// inside is a field as it stands in a body: of no type where the event has none, or
// another than it should have.
func (e *ears) inside(c clause, v *publish.Value) mesh.Value {
	if v.Array {
		return mesh.Value{}
	}
	switch {
	case c.typ == mesh.TypeBool && v.Type == publish.TypeBoolean:
		return mesh.Value{Type: mesh.TypeBool, Bits: v.Bits}
	case c.typ == mesh.TypeUint && (v.Type == publish.TypeByte || v.Type == publish.TypeUInt16 || v.Type == publish.TypeUInt32):
		return mesh.Uint(v.Bits)
	case c.own != nil && v.Type != publish.TypeByteString:
		return ownValue(c.typ, v)
	case c.typ != mesh.TypeString:
		return mesh.Value{}
	}
	switch v.Type {
	case publish.TypeByteString:
		if v.Bytes != nil { // an event's id: no text anywhere shows bytes
			return mesh.Text(hex.EncodeToString(v.Bytes))
		}
	case publish.TypeString, publish.TypeLocalizedText:
		if v.Bytes != nil {
			return mesh.Value{Type: mesh.TypeString, Bytes: v.Bytes}
		}
	case publish.TypeNodeID, publish.TypeExpandedNodeID:
		if n := nodeOf(v); n != nil {
			if text := e.global(n); text != "" {
				return mesh.Text(text)
			}
		}
	}
	return mesh.Value{}
}

// chosen chooses the event time among a sample's clocks.
func chosen(s *mesh.Sample, now mesh.Nanos) {
	switch {
	case s.Source != 0:
		s.Time = s.Source
	case s.Server != 0:
		s.Time = s.Server
	default:
		s.Time = now
		s.Flags |= mesh.FlagAgentTime
	}
	if source.Suspect(s.Time, now) {
		s.Flags |= mesh.FlagSuspect
	}
}

// conditions are the last states of conditions that were given to the sealer: of
// each a hash of notifier, condition and branch, and one of the event's body, which
// has the event's id. A state that the server gives again is no news; not every
// server says at every notifier when it does. Bounded, because they stand in the
// state of every commit: one that is forgotten is given twice, as the same sample.
type conditions []byte

const (
	maxConditions = 256
	conditionSize = 8 + 8
)

// seen reports whether this is the state of its condition that was seen last, and
// keeps it. Those that the server will not give again are forgotten.
func (c *conditions) seen(name string, v []publish.Value, body []byte) (same bool) {
	if v[atCondition].Type == publish.TypeNull {
		return false
	}
	key, last := keyOf(name, v), hash(body)
	if at := c.find(key); at >= 0 {
		same = binary.LittleEndian.Uint64((*c)[at+8:]) == last
		*c = slices.Delete(*c, at, at+conditionSize)
	}
	if retain := &v[atRetain]; retain.Type == publish.TypeBoolean && retain.Bits == 0 {
		return same
	}
	if over := len(*c)/conditionSize + 1 - maxConditions; over > 0 {
		*c = slices.Delete(*c, 0, over*conditionSize)
	}
	*c = binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint64(*c, key), last)
	return same
}

// known reports whether a state of this condition was given to the sealer that has
// not ended: the event that ends it belongs to it, and is often of no severity.
func (c *conditions) known(name string, v []publish.Value) bool {
	return c.find(keyOf(name, v)) >= 0
}

// find is where the state with a key stands; -1: nowhere.
func (c *conditions) find(key uint64) int {
	for at := 0; at+conditionSize <= len(*c); at += conditionSize {
		if binary.LittleEndian.Uint64((*c)[at:]) == key {
			return at
		}
	}
	return -1
}

func keyOf(name string, v []publish.Value) uint64 {
	return hash([]byte(name), v[atCondition].Bytes, v[atBranch].Bytes)
}

func hash(parts ...[]byte) uint64 {
	h := sha256.New()
	for _, p := range parts {
		h.Write(binary.LittleEndian.AppendUint32(nil, uint32(len(p))))
		h.Write(p)
	}
	return binary.LittleEndian.Uint64(h.Sum(nil))
}
