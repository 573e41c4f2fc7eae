package sparkplug

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"plantmesh/edge/source"
	"plantmesh/edge/source/sparkplug/payload"
	"plantmesh/proto/mesh"
)

// utters has a node say what nodes say, and some that can't be taken.
func utters(k *kit) {
	k.say("plant/NBIRTH/n", payload.Payload{Timestamp: k.ms(), HasSeq: true, Metrics: []payload.Metric{aliased(1, double("area/speed", 1.5))}})
	k.say("plant/NDATA/n", payload.Payload{Timestamp: k.ms(), Seq: 1, HasSeq: true, Metrics: []payload.Metric{alone(aliased(1, double("", 2.5)))}})
	k.say("plant/NDATA/n", payload.Payload{Timestamp: k.ms(), Seq: 2, HasSeq: true, Metrics: []payload.Metric{alone(aliased(9, double("", 3)))}})
	k.say("else/NDATA/n", payload.Payload{Timestamp: k.ms(), Seq: 2, HasSeq: true})
	k.say("plant/NCMD/n", payload.Payload{Timestamp: k.ms()})
	k.h.take(message{topic: "spBv1.0/plant/NDATA/n", payload: []byte("\x0ajunk")}, k.now)
	k.say("plant/NDATA/n", payload.Payload{Timestamp: k.ms(), Seq: 9, HasSeq: true, Metrics: []payload.Metric{alone(aliased(1, double("", 4)))}})
	k.pass(2 * time.Duration(k.cfg.ReorderTimeout))
}

// Each metric is told as it was sent, by the name its birth gave it, and what is no metric by its topic.
func TestEar_TellsMetricsAsTheyCome(t *testing.T) {
	taps, heard, err := source.Listening(source.RawQuery{Rate: 1000})
	if err != nil {
		t.Fatal(err)
	}
	k := newKit(t, nil)
	k.h.ear = newEar(taps)
	utters(k)
	var got []string
	for _, r := range heard().Values {
		got = append(got, fmt.Sprintf("%s|%s|%s %.20s|%s", r.Signal, r.Node, r.Type, r.Value, strings.Join(r.Notes, ", ")))
	}
	all := strings.Join(got, "\n")
	for _, want := range []string{
		"|plant/n/area/speed|Double 1.5|",
		"|plant/n/area/speed|Double 2.5|sent as alias 1",
		"|plant/n/alias 9| 3|sent as alias 9, metric is not in the node's birth",
		"|spBv1.0/else/NDATA/n|payload ",
		"a command of another host to the node: it is no value",
	} {
		if !strings.Contains(all, want) {
			t.Errorf("%q is not in\n%s", want, all)
		}
	}
	if strings.Contains(all, "\n|||") || strings.HasPrefix(got[0], "|") {
		t.Errorf("told is\n%s", all)
	}
}

// A tap changes nothing of what is stored.
func TestEar_StoresTheSame(t *testing.T) {
	var offers [2]mesh.Offer
	for i := range offers {
		k := newKit(t, nil)
		if i == 1 {
			taps, _, err := source.Listening(source.RawQuery{Rate: 1000})
			if err != nil {
				t.Fatal(err)
			}
			k.h.ear = newEar(taps)
		}
		utters(k)
		var err error
		if offers[i], err = k.h.seal(); err != nil {
			t.Fatal(err)
		}
	}
	a, b := offers[0], offers[1]
	if !bytes.Equal(bytes.Join(a.Sealed, nil), bytes.Join(b.Sealed, nil)) || !bytes.Equal(a.State, b.State) || len(a.Sealed) == 0 {
		t.Errorf("without a tap %d records, with one %d", len(a.Sealed), len(b.Sealed))
	}
}
