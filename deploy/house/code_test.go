package house

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// file is one Go file as it stands, whatever it is built for: a build tag must
// not hide what it does from the law.
type file struct {
	name string // base name
	test bool
	fset *token.FileSet
	ast  *ast.File
	// names are the imports as this file calls them.
	names map[string]string
}

// pkg is one folder of Go files.
type pkg struct {
	rel   string // path in the module
	files []file
}

// imports are those of its files; of its tests where asked for.
func (p pkg) imports(test bool) (out []string) {
	for _, f := range p.files {
		if f.test != test {
			continue
		}
		for _, i := range f.ast.Imports {
			out = append(out, unquote(i.Path.Value))
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// calls reports the function of an imported package that n names, as "time.Now".
func (f file) calls(n ast.Node) (qualified string, ok bool) {
	s, ok := n.(*ast.SelectorExpr)
	if !ok {
		return "", false
	}
	x, ok := s.X.(*ast.Ident)
	if !ok || f.names[x.Name] == "" {
		return "", false
	}
	return f.names[x.Name] + "." + s.Sel.Name, true
}

func (f file) at(n ast.Node) token.Position { return f.fset.Position(n.Pos()) }

func unquote(s string) string {
	if u, err := strconv.Unquote(s); err == nil {
		return u
	}
	return s
}

// code is read once: the tests only look at it.
var code = sync.OnceValues(readCode)

func list(t *testing.T) []pkg {
	t.Helper()
	pkgs, err := code()
	if err != nil {
		t.Fatal(err)
	}
	if len(pkgs) < len(walk()) {
		t.Fatalf("only %d packages found", len(pkgs))
	}
	return pkgs
}

// readCode reads every Go file of the module. Folders with a go.mod of their
// own, testdata and hidden ones are not part of it.
func readCode() (pkgs []pkg, err error) {
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}").Output()
	if err != nil {
		return nil, fmt.Errorf("go list: %w", err)
	}
	root := strings.TrimSpace(string(out))
	found := map[string]*pkg{}
	err = filepath.WalkDir(root, func(at string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, at)
		if err != nil {
			return err
		}
		if d.IsDir() {
			if rel != "." && foreign(at, d.Name()) {
				return filepath.SkipDir
			}
			return nil
		}
		if filepath.Ext(at) != ".go" {
			return nil
		}
		f, err := parse(at)
		if err != nil {
			return err
		}
		dir := filepath.ToSlash(filepath.Dir(rel))
		if found[dir] == nil {
			found[dir] = &pkg{rel: dir}
		}
		found[dir].files = append(found[dir].files, f)
		return nil
	})
	for _, p := range found {
		pkgs = append(pkgs, *p)
	}
	slices.SortFunc(pkgs, func(a, b pkg) int { return strings.Compare(a.rel, b.rel) })
	return pkgs, err
}

// foreign says whether a folder holds no code of this module.
func foreign(at, name string) bool {
	_, err := os.Stat(filepath.Join(at, "go.mod"))
	return err == nil || name == "testdata" || name == "node_modules" || strings.HasPrefix(name, ".") || strings.HasPrefix(name, "_")
}

func parse(at string) (file, error) {
	f := file{name: filepath.Base(at), test: strings.HasSuffix(at, "_test.go"), fset: token.NewFileSet(), names: map[string]string{}}
	var err error
	f.ast, err = parser.ParseFile(f.fset, at, nil, parser.SkipObjectResolution|parser.ParseComments)
	if err != nil {
		return f, err
	}
	for _, i := range f.ast.Imports {
		to := unquote(i.Path.Value)
		name := path.Base(to)
		if i.Name != nil {
			name = i.Name.Name
		}
		f.names[name] = to
	}
	return f, nil
}

// inspect visits every node outside tests.
func inspect(t *testing.T, visit func(pkg, file, ast.Node)) {
	t.Helper()
	for _, p := range list(t) {
		for _, f := range p.files {
			if f.test {
				continue
			}
			ast.Inspect(f.ast, func(n ast.Node) bool {
				visit(p, f, n)
				return true
			})
		}
	}
}
