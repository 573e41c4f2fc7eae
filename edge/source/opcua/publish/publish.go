// Package publish reads what an OPC UA server sends to a subscriber: the binary
// PublishResponse and RepublishResponse (fields: OPC 10000-4; encoding: OPC 10000-6,
// 5.2). It reads them into flat values without an allocation per value. Whatever
// the bytes are, it does not panic, and the memory it takes is bounded by their
// length and by MaxValues: a Value has 64 bytes on 64-bit machines, an Event 40.
package publish

import (
	"errors"
	"fmt"
	"slices"
)

// Why a message can't be read. Errors of this package wrap one of them, with the
// place: the byte, counted from the beginning of the body, and what stands there.
var (
	ErrShort = errors.New("ends early")                             // fewer bytes than the fields need
	ErrCount = errors.New("a count that can't be")                  // negative, more elements than the bytes left can hold or than MaxValues, or array dimensions that don't make up the array
	ErrKind  = errors.New("an encoding that is not known")          // of a node id, or a variant's type
	ErrDeep  = errors.New("values nested more than 16 levels deep") // variants, data values and diagnostic infos in each other
)

// Type ids of the binary encodings of notifications, in namespace 0
// (OPC 10000-6, Annex A: the NodeIds of OPC UA).
const (
	idDataChange   = 811 // DataChangeNotification_Encoding_DefaultBinary
	idStatusChange = 820 // StatusChangeNotification_Encoding_DefaultBinary
	idEvents       = 916 // EventNotificationList_Encoding_DefaultBinary
)

// MaxValues is how many values, and how many events, a message may carry: 16 MiB of them here. A client
// asks for at most so many notifications in one (OPC 10000-4, CreateSubscription),
// and some servers don't look at that.
const MaxValues = 1 << 18

// maxNumbers is how many sequence numbers, and how many results, a message may name.
const maxNumbers = 1 << 16

// What an element takes at least, in bytes. Counts are checked against these,
// so that nothing grows beyond what the message can fill.
const (
	leastNumber       = 4 // UInt32, StatusCode
	leastText         = 4 // the length
	leastDiagnostic   = 1 // the mask
	leastNotification = 3 // a two-byte node id (2), the encoding
	leastItem         = 5 // the handle (4), the data value's mask
	leastEvent        = 8 // the handle (4), the count of its fields (4)
	leastVariant      = 1 // the mask of a null
)

// bad is the bit of a StatusCode that says bad: of the severities 00 good,
// 01 uncertain, 10 bad and 11 reserved, the latter two (OPC 10000-4, StatusCode).
const bad = 1 << 31

// Message is what one publish or republish response brought. Its slices are used
// again by the next call of DecodePublish or DecodeRepublish. Bytes in Values and Events
// point into the bytes that were decoded: they hold until those are written to
// or the next call, whichever is first. The zero Message is ready for use; it
// is not safe for concurrent use.
type Message struct {
	Handle       uint32   // of the request
	Sent         int64    // when the server answered, in 100 ns since 1601-01-01 UTC; 0: it doesn't say
	Result       uint32   // service result, a StatusCode; where it is bad all below is empty
	Subscription uint32   // 0 after DecodeRepublish
	Available    []uint32 // sequence numbers that the server keeps for Republish; empty after DecodeRepublish
	More         bool     // the server has more messages ready; false after DecodeRepublish
	Sequence     uint32   // number of the message; of a keep-alive, of the message to come
	Time         int64    // PublishTime, in 100 ns since 1601-01-01 UTC; 0: none. See Nanos.
	Data         int      // notifications that it carried, of any type; 0: a keep-alive
	Values       []Value  // of all DataChangeNotifications, in order
	Statuses     uint32   // theirs, or'ed
	Extensions   bool     // some are of type ExtensionObject or a later one
	Status       []uint32 // StatusCodes of StatusChangeNotifications, in order
	Events       []Event  // of all EventNotificationLists, in order
	Foreign      int      // notifications skipped: of other types, in XML, or without a body
	Results      []uint32 // StatusCodes of the acknowledgements sent with the request; empty after DecodeRepublish
}

// Value is the data value of one monitored item. Without a variant, and of a null
// variant, Type is 0.
type Value struct {
	Handle uint32 // the client's handle of the item
	Type   byte   // built-in type, 0 (none) to 25 (OPC 10000-6, 5.1.2, Table 1); of an array, of its elements
	Array  bool   // an array of any number of dimensions, also a null or an empty one
	Status uint32 // StatusCode; 0 (good) where none was sent
	Source int64  // source time stamp, in 100 ns since 1601-01-01 UTC; 0: none. Picoseconds are read over.
	Server int64  // server time stamp, likewise

	// Bits are the value itself of Boolean (0 or 1), of integers (signed ones
	// sign-extended), of Float and Double (bits of the float64), of DateTime (in
	// 100 ns since 1601-01-01 UTC) and of StatusCode. Else 0.
	Bits uint64

	// Bytes are the text of String, ByteString and XmlElement (nil: null), the
	// text of LocalizedText, the name of QualifiedName and the 16 bytes of Guid,
	// as they were sent: text may be no UTF-8. Of every other type, and of
	// arrays, the variant's encoding with its mask in front. Of what has Bits, nil.
	Bytes []byte
}

