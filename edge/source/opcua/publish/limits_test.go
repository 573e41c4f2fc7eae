package publish

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/gopcua/opcua/id"
	"github.com/gopcua/opcua/ua"
)

// written is a body as bytes, for what the library does not write.
type written []byte

func (w written) Encode() ([]byte, error) { return w, nil }

func le32(n int32) []byte { return binary.LittleEndian.AppendUint32(nil, uint32(n)) }

// one is a data change notification of one value, given by its variant.
func one(variant ...byte) *ua.ExtensionObject {
	return object(id.DataChangeNotification_Encoding_DefaultBinary,
		written(slices.Concat(le32(1), le32(77), []byte{hasValue}, variant, le32(0))))
}

// TestDecodePublish_Variants: what the library does not write, or reads otherwise.
func TestDecodePublish_Variants(t *testing.T) {
	many := slices.Concat([]byte{TypeBoolean | hasElements}, le32(70_000), make([]byte, 70_000))
	for _, c := range []struct {
		name    string
		variant []byte
		want    Value
		err     error
		library bool // reads it too
	}{
		{"null", []byte{0}, Value{}, nil, true},
		{"null, whatever the mask says", []byte{0xc0}, Value{}, nil, true},
		{"dimensions without elements", []byte{TypeByte | hasDimensions, 9}, Value{Type: TypeByte, Bits: 9}, nil, true},
		{"a boolean of 2", []byte{TypeBoolean, 2}, Value{Type: TypeBoolean, Bits: 1}, nil, true},
		{"null string", slices.Concat([]byte{TypeString}, le32(-1)), Value{Type: TypeString}, nil, true},
		{"empty string", slices.Concat([]byte{TypeString}, le32(0)), Value{Type: TypeString, Bytes: []byte{}}, nil, true},
		{"null bytes", slices.Concat([]byte{TypeByteString}, le32(-1)), Value{Type: TypeByteString}, nil, true},
		{"empty bytes", slices.Concat([]byte{TypeByteString}, le32(0)), Value{Type: TypeByteString, Bytes: []byte{}}, nil, true},
		{"text without text", []byte{TypeLocalizedText, 0}, Value{Type: TypeLocalizedText}, nil, true},
		{"text of any mask", slices.Concat([]byte{TypeLocalizedText, 0xfe}, le32(2), []byte("ab")), Value{Type: TypeLocalizedText, Bytes: []byte("ab")}, nil, true},
		{"null array", slices.Concat([]byte{TypeDouble | hasElements}, le32(-1)), Value{Type: TypeDouble, Array: true, Bytes: slices.Concat([]byte{TypeDouble | hasElements}, le32(-1))}, nil, true},
		{"empty array", slices.Concat([]byte{TypeVariant | hasElements}, le32(0)), Value{Type: TypeVariant, Array: true, Bytes: slices.Concat([]byte{TypeVariant | hasElements}, le32(0))}, nil, true},
		{"70,000 elements", many, Value{Type: TypeBoolean, Array: true, Bytes: many}, nil, false},
		{"type 26", slices.Concat([]byte{26}, le32(0)), Value{}, ErrKind, false},
		{"type 63", []byte{63}, Value{}, ErrKind, false},
		{"array of type 26", slices.Concat([]byte{26 | hasElements}, le32(0)), Value{}, ErrKind, false},
		{"node id of form 6", []byte{TypeNodeID, 6, 0, 0, 0}, Value{}, ErrKind, false},
		{"text of -2 bytes", slices.Concat([]byte{TypeString}, le32(-2)), Value{}, ErrCount, false},
		{"text of too many bytes", slices.Concat([]byte{TypeString}, le32(math.MaxInt32)), Value{}, ErrShort, false},
		{"-2 elements", slices.Concat([]byte{TypeDouble | hasElements}, le32(-2)), Value{}, ErrCount, false},
		{"elements beyond the end", slices.Concat([]byte{TypeDouble | hasElements}, le32(2), make([]byte, 8)), Value{}, ErrCount, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := encode(response(one(c.variant...)))
			var m Message
			err := m.DecodePublish(b)
			if !errors.Is(err, c.err) {
				t.Fatalf("%v, want %v", err, c.err)
			}
			read, theirs := libraryPublish(b)
			if theirs == nil != c.library {
				t.Fatalf("the library: %v", theirs)
			}
			if c.err != nil {
				return
			}
			c.want.Handle = 77
			if got := m.Values[0]; fmt.Sprintf("%#v", got) != fmt.Sprintf("%#v", c.want) {
				t.Fatalf("%#v, want %#v", got, c.want)
			}
			if c.library {
				if d := differs(&m, read); d != "" {
					t.Fatal(d)
				}
			}
		})
	}
}

