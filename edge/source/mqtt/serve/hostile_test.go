package serve

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"plantmesh/edge/source/mqtt/link"
)

// Who reads no answers is let go soon, whatever it says meanwhile: all others wait for it.
func TestGuard_WhoReadsNothingHoldsNobodyUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ours, theirs := net.Pipe()
		defer theirs.Close()
		g := newGuard(ours, 1<<20)
		done := make(chan struct{})
		go func() { // each packet that comes has the library take the deadline away
			defer close(done)
			for {
				if err := g.SetDeadline(time.Time{}); err != nil {
					return
				}
				<-time.After(100 * time.Millisecond)
			}
		}()
		began := time.Now()
		_, err := g.Write([]byte("\x40\x02\x00\x01"))
		if !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(began) > 2*writeTimeout {
			t.Errorf("%v after %v", err, time.Since(began))
		}
		g.Close()
		<-done
	})
}

// server runs one until the test ends.
func server(t *testing.T, cfg Config, taker Taker) *Server {
	t.Helper()
	if err := cfg.Validate(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	s, err := Listen(ctx, cfg, nil, taker, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return s
}

func anybody(t *testing.T) (Config, link.Config) {
	t.Helper()
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("s\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return Config{Listen: "127.0.0.1:0", Devices: []Device{{User: "u", PasswordFile: secret, Publish: []string{"#"}}}},
		link.Config{Username: "u", PasswordFile: secret, MaxPacket: 1 << 20}
}

// A device that makes up a client id each time it starts, and wants its session kept, is
// let in for ever; the session that was left longest ago goes.
func TestServer_MadeUpClientIDsShutNobodyOut(t *testing.T) {
	cfg, client := anybody(t)
	s := server(t, cfg, &book{})
	client.URL = "mqtt://" + s.Address()
	for i := range 3 * mostPerUser {
		l, present, err := link.Dial(t.Context(), &client, link.Hello{ClientID: fmt.Sprint("made-up-", i), Expiry: time.Hour})
		if err != nil || present {
			t.Fatalf("client id %d: %v", i+1, err)
		}
		l.Close()
		until(t, "it is gone", func() bool { s.hook.mu.Lock(); defer s.hook.mu.Unlock(); return len(s.hook.clients) == 0 })
	}
	if n := len(s.hook.sessions); n != mostPerUser {
		t.Errorf("%d sessions are kept", n)
	}
	for _, c := range []struct {
		id   string
		want bool
	}{{"made-up-47", true}, {"made-up-32", true}, {"made-up-31", false}} { // the last one comes anew, for which another goes
		l, present, err := link.Dial(t.Context(), &client, link.Hello{ClientID: c.id, Expiry: time.Hour})
		if err != nil || present != c.want {
			t.Errorf("%s: present %v, %v", c.id, present, err)
			continue
		}
		l.Close()
		until(t, "it is gone", func() bool { s.hook.mu.Lock(); defer s.hook.mu.Unlock(); return len(s.hook.clients) == 0 })
	}
}

// until waits for a condition.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.After(20 * time.Second); !ok(); {
		select {
		case <-time.After(5 * time.Millisecond):
		case <-end:
			t.Fatalf("timed out: %s", what)
		}
	}
}

// Wills are given on, and the library keeps none of them: topics and client ids are the
// devices' to make up.
func TestServer_WillsAreNotKept(t *testing.T) {
	cfg, client := anybody(t)
	b := &book{}
	s := server(t, cfg, b)
	client.URL = "mqtt://" + s.Address()
	const n = 5
	for i := range n {
		l, _, err := link.Dial(t.Context(), &client, link.Hello{
			ClientID: fmt.Sprint("c", i), CleanStart: true,
			Will: &link.Message{Topic: fmt.Sprint("gone/", i), Payload: []byte("x"), Retain: true},
		})
		if err != nil {
			t.Fatal(err)
		}
		l.Close()
	}
	until(t, "all wills are heard", func() bool { b.mu.Lock(); defer b.mu.Unlock(); return len(b.said) == n })
	until(t, "all are gone", func() bool { s.hook.mu.Lock(); defer s.hook.mu.Unlock(); return len(s.hook.clients) == 0 })
	for i := range n {
		if _, kept := s.mqtt.Topics.Retained.Get(fmt.Sprint("gone/", i)); kept {
			t.Error("a will is kept")
		}
	}
}

// Callers of one address who don't say who they are leave room for others of it, and
// none of them may try passwords fast.
func TestServer_StrangersAreFew(t *testing.T) {
	cfg, client := anybody(t)
	s := server(t, cfg, &book{})
	client.URL = "mqtt://" + s.Address()
	known, _, err := link.Dial(t.Context(), &client, link.Hello{ClientID: "known", CleanStart: true})
	if err != nil {
		t.Fatal(err)
	}
	defer known.Close()
	for range 3 * mostStrangers {
		c, err := net.Dial("tcp", s.Address())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	until(t, "those who are too many are let go", func() bool { return s.Refused() == 2*mostStrangers })
	if n := len(s.slots); n != 1+mostStrangers {
		t.Errorf("%d places are taken", n)
	}
}
