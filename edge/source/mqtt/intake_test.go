package mqtt

import (
	"fmt"
	"hash/crc32"
	"strings"
	"testing"
	"time"

	"plantmesh/edge/source/mqtt/link"
	"plantmesh/proto/mesh"
	"plantmesh/proto/wire"
)

const noon mesh.Nanos = 1_767_268_800e9 // 2026-01-01T12:00:00Z

func testConfig(t *testing.T) *Config {
	t.Helper()
	cfg := &Config{
		ID: "line3-mqtt", Config: link.Config{URL: "mqtt://127.0.0.1:1883"}, ReceiveMaximum: 500,
		Mapping: Mapping{
			Topics:    []Topic{{Filter: "plant/line3/+", Signal: "line3.{2}.{key}", Time: "ts"}},
			Heartbeat: Heartbeat{Topic: "plant/line3/heartbeat"},
			Signals: []SignalConfig{
				{Name: "line3.filler.produced", Type: "int"},
				{Name: "line3.filler.speed", Type: "double", Unit: "1/min"},
				{Name: "line3.filler.order", Type: "string"},
				{Name: "line3.filler.blocked", Type: "bool"},
				{Name: "line3.capper.produced", Type: "int"},
			},
		},
	}
	if err := cfg.Validate(); err != nil {
		t.Fatalf("validate: %v", err)
	}
	return cfg
}

func testIntake(t *testing.T, resume []byte) *intake {
	t.Helper()
	return keptIntake(t, resume, nil)
}

// keptIntake resumes what an offer left.
func keptIntake(t *testing.T, resume []byte, kept map[string][]byte) *intake {
	t.Helper()
	in, err := newIntake(testConfig(t), resume, kept)
	if err != nil {
		t.Fatalf("new intake: %v", err)
	}
	return in
}

