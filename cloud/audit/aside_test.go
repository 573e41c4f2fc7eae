package audit

import (
	"bytes"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func whole(t *testing.T, dir string) Seal {
	t.Helper()
	r, err := Verify(t.Context(), dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	return r.Seal
}

// listed are the files of a folder by their names.
func listed(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.IsDir() {
			continue
		}
		b, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		out[e.Name()] = string(b)
	}
	return out
}

// Wherever a trail is broken: all before the break stays, all from the broken file on is kept
// as it was, and what goes on says so.
func TestSetAside(t *testing.T) {
	origin := t.TempDir()
	grown(t, origin, 12)
	all, err := names(origin)
	if err != nil {
		t.Fatal(err)
	}
	change := func(name string, how func(b []byte) []byte) func(dir string) error {
		return func(dir string) error {
			b, err := os.ReadFile(filepath.Join(dir, name))
			if err != nil {
				return err
			}
			return os.WriteFile(filepath.Join(dir, name), how(b), 0o600)
		}
	}
	other := func(nth int) func(b []byte) []byte {
		return func(b []byte) []byte {
			lines := bytes.SplitAfter(b, []byte("\n"))
			lines[nth] = bytes.Replace(lines[nth], []byte(`"who":"`), []byte(`"who":"x`), 1)
			return bytes.Join(lines, nil)
		}
	}
	second := beginOf(all[1])
	for name, c := range map[string]struct {
		harm func(dir string) error
		good uint64
		at   string // the first file that is kept
	}{
		"the first entry":             {change(all[0], other(0)), 0, all[0]},
		"one in the first file":       {change(all[0], other(1)), 1, all[0]},
		"the first of another file":   {change(all[1], other(0)), second - 1, all[1]},
		"one within another file":     {change(all[1], other(1)), second, all[1]},
		"a file that is gone":         {func(dir string) error { return os.Remove(filepath.Join(dir, all[1])) }, second - 1, all[2]},
		"the first file":              {func(dir string) error { return os.Remove(filepath.Join(dir, all[0])) }, 0, all[1]},
		"half a line, others follow":  {change(all[0], func(b []byte) []byte { return append(b, `{"n":`...) }), second - 1, all[0]},
		"a line more than there was":  {change(all[len(all)-1], func(b []byte) []byte { return append(b, "{}\n"...) }), 13, all[len(all)-1]},
		"a file without anything":     {change(all[1], func([]byte) []byte { return nil }), second - 1, all[1]},
		"bytes that are no line ever": {change(all[2], func([]byte) []byte { return bytes.Repeat([]byte{7}, 2*MaxLine) }), beginOf(all[2]) - 1, all[2]},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.CopyFS(dir, os.DirFS(origin)); err != nil {
				t.Fatal(err)
			}
			if err := c.harm(dir); err != nil {
				t.Fatal(err)
			}
			before := listed(t, dir)
			trail := opened(t, dir)
			if _, err := trail.Append(approval(20)); !errors.Is(err, ErrBroken) {
				t.Fatalf("broken, and it takes an entry: %v", err)
			}
			a, err := trail.SetAside(t.Context(), Change{Who: "anna", Via: CLI, Reason: "the disk"}, nil)
			if err != nil {
				t.Fatal(err)
			}
			if end := whole(t, dir); a.Good.N != c.good || end != a.Seal {
				t.Errorf("it is %+v, and ends with %s", a, end)
			}
			var first string
			for file, text := range listed(t, filepath.Join(dir, a.Folder)) {
				if first == "" || file < first {
					first = file
				}
				if text != before[file] {
					t.Errorf("%s is not kept as it was", file)
				}
			}
			if first != c.at || a.Files != len(listed(t, filepath.Join(dir, a.Folder))) {
				t.Errorf("kept from %s on, %d files", first, a.Files)
			}
			for file, text := range before {
				if file < first && listed(t, dir)[file] != text {
					t.Errorf("%s, which was good, is another", file)
				}
			}
			entries, err := Newest(t.Context(), dir, Filter{Action: "audit."}, 10)
			if e := entries[0]; err != nil || e.Action != "audit.aside" || e.Who != "anna" || e.Reason != "the disk" || e.After != a.Folder || !strings.HasSuffix(e.Before, "; good to "+a.Good.String()) || !strings.Contains(e.Before, a.Break.What) {
				t.Errorf("it says %+v, %v", entries, err)
			}
			// It takes entries, is set aside no more, and again where it breaks again.
			add(t, trail, approval(21))
			if _, err := opened(t, dir).SetAside(t.Context(), Change{Who: "anna", Via: CLI}, nil); !errors.Is(err, ErrWhole) {
				t.Errorf("set aside while it is whole: %v", err)
			}
			now, err := names(dir)
			if err != nil {
				t.Fatal(err)
			}
			if err := change(now[len(now)-1], func(b []byte) []byte { return b[:len(b)/3] })(dir); err != nil {
				t.Fatal(err)
			}
			if err := change(now[len(now)-1], func(b []byte) []byte { return append(b, "\n\n"...) })(dir); err != nil {
				t.Fatal(err)
			}
			if _, err := opened(t, dir).SetAside(t.Context(), Change{Who: "anna", Via: CLI}, nil); err != nil {
				t.Error(err)
			}
			whole(t, dir)
		})
	}
}

