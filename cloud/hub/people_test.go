package hub

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"plantmesh/cloud/access"
	"plantmesh/cloud/registry"
)

// Who was ended since the backup is not good again; where there is nothing else those of
// the backup are, without sessions.
func TestRestore_KeepsWhoMayDoWhat(t *testing.T) {
	cfg := stopped(t)
	a, err := Access(cfg)
	check(t, err)
	all := people(t, a, "admin", "viewer", "viewer@graz")
	to := filepath.Join(t.TempDir(), "backup")
	_, err = Backup(t.Context(), cfg, to, quiet())
	check(t, err)
	if _, err := os.Stat(filepath.Join(to, dataPart, accessName, access.SessionsFolder)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("sessions are in the backup: %v", err)
	}
	_, err = a.End(root, "user1", "")
	check(t, err)
	_, _, err = a.AddUser(root, "later", []access.Grant{{Role: access.Viewer}}, "")
	check(t, err)
	_, err = Restore(t.Context(), cfg, to, true, quiet())
	check(t, err)
	a, err = Access(cfg)
	check(t, err)
	_, ended := a.ByToken(all["viewer"].token, "")
	_, stays := a.ByToken(all["viewer@graz"].token, "")
	_, later := a.User("later")
	if !errors.Is(ended, access.ErrNobody) || stays != nil || later != nil {
		t.Errorf("restored: %v, %v, %v", ended, stays, later)
	}
	check(t, os.RemoveAll(cfg.Data))
	_, err = Restore(t.Context(), cfg, to, false, quiet())
	check(t, err)
	a, err = Access(cfg)
	check(t, err)
	_, token := a.ByToken(all["viewer"].token, "")
	_, session := a.BySession(all["viewer"].cookie, "")
	if token != nil || !errors.Is(session, access.ErrNobody) {
		t.Errorf("restored where nothing was: %v, %v", token, session)
	}
}

// A certificate of the user's own is read again when it changes; half a renewal changes
// nothing.
func TestBrought_IsReadAgain(t *testing.T) {
	h := opened(t)
	dir := t.TempDir()
	now := time.Now()
	b := &brought{cert: filepath.Join(dir, "cert.pem"), key: filepath.Join(dir, "key.pem"), now: func() time.Time { return now }, log: quiet()}
	if _, err := b.certificate(nil); err == nil {
		t.Error("a certificate that is not there")
	}
	var serials []string
	renew := func(half bool) {
		t.Helper()
		certifier, err := h.reg.Certifier(time.Now, "hub.example")
		check(t, err)
		pair, err := certifier.Config().GetCertificate(nil)
		check(t, err)
		writePair(t, b.cert, b.key, pair, half)
		now = now.Add(lookAgain)
		got, err := b.certificate(nil)
		check(t, err)
		serials = append(serials, got.Leaf.SerialNumber.String())
	}
	renew(false)
	renew(true)
	renew(false)
	if serials[0] != serials[1] || serials[1] == serials[2] {
		t.Errorf("shown were %q", serials)
	}
}

func TestHTTPConfig_Address(t *testing.T) {
	for want, c := range map[string]HTTPConfig{
		"http://127.0.0.1:8080":   {Listen: "127.0.0.1:8080"},
		"https://127.0.0.1:8080":  {Listen: "127.0.0.1:8080", TLS: true},
		"https://hub.example":     {Listen: "0.0.0.0:443", Names: []string{"hub.example", "other.example"}},
		"https://192.0.2.1:8443":  {Listen: "192.0.2.1:8443"},
		"https://[2001:db8::1]:1": {Listen: "[2001:db8::1]:1"},
	} {
		if got := c.Address(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	for listen, want := range map[string]bool{"127.0.0.1:1": true, "127.9.9.9:1": true, "localhost:1": true, "[::1]:1": true, "0.0.0.0:1": false, ":1": false, "[::]:1": false, "192.0.2.1:1": false, "x": false} {
		if isLoopback(listen) != want {
			t.Errorf("%s is loopback: %v", listen, !want)
		}
	}
}

// No more connections are open than there is room for.
func TestBounded(t *testing.T) {
	l, err := listenOn(t.Context(), "127.0.0.1:0")
	check(t, err)
	b := &bounded{Listener: l, room: make(chan struct{}, 2)}
	srv := &http.Server{ReadHeaderTimeout: time.Minute}
	done := make(chan error, 1)
	go func() { done <- srv.Serve(b) }()
	open := dialed(t, l.Addr().String(), 5)
	until(t, 10*time.Second, "two are taken", func() bool { return len(b.room) == 2 })
	for _, c := range open {
		check(t, c.Close())
	}
	until(t, 10*time.Second, "the others come and go, and one waits for the next", func() bool { return len(b.room) == 1 })
	check(t, srv.Close())
	if err := <-done; !errors.Is(err, http.ErrServerClosed) {
		t.Error(err)
	}
}

// Its end is told 30, 7 and 1 days before, once each.
func TestBrought_TellsItsEnd(t *testing.T) {
	reg, err := registry.Open(t.TempDir())
	check(t, err)
	certifier, err := reg.Certifier(time.Now, "hub.example")
	check(t, err)
	pair, err := certifier.Config().GetCertificate(nil)
	check(t, err)
	dir := t.TempDir()
	var said strings.Builder
	var now time.Time
	b := &brought{cert: filepath.Join(dir, "cert.pem"), key: filepath.Join(dir, "key.pem"), now: func() time.Time { return now }, log: slog.New(slog.NewTextHandler(&said, nil))}
	writePair(t, b.cert, b.key, pair, false)
	for _, c := range []struct{ days, told int }{{40, 0}, {31, 0}, {29, 1}, {20, 1}, {6, 2}, {5, 2}, {0, 3}, {-1, 3}} {
		now = pair.Leaf.NotAfter.Add(-time.Duration(c.days)*24*time.Hour - time.Minute)
		if _, err := b.certificate(nil); err != nil {
			t.Fatal(err)
		}
		if n := strings.Count(said.String(), "a certificate of your own ends"); n != c.told {
			t.Errorf("%d days before its end it was told %d times, want %d", c.days, n, c.told)
		}
	}
}

func dialed(t *testing.T, to string, n int) (open []net.Conn) {
	t.Helper()
	for range n {
		c, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", to)
		check(t, err)
		open = append(open, c)
	}
	return open
}

// writePair writes a certificate, and its key unless half of it is to be missing.
func writePair(t *testing.T, cert, key string, pair *tls.Certificate, half bool) {
	t.Helper()
	check(t, os.WriteFile(cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: pair.Certificate[0]}), 0o600))
	if half {
		return
	}
	der, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
	check(t, err)
	check(t, os.WriteFile(key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600))
}

// Files of another's making would keep everybody out.
func TestMine(t *testing.T) {
	cfg := testConfig(t)
	check(t, Mine(cfg)) // it isn't there yet
	check(t, os.MkdirAll(cfg.Data, 0o700))
	check(t, Mine(cfg))
	if os.Geteuid() != 0 {
		t.Skip("needs root, to give a folder away")
	}
	check(t, os.Chown(cfg.Data, 65534, 65534))
	if err := Mine(cfg); !errors.Is(err, ErrData) || !strings.Contains(err.Error(), "runuser -u ") {
		t.Errorf("another's folder: %v", err)
	}
}
