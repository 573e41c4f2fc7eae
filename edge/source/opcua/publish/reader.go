package publish

import (
	"encoding/binary"
	"fmt"
)

// reader reads from the front. 0 <= pos <= len(b) holds always, and after the
// first error pos is len(b): then every read fails, gives zero and takes nothing.
type reader struct {
	b   []byte
	pos int
	err error // the first
}

// fail notes the first error.
func (r *reader) fail(why error) {
	if r.err == nil {
		r.err = fmt.Errorf("%w at byte %d", why, r.pos)
	}
	r.pos = len(r.b)
}

// stop notes an error that names its place already.
func (r *reader) stop(err error) {
	if r.err == nil {
		r.err = err
	}
	r.pos = len(r.b)
}

// in says of an error what was being read.
func (r *reader) in(what string) {
	if r.err != nil {
		r.err = fmt.Errorf("%s: %w", what, r.err)
	}
}

// at says of the error which one was being read, counted from 0.
func (r *reader) at(what string, i int) {
	r.err = fmt.Errorf("%s %d: %w", what, i, r.err)
}

// left are the bytes not yet read.
func (r *reader) left() int { return len(r.b) - r.pos }

// take are the next n bytes, never nil unless it fails.
func (r *reader) take(n int) []byte {
	if n < 0 || n > r.left() {
		r.fail(ErrShort)
		return nil
	}
	from := r.pos
	r.pos += n
	return r.b[from:r.pos:r.pos]
}

// since is what was read from a place on.
func (r *reader) since(from int) []byte {
	if r.err != nil {
		return nil
	}
	return r.b[from:r.pos:r.pos]
}

func (r *reader) u8() byte {
	if r.left() < 1 {
		r.fail(ErrShort)
		return 0
	}
	v := r.b[r.pos]
	r.pos++
	return v
}

func (r *reader) u16() uint16 {
	if r.left() < 2 {
		r.fail(ErrShort)
		return 0
	}
	v := binary.LittleEndian.Uint16(r.b[r.pos:])
	r.pos += 2
	return v
}

func (r *reader) u32() uint32 {
	if r.left() < 4 {
		r.fail(ErrShort)
		return 0
	}
	v := binary.LittleEndian.Uint32(r.b[r.pos:])
	r.pos += 4
	return v
}

func (r *reader) u64() uint64 {
	if r.left() < 8 {
		r.fail(ErrShort)
		return 0
	}
	v := binary.LittleEndian.Uint64(r.b[r.pos:])
	r.pos += 8
	return v
}

// count reads how many elements an array has, of which each takes at least so
// many bytes (OPC 10000-6, 5.2.5). -1 is a null array: none.
func (r *reader) count(least int) int {
	n := int(int32(r.u32()))
	switch {
	case n == -1:
		return 0
	case n < 0 || n > r.left()/least:
		r.fail(ErrCount)
		return 0
	}
	return n
}

// text reads String, ByteString or XmlElement (OPC 10000-6, 5.2.2.4, 5.2.2.7
// and 5.2.2.8): a length and so many bytes. -1 is null: nil.
func (r *reader) text() []byte {
	n := int(int32(r.u32()))
	switch {
	case r.err != nil || n == -1:
		return nil
	case n < 0:
		r.fail(ErrCount)
		return nil
	}
	return r.take(n)
}

// numbers reads an array of UInt32 or StatusCode into out, which is used again.
func (r *reader) numbers(out []uint32) []uint32 {
	n := r.count(leastNumber)
	if n > maxNumbers {
		r.fail(ErrCount)
		return out
	}
	for range n {
		out = append(out, r.u32())
	}
	return out
}

// Forms of a NodeId, in the low bits of its first byte, and what an ExpandedNodeId
// has behind it (OPC 10000-6, 5.2.2.9 and 5.2.2.10).
const (
	formBits   = 0x0f
	formTwo    = 0 // namespace 0, identifier of 1 byte
	formFour   = 1 // namespace of 1 byte, identifier of 2
	formNumber = 2 // namespace of 2 bytes, identifier of 4
	formString = 3
	formGUID   = 4
	formOpaque = 5
	hasIndex   = 0x40 // of the server
	hasURI     = 0x80 // of the namespace
)

// nodeID reads a NodeId and its form byte. id is its identifier where it is a
// number of namespace 0, and 0 else: i=0 names nothing.
func (r *reader) nodeID() (id uint32, form byte) {
	var space uint16
	form = r.u8()
	switch form & formBits {
	case formTwo:
		id = uint32(r.u8())
	case formFour:
		space = uint16(r.u8())
		id = uint32(r.u16())
	case formNumber:
		space = r.u16()
		id = r.u32()
	case formString, formOpaque:
		r.take(2)
		r.text()
	case formGUID:
		r.take(2 + 16)
	default:
		r.fail(ErrKind)
	}
	if space != 0 {
		id = 0
	}
	return id, form
}

// expandedNodeID reads an ExpandedNodeId. Its namespace URI and server are read
// over: the index counts.
func (r *reader) expandedNodeID() (id uint32) {
	id, form := r.nodeID()
	if form&hasURI != 0 {
		r.text()
	}
	if form&hasIndex != 0 {
		r.take(4)
	}
	return id
}

// Encodings of an ExtensionObject's body (OPC 10000-6, 5.2.2.15).
const (
	bodyNone = 0
	bodyXML  = 2
)

// extension reads an ExtensionObject. id is its type where it has a binary body
// and the type is a number of namespace 0, and 0 else.
func (r *reader) extension() (id uint32, body reader) {
	id = r.expandedNodeID()
	encoding := r.u8()
	if encoding == bodyNone {
		return 0, reader{}
	}
	size := len(r.text())
	if size == 0 || encoding == bodyXML {
		return 0, reader{}
	}
	// The body ends where it says, but places in it count from the message's beginning.
	return id, reader{b: r.b[:r.pos], pos: r.pos - size}
}

// skipExtension reads over an ExtensionObject, by the length it gives.
func (r *reader) skipExtension() {
	r.expandedNodeID()
	if r.u8() != bodyNone {
		r.text()
	}
}

// What a DiagnosticInfo has (OPC 10000-6, 5.2.2.12).
const (
	hasNumbers    = 0x0f // one Int32 for each: symbolic id, namespace, localized text, locale
	hasInfo       = 0x10 // a String
	hasInnerCode  = 0x20 // a StatusCode
	hasDiagnostic = 0x40 // one more DiagnosticInfo, which comes last
)

// skipDiagnostic reads over a DiagnosticInfo and those in it.
func (r *reader) skipDiagnostic(depth int) {
	for ; ; depth++ {
		if depth > maxDepth {
			r.fail(ErrDeep)
			return
		}
		mask := r.u8()
		for bits := mask & hasNumbers; bits != 0; bits &= bits - 1 {
			r.take(4)
		}
		if mask&hasInfo != 0 {
			r.text()
		}
		if mask&hasInnerCode != 0 {
			r.take(4)
		}
		if mask&hasDiagnostic == 0 {
			return
		}
	}
}

// diagnostics reads over an array of DiagnosticInfo.
func (r *reader) diagnostics() {
	for range r.count(leastDiagnostic) {
		if r.err != nil {
			return
		}
		r.skipDiagnostic(1)
	}
}
