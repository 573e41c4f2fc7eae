package revision

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"plantmesh/proto/revision"
)

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func whole(n uint64, text string) *revision.Revision {
	f := revision.Files{"sources.d/a.yaml": text, "rules.d/b.yaml": "b"}
	return &revision.Revision{Ref: revision.Ref{Number: n, Sum: f.Sum()}, At: noon(), By: "anna", Note: "n", Files: f}
}

func TestStore_KeepsWhatCame(t *testing.T) {
	s := NewStore(filepath.Join(t.TempDir(), "revisions"))
	if st, err := s.Load(); err != nil || !reflect.DeepEqual(st, State{}) || s.Hold() != nil {
		t.Errorf("of nothing: %+v, %v", st, err)
	}
	r := whole(7, "a")
	check(t, s.Stage(r))
	check(t, s.Stage(r)) // again
	if f, err := s.Files(r.Ref); err != nil || f.Sum() != r.Sum || !s.Whole(r.Ref) {
		t.Errorf("%v, %v", f, err)
	}
	if m, err := s.Meta(r.Ref); err != nil || m.By != "anna" || m.Note != "n" || m.Files != nil {
		t.Errorf("%+v, %v", m, err)
	}
	st := State{}.Offer(r.Ref).Begin([]string{"press"}, noon())
	check(t, s.Save(st))
	if got, err := s.Load(); err != nil || !reflect.DeepEqual(got.Trial, st.Trial) || got.Current != r.Ref || len(got.History) != 1 {
		t.Errorf("%+v, %v", got, err)
	}
	h, err := Hold("shift", time.Time{}, noon())
	check(t, err)
	check(t, s.SetHold(h))
	if got := s.Hold(); got == nil || got.Reason != "shift" || !got.Until.IsZero() {
		t.Errorf("%+v", got)
	}
	check(t, s.SetHold(nil))
	check(t, s.SetHold(nil))
	if s.Hold() != nil {
		t.Error("it is held still")
	}
	check(t, filepath.WalkDir(s.dir, func(path string, d fs.DirEntry, err error) error {
		info, _ := d.Info()
		if err == nil && info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %v", path, info.Mode())
		}
		return err
	}))
}

// However a power cut leaves the folder, what stands there is whole, or not there.
func TestStore_HalfWritten(t *testing.T) {
	s := NewStore(t.TempDir())
	good, next := whole(6, "a"), whole(7, "b")
	check(t, s.Stage(good))
	st := State{}.Offer(good.Ref).Begin(nil, noon()).Confirm(noon(), "")
	check(t, s.Save(st))
	half := func(name, text string) {
		t.Helper()
		check(t, os.MkdirAll(filepath.Dir(filepath.Join(s.dir, name)), 0o700))
		check(t, os.WriteFile(filepath.Join(s.dir, name), []byte(text), 0o600))
	}
	// Before the rename: a file beside.
	half(".tmp-state.json", `{"current": {"revi`)
	half(".tmp-7/sources.d/a.yaml", "b")
	if got, err := s.Load(); err != nil || got.Current != good.Ref || s.Whole(next.Ref) {
		t.Errorf("%+v, %v", got, err)
	}
	// A folder without some of its files, or with half of one, is not whole, and is written anew.
	half("7/sources.d/a.yaml", "")
	if s.Whole(next.Ref) {
		t.Error("half a revision is whole")
	}
	check(t, s.Stage(next))
	if !s.Whole(next.Ref) {
		t.Error("a whole one is not")
	}
	for _, damage := range []func(){
		func() { half("7/sources.d/a.yaml", "c") }, func() { half("7/sources.d/more.yaml", "") },
		func() { check(t, os.Remove(filepath.Join(s.dir, "7/rules.d/b.yaml"))) },
		func() { check(t, os.Symlink("a.yaml", filepath.Join(s.dir, "7/sources.d/link.yaml"))) },
		func() { check(t, os.RemoveAll(filepath.Join(s.dir, "7/rules.d"))) },
	} {
		check(t, os.RemoveAll(s.Folder(next.Ref)))
		check(t, s.Stage(next))
		if damage(); s.Whole(next.Ref) {
			t.Error("a damaged one is whole")
		}
	}
	half(".tmp-8/x", "")
	half("5/x", "")
	check(t, s.Tidy(st))
	entries, err := os.ReadDir(s.dir)
	check(t, err)
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	if !slices.Equal(names, []string{"6", "state.json"}) {
		t.Errorf("%v are left", names)
	}
	// A state that can't be read is told, and set aside; a hold that can't be read holds.
	for _, text := range []string{"", "{", `{"current": 7}`} {
		half("state.json", text)
		if got, err := s.Load(); err == nil || !reflect.DeepEqual(got, State{}) {
			t.Errorf("%q: %+v, %v", text, got, err)
		}
		half("hold.json", text)
		if h := s.Hold(); h == nil || !h.Active(noon()) || !strings.Contains(h.Reason, "release it") {
			t.Errorf("%q: %+v", text, h)
		}
	}
	check(t, s.SetAside())
	check(t, s.SetAside())
	if _, err := s.Load(); err != nil {
		t.Error(err)
	}
}

func TestStage_RefusesWhatIsNone(t *testing.T) {
	s := NewStore(t.TempDir())
	up := whole(7, "a")
	up.Files["sources.d/../../x.yaml"] = "x"
	up.Sum = up.Files.Sum()
	other := whole(7, "a")
	other.Files["sources.d/a.yaml"] = "other"
	for _, bad := range []*revision.Revision{up, other, {}} {
		if err := s.Stage(bad); !errors.Is(err, revision.ErrRevision) {
			t.Errorf("%+v: %v", bad, err)
		}
	}
	if entries, err := os.ReadDir(s.dir); err != nil || len(entries) > 0 {
		t.Errorf("%v, %v", entries, err)
	}
}
