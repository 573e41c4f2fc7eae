package agent

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"plantmesh/edge/quality"
	"plantmesh/edge/source/mqtt"
	"plantmesh/edge/source/mqtt/link"
	"plantmesh/edge/source/sparkplug"
	"plantmesh/proto/mesh"
)

func TestVisited_SaysWhatBecomesOfEachMetric(t *testing.T) {
	const noon mesh.Nanos = 1_767_268_800e9
	rules, err := quality.Parse("r.yaml", []byte("revision: 1\nrules:\n  - {id: fast, kind: range, signal: \"*.*.speed\", max: 50}\n"))
	if err != nil {
		t.Fatal(err)
	}
	speed := mesh.Signal{ID: 3, Name: "line3.filler.speed", Type: mesh.TypeDouble, Unit: "P1"}
	sample := func(v mesh.Value, status mesh.Status, flags uint32) mesh.Sample {
		return mesh.Sample{Signal: speed.ID, Time: noon, Source: noon, Agent: noon, Value: v, Status: status, Flags: flags}
	}
	c := Config{Rules: rules}
	tested := Tested{Source: "s"}
	c.visited(&tested, &sparkplug.Config{Mode: sparkplug.Primary, HostID: "scada"}, &sparkplug.Visited{
		Table: []mesh.Signal{speed},
		Looks: []sparkplug.Look{
			{Heard: link.Heard{Topic: "spBv1.0/plant/NDATA/filler", Payload: make([]byte, 9), At: noon}, Summary: "seq 3, 4 metrics", Says: []string{"so"}, Told: []sparkplug.Told{
				{Place: "plant/filler/Speed", Called: "alias 1", Type: "Double", Raw: "70", Quality: "Quality 192", Stamp: noon, Signal: speed, Sample: sample(mesh.Double(70), 0, 0)},
				{Place: "plant/filler/Speed", Called: "Speed", Type: "Double", Raw: "7", Signal: speed, Sample: sample(mesh.Double(7), 0, mesh.FlagHistorical)},
				{Place: "plant/filler/Speed", Called: "Speed", Type: "Double", Raw: "fast", Signal: speed, Sample: sample(mesh.Value{}, mesh.StatusBadTypeMismatch, 0), Why: errors.New("a text")},
				{Place: "plant/filler/alias 7", Called: "alias 7", Raw: "1", Why: errors.New("not in its birth")},
				{Place: "plant/filler/bdSeq", Called: "bdSeq", Raw: "1", Why: errors.New("none"), Meant: true},
			}, More: 2},
			{Heard: link.Heard{Topic: "spBv1.0/plant/NDATA/capper", At: noon}, Says: []string{"not known"}, Refused: true, Told: []sparkplug.Told{{Place: "plant/capper/a", Why: errors.New("x")}, {Place: "plant/capper/b", Why: errors.New("x")}}},
			{Heard: link.Heard{Topic: "spBv1.0/plant/NDATA/labeller", At: noon}, Says: []string{"too large"}, Refused: true},
		},
		Unborn: []string{"plant/capper"}, Foreign: []sparkplug.Foreign{{Node: "plant/x", Messages: 4}}, Says: []string{"more"},
	})
	if tested.Good != 2 || tested.Marked != 1 || tested.Signals != 7 || len(tested.Messages) != 3 {
		t.Errorf("%+v", tested)
	}
	first := tested.Messages[0]
	if first.Payload != "seq 3, 4 metrics" || first.Bytes != 9 || strings.Join(first.Says, "|") != "so|2 metrics more, which are not told one by one" || len(first.Journeys) != 3 {
		t.Fatalf("%+v", first)
	}
	j := first.Journeys[0]
	if j.Raw != (RawValue{"plant/filler/Speed", "alias 1", "Double", "70", "Quality 192", "2026-01-01T12:00:00Z", ""}) {
		t.Errorf("raw: %+v", j.Raw)
	}
	if j.Mapped != (MappedValue{"line3.filler.speed", "double", "P1", "70", "Good", "2026-01-01T12:00:00Z", "source", "Double becomes double; its birth gave it that alias", true}) {
		t.Errorf("mapped: %+v", j.Mapped)
	}
	if len(j.Rules) != 1 || !j.Rules[0].Finds || j.Send.Source != "s" || j.Send.Signal != speed.Name {
		t.Errorf("rules %+v, send %+v", j.Rules, j.Send)
	}
	if m := first.Journeys[1].Mapped; m.Clock != "node" || m.Conversion != "Double becomes double; historical: not its value now" || first.Journeys[1].Raw.Server == "" {
		t.Errorf("second: %+v", first.Journeys[1])
	}
	if m := first.Journeys[2].Mapped; m.Taken || m.Conversion != "a text" {
		t.Errorf("third: %+v", m)
	}
	if len(first.LeftOut) != 2 || !first.LeftOut[0].Lost || first.LeftOut[0].Why != "not in its birth" || first.LeftOut[1].Lost || !first.LeftOut[1].Meant {
		t.Errorf("left out: %+v", first.LeftOut)
	}
	if len(tested.Foreign) != 1 || tested.Foreign[0] != (ForeignNode{"plant/x", 4, `- "plant/x"`}) {
		t.Errorf("foreign: %+v", tested.Foreign)
	}
	notes := strings.Join(tested.Notes, "\n")
	for _, want := range []string{"publishes no STATE, so nodes that wait for host_id \"scada\"", "more", "no birth of plant/capper was heard in this test", "say --wait longer", "as mode is primary"} {
		if !strings.Contains(notes, want) {
			t.Errorf("the notes lack %q:\n%s", want, notes)
		}
	}
}

func TestAttended_SaysWhatBecameOfWhatDevicesSaid(t *testing.T) {
	for _, c := range []struct {
		said mqtt.Attended
		want []string
	}{
		{mqtt.Attended{}, []string{"no device was let in"}},
		{mqtt.Attended{Refused: []string{"x: why"}}, []string{"refused x: why", "no device was let in"}},
		{mqtt.Attended{Refused: []string{"x: why"}, More: 3, Callers: 1}, []string{"refused x: why", "refused 3 callers or messages"}},
		{mqtt.Attended{Callers: 1, Open: 2, Gone: 1}, []string{"2 messages with QoS 1 or 2 were not acknowledged", "1 messages with QoS 0 are gone"}},
	} {
		got := attended(&c.said)
		if !slices.EqualFunc(got, c.want, strings.HasPrefix) {
			t.Errorf("%q, want %q", got, c.want)
		}
	}
}