// TestDecodePublish_Dimensions: they are greater than zero and make up the array.
func TestDecodePublish_Dimensions(t *testing.T) {
	for _, c := range []struct {
		elements   int32
		dimensions []int32
		err        error
	}{
		{6, nil, nil},
		{6, []int32{6}, nil},
		{6, []int32{2, 3}, nil},
		{6, []int32{1, 3, 2, 1}, nil},
		{0, nil, nil},
		{-1, nil, nil},
		{6, []int32{5}, ErrCount},
		{6, []int32{2, 4}, ErrCount},
		{6, []int32{-2, -3}, ErrCount},
		{0, []int32{0, 3}, ErrCount},
		{-1, []int32{1}, ErrCount},
		{0, []int32{65_536, 65_536}, ErrCount}, // 0 in 32 bits
		{6, []int32{math.MaxInt32, math.MaxInt32, math.MaxInt32}, ErrCount},
	} {
		v := slices.Concat([]byte{TypeInt16 | hasElements | hasDimensions}, le32(c.elements), make([]byte, 2*max(c.elements, 0)), le32(int32(len(c.dimensions))))
		for _, d := range c.dimensions {
			v = append(v, le32(d)...)
		}
		var m Message
		err := m.DecodePublish(encode(response(one(v...))))
		if !errors.Is(err, c.err) {
			t.Errorf("%d elements of %v: %v, want %v", c.elements, c.dimensions, err, c.err)
		}
		if err == nil && !slices.Equal(m.Values[0].Bytes, v) {
			t.Errorf("%d elements of %v: %x, want %x", c.elements, c.dimensions, m.Values[0].Bytes, v)
		}
	}
	for _, n := range []int32{-2, 2, math.MaxInt32} {
		v := slices.Concat([]byte{TypeByte | hasElements | hasDimensions}, le32(1), []byte{5}, le32(n))
		var m Message
		if err := m.DecodePublish(encode(response(one(v...)))); !errors.Is(err, ErrCount) {
			t.Errorf("%d dimensions that are not there: %v", n, err)
		}
	}
}

// TestDecodePublish_ByteStringArrays: the library reads these, but can't write them.
func TestDecodePublish_ByteStringArrays(t *testing.T) {
	v := slices.Concat([]byte{TypeByteString | hasElements}, le32(3), le32(2), []byte("ab"), le32(-1), le32(0))
	var m Message
	agrees(t, &m, encode(response(one(v...), change(plain(int32(4))))))
	if !slices.Equal(m.Values[0].Bytes, v) || int32(m.Values[1].Bits) != 4 {
		t.Errorf("%+v", m.Values)
	}
}

// TestDecodePublish_Depth: 16 levels are read, 17 are not; the item's data value is the first.
func TestDecodePublish_Depth(t *testing.T) {
	variants := func(levels int) []byte { // the data value around them is one
		return slices.Concat(bytes.Repeat([]byte{TypeVariant}, levels-2), []byte{TypeByte, 1})
	}
	inArrays := func(levels int) []byte {
		return slices.Concat(bytes.Repeat(slices.Concat([]byte{TypeVariant | hasElements}, le32(1)), levels-2), []byte{TypeByte, 1})
	}
	values := func(levels int) []byte { // levels is even: data value and variant
		return slices.Concat(bytes.Repeat([]byte{TypeDataValue, hasValue}, levels/2-1), []byte{TypeByte, 1})
	}
	diagnostics := func(levels int) []byte { // in a variant in the data value
		return slices.Concat([]byte{TypeDiagnostic}, bytes.Repeat([]byte{hasDiagnostic}, levels-3), []byte{0})
	}
	for name, c := range map[string]struct {
		of         func(levels int) []byte
		good, deep int
	}{
		"variants": {variants, 16, 17}, "arrays": {inArrays, 16, 17}, "data values": {values, 16, 18}, "diagnostics": {diagnostics, 16, 17},
	} {
		var m Message
		if err := m.DecodePublish(encode(response(one(c.of(c.good)...)))); err != nil || len(m.Values[0].Bytes) == 0 {
			t.Errorf("%d %s: %v", c.good, name, err)
		}
		for _, levels := range []int{c.deep, 1_000_000} {
			if err := m.DecodePublish(encode(response(one(c.of(levels)...)))); !errors.Is(err, ErrDeep) {
				t.Errorf("%d %s: %v", levels, name, err)
			}
		}
	}
	for levels, want := range map[int]error{16: nil, 17: ErrDeep} {
		r := response()
		r.ResponseHeader.ServiceDiagnostics = nested(levels)
		var m Message
		if err := m.DecodePublish(encode(r)); !errors.Is(err, want) {
			t.Errorf("%d diagnostics: %v, want %v", levels, err, want)
		}
	}
}

