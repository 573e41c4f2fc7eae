package payload

import (
	"encoding/binary"
	"fmt"
)

// Wire types of protobuf. 3 and 4 are groups, which Sparkplug has none of.
const (
	wireVarint = 0
	wire64     = 1
	wireBytes  = 2
	wire32     = 5
)

// reader reads the fields of one message. After an error it has no more of them.
type reader struct {
	b    []byte
	num  uint64 // of the field at hand
	wire byte
	err  error
}

func (r *reader) fail(err error) {
	if r.err == nil {
		r.err = err
	}
	r.b = nil
}

// next goes to the next field.
func (r *reader) next() bool {
	if len(r.b) == 0 {
		return false
	}
	tag := r.uvarint()
	r.num, r.wire = tag>>3, byte(tag&7)
	if r.err == nil && (r.num == 0 || tag > 1<<32-1) {
		r.fail(fmt.Errorf("%w: field number %d", ErrForm, r.num))
	}
	return r.err == nil
}

func (r *reader) uvarint() uint64 {
	v, n := binary.Uvarint(r.b)
	switch {
	case n > 0:
		r.b = r.b[n:]
		return v
	case n == 0:
		r.fail(ErrShort)
	default:
		r.fail(fmt.Errorf("%w: a number of more than 64 bits", ErrForm))
	}
	return 0
}

// want fails where the field at hand has another wire type.
func (r *reader) want(wire byte) bool {
	if r.wire != wire {
		r.fail(fmt.Errorf("%w: field %d has wire type %d, not %d", ErrForm, r.num, r.wire, wire))
	}
	return r.err == nil
}

func (r *reader) take(n uint64) (b []byte) {
	if n > uint64(len(r.b)) {
		r.fail(ErrShort)
		return nil
	}
	b, r.b = r.b[:n:n], r.b[n:]
	return b
}

func (r *reader) varint() uint64 {
	if !r.want(wireVarint) {
		return 0
	}
	return r.uvarint()
}

func (r *reader) boolean() bool { return r.varint() != 0 }

func (r *reader) fixed32() uint64 {
	if r.want(wire32) {
		if b := r.take(4); b != nil {
			return uint64(binary.LittleEndian.Uint32(b))
		}
	}
	return 0
}

func (r *reader) fixed64() uint64 {
	if r.want(wire64) {
		if b := r.take(8); b != nil {
			return binary.LittleEndian.Uint64(b)
		}
	}
	return 0
}

func (r *reader) bytes() []byte {
	if !r.want(wireBytes) {
		return nil
	}
	return r.take(r.uvarint())
}

// text is bytes of a name.
func (r *reader) text() []byte {
	b := r.bytes()
	if len(b) > MaxText {
		r.fail(fmt.Errorf("%w: a name of %d bytes, at most %d are taken", ErrLimit, len(b), MaxText))
	}
	return b
}

// skip goes over a field that is not known.
func (r *reader) skip() {
	switch r.wire {
	case wireVarint:
		r.uvarint()
	case wire64:
		r.take(8)
	case wireBytes:
		r.take(r.uvarint())
	case wire32:
		r.take(4)
	default:
		r.fail(fmt.Errorf("%w: field %d has wire type %d", ErrForm, r.num, r.wire))
	}
}
