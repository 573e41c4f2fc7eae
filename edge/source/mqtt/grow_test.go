package mqtt

import (
	"fmt"
	"strings"
	"testing"

	"plantmesh/edge/source/mqtt/link"
	"plantmesh/proto/mesh"
	"plantmesh/proto/strict"
)

// Signals that a pattern finds are in the table that their samples name, and what was
// heard is proven behind them; a table is made once a window, not once a signal.
func TestIntake_PatternsFindSignals(t *testing.T) {
	for _, proof := range []string{"heartbeat", "max_silence"} {
		cfg := &Config{
			ID: "line3-mqtt", Config: link.Config{URL: "mqtt://127.0.0.1:1883"},
			Mapping: Mapping{
				Topics:  []Topic{{Filter: "plant/line3/{machine}", Signal: "line3.{machine}.{key}", Time: "ts"}},
				Signals: []SignalConfig{{Name: "line3.filler.speed", Type: "double"}, {Name: "line3.{machine}.produced", Type: "int", Unit: "C62"}},
			},
		}
		if proof == "heartbeat" {
			cfg.Heartbeat = Heartbeat{Topic: "plant/line3/heartbeat"}
		} else {
			cfg.Signals[0].MaxSilence = strict.Duration(60e9)
		}
		if err := cfg.Validate(); err != nil {
			t.Fatal(err)
		}
		in, err := newIntake(cfg, nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		in.connected(false)
		in.subscribed()
		in.take(beat(1, noon), "", noon)
		in.take(speed(2, false, noon, 40), "", noon)
		for i := range 100 {
			in.take(publish(uint16(3+i), false, fmt.Sprintf("plant/line3/m%d", i), `{"ts":1767268801000,"produced":7,"other":1}`), "", noon+1e9)
		}
		in.take(speed(200, false, noon+30e9, 41), "", noon+30e9)
		in.take(beat(201, noon+30e9), "", noon+30e9)
		offer := seal(t, in)
		batches, voids := contents(t, offer)
		if len(voids) != 0 || len(offer.Descriptors) > 2 {
			t.Errorf("%s: %d tables, voids %+v", proof, len(offer.Descriptors), voids)
		}
		found, last := 0, batches[len(batches)-1]
		for i, b := range batches {
			for _, s := range b.Samples {
				if s.Value.Compare(mesh.Int(7)) == 0 {
					found++
				}
			}
			if !b.Proven.Empty() && i < len(batches)-1 {
				t.Errorf("%s: batch %d of %d claims %v before what belongs to it", proof, i, len(batches), b.Proven)
			}
		}
		if found != 100 || last.Proven != (mesh.Span{From: noon, To: noon + 25e9}) {
			t.Errorf("%s: %d samples, proven %v", proof, found, last.Proven)
		}
		if in.counters.unknown != 100 {
			t.Errorf("%s: %d unknown", proof, in.counters.unknown)
		}
		names := map[uint32]string{}
		for _, s := range in.mapper.Table() {
			names[s.ID] = s.Name
		}
		if len(names) != 101 || names[0] != "line3.filler.speed" || !strings.HasPrefix(names[2], "line3.m") {
			t.Errorf("%s: %d signals", proof, len(names))
		}
		if len(in.wait) != 0 || in.grown {
			t.Errorf("%s: %d samples still wait", proof, len(in.wait))
		}
	}
}
