package cli

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"plantmesh/firmware-sim/mqtt"
	"plantmesh/firmware-sim/plant"
)

// broker is a real mosquitto where there is one, else the simulator's own.
func broker(t *testing.T) (address string) {
	t.Helper()
	path, err := exec.LookPath("mosquitto")
	if err != nil {
		path = "/usr/sbin/mosquitto" // not on everybody's path
	}
	if _, err := os.Stat(path); err != nil {
		if strings.Contains(os.Getenv("PLANTMESH_REQUIRE"), "interop") {
			t.Fatal("mosquitto is required and not installed")
		}
		t.Log("mosquitto is not installed: the simulator's own broker takes its place")
		return simulated(t)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address = l.Addr().String()
	l.Close()
	_, port, _ := net.SplitHostPort(address)
	dir := t.TempDir()
	write(t, dir, map[string]string{"m.conf": "listener " + port + " 127.0.0.1\nallow_anonymous true\nmax_queued_messages 0\n"})
	cmd := exec.Command(path, "-c", filepath.Join(dir, "m.conf"))
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	until(t, 10*time.Second, "mosquitto listens", func() bool {
		c, err := net.Dial("tcp", address)
		if err != nil {
			return false
		}
		c.Close()
		return true
	})
	return address
}

func simulated(t *testing.T) string {
	t.Helper()
	s, err := mqtt.Serve(mqtt.Config{Source: "line3", Listen: "127.0.0.1:0"},
		[]plant.Signal{{Source: "line3", Name: "line3.filler.speed", Type: plant.Double}}, func(string, []uint64) {}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		<-done
		s.Close()
	})
	return strings.TrimPrefix(s.URL(), "mqtt://")
}

// publish sends one message with QoS 1 and waits for the broker's word: a
// device of 1999 in thirty lines (MQTT 3.1.1, 3.1 and 3.3).
func publish(t *testing.T, address, topic, payload string) {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(30 * time.Second))
	text := func(s string) []byte { return append(binary.BigEndian.AppendUint16(nil, uint16(len(s))), s...) }
	send := func(kind byte, parts ...[]byte) {
		body := bytes.Join(parts, nil)
		head := []byte{kind}
		for n := len(body); ; {
			digit := byte(n & 0x7f)
			if n >>= 7; n > 0 {
				digit |= 0x80
			}
			head = append(head, digit)
			if n == 0 {
				break
			}
		}
		if _, err := c.Write(append(head, body...)); err != nil {
			t.Fatal(err)
		}
	}
	answer := func(kind byte) {
		var b [4]byte // CONNACK and PUBACK alike
		if _, err := io.ReadFull(c, b[:]); err != nil || b[0] != kind {
			t.Fatalf("the broker answered % x: %v", b, err)
		}
	}
	send(0x10, text("MQTT"), []byte{4, 2, 0, 60}, text("e2e"))
	answer(0x20)
	send(0x32, text(topic), []byte{0, 1}, []byte(payload))
	answer(0x40)
	send(0xe0)
}

