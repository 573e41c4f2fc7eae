package house

import (
	"go/ast"
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
	b, err := os.ReadFile(filepath.Join("..", "..", "Makefile"))
	if err != nil {
		t.Fatal(err)
	}
	var listed, want []string
	for line := range strings.Lines(string(b)) {
		if of, ok := strings.CutPrefix(line, "WHOLE := "); ok {
			listed = strings.Fields(of)
		}
	}
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
