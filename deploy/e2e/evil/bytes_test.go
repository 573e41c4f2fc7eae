package evil

import (
	"bytes"
	"encoding/binary"
	"time"

	"github.com/gopcua/opcua/id"
	"github.com/gopcua/opcua/ua"
)

func u32(b []byte, n uint32) []byte { return binary.LittleEndian.AppendUint32(b, n) }
func u64(b []byte, n uint64) []byte { return binary.LittleEndian.AppendUint64(b, n) }

func text(b []byte, s string) []byte { return append(u32(b, uint32(len(s))), s...) }

// numbers is a message of so many numbers.
func numbers(kind string, all ...uint32) []byte {
	b := append([]byte(kind), 0, 0, 0, 0)
	for _, n := range all {
		b = u32(b, n)
	}
	binary.LittleEndian.PutUint32(b[4:], uint32(len(b)))
	return b
}

func chunk(kind string, channel uint32, security []byte, seq, req uint32, body []byte) []byte {
	b := append([]byte(kind), 0, 0, 0, 0)
	b = append(u32(b, channel), security...)
	b = append(u32(u32(b, seq), req), body...)
	binary.LittleEndian.PutUint32(b[4:], uint32(len(b)))
	return b
}

// refusal is an ERR message.
func refusal(code uint32, why string) []byte {
	b := text(u32(append([]byte("ERRF"), 0, 0, 0, 0), code), why)
	binary.LittleEndian.PutUint32(b[4:], uint32(len(b)))
	return b
}

func header(code ua.StatusCode) *ua.ResponseHeader {
	return &ua.ResponseHeader{Timestamp: time.Now(), ServiceResult: code, ServiceDiagnostics: &ua.DiagnosticInfo{}, AdditionalHeader: ua.NewExtensionObject(nil)}
}

func fault(code ua.StatusCode) ua.Response { return &ua.ServiceFault{ResponseHeader: header(code)} }

func encoded(r ua.Response) []byte {
	b, err := ua.Encode(r)
	if err != nil {
		panic(err)
	}
	kind := ua.ServiceTypeID(r)
	return append([]byte{1, 0, byte(kind), byte(kind >> 8)}, b...)
}

// begin is a type id and a good ResponseHeader.
func begin(kind uint16) []byte {
	b := append([]byte{1, 0, byte(kind), byte(kind >> 8)}, make([]byte, 8+4+4)...)
	return append(b, 0, 0, 0, 0, 0, 0, 0, 0)
}

// readings is a ReadResponse of n results, whose bytes are these.
func readings(n uint32, results []byte) []byte {
	return append(append(u32(begin(id.ReadResponse_Encoding_DefaultBinary), n), results...), 0xff, 0xff, 0xff, 0xff)
}

// value is a DataValue with nothing but a variant.
func value(v ...byte) []byte { return append([]byte{1}, v...) }

func variant(t ua.TypeID, b ...byte) []byte { return value(append([]byte{byte(t)}, b...)...) }

// published is a PublishResponse; data is the count of notifications, and those.
func published(subscription, seq uint32, at time.Time, data []byte) []byte {
	b := begin(id.PublishResponse_Encoding_DefaultBinary)
	b = u32(u32(b, subscription), 0)
	b = u32(append(b, 0), seq)
	b = u64(b, ticks(at))
	b = append(b, data...)
	return append(b, 0, 0, 0, 0, 0, 0, 0, 0)
}

// ticks is an instant as OPC UA counts it.
func ticks(t time.Time) uint64 {
	if t.IsZero() {
		return 0
	}
	return uint64(t.UnixNano()/100) + 116_444_736_000_000_000
}

// deep is so many bytes of a piece, and then an end.
func deep(n int, piece []byte, end ...byte) []byte {
	return append(bytes.Repeat(piece, n/len(piece)), end...)
}

// filters are extension objects in each other.
func filters(n int) []byte {
	b := []byte{0, 0, 0}
	for range n {
		body := append(u32([]byte{0, 0, 0, 0}, 1), b...)
		const element = id.ContentFilterElement_Encoding_DefaultBinary
		b = append(u32([]byte{1, 0, element & 0xff, element >> 8, 1}, uint32(len(body))), body...)
	}
	return b
}
