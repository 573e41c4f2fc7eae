package hub

import (
	"crypto/tls"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"plantmesh/cloud/registry"
)

// TestStartNATS_SyncsBeforeItAcknowledges: by default the server would say
// received two minutes before its disk has it.
func TestStartNATS_SyncsBeforeItAcknowledges(t *testing.T) {
	dir := t.TempDir()
	reg, err := registry.Open(filepath.Join(dir, "registry"))
	if err != nil {
		t.Fatal(err)
	}
	cfg := Config{Data: dir, NATS: NATSConfig{Listen: "127.0.0.1:0", MaxStore: minMaxStore}}
	s, err := startNATS(t.Context(), cfg, reg, &server.MemAccResolver{}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer s.WaitForShutdown()
	defer s.Shutdown()
	if js := s.JetStreamConfig(); js == nil || !js.SyncAlways || js.StoreDir != filepath.Join(dir, "nats", "jetstream") {
		t.Errorf("JetStream runs with %+v", js)
	}
}

// TestHub_SpeaksTLSOnly: whoever calls over a socket is protected, and knows this hub from
// any other.
func TestHub_SpeaksTLSOnly(t *testing.T) {
	h := opened(t)
	token, seed, err := h.reg.HubUser()
	check(t, err)
	other, err := registry.Open(t.TempDir())
	check(t, err)
	strangers, err := other.Callers()
	check(t, err)
	callers, err := h.reg.Callers()
	check(t, err)
	url := "nats://" + h.nats.Addr().String()
	for name, c := range map[string]struct {
		as  nats.Option
		may bool
	}{
		"by its authority":  {nats.Secure(callers), true},
		"by another hub's":  {nats.Secure(strangers), false},
		"without any":       {nats.Name("plain"), false},
		"by an old version": {nats.Secure(&tls.Config{RootCAs: callers.RootCAs, ServerName: callers.ServerName, MaxVersion: tls.VersionTLS11, MinVersion: tls.VersionTLS10}), false},
	} {
		nc, err := nats.Connect(url, c.as, nats.UserJWTAndSeed(token, seed), nats.Timeout(10*time.Second))
		if (err == nil) != c.may {
			t.Errorf("called %s: %v", name, err)
		}
		if nc != nil {
			nc.Close()
		}
	}
}
