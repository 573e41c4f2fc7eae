package datatype

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strconv"

	"github.com/gopcua/opcua/ua"

	"plantmesh/edge/source/opcua/publish"
)

// reader reads from the front. After the first error it has nothing left: every
// read fails, gives zero and takes nothing.
type reader struct {
	b   []byte
	pos int
	err error // the first
}

func (r *reader) fail(why error) {
	if r.err == nil {
		r.err = why
	}
	r.pos = len(r.b)
}

func (r *reader) left() int { return len(r.b) - r.pos }

// take are the next n bytes, nil where it fails.
func (r *reader) take(n int) []byte {
	if n < 0 || n > r.left() {
		r.fail(publish.ErrShort)
		return nil
	}
	from := r.pos
	r.pos += n
	return r.b[from:r.pos:r.pos]
}

func (r *reader) u8() byte {
	if b := r.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (r *reader) u16() uint16 {
	if b := r.take(2); b != nil {
		return binary.LittleEndian.Uint16(b)
	}
	return 0
}

func (r *reader) u32() uint32 {
	if b := r.take(4); b != nil {
		return binary.LittleEndian.Uint32(b)
	}
	return 0
}

func (r *reader) u64() uint64 {
	if b := r.take(8); b != nil {
		return binary.LittleEndian.Uint64(b)
	}
	return 0
}

// count is a length (OPC 10000-6 §5.2.5); -1, a null array, is 0.
func (r *reader) count() int {
	n := int(int32(r.u32()))
	if n < -1 {
		r.fail(publish.ErrCount)
	}
	if r.err != nil {
		return 0
	}
	return max(n, 0)
}

// text is a String, ByteString or XmlElement (OPC 10000-6 §5.2.2.4).
func (r *reader) text() []byte { return r.take(r.count()) }

// key is a node id, to be looked up and compared.
type key struct {
	space  uint16
	form   byte // as in the encoding; numbers all have the same
	number uint32
	text   string
	uri    string // of the namespace, where that has no index here
	server uint32
}

// Forms of a NodeId, in its first byte (OPC 10000-6 §5.2.2.9).
const (
	formBits   = 0x0f
	formTwo    = 0
	formFour   = 1
	formNumber = 2
	formString = 3
	formGUID   = 4
	formOpaque = 5
	hasServer  = 0x40 // of an ExpandedNodeId (§5.2.2.10)
	hasURI     = 0x80
)

// nodeID reads a NodeId or an ExpandedNodeId. Of a number no memory is taken.
func (r *reader) nodeID() (k key) {
	mask := r.u8()
	k.form = mask & formBits
	switch k.form {
	case formTwo:
		k.form, k.number = formNumber, uint32(r.u8())
	case formFour:
		k.form, k.space, k.number = formNumber, uint16(r.u8()), uint32(r.u16())
	case formNumber:
		k.space, k.number = r.u16(), r.u32()
	case formString, formOpaque:
		k.space, k.text = r.u16(), string(r.text())
	case formGUID:
		k.space, k.text = r.u16(), string(r.take(16))
	default:
		r.fail(publish.ErrKind)
	}
	if mask&hasURI != 0 {
		k.uri = string(r.text())
	}
	if mask&hasServer != 0 {
		k.server = r.u32()
	}
	return k
}

// keyOf is the key of a node id; nil is that of i=0, which is none.
func keyOf(id *ua.NodeID) key {
	if id == nil {
		return key{form: formNumber}
	}
	b, err := id.Encode()
	if err != nil {
		return key{form: formNumber}
	}
	r := reader{b: b}
	return r.nodeID()
}

func (k key) none() bool { return k == key{form: formNumber} }

// String is the node id as people write it (OPC 10000-6 §5.3.1.10).
func (k key) String() string {
	var id string
	switch k.form {
	case formString:
		id = "s=" + k.text
	case formGUID:
		id = "g=" + guidText([]byte(k.text))
	case formOpaque:
		id = "b=" + base64.StdEncoding.EncodeToString([]byte(k.text))
	default:
		id = "i=" + strconv.FormatUint(uint64(k.number), 10)
	}
	switch {
	case k.uri != "":
		id = "nsu=" + k.uri + ";" + id
	case k.space != 0:
		id = "ns=" + strconv.Itoa(int(k.space)) + ";" + id
	}
	if k.server != 0 {
		id = "svr=" + strconv.FormatUint(uint64(k.server), 10) + ";" + id
	}
	return id
}

// guidText is a Guid (OPC 10000-6 §5.1.3, §5.2.2.6).
func guidText(b []byte) string {
	if len(b) != 16 {
		return ""
	}
	return fmt.Sprintf("%08X-%04X-%04X-%s-%s", binary.LittleEndian.Uint32(b), binary.LittleEndian.Uint16(b[4:]), binary.LittleEndian.Uint16(b[6:]),
		upper(b[8:10]), upper(b[10:16]))
}

func upper(b []byte) string {
	out := []byte(hex.EncodeToString(b))
	for i, c := range out {
		if c >= 'a' {
			out[i] = c - 'a' + 'A'
		}
	}
	return string(out)
}
