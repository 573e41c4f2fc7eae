package publish

import (
	"errors"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/gopcua/opcua/ua"
)

// empty reports whether there is nothing in m.
func empty(m *Message) bool {
	rest := *m
	rest.Available, rest.Values, rest.Status, rest.Events, rest.Results = nil, nil, nil, nil, nil
	return len(m.Available)+len(m.Values)+len(m.Status)+len(m.Events)+len(m.Results) == 0 &&
		rest.Handle == 0 && rest.Result == 0 && rest.Subscription == 0 && !rest.More && rest.Sequence == 0 &&
		rest.Sent == 0 && rest.Time == 0 && rest.Data == 0 && rest.Foreign == 0
}

// agrees reads a publish response and fails where the library reads it otherwise.
func agrees(t *testing.T, m *Message, b []byte) {
	t.Helper()
	want, err := libraryPublish(b)
	if err != nil {
		t.Fatalf("the library: %v", err)
	}
	if err := m.DecodePublish(b); err != nil {
		t.Fatal(err)
	}
	if d := differs(m, want); d != "" {
		t.Fatal(d)
	}
}

// TestDecodePublish_EveryTypeAndMask: each built-in type as a single value and as
// an array of one to three dimensions, behind each mask of a data value.
func TestDecodePublish_EveryTypeAndMask(t *testing.T) {
	dice := newMaker(1)
	var m Message
	for of := byte(1); of <= 25; of++ {
		for dimensions := range 4 {
			var values []*ua.DataValue
			for mask := range 0x40 {
				d := dice.dataValue(dice.variantOf(of, dimensions, 3))
				d.EncodingMask = byte(mask)
				values = append(values, d)
			}
			agrees(t, &m, encode(response(change(values...))))
			for i, v := range m.Values {
				if i&ua.DataValueValue == 0 {
					if v.Type != 0 || v.Array || v.Bytes != nil || v.Bits != 0 {
						t.Fatalf("type %d, mask %x: a value where none was sent: %+v", of, i, v)
					}
					continue
				}
				if want := encode(values[i].Value); (v.Array || raw(of)) && !slices.Equal(v.Bytes, want) {
					t.Fatalf("type %d: bytes %x, want %x", of, v.Bytes, want)
				}
			}
		}
	}
}

// TestDecode_RandomMessages: everything mixed, in one Message that is used again.
func TestDecode_RandomMessages(t *testing.T) {
	var m, again Message
	values, events, foreign := 0, 0, 0
	for seed := range uint64(1000) {
		made := newMaker(seed).response()
		agrees(t, &m, encode(made))
		values, events, foreign = values+len(m.Values), events+len(m.Events), foreign+m.Foreign

		b := encode(&ua.RepublishResponse{ResponseHeader: made.ResponseHeader, NotificationMessage: made.NotificationMessage})
		want, err := libraryRepublish(b)
		if err != nil {
			t.Fatalf("the library: %v", err)
		}
		if err := again.DecodeRepublish(b); err != nil {
			t.Fatal(err)
		}
		if d := republishDiffers(&again, want); d != "" {
			t.Fatal(d)
		}
	}
	if values < 10_000 || events < 100 || foreign < 100 {
		t.Errorf("only %d values, %d events and %d foreign notifications were looked at", values, events, foreign)
	}
}

// TestDecode_EveryPrefix: what ends early is an error, for the library too, and
// leaves nothing behind.
func TestDecode_EveryPrefix(t *testing.T) {
	var m Message
	for seed := range uint64(20) {
		b := encode(newMaker(seed).response())
		for n := range min(len(b), 2000) {
			cut := slices.Clone(b[:n])
			err := m.DecodePublish(cut)
			if !errors.Is(err, ErrShort) && !errors.Is(err, ErrCount) {
				t.Fatalf("%d of %d bytes: %v", n, len(b), err)
			}
			if !empty(&m) {
				t.Fatalf("%d of %d bytes: left behind: %+v", n, len(b), m)
			}
			if _, err := libraryPublish(cut); err == nil {
				t.Fatalf("%d of %d bytes: the library reads them", n, len(b))
			}
		}
	}
}

// TestDecode_DamagedBytes: a few bytes changed. Where this fails for a reason
// other than a limit of its own, the library does too; where both read it, they agree.
func TestDecode_DamagedBytes(t *testing.T) {
	var m Message
	both := 0
	for seed := range uint64(150) {
		dice := newMaker(seed)
		whole := encode(dice.response())
		for range 40 {
			b := slices.Clone(whole)
			for range 1 + dice.IntN(3) {
				b[dice.IntN(len(b))] = byte(dice.Uint32())
			}
			if check(t, &m, b) {
				both++
			}
		}
	}
	if both < 500 {
		t.Errorf("both read only %d", both)
	}
}

