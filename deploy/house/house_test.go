package house

import (
	"go/ast"
	"slices"
	"strings"
	"testing"
)

const module = "plantmesh/"

// walk is the road of one reading, in order. Moving a room in it is a decision
// to be written down in proto/DESIGN.md.
func walk() []string {
	return []string{
		"firmware-sim/plant",
		"edge/source",
		"edge/buffer",
		"edge/quality",
		"edge/forward",
		"cloud/ingest",
		"cloud/store",
		"cloud/product",
		"cloud/port",
		"cloud/console",
	}
}

// sides are rooms beside the walk: the same rules, but no signpost.
func sides() []string {
	return []string{
		"firmware-sim/opcua", "firmware-sim/mqtt", "firmware-sim/replay", "firmware-sim/ledger", "firmware-sim/fault",
		"edge/status", "edge/check", "edge/host", "edge/page", "edge/revision",
		"cloud/access", "cloud/audit", "cloud/registry", "cloud/governance",
	}
}

// roots wire rooms together and hold no rules of their own.
func roots() []string {
	return []string{"edge/agent", "edge/cmd", "cloud/hub", "cloud/cmd", "firmware-sim/cmd", "deploy"}
}

// words may be imported by everyone and import nobody but each other.
func words() []string { return []string{"proto"} }

// devices are what the rooms of firmware-sim share: plant is their vocabulary.
const devices = "firmware-sim/plant"

// libraries names the only places that may import an outside library.
func libraries() map[string][]string {
	return map[string][]string{
		"github.com/gopcua/opcua":               {"edge/source/opcua", "firmware-sim/opcua", "deploy"},
		"github.com/eclipse/paho.golang":        {"edge/source/mqtt", "firmware-sim/mqtt"},
		"github.com/mochi-mqtt/server":          {"firmware-sim/mqtt", "edge/source/mqtt"}, // the latter in its listener, and in tests
		"github.com/expr-lang/expr":             {"edge/source/mqtt/mapping"},
		"go.etcd.io/bbolt":                      {"edge/buffer"},
		"github.com/nats-io/nats.go":            {"edge/forward", "cloud/ingest", "cloud/port/stream", "cloud/hub", "deploy"},
		"github.com/nats-io/nats-server":        {"cloud/hub", "edge/forward", "cloud/ingest", "cloud/port/stream", "deploy"}, // rooms: in tests only
		"github.com/nats-io/jwt":                {"cloud/registry", "cloud/hub", "edge/agent", "deploy/attack"},
		"github.com/nats-io/nkeys":              {"cloud/registry", "cloud/hub", "edge/agent", "edge/forward", "deploy"},
		"golang.org/x/crypto":                   {"cloud/access"},
		"golang.org/x/time":                     {"cloud/registry/door", "cloud/hub", "cloud/access/desk"},
		"modernc.org/sqlite":                    {"cloud/store"},
		"github.com/alecthomas/kong":            {"edge/cmd", "cloud/cmd", "firmware-sim/cmd"},
		"github.com/goccy/go-yaml":              {"proto/strict"},
		"github.com/klauspost/compress":         {"proto/wire", "deploy/bench"}, // the floor that wire is measured by
		"google.golang.org/protobuf":            {"proto/wire"},
		"github.com/parquet-go/parquet-go":      {"cloud/port/parquet"},
		"github.com/prometheus/client_golang":   {"cloud/port/http", "edge/status"},
		"github.com/chromedp/chromedp":          {"deploy/e2e"},
		"github.com/santhosh-tekuri/jsonschema": {"cloud/product"},
	}
}

// TestRoomsDoNotImportRooms: not in their tests either.
func TestRoomsDoNotImportRooms(t *testing.T) {
	for _, p := range list(t) {
		from := place(p.rel)
		if from == "" {
			t.Errorf("%s has no place in the house: add it to walk, sides, roots or words", p.rel)
			continue
		}
		for _, imp := range p.imports(false) {
			if rel, ours := strings.CutPrefix(imp, module); ours && !may(p.rel, rel) {
				t.Errorf("%s imports %s: rooms share only words, roots join them", p.rel, imp)
			}
		}
		for _, imp := range p.imports(true) {
			if rel, ours := strings.CutPrefix(imp, module); ours && !may(p.rel, rel) {
				t.Errorf("a test of %s imports %s: what joins rooms belongs in deploy/e2e", p.rel, imp)
			}
		}
	}
}