// What a condition leaves out is counted, and said.
func TestIntake_CountsWhatAConditionLeavesOut(t *testing.T) {
	cfg := testConfig(t)
	cfg.Signals[0].When = "value > 0"
	in, err := newIntake(cfg, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	in.connected(true)
	for i, v := range []int{0, 7, 0} {
		in.take(publish(uint16(i+1), false, "plant/line3/filler", fmt.Sprintf(`{"ts":%d,"produced":%d}`, int64(noon)/1e6+int64(i), v)), "", noon)
	}
	if in.counters.skipped != 2 || in.counters.samples != 1 || !strings.Contains(in.counters.leftOut(), "2 values by a condition (when)") {
		t.Errorf("%+v: %s", in.counters, in.counters.leftOut())
	}
}

func publish(id uint16, again bool, topic, payload string) *link.Packet {
	return &link.Packet{
		ID: id, QoS: 1, Again: again, Topic: []byte(topic), Payload: []byte(payload),
		Hash: crc32.Checksum([]byte(topic+"\x00"+payload), crc32.MakeTable(crc32.Castagnoli)),
	}
}

func beat(id uint16, at mesh.Nanos) *link.Packet {
	return publish(id, false, "plant/line3/heartbeat", fmt.Sprintf(`{"ts":%d}`, at/1e6))
}

func speed(id uint16, again bool, at mesh.Nanos, v float64) *link.Packet {
	return publish(id, again, "plant/line3/filler", fmt.Sprintf(`{"ts":%d,"speed":%g}`, at/1e6, v))
}

// contents opens the records of an offer.
func contents(t *testing.T, o mesh.Offer) (batches []mesh.Batch, voids []mesh.Void) {
	t.Helper()
	d, err := wire.NewDecoder()
	if err != nil {
		t.Fatal(err)
	}
	for _, sealed := range o.Sealed {
		h, err := wire.ParseHeader(sealed)
		if err != nil {
			t.Fatal(err)
		}
		if h.Kind == mesh.KindVoid {
			v, err := wire.OpenVoid(sealed)
			if err != nil {
				t.Fatal(err)
			}
			voids = append(voids, v)
			continue
		}
		b, err := d.Batch(sealed)
		if err != nil {
			t.Fatal(err)
		}
		batches = append(batches, b)
	}
	return batches, voids
}

func seal(t *testing.T, in *intake) mesh.Offer {
	t.Helper()
	o, err := in.seal()
	if err != nil {
		t.Fatalf("seal: %v", err)
	}
	return o
}

func TestIntake_TypesAreKept(t *testing.T) {
	in := testIntake(t, nil)
	in.connected(false)
	in.take(publish(1, false, "plant/line3/filler",
		`{"ts":1767268800123,"produced":9007199254740993,"speed":40,"order":"A-1","blocked":true,"colour":"red"}`), "", noon)
	in.take(publish(2, false, "plant/line3/filler", `{"ts":1767268800124,"speed":null}`), "", noon)
	batches, voids := contents(t, seal(t, in))
	if len(batches) != 1 || len(voids) != 0 || len(batches[0].Samples) != 5 {
		t.Fatalf("got %d batches %d voids: %+v", len(batches), len(voids), batches)
	}
	want := []mesh.Value{mesh.Int(9007199254740993), mesh.Double(40), mesh.Text("A-1"), mesh.Bool(true), {}}
	got := map[string]mesh.Value{}
	for _, s := range batches[0].Samples {
		got[fmt.Sprint(s.Signal, s.Time, s.Status)] = s.Value
	}
	for i, w := range want {
		key := fmt.Sprint(i, noon+123e6, mesh.StatusGood)
		if i == 4 {
			key = fmt.Sprint(1, noon+124e6, mesh.StatusBadNoData)
		}
		if g, ok := got[key]; !ok || g.Compare(w) != 0 {
			t.Errorf("value %d: got %v, want %v", i, g, w)
		}
	}
	if in.counters.unknown != 1 {
		t.Errorf("unknown keys: %d, want 1", in.counters.unknown)
	}
}

func TestIntake_ProofByHeartbeat(t *testing.T) {
	in := testIntake(t, nil)
	in.connected(false)
	in.subscribed()
	in.take(beat(1, noon), "", noon)
	in.take(speed(2, false, noon+1e9, 40), "", noon)
	in.take(beat(3, noon+10e9), "", noon+10e9)
	in.take(beat(4, noon+20e9), "", noon+20e9)
	batches, voids := contents(t, seal(t, in))
	if len(batches) != 1 || len(voids) != 0 {
		t.Fatalf("got %d batches, %d voids", len(batches), len(voids))
	}
	b := batches[0]
	if want := (mesh.Span{From: noon, To: noon + 15e9}); b.Proven != want || b.Complete != want.To {
		t.Errorf("proven %v complete %v, want %v", b.Proven, b.Complete, want)
	}
}

func TestIntake_HeartbeatAheadOfTheClockProvesNothing(t *testing.T) {
	in := testIntake(t, nil)
	in.connected(false)
	in.subscribed()
	in.take(beat(1, noon), "", noon)
	in.take(beat(2, noon+3600e9), "", noon)
	batches, voids := contents(t, seal(t, in))
	if len(batches) != 0 || len(voids) != 1 || voids[0].Cause != mesh.CauseUnreadable {
		t.Errorf("got %+v and %+v", batches, voids)
	}
}

// A device that woke with its clock at the year 2000 must not make the years
// until it is set right known.
func TestIntake_HeartbeatFarBehindTheClockProvesNothing(t *testing.T) {
	in := testIntake(t, nil)
	in.connected(false)
	in.subscribed()
	in.take(beat(1, 946_684_800e9), "", noon)
	in.take(beat(2, noon), "", noon)
	in.take(beat(3, noon+10e9), "", noon+10e9)
	batches, voids := contents(t, seal(t, in))
	if want := (mesh.Span{From: noon, To: noon + 5e9}); len(batches) != 1 || batches[0].Proven != want {
		t.Errorf("got %+v, want %v proven", batches, want)
	}
	if len(voids) != 1 || !strings.Contains(voids[0].Note, "more than a year behind") {
		t.Errorf("voids %+v", voids)
	}
}

func TestIntake_SameTwiceIsStoredOnce(t *testing.T) {
	in := testIntake(t, nil)
	in.connected(false)
	if after := in.take(speed(7, false, noon, 1), "", noon); after != 1 {
		t.Errorf("first: acknowledged after offer %d, want 1", after)
	}
	first := seal(t, in)
	in.connected(true)
	if after := in.take(speed(7, true, noon, 1), "", noon); after != 1 {
		t.Errorf("again: acknowledged after offer %d, want 1", after)
	}
	in.take(speed(8, true, noon+1e6, 2), "", noon) // DUP, but never seen
	in.take(speed(7, true, noon+2e6, 3), "", noon) // DUP of an id, other content
	batches, _ := contents(t, seal(t, in))
	if n := len(batches[0].Samples); n != 2 {
		t.Errorf("%d samples, want 2", n)
	}

	again := keptIntake(t, first.State, keep(nil, first)) // the agent dies after the first offer
	again.connected(true)
	if after := again.take(speed(7, true, noon, 1), "", noon); after != 0 {
		t.Errorf("after a restart: acknowledged after offer %d, want at once", after)
	}
	if o := seal(t, again); len(o.Sealed) != 0 {
		t.Errorf("stored twice: %d records", len(o.Sealed))
	}
}

// keep is what is kept after an offer.
func keep(kept map[string][]byte, o mesh.Offer) map[string][]byte {
	if kept == nil {
		kept = map[string][]byte{}
	}
	for _, k := range o.Kept {
		if kept[k.Name] = k.Bytes; len(k.Bytes) == 0 {
			delete(kept, k.Name)
		}
	}
	return kept
}

// A broker that was killed comes back with the session as its disk had it, and sends
// what was acknowledged and answered long ago.
func TestIntake_WhatWasAcknowledgedLongAgoIsStillKnown(t *testing.T) {
	in := testIntake(t, nil)
	in.connected(false)
	const n = 1000
	for i := range n {
		in.take(speed(uint16(i+1), false, noon+mesh.Nanos(i)*1e6, 1), "", noon)
	}
	o := seal(t, in)
	kept := keep(nil, o)
	if len(kept) != n/256+1 {
		t.Errorf("%d blocks are kept", len(kept))
	}
	in.take(speed(n+1, false, noon+n*1e6, 1), "", noon)
	o = seal(t, in)
	if len(o.Kept) != 1 {
		t.Errorf("%d blocks were written for one message", len(o.Kept))
	}
	kept = keep(kept, o)
	in = keptIntake(t, o.State, kept) // and our own process dies too
	in.connected(true)
	for i := range n + 1 {
		in.take(speed(uint16(i+1), true, noon+mesh.Nanos(i)*1e6, 1), "", noon)
	}
	if o = seal(t, in); len(o.Sealed) != 0 || in.counters.again != n+1 {
		t.Errorf("%d records, %d known already", len(o.Sealed), in.counters.again)
	}
	in.connected(false) // the session is gone, and all ids with it
	if kept = keep(kept, seal(t, in)); len(kept) != 0 {
		t.Errorf("%d blocks of a session that is gone", len(kept))
	}
	in.take(speed(5, true, noon+4e6, 1), "", noon)
	if o = seal(t, in); len(o.Sealed) != 1 {
		t.Errorf("%d records: an id of another session was believed", len(o.Sealed))
	}
}

func TestIntake_LostSessionIsAVoid(t *testing.T) {
	in := testIntake(t, nil)
	in.connected(false)
	in.subscribed()
	in.take(beat(1, noon), "", noon)
	in.take(beat(2, noon+65e9), "", noon+65e9) // proven through noon+60
	o := seal(t, in)

	in = keptIntake(t, o.State, keep(nil, o))
	in.connected(false)
	o = seal(t, in) // committed before the first heartbeat: the loss must not be forgotten
	in = keptIntake(t, o.State, keep(nil, o))
	in.connected(true)
	in.subscribed()
	in.take(beat(1, noon+200e9), "", noon+200e9)
	in.take(beat(2, noon+210e9), "", noon+210e9)
	batches, voids := contents(t, seal(t, in))
	if len(voids) != 1 || voids[0].Cause != mesh.CauseDisconnected ||
		voids[0].Parts[0].Times != (mesh.Span{From: noon + 60e9, To: noon + 200e9}) {
		t.Errorf("voids: %+v", voids)
	}
	if len(batches) != 1 || batches[0].Proven != (mesh.Span{From: noon + 200e9, To: noon + 205e9}) {
		t.Errorf("batches: %+v", batches)
	}
}

func TestIntake_ProofGoesOnAfterARestart(t *testing.T) {
	in := testIntake(t, nil)
	in.connected(false)
	in.subscribed()
	in.take(beat(1, noon), "", noon)
	in.take(beat(2, noon+65e9), "", noon+65e9)
	in = testIntake(t, seal(t, in).State)
	in.connected(true)
	in.take(beat(3, noon+95e9), "", noon+95e9)
	batches, voids := contents(t, seal(t, in))
	if len(voids) != 0 || len(batches) != 1 || batches[0].Proven != (mesh.Span{From: noon + 60e9, To: noon + 90e9}) {
		t.Errorf("batches %+v voids %+v", batches, voids)
	}
}

// TestIntake_ADoubtedStateProvesNothing: packets of after the state may have been
// acknowledged and lost, and nothing of what comes shows it. The log says so.
func TestIntake_ADoubtedStateProvesNothing(t *testing.T) {
	in := testIntake(t, nil)
	in.connected(false)
	in.subscribed()
	in.take(beat(1, noon), "", noon)
	in.take(beat(2, noon+65e9), "", noon+65e9)
	in = testIntake(t, seal(t, in).State)
	in.doubt()
	if !in.due(time.Now()) {
		t.Error("the doubt is not committed before a proof begins")
	}
	in = testIntake(t, seal(t, in).State)
	in.connected(true)
	in.subscribed()
	in.take(beat(3, noon+95e9), "", noon+95e9)
	in.take(beat(4, noon+105e9), "", noon+105e9)
	batches, voids := contents(t, seal(t, in))
	if len(voids) != 0 || len(batches) != 1 || batches[0].Proven != (mesh.Span{From: noon + 95e9, To: noon + 100e9}) {
		t.Errorf("batches %+v voids %+v", batches, voids)
	}
}

func TestIntake_OtherTopicsEndTheProof(t *testing.T) {
	in := testIntake(t, nil)
	in.connected(false)
	in.subscribed()
	in.take(beat(1, noon), "", noon)
	in.take(beat(2, noon+65e9), "", noon+65e9)
	o := seal(t, in)
	cfg := testConfig(t)
	cfg.Topics = append(cfg.Topics, Topic{Filter: "plant/line4/+", Signal: "line4.{2}.{key}"})
	if err := cfg.Validate(); err != nil {
		t.Fatal(err)
	}
	in, err := newIntake(cfg, o.State, nil)
	if err != nil {
		t.Fatal(err)
	}
	in.connected(true)
	in.take(beat(3, noon+95e9), "", noon+95e9) // the new topic is not subscribed to yet
	in.subscribed()
	in.take(beat(4, noon+105e9), "", noon+105e9)
	in.take(beat(5, noon+115e9), "", noon+115e9)
	batches, voids := contents(t, seal(t, in))
	if len(voids) != 1 || len(batches) != 1 || batches[0].Proven != (mesh.Span{From: noon + 105e9, To: noon + 110e9}) {
		t.Errorf("batches %+v voids %+v", batches, voids)
	}
}

func TestIntake_UnreadablePayloads(t *testing.T) {
	for name, payload := range map[string]string{
		"not json":       `hello`,
		"nothing":        ``,
		"null":           `null`,
		"a list":         `[1,2]`,
		"two objects":    `{"ts":1767268800000}{"ts":1767268800000}`,
		"NaN":            `{"ts":1767268800000,"speed":NaN}`,
		"Infinity":       `{"ts":1767268800000,"speed":-Infinity}`,
		"too big":        `{"ts":1767268800000,"speed":1e999}`,
		"text":           `{"ts":1767268800000,"speed":"fast"}`,
		"fraction":       `{"ts":1767268800000,"produced":1.5}`,
		"over int64":     `{"ts":1767268800000,"produced":9223372036854775808}`,
		"number as bool": `{"ts":1767268800000,"blocked":1}`,
		"object":         `{"ts":1767268800000,"speed":{"v":1}}`,
		"long text":      `{"ts":1767268800000,"order":"` + strings.Repeat("x", 64<<10+1) + `"}`,
		"no time":        `{"speed":1}`,
		"time as text":   `{"ts":"2026-01-01T12:00:00Z","speed":1}`,
		"time fraction":  `{"ts":1767268800000.5,"speed":1}`,
		"time too big":   `{"ts":9223372036854775807,"speed":1}`,
		"year 1970":      `{"ts":5,"speed":1}`,
		"negative time":  `{"ts":-1767268800000,"speed":1}`,
	} {
		t.Run(name, func(t *testing.T) {
			in := testIntake(t, nil)
			in.connected(false)
			if after := in.take(publish(1, false, "plant/line3/filler", payload), "", noon); after != 1 {
				t.Errorf("acknowledged after offer %d, want 1", after)
			}
			in.take(speed(2, false, noon, 5), "", noon)
			batches, voids := contents(t, seal(t, in))
			if len(voids) != 1 || voids[0].Cause != mesh.CauseUnreadable || len(voids[0].Parts) != 1 || voids[0].Parts[0].Count != 1 {
				t.Fatalf("voids: %+v", voids)
			}
			if !strings.Contains(voids[0].Note, "plant/line3/filler") || len(voids[0].Note) > 2000 {
				t.Errorf("note: %s", voids[0].Note)
			}
			good, bad := 0, 0
			for _, s := range batches[0].Samples {
				if s.Status.IsBad() && s.Value.Type == mesh.TypeNone {
					bad++
				} else if s.Status.IsGood() {
					good++
				}
			}
			if good != 1 || bad == 0 {
				t.Errorf("%d good and %d bad samples in %+v", good, bad, batches)
			}
		})
	}
}

func TestIntake_FloodOfRubbishIsOneVoidAWindow(t *testing.T) {
	in := testIntake(t, nil)
	in.connected(false)
	for i := range 1000 {
		in.take(publish(uint16(i+1), false, "plant/line3/filler", fmt.Sprintf(`{"ts":%d,"speed":"x"}`, int64(noon)/1e6+int64(i))), "", noon)
	}
	_, voids := contents(t, seal(t, in))
	if len(voids) != 1 || len(voids[0].Parts) != maxParts {
		t.Fatalf("%d voids", len(voids))
	}
	n := uint64(0)
	for _, p := range voids[0].Parts {
		n += p.Count
	}
	if last := voids[0].Parts[maxParts-1].Times; n != 1000 || !last.Empty() {
		t.Errorf("count %d, last %v: a stretch around the rest would take good values with it", n, last)
	}
}

func TestIntake_RetainedAndForeignAreOnlyCounted(t *testing.T) {
	in := testIntake(t, nil)
	in.connected(false)
	p := speed(1, false, noon, 5)
	p.Retained = true
	in.take(p, "", noon)
	in.take(publish(2, false, "other/topic", `{"ts":1767268800000}`), "", noon)
	o := seal(t, in)
	if len(o.Sealed) != 0 || in.counters.retained != 1 || in.counters.foreign != 1 {
		t.Errorf("%d records, counters %+v", len(o.Sealed), in.counters)
	}
}

func TestIntake_DueAtHalfTheCreditAndAfterTheLatency(t *testing.T) {
	in := testIntake(t, nil)
	in.connected(false)
	now := time.Unix(0, 0)
	in.take(publish(1, false, "other/topic", `{}`), "", noon) // became nothing, must be acknowledged all the same
	if in.due(now) {
		t.Error("due at once")
	}
	if !in.due(now.Add(time.Second)) {
		t.Error("not due after the latency")
	}
	seal(t, in)
	for i := range 250 {
		if in.due(now) {
			t.Fatalf("due after %d packets", i)
		}
		in.take(speed(uint16(i+1), false, noon, 1), "", noon)
	}
	if !in.due(now) {
		t.Error("not due at half the receive maximum")
	}
}

func TestIntake_StampAheadIsFlagged(t *testing.T) {
	in := testIntake(t, nil)
	in.connected(false)
	in.take(speed(1, false, noon+3600e9, 5), "", noon)
	batches, _ := contents(t, seal(t, in))
	if f := batches[0].Samples[0].Flags; f&mesh.FlagSuspect == 0 {
		t.Errorf("flags %b", f)
	}
}

func TestIntake_StateOfSomethingElseIsRefused(t *testing.T) {
	for _, s := range []string{"x", `{"proof_ns":"now"}`} {
		if _, err := newIntake(testConfig(t), []byte(s), nil); err == nil {
			t.Errorf("state %q was taken", s)
		}
	}
	for _, b := range []string{"\x00", "\x01abc", "\x02abc", "\x03"} {
		if _, err := newIntake(testConfig(t), []byte(`{}`), map[string][]byte{"inflight//00": []byte(b)}); err == nil {
			t.Errorf("block %q was taken", b)
		}
	}
}
