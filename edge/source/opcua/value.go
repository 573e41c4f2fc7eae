package opcua

import (
	"bytes"
	"errors"
	"fmt"
	"time"
	"unicode/utf8"

	"plantmesh/edge/source"
	"plantmesh/edge/source/opcua/datatype"
	"plantmesh/edge/source/opcua/publish"
	"plantmesh/proto/mesh"
	"plantmesh/proto/wire"
)

// errNoValue: a sample without a value, and nothing that says why.
var errNoValue = errors.New("no value at all")

// stamp is the instant of so many ticks, or 0 where that can't be stored: OPC UA
// counts from 1601, and int64 nanoseconds end in 2262.
func stamp(ticks int64) mesh.Nanos {
	n, ok := publish.Nanos(ticks)
	if !ok {
		return 0
	}
	return mesh.Nanos(n)
}

// sample makes a sample of a data value, in s: the event time is the source's
// stamp, else the server's, else the agent's. With an error the sample is good too:
// it has no value, and a status that says so, because the value before does not hold.
func (r *Reader) sample(s *mesh.Sample, signal wanted, v *publish.Value, now mesh.Nanos) error {
	// Field by field: a whole sample would be made elsewhere and copied.
	s.Signal, s.Seq, s.Status, s.Flags = signal.id, 0, mesh.Status(v.Status), 0
	s.Source, s.Agent = stamp(v.Source), now
	s.Server = s.Source
	if v.Server != v.Source {
		s.Server = stamp(v.Server)
	}
	s.Value.Type, s.Value.Bits, s.Value.Bytes = mesh.TypeNone, 0, nil
	switch {
	case s.Source != 0:
		s.Time = s.Source
	case s.Server != 0:
		s.Time = s.Server
	default:
		s.Time = now
		s.Flags |= mesh.FlagAgentTime
	}
	if source.Suspect(s.Time, now) {
		s.Flags |= mesh.FlagSuspect
	}
	if v.Type == publish.TypeDouble && !v.Array && signal.kind == mesh.TypeDouble { // what most signals are
		s.Value.Type, s.Value.Bits = mesh.TypeDouble, v.Bits
		return nil
	}
	value, inner, err := r.worth(signal, v)
	if s.Status.IsGood() && inner != 0 {
		s.Status = mesh.Status(inner)
	}
	switch {
	case errors.Is(err, errNoValue):
		if !s.Status.IsGood() {
			return nil // a status without a value
		}
		s.Status = mesh.StatusBadNoData
		return err
	case err == nil:
		s.Value, err = convert(value, signal.kind)
	}
	if err != nil && !s.Status.IsBad() {
		s.Status = refusedAs(err)
	}
	return err
}

// refusedAs is the status of a value that could not be taken.
func refusedAs(err error) mesh.Status {
	var unknown *datatype.UnknownError
	var typed *datatype.TypeError
	switch {
	case errors.Is(err, datatype.ErrLimit), errors.Is(err, publish.ErrDeep):
		return mesh.StatusBadEncodingLimitsExceeded
	case errors.As(err, &unknown), errors.As(err, &typed), errors.Is(err, publish.ErrShort), errors.Is(err, publish.ErrCount), errors.Is(err, publish.ErrKind):
		return mesh.StatusBadDecodingError
	}
	return mesh.StatusBadTypeMismatch
}

// worth is a value as the server typed it, and the status that stands in it where
// it is a DataValue.
func (r *Reader) worth(signal wanted, v *publish.Value) (mesh.Value, uint32, error) {
	if v.Array || v.Type >= publish.TypeExtension {
		return r.body(signal, v)
	}
	value, err := r.scalar(v)
	return value, 0, err
}

// scalar is a value as the server typed it.
func (r *Reader) scalar(v *publish.Value) (mesh.Value, error) {
	switch v.Type {
	case 0:
		return mesh.Value{}, errNoValue
	case publish.TypeBoolean:
		return mesh.Value{Type: mesh.TypeBool, Bits: v.Bits}, nil
	case publish.TypeSByte, publish.TypeInt16, publish.TypeInt32, publish.TypeInt64:
		return mesh.Value{Type: mesh.TypeInt, Bits: v.Bits}, nil
	case publish.TypeByte, publish.TypeUInt16, publish.TypeUInt32, publish.TypeUInt64, publish.TypeStatusCode:
		return mesh.Value{Type: mesh.TypeUint, Bits: v.Bits}, nil
	case publish.TypeFloat, publish.TypeDouble:
		return mesh.Value{Type: mesh.TypeDouble, Bits: v.Bits}, nil
	case publish.TypeByteString:
		return r.bounded(mesh.TypeBytes, v.Bytes)
	case publish.TypeString, publish.TypeXMLElement, publish.TypeQualifiedName, publish.TypeLocalizedText:
		return r.bounded(mesh.TypeString, v.Bytes)
	case publish.TypeDateTime:
		return mesh.Text(datatype.Instant(int64(v.Bits)).Format(time.RFC3339Nano)), nil
	case publish.TypeGUID, publish.TypeNodeID, publish.TypeExpandedNodeID:
		return identifier(v)
	}
	return mesh.Value{}, fmt.Errorf("a value of built-in type %d, which is no scalar", v.Type)
}

// identifier is the text of a GUID or node id, which few signals are.
func identifier(v *publish.Value) (mesh.Value, error) {
	text, err := datatype.Identifier(v.Type, v.Bytes)
	if err == nil && text == "" {
		err = errNoValue
	}
	return mesh.Text(text), err
}

// bounded keeps a text or a byte string. Servers send what their PLC holds: what
// is no UTF-8 would stop whoever reads it later.
func (r *Reader) bounded(t mesh.Type, b []byte) (mesh.Value, error) {
	if len(b) > wire.MaxText {
		return mesh.Value{}, fmt.Errorf("%w: %d bytes of text, at most %d are stored", datatype.ErrLimit, len(b), wire.MaxText)
	}
	if t == mesh.TypeString && !utf8.Valid(b) {
		return r.bounded(t, bytes.ToValidUTF8(b, []byte("\uFFFD")))
	}
	return mesh.Value{Type: t, Bytes: r.keep(b)}, nil
}

// textBlock is how much room for texts is made at once.
const textBlock = 64 << 10

// keep copies bytes that stand in a buffer of the channel's.
func (r *Reader) keep(b []byte) []byte {
	if len(r.text)+len(b) > cap(r.text) {
		r.text = make([]byte, 0, textBlock)
	}
	n := len(r.text)
	r.text = append(r.text, b...)
	return r.text[n:len(r.text):len(r.text)]
}

// convert makes v a value of the declared type where nothing is lost by it.
func convert(v mesh.Value, want mesh.Type) (mesh.Value, error) {
	if v.Type == want {
		return v, nil
	}
	switch want {
	case mesh.TypeInt:
		if i, ok := v.Int(); ok {
			return mesh.Int(i), nil
		}
	case mesh.TypeUint:
		if i, ok := v.Int(); ok && i >= 0 {
			return mesh.Uint(uint64(i)), nil
		}
	case mesh.TypeDouble:
		if i, ok := v.Int(); ok && v.Type != mesh.TypeBool && i > -1<<53 && i < 1<<53 {
			return mesh.Double(float64(i)), nil
		}
	case mesh.TypeBool, mesh.TypeString, mesh.TypeBytes, mesh.TypeArray, mesh.TypeStruct, mesh.TypeEvent, mesh.TypeNone:
	}
	return mesh.Value{}, fmt.Errorf("a %s (%.40s) where the configuration says %s", v.Type, v.String(), want)
}
