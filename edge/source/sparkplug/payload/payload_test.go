package payload

import (
	"bytes"
	"encoding/hex"
	"errors"
	"math"
	"reflect"
	"runtime"
	"strings"
	"testing"
)

func unhex(t *testing.T, text string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.Map(func(r rune) rune {
		if r == ' ' || r == '\n' || r == '\t' {
			return -1
		}
		return r
	}, text))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Made by hand from the field numbers of the specification: tag = number*8 + wire type.
func TestGoldenPayloads(t *testing.T) {
	for name, x := range map[string]struct {
		bytes string
		want  Payload
	}{
		"nothing": {"", Payload{}},
		"node birth": {
			`08 e8 07
			 12 0b  0a 05 62 64 53 65 71  20 04  58 03
			 12 1a  0a 14 4e 6f 64 65 20 43 6f 6e 74 72 6f 6c 2f 52 65 62 69 72 74 68  20 0b  70 00
			 12 12  0a 04 54 65 6d 70  10 07  18 e9 07  20 09  65 00 00 c0 3f
			 18 00`,
			Payload{Timestamp: 1000, HasSeq: true, Metrics: []Metric{
				{Name: []byte("bdSeq"), Type: Int64, Value: Value{Kind: InLong, Bits: 3}},
				{Name: []byte("Node Control/Rebirth"), Type: Boolean, Value: Value{Kind: InBoolean}},
				{Name: []byte("Temp"), Alias: 7, HasAlias: true, Timestamp: 1001, Type: Float, Value: Value{Kind: InFloat, Bits: uint64(math.Float32bits(1.5))}},
			}},
		},
		"flags, and an alias of zero": {
			"12 0a 10 00 28 01 30 01 38 01 50 05",
			Payload{Metrics: []Metric{{HasAlias: true, Historical: true, Transient: true, Null: true, Value: Value{Kind: InInt, Bits: 5}}}},
		},
		"the largest alias": {
			"12 0b 10 ff ff ff ff ff ff ff ff ff 01",
			Payload{Metrics: []Metric{{HasAlias: true, Alias: math.MaxUint64}}},
		},
		"double, text, bytes": {
			"12 09 69 00 00 00 00 00 00 f8 3f  12 04 7a 02 c3 a4  12 05 82 01 02 00 ff",
			Payload{Metrics: []Metric{
				{Value: Value{Kind: InDouble, Bits: math.Float64bits(1.5)}},
				{Value: Value{Kind: InString, Bytes: []byte("ä")}},
				{Value: Value{Kind: InBytes, Bytes: []byte{0, 255}}},
			}},
		},
		"property": {
			"12 18  42 04 42 02 4d 44  4a 10  0a 07 51 75 61 6c 69 74 79  12 05 08 03 18 c0 01",
			Payload{Metrics: []Metric{{
				Meta:       &Meta{Comment: []byte("MD")},
				Properties: &PropertySet{Keys: [][]byte{[]byte("Quality")}, Values: []Property{{Type: Int32, Value: Value{Kind: InInt, Bits: 192}}}},
			}}},
		},
		"properties in properties": {
			"12 12 4a 10  0a 01 61  0a 01 62  12 02 10 01  12 04 4a 02 0a 00",
			Payload{Metrics: []Metric{{Properties: &PropertySet{Keys: [][]byte{[]byte("a"), []byte("b")}, Values: []Property{
				{Null: true}, {Value: Value{Kind: InSet}, Set: &PropertySet{Keys: [][]byte{{}}}},
			}}}}},
		},
		"data set": {
			"12 1d  8a 01 1a  08 02  12 01 61  12 01 62  18 07 18 0c  22 08  0a 02 08 05  0a 02 32 00  22 02 0a 00",
			Payload{Metrics: []Metric{{Value: Value{Kind: InDataSet}, DataSet: &DataSet{
				Width: 2, Columns: [][]byte{[]byte("a"), []byte("b")}, Types: []Type{UInt32, String},
				Rows: []Row{{[]Value{{Kind: InInt, Bits: 5}, {Kind: InString, Bytes: []byte{}}}}, {[]Value{{}}}},
			}}}},
		},
		"template": {
			"12 1b  92 01 18  0a 01 31  12 05 0a 01 78 50 01  1a 07 0a 01 70 10 03 18 02  22 01 52  28 01",
			Payload{Metrics: []Metric{{Value: Value{Kind: InTemplate}, Template: &Template{
				Version: []byte("1"), Ref: []byte("R"), Definition: true,
				Metrics:    []Metric{{Name: []byte("x"), Value: Value{Kind: InInt, Bits: 1}}},
				Parameters: []Parameter{{Name: []byte("p"), Type: Int32, Value: Value{Kind: InInt, Bits: 2}}},
			}}}},
		},
		"uuid, body": {"18 ff 01 22 01 75 2a 02 01 02", Payload{Seq: 255, HasSeq: true, UUID: []byte("u"), Body: []byte{1, 2}}},
	} {
		t.Run(name, func(t *testing.T) {
			in := unhex(t, x.bytes)
			got, err := new(Decoder).Decode(in)
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(*got, x.want) {
				t.Errorf("got  %+v\nwant %+v", *got, x.want)
			}
			if back := Append(nil, &x.want); !bytes.Equal(back, in) {
				t.Errorf("written  % x\nwant     % x", back, in)
			}
		})
	}
}

