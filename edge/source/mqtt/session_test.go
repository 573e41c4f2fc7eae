package mqtt

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"plantmesh/proto/mesh"
)

func TestReader_LostSessionIsCommittedBeforeANewOneBegins(t *testing.T) {
	address := stockMochi(t)
	d := newDisk()
	d.state = []byte(`{"proof_ns":1767268800000000000,"filters":"plant/line3/+"}`) // of a session the broker does not know
	stop := start(t, d, testReader(t, address), 20*time.Millisecond)
	cm := publisher(t, address, "machine")
	d.until(t, "the proof goes on", func() bool {
		send(t, cm, "plant/line3/heartbeat", fmt.Sprintf(`{"ts":%d}`, int64(noon)/1e6+60_000))
		send(t, cm, "plant/line3/heartbeat", fmt.Sprintf(`{"ts":%d}`, int64(noon)/1e6+80_000))
		_, batches, _ := d.samples(t)
		return len(batches) > 0
	})
	stop()
	var first state
	if err := json.Unmarshal(d.durable[0].State, &first); err != nil {
		t.Fatal(err)
	}
	if !first.Fresh || first.Was != noon || len(d.durable[0].Sealed) != 0 {
		t.Errorf("the loss was not committed first: %+v", first)
	}
	_, batches, voids := d.samples(t)
	if len(voids) != 1 || voids[0].Parts[0].Times != (mesh.Span{From: noon, To: noon + 60e9}) {
		t.Errorf("voids: %+v", voids)
	}
	if batches[0].Proven != (mesh.Span{From: noon + 60e9, To: noon + 75e9}) {
		t.Errorf("proven: %+v", batches[0].Proven)
	}
}