// may reports whether a package may import another.
func may(from, to string) bool {
	a, b := place(from), place(to)
	switch {
	case a == b: // inside one room
		return true
	case slices.Contains(words(), b): // everyone speaks
		return true
	case b == devices && strings.HasPrefix(a, "firmware-sim/"):
		return true
	case a == "deploy": // deploy may know everything
		return true
	case slices.Contains(roots(), a):
		return side(from) == side(to) || b == "deploy" && strings.HasPrefix(to, "deploy/demo")
	}
	return false
}

func side(rel string) string { s, _, _ := strings.Cut(rel, "/"); return s }

// The demo starts its sibling binaries by path: none of their code may be
// linked into the hub.
func TestTheDemoImportsNoSide(t *testing.T) {
	for _, p := range list(t) {
		if !strings.HasPrefix(p.rel, "deploy/demo") {
			continue
		}
		for _, imp := range p.imports(false) {
			for _, s := range []string{"edge/", "firmware-sim/"} {
				if strings.HasPrefix(imp, module+s) {
					t.Errorf("%s imports %s: the demo starts it by path", p.rel, imp)
				}
			}
		}
	}
}

func TestDevicesKnowNothingOfTheMesh(t *testing.T) {
	allowed := []string{"proto/answer", "proto/clock", "proto/strict", "proto/mesh"} // mesh: Nanos, for the clock
	for _, p := range list(t) {
		if side(p.rel) != "firmware-sim" {
			continue
		}
		for _, imp := range p.imports(false) {
			if rel, ours := strings.CutPrefix(imp, module); ours && strings.HasPrefix(rel, "proto/") && !slices.Contains(allowed, rel) {
				t.Errorf("%s imports %s: a device does not know the mesh", p.rel, imp)
			}
		}
	}
}

// mostLines is how long a file may be that people write.
const mostLines = 500

func TestFilesAreShort(t *testing.T) {
	for _, p := range list(t) {
		for _, f := range p.files {
			if n := f.fset.File(f.ast.FileStart).LineCount() - 1; n > mostLines && !ast.IsGenerated(f.ast) {
				t.Errorf("%s/%s has %d lines of %d: part of it is a thing of its own", p.rel, f.name, n, mostLines)
			}
		}
	}
}

func TestOneLibraryOneRoom(t *testing.T) {
	for _, p := range list(t) {
		for _, imp := range slices.Concat(p.imports(false), p.imports(true)) {
			for lib, rooms := range libraries() {
				if imp != lib && !strings.HasPrefix(imp, lib+"/") {
					continue
				}
				if !slices.ContainsFunc(rooms, func(r string) bool { return p.rel == r || strings.HasPrefix(p.rel, r+"/") }) {
					t.Errorf("%s imports %s, which belongs to %s", p.rel, lib, strings.Join(rooms, ", "))
				}
			}
		}
	}
}

// Outside libraries that only tests of a room may use: peers to test against.
func TestPeersStayInTests(t *testing.T) {
	peers := map[string][]string{
		"github.com/nats-io/nats-server/v2/server": {"cloud/hub"},
		"github.com/mochi-mqtt/server/v2":          {"firmware-sim/mqtt", "firmware-sim/mqtt/door", "firmware-sim/mqtt/sparkplug", "edge/source/mqtt/serve"},
		"github.com/santhosh-tekuri/jsonschema/v6": {},
		"github.com/chromedp/chromedp":             {},
		"pgregory.net/rapid":                       {},
	}
	for _, p := range list(t) {
		for _, imp := range p.imports(false) {
			if homes, ok := peers[imp]; ok && !slices.Contains(homes, p.rel) && !strings.HasPrefix(p.rel, "deploy/") {
				t.Errorf("%s imports %s outside its tests", p.rel, imp)
			}
		}
	}
}

func TestEachRoomNamesTheNext(t *testing.T) {
	next := map[string]string{}
	for _, p := range list(t) {
		for _, f := range p.files {
			if _, after, ok := strings.Cut(f.ast.Doc.Text(), "\nNext: "); ok && !f.test {
				next[p.rel] = strings.TrimSpace(after)
			}
		}
	}
	rooms := walk()
	for i, room := range rooms[:len(rooms)-1] {
		if got, want := next[room], rooms[i+1]; got != want {
			t.Errorf("the package comment of %s says Next: %q, want %q", room, got, want)
		}
	}
	if got := len(next); got != len(rooms)-1 {
		t.Errorf("%d packages name a next room, want %d: %v", got, len(rooms)-1, next)
	}
}

// place returns the longest known prefix of a path in the module.
func place(rel string) (best string) {
	for _, set := range [][]string{walk(), sides(), roots(), words()} {
		for _, s := range set {
			if (rel == s || strings.HasPrefix(rel, s+"/")) && len(s) > len(best) {
				best = s
			}
		}
	}
	return best
}