// What protobuf allows and Append never writes.
func TestForeignForms(t *testing.T) {
	for name, x := range map[string]struct {
		bytes string
		want  Payload
	}{
		"unknown fields of each wire type": {"98 06 01  99 06 00 00 00 00 00 00 00 00  9a 06 02 00 00  9d 06 00 00 00 00  08 05", Payload{Timestamp: 5}},
		"twice: the last one counts":       {"08 05 08 06", Payload{Timestamp: 6}},
		"two values: the last one":         {"12 05 50 05 7a 01 61", Payload{Metrics: []Metric{{Value: Value{Kind: InString, Bytes: []byte("a")}}}}},
		"a boolean of 2":                   {"12 03 70 80 02", Payload{Metrics: []Metric{{Value: Value{Kind: InBoolean, Bits: 1}}}}},
		"a negative int of 64 bit":         {"12 0b 50 ff ff ff ff ff ff ff ff ff 01", Payload{Metrics: []Metric{{Value: Value{Kind: InInt, Bits: math.MaxUint32}}}}},
		"packed types": {"12 08 8a 01 05 1a 03 07 80 02", Payload{Metrics: []Metric{{
			Value: Value{Kind: InDataSet}, DataSet: &DataSet{Types: []Type{UInt32, 256}},
		}}}},
		"longer than need be": {"08 85 80 00", Payload{Timestamp: 5}},
		"a later value":       {"12 05 9a 01 02 08 01", Payload{Metrics: []Metric{{Value: Value{Kind: InExtension, Bytes: []byte{8, 1}}}}}},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := new(Decoder).Decode(unhex(t, x.bytes))
			if err != nil || !reflect.DeepEqual(*got, x.want) {
				t.Errorf("got %+v %v, want %+v", got, err, x.want)
			}
		})
	}
}

