package status

import (
	"bytes"
	"context"
	"errors"
	"path/filepath"
	"strings"
	"testing"
)

// resumes is a Resumer that knows one source.
type resumes struct{}

func (resumes) Resume(source string) (Resumed, error) {
	if source != "press 1" {
		return Resumed{}, errors.New("sources.d/press.yaml:3: type")
	}
	return Resumed{Source: source, Done: true, Changed: true, Was: Source{State: "set aside", Aside: &Aside{Reason: "panic: x", Deaths: 5}}}, nil
}

func TestResume(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s.sock")
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- Serve(ctx, path, Answers{Snapshot: func() Snapshot { return Snapshot{} }, Resumer: resumes{}})
	}()
	for {
		if _, err := Ask(ctx, path); err == nil {
			break
		}
	}
	if r, err := Resume(ctx, path, "press 1"); err != nil || !r.Done || !r.Changed || r.Source != "press 1" || r.Was.Aside.Deaths != 5 {
		t.Errorf("%+v, %v", r, err)
	}
	if _, err := Resume(ctx, path, "filler"); err == nil || err.Error() != "the agent says: sources.d/press.yaml:3: type" {
		t.Errorf("%v", err)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// What is set aside says why, since when, and how it comes back.
func TestSnapshot_PrintsWhatIsSetAside(t *testing.T) {
	var out bytes.Buffer
	s := Snapshot{Sources: []Source{{Source: "press", State: "set aside", Since: "A", LastError: "set aside: panic", Aside: &Aside{Since: "B", Next: "C", Resume: "plantmesh-edge source resume press --config e"}}}}
	if err := s.Print(&out); err != nil {
		t.Fatal(err)
	}
	if want := "  error  set aside: panic\n  aside  since B, tried again at C; or at once by: plantmesh-edge source resume press --config e\n"; !strings.HasSuffix(out.String(), want) {
		t.Errorf("%s\nwant %s", out.String(), want)
	}
}
