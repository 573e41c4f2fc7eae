// Package wire turns the words of proto/mesh into bytes and back. A record is
// sealed once by whoever made it; at commit the envelope is put in front; from
// then on no byte is touched.
//
//	frame    'P' 'M' version kind  u32 length of the whole frame
//	record   epoch[16]  u64 sequence  u16 n  log[n]  sealed  u32 CRC32C of all before
//	descr.   u8 descriptor kind  content               u32 CRC32C of all before
//	verdict  sealed                                    u32 CRC32C of all before
//	sealed   u8 record kind  u32 n  header[n]  body    u32 CRC32C of all before
//
// All integers are little endian. Every limit is checked before memory is taken.
package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"plantmesh/proto/mesh"
)

// Version is the version byte of every frame.
const Version = 2

// Limits of what is read. A frame above MaxFrame is refused before it is
// buffered; a body above MaxRaw before it is decompressed.
const (
	MaxFrame   = 8 << 20  // one frame, and one message: the hub's NATS takes as much of an agent, and says so in receipts
	MaxRaw     = 32 << 20 // one body, decompressed
	MaxRatio   = 500      // decompressed to compressed, above it is a bomb
	MaxSamples = 1 << 17  // of one batch: 12 MiB of samples in memory
	MaxNeeds   = 64       // descriptors of one record
	MaxName    = 1 << 10  // a log, source, rule or signal name
	maxHeader  = 16 << 10
)

// Errors of reading. All are permanent: the same bytes fail again.
var (
	ErrShort    = errors.New("the bytes end too early")
	ErrMagic    = errors.New("not a frame of this mesh")
	ErrVersion  = errors.New("a version this program doesn't know")
	ErrChecksum = errors.New("the checksum is wrong: the bytes were damaged")
	ErrLimit    = errors.New("over a limit")
	ErrFormat   = errors.New("the bytes contradict themselves")
)

// FrameKind says what a frame holds.
type FrameKind byte

// Kinds of frame.
const (
	FrameRecord     FrameKind = 'R'
	FrameDescriptor FrameKind = 'D'
	FrameVerdict    FrameKind = 'V' // a first verdict, travelling with its batch; it has no position of its own
)

const (
	frameHead  = 8
	recordHead = frameHead + 16 + 8 + 2
	sealedHead = 5
	sumLen     = 4
)

func castagnoli(b []byte) uint32 { return crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)) }

// AppendRecord appends the frame of r to b.
func AppendRecord(b []byte, r mesh.Record) []byte {
	start := len(b)
	b = append(b, 'P', 'M', Version, byte(FrameRecord), 0, 0, 0, 0)
	b = append(b, r.At.Epoch[:]...)
	b = binary.LittleEndian.AppendUint64(b, r.At.Seq)
	b = binary.LittleEndian.AppendUint16(b, uint16(len(r.At.Log)))
	b = append(b, r.At.Log...)
	b = append(b, r.Sealed...)
	return finish(b, start)
}

// AppendDescriptor appends the frame of d to b.
func AppendDescriptor(b []byte, d mesh.Descriptor) []byte {
	start := len(b)
	b = append(b, 'P', 'M', Version, byte(FrameDescriptor), 0, 0, 0, 0, byte(d.Kind))
	b = append(b, d.Content...)
	return finish(b, start)
}

// AppendVerdict appends the frame of a sealed first verdict to b.
func AppendVerdict(b, sealed []byte) []byte {
	start := len(b)
	b = append(b, 'P', 'M', Version, byte(FrameVerdict), 0, 0, 0, 0)
	return finish(append(b, sealed...), start)
}

func finish(b []byte, start int) []byte {
	binary.LittleEndian.PutUint32(b[start+4:], uint32(len(b)-start+sumLen))
	return binary.LittleEndian.AppendUint32(b, castagnoli(b[start:]))
}

// Next splits the first frame off b and checks its checksum. frame and rest
// alias b.
func Next(b []byte) (kind FrameKind, frame, rest []byte, err error) {
	if len(b) < frameHead+sumLen {
		return 0, nil, nil, ErrShort
	}
	if b[0] != 'P' || b[1] != 'M' {
		return 0, nil, nil, ErrMagic
	}
	if b[2] != Version {
		return 0, nil, nil, fmt.Errorf("%w: %d", ErrVersion, b[2])
	}
	n := binary.LittleEndian.Uint32(b[4:])
	switch {
	case n > MaxFrame:
		return 0, nil, nil, fmt.Errorf("%w: frame of %d bytes, at most %d", ErrLimit, n, MaxFrame)
	case n < frameHead+sumLen:
		return 0, nil, nil, ErrFormat
	case uint64(n) > uint64(len(b)):
		return 0, nil, nil, ErrShort
	}
	frame, rest = b[:n:n], b[n:]
	if castagnoli(frame[:n-sumLen]) != binary.LittleEndian.Uint32(frame[n-sumLen:]) {
		return 0, nil, nil, ErrChecksum
	}
	return FrameKind(b[3]), frame, rest, nil
}

// ParseRecord reads a frame of kind FrameRecord that Next has checked. The
// record's bytes alias the frame.
func ParseRecord(frame []byte) (r mesh.Record, err error) {
	if len(frame) < recordHead+sumLen {
		return r, ErrShort
	}
	copy(r.At.Epoch[:], frame[frameHead:])
	r.At.Seq = binary.LittleEndian.Uint64(frame[frameHead+16:])
	n := int(binary.LittleEndian.Uint16(frame[frameHead+24:]))
	if n > MaxName {
		return r, ErrLimit
	}
	if len(frame) < recordHead+n+sumLen {
		return r, ErrShort
	}
	r.At.Log = mesh.LogID(frame[recordHead : recordHead+n])
	r.Sealed = frame[recordHead+n : len(frame)-sumLen]
	return r, nil
}