func TestRefused(t *testing.T) {
	nested := func(depth int, wrap func([]byte) []byte) []byte {
		b := []byte{}
		for range depth {
			b = wrap(b)
		}
		return b
	}
	metric := func(inside []byte) []byte { return appendItem(nil, 2, inside) }
	template := func(inside []byte) []byte { return appendItem(nil, 2, appendItem(nil, 18, inside)) }
	property := func(inside []byte) []byte { return appendItem(nil, 2, appendItem(nil, 9, inside)) }
	list := func(inside []byte) []byte {
		return appendItem(nil, 2, appendItem(nil, 10, appendItem(nil, 1, inside)))
	}
	cells := func(n int) []byte {
		return metric(appendItem(nil, 17, appendItem(nil, 4, bytes.Repeat([]byte{10, 0}, n))))
	}
	for name, x := range map[string]struct {
		in   []byte
		want error
	}{
		"no end of a number":          {unhex(t, "08 80"), ErrShort},
		"a number of 11 bytes":        {unhex(t, "08 ff ff ff ff ff ff ff ff ff ff 01"), ErrForm},
		"a number of 65 bits":         {unhex(t, "08 ff ff ff ff ff ff ff ff ff 02"), ErrForm},
		"a length beyond the end":     {unhex(t, "12 05 50 05"), ErrShort},
		"a length of 2^63":            {unhex(t, "12 80 80 80 80 80 80 80 80 80 01"), ErrShort},
		"half a float":                {unhex(t, "12 04 65 00 00 00"), ErrShort},
		"half a double":               {unhex(t, "12 05 69 00 00 00 00"), ErrShort},
		"an unknown field too short":  {unhex(t, "9a 06 05 00"), ErrShort},
		"field number 0":              {unhex(t, "00 00"), ErrForm},
		"a group":                     {unhex(t, "0b 08 05 0c"), ErrForm},
		"a group of unknown number":   {unhex(t, "9b 06 08 05 9c 06"), ErrForm},
		"wire type 6":                 {unhex(t, "9e 06"), ErrForm},
		"timestamp as text":           {unhex(t, "0a 01 61"), ErrForm},
		"metrics as a number":         {unhex(t, "10 01"), ErrForm},
		"float as a varint":           {unhex(t, "12 02 60 01"), ErrForm},
		"text as a number":            {unhex(t, "12 02 78 01"), ErrForm},
		"a data set's row as number":  {unhex(t, "12 05 8a 01 02 20 01"), ErrForm},
		"templates too deep":          {nested(MaxDepth+1, template), ErrLimit},
		"10,000 templates deep":       {nested(10_000, template), ErrLimit},
		"properties too deep":         {metric(appendItem(nil, 9, nested(MaxDepth, property))), ErrLimit},
		"lists too deep":              {metric(appendItem(nil, 9, nested(MaxDepth, list))), ErrLimit},
		"one metric too many":         {bytes.Repeat([]byte{18, 0}, MaxMetrics+1), ErrLimit},
		"half a million metrics":      {bytes.Repeat([]byte{18, 0}, MaxBytes/2), ErrLimit},
		"too many in a template":      {metric(appendItem(nil, 18, bytes.Repeat([]byte{18, 0}, MaxMetrics))), ErrLimit},
		"a cell too many":             {cells(MaxElements + 1), ErrLimit},
		"parts without end":           {metric(appendItem(nil, 9, bytes.Repeat([]byte{10, 0}, maxParts+1))), ErrLimit},
		"rows without end":            {metric(appendItem(nil, 17, bytes.Repeat([]byte{34, 0}, maxParts+1))), ErrLimit},
		"a name of 64 KiB and a byte": {metric(appendItem(nil, 1, make([]byte, MaxText+1))), ErrLimit},
		"a byte too long":             {appendItem(nil, 5, make([]byte, MaxBytes)), ErrLimit},
	} {
		t.Run(name, func(t *testing.T) {
			var d Decoder
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			p, err := d.Decode(x.in)
			runtime.ReadMemStats(&after)
			if !errors.Is(err, x.want) || p != nil {
				t.Errorf("got %v %v, want %v", p, err, x.want)
			}
			if n := after.TotalAlloc - before.TotalAlloc; n > 32<<20 {
				t.Errorf("it took %d bytes of memory", n)
			}
			if _, err := d.Decode([]byte{8, 5}); err != nil {
				t.Errorf("the next payload: %v", err)
			}
		})
	}
}

