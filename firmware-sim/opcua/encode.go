package opcua

import (
	"encoding/binary"
	"math"
	"strings"
	"time"

	"github.com/gopcua/opcua/ua"

	"plantmesh/firmware-sim/plant"
)

const (
	// overflow marks a value before which others were lost: InfoType DataValue
	// and Overflow (OPC 10000-4 §7.39.1).
	overflow = 0x480
	// epoch1601 is 1970-01-01 in ticks of 100 ns since 1601-01-01 (OPC 10000-6
	// §5.2.2.5).
	epoch1601 = 116_444_736_000_000_000
)

// changes is an encoded DataChangeNotification (OPC 10000-4 §7.25.2). The
// library's reflection costs 20 times as much, and what waits for its
// acknowledgement is small this way.
type changes struct {
	count int
	b     []byte // of the list's elements
}

// Encode implements ua.BinaryEncoder.
func (c *changes) Encode() ([]byte, error) {
	out := make([]byte, 0, len(c.b)+8)
	out = binary.LittleEndian.AppendUint32(out, uint32(c.count))
	out = append(out, c.b...)
	return binary.LittleEndian.AppendUint32(out, 0), nil // no diagnostic infos
}

func (c *changes) add(n *note) {
	h := n.held
	if h.fixed != nil {
		c.addFixed(n)
		return
	}
	status, mask := h.status, byte(ua.DataValueSourceTimestamp)
	if n.over {
		status |= overflow
	}
	if h.value.Type != plant.None {
		mask |= ua.DataValueValue
	}
	if status != 0 {
		mask |= ua.DataValueStatusCode
	}
	if n.item.server {
		mask |= ua.DataValueServerTimestamp
	}
	b := binary.LittleEndian.AppendUint32(c.b, n.item.handle)
	b = append(b, mask)
	b = appendValue(b, h)
	if status != 0 {
		b = binary.LittleEndian.AppendUint32(b, status)
	}
	b = binary.LittleEndian.AppendUint64(b, uint64(h.at/100+epoch1601))
	if n.item.server {
		b = binary.LittleEndian.AppendUint64(b, uint64(h.emitted/100+epoch1601))
	}
	c.b = b
	c.count++
}

// addFixed adds a value of a node that is no signal; there are few of them.
func (c *changes) addFixed(n *note) {
	v := *n.held.fixed
	if n.over {
		v.EncodingMask, v.Status = v.EncodingMask|ua.DataValueStatusCode, v.Status|overflow
	}
	if !n.item.server {
		v.EncodingMask &^= ua.DataValueServerTimestamp
	}
	b, err := v.Encode()
	if err != nil { // a value that the library gave and can't write
		b = binary.LittleEndian.AppendUint32([]byte{ua.DataValueStatusCode}, uint32(ua.StatusBadEncodingError))
	}
	c.b = append(binary.LittleEndian.AppendUint32(c.b, n.item.handle), b...)
	c.count++
}

// appendValue appends the variant of a value (OPC 10000-6 §5.2.2.16).
func appendValue(b []byte, h *held) []byte {
	v := h.value
	switch v.Type {
	case plant.None:
	case plant.Bool:
		b = append(b, byte(ua.TypeIDBoolean), 0)
		if v.B {
			b[len(b)-1] = 1
		}
	case plant.Int:
		if wide(h.node.signal) {
			b = append(b, byte(ua.TypeIDInt64))
			b = binary.LittleEndian.AppendUint64(b, uint64(v.I))
		} else {
			b = append(b, byte(ua.TypeIDInt32))
			b = binary.LittleEndian.AppendUint32(b, uint32(int32(v.I)))
		}
	case plant.Double:
		b = append(b, byte(ua.TypeIDDouble))
		b = binary.LittleEndian.AppendUint64(b, math.Float64bits(v.F))
	case plant.String:
		b = append(b, byte(ua.TypeIDString))
		b = binary.LittleEndian.AppendUint32(b, uint32(len(v.S)))
		b = append(b, v.S...)
	}
	return b
}

// wide says whether an integer signal is an Int64. PackML's own are Int32.
func wide(sig plant.Signal) bool {
	switch role(sig.Name) {
	case "state", "mode", "produced", "scrap", "stop_reason":
		return false
	}
	return true
}

// role is what a signal says of its machine: the last part of its name.
func role(name string) string { return name[strings.LastIndexByte(name, '.')+1:] }

// dataValue is h as Read and HistoryRead give it.
func (h *held) dataValue() *ua.DataValue {
	v := &ua.DataValue{
		EncodingMask:    ua.DataValueSourceTimestamp | ua.DataValueServerTimestamp,
		SourceTimestamp: time.Unix(0, h.at).UTC(),
		ServerTimestamp: time.Unix(0, h.emitted).UTC(),
		Status:          ua.StatusCode(h.status),
	}
	if h.status != 0 {
		v.EncodingMask |= ua.DataValueStatusCode
	}
	if h.value.Type != plant.None {
		v.Value = h.variant()
		v.EncodingMask |= ua.DataValueValue
	}
	return v
}

func (h *held) variant() *ua.Variant {
	v := h.value
	switch v.Type {
	case plant.None:
	case plant.Bool:
		return ua.MustVariant(v.B)
	case plant.Int:
		if wide(h.node.signal) {
			return ua.MustVariant(v.I)
		}
		return ua.MustVariant(int32(v.I))
	case plant.Double:
		return ua.MustVariant(v.F)
	case plant.String:
		return ua.MustVariant(v.S)
	}
	return nil
}
