package bench

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// blaster is a broker that sends one value in each message, as fast as the
// subscriber lets it: QoS 1 within its receive maximum, QoS 0 as TCP takes them.
type blaster struct {
	listener net.Listener
	qos      byte
	sent     atomic.Int64
	acked    atomic.Int64
	window   atomic.Int64
}

// blasted signals, each with a topic of its own.
const blasted = 1000

func blast(t *testing.T, qos byte) *blaster {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b := &blaster{listener: l, qos: qos}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			b.serve(c)
			c.Close()
		}
	}()
	return b
}

// packet reads one.
func packet(in *bufio.Reader) (head byte, body []byte, err error) {
	if head, err = in.ReadByte(); err != nil {
		return 0, nil, err
	}
	n, err := binary.ReadUvarint(in) // the coding is MQTT's too
	if err != nil || n > 1<<20 {
		return 0, nil, fmt.Errorf("%d bytes: %w", n, err)
	}
	body = make([]byte, n)
	_, err = io.ReadFull(in, body)
	return head, body, err
}

// serve is one connection: a handshake, a subscription, and then messages.
func (b *blaster) serve(c net.Conn) {
	in := bufio.NewReader(c)
	_, hello, err := packet(in)
	if err != nil {
		return
	}
	window := int64(65535)
	if i := bytes.IndexByte(hello[10:], 0x21); i >= 0 { // receive maximum, behind the protocol's name
		window = int64(binary.BigEndian.Uint16(hello[10+i+1:]))
	}
	b.window.Store(window)
	io.WriteString(c, "\x20\x03\x00\x00\x00")
	if _, _, err = packet(in); err != nil {
		return
	}
	c.Write([]byte{0x90, 4, 0, 1, 0, b.qos})
	acks, free := make(chan struct{}), make(chan struct{}, 1)
	began := b.acked.Load()
	go func() {
		defer close(acks)
		for {
			head, _, err := packet(in)
			if err != nil {
				return
			}
			if head>>4 != 4 {
				continue
			}
			b.acked.Add(1)
			select {
			case free <- struct{}{}:
			default:
			}
		}
	}()
	b.send(c, began, free, acks)
}

func (b *blaster) send(c net.Conn, began int64, free, gone <-chan struct{}) {
	var frames []byte
	start := time.Now().UnixMilli()
	for i := int64(0); ; {
		frames = frames[:0]
		for len(frames) < 64<<10 && (b.qos == 0 || i < b.acked.Load()-began+b.window.Load()) {
			topic := fmt.Appendf(nil, "plant/line3/machine_%04d/temperature_00%02d", i%blasted, i%blasted%100)
			payload := fmt.Appendf(nil, `{"ts":%d,"value":%.6f}`, start+i/blasted, 20+float64(i*7919%100_000)/7)
			n := 2 + len(topic) + 2*int(b.qos) + 1 + len(payload)
			frames = binary.AppendUvarint(append(frames, 0x30|b.qos<<1), uint64(n))
			frames = binary.BigEndian.AppendUint16(frames, uint16(len(topic)))
			frames = append(frames, topic...)
			if b.qos > 0 {
				frames = binary.BigEndian.AppendUint16(frames, uint16(i%65535+1))
			}
			frames = append(append(frames, 0), payload...)
			i++
		}
		if len(frames) > 0 {
			if _, err := c.Write(frames); err != nil {
				return
			}
			b.sent.Store(i)
			continue
		}
		select {
		case <-free:
		case <-gone:
			return
		}
	}
}

const benchSite = `site: graz
zone: Europe/Vienna
production_day_start: "06:00"
shifts:
  - {id: early, start: "06:00", end: "14:00"}
min_coverage: 0.5
energy_unit: kWh
equipment:
  - {id: m0, line: line3, name: M0, kind: press, source: s1, signals_prefix: machine_0000.}
`