// DecodePublish reads a PublishResponse. b is the message after its type id
// (i=829); what stands behind the response is not looked at. A ServiceFault's
// body is read too, as a response whose result is bad. With an error m is empty.
func (m *Message) DecodePublish(b []byte) error {
	was := m.reset()
	r := reader{b: b}
	if m.header(&r) {
		m.Subscription = r.u32()
		m.Available = r.numbers(m.Available)
		m.More = r.u8() != 0
		m.message(&r)
		m.Results = r.numbers(m.Results)
		r.diagnostics()
	}
	return m.finish(&r, was, "publish response")
}

// DecodeRepublish reads a RepublishResponse, as DecodePublish does. b is the
// message after its type id (i=835).
func (m *Message) DecodeRepublish(b []byte) error {
	was := m.reset()
	r := reader{b: b}
	if m.header(&r) {
		m.message(&r)
	}
	return m.finish(&r, was, "republish response")
}

// DecodeData reads a DataValue (OPC 10000-6, 5.2.2.17) as that of an item without a
// handle. What stands behind it is not looked at. v's bytes point into b.
func (v *Value) DecodeData(b []byte) error {
	*v = Value{}
	r := reader{b: b}
	r.dataValue(v)
	if r.err != nil {
		*v = Value{}
		return fmt.Errorf("data value: %w", r.err)
	}
	return nil
}

// Instant is when the notification was sent: Time, or where the server leaves
// that out, as some do, Sent. What it sends again is older than that.
func (m *Message) Instant() int64 {
	if m.Time == 0 {
		return m.Sent
	}
	return m.Time
}

// reset empties m and returns how many values and events it had.
func (m *Message) reset() (was [2]int) {
	was = [2]int{len(m.Values), len(m.Events)}
	*m = Message{
		Available: m.Available[:0],
		Values:    m.Values[:0],
		Status:    m.Status[:0],
		Events:    m.Events[:0],
		Results:   m.Results[:0],
	}
	return was
}

// finish lets go of what earlier values point to, and of everything with an error.
func (m *Message) finish(r *reader, was [2]int, what string) error {
	values, events := max(was[0], len(m.Values)), max(was[1], len(m.Events))
	if r.err != nil {
		m.reset()
	}
	clear(m.Values[len(m.Values):values])
	clear(m.Events[len(m.Events):events])
	if r.err != nil {
		return fmt.Errorf("%s: %w", what, r.err)
	}
	return nil
}

// header reads a ResponseHeader (OPC 10000-4) and reports whether the rest is to be read.
func (m *Message) header(r *reader) bool {
	m.Sent = int64(r.u64())
	m.Handle = r.u32()
	m.Result = r.u32()
	r.skipDiagnostic(1)
	for range r.count(leastText) {
		r.text()
	}
	r.skipExtension()
	r.in("header")
	return r.err == nil && m.Result&bad == 0
}

// message reads a NotificationMessage (OPC 10000-4).
func (m *Message) message(r *reader) {
	m.Sequence = r.u32()
	m.Time = int64(r.u64())
	m.Data = r.count(leastNotification)
	for i := range m.Data {
		m.notification(r)
		if r.err != nil {
			r.at("notification", i)
			return
		}
	}
}

// notification reads an ExtensionObject (OPC 10000-6, 5.2.2.15). What stands in
// its body behind the notification is not looked at.
func (m *Message) notification(r *reader) {
	id, body := r.extension()
	switch {
	case r.err != nil:
	case id == idDataChange:
		m.dataChange(&body)
	case id == idStatusChange:
		m.Status = append(m.Status, body.u32())
		body.skipDiagnostic(1)
	case id == idEvents:
		m.events(&body)
	default:
		m.Foreign++
	}
	if body.err != nil {
		r.stop(body.err)
	}
}

// dataChange reads a DataChangeNotification (OPC 10000-4).
func (m *Message) dataChange(r *reader) {
	n := r.count(leastItem)
	before := len(m.Values)
	if n > MaxValues-before {
		r.fail(ErrCount)
		return
	}
	m.Values = slices.Grow(m.Values, n)[:before+n]
	items := m.Values[before:]
	for i := range items {
		if size := quick(r.b[r.pos:], &items[i]); size > 0 {
			r.pos += size
			m.Statuses |= items[i].Status
			continue
		}
		r.item(&items[i])
		m.Statuses |= items[i].Status
		m.Extensions = m.Extensions || items[i].Type >= TypeExtension
		if r.err != nil {
			r.at("value", i)
			return
		}
	}
	r.diagnostics()
}
