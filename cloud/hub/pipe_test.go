package hub

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	porthttp "plantmesh/cloud/port/http"
	"plantmesh/cloud/store"
	"plantmesh/proto/mesh"
	"plantmesh/proto/strict"
	"plantmesh/proto/subject"
)

// TestHub_ShowsHowItsPipeIs: a canary comes back, no agent may send one, and what
// somebody does to the stream is at /readyz and /metrics.
func TestHub_ShowsHowItsPipeIs(t *testing.T) {
	h := opened(t)
	h.canary.every = 50 * time.Millisecond
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- h.canary.run(ctx) }()
	defer func() {
		stop()
		check(t, <-done)
	}()
	srv, err := h.web(porthttp.New(porthttp.Config{}, h.deps(), h.log))
	check(t, err)
	ask := func(path string) string {
		w := httptest.NewRecorder()
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, http.NoBody)
		r.Host = "localhost"
		srv.Handler.ServeHTTP(w, r)
		return w.Body.String()
	}
	until(t, 20*time.Second, "canaries fly", func() bool { return h.counts.sent.Load() > 3 && h.canary.well(t.Context()) == nil })
	until(t, 20*time.Second, "it is ready", func() bool {
		said := ask("/readyz?verbose")
		return strings.Contains(said, "ingest: ok\n") && strings.Contains(said, "canary: ok\n")
	})

	nc, err := dial(h, "gw-1", enrol(t, h, "gw-1"), nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}))
	check(t, err)
	defer nc.Close()
	js, err := jetstream.New(nc)
	check(t, err)
	within, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if _, err := js.Publish(within, subject.Canary, []byte("x"), jetstream.WithRetryAttempts(0)); err == nil {
		t.Error("an agent may send canaries")
	}

	own, err := jetstream.New(h.conn)
	check(t, err)
	s, err := own.Stream(t.Context(), subject.IngestStream)
	check(t, err)
	cfg := s.CachedInfo().Config
	cfg.DenyPurge = true
	_, err = own.UpdateStream(t.Context(), cfg)
	check(t, err)
	h.ingest.Renew()
	until(t, 20*time.Second, "it is refused in words", func() bool {
		said := ask("/readyz?verbose")
		return strings.Contains(said, "ingest: not ready: the ingest stream is not read: the ingest stream is not what it has to be") && strings.Contains(said, "deny_purge is true, not false")
	})
	said := ask("/metrics")
	for _, want := range []string{"plantmesh_canary_sent_total ", "plantmesh_canary_lost_total ", "plantmesh_server_restarts_total 0", "plantmesh_ingest_records_total ", "plantmesh_ingest_stream_renewed_total 0"} {
		if !strings.Contains(said, want) {
			t.Errorf("/metrics has no %s", want)
		}
	}
	if strings.Contains(said, "plantmesh_ingest_stream_drifts_total 0") {
		t.Error("the drift is not counted")
	}
}

// TestConfig_Watch has defaults, and refuses what would wear out the disk.
func TestConfig_Watch(t *testing.T) {
	c := testConfig(t)
	if c.Watch.Canary != strict.Duration(10*time.Second) || c.Watch.Stream != strict.Duration(time.Minute) {
		t.Errorf("defaults %+v", c.Watch)
	}
}

// TestRun_EndsInWordsWhereAnotherHubWrites: a hub that was paused, or whose lock
// its file system didn't hold, finds that another has opened its log. It writes
// nothing any more and says why it ends, even where no agent speaks.
func TestRun_EndsInWordsWhereAnotherHubWrites(t *testing.T) {
	cfg := testConfig(t)
	cfg.Watch.Canary = strict.Duration(100 * time.Millisecond)
	cfg.HTTP.Listen = freePort(t)
	done := make(chan error, 1)
	go func() { done <- Run(t.Context(), cfg, quiet()) }()
	until(t, time.Minute, "the hub is up", func() bool { code, _ := ready(t, cfg); return code == http.StatusOK })
	other, err := store.Open(t.Context(), filepath.Join(cfg.Data, databaseName), quiet())
	check(t, err)
	defer func() { check(t, other.Close()) }()
	o, err := other.OpenLog(t.Context(), 0)
	check(t, err)
	select {
	case err := <-done:
		if !errors.Is(err, ErrData) || !errors.Is(err, mesh.ErrMoved) || !strings.Contains(err.Error(), "another hub has opened the database in "+cfg.Data) {
			t.Errorf("it ends with %v", err)
		}
	case <-time.After(time.Minute):
		t.Fatal("it goes on")
	}
	if tip, err := other.Tip(t.Context(), 0); err != nil || tip != o.End {
		t.Errorf("the log ends at %s, the other left it at %s: %v", tip, o.End, err)
	}
}
