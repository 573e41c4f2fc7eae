package buffer

import (
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"plantmesh/proto/mesh"
)

// What was set aside can be looked at, comes back as it was, or is let go; what can't be
// read only the last.
func TestQuarantined_ComesBackOrGoes(t *testing.T) {
	b := mustOpen(t, testConfig(t.TempDir()))
	defer mustClose(t, b)
	was := mustAppend(t, b, offer(t, "press", 1000, 5))
	other := mustAppend(t, b, offer(t, "press", 2000, 5))
	for _, at := range []mesh.Position{was, other} {
		if err := b.Quarantine(at, "the hub takes less"); err != nil {
			t.Fatal(err)
		}
	}
	got, err := b.Quarantined()
	if err != nil || len(got) != 2 {
		t.Fatalf("%+v, %v", got, err)
	}
	a := got[0]
	if a.At.Seq != was.Seq {
		a = got[1]
	}
	if a.At != was || a.Cause != mesh.CauseUnreadable || a.Why != "the hub takes less" || a.Broken != "" || a.Header.About != "press" || a.Header.Count != 5 || !strings.HasSuffix(a.ID, "-2") {
		t.Errorf("%+v", a)
	}
	// An agent of before called the files otherwise.
	old := filepath.Join(b.quarantineDir(), hex.EncodeToString([]byte(was.Epoch.String()))+"-2"+rawSuffix)
	if err := os.Rename(filepath.Join(b.quarantineDir(), hex.EncodeToString(was.Epoch[:])+"-2"+rawSuffix), old); err != nil {
		t.Fatal(err)
	}
	if x, err := b.SetAside(a.ID); err != nil || x.ID != a.ID || x.At != was || x.Broken != "" {
		t.Errorf("%+v, %v", x, err)
	}
	back, err := b.Release(t.Context(), a.ID)
	if err != nil {
		t.Fatal(err)
	}
	at, records := back.At, all(t, b)
	last := records[len(records)-1]
	if last.At != at || string(last.Sealed) != string(a.Record.Sealed) {
		t.Errorf("%s holds something else than was set aside", at)
	}
	if _, err := b.Release(t.Context(), a.ID); !errors.Is(err, ErrNotAside) {
		t.Errorf("a second release: %v", err)
	}
	// The other is damaged where it lies.
	names, err := b.rawNames()
	if err != nil || len(names) != 1 {
		t.Fatal(names, err)
	}
	path := filepath.Join(b.quarantineDir(), names[0]+rawSuffix)
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	raw[len(raw)/2] ^= 1
	if err := os.WriteFile(path, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	got, err = b.Quarantined()
	if err != nil || len(got) != 1 || got[0].Broken == "" {
		t.Fatalf("%+v, %v", got, err)
	}
	if _, err := b.Release(t.Context(), got[0].ID); !errors.Is(err, ErrNoMore) {
		t.Errorf("a damaged record is released: %v", err)
	}
	if _, err := b.Drop(got[0].ID); err != nil {
		t.Error(err)
	}
	left, err := os.ReadDir(b.quarantineDir())
	name := hex.EncodeToString(was.Epoch[:]) + "-2"
	if err != nil || len(left) != 2 || left[0].Name() != name+backSuffix || left[1].Name() != name+whySuffix {
		t.Errorf("%v are left, %v", left, err)
	}
	voids := voidsOf(t, all(t, b))
	if len(voids) != 2 || voids[1].Note != "the hub takes less" {
		t.Errorf("%+v", voids)
	}
}

func TestHolding_SaysWhereASpanMayStand(t *testing.T) {
	b := mustOpen(t, testConfig(t.TempDir()))
	defer mustClose(t, b)
	mustAppend(t, b, offer(t, "press", 1_000, 5))
	end := mustAppend(t, b, offer(t, "press", 9_000, 5))
	after, until, earliest := b.Holding("press", mesh.Span{From: 2_000, To: 1 << 40})
	if !after.IsZero() || until != end || earliest != 1_000 {
		t.Errorf("%s to %s, from %d", after, until, earliest)
	}
	if _, until, earliest := b.Holding("filler", mesh.Span{To: 1 << 60}); !until.IsZero() || earliest != 0 {
		t.Errorf("of a source that is not there: %s, %d", until, earliest)
	}
	if _, until, _ := b.Holding("", mesh.Span{From: 1 << 60, To: 1 << 61}); !until.IsZero() {
		t.Errorf("of a span to come: %s", until)
	}
	if b.Back(1) == b.End() || b.Back(1<<40) != (mesh.Position{}) || !b.Through().IsZero() {
		t.Errorf("back %s, through %s", b.Back(1), b.Through())
	}
}
