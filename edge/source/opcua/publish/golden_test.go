package publish

import (
	"encoding/hex"
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/gopcua/opcua/ua"
)

// goldenMessage is a message as it was on the wire, and what is in it.
type goldenMessage struct {
	name      string
	hex       string
	republish bool
	want      Message
}

func (g goldenMessage) bytes() []byte {
	b, err := hex.DecodeString(strings.Join(strings.Fields(g.hex), ""))
	if err != nil {
		panic(err)
	}
	return b
}

const (
	noon  = 133_536_816_000_000_000 // 2024-02-29 12:00 UTC
	later = noon + 1_234_567
)

func golden() []goldenMessage {
	return []goldenMessage{
		{
			name: "keep-alive", hex: `
			00e01dd2066bda01 07000000 00000000 00 00000000 000000
			05000000 02000000 08000000 09000000 01
			09000000 87b630d2066bda01 ffffffff
			02000000 00000000 00007a80 00000000`,
			want: Message{Handle: 7, Sent: noon, Subscription: 5, Available: []uint32{8, 9}, More: true, Sequence: 9, Time: later, Results: []uint32{0, uint32(ua.StatusBadSequenceNumberUnknown)}},
		},
		{
			name: "one double", hex: `
			00e01dd2066bda01 07000000 00000000 00 00000000 000000
			05000000 02000000 08000000 09000000 01
			09000000 87b630d2066bda01 01000000
			01002b03 01 26000000
			01000000 00000000 0d 0b 0000000000803540 00e01dd2066bda01 10071ed2066bda01 ffffffff
			02000000 00000000 00007a80 00000000`,
			want: Message{
				Handle: 7, Sent: noon, Subscription: 5, Available: []uint32{8, 9}, More: true, Sequence: 9, Time: later, Data: 1, Results: []uint32{0, uint32(ua.StatusBadSequenceNumberUnknown)},
				Values: []Value{{Type: TypeDouble, Source: noon, Server: noon + 10_000, Bits: math.Float64bits(21.5)}},
			},
		},
		{
			name: "a mixture and a status change", hex: `
			00e01dd2066bda01 07000000 00000000 00 00000000 000000
			05000000 02000000 08000000 09000000 01
			09000000 87b630d2066bda01 02000000
			01002b03 01 64000000
			05000000
			00000000 02 00003180
			01000000 3f 0a 000000bf 80040000 00e01dd2066bda01 0700 00e01dd2066bda01 0800
			02000000 01 0c 06000000 6cc3a4756674
			03000000 01 84 02000000 ffff 0200
			04000000 01 15 03 02000000 656e 02000000 6f6e
			ffffffff
			01003403 01 05000000 00000a80 00
			02000000 00000000 00007a80 00000000`,
			want: Message{
				Handle: 7, Sent: noon, Subscription: 5, Available: []uint32{8, 9}, More: true, Sequence: 9, Time: later, Data: 2, Results: []uint32{0, uint32(ua.StatusBadSequenceNumberUnknown)},
				Status: []uint32{uint32(ua.StatusBadTimeout)}, Statuses: uint32(ua.StatusBadNoCommunication) | 0x480,
				Values: []Value{
					{Status: uint32(ua.StatusBadNoCommunication)},
					{Handle: 1, Type: TypeFloat, Status: 0x480, Source: noon, Server: noon, Bits: math.Float64bits(-0.5)},
					{Handle: 2, Type: TypeString, Bytes: []byte("läuft")},
					{Handle: 3, Type: TypeInt16, Array: true, Bytes: []byte{0x84, 2, 0, 0, 0, 0xff, 0xff, 2, 0}},
					{Handle: 4, Type: TypeLocalizedText, Bytes: []byte("on")},
				},
			},
		},
		{
			name: "republished, with an event", republish: true, hex: `
			00e01dd2066bda01 07000000 00000000 00 00000000 000000
			09000000 87b630d2066bda01 02000000
			01009403 01 0e000000 01000000 01000000 01000000 0101
			01002b03 01 16000000 01000000 00000000 01 08 feffffffffffffff ffffffff`,
			want: Message{
				Handle: 7, Sent: noon, Sequence: 9, Time: later, Data: 2, Events: []Event{{Handle: 1, Count: 1, fields: []byte{1, 1}}},
				Values: []Value{{Type: TypeInt64, Bits: math.MaxUint64 - 1}},
			},
		},
		{
			name: "a fault with diagnostics", hex: `
			00e01dd2066bda01 07000000 00007980
			51 01000000 01000000 78 20 01000000
			02000000 01000000 61 02000000 6263
			000000`,
			want: Message{Handle: 7, Sent: noon, Result: uint32(ua.StatusBadNoSubscription)},
		},
	}
}

func TestDecode_Golden(t *testing.T) {
	var used Message
	for _, g := range golden() {
		for _, m := range []*Message{{}, &used} {
			decode := m.DecodePublish
			if g.republish {
				decode = m.DecodeRepublish
			}
			if err := decode(g.bytes()); err != nil {
				t.Errorf("%s: %v", g.name, err)
				continue
			}
			if got, want := printed(m), printed(&g.want); got != want {
				t.Errorf("%s:\n%s\nwant\n%s", g.name, got, want)
			}
		}
	}
}

// printed shows all of m, but not whether what is empty is nil.
func printed(m *Message) string { return fmt.Sprintf("%+v", *m) }
