package agent

import (
	"strings"
	"testing"

	"plantmesh/edge/quality"
	"plantmesh/edge/source/mqtt/link"
	"plantmesh/edge/source/mqtt/mapping"
	"plantmesh/proto/mesh"
)

func TestOverhear_SaysWhatBecomesOfEachMessage(t *testing.T) {
	const noon mesh.Nanos = 1_767_268_800e9
	cfg := mapping.Config{
		Topics:    []mapping.Topic{{Filter: "l/+", Signal: "l.{1}.{key}", Time: "ts"}},
		Heartbeat: mapping.Heartbeat{Topic: "l/beat"},
		Signals:   []mapping.Signal{{Name: "l.m.speed", Type: "double"}, {Name: "l.m.n", Type: "int", When: "value > 0"}},
	}
	if err := cfg.Validate(); err != nil {
		t.Fatal(err)
	}
	m, err := mapping.New(&cfg)
	if err != nil {
		t.Fatal(err)
	}
	rules, err := quality.Parse("r.yaml", []byte("revision: 1\nrules:\n  - {id: fast, kind: range, signal: \"*.*.speed\", max: 50}\n"))
	if err != nil {
		t.Fatal(err)
	}
	c := Config{Rules: rules}
	tested := Tested{Source: "s"}
	c.overhear(&tested, m, []link.Heard{
		{Topic: "l/m", Payload: []byte(`{"ts":1767268800000,"speed":70,"n":0,"x":true}`), At: noon},
		{Topic: "l/m", Payload: []byte(`{"ts":"noon","speed":7}`), At: noon},
		{Topic: "l/m", Payload: []byte(`{"ts":1767268800000,"speed":7}`), At: noon, Retained: true},
		{Topic: "l/m", Payload: []byte(`{"ts":17`), At: noon, TooLarge: true},
		{Topic: "l/beat", Payload: []byte(`{"ts":1767268800000}`), At: noon},
		{Topic: "l/beat", Payload: []byte(`{"ts":1767279999000}`), At: noon},
		{Topic: "l/beat", Payload: []byte(`{}`), At: noon},
		{Topic: "other", Payload: []byte(`{}`), At: noon},
	})
	if tested.Good != 1 || tested.Marked != 1 || tested.Signals != 6 || len(tested.Messages) != 8 {
		t.Errorf("%+v", tested)
	}
	first := tested.Messages[0]
	if len(first.Journeys) != 1 || first.Journeys[0].Raw.Asked != "l/m speed" || first.Journeys[0].Mapped.Value != "70" || len(first.Journeys[0].Rules) != 1 || !first.Journeys[0].Rules[0].Finds {
		t.Errorf("first: %+v", first.Journeys)
	}
	if len(first.LeftOut) != 2 || first.LeftOut[0].Why != "left out by a condition (when)" || first.LeftOut[1].Write != "- {name: l.m.x, type: bool}" {
		t.Errorf("left out: %+v", first.LeftOut)
	}
	for i, want := range []string{
		"left out by a condition", "time_unit: text would take", "retained: said before we listened", "larger than max_packet", "everything before 2026-01-01T12:00:00Z", "too far from the gateway's clock", "proves nothing: payload has no usable time",
		"no filter of topics",
	} {
		if got := strings.Join(tested.Messages[i].Says, "; "); !strings.Contains(got, want) || tested.Messages[i].Refused != (i == 1 || i == 3 || i > 4) {
			t.Errorf("message %d: %q (refused %t) lacks %q", i, got, tested.Messages[i].Refused, want)
		}
	}
}
