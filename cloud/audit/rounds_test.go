package audit

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// round is one round of all files; it says how many steps it took.
func round(t *testing.T, r *Rounds) (steps int) {
	t.Helper()
	for done := false; !done; steps++ {
		var err error
		if done, err = r.Step(); err != nil || steps > 100 {
			t.Fatalf("step %d: %v", steps, err)
		}
	}
	return steps
}

// Damage to any file is found within a round, by its file and entry, though Append takes
// entries on; set aside, it is whole again. One file is read at a step.
func TestRounds_FindDamageToOlderFiles(t *testing.T) {
	origin := t.TempDir()
	grown(t, origin, 12)
	all, err := names(origin)
	if err != nil || len(all) < 4 {
		t.Fatal(all, err)
	}
	write := func(name string, how func(b []byte) []byte) func(dir string) error {
		return func(dir string) error {
			b, err := os.ReadFile(filepath.Join(dir, name))
			if err != nil {
				return err
			}
			return os.WriteFile(filepath.Join(dir, name), how(b), 0o600)
		}
	}
	for name, c := range map[string]struct {
		harm func(dir string) error
		file string
		n    uint64
		what string
	}{
		"a byte of the first file": {write(all[0], func(b []byte) []byte { return bytes.Replace(b, []byte("anna"), []byte("otto"), 1) }), all[0], 2, "other bytes"},
		"a byte of the second one": {write(all[1], func(b []byte) []byte { return bytes.Replace(b, []byte("anna"), []byte("otto"), 1) }), all[1], beginOf(all[1]), "other bytes"},
		"a file is gone":           {func(dir string) error { return os.Remove(filepath.Join(dir, all[1])) }, all[2], beginOf(all[1]), "is not there"},
		"an entry is torn":         {write(all[1], func(b []byte) []byte { return b[:len(b)-9] }), all[1], beginOf(all[2]) - 1, ""},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.CopyFS(dir, os.DirFS(origin)); err != nil {
				t.Fatal(err)
			}
			trail := opened(t, dir)
			r := NewRounds(trail)
			if n := round(t, r); n != len(all) || r.Found() != nil {
				t.Fatalf("whole: %d steps for %d files, %v", n, len(all), r.Found())
			}
			add(t, trail, approval(20))
			if round(t, r); r.Found() != nil { // it has grown
				t.Fatal(r.Found())
			}
			if err := c.harm(dir); err != nil {
				t.Fatal(err)
			}
			add(t, trail, approval(21))
			round(t, r)
			b := r.Found()
			if b == nil || b.File != c.file || b.N != c.n || !strings.Contains(b.What, c.what) {
				t.Fatalf("it is %v, want %s, entry %d", b, c.file, c.n)
			}
			if round(t, r); r.Found() == nil {
				t.Error("a second round finds nothing")
			}
			if _, err := trail.SetAside(t.Context(), Change{Who: "anna", Via: CLI}, nil); err != nil {
				t.Fatal(err)
			}
			round(t, r)
			if round(t, r); r.Found() != nil {
				t.Errorf("set aside: %v", r.Found())
			}
		})
	}
}

// A trail that is whole and another one than was there is none that anybody recorded.
func TestRounds_FindATrailThatWasWrittenAnew(t *testing.T) {
	dir := t.TempDir()
	trail := opened(t, dir)
	add(t, trail, approval(99))
	r := NewRounds(trail)
	round(t, r)
	if err := os.Remove(filepath.Join(dir, nameOf(1))); err != nil {
		t.Fatal(err)
	}
	grown(t, dir, 3)
	round(t, r)
	if b := r.Found(); b == nil || b.File != nameOf(1) || !strings.Contains(b.What, "written anew") {
		t.Errorf("it is %v", b)
	}
}

// The entry of a trail that was set aside is torn itself: who runs knows by its own seal,
// and a command says how that is told to it.
func TestSetAside_ItsOwnEntryIsTorn(t *testing.T) {
	dir := t.TempDir()
	running := grown(t, dir, 12)
	all, err := names(dir)
	if err != nil {
		t.Fatal(err)
	}
	tear := func(name string) {
		t.Helper()
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), b[:len(b)-9], 0o600); err != nil {
			t.Fatal(err)
		}
	}
	tear(all[0]) // others follow
	first, err := running.SetAside(t.Context(), Change{Who: "anna", Via: CLI}, nil)
	if err != nil {
		t.Fatal(err)
	}
	tear(fileOf(t, dir, first.Seal.N))
	_, err = running.Append(approval(30))
	broken, is := errors.AsType[*BreakError](err)
	if !is || broken.Since != first.Seal {
		t.Fatalf("who runs says %v, since %v, want %v", err, broken, first.Seal)
	}
	_, err = opened(t, dir).SetAside(t.Context(), Change{Who: "anna", Via: CLI}, nil)
	if !errors.Is(err, ErrWhole) || !strings.Contains(err.Error(), "--since N:HASH") {
		t.Errorf("without a seal: %v", err)
	}
	if _, err = opened(t, dir).SetAside(t.Context(), Change{Who: "anna", Via: CLI}, &broken.Since); err != nil {
		t.Fatal(err)
	}
	add(t, running, approval(31))
	whole(t, dir)
}

// fileOf is the file in which an entry stands.
func fileOf(t *testing.T, dir string, n uint64) (out string) {
	t.Helper()
	all, err := names(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range all {
		if beginOf(name) <= n {
			out = name
		}
	}
	return out
}
