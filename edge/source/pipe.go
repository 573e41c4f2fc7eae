package source

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"plantmesh/proto/mesh"
)

// Between the agent and a worker runs a pipe in each direction, of frames:
//
//	u32 length of kind and payload   u8 kind   payload   u32 CRC32C of kind and payload
//
// All integers are little endian. Both ends come from the same program file,
// so the first frame carries a version only to catch a worker left over from
// another one.

// pipeVersion stands in the start frame.
const pipeVersion = 5

// Credit is how many offers a worker may have on their way that are not yet
// durable. It bounds the memory of both ends; four hide the latency of a sync.
const Credit = 4

const (
	// maxOfferFrame bounds what a worker may make its agent hold: a commit
	// window is half a mebibyte, one OPC UA message some more.
	maxOfferFrame = 64 << 20
	// maxStartFrame bounds what an agent gives a worker: a configuration of at
	// most 4 MiB, a reader's state and what it keeps beside it. A source whose start
	// does not fit could never begin again, so readers keep much less than this.
	maxStartFrame = 256 << 20
	maxTold       = 1 << 10 // bytes of one word for the status page
	maxFatal      = 4 << 10 // of why a reader ended
	maxPieces     = 1 << 16 // records, descriptors or parts of the state of one offer
	maxKept       = 1 << 20 // parts of the state that a worker begins with
)

// Kinds of frame.
const (
	frameStart     byte = 'S' // agent to worker: version, resume state, configuration
	frameCommitted byte = 'C' // agent to worker: how many offers are durable
	frameListen    byte = 'L' // agent to worker: who listens to raw values
	frameRaw       byte = 'R' // worker to agent: raw values, while somebody listens
	frameOffer     byte = 'O' // worker to agent: one commit
	frameAlive     byte = 'A' // worker to agent: still running
	frameTell      byte = 'T' // worker to agent: what the reader says about itself
	frameFatal     byte = 'F' // worker to agent: the reader ended, and why
)

// errPipe marks frames that make no sense: the other end is broken.
var errPipe = errors.New("the pipe between agent and worker is broken")

func writeFrame(w io.Writer, kind byte, payload []byte) error {
	b := append(beginFrame(make([]byte, 0, 4+1+len(payload)+4), kind), payload...)
	return endFrame(w, b)
}

// beginFrame begins a frame in room that is empty; the payload is to be appended.
func beginFrame(room []byte, kind byte) []byte { return append(room, 0, 0, 0, 0, kind) }

// endFrame writes a frame with its payload.
func endFrame(w io.Writer, b []byte) error {
	kind := b[4]
	binary.LittleEndian.PutUint32(b, uint32(len(b)-4))
	b = binary.LittleEndian.AppendUint32(b, checksum(b[4:]))
	if _, err := w.Write(b); err != nil {
		return fmt.Errorf("write frame %q: %w", kind, err)
	}
	return nil
}

// readFrame reads one frame of at most limit bytes. The payload is the caller's.
func readFrame(r io.Reader, limit uint32) (kind byte, payload []byte, err error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, nil, err // io.EOF between frames is the normal end
	}
	n := binary.LittleEndian.Uint32(head[:])
	if n == 0 || n > limit {
		return 0, nil, fmt.Errorf("%w: a frame of %d bytes, at most %d are taken", errPipe, n, limit)
	}
	b := make([]byte, n+4)
	if _, err := io.ReadFull(r, b); err != nil {
		return 0, nil, fmt.Errorf("%w: a frame ends early: %w", errPipe, err)
	}
	if checksum(b[:n]) != binary.LittleEndian.Uint32(b[n:]) {
		return 0, nil, fmt.Errorf("%w: the checksum of a frame is wrong", errPipe)
	}
	return b[0], b[1:n:n], nil
}

func checksum(b []byte) uint32 { return crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)) }

// start is what a worker begins with.
type start struct {
	resume  []byte // nil: nothing was ever committed
	kept    map[string][]byte
	doubted bool // see Doubter
	config  []byte
}

func (s start) encode() []byte {
	b := []byte{pipeVersion}
	b = appendOptional(b, s.resume)
	doubted := byte(0)
	if s.doubted {
		doubted = 1
	}
	b = appendBytes(append(b, doubted), s.config)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(s.kept)))
	for name, kept := range s.kept {
		b = appendBytes(appendBytes(b, []byte(name)), kept)
	}
	return b
}

func decodeStart(payload []byte) (start, error) {
	p := pieces{b: payload}
	if v := p.byte(); v != pipeVersion {
		return start{}, fmt.Errorf("%w: version %d, this program speaks %d", errPipe, v, pipeVersion)
	}
	s := start{resume: p.optional(), doubted: p.byte() == 1, config: p.bytes(), kept: map[string][]byte{}}
	for range p.count(maxKept) {
		name := string(p.bytes())
		s.kept[name] = p.bytes()
	}
	return s, p.end()
}

