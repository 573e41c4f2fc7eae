package agent

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"plantmesh/edge/source"
	"plantmesh/proto/mesh"
)

// A source is resumed with its file as it is then, and never with one that this agent
// would not take.
func TestResumer_ReadsTheFileAgain(t *testing.T) {
	for name, c := range map[string]struct{ id, file, old, text, want string }{
		"as it was":        {"press", "b.yaml", "id: press", "id: press", ""},
		"changed":          {"press", "b.yaml", "name: a.b.d", "name: a.b.e", ""},
		"unknown":          {"pres", "b.yaml", "id: press", "id: press", `no such source: "pres"`},
		"broken":           {"press", "b.yaml", "type: int", "type: integer", "b.yaml:5: type "},
		"called otherwise": {"press", "b.yaml", "id: press", "id: press2", `b.yaml:2: this was source "press" when the agent began, and is "press2" now: start the agent anew`},
		"as another":       {"press", "b.yaml", "id: press", "id: filler", `b.yaml:2: source "filler" stands in `},
	} {
		t.Run(name, func(t *testing.T) {
			cfg, dir, err := load(t, files())
			if err != nil {
				t.Fatal(err)
			}
			a := &agent{cfg: cfg}
			for _, s := range cfg.Sources {
				a.sources = append(a.sources, source.NewSupervisor(source.Config{ID: s.ID()}, nil, nil, func() mesh.Nanos { return 0 }, slog.New(slog.DiscardHandler)))
			}
			path := filepath.Join(dir, "sources.d", c.file)
			text := strings.Replace(files()["sources.d/"+c.file], c.old, c.text, 1)
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			got, err := resumer{a}.Resume(c.id)
			if c.want != "" {
				if err == nil || !strings.Contains(err.Error(), c.want) || (name == "unknown") != errors.Is(err, ErrNoSource) {
					t.Errorf("got %v, want %s", err, c.want)
				}
				return
			}
			// It does not run, so nothing is done; what would be done is told.
			if err != nil || got.Done || got.Changed != (name == "changed") || got.Was.State != source.StateStopped {
				t.Errorf("%+v, %v", got, err)
			}
		})
	}
}
