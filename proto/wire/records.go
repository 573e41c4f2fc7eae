package wire

import (
	"errors"
	"fmt"

	"google.golang.org/protobuf/proto"

	"plantmesh/proto/mesh"
	"plantmesh/proto/wire/internal/pb"
)

// maxListed bounds every list of a small record.
const maxListed = 4096

func position(p mesh.Position) *pb.Position {
	if p.IsZero() {
		return nil
	}
	return &pb.Position{Log: string(p.Log), Epoch: p.Epoch[:], Seq: p.Seq}
}

func unposition(p *pb.Position) mesh.Position {
	return mesh.Position{Log: mesh.LogID(p.GetLog()), Epoch: epoch(p.GetEpoch()), Seq: p.GetSeq()}
}

func epoch(b []byte) (e mesh.Epoch) {
	copy(e[:], b)
	return e
}

func hash(b []byte) (h mesh.Hash) {
	copy(h[:], b)
	return h
}

func span(s mesh.Span) *pb.Span { return &pb.Span{FromNs: int64(s.From), ToNs: int64(s.To)} }

func unspan(s *pb.Span) mesh.Span {
	return mesh.Span{From: mesh.Nanos(s.GetFromNs()), To: mesh.Nanos(s.GetToNs())}
}

func ranges(in []mesh.Range) (out []*pb.Range) {
	for _, r := range in {
		out = append(out, &pb.Range{Epoch: r.Epoch[:], First: r.First, Last: r.Last})
	}
	return out
}

func unranges(in []*pb.Range) (out []mesh.Range) {
	for _, r := range in {
		out = append(out, mesh.Range{Epoch: epoch(r.GetEpoch()), First: r.GetFirst(), Last: r.GetLast()})
	}
	return out
}

func sealMessage(h mesh.Header, m proto.Message) ([]byte, error) {
	body, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("seal %s: %w", h.Kind, err)
	}
	return seal(h, packed{packing: packedRaw, rawLen: len(body), plain: body}), nil
}

func openMessage(sealed []byte, kind mesh.Kind, m proto.Message) error {
	h, p, err := open(sealed)
	if err != nil {
		return err
	}
	if h.Kind != kind || p.packing != packedRaw || len(p.plain) != p.rawLen || len(p.bits) > 0 {
		return fmt.Errorf("%w: a %s where a %s should be", ErrFormat, h.Kind, kind)
	}
	return unmarshal(p.plain, m)
}

func unmarshal(b []byte, m proto.Message) error {
	if len(b) > MaxFrame {
		return ErrLimit
	}
	if err := proto.Unmarshal(b, m); err != nil {
		return errors.Join(ErrFormat, err)
	}
	return nil
}

// SealOpening seals an opening.
func SealOpening(o mesh.Opening) ([]byte, error) {
	return sealMessage(mesh.Header{Kind: mesh.KindOpening}, &pb.Opening{Parent: position(o.Parent)})
}

// OpenOpening reads a sealed opening.
func OpenOpening(sealed []byte) (mesh.Opening, error) {
	var m pb.Opening
	if err := openMessage(sealed, mesh.KindOpening, &m); err != nil {
		return mesh.Opening{}, err
	}
	return mesh.Opening{Parent: unposition(m.GetParent())}, nil
}

// SealVoid seals a void. A void with parts of one source is about that source.
func SealVoid(v mesh.Void) ([]byte, error) {
	h := mesh.Header{Kind: mesh.KindVoid, Count: uint32(len(v.Parts))}
	m := &pb.Void{Lost: ranges(v.Lost), Cause: string(v.Cause), Note: v.Note}
	for i, p := range v.Parts {
		m.Parts = append(m.Parts, &pb.Part{Source: p.Source, Times: span(p.Times), Count: p.Count})
		if i == 0 {
			h.About, h.Times = p.Source, p.Times
		}
		h.Times = mesh.Span{From: min(h.Times.From, p.Times.From), To: max(h.Times.To, p.Times.To)}
		if h.About != p.Source {
			h.About = ""
		}
	}
	return sealMessage(h, m)
}

// OpenVoid reads a sealed void.
func OpenVoid(sealed []byte) (v mesh.Void, err error) {
	var m pb.Void
	if err := openMessage(sealed, mesh.KindVoid, &m); err != nil {
		return v, err
	}
	if len(m.GetLost()) > maxListed || len(m.GetParts()) > maxListed {
		return v, ErrLimit
	}
	v = mesh.Void{Lost: unranges(m.GetLost()), Cause: mesh.Cause(m.GetCause()), Note: m.GetNote()}
	for _, p := range m.GetParts() {
		v.Parts = append(v.Parts, mesh.Part{Source: p.GetSource(), Times: unspan(p.GetTimes()), Count: p.GetCount()})
	}
	return v, nil
}

