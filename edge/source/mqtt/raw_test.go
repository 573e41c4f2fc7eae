package mqtt

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"plantmesh/edge/source"
	"plantmesh/edge/source/mqtt/link"
	"plantmesh/proto/mesh"
)

// mixed are packets such as a broker gives: good ones, repeated ones, foreign ones, unreadable ones.
func mixed() (out []*link.Packet) {
	retained := publish(0, false, "plant/line3/filler", `{"ts":1767268800000,"speed":1}`)
	retained.QoS, retained.Retained = 0, true
	large := publish(9, false, "plant/line3/filler", strings.Repeat("x", 10_000))
	large.TooLarge = true
	return []*link.Packet{
		retained, beat(1, noon), speed(2, false, noon+1e9, 40), speed(2, true, noon+1e9, 40),
		publish(3, false, "plant/line3/filler", `{"ts":1767268801500,"speed":"fast","other":7}`),
		publish(4, false, "plant/line9/else", `7`), publish(5, false, "plant/line3/filler", `{`), large, beat(10, noon+10e9), speed(11, false, noon+11e9, 41),
	}
}

// Each packet is told as it came, with what becomes of it.
func TestTap_TellsPacketsAsTheyCome(t *testing.T) {
	taps, heard, err := source.Listening(source.RawQuery{Rate: 1000})
	if err != nil {
		t.Fatal(err)
	}
	in := testIntake(t, nil)
	in.taps = taps
	in.connected(true)
	in.subscribed()
	for _, p := range mixed() {
		in.take(p, "dev-1", noon+12e9)
	}
	var got []string
	for _, r := range heard().Values {
		got = append(got, fmt.Sprintf("%s|%s|%s %.20s|%s", r.Signal, r.Node, r.Type, r.Value, strings.Join(r.Notes, ", ")))
		if r.Heard != noon+12e9 {
			t.Errorf("heard at %s", r.Heard)
		}
	}
	want := []string{
		`|plant/line3/filler|payload {"ts":1767268800000,|from dev-1, retained: said before we listened, so it is left out`,
		`|plant/line3/heartbeat|payload {"ts":1767268800000}|from dev-1, heartbeat: it is no value`,
		`line3.filler.speed|plant/line3/filler speed|number 40|from dev-1`,
		`|plant/line3/filler|payload {"ts":1767268801000,|from dev-1, said again: it was taken before`,
		`line3.filler.speed|plant/line3/filler speed|text fast|from dev-1, `,
		`|plant/line3/filler other|number 7|from dev-1, no signal has the name line3.filler.other`,
		`|plant/line9/else|payload 7|from dev-1, no filter of topics has this topic`,
		`|plant/line3/filler|payload {|from dev-1, `,
		`|plant/line3/filler|payload xxxxxxxxxxxxxxxxxxxx|from dev-1, `,
		`|plant/line3/heartbeat|payload {"ts":1767268810000}|from dev-1, heartbeat: it is no value`,
		`line3.filler.speed|plant/line3/filler speed|number 41|from dev-1`,
	}
	if len(got) != len(want) {
		t.Fatalf("%q", got)
	}
	for i := range want {
		if !strings.HasPrefix(got[i], want[i]) {
			t.Errorf("%q, want %q", got[i], want[i])
		}
	}
}

// A tap changes nothing of what is stored.
func TestTap_StoresTheSame(t *testing.T) {
	var offers [2]mesh.Offer
	for i := range offers {
		in := testIntake(t, nil)
		if i == 1 {
			taps, _, err := source.Listening(source.RawQuery{Rate: 1000})
			if err != nil {
				t.Fatal(err)
			}
			in.taps = taps
		}
		in.connected(true)
		in.subscribed()
		for _, p := range mixed() {
			in.take(p, "", noon+12e9)
		}
		var err error
		if offers[i], err = in.seal(); err != nil {
			t.Fatal(err)
		}
	}
	a, b := offers[0], offers[1]
	if !bytes.Equal(bytes.Join(a.Sealed, nil), bytes.Join(b.Sealed, nil)) || !bytes.Equal(a.State, b.State) || len(a.Sealed) == 0 || len(a.Kept) != len(b.Kept) {
		t.Errorf("without a tap %d records, with one %d", len(a.Sealed), len(b.Sealed))
	}
}