// gateway is an enrolled agent with one source, and a hub, both as processes.
func gateway(t *testing.T, source string) (edge string) {
	t.Helper()
	edge = built(t, ".", "plantmesh/edge/cmd/plantmesh-edge")
	hub := built(t, ".", "plantmesh/cloud/cmd/plantmesh")
	dir, err := os.MkdirTemp("", "pmb") //nolint:usetesting // short: a socket's path has some 100 bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nats := l.Addr().String()
	l.Close()
	in := func(name string) string { return filepath.Join(dir, name) }
	write := func(name, text string) {
		if err := os.MkdirAll(filepath.Dir(in(name)), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(in(name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	run := func(program string, args ...string) string {
		cmd := exec.CommandContext(t.Context(), program, args...)
		var said bytes.Buffer
		cmd.Stderr = &said
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("%s %v: %v\n%s", program, args, err, said.String())
		}
		return strings.TrimSpace(string(out))
	}
	write("hub.yaml", "data: hub\nsite_file: site.yaml\nnats: {listen: \""+nats+"\", max_store: 1GiB}\nhttp: {listen: \"127.0.0.1:0\"}\n")
	write("site.yaml", benchSite)
	write("edge.yaml", "agent: gw-1\nsite: graz\ndata: data\nhub: {url: \"nats://"+nats+"\", key: agent.nk, token: agent.jwt}\nbuffer: {max_bytes: 1GiB}\n")
	write("sources.d/s.yaml", source)
	key := run(edge, "keygen", in("agent.nk"))
	write("agent.jwt", run(hub, "agents", "enroll", "--config", in("hub.yaml"), "--site", "graz", "gw-1", key)+"\n")
	for _, args := range [][]string{{hub, "serve", "--config", in("hub.yaml")}, {edge, "run", "--config", in("edge.yaml")}} {
		ctx, cancel := context.WithCancel(context.Background())
		cmd := exec.CommandContext(ctx, args[0], args[1:]...)
		var said bytes.Buffer
		cmd.Stderr = &said
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			cancel()
			_ = cmd.Wait() // killed
			if t.Failed() {
				t.Logf("%s: %s", filepath.Base(args[0]), said.String()[:min(said.Len(), 4000)])
			}
		})
	}
	return edge
}

// TestBench_MQTT: agent and worker, durable before each PUBACK and on its way to a
// hub. What the hub and the broker cost is not counted.
func TestBench_MQTT(t *testing.T) {
	if !full() {
		t.Skip("skipped: it has an agent, a hub and a broker run for half a minute; make bench runs it")
	}
	for _, c := range []struct {
		name string
		qos  byte
		bar  float64
	}{{"mqtt_qos1", 1, 12}, {"mqtt_qos0", 0, 6}} {
		b := blast(t, c.qos)
		var file strings.Builder
		fmt.Fprintf(&file, "mqtt:\n  id: s1\n  url: mqtt://%s\n  rate: 100000\n  at_most_once: %v\n  topics:\n    - {filter: plant/line3/+/+, signal: \"{2}.{3}.{key}\", time: ts}\n  signals:\n", b.listener.Addr(), c.qos == 0)
		for i := range blasted {
			fmt.Fprintf(&file, "    - {name: machine_%04d.temperature_00%02d.value, type: double, max_silence: 1m}\n", i, i%100)
		}
		edge := gateway(t, file.String())
		done := func() int64 {
			if c.qos == 0 {
				return b.sent.Load()
			}
			return b.acked.Load()
		}
		for limit := time.Now().Add(30 * time.Second); done() < 100_000; {
			if time.Now().After(limit) {
				t.Fatalf("%s: only %d messages were taken", c.name, done())
			}
			wait(50 * time.Millisecond)
		}
		wait(2 * time.Second)
		var from, to time.Duration
		for _, dir := range familyOf(t, edge) {
			from += spent(t, dir)
		}
		had, began := done(), time.Now()
		wait(span)
		took := time.Since(began).Seconds()
		for _, dir := range familyOf(t, edge) {
			to += spent(t, dir)
		}
		n := float64(done() - had)
		report(t, row{name: c.name, value: (to - from).Seconds() / n * 1e6, unit: "s/M messages", bar: c.bar, clock: true})
		if c.qos == 1 {
			report(t, row{name: c.name + "_rate", value: n / took, unit: "messages/s", bar: 60_000, more: true, clock: true})
		}
		t.Logf("%s: %.0f messages/s, agent and worker at %.2f of a core, window of %d", c.name, n/took, (to-from).Seconds()/took, b.window.Load())
		b.listener.Close()
	}
}

// familyOf are the processes that run a program.
func familyOf(t *testing.T, program string) (out []string) {
	t.Helper()
	all, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range all {
		if exe, err := os.Readlink(filepath.Join(dir, "exe")); err == nil && exe == program {
			out = append(out, dir)
		}
	}
	if len(out) < 2 {
		t.Fatalf("%d processes run %s, want an agent and a worker", len(out), program)
	}
	return out
}
