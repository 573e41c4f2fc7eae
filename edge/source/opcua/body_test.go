package opcua

import (
	"strings"
	"testing"

	"github.com/gopcua/opcua/ua"

	"plantmesh/edge/source/opcua/datatype"
	"plantmesh/edge/source/opcua/publish"
	"plantmesh/proto/mesh"
	"plantmesh/proto/wire"
)

// What can't be taken is a sample without a value, a status of its kind, and a reason.
func TestValue_Bodies(t *testing.T) {
	long := make([]string, 100)
	for i := range long {
		long[i] = strings.Repeat("x", 1000)
	}
	for name, c := range map[string]struct {
		raw    any
		want   mesh.Type
		status mesh.Status
		out    string // of the value, or "!" and part of the error
	}{
		"array":          {[]int32{1, -2}, mesh.TypeArray, 0, "array of 5 bytes"},
		"matrix":         {[][]float64{{1, 2}}, mesh.TypeArray, 0, "array of 21 bytes"},
		"empty":          {[]float64{}, mesh.TypeArray, 0, "array of 3 bytes"},
		"not announced":  {[]int32{1}, mesh.TypeDouble, mesh.StatusBadTypeMismatch, "!an array of 1 values where the configuration says double: write type: array"},
		"no array":       {int32(1), mesh.TypeArray, mesh.StatusBadTypeMismatch, "!a int (1) where the configuration says array"},
		"no structure":   {int32(1), mesh.TypeStruct, mesh.StatusBadTypeMismatch, "!where the configuration says struct"},
		"structure":      {ua.NewExtensionObject(&ua.Range{}), mesh.TypeInt, mesh.StatusBadTypeMismatch, "!a structure where the configuration says int: write type: struct"},
		"unknown type":   {ua.NewExtensionObject(&ua.Range{}), mesh.TypeStruct, mesh.StatusBadDecodingError, "!(encoding i=886)"},
		"too many":       {make([]bool, wire.MaxItems), mesh.TypeArray, mesh.StatusBadEncodingLimitsExceeded, "!more than 16384 items"},
		"too large":      {long, mesh.TypeArray, mesh.StatusBadEncodingLimitsExceeded, "!at most 65536"},
		"wrapped":        {&ua.DataValue{EncodingMask: ua.DataValueValue | ua.DataValueStatusCode, Value: ua.MustVariant(int32(4)), Status: ua.StatusUncertain}, mesh.TypeInt, mesh.Status(ua.StatusUncertain), "4"},
		"wrapped text":   {&ua.DataValue{EncodingMask: ua.DataValueValue, Value: ua.MustVariant("x")}, mesh.TypeString, 0, "x"},
		"no value in it": {ua.NewExtensionObject(nil), mesh.TypeStruct, mesh.StatusBadNoData, "!no value at all"},
	} {
		in := message(t, 1, noon, &ua.DataValue{Value: ua.MustVariant(c.raw), SourceTimestamp: noon.Time()})
		var s mesh.Sample
		err := new(Reader).sample(&s, wanted{kind: c.want}, &in.Values[0], noon)
		want, bad := strings.CutPrefix(c.out, "!")
		if s.Status != c.status || bad && (err == nil || !strings.Contains(err.Error(), want) || s.Value.Type != mesh.TypeNone) || !bad && (err != nil || s.Value.String() != want) {
			t.Errorf("%s: %.60s, status %#x, %v; want %s, %#x", name, s.Value, uint32(s.Status), err, c.out, uint32(c.status))
		}
	}
}

func TestValue_ScalarsAndArraysTakeNoMemoryEach(t *testing.T) {
	for name, c := range map[string]struct {
		raw  any
		want mesh.Type
		most float64
	}{
		"double": {1.5, mesh.TypeDouble, 0},
		"int":    {int32(5), mesh.TypeInt, 0},
		"bool":   {true, mesh.TypeBool, 0},
		"array":  {make([]float64, 100), mesh.TypeArray, 0.1}, // a block of texts now and then
	} {
		in := message(t, 1, noon, &ua.DataValue{Value: ua.MustVariant(c.raw), SourceTimestamp: noon.Time()})
		r := new(Reader)
		var s mesh.Sample
		// The type of an array's elements is known once the server has been asked.
		r.types.shapes = []datatype.Shape{{Type: datatype.NewBook().Builtin(publish.TypeDouble), Rank: 1}}
		n := testing.AllocsPerRun(1000, func() {
			if err := r.sample(&s, wanted{kind: c.want}, &in.Values[0], noon); err != nil {
				t.Fatal(err)
			}
		})
		if n > c.most {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}
