package mqtt

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// connack answers a CONNECT: no session, no properties.
const connack = "\x20\x03\x00\x00\x00"

// evil is a broker that says one thing after the CONNECT and listens on.
func evil(t *testing.T, answer string) *Config {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		if _, err := c.Read(make([]byte, 1024)); err != nil {
			return
		}
		if _, err := c.Write([]byte(answer)); err != nil {
			return
		}
		_, _ = io.Copy(io.Discard, c)
	}()
	cfg := testConfig(t)
	cfg.URL = "mqtt://" + l.Addr().String()
	return cfg
}

func TestLink_FrameGuard(t *testing.T) {
	for name, c := range map[string]struct{ answer, want string }{
		"length of five bytes":         {connack + "\x30\xff\xff\xff\xff\x7f", "more than four bytes"},
		"type 0":                       {connack + "\x00\x00", "no MQTT 5 packet"},
		"a second connack":             {connack + connack, "no MQTT 5 packet"},
		"quality of service 2":         {connack + "\x34\x06\x00\x01a\x00\x01\x00", "no MQTT 5 packet"},
		"quality of service 3":         {connack + "\x36\x06\x00\x01a\x00\x01\x00", "no MQTT 5 packet"},
		"packet id 0":                  {connack + "\x32\x06\x00\x01a\x00\x00\x00", "no MQTT 5 packet"},
		"topic longer than packet":     {connack + "\x32\x06\xff\xffa\x00\x01\x00", "no MQTT 5 packet"},
		"properties longer":            {connack + "\x32\x06\x00\x01a\x00\x01\x7f", "no MQTT 5 packet"},
		"properties without end":       {connack + "\x32\x0a\x00\x01a\x00\x01\xff\xff\xff\xff\xff", "no MQTT 5 packet"},
		"a suback of 200 MB":           {connack + "\x90\xff\xff\xff\x5f", "no MQTT 5 packet"},
		"broken suback":                {connack + "\x90\x02\x00\x01", "no MQTT 5 packet"},
		"subscription refused":         {connack + "\x90\x04\x00\x01\x00\x87", "refused a subscription"},
		"subscription without QoS 1":   {connack + "\x90\x04\x00\x01\x00\x00", "refused a subscription"},
		"session taken over":           {connack + "\xe0\x02\x8e\x00", "refused to go on"},
		"connection refused":           {"\x20\x03\x00\x87\x00", "refused the connection"},
		"broker without QoS 1":         {"\x20\x05\x00\x00\x02\x24\x00", "refused QoS 1"},
		"publish instead of a connack": {"\x30\x04\x00\x01a\x00", "connack"},
		"a connack of 200 MB":          {"\x20\xff\xff\xff\x5f", "no MQTT 5 packet"},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := evil(t, c.answer)
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			l, _, err := dial(t.Context(), cfg)
			if err == nil {
				defer l.close()
				_, err = l.read()
			}
			runtime.ReadMemStats(&after)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v does not say %q", err, c.want)
			}
			if grown := after.TotalAlloc - before.TotalAlloc; grown > 4<<20 {
				t.Errorf("%d bytes allocated", grown)
			}
		})
	}
}

// The clock is the bubble's: nobody waits for the silent broker.
func TestLink_SilentBrokerIsSaidInPlainWords(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ours, theirs := net.Pipe()
		defer ours.Close()
		defer theirs.Close()
		go func() { _, _ = io.Copy(io.Discard, theirs) }()
		l := &link{conn: ours, in: bufio.NewReader(ours), max: 1 << 20}
		_, err := l.hello(testConfig(t))
		if err = mute("mqtt://h:1", err); !errors.Is(err, errMute) || strings.Contains(err.Error(), "\n") || errors.Is(err, errFrame) {
			t.Errorf("error %v", err)
		}
		if err := mute("mqtt://h:1", context.DeadlineExceeded); !errors.Is(err, errMute) {
			t.Errorf("error %v", err)
		}
	})
}

