package payload

import (
	"encoding/binary"
	"slices"
)

// Append appends the bytes of p. What is empty is left out, as protobuf does.
func Append(b []byte, p *Payload) []byte {
	b = appendNumber(b, 1, p.Timestamp)
	for i := range p.Metrics {
		b = appendMessage(b, 2, func(b []byte) []byte { return appendMetric(b, &p.Metrics[i]) })
	}
	if p.HasSeq {
		b = binary.AppendUvarint(appendTag(b, 3, wireVarint), p.Seq)
	}
	b = appendText(b, 4, p.UUID)
	return appendText(b, 5, p.Body)
}

func appendTag(b []byte, num uint64, wire byte) []byte {
	return binary.AppendUvarint(b, num<<3|uint64(wire))
}

func appendNumber(b []byte, num, v uint64) []byte {
	if v == 0 {
		return b
	}
	return binary.AppendUvarint(appendTag(b, num, wireVarint), v)
}

func appendFlag(b []byte, num uint64, v bool) []byte {
	if !v {
		return b
	}
	return append(appendTag(b, num, wireVarint), 1)
}

// appendText leaves out an empty one.
func appendText(b []byte, num uint64, text []byte) []byte {
	if len(text) == 0 {
		return b
	}
	return appendItem(b, num, text)
}

// appendItem appends one of a list, where an empty one counts too.
func appendItem(b []byte, num uint64, text []byte) []byte {
	b = binary.AppendUvarint(appendTag(b, num, wireBytes), uint64(len(text)))
	return append(b, text...)
}

// appendMessage appends what inside appends, with its length in front.
func appendMessage(b []byte, num uint64, inside func([]byte) []byte) []byte {
	b = appendTag(b, num, wireBytes)
	from := len(b)
	b = inside(b)
	var length [binary.MaxVarintLen64]byte
	n := binary.PutUvarint(length[:], uint64(len(b)-from))
	return slices.Insert(b, from, length[:n]...)
}

func appendMetric(b []byte, m *Metric) []byte {
	b = appendText(b, 1, m.Name)
	if m.HasAlias {
		b = binary.AppendUvarint(appendTag(b, 2, wireVarint), m.Alias)
	}
	b = appendNumber(b, 3, m.Timestamp)
	b = appendNumber(b, 4, uint64(m.Type))
	b = appendFlag(b, 5, m.Historical)
	b = appendFlag(b, 6, m.Transient)
	b = appendFlag(b, 7, m.Null)
	if m.Meta != nil {
		b = appendMessage(b, 8, func(b []byte) []byte { return appendMeta(b, m.Meta) })
	}
	if m.Properties != nil {
		b = appendMessage(b, 9, func(b []byte) []byte { return appendSet(b, m.Properties) })
	}
	switch {
	case m.Value.Kind == InDataSet && m.DataSet != nil:
		return appendMessage(b, 17, func(b []byte) []byte { return appendTable(b, m.DataSet) })
	case m.Value.Kind == InTemplate && m.Template != nil:
		return appendMessage(b, 18, func(b []byte) []byte { return appendTemplate(b, m.Template) })
	}
	return appendValue(b, m.Value, metricFields())
}

func appendValue(b []byte, v Value, f fields) []byte {
	switch v.Kind {
	case InInt:
		return binary.AppendUvarint(appendTag(b, f.first, wireVarint), uint64(uint32(v.Bits)))
	case InLong:
		return binary.AppendUvarint(appendTag(b, f.first+1, wireVarint), v.Bits)
	case InFloat:
		return binary.LittleEndian.AppendUint32(appendTag(b, f.first+2, wire32), uint32(v.Bits))
	case InDouble:
		return binary.LittleEndian.AppendUint64(appendTag(b, f.first+3, wire64), v.Bits)
	case InBoolean:
		return binary.AppendUvarint(appendTag(b, f.first+4, wireVarint), v.Bits)
	case InString:
		return appendItem(b, f.first+5, v.Bytes)
	case InBytes:
		return appendItem(b, f.bytes, v.Bytes)
	case InExtension:
		return appendItem(b, f.extension, v.Bytes)
	case InNone, InDataSet, InTemplate, InSet, InSetList:
	}
	return b
}

func appendMeta(b []byte, m *Meta) []byte {
	b = appendFlag(b, 1, m.MultiPart)
	b = appendText(b, 2, m.ContentType)
	b = appendNumber(b, 3, m.Size)
	b = appendNumber(b, 4, m.Seq)
	b = appendText(b, 5, m.FileName)
	b = appendText(b, 6, m.FileType)
	b = appendText(b, 7, m.MD5)
	return appendText(b, 8, m.Comment)
}

func appendSet(b []byte, s *PropertySet) []byte {
	for _, k := range s.Keys {
		b = appendItem(b, 1, k)
	}
	for i := range s.Values {
		b = appendMessage(b, 2, func(b []byte) []byte { return appendProperty(b, &s.Values[i]) })
	}
	return b
}

func appendProperty(b []byte, p *Property) []byte {
	b = appendNumber(b, 1, uint64(p.Type))
	b = appendFlag(b, 2, p.Null)
	switch {
	case p.Value.Kind == InSet && p.Set != nil:
		return appendMessage(b, 9, func(b []byte) []byte { return appendSet(b, p.Set) })
	case p.Value.Kind == InSetList:
		return appendMessage(b, 10, func(b []byte) []byte {
			for i := range p.List {
				b = appendMessage(b, 1, func(b []byte) []byte { return appendSet(b, &p.List[i]) })
			}
			return b
		})
	}
	return appendValue(b, p.Value, propertyFields())
}

func appendTable(b []byte, t *DataSet) []byte {
	b = appendNumber(b, 1, t.Width)
	for _, c := range t.Columns {
		b = appendItem(b, 2, c)
	}
	for _, x := range t.Types {
		b = binary.AppendUvarint(appendTag(b, 3, wireVarint), uint64(x))
	}
	for i := range t.Rows {
		b = appendMessage(b, 4, func(b []byte) []byte {
			for _, v := range t.Rows[i].Cells {
				b = appendMessage(b, 1, func(b []byte) []byte { return appendValue(b, v, cellFields()) })
			}
			return b
		})
	}
	return b
}

func appendTemplate(b []byte, t *Template) []byte {
	b = appendText(b, 1, t.Version)
	for i := range t.Metrics {
		b = appendMessage(b, 2, func(b []byte) []byte { return appendMetric(b, &t.Metrics[i]) })
	}
	for i := range t.Parameters {
		p := &t.Parameters[i]
		b = appendMessage(b, 3, func(b []byte) []byte {
			b = appendText(b, 1, p.Name)
			return appendValue(appendNumber(b, 2, uint64(p.Type)), p.Value, parameterFields())
		})
	}
	b = appendText(b, 4, t.Ref)
	return appendFlag(b, 5, t.Definition)
}
