package mqtt

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"plantmesh/edge/source/mqtt/link"
	"plantmesh/edge/source/mqtt/serve"
	"plantmesh/proto/mesh"
	"plantmesh/proto/strict"
)

// secret is a file with a password.
func secret(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(path, []byte(text+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func listenerConfig(t *testing.T, address string) ListenerConfig {
	t.Helper()
	b := testConfig(t)
	cfg := ListenerConfig{
		ID: "devices", Mapping: b.Mapping,
		Server: Server{Listen: address, Devices: []serve.Device{
			{User: "filler", PasswordFile: secret(t, "f"), Publish: []string{"plant/line3/filler", "plant/line3/heartbeat"}},
			{User: "capper", PasswordFile: secret(t, "c"), Publish: []string{"plant/line3/capper"}},
		}},
	}
	cfg.Window.Latency = strict.Duration(20 * time.Millisecond)
	return cfg
}

// listening runs a listener on a disk; it gives its address.
func listening(t *testing.T, d *disk, cfg ListenerConfig, delay time.Duration) (address string, stop func()) {
	t.Helper()
	l, err := NewListener(cfg, func() mesh.Nanos { return noon + 3600e9 }, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ready := make(chan string, 1)
	l.ready = func(a string) { ready <- a }
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- d.run(ctx, l, delay) }()
	var once sync.Once
	stop = func() {
		once.Do(func() {
			cancel()
			if err := <-done; err != nil {
				t.Errorf("run: %v", err)
			}
		})
	}
	t.Cleanup(stop)
	select {
	case address = <-ready:
	case err := <-done:
		t.Fatal(err)
	}
	return address, stop
}

// device calls as a user with MQTT 5.
func device(t *testing.T, address, user, word string, hello link.Hello) (*link.Link, bool, error) {
	t.Helper()
	cfg := &link.Config{URL: "mqtt://" + address, Username: user, PasswordFile: secret(t, word)}
	if err := cfg.Validate(); err != nil {
		t.Fatal(err)
	}
	l, present, err := link.Dial(t.Context(), cfg, hello)
	if err == nil {
		t.Cleanup(l.Close)
	}
	return l, present, err
}

// say publishes with QoS 1, and waits until it is acknowledged where it is asked to.
func say(t *testing.T, l *link.Link, topic, payload string, wait bool) {
	t.Helper()
	id, err := l.Publish(link.Message{Topic: topic, Payload: []byte(payload), QoS: 1})
	if err != nil {
		t.Fatal(err)
	}
	var p link.Packet
	for wait {
		kind, err := l.Next(&p)
		if err != nil {
			t.Fatal(err)
		}
		wait = kind != link.Acknowledged || p.ID != id
	}
}

func produced(i int) string {
	return fmt.Sprintf(`{"ts":%d,"produced":%d}`, int64(noon)/1e6+int64(i), i)
}

// What is acknowledged is stored; a device may have many on the way.
func TestListener_AcknowledgesWhatIsStored(t *testing.T) {
	d := newDisk()
	address, _ := listening(t, d, listenerConfig(t, "127.0.0.1:0"), 30*time.Millisecond)
	l, _, err := device(t, address, "filler", "f", link.Hello{ClientID: "f1", CleanStart: true})
	if err != nil {
		t.Fatal(err)
	}
	const n = 500
	began := time.Now()
	for i := range n {
		say(t, l, "plant/line3/filler", produced(i), i == n-1)
		if i == 0 {
			continue
		}
	}
	if s, _, _ := d.samples(t); len(s) != n {
		t.Errorf("%d samples are stored when the last of %d is acknowledged", len(s), n)
	}
	if took := time.Since(began); took > n*10*time.Millisecond {
		t.Errorf("%d messages took %v: one at a time", n, took)
	}
}

// TestListener_WhoMayWhat: strangers, wrong passwords, other topics, subscriptions and
// another's client id are refused, and nothing of theirs is stored.
func TestListener_WhoMayWhat(t *testing.T) {
	d := newDisk()
	address, _ := listening(t, d, listenerConfig(t, "127.0.0.1:0"), 0)
	for _, c := range [][2]string{{"stranger", "f"}, {"filler", "wrong"}, {"filler", "c"}, {"", "f"}} {
		if _, _, err := device(t, address, c[0], c[1], link.Hello{ClientID: "x"}); err == nil || !strings.Contains(err.Error(), "refused the connection") {
			t.Errorf("user %q with %q: %v", c[0], c[1], err)
		}
	}
	f, _, err := device(t, address, "filler", "f", link.Hello{ClientID: "f1", Expiry: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := device(t, address, "capper", "c", link.Hello{ClientID: "f1"}); err == nil {
		t.Error("another user took over a client id")
	}
	say(t, f, "plant/line3/capper", produced(1), true) // an answer comes: it says no
	say(t, f, "plant/line3/filler", produced(2), true)
	if err := f.Subscribe(link.Subscription{Filter: "#", QoS: 1}); err != nil {
		t.Fatal(err)
	}
	var p link.Packet
	if _, err := f.Next(&p); err == nil || !strings.Contains(err.Error(), "refused a subscription") {
		t.Errorf("a subscription: %v", err)
	}
	if s, _, _ := d.samples(t); len(s) != 1 {
		t.Errorf("%d samples, want the one that was allowed", len(s))
	}
}

// TestListener_WhatComesAgainIsStoredOnce: the agent dies after the commit and before
// the acknowledgement; the device finds its session again and says all with DUP.
func TestListener_WhatComesAgainIsStoredOnce(t *testing.T) {
	d := newDisk()
	cfg := listenerConfig(t, "127.0.0.1:0")
	address, stop := listening(t, d, cfg, 0)
	f, present, err := device(t, address, "filler", "f", link.Hello{ClientID: "f1", Expiry: time.Hour})
	if err != nil || present {
		t.Fatal(present, err)
	}
	for i := range 10 {
		say(t, f, "plant/line3/filler", produced(i), i == 9)
	}
	f.Close()
	stop()
	cfg.Listen = address
	address, _ = listening(t, d, cfg, 0)
	f, present, err = device(t, address, "filler", "f", link.Hello{ClientID: "f1", Expiry: time.Hour})
	if err != nil || !present {
		t.Fatalf("session present %v, %v", present, err)
	}
	_ = f                            // its number is the device's: here as a device with DUP would send it
	raw := dialRaw(t, address, "f2") // another session knows nothing of those
	raw.publish(t, 2, true, "plant/line3/filler", produced(0))
	raw.await(t, 0x40)
	if s, _, _ := d.samples(t); len(s) != 11 {
		t.Errorf("%d samples: a packet of another session was taken for a known one", len(s))
	}
	f.Close()
	again := dialRaw(t, address, "f1")
	for i := range 10 {
		again.publish(t, uint16(i+1), true, "plant/line3/filler", produced(i))
		again.await(t, 0x40)
	}
	again.publish(t, 1, false, "plant/line3/filler", produced(10)) // the id is used again
	again.await(t, 0x40)
	if s, _, _ := d.samples(t); len(s) != 12 {
		t.Errorf("%d samples, want 12", len(s))
	}
}

// TestListener_SessionBeganAndNothingElse: the agent dies when a session is stored and no
// message of it yet. What comes in it is known ever after, as in any other.
func TestListener_SessionBeganAndNothingElse(t *testing.T) {
	d := newDisk()
	cfg := listenerConfig(t, "127.0.0.1:0")
	address, stop := listening(t, d, cfg, 0)
	dialRaw(t, address, "f1")
	d.until(t, "the session is stored", func() bool {
		d.mu.Lock()
		defer d.mu.Unlock()
		_, ok := d.kept[keptSession+"f1"]
		return ok
	})
	for run := range 3 {
		stop()
		address, stop = listening(t, d, cfg, 0)
		again := dialRaw(t, address, "f1")
		for i := range 5 {
			again.publish(t, uint16(i+1), run > 0, "plant/line3/filler", produced(i))
			again.await(t, 0x40)
		}
	}
	if s, _, _ := d.samples(t); len(s) != 5 {
		t.Errorf("%d samples, want 5", len(s))
	}
}

// rawDevice speaks MQTT 3.1.1 by hand.
type rawDevice struct {
	net.Conn

	in *bufio.Reader
}

func dialRaw(t *testing.T, address, client string) *rawDevice {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(20 * time.Second))
	body := []byte{0, 4, 'M', 'Q', 'T', 'T', 4, 0xC0, 0, 60} // user and password, session kept
	for _, s := range []string{client, "filler", "f"} {
		body = append(binary.BigEndian.AppendUint16(body, uint16(len(s))), s...)
	}
	c.Write(append([]byte{0x10, byte(len(body))}, body...))
	d := &rawDevice{c, bufio.NewReader(c)}
	d.await(t, 0x20)
	return d
}

// await reads until a packet of a type comes.
func (d *rawDevice) await(t *testing.T, head byte) []byte {
	t.Helper()
	for {
		h, err := d.in.ReadByte()
		if err != nil {
			t.Fatalf("waiting for %02x: %v", head, err)
		}
		n, err := binary.ReadUvarint(d.in)
		if err != nil {
			t.Fatal(err)
		}
		b := make([]byte, n)
		if _, err := io.ReadFull(d.in, b); err != nil {
			t.Fatal(err)
		}
		if h == head {
			return b
		}
	}
}

func (d *rawDevice) publish(t *testing.T, id uint16, again bool, topic, payload string) {
	t.Helper()
	d.qos(t, 1, id, again, topic, payload)
}

func (d *rawDevice) qos(t *testing.T, qos byte, id uint16, again bool, topic, payload string) {
	t.Helper()
	body := append(binary.BigEndian.AppendUint16(nil, uint16(len(topic))), topic...)
	body = append(binary.BigEndian.AppendUint16(body, id), payload...)
	head := 0x30 | qos<<1
	if again {
		head |= 8
	}
	if _, err := d.Write(append(binary.AppendUvarint([]byte{head}, uint64(len(body))), body...)); err != nil {
		t.Fatal(err)
	}
}

// QoS 2: stored once, however often each step is said again.
func TestListener_QoS2(t *testing.T) {
	d := newDisk()
	address, _ := listening(t, d, listenerConfig(t, "127.0.0.1:0"), 0)
	c := dialRaw(t, address, "f2")
	for i := range 3 {
		c.qos(t, 2, 7, false, "plant/line3/filler", produced(i))
		c.await(t, 0x50)
		c.qos(t, 2, 7, true, "plant/line3/filler", produced(i))
		c.await(t, 0x50)
		c.Write([]byte{0x62, 2, 0, 7})
		c.await(t, 0x70)
	}
	if s, _, _ := d.samples(t); len(s) != 3 {
		t.Errorf("%d samples, want 3", len(s))
	}
}

// A log that takes nothing for a while holds devices back; nothing is lost.
func TestListener_ALogThatIsSlowHoldsDevicesBack(t *testing.T) {
	d := newDisk()
	cfg := listenerConfig(t, "127.0.0.1:0")
	cfg.Window.MaxSamples = 10
	address, _ := listening(t, d, cfg, 20*time.Millisecond)
	var wg sync.WaitGroup
	const devices, each = 8, 100
	for i := range devices {
		l, _, err := device(t, address, "filler", "f", link.Hello{ClientID: fmt.Sprint("f", i), CleanStart: true})
		if err != nil {
			t.Fatal(err)
		}
		wg.Go(func() {
			for k := range each {
				say(t, l, "plant/line3/filler", produced(i*each+k), k == each-1)
			}
		})
	}
	wg.Wait()
	if s, _, _ := d.samples(t); len(s) != devices*each {
		t.Errorf("%d samples, want %d", len(s), devices*each)
	}
}

func TestListenerConfig_FaultsAreSaidInPlainWords(t *testing.T) {
	for want, change := range map[string]func(*ListenerConfig){
		"id is missing":           func(c *ListenerConfig) { c.ID = "" },
		"no host:port":            func(c *ListenerConfig) { c.Listen = "1883" },
		"reached from outside":    func(c *ListenerConfig) { c.Listen = "0.0.0.0:1883" },
		"belong together":         func(c *ListenerConfig) { c.CertFile = "x" },
		"over TLS only":           func(c *ListenerConfig) { c.CAFile = "x" },
		"nobody may call":         func(c *ListenerConfig) { c.Devices = nil },
		"stands twice":            func(c *ListenerConfig) { c.Devices[1].User = "filler" },
		"neither a password_file": func(c *ListenerConfig) { c.Devices[0].PasswordFile = "" },
		"may publish nothing":     func(c *ListenerConfig) { c.Devices[0].Publish = nil },
		"no topic filter":         func(c *ListenerConfig) { c.Devices[0].Publish = []string{"a/#/b"} },
		"max_clients":             func(c *ListenerConfig) { c.MaxClients = -1 },
		"max_packet":              func(c *ListenerConfig) { c.MaxPacket = 1 },
		"rate":                    func(c *ListenerConfig) { c.Rate = -1 },
		"topics is empty":         func(c *ListenerConfig) { c.Topics = nil },
	} {
		c := listenerConfig(t, "127.0.0.1:0")
		change(&c)
		if err := c.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v does not say %q", err, want)
		}
	}
}

func TestAttendance_Words(t *testing.T) {
	in := testIntake(t, nil)
	in.counters = counters{unknown: 3}
	a := &attendance{in: in, refused: func() uint64 { return 2 }}
	if _, news := a.news(time.Unix(1000, 0)); news {
		t.Error("it says something before it listens")
	}
	a.address, a.connected = "127.0.0.1:1883", 4
	want := "listening on 127.0.0.1:1883, 4 devices connected; left out: 3 values of unknown keys; refused 2 callers or messages"
	if text, news := a.news(time.Unix(1000, 0)); !news || text != want {
		t.Errorf("it says %q, want %q", text, want)
	}
	if _, news := a.news(time.Unix(1002, 0)); news {
		t.Error("it says the same again")
	}
}
