package agent

import (
	"fmt"
	"strings"

	"plantmesh/edge/source/opcua"
	"plantmesh/edge/status"
	"plantmesh/proto/mesh"
	"plantmesh/proto/wire"
)

// descriptors are those that records of a log name.
type descriptors interface {
	Descriptor(hash mesh.Hash) (mesh.Descriptor, bool)
}

// maxTables bounds the signal tables that are held ready.
const maxTables = 64

// opener opens records for people. Not safe for concurrent use.
type opener struct {
	log    descriptors
	dec    *wire.Decoder
	tables map[mesh.Hash]map[uint32]mesh.Signal
}

func newOpener(log descriptors) (*opener, error) {
	dec, err := wire.NewDecoder()
	if err != nil {
		return nil, err
	}
	return &opener{log: log, dec: dec, tables: map[mesh.Hash]map[uint32]mesh.Signal{}}, nil
}

// batch opens a batch; names are its signals by their numbers.
func (o *opener) batch(r mesh.Record) (b mesh.Batch, names map[uint32]mesh.Signal, err error) {
	if b, err = o.dec.Batch(r.Sealed); err != nil {
		return b, nil, fmt.Errorf("open %s: %w", r.At, err)
	}
	names, known := o.tables[b.Table]
	if known {
		return b, names, nil
	}
	d, ok := o.log.Descriptor(b.Table)
	if !ok {
		return b, nil, fmt.Errorf("open %s: its signal table %s is not in the log any more", r.At, b.Table)
	}
	table, err := wire.Signals(d)
	if err != nil {
		return b, nil, fmt.Errorf("open %s: %w", r.At, err)
	}
	if len(o.tables) >= maxTables {
		clear(o.tables)
	}
	names = make(map[uint32]mesh.Signal, len(table))
	for _, s := range table {
		names[s.ID] = s
	}
	o.tables[b.Table] = names
	return b, names, nil
}

// sampleOf is a sample for people.
func sampleOf(source string, s mesh.Sample, sig mesh.Signal) status.Sample {
	out := status.Sample{
		Time: instant(s.Time), Source: source, Signal: sig.Name, Type: s.Value.Type.String(), Value: inWords(s.Value, sig), Unit: sig.Unit,
		Quality: s.Status.Severity(), Status: opcua.StatusName(s.Status),
	}
	if len(out.Value) > maxShownText {
		out.Value = strings.ToValidUTF8(out.Value[:maxShownText], "") + "…"
	}
	for _, f := range []struct {
		flag uint32
		says string
	}{
		{mesh.FlagInitial, "initial"},
		{mesh.FlagHistorical, "from a history"},
		{mesh.FlagHeartbeat, "heartbeat"},
		{mesh.FlagSuspect, "its time is ahead of this gateway's clock"},
		{mesh.FlagAgentTime, "this gateway's time"},
		{mesh.FlagServerTime, "the server's time"},
		{mesh.FlagInterpolated, "interpolated"},
		{mesh.FlagRepeated, "may be there twice"},
	} {
		if s.Flags&f.flag != 0 {
			out.Notes = append(out.Notes, f.says)
		}
	}
	return out
}

// said is what a record without samples says.
func said(r mesh.Record, k mesh.Kind) string {
	switch k {
	case mesh.KindOpening:
		return "the agent opened its log"
	case mesh.KindVoid:
		v, err := wire.OpenVoid(r.Sealed)
		if err != nil {
			return "it can't be read: " + err.Error()
		}
		var out strings.Builder
		out.WriteString("no data, cause " + string(v.Cause))
		if v.Note != "" {
			out.WriteString(": " + v.Note)
		}
		for _, p := range v.Parts {
			fmt.Fprintf(&out, "; %s from %s to %s, %d samples", p.Source, instant(p.Times.From), instant(p.Times.To), p.Count)
		}
		return out.String()
	case mesh.KindFact:
		f, err := wire.OpenFact(r.Sealed)
		if err != nil {
			return "it can't be read: " + err.Error()
		}
		return fmt.Sprintf("%s by %s, from %s", f.About, f.By, instant(f.Valid.From))
	case mesh.KindVerdict:
		return "what rules found"
	case mesh.KindBatch:
	}
	return ""
}
