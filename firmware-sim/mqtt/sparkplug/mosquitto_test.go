package sparkplug

import (
	"fmt"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// mosquitto starts a broker of another make and gives its address; again ends it
// without a word and starts it anew, without anything it had.
func mosquitto(t *testing.T) (address string, again func()) {
	t.Helper()
	path, err := exec.LookPath("mosquitto")
	if err != nil {
		path = "/usr/sbin/mosquitto"
	}
	if _, err := os.Stat(path); err != nil {
		if slices.Contains(strings.Split(os.Getenv("PLANTMESH_REQUIRE"), ","), "interop") {
			t.Fatal("mosquitto is required and not installed")
		}
		t.Skip("mosquitto is not installed")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address = l.Addr().String()
	l.Close()
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	conf := filepath.Join(t.TempDir(), "mosquitto.conf")
	if err := os.WriteFile(conf, fmt.Appendf(nil, "listener %s 127.0.0.1\nallow_anonymous true\nmax_queued_messages 0\n", port), 0o600); err != nil {
		t.Fatal(err)
	}
	var cmd *exec.Cmd
	run := func() {
		cmd = exec.Command(path, "-c", conf)
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
	kill := func() { _, _ = cmd.Process.Kill(), cmd.Wait() } // it is killed
	run()
	t.Cleanup(func() { kill() })
	return address, func() { kill(); run() }
}

// TestServer_AnotherBrokerDies: what a broker had taken and not passed on when it was
// killed is said again, and nothing is missing.
func TestServer_AnotherBrokerDies(t *testing.T) {
	address, again := mosquitto(t)
	s, _ := serve(t, Config{Broker: "mqtt://" + address, Host: "gw-1", StoreAndForward: true})
	const rounds, n = 3, 20_000
	seen, names := map[int32]bool{}, map[uint64]string{}
	for round := range rounds {
		e := listenTo(t, s, "spBv1.0/#")
		e.state("gw-1", true, int64(round))
		for i := range n {
			s.Push(emission(round*n + i))
			if i == n/2 {
				s.Prove(start.Add(time.Duration(round*n+i) * time.Second))
			}
		}
		s.Prove(start.Add(time.Duration((round+1)*n) * time.Second))
		all := e.until("a birth", func(m said) bool { return m.device == "capper" })
		maps.Copy(names, aliases(all))
		if round < rounds-1 {
			all = append(all, e.until("a value", func(m said) bool { return m.verb == "DDATA" })...)
			again()
			e.mu.Lock()
			all = append(all, e.heard...)
			e.mu.Unlock()
		} else {
			all = append(all, e.until("the last", func(m said) bool {
				return slices.ContainsFunc(m.metrics, func(x metricSaid) bool {
					return names[x.alias] == "filler.produced" && int32(uint32(x.bits)) == rounds*n-1-5
				})
			})...)
		}
		v, _ := counts(names, "produced", all)
		for _, x := range v {
			seen[x] = true
		}
	}
	if len(seen) != rounds*n || s.Forgotten() != 0 {
		t.Errorf("%d of %d came, %d forgotten", len(seen), rounds*n, s.Forgotten())
	}
	eventually(t, "the broker has all", func() bool { return s.Waiting() == 0 })
}
