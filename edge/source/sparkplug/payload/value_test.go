package payload

import (
	"bytes"
	"errors"
	"math"
	"testing"

	"plantmesh/proto/mesh"
)

func TestScalars(t *testing.T) {
	i := func(v uint64) Value { return Value{Kind: InInt, Bits: v} }
	l := func(v uint64) Value { return Value{Kind: InLong, Bits: v} }
	float := func(f float32) Value { return Value{Kind: InFloat, Bits: uint64(math.Float32bits(f))} }
	double := func(f float64) Value { return Value{Kind: InDouble, Bits: math.Float64bits(f)} }
	str := func(s string) Value { return Value{Kind: InString, Bytes: []byte(s)} }
	for _, x := range []struct {
		of   Type
		in   Value
		want mesh.Value
		err  error
	}{
		{Int8, i(127), mesh.Int(127), nil},
		{Int8, i(255), mesh.Int(-1), nil},
		{Int8, i(128), mesh.Int(-128), nil},
		{Int8, i(4294967295), mesh.Int(-1), nil},
		{Int8, i(4294967168), mesh.Int(-128), nil},
		{Int8, i(4294967167), mesh.Value{}, ErrRange}, // -129
		{Int8, i(256), mesh.Value{}, ErrRange},
		{Int8, l(math.MaxUint64), mesh.Int(-1), nil},
		{Int8, l(1 << 32), mesh.Value{}, ErrRange},
		{Int16, i(65535), mesh.Int(-1), nil},
		{Int16, i(32768), mesh.Int(-32768), nil},
		{Int16, i(4294934528), mesh.Int(-32768), nil},
		{Int16, i(4294934527), mesh.Value{}, ErrRange},
		{Int16, i(65536), mesh.Value{}, ErrRange},
		{Int32, i(4294967284), mesh.Int(-12), nil}, // not the number that peers show
		{Int32, i(2147483647), mesh.Int(math.MaxInt32), nil},
		{Int32, l(4294967295), mesh.Int(-1), nil},
		{Int32, l(1 << 32), mesh.Value{}, ErrRange},
		{Int64, l(math.MaxUint64), mesh.Int(-1), nil},
		{Int64, i(5), mesh.Value{}, ErrType}, // is 4294967295 there -1, or itself?
		{UInt8, i(255), mesh.Uint(255), nil},
		{UInt8, i(256), mesh.Value{}, ErrRange},
		{UInt16, i(65535), mesh.Uint(65535), nil},
		{UInt16, i(65536), mesh.Value{}, ErrRange},
		{UInt32, i(4294967295), mesh.Uint(math.MaxUint32), nil},
		{UInt32, l(4294967295), mesh.Uint(math.MaxUint32), nil},
		{UInt32, l(1 << 32), mesh.Value{}, ErrRange},
		{UInt64, l(math.MaxUint64), mesh.Uint(math.MaxUint64), nil},
		{UInt64, i(5), mesh.Value{}, ErrType},
		{Float, float(0.1), mesh.Double(float64(float32(0.1))), nil},
		{Float, float(float32(math.Inf(-1))), mesh.Double(math.Inf(-1)), nil},
		{Float, float(float32(math.Copysign(0, -1))), mesh.Double(math.Copysign(0, -1)), nil},
		{Float, double(0.1), mesh.Value{}, ErrType},
		{Float, i(1), mesh.Value{}, ErrType},
		{Double, double(0.1), mesh.Double(0.1), nil},
		{Double, float(0.5), mesh.Value{}, ErrType},
		{Boolean, Value{Kind: InBoolean, Bits: 1}, mesh.Bool(true), nil},
		{Boolean, i(1), mesh.Value{}, ErrType},
		{String, str("ä"), mesh.Text("ä"), nil},
		{String, str(""), mesh.Text(""), nil},
		{String, str("\xff"), mesh.Value{}, ErrText},
		{String, Value{Kind: InString, Bytes: bytes.Repeat([]byte("x"), MaxText)}, mesh.Value{Type: mesh.TypeString, Bytes: bytes.Repeat([]byte("x"), MaxText)}, nil},
		{String, Value{Kind: InString, Bytes: bytes.Repeat([]byte("x"), MaxText+1)}, mesh.Value{}, ErrLimit},
		{String, Value{Kind: InBytes}, mesh.Value{}, ErrType},
		{Text, str("t"), mesh.Text("t"), nil},
		{UUID, str("00000000-0000-0000-0000-000000000000"), mesh.Text("00000000-0000-0000-0000-000000000000"), nil},
		{DateTime, l(1_767_268_800_123), mesh.Text("2026-01-01T12:00:00.123Z"), nil},
		{DateTime, l(0), mesh.Text("1970-01-01T00:00:00Z"), nil},
		{DateTime, l(math.MaxUint64), mesh.Value{}, ErrRange},
		{DateTime, str("2026"), mesh.Value{}, ErrType},
		{Bytes, Value{Kind: InBytes, Bytes: []byte{0, 255}}, mesh.Value{Type: mesh.TypeBytes, Bytes: []byte{0, 255}}, nil},
		{File, Value{Kind: InBytes, Bytes: []byte{1}}, mesh.Value{Type: mesh.TypeBytes, Bytes: []byte{1}}, nil},
		{Bytes, str("x"), mesh.Value{}, ErrType},
		{Int32, Value{}, mesh.Value{}, ErrType},
		{Unknown, i(1), mesh.Value{}, ErrType},
		{DataSetType, Value{Kind: InDataSet}, mesh.Value{}, ErrType},
		{99, i(1), mesh.Value{}, ErrType},
	} {
		got, err := x.of.Scalar(x.in)
		if !errors.Is(err, x.err) || got.Compare(x.want) != 0 || (err == nil) != (x.err == nil) {
			t.Errorf("%s of %s %d: got %v %v, want %v %v", x.of, x.in.Kind, x.in.Bits, got, err, x.want, x.err)
		}
		if err == nil && got.Type != x.of.MeshType() {
			t.Errorf("%s is a %s, and its type says %s", x.of, got.Type, x.of.MeshType())
		}
	}
	nan, err := Float.Scalar(Value{Kind: InFloat, Bits: uint64(math.Float32bits(float32(math.NaN())))})
	if f, ok := nan.Float(); err != nil || !ok || !math.IsNaN(f) {
		t.Errorf("NaN: %v %v", nan, err)
	}
}

