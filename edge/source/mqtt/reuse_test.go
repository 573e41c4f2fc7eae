package mqtt

import (
	"testing"

	"plantmesh/edge/source/mqtt/link"
	"plantmesh/proto/mesh"
)

// TestIntake_SomeLeaveDUPOut: the same bytes, their own stamp among them, under the same
// packet id are the same message on another connection, whatever DUP says.
func TestIntake_SomeLeaveDUPOut(t *testing.T) {
	in := testIntake(t, nil)
	in.connected(false)
	for _, p := range []*link.Packet{speed(7, false, noon, 5), speed(7, false, noon, 5), speed(7, false, noon+1e9, 5)} {
		in.take(p, "", noon)
		in.connected(true)
	}
	batches, _ := contents(t, seal(t, in))
	if n := len(batches[0].Samples); n != 2 || in.counters.again != 1 {
		t.Errorf("%d samples, %d known already", n, in.counters.again)
	}
}

// TestIntake_ReusedPacketIDIsAnotherMessage: a device without a clock of its
// own says the same twice, and the broker uses the packet id again. Only DUP
// says that a message was sent before; without it these are two readings.
func TestIntake_ReusedPacketIDIsAnotherMessage(t *testing.T) {
	cfg := testConfig(t)
	cfg.Topics[0].Time = ""
	in, err := newIntake(cfg, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	in.connected(false)
	in.subscribed()
	const said = `{"speed":5}`
	for i, p := range []*link.Packet{
		publish(7, false, "plant/line3/filler", said),
		publish(7, true, "plant/line3/filler", said),  // the same message, sent again
		publish(7, false, "plant/line3/filler", said), // another one
	} {
		in.take(p, "", noon+mesh.Nanos(i)*1e9)
	}
	offer, err := in.seal()
	if err != nil {
		t.Fatal(err)
	}
	batches, voids := contents(t, offer)
	n := 0
	for _, b := range batches {
		n += len(b.Samples)
	}
	if n != 2 || in.counters.again != 1 || len(voids) != 0 {
		t.Errorf("%d samples, %d known already, voids %+v; want 2 and 1", n, in.counters.again, voids)
	}
}
