package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/klauspost/compress/zstd"

	"plantmesh/proto/mesh"
)

// Packings of a body.
const (
	packedRaw  = 0
	packedZstd = 1
)

// MaxText bounds one string or bytes value, and the body of an array, a structure or an event.
const MaxText = 64 << 10

// zstdWindow bounds the decoder's memory; batches are far smaller.
const zstdWindow = 1 << 20

// Encoder seals batches. It keeps its buffers, so that sealing takes no memory
// for a sample. Not safe for concurrent use.
type Encoder struct {
	zw     *zstd.Encoder
	plain  []byte
	packed []byte
	g      Gather

	scattering scattering
	w          writer
}

// NewEncoder makes an encoder of level "fastest": level "best" saves 1 % of a
// batch (DESIGN.md), and the gateway's CPU is dearer.
func NewEncoder() (*Encoder, error) {
	zw, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(256<<10), zstd.WithEncoderCRC(false))
	if err != nil {
		return nil, fmt.Errorf("make a zstd encoder: %w", err)
	}
	return &Encoder{zw: zw}, nil
}

// Seal encodes, compresses and sums a batch. Samples are decoded by signal, in
// order of arrival within one: that is the order a verdict's marks count in.
func (e *Encoder) Seal(b *mesh.Batch) ([]byte, error) {
	if len(b.Samples) > MaxSamples {
		return nil, tooMany(len(b.Samples))
	}
	if len(b.Samples) > 0 && e.w.scatter(&e.scattering, b.Samples) {
		return e.seal(b, len(b.Samples))
	}
	defer e.g.Reset() // it holds bytes of the samples
	for i := range b.Samples {
		e.g.Add(&b.Samples[i])
	}
	return e.SealGather(b, &e.g)
}

// SealGather is Seal of the samples that g has; b has none.
func (e *Encoder) SealGather(b *mesh.Batch, g *Gather) ([]byte, error) {
	if g.Len() > MaxSamples {
		return nil, tooMany(g.Len())
	}
	e.w.group(&e.scattering, g)
	return e.seal(b, g.Len())
}

// seal seals the n samples that are laid out.
func (e *Encoder) seal(b *mesh.Batch, n int) ([]byte, error) {
	h := mesh.Header{Kind: mesh.KindBatch, About: b.Source, Proven: b.Proven, Complete: b.Complete, Count: uint32(n), Needs: []mesh.Hash{b.Table}}
	p := packed{packing: packedRaw}
	if n > 0 {
		h.Times = e.w.batch(n)
		e.plain, p.bits = e.w.parts(e.plain[:0])
		p.rawLen, p.plain = len(e.plain), e.plain
		if len(e.plain)+len(p.bits) > MaxRaw {
			return nil, fmt.Errorf("%w: a batch of %d bytes, at most %d", ErrLimit, len(e.plain)+len(p.bits), MaxRaw)
		}
		e.packed = e.zw.EncodeAll(e.plain, e.packed[:0])
		if len(e.packed) < len(e.plain) && len(e.plain) <= MaxRatio*len(e.packed) {
			p.packing, p.plain = packedZstd, e.packed
		}
	}
	return seal(h, p), nil
}

func tooMany(n int) error {
	return fmt.Errorf("%w: %d samples in a batch, at most %d", ErrLimit, n, MaxSamples)
}

// Decoder opens batches. It keeps its buffers. Not safe for concurrent use.
type Decoder struct {
	zr  *zstd.Decoder
	raw []byte
	r   columnReader
}

// NewDecoder makes a decoder whose memory is bounded by MaxRaw.
func NewDecoder() (*Decoder, error) {
	zr, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(MaxRaw), zstd.WithDecoderMaxWindow(zstdWindow), zstd.WithDecodeAllCapLimit(true))
	if err != nil {
		return nil, fmt.Errorf("make a zstd decoder: %w", err)
	}
	return &Decoder{zr: zr}, nil
}

// Batch reads a sealed batch. Nothing in it aliases sealed.
func (d *Decoder) Batch(sealed []byte) (b mesh.Batch, err error) {
	h, err := d.begin(sealed)
	if err != nil {
		return b, err
	}
	b = mesh.Batch{Source: h.About, Table: h.Needs[0], Proven: h.Proven, Complete: h.Complete, Samples: make([]mesh.Sample, 0, h.Count)}
	for d.r.next() {
		b.Samples = d.r.samples(b.Samples)
	}
	return b, d.r.err()
}

// Columns reads a sealed batch signal by signal and calls do with each. The
// column is do's until it returns.
func (d *Decoder) Columns(sealed []byte, do func(*Column)) (mesh.Header, error) {
	h, err := d.begin(sealed)
	if err != nil {
		return h, err
	}
	for d.r.next() {
		do(&d.r.Column)
	}
	return h, d.r.err()
}

func (d *Decoder) begin(sealed []byte) (h mesh.Header, err error) {
	h, p, err := open(sealed)
	switch {
	case err != nil:
		return h, err
	case h.Kind != mesh.KindBatch || len(h.Needs) != 1:
		return h, fmt.Errorf("%w: %s with %d descriptors is no batch", ErrFormat, h.Kind, len(h.Needs))
	case h.Count > MaxSamples:
		return h, fmt.Errorf("%w: %d samples, at most %d", ErrLimit, h.Count, MaxSamples)
	}
	plain, err := d.unpack(p)
	if err != nil {
		return h, err
	}
	return h, d.r.begin(h, plain, p.bits)
}

func (d *Decoder) unpack(p packed) ([]byte, error) {
	switch p.packing {
	case packedRaw:
		if len(p.plain) != p.rawLen {
			return nil, ErrFormat
		}
		return p.plain, nil
	case packedZstd:
		if p.rawLen > MaxRatio*len(p.plain) {
			return nil, fmt.Errorf("%w: %d bytes claim to hold %d", ErrLimit, len(p.plain), p.rawLen)
		}
		d.raw = slices.Grow(d.raw[:0], p.rawLen)
		raw, err := d.zr.DecodeAll(p.plain, d.raw[:0:p.rawLen]) // not a byte more than was claimed
		if err != nil {
			return nil, errors.Join(ErrFormat, err)
		}
		if len(raw) != p.rawLen {
			return nil, ErrFormat
		}
		return raw, nil
	}
	return nil, ErrVersion
}

// appendPart appends a part of a body with its length in front.
func appendPart(b, part []byte) []byte {
	return append(binary.AppendUvarint(b, uint64(len(part))), part...)
}
