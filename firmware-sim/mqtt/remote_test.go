package mqtt

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// mosquitto starts a real broker on a port, with lines about its limits, and gives its URL; again starts it
// anew on the same port, with what it kept.
func mosquitto(t *testing.T, limits string) (url string, again func()) {
	t.Helper()
	path, err := exec.LookPath("mosquitto")
	if err != nil {
		path = "/usr/sbin/mosquitto"
	}
	if _, err := os.Stat(path); err != nil {
		if strings.Contains(os.Getenv("PLANTMESH_REQUIRE"), "interop") {
			t.Fatal("mosquitto is required and not installed")
		}
		t.Skip("mosquitto is not installed")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	l.Close()
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	conf := filepath.Join(dir, "mosquitto.conf")
	text := "listener " + port + " 127.0.0.1\nallow_anonymous true\n" + limits + "\npersistence true\npersistence_location " + dir + "/\n"
	if os.Getuid() == 0 {
		text += "user root\n"
	}
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	var cmd *exec.Cmd
	stop := func() {
		cmd.Process.Signal(os.Interrupt)
		cmd.Wait()
	}
	run := func() {
		var out bytes.Buffer
		cmd = exec.Command(path, "-c", conf)
		cmd.Stderr = &out
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		eventually(t, "mosquitto listens", func() bool {
			c, err := net.DialTimeout("tcp", address, time.Second)
			if err == nil {
				c.Close()
			}
			return err == nil
		})
	}
	run()
	t.Cleanup(func() { stop() })
	return "mqtt://" + address, func() { stop(); run() }
}

func TestServer_GivenBroker(t *testing.T) {
	url, again := mosquitto(t, "max_queued_messages 0")
	s, b := serve(t, Config{Broker: url})
	const n = 10_000
	s.Prove(start)
	for i := range n / 2 {
		s.Push(emission(i))
	}
	s.Prove(start.Add(time.Hour))
	// Nobody listens: the first message is offered and comes back.
	<-time.After(2 * remoteBackoff)
	if s.Waiting() != n/2 || b.len() != 0 {
		t.Fatalf("waiting %d, told %d, before anybody listened", s.Waiting(), b.len())
	}
	l := connect(t, s, "agent", 500, false)
	l.subscribe("plant/#")
	seen := map[int]bool{}
	hear := func(until int) {
		t.Helper()
		last := -1
		for len(seen) < until {
			h, ok := l.next(20 * time.Second)
			if !ok {
				t.Fatalf("nothing more after %d", len(seen))
			}
			l.ack(h.id)
			var v struct {
				Produced *int `json:"produced"`
			}
			if err := json.Unmarshal([]byte(h.body), &v); err != nil {
				t.Fatal(err)
			}
			if v.Produced == nil {
				continue
			}
			if *v.Produced < last && !h.again {
				t.Errorf("order: %d after %d", *v.Produced, last)
			}
			last = *v.Produced
			seen[last] = true
		}
	}
	hear(n / 2)
	eventually(t, "the broker has all", func() bool { return s.Waiting() == 0 && b.len() == n/2 })

	again() // the broker restarts; its session store is on disk
	for i := n / 2; i < n; i++ {
		s.Push(emission(i))
	}
	s.Prove(start.Add(2 * time.Hour))
	l = connect(t, s, "agent", 500, false)
	if !l.present {
		t.Fatal("the broker forgot the session")
	}
	hear(n)
	eventually(t, "the broker has all", func() bool { return s.Waiting() == 0 && b.len() == n })
}

// TestServer_GivenBrokerThatDrops: with mosquitto's own limits most of what is
// published for an absent subscriber is acknowledged and thrown away.
func TestServer_GivenBrokerThatDrops(t *testing.T) {
	url, _ := mosquitto(t, "sys_interval 1")
	b := &books{told: map[uint64]int{}}
	s, err := Serve(Config{Source: src, Broker: url}, signals(), b.received, slog.New(slog.NewTextHandler(t.Output(), nil)))
	if err != nil {
		t.Fatal(err)
	}
	l := connect(t, s, "agent", 500, false)
	l.subscribe("plant/#")
	l.conn.Close() // its session stays
	done := make(chan error, 1)
	go func() { done <- s.Run(t.Context()) }()
	eventually(t, "the broker says its count", func() bool { return !s.drops.silent() })
	const n = 10_000
	for i := range n {
		s.Push(emission(i))
	}
	s.Prove(start.Add(time.Hour))
	select {
	case err := <-done:
		if !errors.Is(err, ErrDropped) || !strings.Contains(err.Error(), "max_queued_messages") {
			t.Errorf("run: %v", err)
		}
	case <-time.After(20 * time.Second):
		t.Fatalf("the run goes on; %d of %d are told received", b.len(), n)
	}
}

// TestServer_GivenBrokerWithoutACount says so once, and goes on.
func TestServer_GivenBrokerWithoutACount(t *testing.T) {
	t.Parallel() // it waits longer than mosquitto's sys_interval
	url, _ := mosquitto(t, "sys_interval 0")
	var told logged
	s, err := Serve(Config{Source: src, Broker: url}, signals(), func(string, []uint64) {}, slog.New(slog.NewTextHandler(&told, nil)))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	eventually(t, "the missing count is told", func() bool { return strings.Count(told.text(), "DROPS CAN'T BE SEEN") == 1 })
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// logged keeps what was logged.
type logged struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logged) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *logged) text() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func TestDrops_CountsWhatIsNew(t *testing.T) {
	var d drops
	for i, step := range []struct {
		says string
		more uint64
	}{{"5", 0}, {"5", 0}, {"9", 4}, {"0", 0}, {"3", 3}, {"1", 1}} { // a broker restarted before 0 and before 1
		more, err := d.count([]byte(step.says))
		if err != nil || more != step.more {
			t.Errorf("%d: %q gives %d, %v, want %d", i, step.says, more, err, step.more)
		}
	}
	if _, err := d.count([]byte("many")); err == nil {
		t.Error("a count that is no number was taken")
	}
}
