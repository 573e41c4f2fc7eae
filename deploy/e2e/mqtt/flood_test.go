package mqtt

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"plantmesh/edge/source/mqtt/link"
)

// evil is a broker that takes the handshake and a subscription, and then says what
// then writes until that ends.
func evil(t *testing.T, then func(c net.Conn) error) (address string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			in := bufio.NewReader(c)
			for _, answer := range []string{"\x20\x03\x00\x00\x00", "\x90\x04\x00\x01\x00\x00"} {
				if _, err := in.ReadByte(); err != nil {
					break
				}
				n, err := binary.ReadUvarint(in)
				if err != nil {
					break
				}
				if _, err := io.CopyN(io.Discard, in, int64(n)); err != nil {
					break
				}
				io.WriteString(c, answer)
			}
			go io.Copy(io.Discard, in)
			_ = then(c) // the reader may end it
			c.Close()
		}
	}()
	return l.Addr().String()
}

// memory is the most that processes of a program have had so far, in MiB.
func memory(t *testing.T, program string) (all []int) {
	t.Helper()
	found, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range found {
		if exe, err := os.Readlink(filepath.Join(dir, "exe")); err != nil || exe != program {
			continue
		}
		b, err := os.ReadFile(filepath.Join(dir, "status"))
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(b)) {
			if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
				kib, err := strconv.Atoi(strings.TrimSuffix(strings.TrimSpace(rest), " kB"))
				if err != nil {
					t.Fatal(err)
				}
				all = append(all, kib>>10)
			}
		}
	}
	return all
}

// TestFlood: a broker that floods with 60,000 messages a second of QoS 0, and one that
// claims a packet of 256 MB, cost their own workers some memory; a device that calls
// beside them is answered as soon as ever.
func TestFlood(t *testing.T) {
	var sent atomic.Int64
	flood := evil(t, func(c net.Conn) error {
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for range tick.C {
			var frames []byte
			for range 600 {
				n := sent.Add(1)
				body := append([]byte{0, 5}, "f/x/y"...)
				body = append(append(body, 0), fmt.Sprintf(`{"ts":%d,"v":%d}`, time.Now().UnixMilli(), n)...)
				frames = append(append(frames, 0x30, byte(len(body))), body...)
			}
			if _, err := c.Write(frames); err != nil {
				return err
			}
		}
		return nil
	})
	large := evil(t, func(c net.Conn) error {
		_, err := c.Write([]byte("\x30\xff\xff\xff\x7f\x00\x01a\x00"))
		<-time.After(time.Second)
		return err
	})
	port := freePort(t)
	dir := gateway(t, "mqtt:\n  id: s1\n  url: mqtt://"+flood+`
  at_most_once: true
  topics:
    - {filter: f/+/+, signal: "{1}.{2}.{key}", time: ts}
  signals:
    - {name: x.y.v, type: int, max_silence: 1m}
`)
	for name, text := range map[string]string{
		"sources.d/large.yaml": "mqtt:\n  id: s2\n  url: mqtt://" + large + "\n  topics:\n    - {filter: a, signal: \"a.b.{key}\"}\n  signals:\n    - {name: a.b.v, type: int}\n",
		"sources.d/calm.yaml": `mqtt_listener:
  id: s3
  listen: 127.0.0.1:` + port + `
  devices:
    - {user: calm, password_file: secret, publish: [calm/#]}
  topics:
    - {filter: "calm/+", signal: "calm.{1}.{key}", time: ts}
  signals:
    - {name: calm.x.v, type: int, max_silence: 1m}
`,
		"sources.d/secret": "s\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	agent := run(t, "the agent", built, "run", "--config", filepath.Join(dir, "edge.yaml"))
	cfg := &link.Config{URL: "mqtt://127.0.0.1:" + port, Username: "calm", PasswordFile: filepath.Join(dir, "sources.d/secret")}
	if err := cfg.Validate(); err != nil {
		t.Fatal(err)
	}
	var l *link.Link
	await(t, "the listener is there", 20*time.Second, func() bool {
		var err error
		l, _, err = link.Dial(t.Context(), cfg, link.Hello{ClientID: "calm", CleanStart: true})
		return err == nil
	})
	defer l.Close()
	await(t, "the flood flows", 20*time.Second, func() bool { return sent.Load() > 50_000 })
	before, began := sent.Load(), time.Now()
	var took []time.Duration
	for i := range 30 {
		at := time.Now()
		if _, err := l.Publish(link.Message{Topic: "calm/x", QoS: 1, Payload: fmt.Appendf(nil, `{"ts":%d,"v":%d}`, at.UnixMilli(), i)}); err != nil {
			t.Fatal(err)
		}
		var p link.Packet
		if _, err := l.Next(&p); err != nil {
			t.Fatal(err)
		}
		took = append(took, time.Since(at))
	}
	rate := float64(sent.Load()-before) / time.Since(began).Seconds()
	had := memory(t, built)
	agent.end(syscall.SIGTERM)
	slices.Sort(took)
	// A window of 100 ms, a look each quarter of it, and the disk.
	t.Logf("%.0f messages/s of QoS 0; a calm device is answered after %v, %v at most; agent and workers had %v MiB at most", rate, took[len(took)/2], took[len(took)-1], had)
	if rate < 25_000 {
		t.Errorf("only %.0f messages a second came", rate)
	}
	if took[len(took)/2] > time.Second {
		t.Errorf("a calm device is answered after %v", took[len(took)/2])
	}
	for _, mib := range had {
		if mib > 96 {
			t.Errorf("a process had %d MiB", mib)
		}
	}
	numbers, _ := stored(t, dir)
	if len(numbers) < 50_000 {
		t.Errorf("only %d of the flood are stored", len(numbers))
	}
}
