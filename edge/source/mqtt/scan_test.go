package mqtt

import (
	"testing"

	"plantmesh/edge/source/mqtt/link"
)

func FuzzScan(f *testing.F) {
	f.Add([]byte(`{"ts":1767268800000,"speed":1.5,"order":"x","blocked":true,"produced":null}`))
	f.Add([]byte(`{"ts":1e300}`))
	cfg := &Config{
		ID: "s", Config: link.Config{URL: "mqtt://h:1"}, Topics: []Topic{{Filter: "a/+", Signal: "{1}.{key}", Time: "ts"}},
		Signals: []SignalConfig{{Name: "m.speed", Type: "double"}, {Name: "m.order", Type: "string"}, {Name: "m.blocked", Type: "bool"}, {Name: "m.produced", Type: "int"}, {Name: "m.n", Type: "uint"}},
	}
	if err := cfg.Validate(); err != nil {
		f.Fatal(err)
	}
	table, err := cfg.table()
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		s := scanner{cfg: cfg, table: table}
		got := s.scan(s.route("a/m"), b, noon)
		for _, x := range got.flaws {
			if x.fault == nil || x.count < 1 {
				t.Errorf("flaw %+v", x)
			}
		}
		for _, m := range got.samples {
			if m.Time < earliest || m.Time > latest {
				t.Errorf("time %v", m.Time)
			}
		}
	})
}
