package link

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"hash/crc32"
	"io"
	"math/big"
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

func testConfig(t *testing.T, address string) *Config {
	t.Helper()
	cfg := &Config{URL: "mqtt://" + address}
	if err := cfg.Validate(); err != nil {
		t.Fatal(err)
	}
	return cfg
}

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
	return testConfig(t, l.Addr().String())
}

func TestLink_FrameGuard(t *testing.T) {
	for name, c := range map[string]struct{ answer, want string }{
		"subscription without QoS 1":   {connack + "\x90\x04\x00\x01\x00\x00", "grants QoS 0 where QoS 1"},
		"length of five bytes":         {connack + "\x30\xff\xff\xff\xff\x7f", "more than four bytes"},
		"length longer than needed":    {connack + "\xd0\x80\x00", "more bytes than it needs"},
		"a publish of 256 MB":          {connack + "\x30\xff\xff\xff\x7f\x00\x01a\x00", ""},
		"type 0":                       {connack + "\x00\x00", "no MQTT 5 packet"},
		"type 15":                      {connack + "\xf0\x00", "no MQTT 5 packet"},
		"a pingresp with flags":        {connack + "\xd3\x00", "no MQTT 5 packet"},
		"a second connack":             {connack + connack, "no MQTT 5 packet"},
		"quality of service 2":         {connack + "\x34\x06\x00\x01a\x00\x01\x00", "no MQTT 5 packet"},
		"quality of service 3":         {connack + "\x36\x06\x00\x01a\x00\x01\x00", "no MQTT 5 packet"},
		"packet id 0":                  {connack + "\x32\x06\x00\x01a\x00\x00\x00", "no MQTT 5 packet"},
		"topic longer than packet":     {connack + "\x32\x06\xff\xffa\x00\x01\x00", "no MQTT 5 packet"},
		"topic of nothing":             {connack + "\x30\x03\x00\x00\x00", "bad topic"},
		"topic with a wildcard":        {connack + "\x30\x04\x00\x01#\x00", "bad topic"},
		"properties longer":            {connack + "\x32\x06\x00\x01a\x00\x01\x7f", "no MQTT 5 packet"},
		"properties without end":       {connack + "\x32\x0a\x00\x01a\x00\x01\xff\xff\xff\xff\xff", "no MQTT 5 packet"},
		"a topic alias":                {connack + "\x30\x07\x00\x01a\x03\x23\x00\x01", "property"},
		"a suback of 200 MB":           {connack + "\x90\xff\xff\xff\x5f", "no MQTT 5 packet"},
		"broken suback":                {connack + "\x90\x02\x00\x01", "no MQTT 5 packet"},
		"subscription refused":         {connack + "\x90\x04\x00\x01\x00\x87", "refused a subscription"},
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
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			l, _, err := Dial(t.Context(), cfg, Hello{ClientID: "c"})
			if err == nil {
				defer context.AfterFunc(ctx, l.Close)() // what never ends
				if err = l.Subscribe(Subscription{Filter: "#", QoS: 1}); err == nil {
					var p Packet
					_, err = l.Next(&p)
				}
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
		l := &Link{conn: ours, in: newInbox(ours, 1<<20)}
		_, err := l.hello(&Config{}, Hello{})
		if err = mute("mqtt://h:1", err); !errors.Is(err, ErrMute) || strings.Contains(err.Error(), "\n") || errors.Is(err, ErrFrame) {
			t.Errorf("error %v", err)
		}
		if err := mute("mqtt://h:1", context.DeadlineExceeded); !errors.Is(err, ErrMute) {
			t.Errorf("error %v", err)
		}
	})
}

// A broker that says nothing is pinged, and given up where it answers none.
func TestLink_ABrokerThatAnswersNoPingIsGivenUp(t *testing.T) {
	for _, answers := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			ours, theirs := net.Pipe()
			defer ours.Close()
			pings := 0
			go func() {
				for b := make([]byte, 2); ; {
					if _, err := io.ReadFull(theirs, b); err != nil {
						return
					}
					if pings++; answers && pings <= 10 {
						theirs.Write([]byte("\xd0\x00"))
					}
				}
			}()
			l := &Link{conn: ours, in: newInbox(ours, 1<<20)}
			began := time.Now()
			var p Packet
			_, err := l.Next(&p)
			theirs.Close()
			synctest.Wait()
			lived := time.Since(began)
			want := 3 * pingAfter
			if answers {
				want += 10 * pingAfter
			}
			if !errors.Is(err, ErrSilent) || lived < want-pingAfter || lived > want+pingAfter {
				t.Errorf("answers %v: %v after %v and %d pings, want %v", answers, err, lived, pings, want)
			}
		})
	}
}

