package registry

import (
	"crypto/tls"
	"errors"
	"io"
	"strings"
	"testing"
	"time"
)

// called is the handshake of a caller with a listener.
func called(t *testing.T, listener, caller *tls.Config) (tls.ConnectionState, error) {
	t.Helper()
	l, err := tls.Listen("tcp", "127.0.0.1:0", listener)
	check(t, err)
	ended := make(chan error, 1)
	go func() {
		c, err := l.Accept()
		if err == nil {
			_, err = io.Copy(io.Discard, c) // the handshake, and until the caller goes
			err = errors.Join(err, c.Close())
		}
		ended <- err
	}()
	c, err := (&tls.Dialer{Config: caller}).DialContext(t.Context(), "tcp", l.Addr().String())
	var state tls.ConnectionState
	if err == nil {
		state = c.(*tls.Conn).ConnectionState() //nolint:forcetypeassert // a tls.Dialer's
		check(t, c.Close())
	}
	<-ended // what it says of a caller who hangs up is nobody's trouble
	check(t, l.Close())
	return state, err
}

func TestCertifier_IsKnownByTheHubsAuthority(t *testing.T) {
	now := time.Now()
	dir := t.TempDir()
	r, err := Open(dir)
	check(t, err)
	again, err := Open(dir) // a restart makes no other authority
	check(t, err)
	other, err := Open(t.TempDir())
	check(t, err)
	c, err := again.Certifier(func() time.Time { return now })
	check(t, err)
	callers, err := r.Callers()
	check(t, err)
	strangers, err := other.Callers()
	check(t, err)
	first, err := called(t, c.Config(), callers)
	check(t, err)
	if _, err := called(t, c.Config(), strangers); err == nil {
		t.Error("another hub's agents take this hub for theirs")
	}
	named := callers.Clone()
	named.ServerName = "hub.example.com"
	if _, err := called(t, c.Config(), named); err == nil {
		t.Error("the certificate is for any name")
	}
	second, err := called(t, c.Config(), callers)
	check(t, err)
	if !first.PeerCertificates[0].Equal(second.PeerCertificates[0]) {
		t.Error("each caller sees another certificate")
	}
	now = now.Add(certificateLife*2/3 + time.Hour)
	later := callers.Clone()
	later.Time = func() time.Time { return now }
	third, err := called(t, c.Config(), later)
	check(t, err)
	if left := third.PeerCertificates[0].NotAfter.Sub(now); left < certificateLife-time.Hour {
		t.Errorf("the certificate is good for %s more", left)
	}
}

// A token's file says which hub it is of; the authority's key stays at the hub.
func TestFile_HoldsTheAuthority(t *testing.T) {
	r, err := Open(t.TempDir())
	check(t, err)
	token, err := r.Enroll("graz", "gw-1", publicKey(t), time.Hour, time.Now())
	check(t, err)
	file, err := r.File(token)
	check(t, err)
	if strings.Count(file, "BEGIN CERTIFICATE") != 1 || strings.Contains(file, "PRIVATE") || strings.Contains(file, "SEED") {
		t.Errorf("the file is\n%s", file)
	}
}