// Who has a trail open goes on where another process has set it aside, and not where its end
// is only gone: also not because of what was set aside long ago.
func TestSetAside_BesideOneThatRuns(t *testing.T) {
	dir := t.TempDir()
	running := grown(t, dir, 12)
	harm := func() {
		t.Helper()
		all, err := names(dir)
		if err != nil {
			t.Fatal(err)
		}
		at := filepath.Join(dir, all[len(all)-1])
		b, err := os.ReadFile(at)
		if err != nil {
			t.Fatal(err)
		}
		lines := bytes.SplitAfter(b, []byte("\n"))
		if err := os.WriteFile(at, bytes.Join(lines[:len(lines)-2], nil), 0o600); err != nil { // its last entry is cut off
			t.Fatal(err)
		}
	}
	for range 2 {
		all, err := names(dir)
		if err != nil {
			t.Fatal(err)
		}
		at := filepath.Join(dir, all[0])
		b, err := os.ReadFile(at)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(at, bytes.Replace(b, []byte("hub"), []byte("hup"), 1), 0o600); err != nil {
			t.Fatal(err)
		}
		a, err := opened(t, dir).SetAside(t.Context(), Change{Who: "anna", Via: CLI}, nil)
		if err != nil {
			t.Fatal(err)
		}
		if s, err := running.Seal(); err != nil || s != a.Seal {
			t.Errorf("who runs says %s, %v", s, err)
		}
		add(t, running, approval(30), approval(31))
		if end := whole(t, dir); end.N != a.Seal.N+2 {
			t.Errorf("it ends with %s", end)
		}
	}
	was, err := running.Seal()
	if err != nil {
		t.Fatal(err)
	}
	harm()
	if _, err := running.Append(approval(40)); !errors.Is(err, ErrBroken) {
		t.Errorf("its end is gone, and who runs goes on: %v", err)
	}
	// That shows a seal alone.
	if _, err := opened(t, dir).SetAside(t.Context(), Change{Who: "anna", Via: CLI}, nil); !errors.Is(err, ErrWhole) {
		t.Errorf("its end is gone: %v", err)
	}
	a, err := opened(t, dir).SetAside(t.Context(), Change{Who: "anna", Via: CLI}, &was)
	if err != nil || a.Good.N != was.N-1 || a.Files != 1 {
		t.Errorf("by a seal: %+v, %v", a, err)
	}
	if s, err := running.Seal(); err != nil || s != a.Seal || whole(t, dir) != s {
		t.Errorf("who runs says %s, %v", s, err)
	}
}

// Killed at any step it is as broken as before, or whole, and to do it again goes on; nothing
// is lost.
func TestSetAside_Killed(t *testing.T) {
	dir := t.TempDir()
	grown(t, dir, 12)
	all, err := names(dir)
	if err != nil {
		t.Fatal(err)
	}
	at := filepath.Join(dir, all[0])
	b, err := os.ReadFile(at)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(at, bytes.Replace(b, []byte("anna"), []byte("otto"), 1), 0o600); err != nil {
		t.Fatal(err)
	}
	before := listed(t, dir)
	// Killed while it wrote, and once more before the other files were moved.
	if err := os.WriteFile(filepath.Join(dir, unfinished), []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	first, err := opened(t, dir).SetAside(t.Context(), Change{Who: "anna", Via: CLI}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range all[2:] {
		if err := os.Rename(filepath.Join(dir, first.Folder, name), filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	second, err := opened(t, dir).SetAside(t.Context(), Change{Who: "anna", Via: CLI}, nil)
	if err != nil {
		t.Fatal(err)
	}
	whole(t, dir)
	kept := listed(t, filepath.Join(dir, first.Folder))
	maps.Copy(kept, listed(t, filepath.Join(dir, second.Folder)))
	for _, name := range all {
		if kept[name] != before[name] {
			t.Errorf("%s is lost", name)
		}
	}
	if entries, err := Newest(t.Context(), dir, Filter{Action: asideAction}, 10); err != nil || len(entries) != 2 || entries[0].After != second.Folder || entries[1].After != first.Folder {
		t.Errorf("it says %+v, %v", entries, err)
	}
}
