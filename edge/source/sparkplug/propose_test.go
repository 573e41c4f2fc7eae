package sparkplug

import (
	"strings"
	"testing"

	"plantmesh/edge/source/mqtt/link"
	"plantmesh/edge/source/sparkplug/payload"
)

func TestPropose_NodesAsHeard(t *testing.T) {
	all := line3()
	all.add("plant/NDATA/capper", numbered(9, alone(aliased(1, double("", 1)))))
	all.add("plant/NCMD/capper", payload.Payload{Metrics: []payload.Metric{long("x", 1)}})
	all.add("plant/NDATA/garbage", payload.Payload{}) // has no sequence number
	old := all[2]
	old.Topic, old.Retained = "spBv1.0/plant/NBIRTH/gone", true
	other := all[2]
	other.Topic = "spCv1.0/plant/NBIRTH/filler"
	all = append(
		all, old, other,
		link.Heard{Topic: "spBv1.0/STATE/scada", Payload: []byte(`{"online":true,"timestamp":1}`), Retained: true},
		link.Heard{Topic: "spBv1.0/STATE/mes", Payload: []byte(`{"online":false,"timestamp":1}`), Retained: true},
	)
	p, rest := Propose(all)
	if p == nil || len(rest) != 0 {
		t.Fatalf("%v, and %d are left", p, len(rest))
	}
	const want = `  mode: passive # only listens; active: may also ask a node for its births, without which its aliases have no names
  nodes:
    - "plant/capper" # 1 messages, its birth was not heard
    - "plant/filler" # 9 messages, its birth was heard
`
	if got := p.YAML("  "); got != want {
		t.Errorf("got\n%s", got)
	}
	if p.Messages != 10 || p.Signals != 5 {
		t.Errorf("%d messages, %d signals", p.Messages, p.Signals)
	}
	notes := strings.Join(p.Notes, "\n")
	for _, want := range []string{`"scada" is a host here, and says that it is there`, `"mes" was a host here, and is gone`, "1 messages are of the namespace spCv1.0", "3 messages below spBv1.0 are left out", "the births of 1 nodes were not heard (plant/capper)"} {
		if !strings.Contains(notes, want) {
			t.Errorf("the notes lack %q:\n%s", want, notes)
		}
	}
}

// What is no Sparkplug B is left to others, whatever its topic looks like.
func TestPropose_WhatIsNone(t *testing.T) {
	plain := []link.Heard{
		{Topic: "plant/line3/NDATA/filler", Payload: []byte(`{"speed":1}`)},
		{Topic: "spBv1.0/plant/NDATA/filler", Payload: []byte(`{"speed":1}`)},
		{Topic: "spBv1.0/STATE/scada", Payload: []byte(`{"online":true}`)},
		{Topic: "a", Payload: nil},
	}
	if p, rest := Propose(plain); p != nil || len(rest) != len(plain) {
		t.Errorf("%+v, and %d are left", p, len(rest))
	}
	if p, rest := Propose(append(plain, line3()...)); p == nil || len(rest) != 2 {
		t.Errorf("%+v, and %d are left", p, len(rest))
	}
	var o overheard
	o.add("pl\u00e4nt/NDATA/fil\"ler\t", numbered(1))
	if p, _ := Propose(o); p == nil || !strings.Contains(p.YAML(""), `- "pl\u00e4nt/fil\"ler\t"`) {
		t.Errorf("%+v", p)
	}
}