func nested(levels int) *ua.DiagnosticInfo {
	d := &ua.DiagnosticInfo{}
	for range levels - 1 {
		d = &ua.DiagnosticInfo{EncodingMask: ua.DiagnosticInfoInnerDiagnosticInfo, InnerDiagnosticInfo: d}
	}
	return d
}

// TestDecodePublish_TypeIDs: each form of a node id, and each encoding of a body.
func TestDecodePublish_TypeIDs(t *testing.T) {
	body := slices.Concat(le32(1), le32(77), []byte{hasValue, TypeByte, 5}, le32(0))
	sized := slices.Concat([]byte{1}, le32(int32(len(body))), body)
	uri := slices.Concat(le32(3), []byte("urn"))
	for _, c := range []struct {
		name            string
		id, rest        []byte
		values, foreign int
		library         bool
	}{
		{"four bytes", []byte{1, 0, 0x2b, 3}, sized, 1, 0, true},
		{"numeric", []byte{2, 0, 0, 0x2b, 3, 0, 0}, sized, 1, 0, true},
		{"with a URI", slices.Concat([]byte{0x81, 0, 0x2b, 3}, uri), sized, 1, 0, true},
		{"with a server", []byte{0x41, 0, 0x2b, 3, 1, 0, 0, 0}, sized, 1, 0, true},
		{"with both", slices.Concat([]byte{0xc2, 0, 0, 0x2b, 3, 0, 0}, uri, le32(1)), sized, 1, 0, true},
		{"with bits that mean nothing", []byte{0x31, 0, 0x2b, 3}, sized, 1, 0, true},
		{"any encoding but XML", []byte{1, 0, 0x2b, 3}, slices.Concat([]byte{3}, sized[1:]), 1, 0, true},
		{"trailing bytes in the body", []byte{1, 0, 0x2b, 3}, slices.Concat([]byte{1}, le32(int32(len(body)+2)), body, []byte{1, 2}), 1, 0, true},
		{"another namespace", []byte{1, 2, 0x2b, 3}, sized, 0, 1, true},
		{"another namespace, numeric", []byte{2, 1, 0, 0x2b, 3, 0, 0}, sized, 0, 1, true},
		{"two bytes", []byte{0, 0x2b}, sized, 0, 1, true},
		{"text", slices.Concat([]byte{3, 0, 0}, le32(5), []byte("i=811")), sized, 0, 1, true},
		{"bytes", slices.Concat([]byte{5, 0, 0}, le32(2), []byte{0x2b, 3}), sized, 0, 1, true},
		{"guid", slices.Concat([]byte{4, 0, 0}, make([]byte, 16)), sized, 0, 1, true},
		{"no body", []byte{1, 0, 0x2b, 3}, []byte{0}, 0, 1, true},
		{"null body", []byte{1, 0, 0x2b, 3}, slices.Concat([]byte{1}, le32(-1)), 0, 1, true},
		{"empty body", []byte{1, 0, 0x2b, 3}, slices.Concat([]byte{1}, le32(0)), 0, 1, true},
		{"XML", []byte{1, 0, 0x2a, 3}, slices.Concat([]byte{2}, le32(4), []byte("<a/>")), 0, 1, false}, // the library wants a second length
	} {
		b := slices.Concat(encode(response().ResponseHeader), le32(5), le32(0), []byte{0},
			le32(9), make([]byte, 8), le32(1), c.id, c.rest, le32(0), le32(0), []byte("and more"))
		var m Message
		if err := m.DecodePublish(b); err != nil || m.Data != 1 || len(m.Values) != c.values || m.Foreign != c.foreign {
			t.Errorf("%s: %v, %+v", c.name, err, m)
			continue
		}
		want, err := libraryPublish(b)
		if err == nil != c.library {
			t.Errorf("%s: the library: %v", c.name, err)
		} else if c.library && differs(&m, want) != "" {
			t.Errorf("%s: %s", c.name, differs(&m, want))
		}
	}
}

