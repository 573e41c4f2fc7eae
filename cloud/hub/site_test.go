package hub

import (
	"errors"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"plantmesh/cloud/audit"
	"plantmesh/cloud/ingest"
	"plantmesh/cloud/store"
	"plantmesh/proto/mesh"
	"plantmesh/proto/strict"
	"plantmesh/proto/wire"
)

const siteFile = `site: graz
zone: Europe/Vienna
equipment:
  - {id: m, line: l, kind: k, source: s, signals_prefix: "m."}
`

// hubOf opens the log of a hub in a folder, as run does.
func hubOf(t *testing.T, folder string, now mesh.Nanos) *siteLog {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	st, err := store.Open(t.Context(), filepath.Join(folder, "hub.db"), log)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := st.Close(); err != nil {
			t.Error(err)
		}
	})
	trail, err := audit.Open(t.TempDir(), time.Now)
	check(t, err)
	return &siteLog{trail: trail, store: st, ingest: ingest.New(ingest.Config{}, st, log), now: func() mesh.Nanos { return now }, log: log}
}

func recordedFrom(t *testing.T, l *siteLog) (from []mesh.Nanos) {
	t.Helper()
	facts, err := l.store.Facts(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	for i := range facts {
		f, err := wire.OpenFact(facts[i].Sealed)
		if err != nil || f.Valid.To != math.MaxInt64 {
			t.Fatalf("%+v %v", f, err)
		}
		from = append(from, f.Valid.From)
	}
	return from
}

// The log says whether the site's file is in it: a folder whose database is new
// or was put back has it recorded again.
func TestSiteLog_TheLogSaysWhatIsRecorded(t *testing.T) {
	folder := t.TempDir()
	path := filepath.Join(folder, "site.yaml")
	write := func(src string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(src), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	load := func(l *siteLog) {
		t.Helper()
		if _, _, err := l.load(t.Context(), path); err != nil {
			t.Fatal(err)
		}
	}
	now := mesh.NanosOf(time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC))
	write(siteFile)
	first := hubOf(t, filepath.Join(folder, "first"), now)
	load(first)
	load(first)
	if got := recordedFrom(t, first); len(got) != 1 || got[0] != math.MinInt64 {
		t.Fatalf("the first file is recorded from %v", got)
	}
	fresh := hubOf(t, filepath.Join(folder, "fresh"), now)
	load(fresh)
	if got := recordedFrom(t, fresh); len(got) != 1 {
		t.Fatalf("a new database has %d facts", len(got))
	}

	write(siteFile + "min_coverage: 0.4\n")
	load(first)
	write(siteFile) // back again: it is not what holds
	load(first)
	write(siteFile + "valid_from: \"2026-11-01T00:00:00Z\"\n")
	load(first)
	load(first)
	want := []mesh.Nanos{math.MinInt64, now, now, mesh.NanosOf(time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC))}
	got := recordedFrom(t, first)
	if len(got) != len(want) {
		t.Fatalf("recorded from %v", got)
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("file %d is recorded from %s, want %s", i, got[i], want[i])
		}
	}

	if _, before, err := first.load(t.Context(), path); err != nil || len(before) != 4 || before[1].MinCoverage != 0.4 {
		t.Errorf("before were %d, %v", len(before), err)
	}

	write(siteFile + "valid_from: \"2026-12-01T00:00:00Z\"\n")
	var fault *strict.Fault
	if _, _, err := first.load(t.Context(), path); !errors.As(err, &fault) || !strings.Contains(err.Error(), "still to come") {
		t.Errorf("a file of the future: %v", err)
	}
}