func TestElements(t *testing.T) {
	for name, x := range map[string]struct {
		of    Type
		bytes string
		want  []mesh.Value
		err   error
	}{
		"Int8":               {Int8Array, "ef 7b", []mesh.Value{mesh.Int(-17), mesh.Int(123)}, nil},
		"Int16":              {Int16Array, "d0 8a 30 75", []mesh.Value{mesh.Int(-30000), mesh.Int(30000)}, nil},
		"Int32":              {Int32Array, "ff ff ff ff 02 01 00 00", []mesh.Value{mesh.Int(-1), mesh.Int(258)}, nil},
		"Int64":              {Int64Array, "fe ff ff ff ff ff ff ff", []mesh.Value{mesh.Int(-2)}, nil},
		"UInt8":              {UInt8Array, "17 fa", []mesh.Value{mesh.Uint(23), mesh.Uint(250)}, nil},
		"UInt16":             {UInt16Array, "1e 00 88 cc", []mesh.Value{mesh.Uint(30), mesh.Uint(52360)}, nil},
		"UInt32":             {UInt32Array, "ff ff ff ff", []mesh.Value{mesh.Uint(math.MaxUint32)}, nil},
		"UInt64":             {UInt64Array, "ff ff ff ff ff ff ff ff", []mesh.Value{mesh.Uint(math.MaxUint64)}, nil},
		"Float":              {FloatArray, "00 00 c0 3f 00 00 80 ff", []mesh.Value{mesh.Double(1.5), mesh.Double(math.Inf(-1))}, nil},
		"Double":             {DoubleArray, "00 00 00 00 00 00 f8 3f", []mesh.Value{mesh.Double(1.5)}, nil},
		"Boolean":            {BooleanArray, "0c 00 00 00 34 d0", bools("001101001101"), nil},
		"no booleans":        {BooleanArray, "00 00 00 00", nil, nil},
		"String":             {StringArray, "41 42 43 00 00 c3 a4 00", []mesh.Value{mesh.Text("ABC"), mesh.Text(""), mesh.Text("ä")}, nil},
		"DateTime":           {DateTimeArray, "7b d6 6d 79 9b 01 00 00", []mesh.Value{mesh.Text("2026-01-01T12:00:00.123Z")}, nil},
		"nothing":            {Int32Array, "", nil, nil},
		"half a number":      {Int32Array, "00 00 00", nil, ErrArray},
		"no zero at the end": {StringArray, "41", nil, ErrArray},
		"no UTF-8":           {StringArray, "ff 00", nil, ErrText},
		"no count":           {BooleanArray, "00 00 00", nil, ErrArray},
		"bits are missing":   {BooleanArray, "09 00 00 00 ff", nil, ErrArray},
		"bits are over":      {BooleanArray, "08 00 00 00 ff ff", nil, ErrArray},
		"a count of 2^32-1":  {BooleanArray, "ff ff ff ff", nil, ErrLimit},
		"no array at all":    {Int32, "00 00 00 00", nil, ErrArray},
	} {
		got, err := x.of.Elements(nil, Value{Kind: InBytes, Bytes: unhex(t, x.bytes)})
		if !errors.Is(err, x.err) || (err == nil) != (x.err == nil) {
			t.Errorf("%s: got %v, want %v", name, err, x.err)
		}
		if x.err != nil {
			continue
		}
		if len(got) != len(x.want) {
			t.Errorf("%s: got %v, want %v", name, got, x.want)
			continue
		}
		for i, w := range x.want {
			if got[i].Value.Compare(w) != 0 || w.Type != x.of.Item() {
				t.Errorf("%s: element %d is %v, want %v", name, i, got[i].Value, w)
			}
		}
	}
	if _, err := Int8Array.Elements(nil, Value{Kind: InString}); !errors.Is(err, ErrType) {
		t.Errorf("an array as text: %v", err)
	}
	for of, in := range map[Type][]byte{Int8Array: make([]byte, MaxElements+1), StringArray: make([]byte, MaxElements+1)} {
		if _, err := of.Elements(nil, Value{Kind: InBytes, Bytes: in}); !errors.Is(err, ErrLimit) {
			t.Errorf("one more than may be of %s: %v", of, err)
		}
		if got, err := of.Elements(nil, Value{Kind: InBytes, Bytes: in[1:]}); err != nil || len(got) != MaxElements {
			t.Errorf("as many as may be of %s: %d %v", of, len(got), err)
		}
	}
}

func bools(bits string) (out []mesh.Value) {
	for _, b := range bits {
		out = append(out, mesh.Bool(b == '1'))
	}
	return out
}

func TestTypesHaveNames(t *testing.T) {
	seen := map[string]Type{}
	for x := Unknown; x <= DateTimeArray; x++ {
		if other, twice := seen[x.String()]; twice {
			t.Errorf("types %d and %d are both called %s", x, other, x)
		}
		seen[x.String()] = x
	}
	if Type(35).Known() || Unknown.Known() || !DateTimeArray.Known() || Type(1<<31).String() != Type(35).String() {
		t.Error("what is no type is known")
	}
}