func TestLink_BrokerThatHangsUpSentNoBadPacket(t *testing.T) {
	ours, theirs := net.Pipe()
	defer ours.Close()
	go func() {
		_, _ = theirs.Read(make([]byte, 1024))
		theirs.Close()
	}()
	l := &Link{conn: ours, in: newInbox(ours, 1<<20)}
	if _, err := l.hello(&Config{}, Hello{}); err == nil || errors.Is(err, ErrFrame) || strings.Contains(err.Error(), "\n") {
		t.Errorf("error %v", err)
	}
}

// sized is the header of a packet of n bytes.
func sized(head byte, n int) string { return string(frame(nil, head, n)) }

func TestLink_LargePublishIsLookedAtOnly(t *testing.T) {
	body := "\x00\x05a/b/c\x00\x07\x00" + strings.Repeat("x", 8<<20)
	cfg := evil(t, connack+sized(0x32, len(body))+body+"\x32\x0a\x00\x05a/b/c\x00\x08\x00")
	l, _, err := Dial(t.Context(), cfg, Hello{ClientID: "c"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	var p Packet
	if kind, err := l.Next(&p); err != nil || kind != Published {
		t.Fatal(kind, err)
	}
	want := crc32.Checksum([]byte("a/b/c\x00"+strings.Repeat("x", 8<<20)), crc32.MakeTable(crc32.Castagnoli))
	if !p.TooLarge || p.ID != 7 || string(p.Topic) != "a/b/c" || len(p.Payload) != Quoted || p.Hash != want {
		t.Errorf("got id %d topic %q, %d bytes, hash %08x, want %08x", p.ID, p.Topic, len(p.Payload), p.Hash, want)
	}
	if _, err := l.Next(&p); err != nil || p.ID != 8 || p.TooLarge {
		t.Errorf("the packet behind it: %+v, %v", p, err)
	}
	if len(l.in.buf) > 1<<20 {
		t.Errorf("%d bytes are held", len(l.in.buf))
	}
}

// Packets of every size, cut wherever a network may: each comes whole, once, and the
// buffer of a large one is given back.
func TestLink_PacketsOfEverySizeInEveryPiece(t *testing.T) {
	var stream bytes.Buffer
	sizes := []int{0, 1, 100, roomy - 20, roomy, roomy + 1, 3 * roomy, 0, 127, 128, 16384}
	for range 2*shrinkAfter + 100 {
		sizes = append(sizes, 30)
	}
	for i, n := range sizes {
		body := "\x00\x01t" + string([]byte{byte((i + 1) >> 8), byte(i + 1)}) + "\x00" + strings.Repeat("y", n)
		stream.WriteString(sized(0x32, len(body)) + body)
	}
	for _, piece := range []int{1, 7, 1000, 1 << 20} {
		conn := &pieces{rest: stream.Bytes(), size: piece}
		l := &Link{conn: conn, in: newInbox(conn, 1<<20), wrote: time.Now()}
		var p Packet
		for i, n := range sizes {
			if _, err := l.Next(&p); err != nil || p.ID != uint16(i+1) || len(p.Payload) != n || strings.Trim(string(p.Payload), "y") != "" {
				t.Fatalf("pieces of %d: packet %d: id %d, %d bytes, want %d; %v", piece, i+1, p.ID, len(p.Payload), n, err)
			}
		}
		if len(l.in.buf) != roomy {
			t.Errorf("pieces of %d: a buffer of %d bytes is kept", piece, len(l.in.buf))
		}
		if l.Ready() {
			t.Errorf("pieces of %d: there is more", piece)
		}
	}
}

// pieces is a connection on which so many bytes come at a time, at once.
type pieces struct {
	net.Conn

	rest []byte
	size int
}

func (p *pieces) Read(b []byte) (int, error) {
	n := copy(b, p.rest[:min(p.size, len(p.rest))])
	p.rest = p.rest[n:]
	if n == 0 {
		return 0, io.EOF
	}
	return n, nil
}

func (p *pieces) Write(b []byte) (int, error) { return len(b), nil }

func (p *pieces) SetReadDeadline(time.Time) error { return nil }

func (p *pieces) SetWriteDeadline(time.Time) error { return nil }

func TestLink_HalfAPacketIsNoPacket(t *testing.T) {
	a, b := net.Pipe()
	l := &Link{conn: a, in: newInbox(a, 1<<20), wrote: time.Now()}
	go func() {
		b.Write([]byte("\x32\x20\x00\x01a\x00\x01"))
		b.Close()
	}()
	var p Packet
	// A pipe says ErrClosedPipe where the other end was closed before the wait.
	if _, err := l.Next(&p); !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("read: %v", err)
	}
}

func TestLink_DialEndsWithTheContext(t *testing.T) {
	cfg := evil(t, "") // takes the CONNECT and says nothing
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	began := time.Now()
	if _, _, err := Dial(ctx, cfg, Hello{}); err == nil || time.Since(began) > 5*time.Second {
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

func TestConfig_FaultsAreSaidInPlainWords(t *testing.T) {
	for want, c := range map[string]Config{
		"no mqtt://host:port": {URL: "tcp://x:1"},
		"holds a user":        {URL: "mqtt://u:p@h:1"},
		"max_packet":          {URL: "mqtt://h:1", MaxPacket: 1},
		"belong together":     {URL: "mqtts://h:1", CertFile: "c.pem"},
		"not encrypted":       {URL: "mqtt://h:1", CAFile: "ca.pem"},
		"need mqtts://":       {URL: "mqtt://h:1", CertFile: "c.pem", KeyFile: "k.pem"},
	} {
		if err := c.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v does not say %q", err, want)
		}
	}
}

// pair makes a certificate for 127.0.0.1 that signs itself, and its key, as files.
func pair(t *testing.T, name string) (cert, key string) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, c, c, &k.PublicKey, k)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	cert, key = filepath.Join(dir, name+".pem"), filepath.Join(dir, name+".key")
	for path, b := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "PRIVATE KEY", Bytes: secret}} {
		if err := os.WriteFile(path, pem.EncodeToMemory(b), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return cert, key
}

// A broker that asks for a certificate is shown ours; one that we don't trust is
// left, and so is one that doesn't trust us.
func TestLink_TLSWithCertificatesOnBothSides(t *testing.T) {
	serverCert, serverKey := pair(t, "broker")
	ourCert, ourKey := pair(t, "agent")
	otherCert, otherKey := pair(t, "other")
	server, err := tls.LoadX509KeyPair(serverCert, serverKey)
	if err != nil {
		t.Fatal(err)
	}
	clients := x509.NewCertPool()
	trusted, err := os.ReadFile(ourCert)
	if err != nil || !clients.AppendCertsFromPEM(trusted) {
		t.Fatal(err)
	}
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{server}, ClientCAs: clients, ClientAuth: tls.RequireAndVerifyClientCert})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			if _, err := c.Read(make([]byte, 1024)); err == nil {
				c.Write([]byte(connack))
			}
			c.Close()
		}
	}()
	for name, c := range map[string]struct {
		cfg  Config
		want string
	}{
		"both":               {Config{CAFile: serverCert, CertFile: ourCert, KeyFile: ourKey}, ""},
		"broker not trusted": {Config{CAFile: otherCert, CertFile: ourCert, KeyFile: ourKey}, "certificate"},
		"we are not trusted": {Config{CAFile: serverCert, CertFile: otherCert, KeyFile: otherKey}, "connack"},
		"we show none":       {Config{CAFile: serverCert}, "connack"},
		"key of another":     {Config{CAFile: serverCert, CertFile: ourCert, KeyFile: otherKey}, "cert_file and key_file"},
		"no file":            {Config{CAFile: serverCert + "x", CertFile: ourCert, KeyFile: ourKey}, "ca_file"},
	} {
		c.cfg.URL = "mqtts://" + l.Addr().String()
		if err := c.cfg.Validate(); err != nil {
			t.Fatal(err)
		}
		got, _, err := Dial(t.Context(), &c.cfg, Hello{ClientID: "c"})
		if err == nil {
			got.Close()
		}
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestLink_PublishIsAsTheStandardHasIt(t *testing.T) {
	ours, theirs := net.Pipe()
	defer ours.Close()
	l := &Link{conn: ours, in: newInbox(ours, 1<<20)}
	for _, c := range []struct {
		m    Message
		want string
	}{
		{Message{Topic: "a/b", Payload: []byte("x")}, "\x30\x07\x00\x03a/b\x00x"},
		{Message{Topic: "s", Payload: []byte("on"), QoS: 1, Retain: true}, "\x33\x08\x00\x01s\x00\x01\x00on"},
		{Message{Topic: "s", Payload: bytes.Repeat([]byte("y"), 200), QoS: 1}, "\x32\xce\x01\x00\x01s\x00\x02\x00" + strings.Repeat("y", 200)},
	} {
		got := make([]byte, len(c.want))
		done := make(chan error, 1)
		go func() { _, err := io.ReadFull(theirs, got); done <- err }()
		if _, err := l.Publish(c.m); err != nil {
			t.Fatal(err)
		}
		if err := <-done; err != nil || string(got) != c.want {
			t.Errorf("%+v: %q, want %q; %v", c.m, got, c.want, err)
		}
	}
	if _, err := l.Publish(Message{QoS: 2}); err == nil {
		t.Error("QoS 2 was published")
	}
}

func FuzzLink_Next(f *testing.F) {
	f.Add([]byte("\x32\x06\x00\x01a\x00\x01\x00"))
	f.Add([]byte("\x32\x09\x00\x01a\x00\x01\x02\x01\x01x"))
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
		l := &Link{conn: a, in: newInbox(a, 1<<12), wrote: time.Now()}
		for p := (Packet{}); ; {
			if _, err := l.Next(&p); err != nil {
				return
			}
		}
	})
}
