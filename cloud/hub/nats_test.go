package hub

import (
	"log/slog"
	"path/filepath"
	"testing"

	"github.com/nats-io/nats-server/v2/server"

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
	s, err := startNATS(t.Context(), cfg, reg.Trust, &server.MemAccResolver{}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer s.WaitForShutdown()
	defer s.Shutdown()
	if js := s.JetStreamConfig(); js == nil || !js.SyncAlways || js.StoreDir != filepath.Join(dir, "nats", "jetstream") {
		t.Errorf("JetStream runs with %+v", js)
	}
}
