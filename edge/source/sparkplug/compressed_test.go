package sparkplug

import (
	"bytes"
	"compress/gzip"
	"compress/zlib"
	"io"
	"runtime"
	"strings"
	"testing"

	"plantmesh/edge/source/sparkplug/payload"
	"plantmesh/proto/mesh"
)

// packed is a payload compressed as Eclipse Tahu does.
func packed(t *testing.T, algorithm string, inner []byte) payload.Payload {
	t.Helper()
	var b bytes.Buffer
	var w io.WriteCloser = zlib.NewWriter(&b)
	if strings.EqualFold(algorithm, "GZIP") {
		w = gzip.NewWriter(&b)
	}
	if _, err := w.Write(inner); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	p := payload.Payload{UUID: []byte("SPBV1.0_COMPRESSED"), Body: b.Bytes()}
	if algorithm != "" {
		p.Metrics = []payload.Metric{{Name: []byte("algorithm"), Type: payload.String, Value: payload.Value{Kind: payload.InString, Bytes: []byte(algorithm)}}}
	}
	return p
}

func TestHost_CompressedPayloads(t *testing.T) {
	k := newKit(t, nil)
	d := k.node("n")
	d.born(double("x", 1))
	for i, algorithm := range []string{"", "DEFLATE", "GZIP", "gzip"} {
		inner := payload.Append(nil, &payload.Payload{Timestamp: k.ms(), Seq: uint64(i + 1), HasSeq: true, Metrics: []payload.Metric{double("x", float64(i+2))}})
		k.say("plant/NDATA/n", packed(t, algorithm, inner))
		k.seal()
		if got := k.last("plant.n.x"); got.Value.Compare(mesh.Double(float64(i+2))) != 0 {
			t.Errorf("%q: %s", algorithm, got)
		}
	}
	if len(k.voids) != 0 {
		t.Errorf("voids %+v", k.voids)
	}
}

// A18: little that becomes much, once and twice, and what can't be read.
func TestAttack_CompressedPayloads(t *testing.T) {
	k := newKit(t, nil)
	k.node("n").born(double("x", 1))
	bomb := packed(t, "GZIP", make([]byte, 64<<20))
	nested := packed(t, "GZIP", payload.Append(nil, &bomb))
	odd, damaged := packed(t, "GZIP", []byte("x")), packed(t, "GZIP", bytes.Repeat([]byte("abc"), 1000))
	odd.Metrics[0].Value.Bytes = []byte("ZSTD")
	damaged.Body = damaged.Body[:len(damaged.Body)/2]
	other := packed(t, "", []byte("x"))
	other.Body = []byte("no stream")
	runtime.GC()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for _, p := range []payload.Payload{bomb, nested, odd, damaged, other, {UUID: []byte("SPBV1.0_COMPRESSED")}} {
		k.say("plant/NDATA/n", p)
	}
	runtime.ReadMemStats(&after)
	if grown := after.TotalAlloc - before.TotalAlloc; grown > 24<<20 {
		t.Errorf("%d MiB allocated", grown>>20)
	}
	k.seal()
	if k.h.counters.unreadable != 6 {
		t.Errorf("%d unreadable: %+v", k.h.counters.unreadable, k.voids)
	}
	var all []string
	for _, v := range k.voids {
		all = append(all, v.Note)
	}
	notes := strings.Join(all, "\n")
	for _, want := range []string{"more than", "compressed twice", "neither GZIP nor DEFLATE", "damaged", "not by DEFLATE"} {
		if !strings.Contains(notes, want) {
			t.Errorf("no void says %q:\n%s", want, notes)
		}
	}
}