func TestLink_BrokerThatHangsUpSentNoBadPacket(t *testing.T) {
	ours, theirs := net.Pipe()
	defer ours.Close()
	go func() {
		_, _ = theirs.Read(make([]byte, 1024))
		theirs.Close()
	}()
	l := &link{conn: ours, in: bufio.NewReader(ours), max: 1 << 20}
	if _, err := l.hello(testConfig(t)); err == nil || errors.Is(err, errFrame) || strings.Contains(err.Error(), "\n") {
		t.Errorf("error %v", err)
	}
}

func TestLink_LargePublishIsLookedAtOnly(t *testing.T) {
	const size = 8 << 20
	body := "\x00\x05a/b/c\x00\x07\x00" + strings.Repeat("x", size)
	n := len(body)
	head := []byte{0x32, byte(n&0x7f | 0x80), byte(n>>7&0x7f | 0x80), byte(n>>14&0x7f | 0x80), byte(n >> 21)}
	cfg := evil(t, connack+string(head)+body+"\x32\x0a\x00\x05a/b/c\x00\x08\x00")
	l, _, err := dial(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer l.close()
	e, err := l.read()
	if err != nil {
		t.Fatal(err)
	}
	if p := e.packet; !p.tooLarge || p.id != 7 || p.topic != "a/b/c" || len(p.payload) > quoted {
		t.Errorf("got id %d topic %q, %d bytes", p.id, p.topic, len(p.payload))
	}
	if e, err = l.read(); err != nil || e.packet.id != 8 || e.packet.tooLarge {
		t.Errorf("the packet behind it: %+v, %v", e.packet, err)
	}
}

func TestLink_HalfAPacketIsNoPacket(t *testing.T) {
	a, b := net.Pipe()
	l := &link{conn: a, in: bufio.NewReader(a), max: 1 << 20, wrote: time.Now()}
	go func() {
		b.Write([]byte("\x32\x20\x00\x01a\x00\x01"))
		b.Close()
	}()
	// A pipe says ErrClosedPipe where the other end was closed before the wait.
	if _, err := l.read(); !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("read: %v", err)
	}
}

func TestLink_DialEndsWithTheContext(t *testing.T) {
	cfg := evil(t, "") // takes the CONNECT and says nothing
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	began := time.Now()
	if _, _, err := dial(ctx, cfg); err == nil || time.Since(began) > 5*time.Second {
		t.Errorf("dial: %v after %v", err, time.Since(began))
	}
}

func TestLink_PasswordComesFromItsFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(path, []byte("secret\r\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if b, err := password(path); err != nil || !bytes.Equal(b, []byte("secret")) {
		t.Errorf("password %q, %v", b, err)
	}
	if _, err := password(path + "x"); err == nil || !strings.Contains(err.Error(), "password_file") {
		t.Errorf("missing file: %v", err)
	}
}

func FuzzLink_Read(f *testing.F) {
	f.Add([]byte("\x32\x06\x00\x01a\x00\x01\x00"))
	f.Add([]byte("\x90\x04\x00\x01\x00\x01"))
	f.Add([]byte("\xe0\x02\x8e\x00"))
	f.Add([]byte("\xd0\x00"))
	f.Fuzz(func(_ *testing.T, b []byte) {
		a, c := net.Pipe()
		defer a.Close()
		go func() {
			_, _ = c.Write(b)
			c.Close()
		}()
		l := &link{conn: a, in: bufio.NewReader(a), max: 1 << 12}
		l.wrote = time.Now()
		for {
			if _, err := l.read(); err != nil {
				return
			}
		}
	})
}

func FuzzScan(f *testing.F) {
	f.Add([]byte(`{"ts":1767268800000,"speed":1.5,"order":"x","blocked":true,"produced":null}`))
	f.Add([]byte(`{"ts":1e300}`))
	cfg := &Config{
		ID: "s", URL: "mqtt://h:1", Topics: []Topic{{Filter: "a/+", Signal: "{1}.{key}", Time: "ts"}},
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
