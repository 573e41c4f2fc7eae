package hub

import (
	"context"
	"crypto/rand"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"plantmesh/cloud/registry"
	"plantmesh/proto/mesh"
	"plantmesh/proto/strict"
	"plantmesh/proto/subject"
	"plantmesh/proto/wire"
)

// small is a file system of so many MiB; it needs root.
func small(t *testing.T, mib int) string {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("only root may mount a small file system")
	}
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size="+strconv.Itoa(mib)+"m"); err != nil {
		t.Skipf("no small file system can be mounted here: %v", err)
	}
	t.Cleanup(func() { check(t, syscall.Unmount(dir, 0)) })
	return dir
}

// gateway is an agent that publishes one record after the other until each is
// accounted for.
type gateway struct {
	t     *testing.T
	js    jetstream.JetStream
	sub   *nats.Subscription
	enc   *wire.Encoder
	table mesh.Descriptor
	at    mesh.Position
	have  mesh.Position // as of the newest receipt
	fails map[string]int
}

func newGateway(t *testing.T, cfg Config) *gateway {
	t.Helper()
	seed, pub := key(t)
	token, err := Enroll(cfg, "graz", "gw-1", pub, time.Hour, time.Now())
	check(t, err)
	jwt, err := jwtOf(token)
	check(t, err)
	reg, err := registry.Open(filepath.Join(cfg.Data, registryName))
	check(t, err)
	callers, err := reg.Callers()
	check(t, err)
	nc, err := nats.Connect("nats://"+cfg.NATS.Listen, nats.Secure(callers), nats.UserJWTAndSeed(jwt, seed), nats.CustomInboxPrefix(subject.Inbox("gw-1")), nats.MaxReconnects(-1), nats.ReconnectWait(50*time.Millisecond))
	check(t, err)
	t.Cleanup(nc.Close)
	g := &gateway{t: t, at: mesh.Position{Log: mesh.LogID(subject.AgentLog("graz", "gw-1")), Epoch: mesh.NewEpoch()}, fails: map[string]int{}}
	g.js, err = jetstream.New(nc)
	check(t, err)
	g.sub, err = nc.SubscribeSync(subject.Receipt("graz", "gw-1"))
	check(t, err)
	g.enc, err = wire.NewEncoder()
	check(t, err)
	g.table, err = wire.DescribeSignals([]mesh.Signal{{ID: 1, Name: "line1.press.speed", Type: mesh.TypeInt}})
	check(t, err)
	return g
}

func jwtOf(file string) (string, error) {
	for line := range strings.Lines(file) {
		if line = strings.TrimSpace(line); strings.HasPrefix(line, "ey") {
			return line, nil
		}
	}
	return "", errors.New("no token")
}

// send sends the next record until it is accounted for, or for so long.
func (g *gateway) send(within time.Duration) bool {
	g.t.Helper()
	sealed, err := wire.SealOpening(mesh.Opening{})
	if g.at.Seq > 0 {
		sealed, err = g.enc.Seal(&mesh.Batch{Source: "press", Table: g.table.Hash(), Samples: []mesh.Sample{{Signal: 1, Time: mesh.Nanos(g.at.Seq), Value: mesh.Int(int64(g.at.Seq))}}})
	}
	check(g.t, err)
	next := g.at
	next.Seq++
	data := wire.AppendRecord(wire.AppendDescriptor(nil, g.table), mesh.Record{At: next, Sealed: sealed})
	for end := time.Now().Add(within); time.Now().Before(end); {
		ask, cancel := context.WithTimeout(g.t.Context(), 2*time.Second)
		_, err := g.js.Publish(ask, subject.Ingest("graz", "gw-1", subject.Live), data, jetstream.WithRetryAttempts(0))
		cancel()
		if err != nil {
			g.fails[err.Error()]++
			<-time.After(50 * time.Millisecond)
			continue
		}
		for again := time.Now().Add(3 * time.Second); time.Now().Before(again); {
			m, err := g.sub.NextMsg(time.Second)
			if err != nil {
				continue
			}
			r, err := wire.DecodeReceipt(m.Data)
			check(g.t, err)
			if g.have = r.Have.Through; g.have == next {
				g.at = next
				return true
			}
		}
	}
	return false
}

// push publishes bytes that are no record; it reports whether the stream took them.
func (g *gateway) push(bytes int) bool {
	ask, cancel := context.WithTimeout(g.t.Context(), 2*time.Second)
	defer cancel()
	data := make([]byte, bytes)
	_, _ = rand.Read(data) // never fails
	_, err := g.js.Publish(ask, subject.Ingest("graz", "gw-1", subject.Live), data, jetstream.WithRetryAttempts(0))
	if err != nil {
		g.fails[err.Error()]++
	}
	return err == nil
}

// ballast fills the disk to its last byte.
func ballast(t *testing.T, dir string) (free func()) {
	t.Helper()
	path := filepath.Join(dir, "ballast")
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o600)
	check(t, err)
	for size := 1 << 20; size > 0; {
		if _, err := f.Write(make([]byte, size)); err != nil {
			size /= 2
		}
	}
	check(t, f.Close())
	return func() { check(t, os.Remove(path)) }
}

// TestHub_HealsAfterItsDiskWasFull fills the hub's disk and frees it again: agents
// are held meanwhile, the hub says why, and goes on by itself.
func TestHub_HealsAfterItsDiskWasFull(t *testing.T) {
	disk := small(t, 32)
	cfg := testConfig(t)
	cfg.Data = filepath.Join(disk, "hub")
	cfg.NATS.Listen, cfg.HTTP.Listen = freePort(t), freePort(t)
	cfg.Watch.Canary = strict.Duration(time.Second)
	var log words
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- Run(ctx, cfg, loud(&log)) }()
	defer func() {
		stop()
		if err := <-done; err != nil && !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		if t.Failed() || testing.Verbose() {
			t.Log(log.String())
		}
	}()
	until(t, 30*time.Second, "the hub is up", func() bool { code, _ := ready(t, cfg); return code == http.StatusOK })
	g := newGateway(t, cfg)
	for range 2 {
		if !g.send(20 * time.Second) {
			t.Fatalf("nothing goes before: %v", g.fails)
		}
	}
	free := ballast(t, disk)
	for n := 0; g.send(5 * time.Second); n++ {
		if n > 200_000 {
			t.Fatal("the disk never runs full")
		}
	}
	// Now the stream runs into the end of the disk too, in the midst of a message.
	for n := 0; n < 3; {
		if !g.push(256 << 10) {
			n++
		}
	}
	until(t, 30*time.Second, "the hub says so", func() bool { code, _ := ready(t, cfg); return code == http.StatusServiceUnavailable })
	_, said := ready(t, cfg)
	t.Logf("full: agents were told %v; the hub says\n%s", g.fails, said)
	free()
	began := time.Now()
	if !g.send(2 * time.Minute) {
		t.Fatalf("it never heals: %v", g.fails)
	}
	healed := time.Since(began)
	for range 20 {
		if !g.send(20 * time.Second) {
			t.Fatal("it heals for a moment only")
		}
	}
	until(t, 30*time.Second, "the hub is ready", func() bool { code, _ := ready(t, cfg); return code == http.StatusOK })
	t.Logf("healed after %.1f s; begun anew %v", healed.Seconds(), log.has("hub begins anew"))
	if healed > time.Minute {
		t.Errorf("it took %s", healed)
	}
}
