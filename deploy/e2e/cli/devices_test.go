package cli

import (
	"encoding/binary"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// ring is a device that logs in with MQTT 3.1.1 and a clean session, and publishes with
// QoS 1. It gives what it is answered, until the other side hangs up.
func ring(t *testing.T, address, user, word, topic, text string) []byte {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	field := func(b []byte, s string) []byte { return append(binary.BigEndian.AppendUint16(b, uint16(len(s))), s...) }
	packet := func(head byte, body []byte) []byte {
		return append(binary.AppendUvarint([]byte{head}, uint64(len(body))), body...) // the coding is MQTT's too
	}
	hello := field(field(field([]byte("\x00\x04MQTT\x04\xc2\x00\x3c"), "d1"), user), word)
	said := append(field(nil, topic), 0, 1)
	if _, err := c.Write(append(packet(0x10, hello), packet(0x32, append(said, text...))...)); err != nil {
		t.Fatal(err)
	}
	if err := c.SetReadDeadline(time.Now().Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	var got []byte
	for b := make([]byte, 64); ; {
		n, err := c.Read(b)
		got = append(got, b[:n]...)
		if err != nil {
			return got
		}
	}
}

// A technician sees what a device says that calls the agent, and the device still has it.
func TestSourceTest_DevicesThatCall(t *testing.T) {
	t.Parallel()
	dir, files := folder(t), good()
	files["sources.d/d.yaml"] = strings.Replace(files["sources.d/d.yaml"], "127.0.0.1:1885", "127.0.0.1:0", 1)
	write(t, dir, files)
	edge, source := filepath.Join(dir, "edge.yaml"), filepath.Join(dir, "sources.d", "d.yaml")
	p := begin(t, t.TempDir(), nil, "plantmesh-edge", "source", "test", "--config", edge, source, "--messages", "1", "--wait", "40s")
	line := p.says(p.err, "listening for devices on ", 20*time.Second)
	_, after, _ := strings.Cut(line, "listening for devices on ")
	address, _, _ := strings.Cut(after, ",")
	if got := ring(t, address, "labeller", "wrong", "plant/labeller", "{}"); len(got) > 0 {
		t.Errorf("a stranger is answered % x", got)
	}
	if got := ring(t, address, "labeller", "a secret of its own", "plant/labeller", `{"ts":1772341200000,"speed":41.5,"x":1}`); string(got) != "\x20\x02\x00\x00" {
		t.Errorf("the device is answered % x: its login and nothing else is due", got)
	}
	if code := p.ends(20 * time.Second); code != 0 {
		t.Errorf("exit code %d", code)
	}
	for _, want := range []string{
		`plant/labeller "{\"ts\":1772341200000,\"speed\":41.5,\"x\":1}" (39 bytes, from user labeller)`, "line3.labeller.speed\n", `mapped   double "41.5", Good, at 2026-03-01T05:00:00Z`,
		"left out x 1: no signal has this name", "subject  ingest.v1.graz.gw-1.live, as line3.labeller.speed of source labeller", "1 of 1 values are taken",
	} {
		if !strings.Contains(p.out.String(), want) {
			t.Errorf("it lacks %q:\n%s", want, p.out.String())
		}
	}
	for _, want := range []string{`note: refused `, `user "labeller" says another password`, "note: 1 messages with QoS 1 or 2 were not acknowledged"} {
		if !strings.Contains(p.err.String(), want) {
			t.Errorf("it lacks %q:\n%s", want, p.err.String())
		}
	}
}
