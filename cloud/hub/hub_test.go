package hub

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nkeys"

	porthttp "plantmesh/cloud/port/http"
	"plantmesh/proto/mesh"
	"plantmesh/proto/subject"
	"plantmesh/proto/wire"
)

func check(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

const testSite = `site: graz
zone: Europe/Vienna
production_day_start: "06:00"
shifts:
  - {id: early, start: "06:00", end: "14:00"}
min_coverage: 0.5
energy_unit: kWh
equipment:
  - {id: line1-press, line: line1, name: Press, kind: press, source: press, signals_prefix: line1.press.}
`

func testConfig(t *testing.T) Config {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{
		"site.yaml": testSite,
		"hub.yaml":  "data: hub\nsite_file: site.yaml\nnats: {listen: \"127.0.0.1:0\", websocket: {listen: \"127.0.0.1:0\"}}\nhttp: {listen: \"127.0.0.1:0\"}\n",
	} {
		check(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
	}
	c, err := LoadConfig(filepath.Join(dir, "hub.yaml"))
	check(t, err)
	return c
}

// opened is a hub whose ingest, products and revocations run; its page is not served.
func opened(t *testing.T) *hub {
	t.Helper()
	h := begun(t)
	h.runs(t, func(ctx context.Context) error { return h.set.Run(ctx, h.store.Changed) })
	return h
}

// begun is one whose products don't run.
func begun(t *testing.T) *hub {
	t.Helper()
	return telling(t, quiet())
}

// telling is one that tells a log.
func telling(t *testing.T, log *slog.Logger) *hub {
	t.Helper()
	h := &hub{cfg: testConfig(t), log: log, counts: &tally{}, accounts: &server.MemAccResolver{}}
	t.Cleanup(func() { check(t, h.close()) })
	check(t, h.open(t.Context()))
	h.runs(t,
		func(ctx context.Context) error { return h.gate.run(ctx, h.conn) },
		func(ctx context.Context) error { return h.ingest.Run(ctx, h.conn) },
		h.revoke)
	return h
}

// runs has loops of a hub run until the test ends.
func (h *hub) runs(t *testing.T, loops ...func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, len(loops))
	for _, loop := range loops {
		go func() { done <- loop(ctx) }()
	}
	t.Cleanup(func() {
		cancel()
		for range loops {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
	})
}

// key makes an agent's key.
func key(t *testing.T) (seed, pub string) {
	t.Helper()
	kp, err := nkeys.CreateUser()
	check(t, err)
	pub, err = kp.PublicKey()
	check(t, err)
	b, err := kp.Seed()
	check(t, err)
	return string(b), pub
}

// enrol gives the options of an agent's connection, as plantmesh-edge has them.
func enrol(t *testing.T, h *hub, name string) nats.Option {
	t.Helper()
	seed, pub := key(t)
	return nats.UserJWTAndSeed(enrolled(t, h, name, pub, time.Hour), seed)
}

// enrolled is the token of an agent's key, for so long.
func enrolled(t *testing.T, h *hub, name, pub string, life time.Duration) string {
	t.Helper()
	h.gate.mu.Lock() // the registry is the gate's while the hub runs
	defer h.gate.mu.Unlock()
	token, err := h.reg.Enroll("graz", name, pub, life, time.Now())
	check(t, err)
	return token
}

func dial(h *hub, name string, as nats.Option, opts ...nats.Option) (*nats.Conn, error) {
	callers, err := h.reg.Callers()
	if err != nil {
		return nil, err
	}
	return nats.Connect(h.nats.ClientURL(), append(opts, as, nats.Secure(callers), nats.CustomInboxPrefix(subject.Inbox(name)))...)
}

func until(t *testing.T, within time.Duration, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(within); !ok(); <-time.After(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited %s in vain until %s", within, what)
		}
	}
}

// largeLog is a log of an opening and a batch, whose signal table has 20,000 names.
func largeLog(t *testing.T) (table mesh.Descriptor, records []mesh.Record) {
	t.Helper()
	signals := make([]mesh.Signal, 20_000)
	for i := range signals {
		signals[i] = mesh.Signal{ID: uint32(i + 1), Name: fmt.Sprintf("line1.press.%050d", i), Type: mesh.TypeDouble}
	}
	table, err := wire.DescribeSignals(signals)
	check(t, err)
	enc, err := wire.NewEncoder()
	check(t, err)
	batch, err := enc.Seal(&mesh.Batch{Source: "press", Table: table.Hash(), Samples: []mesh.Sample{{Signal: 1, Time: 1, Value: mesh.Double(1)}}})
	check(t, err)
	open, err := wire.SealOpening(mesh.Opening{})
	check(t, err)
	at := mesh.Position{Log: mesh.LogID(subject.AgentLog("graz", "gw-1")), Epoch: mesh.NewEpoch(), Seq: 1}
	second := at
	second.Seq = 2
	return table, []mesh.Record{{At: at, Sealed: open}, {At: second, Sealed: batch}}
}

func TestHub_AnEnrolledAgentMaySendLargeMessages(t *testing.T) {
	h := opened(t)
	nc, err := dial(h, "gw-1", enrol(t, h, "gw-1"))
	check(t, err)
	defer nc.Close()
	js, err := jetstream.New(nc)
	check(t, err)
	sub, err := nc.SubscribeSync(subject.Receipt("graz", "gw-1"))
	check(t, err)
	until(t, 20*time.Second, "the stream is there", func() bool {
		ask, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := js.Publish(ask, subject.Ingest("graz", "gw-1", subject.Live), nil, jetstream.WithRetryAttempts(0))
		return err == nil
	})
	table, records := largeLog(t)
	data := wire.AppendDescriptor(nil, table)
	for _, r := range records {
		data = wire.AppendRecord(data, r)
	}
	if len(data) < 1<<20 {
		t.Fatalf("%d bytes are not large", len(data))
	}
	_, err = js.Publish(t.Context(), subject.Ingest("graz", "gw-1", subject.Live), data, jetstream.WithRetryAttempts(0))
	check(t, err)
	var limit uint32
	until(t, 20*time.Second, "a receipt names the batch", func() bool {
		m, err := sub.NextMsg(time.Second)
		if err != nil {
			return false
		}
		r, err := wire.DecodeReceipt(m.Data)
		check(t, err)
		limit = r.Limits.MaxBytes
		return r.Have.Through == records[1].At
	})
	// As much as receipts promise goes, and not a byte more.
	if limit != wire.MaxFrame {
		t.Errorf("receipts say %d bytes", limit)
	}
	_, err = js.Publish(t.Context(), subject.Ingest("graz", "gw-1", subject.Live), make([]byte, limit), jetstream.WithRetryAttempts(0))
	check(t, err)
	if _, err = js.Publish(t.Context(), subject.Ingest("graz", "gw-1", subject.Live), make([]byte, limit+1), jetstream.WithRetryAttempts(0)); err == nil {
		t.Error("more than receipts promise goes")
	}
}

func TestHub_ARevokedAgentIsCutOff(t *testing.T) {
	h := opened(t)
	old := enrol(t, h, "gw-1")
	closed := make(chan struct{})
	nc, err := dial(h, "gw-1", old, nats.NoReconnect(), nats.ClosedHandler(func(*nats.Conn) { close(closed) }))
	check(t, err)
	defer nc.Close()
	other, err := dial(h, "gw-2", enrol(t, h, "gw-2"))
	check(t, err)
	defer other.Close()

	_, pub := key(t)
	if _, err := Enroll(h.cfg, "graz", "gw-1", pub, time.Hour, time.Now()); !errors.Is(err, ErrIdentity) || !strings.Contains(err.Error(), "plantmesh agents revoke") {
		t.Errorf("another key under a taken name: %v", err)
	}
	_, err = Revoke(h.cfg, "graz", "gw-1", "", time.Now())
	check(t, err)
	select {
	case <-closed:
	case <-time.After(5 * time.Second):
		t.Fatal("the connection of a revoked key is still open after 5 s")
	}
	if nc, err := dial(h, "gw-1", old); err == nil {
		nc.Close()
		t.Error("the revoked key is still accepted")
	}
	if !other.IsConnected() || other.Stats().Reconnects > 0 {
		t.Error("another agent lost its connection")
	}
	again, err := dial(h, "gw-1", enrol(t, h, "gw-1"))
	check(t, err)
	again.Close()
}

func TestHub_ReadyOnlyWhileProductsAndDiskWork(t *testing.T) {
	h := opened(t)
	ready := func() (int, string) {
		srv, err := h.web(porthttp.New(porthttp.Config{}, h.deps(), h.log))
		check(t, err)
		w := httptest.NewRecorder()
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/readyz?verbose", http.NoBody)
		r.Host = "localhost"
		srv.Handler.ServeHTTP(w, r)
		return w.Code, w.Body.String()
	}
	until(t, 20*time.Second, "the hub is ready", func() bool {
		code, said := ready()
		return code == http.StatusOK && strings.Contains(said, "products: ok") && strings.Contains(said, "store: ok")
	})
	probe := filepath.Join(h.cfg.Data, "probe") // what stands in the way of writes: here a folder, else a full disk
	check(t, os.Mkdir(probe, 0o700))
	if code, said := ready(); code != http.StatusServiceUnavailable || !strings.Contains(said, "store: not ready: try the disk") {
		t.Errorf("the disk takes no writes: %d %s", code, said)
	}
	check(t, os.Remove(probe))
	check(t, h.store.Close())
	check(t, os.Truncate(filepath.Join(h.cfg.Data, "hub.db"), 0))
	until(t, 10*time.Second, "a product fails", func() bool { return len(h.set.Troubles()) > 0 })
	code, said := ready()
	if code != http.StatusServiceUnavailable || !strings.Contains(said, "products: not ready: ") || !strings.Contains(said, " since 20") {
		t.Errorf("products fail: %d %s", code, said)
	}
}

func TestRarely_KeepsTheAnswerForAWhile(t *testing.T) {
	n := 0
	check1 := rarely(time.Hour, func(context.Context) error { n++; return os.ErrClosed })
	for range 3 {
		if err := check1(t.Context()); !errors.Is(err, os.ErrClosed) {
			t.Error(err)
		}
	}
	if n != 1 {
		t.Errorf("ran %d times", n)
	}
}

func TestRun_OneHubOnADataFolder(t *testing.T) {
	cfg := testConfig(t)
	check(t, os.MkdirAll(cfg.Data, 0o700))
	first, err := lockData(cfg.Data)
	check(t, err)
	err = Run(t.Context(), cfg, quiet())
	if !errors.Is(err, ErrData) || !strings.Contains(err.Error(), cfg.Data) || !strings.Contains(err.Error(), "pid "+strconv.Itoa(os.Getpid())) {
		t.Errorf("a second hub: %v", err)
	}
	check(t, first.Close())
	again, err := lockData(cfg.Data)
	check(t, err)
	check(t, again.Close())
}

func TestListenOn_SaysTheCause(t *testing.T) {
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	check(t, err)
	defer func() { check(t, l.Close()) }()
	for at, want := range map[string]string{
		l.Addr().String(): "in use by another program",
		"192.0.2.1:8080":  "no such address",
	} {
		_, err := listenOn(t.Context(), at)
		if !errors.Is(err, ErrListen) || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), at) {
			t.Errorf("%s: %v", at, err)
		}
		if want != "in use by another program" && strings.Contains(err.Error(), "in use") {
			t.Errorf("%s: %v", at, err)
		}
	}
	if why := cannotListen(&net.OpError{Op: "listen", Err: syscall.EACCES}); !strings.Contains(why, "may not") || strings.Contains(why, "in use") {
		t.Errorf("without permission: %s", why)
	}
}
