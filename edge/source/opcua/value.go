package opcua

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/gopcua/opcua/ua"

	"plantmesh/edge/source"
	"plantmesh/proto/mesh"
)

// Reasons why a value can't be a sample, beside those that name it.
var errNoValue = errors.New("no value at all")

// maxText is the longest string or byte string that is stored (proto/wire).
const maxText = 64 << 10

// earliest and latest bound the time stamps that are believed at all: OPC UA
// counts from 1601 and int64 nanoseconds end in 2262.
const (
	earliest = mesh.Nanos(0)
	latest   = mesh.Nanos(math.MaxInt64 - int64(24*time.Hour))
)

// stamp is t, or 0 where the device gave no time that can be stored.
func stamp(t time.Time) mesh.Nanos {
	if t.IsZero() || t.Year() < 1970 || t.Year() > 2261 {
		return 0
	}
	if n := mesh.NanosOf(t); n > earliest && n < latest {
		return n
	}
	return 0
}

// sample makes a sample of a data value: the event time is the source's stamp,
// else the server's, else the agent's. With an error the sample is good too: it
// has no value, and a status that says so, because the value before does not hold.
func sample(signal mesh.Signal, d *ua.DataValue, now mesh.Nanos) (mesh.Sample, error) {
	s := mesh.Sample{Signal: signal.ID, Status: mesh.Status(d.Status), Source: stamp(d.SourceTimestamp), Server: stamp(d.ServerTimestamp), Agent: now}
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
	v, err := scalar(d.Value)
	switch {
	case errors.Is(err, errNoValue):
		if !s.Status.IsGood() {
			return s, nil // a status without a value
		}
		s.Status = mesh.StatusBadNoData
		return s, err
	case err == nil:
		s.Value, err = convert(v, signal.Type)
	}
	if err != nil && !s.Status.IsBad() {
		s.Status = mesh.StatusBadTypeMismatch
	}
	return s, err
}

// scalar is a value as the server typed it.
func scalar(from *ua.Variant) (mesh.Value, error) {
	if from == nil {
		return mesh.Value{}, errNoValue
	}
	if from.ArrayLength() > 0 || from.Has(ua.VariantArrayValues) {
		return mesh.Value{}, fmt.Errorf("an array of %d values", from.ArrayLength())
	}
	raw := from.Value()
	switch v := raw.(type) {
	case nil:
		return mesh.Value{}, errNoValue
	case bool:
		return mesh.Bool(v), nil
	case int8:
		return mesh.Int(int64(v)), nil
	case int16:
		return mesh.Int(int64(v)), nil
	case int32:
		return mesh.Int(int64(v)), nil
	case int64:
		return mesh.Int(v), nil
	case uint8:
		return mesh.Uint(uint64(v)), nil
	case uint16:
		return mesh.Uint(uint64(v)), nil
	case uint32:
		return mesh.Uint(uint64(v)), nil
	case uint64:
		return mesh.Uint(v), nil
	case float32:
		return mesh.Double(float64(v)), nil
	case float64:
		return mesh.Double(v), nil
	case ua.StatusCode:
		return mesh.Uint(uint64(v)), nil
	case []byte:
		return bounded(mesh.Value{Type: mesh.TypeBytes, Bytes: v})
	}
	text, ok := text(raw)
	if !ok {
		return mesh.Value{}, fmt.Errorf("a %T, which is no scalar", raw)
	}
	// Servers send what their PLC holds; what is no UTF-8 would stop whoever reads it later.
	return bounded(mesh.Text(strings.ToValidUTF8(text, "\uFFFD")))
}

func text(raw any) (string, bool) {
	switch v := raw.(type) {
	case string:
		return v, true
	case time.Time:
		return v.UTC().Format(time.RFC3339Nano), true
	case *ua.LocalizedText:
		return v.Text, true
	case *ua.QualifiedName:
		return v.Name, true
	case ua.XMLElement:
		return string(v), true
	case *ua.GUID:
		return v.String(), true
	case *ua.NodeID:
		return v.String(), true
	}
	return "", false
}

func bounded(v mesh.Value) (mesh.Value, error) {
	if len(v.Bytes) > maxText {
		return mesh.Value{}, fmt.Errorf("%d bytes of text, at most %d are stored", len(v.Bytes), maxText)
	}
	return v, nil
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