func TestTaken(t *testing.T) {
	template := func(inside []byte) []byte { return appendItem(nil, 2, appendItem(nil, 18, inside)) }
	deep := []byte{}
	for range MaxDepth - 1 {
		deep = template(deep)
	}
	for name, in := range map[string][]byte{
		"as many metrics as may be": bytes.Repeat([]byte{18, 0}, MaxMetrics),
		"as deep as may be":         deep,
		"as many cells as may be":   appendItem(nil, 2, appendItem(nil, 17, appendItem(nil, 4, bytes.Repeat([]byte{10, 0}, MaxElements)))),
	} {
		if _, err := new(Decoder).Decode(in); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	few := Decoder{MaxMetrics: 2}
	if _, err := few.Decode(bytes.Repeat([]byte{18, 0}, 3)); !errors.Is(err, ErrLimit) {
		t.Errorf("with max_metrics 2, three: %v", err)
	}
}

// A field that comes again and again takes no memory again and again.
func TestRepeatedMessagesTakeNoMemory(t *testing.T) {
	one := appendItem(appendItem(nil, 18, nil), 8, nil)
	in := appendItem(nil, 2, bytes.Repeat(one, 100_000))
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	p, err := new(Decoder).Decode(in)
	runtime.ReadMemStats(&after)
	if err != nil || len(p.Metrics) != 1 {
		t.Fatal(p, err)
	}
	if n := after.TotalAlloc - before.TotalAlloc; n > 1<<20 {
		t.Errorf("it took %d bytes of memory", n)
	}
}

// What the decoder gives is the input's, and the next payload finds the same room.
func TestDecoderKeepsItsRoom(t *testing.T) {
	p := Payload{Timestamp: 1, HasSeq: true}
	for i := range 500 {
		p.Metrics = append(p.Metrics,
			Metric{Name: []byte("a/b"), Type: Double, Value: Value{Kind: InDouble, Bits: uint64(i)}},
			Metric{HasAlias: true, Alias: uint64(i), Properties: &PropertySet{Keys: [][]byte{[]byte("Quality")}, Values: []Property{{Type: Int32, Value: Value{Kind: InInt, Bits: 192}}}}},
			Metric{Value: Value{Kind: InTemplate}, Template: &Template{Metrics: []Metric{{Name: []byte("m")}}}},
			Metric{Value: Value{Kind: InDataSet}, DataSet: &DataSet{Types: []Type{Int8}, Rows: []Row{{[]Value{{Kind: InInt}}}}}})
	}
	in := Append(nil, &p)
	var d Decoder
	if n := testing.AllocsPerRun(20, func() {
		if got, err := d.Decode(in); err != nil || len(got.Metrics) != 2000 {
			t.Fatal(err)
		}
	}); n > 0 {
		t.Errorf("%v allocations a payload, want none", n)
	}
	got, err := d.Decode(in)
	if err != nil {
		t.Fatal(err)
	}
	if at := bytes.Index(in, []byte("a/b")); &got.Metrics[0].Name[0] != &in[at] {
		t.Error("a name was copied")
	}
	if q := got.Metrics[1].Property("Quality"); q == nil || q.Value.Bits != 192 {
		t.Errorf("quality: %+v", q)
	}
	if q := got.Metrics[1].Property("quality"); q != nil {
		t.Errorf("another name: %+v", q)
	}
}

// More keys than values, or the other way about, is no reason to lose the metric.
func TestUnevenProperties(t *testing.T) {
	m := Metric{Properties: &PropertySet{Keys: [][]byte{[]byte("a"), []byte("Quality")}, Values: []Property{{}}}}
	got, err := new(Decoder).Decode(Append(nil, &Payload{Metrics: []Metric{m}}))
	if err != nil {
		t.Fatal(err)
	}
	if got.Metrics[0].Property("a") == nil || got.Metrics[0].Property("Quality") != nil {
		t.Errorf("got %+v", got.Metrics[0].Properties)
	}
}

// Whatever comes: a payload or an error. What was read is written so that it is read
// again, and then it is written the same.
func FuzzDecode(f *testing.F) {
	for _, seed := range []string{
		"", "08e80718001200", "120a1000280130013801500518ff01", "121e8a011b080212016112016218071 80c22080a0208050a02320022020a00",
		"121b9201180a01311205 0a01785001 1a070a0170100318 02220152 2801", "12124a100a016112021001 0a01621204 4a020a00", "9b0608059c06", "1205 9a01020801",
	} {
		if b, err := hex.DecodeString(strings.ReplaceAll(seed, " ", "")); err == nil {
			f.Add(b)
		}
	}
	var d, e Decoder
	f.Fuzz(func(t *testing.T, in []byte) {
		p, err := d.Decode(in)
		if err != nil {
			if p != nil {
				t.Error("an error, and a payload too")
			}
			return
		}
		once := Append(nil, p)
		q, err := e.Decode(once)
		if err != nil {
			if len(once) > MaxBytes && errors.Is(err, ErrLimit) {
				return
			}
			t.Fatalf("what was written is not read: %v", err)
		}
		if twice := Append(nil, q); !bytes.Equal(once, twice) {
			t.Errorf("first  % x\nsecond % x", once, twice)
		}
		for i := range q.Metrics[:min(len(q.Metrics), 100)] { // no panic, whatever the type says
			for x := Unknown; x <= DateTimeArray+1; x++ {
				_, _ = x.Scalar(q.Metrics[i].Value)
				_, _ = x.Elements(nil, q.Metrics[i].Value)
			}
		}
	})
}
