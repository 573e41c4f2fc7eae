package serve

import (
	"bytes"
	"net"
	"strings"
	"testing"
)

func TestGuard_WhatNoDeviceMaySend(t *testing.T) {
	h4, h5 := hellos[4], hellos[5]
	for name, c := range map[string]struct{ sent, want string }{
		"no connect":                {"\xc0\x00", "CONNECT comes first"},
		"two connects":              {h4 + h4, "and once"},
		"MQTT 3.1":                  {"\x10\x0f\x00\x06MQIsdp\x03\x02\x00\x3c\x00\x01c", "neither MQTT 3.1.1 nor MQTT 5"},
		"HTTP":                      {"GET / HTTP/1.1\r\n\r\n", "no MQTT packet"},
		"a connect of 256 MB":       {"\x10\xff\xff\xff\x7f", "268435455 bytes"},
		"a publish over max_packet": {h4 + "\x30\x81\x80\x40", "1048577 bytes"},
		"a subscribe of 1 MB":       {h4 + "\x82\x80\x80\x40", "1048576 bytes"},
		"five bytes of length":      {h4 + "\x30\xff\xff\xff\xff\x01", "more than four bytes"},
		"type 0":                    {h4 + "\x00\x00", "type 0"},
		"type 15":                   {h5 + "\xf0\x02\x00\x00", "type 15"},
		"a connack":                 {h4 + "\x20\x02\x00\x00", "type 2"},
		"a pubrel with flags 0":     {h4 + "\x60\x02\x00\x01", "flags 0"},
		"a disconnect with a body":  {h4 + "\xe0\x01\x00", "type 14"},
	} {
		through, err := passes([]byte(c.sent))
		if err == nil || !strings.Contains(err.Error(), c.want) || len(through) >= len(c.sent) {
			t.Errorf("%s: %v does not say %q; %d of %d bytes came through", name, err, c.want, len(through), len(c.sent))
		}
	}
	for name, sent := range map[string]string{
		"a publish":             h4 + "\x30\x05\x00\x01axx",
		"many at once":          h5 + strings.Repeat("\x32\x08\x00\x01a\x00\x01\x00xx", 2000),
		"a disconnect of MQTT5": h5 + "\xe0\x02\x00\x00",
		"one of a megabyte":     h4 + "\x30\x83\x80\x3f\x00\x01a" + strings.Repeat("x", 63<<14),
	} {
		if through, err := passes([]byte(sent)); err != nil || string(through) != sent {
			t.Errorf("%s: %d of %d bytes came through: %v", name, len(through), len(sent), err)
		}
	}
}

func TestMatches(t *testing.T) {
	for _, c := range []struct {
		filter, topic string
		want          bool
	}{
		{"a/b", "a/b", true},
		{"a/b", "a/b/c", false},
		{"a/b/c", "a/b", false},
		{"a/+", "a/b", true},
		{"a/+", "a", false},
		{"a/+/c", "a//c", true},
		{"#", "a/b", true},
		{"a/#", "a", true},
		{"a/#", "a/b/c", true},
		{"a/#", "b", false},
		{"+", "a/b", false},
		{"#", "$SYS/x", false},
		{"+/x", "$SYS/x", false},
		{"$SYS/#", "$SYS/x", true},
	} {
		if got := matches(c.filter, c.topic); got != c.want {
			t.Errorf("%s on %s: %v", c.filter, c.topic, got)
		}
	}
}

// What comes through is a beginning of what was sent, in whole packets, however it
// was cut.
func FuzzGuard(f *testing.F) {
	f.Add([]byte(hellos[4]+"\x30\x05\x00\x01axx\xc0\x00"), uint8(3))
	f.Add([]byte(hellos[5]+"\x32\x08\x00\x01a\x00\x01\x00xx"), uint8(1))
	f.Fuzz(func(t *testing.T, sent []byte, piece uint8) {
		ours, theirs := net.Pipe()
		defer ours.Close()
		go func() {
			for b := sent; len(b) > 0; {
				n, err := theirs.Write(b[:min(int(piece)+1, len(b))])
				if err != nil {
					return
				}
				b = b[n:]
			}
			theirs.Close()
		}()
		g, through, room := newGuard(ours, 1<<12), []byte(nil), make([]byte, 100)
		for {
			n, err := g.Read(room)
			through = append(through, room[:n]...)
			if err != nil {
				break
			}
		}
		if !bytes.HasPrefix(sent, through) {
			t.Errorf("%q became %q", sent, through)
		}
		for b := through; len(b) > 0; {
			size, n, err := length(b)
			if err != nil || size == 0 || size+n > len(b) {
				t.Fatalf("%q came through", through)
			}
			b = b[size+n:]
		}
	})
}