// offerBytes is at least what an offer takes in a frame.
func offerBytes(o mesh.Offer) (size int, err error) {
	size = 64 + len(o.State)
	for _, s := range o.Sealed {
		size += 4 + len(s)
	}
	for _, d := range o.Descriptors {
		size += 6 + len(d.Content)
	}
	for _, k := range o.Kept {
		size += 8 + len(k.Name) + len(k.Bytes)
	}
	if size > maxOfferFrame-1 || max(len(o.Sealed), len(o.Descriptors), len(o.Kept)) > maxPieces {
		return 0, fmt.Errorf("an offer of %d bytes in %d records is too large for the pipe", size, len(o.Sealed))
	}
	return size, nil
}

// shelf are the descriptors that both ends of a pipe remember: a signal table comes
// with each commit and may be larger than what it describes. Where one is is said by
// a place; the newest takes the place of the oldest.
type shelf struct {
	places [shelfPlaces]mesh.Descriptor
	next   byte
}

const shelfPlaces = 16

// place is where a descriptor is, if its very bytes were given before.
func (s *shelf) place(d mesh.Descriptor) (byte, bool) {
	for i, x := range s.places {
		if x.Kind == d.Kind && len(x.Content) > 0 && len(x.Content) == len(d.Content) && &x.Content[0] == &d.Content[0] {
			return byte(i), true
		}
	}
	return 0, false
}

func (s *shelf) put(d mesh.Descriptor) {
	s.places[s.next] = d
	s.next = (s.next + 1) % shelfPlaces
}

// Marks before a descriptor.
const (
	descriptorNew  byte = 0 // its kind and content follow
	descriptorHeld byte = 1 // its place on the shelf follows
)

// appendOffer leaves the source's name out: a worker speaks for one source
// only, and the agent knows which.
func appendOffer(b []byte, o mesh.Offer, held *shelf) []byte {
	b = binary.LittleEndian.AppendUint32(b, uint32(len(o.Sealed)))
	for _, s := range o.Sealed {
		b = appendBytes(b, s)
	}
	b = appendOptional(b, o.State)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(o.Kept)))
	for _, k := range o.Kept {
		b = appendBytes(appendBytes(b, []byte(k.Name)), k.Bytes)
	}
	b = binary.LittleEndian.AppendUint32(b, uint32(len(o.Descriptors)))
	for _, d := range o.Descriptors {
		if at, ok := held.place(d); ok {
			b = append(b, descriptorHeld, at)
			continue
		}
		b = appendBytes(append(b, descriptorNew, byte(d.Kind)), d.Content)
		held.put(d)
	}
	return b
}

func decodeOffer(payload []byte, held *shelf) (o mesh.Offer, err error) {
	p := pieces{b: payload}
	for range p.count(maxPieces) {
		o.Sealed = append(o.Sealed, p.bytes())
	}
	o.State = p.optional()
	for range p.count(maxPieces) {
		o.Kept = append(o.Kept, mesh.Kept{Name: string(p.bytes()), Bytes: p.bytes()})
	}
	for range p.count(maxPieces) {
		o.Descriptors = append(o.Descriptors, p.descriptor(held))
	}
	return o, p.end()
}

func (p *pieces) descriptor(held *shelf) (d mesh.Descriptor) {
	switch mark := p.byte(); mark {
	case descriptorNew:
		d = mesh.Descriptor{Kind: mesh.DescriptorKind(p.byte()), Content: bytes.Clone(p.bytes())}
		if !p.bad {
			held.put(d)
		}
	case descriptorHeld:
		at := p.byte()
		if at >= shelfPlaces || held.places[at].Kind == 0 {
			p.bad, p.b = true, nil
			break
		}
		d = held.places[at]
	default:
		p.bad, p.b = true, nil
	}
	return d
}

func appendBytes(b, piece []byte) []byte {
	return append(binary.LittleEndian.AppendUint32(b, uint32(len(piece))), piece...)
}

func appendOptional(b, piece []byte) []byte {
	if piece == nil {
		return append(b, 0)
	}
	return appendBytes(append(b, 1), piece)
}

// pieces takes a payload apart; after the first error it gives zeros.
type pieces struct {
	b   []byte
	bad bool
}

func (p *pieces) take(n int) []byte {
	if n < 0 || n > len(p.b) {
		p.bad, p.b = true, nil
		return nil
	}
	out := p.b[:n:n]
	p.b = p.b[n:]
	return out
}

func (p *pieces) byte() byte {
	if b := p.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (p *pieces) bytes() []byte {
	n := p.take(4)
	if n == nil {
		return nil
	}
	return p.take(int(binary.LittleEndian.Uint32(n)))
}

func (p *pieces) optional() []byte {
	switch p.byte() {
	case 0:
		return nil
	case 1:
		return p.bytes()
	}
	p.bad, p.b = true, nil
	return nil
}

func (p *pieces) count(most uint32) int {
	n := p.take(4)
	if n == nil {
		return 0
	}
	c := binary.LittleEndian.Uint32(n)
	if c > most {
		p.bad, p.b = true, nil
		return 0
	}
	return int(c)
}

func (p *pieces) end() error {
	if p.bad || len(p.b) != 0 {
		return fmt.Errorf("%w: a payload contradicts itself", errPipe)
	}
	return nil
}
