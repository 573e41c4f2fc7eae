package opcua

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"plantmesh/edge/source/opcua/datatype"
	"plantmesh/edge/source/opcua/publish"
	"plantmesh/edge/source/opcua/trust"
)

// TestCorpus_CertificatesAndValues: each file of open62541's fuzzing corpus, and what
// stands in it from each of its bytes on, as a server's certificate and as a value.
// What decodes messages as a whole is tested the same way in package channel.
func TestCorpus_CertificatesAndValues(t *testing.T) {
	shared := os.Getenv("PLANTMESH_SHARED")
	if shared == "" {
		shared = filepath.Join("..", "..", "..", "..", "shared")
	}
	files, err := filepath.Glob(filepath.Join(shared, "data", "opcua_fuzz", "open62541_binary_message", "*"))
	if err != nil {
		t.Fatal(err)
	}
	if len(files) == 0 {
		const absent = "the corpus is not in ../shared/data/opcua_fuzz"
		if strings.Contains(os.Getenv("PLANTMESH_REQUIRE"), "shared") {
			t.Fatal(absent)
		}
		t.Skip(absent)
	}
	store, err := trust.Open(filepath.Join(t.TempDir(), "pki"))
	if err != nil {
		t.Fatal(err)
	}
	want := trust.Want{Endpoint: "opc.tcp://10.0.0.1:4840", Host: "10.0.0.1"}
	var d datatype.Decoder
	d.Use(datatype.NewBook())
	values, most := 0, uint64(0)
	for _, path := range files {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		began := time.Now()
		for from := range b {
			if from == 0 || b[from] == 0x30 { // a sequence, as certificates begin
				if _, refused := errors.AsType[*trust.Refusal](store.Judge(b[from:], want, time.Now())); !refused {
					t.Errorf("%s: what stands at %d is not refused", filepath.Base(path), from)
				}
			}
			if _, _, err := d.Variant(b[from:], datatype.Shape{}); err == nil {
				values++
			}
			var m publish.Message
			_ = m.DecodePublish(b[from:])
		}
		took := time.Since(began)
		runtime.ReadMemStats(&after)
		grown := after.TotalAlloc - before.TotalAlloc
		most = max(most, grown)
		if grown > 256<<20 || took > time.Minute {
			t.Errorf("%s: %d bytes in %s", filepath.Base(path), grown, took)
		}
	}
	t.Logf("%d files, %d values came of them, at most %d KiB for one file", len(files), values, most>>10)
	if values == 0 {
		t.Error("no value came of any")
	}
}