// TestDecodePublish_Counts: more than the bytes can hold is refused before anything grows.
func TestDecodePublish_Counts(t *testing.T) {
	front := encode(response().ResponseHeader)
	rest := make([]byte, 100_000)
	for name, b := range map[string][]byte{
		"available": slices.Concat(front, le32(5), le32(25_001), rest),
		"negative":  slices.Concat(front, le32(5), le32(-2), rest),
		"data":      slices.Concat(front, le32(5), le32(0), []byte{0}, le32(9), make([]byte, 8), le32(math.MaxInt32), rest),
		"items":     encode(response(object(id.DataChangeNotification_Encoding_DefaultBinary, written(slices.Concat(le32(20_001), rest))))),
		"events":    encode(response(object(id.EventNotificationList_Encoding_DefaultBinary, written(slices.Concat(le32(12_501), rest))))),
		"fields":    encode(response(object(id.EventNotificationList_Encoding_DefaultBinary, written(slices.Concat(le32(1), le32(1), le32(100_001), rest))))),
	} {
		var m Message
		if err := m.DecodePublish(b); !errors.Is(err, ErrCount) || cap(m.Values) > 0 || cap(m.Available) > 2 {
			t.Errorf("%s: %v, room for %d values and %d numbers", name, err, cap(m.Values), cap(m.Available))
		}
		if _, err := libraryPublish(b); err == nil && name != "events" && name != "fields" {
			t.Errorf("%s: the library reads it", name)
		}
	}
}

// TestDecode_ErrorsNameThePlace, by bytes from the beginning also inside a body.
func TestDecode_ErrorsNameThePlace(t *testing.T) {
	b := encode(response(change(), change(plain(1.0), plain("text"), plain(int32(1)))))
	at := bytes.Index(b, []byte("text"))
	b[at-5] = 26
	var m Message
	err := m.DecodePublish(b)
	want := fmt.Sprintf("publish response: notification 1: value 1: an encoding that is not known at byte %d", at-4)
	if err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
	err = m.DecodeRepublish(b[:12])
	if want := "republish response: header: ends early at byte 12"; err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
	if err := m.DecodePublish(nil); err == nil || !strings.HasPrefix(err.Error(), "publish response: header: ends early at byte 0") {
		t.Error(err)
	}
}

// TestQuick_IsItem: the short way gives what the long way gives, and takes as much.
func TestQuick_IsItem(t *testing.T) {
	dice := newMaker(5)
	taken := 0
	for range 50_000 {
		b := make([]byte, dice.IntN(quickSize+8))
		for i := range b {
			b[i] = byte(dice.Uint32())
		}
		if len(b) > 5 {
			b[4], b[5] = byte(dice.IntN(0x20))|hasValue, byte(dice.IntN(27))
		}
		short, long := Value{Handle: 1, Bytes: []byte("old")}, Value{}
		n := quick(b, &short)
		if n == 0 {
			if short.Handle != 1 || short.Bytes == nil {
				t.Fatalf("%x: not read, but changed", b)
			}
			continue
		}
		taken++
		r := reader{b: b}
		r.item(&long)
		if r.err != nil || r.pos != n || fmt.Sprintf("%#v", short) != fmt.Sprintf("%#v", long) {
			t.Fatalf("%x: %d bytes %#v, %d bytes %#v, %v", b, n, short, r.pos, long, r.err)
		}
	}
	if taken < 1000 {
		t.Errorf("only %d were quick", taken)
	}
}

// TestDecodePublish_MoreValuesThanOneAsksFor are refused before room is made for them.
func TestDecodePublish_MoreValuesThanOneAsksFor(t *testing.T) {
	body := func(n int) []byte {
		items := append(binary.LittleEndian.AppendUint32(nil, uint32(n)), make([]byte, 5*n)...)
		items = append(items, 0xff, 0xff, 0xff, 0xff)
		b := make([]byte, 8+4+4+1+4+3) // a header, good
		b = append(b, 1, 0, 0, 0)      // the subscription
		b = append(b, 0, 0, 0, 0, 0)   // none kept, no more
		b = append(b, make([]byte, 4+8)...)
		b = append(b, 1, 0, 0, 0, 1, 0, idDataChange&0xff, idDataChange>>8, 1)
		b = append(binary.LittleEndian.AppendUint32(b, uint32(len(items))), items...)
		return append(b, 0, 0, 0, 0, 0, 0, 0, 0)
	}
	var m Message
	if err := m.DecodePublish(body(MaxValues)); err != nil || len(m.Values) != MaxValues {
		t.Errorf("%d values, %v", len(m.Values), err)
	}
	m = Message{}
	if err := m.DecodePublish(body(3 << 20)); !errors.Is(err, ErrCount) || cap(m.Values) != 0 {
		t.Errorf("room for %d values, %v", cap(m.Values), err)
	}
}
