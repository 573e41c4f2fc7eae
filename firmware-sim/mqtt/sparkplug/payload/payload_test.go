package payload

import (
	"encoding/hex"
	"math"
	"testing"
)

// TestPayload_Golden: what protobufjs makes of the same messages, as sparkplug-payload
// 1.0.3 wrote them (deploy/e2e/sparkplug compares all data types where it is installed).
func TestPayload_Golden(t *testing.T) {
	quality := Properties{Quality(Good)}
	for want, p := range map[string]Payload{
		"0805120b0a0161200350ffffffff0f12240a01621007200a28014a100a075175616c6974791205080318c0016900000000000000801800": {
			Timestamp: 5, Metrics: []Metric{
				{Name: "a", Type: Int32, Value: Int(Int32, -1)},
				{Name: "b", Alias: 7, Type: Double, Historical: true, Properties: quality, Value: Value{Type: Double, F: math.Copysign(0, -1)}},
			},
		},
		// By hand, Sparkplug 3.0, 6.4: an alias, a stamp, no type and no value.
		"120710ac0218013801": {Unordered: true, Metrics: []Metric{{Alias: 300, Timestamp: 1, Null: true}}},
		"18ff01":             {Seq: 255},
	} {
		if got := hex.EncodeToString(p.Append(nil)); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
}

func TestRebirth(t *testing.T) {
	command := func(ms ...Metric) []byte {
		p := Payload{Timestamp: 1, Unordered: true, Metrics: ms}
		return p.Append(nil)
	}
	on := Metric{Name: RebirthName, Type: Boolean, Value: Bool(true)}
	off, other, alone := on, on, on
	off.Value, other.Name, alone.Name, alone.Alias = Bool(false), "Node Control/Reboot", "", 1
	for name, c := range map[string]struct {
		bytes []byte
		want  bool
	}{
		"asked":            {command(on), true},
		"among others":     {command(other, off, on), true},
		"not asked":        {command(off), false},
		"another":          {command(other), false},
		"by alias":         {command(alone), false},
		"half":             {command(on)[:10], false},
		"nothing":          {nil, false},
		"more than there":  {append(command(on), 0x12, 0xff, 0xff, 0xff, 0xff, 0x0f), false},
		"a number too big": {[]byte{0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80}, false},
	} {
		if got := Rebirth(c.bytes); got != c.want {
			t.Errorf("%s: %t", name, got)
		}
	}
}

// FuzzRebirth: whatever comes, it is read to an end.
func FuzzRebirth(f *testing.F) {
	p := Payload{Timestamp: 1, Metrics: []Metric{{Name: RebirthName, Type: Boolean, Value: Bool(true)}}}
	f.Add(p.Append(nil))
	f.Add([]byte{0x12, 0x02, 0x70, 0x01})
	f.Fuzz(func(_ *testing.T, b []byte) { Rebirth(b) })
}
