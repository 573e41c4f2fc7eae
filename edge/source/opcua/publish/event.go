package publish

import "slices"

// Event is one event of one monitored item. Its fields stay as they were sent until
// Read: they may be many more values than bytes.
type Event struct {
	Handle uint32 // the client's handle of the item
	Count  int    // fields, of which each is in the encoding, null or not
	fields []byte // the encoding of the fields, which was checked
}

// Read reads the fields, in the order of the item's select clauses, into the given
// values and returns those; fields beyond them are left out. Status and time stamps of
// the values are 0: fields have none. Their bytes point into the message.
func (e *Event) Read(into []Value) []Value {
	into = into[:min(len(into), e.Count)]
	r := reader{b: e.fields}
	for i := range into {
		into[i] = Value{Handle: e.Handle}
		r.variant(&into[i])
	}
	return into
}

// events reads an EventNotificationList (OPC 10000-4).
func (m *Message) events(r *reader) {
	n := r.count(leastEvent)
	if n > MaxValues-len(m.Events) {
		r.fail(ErrCount)
		return
	}
	m.Events = slices.Grow(m.Events, n)
	for i := range n {
		e := Event{Handle: r.u32(), Count: r.count(leastVariant)}
		from := r.pos
		var v Value
		for k := 0; k < e.Count && r.err == nil; k++ {
			r.variant(&v)
			if r.err != nil {
				r.at("field", k)
			}
		}
		if r.err != nil {
			r.at("event", i)
			return
		}
		e.fields = r.since(from)
		m.Events = append(m.Events, e)
	}
}