func TestQuarantine_BadPayloadsAreCountedAndNothingStops(t *testing.T) {
	t.Parallel()
	address := broker(t)
	dir := enrolled(t)
	edge := filepath.Join(dir, "edge.yaml")
	write(t, dir, map[string]string{"sources.d/line3.yaml": `mqtt:
  id: line3
  url: mqtt://` + address + `
  topics:
    - {filter: plant/line3/+, signal: "line3.{2}.{key}", time: ts}
  heartbeat: {topic: plant/line3/heartbeat}
  window: {latency: 50ms}
  signals:
    - {name: line3.filler.speed, type: double}
    - {name: line3.filler.order, type: string}
`})
	agent := begin(t, t.TempDir(), nil, "plantmesh-edge", "run", "--config", edge)
	var s status
	at := time.Now().UnixMilli()
	say := func(payload string) {
		at++
		publish(t, address, "plant/line3/filler", strings.ReplaceAll(payload, "TS", strconv.FormatInt(at, 10)))
	}
	// Published before the agent has subscribed, a message is nobody's.
	until(t, 20*time.Second, "the agent hears the machine", func() bool {
		say(`{"ts":TS,"speed":1}`)
		return ask(t, edge, &s) && len(s.Sources) == 1 && s.Sources[0].Samples > 0
	})
	var bad uint64
	for _, c := range []struct{ name, payload, reason, quoted string }{
		{"a text for a number", `{"ts":TS,"speed":"fast"}`, "another type", "fast"},
		{"NaN in JSON", `{"ts":TS,"speed":NaN}`, "no JSON object", "NaN"},
		{"no JSON at all", "\x00\xff\x00 speed", "no valid UTF-8", `\x00\xff`},
		{"no time", `{"speed":2}`, "no usable time", "speed"},
		{"a 10 MB string", `{"ts":TS,"order":"` + strings.Repeat("x", 10<<20) + `"}`, "larger than max_packet", "xxx"},
		{"a string too long", `{"ts":TS,"order":"` + strings.Repeat("y", 70<<10) + `"}`, "longer than 64 KiB", "yyy"},
	} {
		say(c.payload)
		bad++
		until(t, 20*time.Second, c.name+" is counted", func() bool {
			return ask(t, edge, &s) && s.Sources[0].Voids["unreadable"].Count == bad
		})
		v := s.Sources[0].Voids["unreadable"]
		if !strings.Contains(v.Latest, c.reason) || !strings.Contains(v.Latest, c.quoted) || !strings.Contains(v.Latest, "plant/line3/filler") {
			t.Errorf("%s: the reason is %q", c.name, v.Latest)
		}
		if len(v.Latest) > 1<<10 {
			t.Errorf("%s: %d bytes are quoted", c.name, len(v.Latest))
		}
		before := s.Sources[0].Samples
		say(`{"ts":TS,"speed":2.5,"order":"A-1"}`)
		until(t, 20*time.Second, "what came after "+c.name+" is kept", func() bool {
			return ask(t, edge, &s) && s.Sources[0].Samples == before+2
		})
	}
	if src := s.Sources[0]; src.Restarts != 0 || src.Voids["unreadable"].Voids != bad || len(src.Voids) != 1 {
		t.Errorf("after %d bad payloads: %+v", bad, src)
	}
	r := run(t, nil, "plantmesh-edge", "status", "--config", edge)
	if !strings.Contains(r.out, "6 values in 6 stretches; latest: topic \"plant/line3/filler\"") || !strings.Contains(r.out, "\nlost     6 values of source ") {
		t.Errorf("status says\n%s", r.out)
	}
	if line, _, _ := strings.Cut(r.err, "\n"); r.code != exitFindings || !strings.HasPrefix(line, "plantmesh-edge: lost: 6 values of source ") || !strings.HasSuffix(line, ", cause unreadable [data.lost]") {
		t.Errorf("status ends with %d: %s", r.code, r.err)
	}
	for range 2 { // a restart makes it no greener
		agent.signal(interrupt)
		if code := agent.ends(10 * time.Second); code != 0 {
			t.Errorf("the agent ended with %d", code)
		}
		agent = begin(t, t.TempDir(), nil, "plantmesh-edge", "run", "--config", edge)
		until(t, 20*time.Second, "the agent answers again", func() bool { return ask(t, edge, &s) && len(s.Sources) == 1 })
		r := run(t, nil, "plantmesh-edge", "status", "--config", edge)
		if line, _, _ := strings.Cut(r.err, "\n"); r.code != exitFindings || !strings.HasPrefix(line, "plantmesh-edge: lost: 6 values of source ") || len(s.Sources[0].Voids) != 0 {
			t.Errorf("after a restart status ends with %d: %s, %+v", r.code, r.err, s.Sources[0].Voids)
		}
	}
	agent.signal(interrupt)
	if code := agent.ends(10 * time.Second); code != 0 {
		t.Errorf("the agent ended with %d", code)
	}
}
