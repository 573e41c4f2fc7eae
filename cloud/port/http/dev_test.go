package porthttp

import (
	"log/slog"
	"net"
	"net/http"
	"os"
	"testing"
	"time"

	"plantmesh/proto/mesh"
)

// TestDev_ServePage serves the console over made-up rows at the address in
// PLANTMESH_CONSOLE_DEV, for whoever works on the page. PLANTMESH_CONSOLE_STATE
// set to "catching" shows history on its way, "empty" a hub without data.
func TestDev_ServePage(t *testing.T) {
	addr := os.Getenv("PLANTMESH_CONSOLE_DEV")
	if addr == "" {
		t.Skip("PLANTMESH_CONSOLE_DEV names no address")
	}
	f := newFake(noon())
	switch os.Getenv("PLANTMESH_CONSOLE_STATE") {
	case "catching":
		f.progress = f.now.Add(-17 * time.Hour)
	case "empty":
		f = &fake{rows: map[string][]mesh.Row{}, out: map[string][]mesh.Row{}, changed: make(chan struct{}), now: f.now, epoch: mesh.NewEpoch()}
	}
	page := http.FileServer(http.Dir("../../console/dist")) // as it was built, without that room's code
	api := New(Config{}, f.deps(), slog.Default())
	mux := http.NewServeMux()
	for _, p := range []string{"/api/", "/livez", "/readyz", "/metrics"} {
		mux.Handle(p, api)
	}
	mux.Handle("/", page)
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	go f.live(t)
	t.Log(http.Serve(l, mux))
}

// live lets the plant run: the clock moves, one machine after the other stops.
func (f *fake) live(t *testing.T) {
	t.Helper()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for n := 0; ; n++ {
		select {
		case <-t.Context().Done():
			return
		case <-tick.C:
		}
		f.mu.Lock()
		lag := f.now - f.progress
		f.now = f.now.Add(time.Second)
		if f.progress != 0 {
			f.progress = f.now - lag
		}
		if n%20 == 19 && len(f.rows["equipment-state"]) > 0 {
			now := f.now.Time()
			f.put("equipment-state", mesh.Row{Entity: "line2-capper", Key: ts(now), From: f.now, State: mesh.RowProvisional},
				stateBody("line2", "line2-capper", now, time.Time{}, tuples()[n/20%7], now))
			f.wakeLocked()
		}
		f.mu.Unlock()
	}
}
