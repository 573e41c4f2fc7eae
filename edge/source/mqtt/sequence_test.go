package mqtt

import (
	"fmt"
	"strings"
	"testing"

	"plantmesh/edge/source/mqtt/link"
	"plantmesh/proto/mesh"
)

// numbering is an intake whose devices count their messages in n.
func numbering(t *testing.T, resume []byte, kept map[string][]byte) *intake {
	t.Helper()
	cfg := testConfig(t)
	cfg.Topics[0].Sequence = "n"
	in, err := newIntake(cfg, resume, kept)
	if err != nil {
		t.Fatal(err)
	}
	return in
}

// numberedSpeed is message n, one a second.
func numberedSpeed(qos byte, id uint16, again bool, n int) *link.Packet {
	p := publish(id, again, "plant/line3/filler", fmt.Sprintf(`{"ts":%d,"n":%d,"speed":%d}`, int64(noon)/1e6+int64(n)*1000, n, n))
	p.QoS = qos
	return p
}

func TestIntake_AMissingNumberIsAGap(t *testing.T) {
	in := numbering(t, nil, nil)
	in.connected(false)
	for _, n := range []int{1, 2, 3, 7, 8} {
		in.take(numberedSpeed(0, 0, false, n), "", noon+mesh.Nanos(n)*1e9)
	}
	o := seal(t, in)
	batches, voids := contents(t, o)
	if len(voids) != 1 || voids[0].Parts[0] != (mesh.Part{Source: "line3-mqtt", Times: mesh.Span{From: noon + 3e9, To: noon + 7e9}, Count: 3}) {
		t.Errorf("voids %+v", voids)
	}
	if len(batches) != 1 || len(batches[0].Samples) != 5 || in.counters.missing != 3 {
		t.Errorf("batches %+v, %d missing", batches, in.counters.missing)
	}

	// The worker dies and is away for two messages: their numbers say so.
	in = numbering(t, o.State, keep(nil, o))
	in.connected(true)
	for _, n := range []int{11, 12} {
		in.take(numberedSpeed(0, 0, false, n), "", noon+mesh.Nanos(n)*1e9)
	}
	if _, voids := contents(t, seal(t, in)); len(voids) != 1 || voids[0].Parts[0].Count != 2 || voids[0].Parts[0].Times.From != noon+8e9 {
		t.Errorf("voids %+v", voids)
	}
}

// A device that counts anew is told from one whose message comes again.
func TestIntake_NumbersThatGoBack(t *testing.T) {
	in := numbering(t, nil, nil)
	in.connected(false)
	for _, n := range []int{100_000, 100_001} {
		in.take(numberedSpeed(1, uint16(n), false, n), "", noon+mesh.Nanos(n)*1e9)
	}
	for _, again := range []bool{true, false} { // under other ids: another session, or the device itself says it again
		for _, n := range []int{100_000, 100_001} {
			in.take(numberedSpeed(1, uint16(n+100), again, n), "", noon+mesh.Nanos(n)*1e9)
		}
	}
	if in.counters.again != 4 {
		t.Errorf("%d known again, want 4", in.counters.again)
	}
	p := publish(5, false, "plant/line3/filler", fmt.Sprintf(`{"ts":%d,"n":1,"speed":1}`, int64(noon)/1e6+100_010_000))
	in.take(p, "", noon+100_010e9)
	batches, voids := contents(t, seal(t, in))
	if len(batches[0].Samples) != 3 || len(voids) != 1 || !strings.Contains(voids[0].Note, "counts anew") || voids[0].Parts[0].Count != 0 {
		t.Errorf("%d samples, voids %+v", len(batches[0].Samples), voids)
	}
}

// What comes late fills its hole, once; a device that counts anew after a few messages is
// believed by its time.
func TestIntake_LateNumbersAndShortCounts(t *testing.T) {
	in := numbering(t, nil, nil)
	in.connected(false)
	for _, n := range []int{1, 2, 6, 4, 4, 3, 5, 5, 7} {
		in.take(numberedSpeed(1, uint16(n), false, n), "", noon+20e9)
	}
	batches, voids := contents(t, seal(t, in))
	if n := len(batches[0].Samples); n != 7 || len(voids) != 1 || in.counters.again != 2 {
		t.Errorf("%d samples, %d known again, voids %+v", n, in.counters.again, voids)
	}
	in.take(publish(1, false, "plant/line3/filler", fmt.Sprintf(`{"ts":%d,"n":1,"speed":5}`, int64(noon)/1e6+60_000)), "", noon+60e9)
	batches, voids = contents(t, seal(t, in))
	if len(batches) != 1 || len(batches[0].Samples) != 1 || len(voids) != 1 || !strings.Contains(voids[0].Note, "counts anew from 1") {
		t.Errorf("batches %+v voids %+v", batches, voids)
	}
}

// What a broker does not keep is lost while we are away, also where it keeps our
// session: only a number could say that nothing was.
func TestIntake_QoS0WithoutNumbersIsNotProvenAcrossABreak(t *testing.T) {
	for _, qos := range []byte{0, 1} {
		in := testIntake(t, nil)
		in.connected(false)
		in.subscribed()
		in.take(beat(1, noon), "", noon)
		p := speed(2, false, noon+1e9, 1)
		p.QoS = qos
		in.take(p, "", noon+1e9)
		in.take(beat(3, noon+65e9), "", noon+65e9)
		o := seal(t, in)
		in = keptIntake(t, o.State, keep(nil, o))
		in.connected(true)
		in.subscribed()
		in.take(beat(4, noon+100e9), "", noon+100e9)
		in.take(beat(5, noon+110e9), "", noon+110e9)
		_, voids := contents(t, seal(t, in))
		if lost := len(voids) == 1; lost != (qos == 0) {
			t.Errorf("QoS %d: voids %+v", qos, voids)
		}
	}
}

// What was sent before in a session that nobody knows, without a stamp of its own, may
// be there twice: it says so.
func TestIntake_WhatMayBeThereTwiceSaysSo(t *testing.T) {
	for name, c := range map[string]struct {
		session string
		kept    bool
		doubted bool
		time    string
		want    bool
	}{
		"of a broker":                     {},
		"of a broker, state lost":         {doubted: true, want: true},
		"of a device, session kept":       {session: "f1", kept: true},
		"of a device, session not kept":   {session: "f1", want: true},
		"of a device, with its own stamp": {session: "f1", time: "ts"},
	} {
		cfg := testConfig(t)
		cfg.Topics[0].Time = c.time
		in, err := newIntake(cfg, nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		in.connected(false)
		if c.doubted {
			in.doubt()
		}
		if c.kept {
			in.keep(c.session)
		}
		in.take(speed(7, true, noon, 5), c.session, noon)
		batches, _ := contents(t, seal(t, in))
		if got := batches[0].Samples[0].Flags&mesh.FlagRepeated != 0; got != c.want {
			t.Errorf("%s: flagged %v, want %v", name, got, c.want)
		}
	}
}
