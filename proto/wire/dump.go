package wire

import (
	"bufio"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"

	"plantmesh/proto/mesh"
)

// Dump writes what frames hold as lines of JSON: one a frame, then one a
// sample. Numbers of 64 bits are texts, because most readers of JSON have no
// more than 53. A frame whose inside can't be read is named, and it goes on;
// what is no frame ends it.
func Dump(to io.Writer, from io.Reader) error {
	w, r := bufio.NewWriter(to), bufio.NewReader(from)
	d, err := NewDecoder()
	if err != nil {
		return err
	}
	p := dumper{enc: json.NewEncoder(w), dec: d}
	p.enc.SetEscapeHTML(false)
	var failed error
	for at := 0; ; {
		kind, frame, err := ReadFrame(r)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			failed = errors.Join(failed, fmt.Errorf("at byte %d: %w", at, err))
			break
		}
		if err := p.frame(kind, frame); err != nil {
			failed = errors.Join(failed, fmt.Errorf("the frame at byte %d: %w", at, err))
		}
		at += len(frame)
	}
	return errors.Join(failed, w.Flush())
}

// ReadFrame reads one frame; io.EOF says that there is none.
func ReadFrame(r *bufio.Reader) (FrameKind, []byte, error) {
	head, err := r.Peek(frameHead)
	if len(head) == 0 {
		return 0, nil, err
	}
	n := frameHead // a short or foreign head is for Next to name
	if len(head) == frameHead && head[0] == 'P' && head[1] == 'M' {
		n = int(min(binary.LittleEndian.Uint32(head[4:]), MaxFrame))
	}
	frame, err := io.ReadAll(io.LimitReader(r, int64(max(n, frameHead+sumLen))))
	if err != nil {
		return 0, nil, fmt.Errorf("read: %w", err)
	}
	kind, frame, _, err := Next(frame)
	return kind, frame, err
}

type dumper struct {
	enc *json.Encoder
	dec *Decoder
}

type frameLine struct {
	Frame    string     `json:"frame"`
	Bytes    int        `json:"bytes"`
	Log      string     `json:"log,omitempty"`
	Epoch    string     `json:"epoch,omitempty"`
	Seq      string     `json:"seq,omitempty"`
	Kind     string     `json:"kind,omitempty"`
	About    string     `json:"about,omitempty"`
	Proven   *[2]string `json:"proven,omitempty"`
	Complete string     `json:"complete,omitempty"`
	Times    *[2]string `json:"times,omitempty"`
	Count    uint32     `json:"count,omitempty"`
	Needs    []string   `json:"needs,omitempty"`
	Says     any        `json:"says,omitempty"`
}

type sampleLine struct {
	Signal uint32 `json:"signal"`
	Time   string `json:"time"`
	Source string `json:"source"`
	Server string `json:"server"`
	Agent  string `json:"agent"`
	Seq    string `json:"seq"`
	Status uint32 `json:"status"`
	Flags  uint32 `json:"flags"`
	Type   string `json:"type"`
	Value  string `json:"value"`          // of bytes, arrays, structures and events: hex
	Bits   string `json:"bits,omitempty"` // of a double, hex: NaN has more than one
}

func nanos64(n mesh.Nanos) string { return strconv.FormatInt(int64(n), 10) }

func spanLine(s mesh.Span) *[2]string {
	if s == (mesh.Span{}) {
		return nil
	}
	return &[2]string{nanos64(s.From), nanos64(s.To)}
}

func (p *dumper) frame(kind FrameKind, frame []byte) error {
	line := frameLine{Bytes: len(frame)}
	switch kind {
	case FrameDescriptor:
		d, err := ParseDescriptor(frame)
		if err != nil {
			return err
		}
		h := d.Hash()
		line.Frame, line.Needs = "descriptor", []string{hex.EncodeToString(h[:])}
		if table, err := Signals(d); err == nil {
			line.Says = table
		}
		return p.enc.Encode(line)
	case FrameVerdict:
		v, err := ParseVerdict(frame)
		line.Frame, line.Says = "verdict", v
		return errors.Join(err, p.enc.Encode(line))
	case FrameRecord:
	default:
		return fmt.Errorf("%w: a frame of kind %q", ErrVersion, kind)
	}
	r, err := ParseRecord(frame)
	if err != nil {
		return err
	}
	h, err := ParseHeader(r.Sealed)
	if err != nil {
		return err
	}
	line.Frame, line.Log, line.Epoch, line.Seq = "record", string(r.At.Log), hex.EncodeToString(r.At.Epoch[:]), strconv.FormatUint(r.At.Seq, 10)
	line.Kind, line.About, line.Proven, line.Times, line.Count = h.Kind.String(), h.About, spanLine(h.Proven), spanLine(h.Times), h.Count
	if h.Complete != 0 {
		line.Complete = nanos64(h.Complete)
	}
	for _, n := range h.Needs {
		line.Needs = append(line.Needs, hex.EncodeToString(n[:]))
	}
	if h.Kind == mesh.KindBatch {
		return errors.Join(p.enc.Encode(line), p.samples(r.Sealed))
	}
	line.Says, err = inside(h.Kind, r.Sealed)
	return errors.Join(err, p.enc.Encode(line))
}

func inside(k mesh.Kind, sealed []byte) (any, error) {
	switch k {
	case mesh.KindOpening:
		return OpenOpening(sealed)
	case mesh.KindVoid:
		return OpenVoid(sealed)
	case mesh.KindVerdict:
		return OpenVerdict(sealed)
	case mesh.KindFact:
		return OpenFact(sealed)
	case mesh.KindBatch:
	}
	return nil, fmt.Errorf("%w: a record of %s", ErrVersion, k)
}

func (p *dumper) samples(sealed []byte) error {
	b, err := p.dec.Batch(sealed)
	if err != nil {
		return err
	}
	for _, s := range b.Samples {
		line := sampleLine{
			Signal: s.Signal, Time: nanos64(s.Time), Source: nanos64(s.Source), Server: nanos64(s.Server), Agent: nanos64(s.Agent),
			Seq: strconv.FormatUint(s.Seq, 10), Status: uint32(s.Status), Flags: s.Flags, Type: s.Value.Type.String(), Value: s.Value.String(),
		}
		switch {
		case s.Value.Type == mesh.TypeDouble:
			line.Bits = fmt.Sprintf("%016x", s.Value.Bits)
			if f := math.Float64frombits(s.Value.Bits); f == 0 && math.Signbit(f) {
				line.Value = "-0"
			}
		case s.Value.Type.OnHeap() && s.Value.Type != mesh.TypeString:
			line.Value = hex.EncodeToString(s.Value.Bytes)
		}
		if err := p.enc.Encode(line); err != nil {
			return fmt.Errorf("write: %w", err)
		}
	}
	return nil
}
