package registry

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"plantmesh/proto/revision"
)

// shelved is a registry with an agent gw-1, and what was recorded of it.
func shelved(t *testing.T) (r *Registry, acts *[]Act, configure func(text string) (revision.Revision, error)) {
	t.Helper()
	r, err := Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	now := time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)
	if _, err := r.Enroll("graz", "gw-1", publicKey(t), time.Hour, now); err != nil {
		t.Fatal(err)
	}
	acts = new([]Act)
	r.Record = func(a Act) error { *acts = append(*acts, a); return nil }
	return r, acts, func(text string) (revision.Revision, error) {
		return r.Configure(Wanted{Site: "graz", Agent: "gw-1", Files: revision.Files{"sources.d/a.yaml": text}, Note: "try\n" + text}, anna(), now)
	}
}

func TestConfigure_NumbersRecordsAndKeepsTheNewest(t *testing.T) {
	r, acts, configure := shelved(t)
	const made = keptRevisions + 5
	for i := 1; i <= made; i++ {
		v, err := configure(strconv.Itoa(i))
		if err != nil || v.Number != uint64(i) || v.By != "anna" || v.Note != fmt.Sprintf("try %d", i) {
			t.Fatalf("%+v, %v", v, err)
		}
	}
	all, err := r.Revisions("graz", "gw-1")
	if err != nil || len(all) != keptRevisions || all[0].Number != made || all[0].Files != nil {
		t.Errorf("%d are kept, %v", len(all), err)
	}
	v, err := r.Newest("graz", "gw-1")
	if err != nil || v.Files["sources.d/a.yaml"] != strconv.Itoa(made) {
		t.Errorf("%+v, %v", v, err)
	}
	if _, err := r.Revision("graz", "gw-1", 1); !errors.Is(err, ErrNoRevision) {
		t.Errorf("the first is still there: %v", err)
	}
	last := (*acts)[len(*acts)-1]
	if len(*acts) != made || last.Action != "agent.configure" || last.Object != "graz/gw-1" || last.After != fmt.Sprintf("revision %d sha256:%s", made, v.Sum) || !strings.HasPrefix(last.Before, fmt.Sprintf("revision %d sha256:", made-1)) {
		t.Errorf("%d acts, the last %+v", len(*acts), last)
	}
}

func TestConfigure_Refuses(t *testing.T) {
	r, acts, configure := shelved(t)
	now := time.Now()
	zero := uint64(0)
	files := revision.Files{"sources.d/a.yaml": "a"}
	if _, err := configure("a"); err != nil {
		t.Fatal(err)
	}
	*acts = nil
	for name, c := range map[string]struct {
		w    Wanted
		want error
	}{
		"another site":       {Wanted{Site: "linz", Agent: "gw-1", Files: files}, ErrUnknown},
		"nobody":             {Wanted{Site: "graz", Agent: "gw-2", Files: files}, ErrUnknown},
		"a way up":           {Wanted{Site: "..", Agent: "gw-1", Files: files}, ErrName},
		"made meanwhile":     {Wanted{Site: "graz", Agent: "gw-1", Files: files, After: &zero}, ErrMoved},
		"what is no files":   {Wanted{Site: "graz", Agent: "gw-1", Files: revision.Files{"edge.yaml": "a"}}, revision.ErrRevision},
		"with a way in them": {Wanted{Site: "graz", Agent: "gw-1", Files: revision.Files{"sources.d/../edge.yaml": "a"}}, revision.ErrRevision},
	} {
		if _, err := r.Configure(c.w, anna(), now); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if len(*acts) > 0 {
		t.Errorf("recorded: %+v", *acts)
	}
	r.Record = func(Act) error { return errNoRecord }
	if _, err := configure("b"); !errors.Is(err, errNoRecord) {
		t.Errorf("not recorded: %v", err)
	}
	if v, err := r.Newest("graz", "gw-1"); err != nil || v.Number != 1 {
		t.Errorf("what was not recorded is there: %+v, %v", v, err)
	}
	// An agent that knows a higher one, of before this hub was put back, gets one above it.
	r.Record = nil
	if v, err := r.Configure(Wanted{Site: "graz", Agent: "gw-1", Files: files, Above: 40}, anna(), now); err != nil || v.Number != 41 {
		t.Errorf("%+v, %v", v, err)
	}
}

// A file that was damaged is told, and never given to an agent.
func TestRevision_DamagedIsTold(t *testing.T) {
	r, _, configure := shelved(t)
	if _, err := configure("good"); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(r.dir, revisionsFolder, "graz.gw-1", "1.json")
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, damaged := range []string{string(b[:len(b)/2]), strings.Replace(string(b), `": "good"`, `": "evil"`, 1), strings.Replace(string(b), `"revision": 1`, `"revision": 2`, 1), "", "{}"} {
		if err := os.WriteFile(path, []byte(damaged), 0o600); err != nil {
			t.Fatal(err)
		}
		if v, err := r.Newest("graz", "gw-1"); err == nil {
			t.Errorf("%q is taken as %+v", damaged, v)
		}
	}
	info, err := os.Stat(filepath.Dir(path))
	if err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("%v, %v", info, err)
	}
}
