package sparkplug

import (
	"fmt"
	"runtime"
	"testing"

	"plantmesh/edge/source/sparkplug/payload"
)

// BenchmarkTake is a message of 100 doubles by alias, from its bytes to the window, with
// its share of the commit.
func BenchmarkTake(b *testing.B) {
	k := newKit(&testing.T{}, nil)
	const values = 100
	var birth, data []payload.Metric
	for i := range values {
		birth = append(birth, aliased(uint64(i), double(fmt.Sprint("area/metric", i), 1)))
		data = append(data, alone(aliased(uint64(i), double("", float64(i)))))
	}
	k.say("plant/NBIRTH/n", payload.Payload{Timestamp: k.ms(), HasSeq: true, Metrics: birth})
	var messages [256][]byte
	for i := range messages {
		messages[i] = payload.Append(nil, &payload.Payload{Timestamp: k.ms(), Seq: uint64(i), HasSeq: true, Metrics: data})
	}
	b.ReportAllocs()
	b.ResetTimer()
	for i := range b.N {
		k.h.take(message{topic: "spBv1.0/plant/NDATA/n", payload: messages[(i+1)%256]}, k.now)
		if i%200 == 199 {
			if _, err := k.h.seal(); err != nil {
				b.Fatal(err)
			}
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*values), "ns/value")
}

// What a signal takes of memory, with all that is known of its metric: the bound of a
// host is max_signals of these.
func TestHost_MemoryOfASignal(t *testing.T) {
	k := newKit(t, nil)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	const devices, each = 100, 100
	d := k.node("line")
	d.born()
	for i := range devices {
		var all []payload.Metric
		for m := range each {
			all = append(all, aliased(uint64(i*each+m), double(fmt.Sprint("Area/Machine/Metric ", m), 1)))
		}
		d.dborn(fmt.Sprint("device", i), all...)
	}
	k.h.seal()
	runtime.GC()
	runtime.ReadMemStats(&after)
	each1 := (int64(after.HeapAlloc) - int64(before.HeapAlloc)) / (devices * each)
	if t.Logf("%d bytes a signal", each1); each1 > 1000 {
		t.Errorf("a signal takes %d bytes, and at most 1000 are said", each1)
	}
	runtime.KeepAlive(k)
}
