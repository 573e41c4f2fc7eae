package strict

import "testing"

func TestAddress_SaysWhatToWrite(t *testing.T) {
	opc, brokers := []Scheme{{"opc.tcp", "4840"}}, []Scheme{{"mqtt", "1883"}, {"mqtts", "8883"}}
	for _, c := range []struct {
		text    string
		schemes []Scheme
		why     string
		write   string
		whole   bool
	}{
		{"opc.tcp://press", opc, "", "", false},
		{"opc.tcp://press:4840/a/b", opc, "", "", false},
		{"opc.tcp://[fe80::1]:48010", opc, "", "", false},
		{"opc.tcp://[fe80::1%25eth0]", opc, "", "", false},
		{"opc.tcp://press_3:", opc, "", "", false},
		{"mqtts://user:word@broker", brokers, "", "", false},
		{"", opc, "", "opc.tcp://host:4840", false},
		{"opc.tcp://press:99999/a", opc, "its port must be a number from 1 to 65535", "opc.tcp://press:4840/a", true},
		{"opc.tcp://press:0", opc, "its port must be a number from 1 to 65535", "opc.tcp://press:4840", true},
		{"opc.tcp://press:-1", opc, "its port must be a number from 1 to 65535", "opc.tcp://press:4840", true},
		{"mqtts://broker:mqtt", brokers, "its port must be a number from 1 to 65535", "mqtts://broker:8883", true},
		{"mqtts://me:word@broker:99999", brokers, "its port must be a number from 1 to 65535", "mqtts://broker:8883", true},
		{"opc.tcp://:4841/x", opc, "the host is missing", "opc.tcp://host:4841/x", false},
		{"opc.tcp://", opc, "the host is missing", "opc.tcp://host:4840", false},
		{"mqtt://:99999", brokers, "the host is missing", "mqtt://host:1883", false},
		{"opc.tpc://press", opc, "its scheme must be opc.tcp://", "opc.tcp://press:4840", true},
		{"OPC.TCP://press:4841", opc, "its scheme must be opc.tcp://", "opc.tcp://press:4841", true},
		{"mqqt://broker:1884", brokers, "its scheme must be mqtt:// or mqtts://", "mqtt://broker:1884", true},
		{"https://broker", brokers, "its scheme must be mqtt:// or mqtts://", "mqtt://broker:1883", false},
		{"opc.tcp:/press:4840", opc, "behind opc.tcp: stand two slashes", "opc.tcp://press:4840", true},
		{"press:4841", opc, "it must begin with opc.tcp://", "opc.tcp://press:4841", true},
		{"127.0.0.1", brokers, "it must begin with mqtt://", "mqtt://127.0.0.1:1883", true},
		{"opc.tcp://fe80::1:4840/a", opc, "an IPv6 address stands in brackets", "opc.tcp://[fe80::1]:4840/a", true},
		{"opc.tcp://::1", opc, "an IPv6 address stands in brackets", "opc.tcp://[::1]:4840", true},
		{"opc.tcp://fe80::1:99999", opc, "an IPv6 address stands in brackets", "opc.tcp://[fe80::1]:4840", true},
		{"mqtt://1:2:3", brokers, "its host can't be read", "mqtt://host:1883", false},
		{"opc.tcp://[fe80::1", opc, "an IPv6 address stands in brackets, as [fe80::1]", "opc.tcp://host:4840", false},
		{"opc.tcp://pr ess", opc, "it can't be read", "opc.tcp://host:4840", false},
	} {
		f := Address(c.text, c.schemes...)
		if c.why == "" && c.write == "" {
			if f != nil {
				t.Errorf("%q: %+v", c.text, f)
			}
			continue
		}
		if f == nil || f.Why != c.why || f.Write != c.write || f.Whole != c.whole {
			t.Errorf("%q: %+v, want %+v", c.text, f, c)
		}
		if f != nil && Address(f.Write, c.schemes...) != nil {
			t.Errorf("%q: what it says to write is wrong too: %q", c.text, f.Write)
		}
	}
}