// SealVerdict seals a verdict about a batch of source.
func SealVerdict(source string, v mesh.Verdict) ([]byte, error) {
	h := mesh.Header{Kind: mesh.KindVerdict, About: source, Count: uint32(len(v.Marks)), Needs: []mesh.Hash{v.Rules}}
	m := &pb.Verdict{Of: position(v.Of), Revision: v.Revision, Rules: v.Rules[:]}
	for _, k := range v.Marks {
		m.Marks = append(m.Marks, &pb.Mark{Index: k.Index, Rule: k.Rule, Action: uint32(k.Action)})
	}
	return sealMessage(h, m)
}

// OpenVerdict reads a sealed verdict.
func OpenVerdict(sealed []byte) (v mesh.Verdict, err error) {
	var m pb.Verdict
	if err := openMessage(sealed, mesh.KindVerdict, &m); err != nil {
		return v, err
	}
	if len(m.GetMarks()) > MaxSamples {
		return v, ErrLimit
	}
	v = mesh.Verdict{Of: unposition(m.GetOf()), Revision: m.GetRevision(), Rules: hash(m.GetRules())}
	for _, k := range m.GetMarks() {
		v.Marks = append(v.Marks, mesh.Mark{Index: k.GetIndex(), Rule: k.GetRule(), Action: mesh.Action(k.GetAction())})
	}
	return v, nil
}

// SealFact seals a fact.
func SealFact(f mesh.Fact) ([]byte, error) {
	h := mesh.Header{Kind: mesh.KindFact, About: f.About, Times: f.Valid, Count: 1, Needs: []mesh.Hash{f.Descriptor}}
	return sealMessage(h, &pb.Fact{About: f.About, Valid: span(f.Valid), Descriptor_: f.Descriptor[:], By: f.By})
}

// OpenFact reads a sealed fact.
func OpenFact(sealed []byte) (f mesh.Fact, err error) {
	var m pb.Fact
	if err := openMessage(sealed, mesh.KindFact, &m); err != nil {
		return f, err
	}
	return mesh.Fact{About: m.GetAbout(), Valid: unspan(m.GetValid()), Descriptor: hash(m.GetDescriptor_()), By: m.GetBy()}, nil
}

// EncodeReceipt writes a receipt; it is a message of its own, not a record.
func EncodeReceipt(r mesh.Receipt) ([]byte, error) {
	m := &pb.Receipt{By: position(r.By), Through: position(r.Have.Through), Islands: ranges(r.Have.Islands), MaxBytes: r.Limits.MaxBytes, BacklogShare: uint32(r.Limits.BacklogShare), Stream: r.Place.Stream, Place: r.Place.Seq}
	for _, e := range r.Before {
		m.Before = append(m.Before, e[:])
	}
	for _, l := range r.Lacks {
		m.Lacks = append(m.Lacks, l[:])
	}
	for _, l := range r.Chain {
		m.Chain = append(m.Chain, &pb.Link{Epoch: l.Epoch[:], Parent: position(l.Parent), End: l.End})
	}
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("encode receipt: %w", err)
	}
	return b, nil
}

// DecodeReceipt reads a receipt.
func DecodeReceipt(b []byte) (r mesh.Receipt, err error) {
	var m pb.Receipt
	if err := unmarshal(b, &m); err != nil {
		return r, err
	}
	if len(m.GetIslands()) > mesh.MaxIslands || len(m.GetLacks()) > maxListed || len(m.GetChain()) > maxListed || len(m.GetBefore()) > mesh.MaxBefore {
		return r, ErrLimit
	}
	r = mesh.Receipt{
		By: unposition(m.GetBy()), Have: mesh.Set{Through: unposition(m.GetThrough()), Islands: unranges(m.GetIslands())},
		Limits: mesh.Limits{MaxBytes: m.GetMaxBytes(), BacklogShare: uint8(min(m.GetBacklogShare(), 100))},
		Place:  mesh.Place{Stream: m.GetStream(), Seq: m.GetPlace()},
	}
	for _, e := range m.GetBefore() {
		r.Before = append(r.Before, epoch(e))
	}
	for _, l := range m.GetLacks() {
		r.Lacks = append(r.Lacks, hash(l))
	}
	for _, l := range m.GetChain() {
		r.Chain = append(r.Chain, mesh.Link{Epoch: epoch(l.GetEpoch()), Parent: unposition(l.GetParent()), End: l.GetEnd()})
	}
	return r, nil
}