// check reads any bytes as a publish response, compares with the library, and
// reports whether both read them.
func check(t *testing.T, m *Message, b []byte) bool {
	t.Helper()
	err := m.DecodePublish(b)
	switch {
	case err != nil && !empty(m):
		t.Fatalf("left behind with %v: %+v", err, m)
	case len(m.Values)*leastItem > len(b):
		t.Fatalf("%d values of %d bytes", len(m.Values), len(b))
	case errors.Is(err, ErrCount) || errors.Is(err, ErrDeep):
		return false // for these the library may take any memory
	}
	want, theirs := libraryPublish(b)
	switch {
	case err != nil && theirs == nil:
		t.Fatalf("%v, but the library reads it", err)
	case err != nil || theirs != nil:
		return false
	}
	if d := differs(m, want); d != "" {
		t.Fatal(d)
	}
	return true
}

func TestDecodePublish_BadResultIsEmpty(t *testing.T) {
	r := response(change(plain(1.5)))
	for result, full := range map[ua.StatusCode]bool{0: true, 0x40000000: true, ua.StatusBadNoSubscription: false, 0xC0000000: false} {
		r.ResponseHeader.ServiceResult = result
		var m Message
		if err := m.DecodePublish(encode(r)); err != nil {
			t.Fatal(err)
		}
		if m.Handle != 7 || m.Result != uint32(result) {
			t.Errorf("result %x: %+v", result, m)
		}
		m.Handle, m.Result, m.Sent = 0, 0, 0
		if empty(&m) == full {
			t.Errorf("result %x: %+v", result, m)
		}
	}
	var m Message
	fault := encode(r.ResponseHeader)
	r.ResponseHeader.ServiceResult = ua.StatusBadTimeout
	if err := m.DecodePublish(encode(r.ResponseHeader)); err != nil || m.Result != uint32(ua.StatusBadTimeout) {
		t.Errorf("a fault: %v, %+v", err, m)
	}
	r.ResponseHeader.ServiceResult = 0
	copy(fault, encode(r.ResponseHeader))
	if err := m.DecodePublish(fault); !errors.Is(err, ErrShort) || !empty(&m) {
		t.Errorf("a header alone: %v, %+v", err, m)
	}
}

// TestDecodePublish_LetsGo: a message that brings less does not hold on to the bytes of the one before.
func TestDecodePublish_LetsGo(t *testing.T) {
	var values []*ua.DataValue
	for range 10 {
		values = append(values, plain("text"))
	}
	ten, two := encode(response(change(values...))), encode(response(change(values[:2]...)))
	for _, next := range [][]byte{two, two[:len(two)-1], nil} {
		var m Message
		if err := m.DecodePublish(ten); err != nil {
			t.Fatal(err)
		}
		all := m.Values
		_ = m.DecodePublish(next)
		for i := len(m.Values); i < len(all); i++ {
			if all[i].Bytes != nil {
				t.Errorf("value %d after %d bytes still has %q", i, len(next), all[i].Bytes)
			}
		}
	}
}

func TestDecodePublish_NoAllocations(t *testing.T) {
	for _, b := range [][]byte{thousand(false), thousand(true), encode(newMaker(12).response())} {
		var m Message
		if n := testing.AllocsPerRun(20, func() {
			if err := m.DecodePublish(b); err != nil {
				t.Error(err)
			}
		}); n != 0 {
			t.Errorf("%v allocations for %d values", n, len(m.Values))
		}
	}
}

func TestNanos(t *testing.T) {
	ticks := func(at time.Time) int64 {
		return at.Unix()*10_000_000 + int64(at.Nanosecond()/100) + 116_444_736_000_000_000
	}
	for _, at := range []time.Time{
		time.Unix(0, 0), time.Unix(0, 100), time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC),
		time.Date(2024, 2, 29, 23, 59, 59, 999_999_900, time.UTC), time.Date(2261, 12, 31, 23, 59, 59, 999_999_900, time.UTC),
	} {
		if n, ok := Nanos(ticks(at)); !ok || n != at.UnixNano() {
			t.Errorf("%v: %d, %t, want %d", at, n, ok, at.UnixNano())
		}
	}
	for _, at := range []int64{
		0, 1, -1, math.MinInt64, math.MaxInt64, ticks(time.Unix(0, 0)) - 1, ticks(time.Date(2262, 1, 1, 0, 0, 0, 0, time.UTC)),
		ticks(time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)),
	} {
		if n, ok := Nanos(at); ok || n != 0 {
			t.Errorf("%d ticks: %d, %t", at, n, ok)
		}
	}
}
