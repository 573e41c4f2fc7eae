package publish

import "slices"

// leastDataValue is what a DataValue takes at least: its mask.
const leastDataValue = 1

// DecodeRead reads a ReadResponse, as DecodePublish does, into Values: one for each
// node asked for, in that order, with Handle 0. b is the message after its type id
// (i=634).
func (m *Message) DecodeRead(b []byte) error {
	was := m.reset()
	r := reader{b: b}
	if m.header(&r) {
		n := r.count(leastDataValue)
		if n > MaxValues {
			r.fail(ErrCount)
			n = 0
		}
		m.Values = slices.Grow(m.Values, n)[:n]
		for i := range m.Values {
			m.Values[i] = Value{}
			if r.dataValue(&m.Values[i]); r.err != nil {
				r.at("value", i)
				break
			}
		}
		r.diagnostics()
	}
	return m.finish(&r, was, "read response")
}
