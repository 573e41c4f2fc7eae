package hub

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"plantmesh/cloud/store"
	"plantmesh/proto/mesh"
)

func TestMarks_GiveTheNewestEndThatIsOldEnough(t *testing.T) {
	var m marks
	end := func(n int) mesh.Position { return mesh.Position{Log: "hub/0", Epoch: mesh.Epoch{1}, Seq: uint64(n)} }
	for i, want := range []int{0, 0, 0, 1, 2, 3, 4} {
		old := m.note(mesh.Nanos(i)*mesh.Nanos(time.Second), end(i+1), 3*time.Second)
		if old != (mesh.Position{}) && old != end(want) || old.IsZero() != (want == 0) {
			t.Errorf("second %d: %s, want %d", i, old, want)
		}
	}
	// After a pause only the last of those that are old counts.
	if old := m.note(mesh.Nanos(time.Minute), end(9), 3*time.Second); old != end(7) {
		t.Errorf("after a pause: %s", old)
	}
	if len(m) > 5 {
		t.Errorf("%d marks are kept", len(m))
	}
}

// A machine's clock that is put right after the hub began stops nothing.
func TestMarks_ClockPutBack(t *testing.T) {
	var m marks
	end := func(n int) mesh.Position { return mesh.Position{Log: "hub/0", Epoch: mesh.Epoch{1}, Seq: uint64(n)} }
	hour := mesh.Nanos(time.Hour)
	m.note(1000*hour, end(1), time.Hour)
	for i, want := range []mesh.Position{{}, end(2), end(3)} {
		if old := m.note(hour*mesh.Nanos(1+i), end(2+i), time.Hour); old != want {
			t.Errorf("hour %d: %s, want %s", i, old, want)
		}
	}
}

func TestConfig_History(t *testing.T) {
	for text, want := range map[string]string{
		"compact_after: 10ms":            "at least 1s is needed",
		"keep: 24h":                      "at least 336h0m0s is needed",
		"keep: 24h, autonomy: 13h":       "at least 26h0m0s is needed",
		"keep: 24h, autonomy: 12h":       "",
		"max_bytes: 10GiB":               "",
		"compact_after: 5m, keep: 9000h": "",
		"max_byte: 10GiB":                "max_byte",
	} {
		dir := t.TempDir()
		check(t, os.WriteFile(filepath.Join(dir, "site.yaml"), []byte(testSite), 0o600))
		check(t, os.WriteFile(filepath.Join(dir, "hub.yaml"), []byte("data: hub\nsite_file: site.yaml\nhistory: {"+text+"}\n"), 0o600))
		c, err := LoadConfig(filepath.Join(dir, "hub.yaml"))
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
		if err == nil && (c.History.Autonomy == 0 || c.History.CompactAfter == 0) {
			t.Errorf("%s: %+v", text, c.History)
		}
	}
}

// The hub compacts what every product has read and is old enough, and drops
// nothing that late data may need.
func TestKeeper_Steps(t *testing.T) {
	cfg := testConfig(t)
	h := &hub{cfg: cfg, log: quiet()}
	var err error
	h.store, err = store.Open(t.Context(), filepath.Join(t.TempDir(), "hub.db"), quiet())
	check(t, err)
	defer func() { check(t, h.store.Close()) }()
	h.now = func() mesh.Nanos { return mesh.Nanos(time.Hour) }
	check(t, h.products())
	k := &keeper{hub: h}
	check(t, k.step(t.Context(), 1)) // an empty log
	o, err := h.store.OpenLog(t.Context(), 0)
	check(t, err)
	hour := mesh.Nanos(time.Hour)
	check(t, k.step(t.Context(), 1+hour))
	check(t, h.set.Flush(t.Context()))
	check(t, k.step(t.Context(), 1+2*hour))
	check(t, k.step(t.Context(), 1+3*hour))
	if done, err := h.store.Compact(t.Context(), store.Pass{Through: o.End}); err != nil || done != (store.Passed{}) {
		t.Errorf("there was something left: %+v, %v", done, err)
	}
	if err := k.well(t.Context()); err != nil {
		t.Error(err)
	}
	k.cfg.History.MaxBytes, k.retained = 1, 0
	check(t, k.step(t.Context(), 1+3*hour))
	ended, end := context.WithCancel(t.Context())
	end()
	if err := k.run(ended); err != nil && !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// What stops the compactor doesn't stop retention, and a file that can't be used
// is told until it is mended.
func TestKeeper_RetentionGoesOn(t *testing.T) {
	h := &hub{cfg: testConfig(t), log: quiet()}
	var err error
	folder := t.TempDir()
	h.store, err = store.Open(t.Context(), filepath.Join(folder, "hub.db"), quiet())
	check(t, err)
	defer func() { check(t, h.store.Close()) }()
	h.now = func() mesh.Nanos { return mesh.Nanos(time.Hour) }
	check(t, h.products())
	_, err = h.store.OpenLog(t.Context(), 0)
	check(t, err)
	check(t, os.WriteFile(filepath.Join(folder, "history"), []byte("no folder"), 0o600))
	k := &keeper{hub: h}
	hour := mesh.Nanos(time.Hour)
	check(t, k.step(t.Context(), 1))
	if err := k.step(t.Context(), 1+2*hour); err == nil || !strings.Contains(err.Error(), "look through the history") {
		t.Fatal(err)
	}
	if k.retained != 1+2*hour {
		t.Error("retention was not run because compaction failed")
	}
	check(t, os.Remove(filepath.Join(folder, "history")))
	check(t, os.Mkdir(filepath.Join(folder, "history"), 0o700))
	check(t, os.WriteFile(filepath.Join(folder, "history", "2026-01-01.db"), []byte(strings.Repeat("no database ", 100)), 0o600))
	check(t, k.step(t.Context(), 1+3*hour)) // it is set aside
	path := filepath.Join(folder, "history", "2026-01-02.db")
	check(t, os.Mkdir(path, 0o700))
	check(t, h.store.Close())
	h.store, err = store.Open(t.Context(), filepath.Join(folder, "hub.db"), quiet())
	check(t, err)
	for i, want := range []error{errDays, errDays, nil} {
		if err := k.step(t.Context(), 1+mesh.Nanos(4+i)*hour); !errors.Is(err, want) {
			t.Errorf("%v, want %v", err, want)
		}
		if i == 1 {
			check(t, os.Remove(path))
		}
	}
}