// ParseDescriptor reads a frame of kind FrameDescriptor that Next has checked.
// The content aliases the frame.
func ParseDescriptor(frame []byte) (d mesh.Descriptor, err error) {
	if len(frame) < frameHead+1+sumLen {
		return d, ErrShort
	}
	return mesh.Descriptor{Kind: mesh.DescriptorKind(frame[frameHead]), Content: frame[frameHead+1 : len(frame)-sumLen]}, nil
}

// ParseVerdict reads a frame of kind FrameVerdict that Next has checked.
func ParseVerdict(frame []byte) (mesh.Verdict, error) {
	if len(frame) < frameHead+sumLen {
		return mesh.Verdict{}, ErrShort
	}
	return OpenVerdict(frame[frameHead : len(frame)-sumLen])
}

// packed is a body as it stands in the sealed bytes: a part that may be
// compressed, and bits that hold no more to compress.
type packed struct {
	packing byte
	rawLen  int // of plain, before it was compressed
	plain   []byte
	bits    []byte
}

// seal puts kind, header and body together and sums them.
func seal(h mesh.Header, p packed) []byte {
	var room [512]byte
	head := appendHeader(room[:0], h, p)
	b := make([]byte, 0, sealedHead+len(head)+len(p.plain)+len(p.bits)+sumLen)
	b = append(b, byte(h.Kind))
	b = binary.LittleEndian.AppendUint32(b, uint32(len(head)))
	b = append(b, head...)
	b = append(b, p.plain...)
	b = append(b, p.bits...)
	return binary.LittleEndian.AppendUint32(b, castagnoli(b))
}

// ParseHeader reads the header of sealed bytes and checks their checksum. The
// body stays packed.
func ParseHeader(sealed []byte) (mesh.Header, error) {
	h, _, err := open(sealed)
	return h, err
}

func open(sealed []byte) (h mesh.Header, p packed, err error) {
	if len(sealed) < sealedHead+sumLen {
		return h, p, ErrShort
	}
	n := int(binary.LittleEndian.Uint32(sealed[1:]))
	if n > maxHeader {
		return h, p, ErrLimit
	}
	if len(sealed) < sealedHead+n+sumLen {
		return h, p, ErrShort
	}
	end := len(sealed) - sumLen
	if castagnoli(sealed[:end]) != binary.LittleEndian.Uint32(sealed[end:]) {
		return h, p, ErrChecksum
	}
	h, p, plain, err := parseHeader(sealed[sealedHead : sealedHead+n])
	h.Kind = mesh.Kind(sealed[0])
	body := sealed[sealedHead+n : end : end]
	if err == nil && plain > len(body) {
		err = ErrShort
	}
	if err == nil {
		p.plain, p.bits = body[:plain:plain], body[plain:]
	}
	return h, p, err
}

// appendHeader writes instants as distances from the first of them: they lie
// near each other.
func appendHeader(b []byte, h mesh.Header, p packed) []byte {
	b = append(b, p.packing)
	b = binary.AppendUvarint(b, uint64(p.rawLen))
	b = binary.AppendUvarint(b, uint64(len(p.plain)))
	b = appendText(b, h.About)
	last := mesh.Nanos(0)
	for _, t := range []mesh.Nanos{h.Proven.From, h.Proven.To, h.Complete, h.Times.From, h.Times.To} {
		b = binary.AppendVarint(b, int64(t-last))
		last = t
	}
	b = binary.AppendUvarint(b, uint64(h.Count))
	b = binary.AppendUvarint(b, uint64(len(h.Needs)))
	for _, n := range h.Needs {
		b = append(b, n[:]...)
	}
	return b
}

// parseHeader reads what appendHeader wrote; plain is the length of the body's
// first part.
func parseHeader(b []byte) (h mesh.Header, p packed, plain int, err error) {
	r := reader{b: b}
	p.packing = r.byte()
	p.rawLen = r.count(MaxRaw)
	plain = r.count(MaxFrame)
	h.About = r.text(MaxName)
	last := mesh.Nanos(0)
	for _, t := range []*mesh.Nanos{&h.Proven.From, &h.Proven.To, &h.Complete, &h.Times.From, &h.Times.To} {
		last += mesh.Nanos(r.varint())
		*t = last
	}
	h.Count = uint32(r.count(1<<32 - 1))
	n := r.count(MaxNeeds)
	for range n {
		var hash mesh.Hash
		copy(hash[:], r.take(len(hash)))
		h.Needs = append(h.Needs, hash)
	}
	if r.err == nil && len(r.b) != 0 {
		r.err = ErrFormat
	}
	return h, p, plain, r.err
}

func appendText(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// reader takes values off bytes; after the first error it gives zeros.
type reader struct {
	b   []byte
	err error
}

func (r *reader) fail(err error) {
	if r.err == nil {
		r.err = err
	}
	r.b = nil
}

func (r *reader) take(n int) []byte {
	if n < 0 || n > len(r.b) {
		r.fail(ErrShort)
		return nil
	}
	out := r.b[:n:n]
	r.b = r.b[n:]
	return out
}

func (r *reader) byte() byte {
	if b := r.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (r *reader) uvarint() uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 {
		r.fail(ErrShort)
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *reader) varint() int64 {
	v, n := binary.Varint(r.b)
	if n <= 0 {
		r.fail(ErrShort)
		return 0
	}
	r.b = r.b[n:]
	return v
}

// count is an unsigned number of at most limit.
func (r *reader) count(limit uint64) int {
	v := r.uvarint()
	if v > limit {
		r.fail(ErrLimit)
		return 0
	}
	return int(v)
}

func (r *reader) text(limit uint64) string { return string(r.take(r.count(limit))) }
