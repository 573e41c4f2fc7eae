package house

import (
	"go/ast"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestMake_TestRunsEverythingWhole: `make test` lets the race detector see the
// short form of each test. Whoever has a short form must be on the Makefile's
// list of those that run whole without it.
func TestMake_TestRunsEverythingWhole(t *testing.T) {
	listed, want := makeList(t, "WHOLE"), []string(nil)
	for _, p := range list(t) {
		if slices.ContainsFunc(p.files, shortens) {
			want = append(want, "./"+p.rel)
		}
	}
	slices.Sort(listed) // there those that take longest stand first
	slices.Sort(want)
	if !slices.Equal(listed, want) {
		t.Errorf("WHOLE of the Makefile is %q, those with a short form are %q", listed, want)
	}
}

// makeList is a list of packages in the Makefile.
func makeList(t *testing.T, name string) []string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("..", "..", "Makefile"))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if of, ok := strings.CutPrefix(line, name+" := "); ok {
			return strings.Fields(of)
		}
	}
	t.Fatalf("the Makefile has no %s", name)
	return nil
}

// TestMake_WhatIsNotWatchedStartsNoGoroutine: `make test` leaves the race detector out
// where there is nothing for it to see.
func TestMake_WhatIsNotWatchedStartsNoGoroutine(t *testing.T) {
	pure := makeList(t, "PURE")
	found := 0
	for _, p := range list(t) {
		if !slices.Contains(pure, "./"+p.rel) {
			continue
		}
		found++
		if side(p.rel) == "deploy" {
			continue // a test that drives programs may wait for several
		}
		for _, f := range p.files {
			starts := slices.Contains(slices.Collect(maps.Values(f.names)), "golang.org/x/sync/errgroup")
			ast.Inspect(f.ast, func(n ast.Node) bool {
				_, goes := n.(*ast.GoStmt)
				starts = starts || goes
				return true
			})
			if starts && !f.test {
				t.Errorf("%s/%s starts goroutines: %s must not stand in PURE of the Makefile", p.rel, f.name, p.rel)
			}
		}
	}
	if found != len(pure) {
		t.Errorf("PURE of the Makefile names %d packages, %d of them are there", len(pure), found)
	}
}

// shortens reports whether a file of tests asks for -short, as rapid does too (it
// makes a fifth of its tries then), or for the race detector by a build tag.
func shortens(f file) (does bool) {
	if !f.test {
		return false
	}
	for _, c := range f.ast.Comments {
		does = does || c.Pos() < f.ast.Package && strings.HasPrefix(c.List[0].Text, "//go:build") && strings.Contains(c.List[0].Text, "race")
	}
	for _, imp := range f.ast.Imports {
		does = does || unquote(imp.Path.Value) == "pgregory.net/rapid"
	}
	ast.Inspect(f.ast, func(n ast.Node) bool {
		name, ok := f.calls(n)
		does = does || ok && name == "testing.Short"
		return true
	})
	return does
}
