package wire

import (
	"fmt"

	"google.golang.org/protobuf/proto"

	"plantmesh/proto/mesh"
	"plantmesh/proto/wire/internal/pb"
)

// DescribeSignals makes the descriptor of a signal table. Choices that say the
// same stand in it once.
func DescribeSignals(table []mesh.Signal) (mesh.Descriptor, error) {
	l := choiceList{of: map[*mesh.Choices]uint32{}, at: map[string]uint32{}}
	m := &pb.SignalTable{}
	for _, s := range table {
		inside, err := l.fields(s.Fields)
		if err != nil {
			return mesh.Descriptor{}, err
		}
		named, err := l.place(s.Choices)
		if err != nil {
			return mesh.Descriptor{}, err
		}
		m.Signals = append(m.Signals, &pb.Signal{
			Id: s.ID, Name: s.Name, Type: uint32(s.Type), Unit: s.Unit, MaxSilenceNs: int64(s.MaxSilence), Fields: inside, Choices: named,
		})
	}
	m.Choices = l.list
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		return mesh.Descriptor{}, fmt.Errorf("describe signals: %w", err)
	}
	return mesh.Descriptor{Kind: mesh.DescribeSignals, Content: b}, nil
}

// choiceList gives choices their places in a table, from 1 on.
type choiceList struct {
	list []*pb.Choices
	of   map[*mesh.Choices]uint32
	at   map[string]uint32 // by content
}

func (l *choiceList) place(c *mesh.Choices) (uint32, error) {
	if c == nil {
		return 0, nil
	}
	if n := l.of[c]; n > 0 {
		return n, nil
	}
	m := &pb.Choices{Name: c.Name, Bits: c.Bits}
	for _, x := range c.List {
		m.List = append(m.List, &pb.Choice{Number: x.Number, Text: x.Text})
	}
	key, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		return 0, fmt.Errorf("describe choices %q: %w", c.Name, err)
	}
	if l.at[string(key)] == 0 {
		l.list = append(l.list, m)
		l.at[string(key)] = uint32(len(l.list))
	}
	l.of[c] = l.at[string(key)]
	return l.of[c], nil
}

func (l *choiceList) fields(in []mesh.Field) (out []*pb.Field, err error) {
	for _, f := range in {
		inside, err := l.fields(f.Fields)
		if err != nil {
			return nil, err
		}
		named, err := l.place(f.Choices)
		if err != nil {
			return nil, err
		}
		out = append(out, &pb.Field{Name: f.Name, Type: uint32(f.Type), Unit: f.Unit, Fields: inside, Choices: named})
	}
	return out, nil
}

// Signals reads a descriptor of a signal table.
func Signals(d mesh.Descriptor) (table []mesh.Signal, err error) {
	var m pb.SignalTable
	if d.Kind != mesh.DescribeSignals {
		return nil, fmt.Errorf("%w: descriptor of kind %d is no signal table", ErrFormat, d.Kind)
	}
	if err := unmarshal(d.Content, &m); err != nil {
		return nil, err
	}
	choices, err := unchoices(m.GetChoices())
	if err != nil {
		return nil, err
	}
	for _, s := range m.GetSignals() {
		inside, err := choices.unfields(s.GetFields(), MaxDepth)
		if err != nil {
			return nil, err
		}
		named, err := choices.at(s.GetChoices())
		if err != nil {
			return nil, err
		}
		table = append(table, mesh.Signal{
			ID: s.GetId(), Name: s.GetName(), Type: mesh.Type(s.GetType()), Unit: s.GetUnit(), MaxSilence: mesh.Nanos(s.GetMaxSilenceNs()), Fields: inside, Choices: named,
		})
	}
	return table, nil
}

// choiceTable are the choices of a table that is read.
type choiceTable []*mesh.Choices

func unchoices(in []*pb.Choices) (out choiceTable, err error) {
	for _, c := range in {
		if len(c.GetList()) > maxListed {
			return nil, fmt.Errorf("%w: a number with more than %d names", ErrLimit, maxListed)
		}
		m := &mesh.Choices{Name: c.GetName(), Bits: c.GetBits()}
		for _, x := range c.GetList() {
			m.List = append(m.List, mesh.Choice{Number: x.GetNumber(), Text: x.GetText()})
		}
		out = append(out, m)
	}
	return out, nil
}

func (t choiceTable) at(place uint32) (*mesh.Choices, error) {
	if uint64(place) > uint64(len(t)) {
		return nil, fmt.Errorf("%w: choices %d of %d", ErrFormat, place, len(t))
	}
	if place == 0 {
		return nil, nil //nolint:nilnil // it has none
	}
	return t[place-1], nil
}

func (t choiceTable) unfields(in []*pb.Field, depth int) (out []mesh.Field, err error) {
	if depth == 0 && len(in) > 0 || len(in) > maxListed {
		return nil, fmt.Errorf("%w: fields nested deeper than %d, or more than %d", ErrLimit, MaxDepth, maxListed)
	}
	for _, f := range in {
		inside, err := t.unfields(f.GetFields(), depth-1)
		if err != nil {
			return nil, err
		}
		named, err := t.at(f.GetChoices())
		if err != nil {
			return nil, err
		}
		out = append(out, mesh.Field{Name: f.GetName(), Type: mesh.Type(f.GetType()), Unit: f.GetUnit(), Fields: inside, Choices: named})
	}
	return out, nil
}
