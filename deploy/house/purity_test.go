package house

import (
	"fmt"
	"go/ast"
	"go/printer"
	"go/token"
	"slices"
	"strings"
	"testing"
)

// TestOnlyRootsStartGoroutines keeps ownership visible: a room that needs
// company uses an errgroup and waits for it in the same function. A WaitGroup
// carries no error and a timer's function has no owner: both are for roots.
func TestOnlyRootsStartGoroutines(t *testing.T) {
	for _, p := range list(t) {
		if slices.Contains(roots(), place(p.rel)) {
			continue
		}
		for _, f := range p.files {
			if f.test {
				continue
			}
			for _, d := range f.ast.Decls {
				for _, what := range unowned(f, d) {
					t.Error(what)
				}
			}
		}
	}
}

// unowned is what a declaration starts and does not wait for.
func unowned(f file, d ast.Decl) (out []string) {
	waits := map[string]bool{}
	starts := map[string]token.Position{}
	ast.Inspect(d, func(n ast.Node) bool {
		if g, ok := n.(*ast.GoStmt); ok {
			out = append(out, fmt.Sprintf("%s: go statement outside a root", f.at(g)))
		}
		if name, ok := f.calls(n); ok && (name == "time.AfterFunc" || name == "sync.WaitGroup") {
			out = append(out, fmt.Sprintf("%s: %s outside a root", f.at(n), name))
		}
		c, ok := n.(*ast.CallExpr)
		if !ok {
			return true
		}
		if s, ok := c.Fun.(*ast.SelectorExpr); ok {
			switch s.Sel.Name {
			case "Go", "TryGo":
				starts[text(s.X)] = f.at(c)
			case "Wait":
				waits[text(s.X)] = true
			}
		}
		return true
	})
	for group, at := range starts {
		if !waits[group] {
			out = append(out, fmt.Sprintf("%s: %s.Go, and nobody waits for it in the same function", at, group))
		}
	}
	return out
}

// text is an expression as it is written.
func text(e ast.Expr) string {
	var b strings.Builder
	if err := printer.Fprint(&b, token.NewFileSet(), e); err != nil {
		return fmt.Sprint(e)
	}
	return b.String()
}

// pure says whether a package takes inputs and returns values. A runner drives
// a pure room from outside.
func pure(rel string) bool {
	if rel == "cloud/product/runner" {
		return false
	}
	return slices.ContainsFunc([]string{"edge/quality", "cloud/product", "cloud/governance", "proto/mesh", "proto/subject"}, func(room string) bool {
		return rel == room || strings.HasPrefix(rel, room+"/")
	})
}

// impure are packages, with all below them, that a pure room never imports:
// what reads, writes, waits, tells the time or throws dice.
func impure() []string {
	return []string{
		"os", "net", "io/fs", "io/ioutil", "log", "math/rand", "sync", "context", "database", "syscall", "unsafe", "runtime", "plugin",
		"path/filepath", "golang.org/x/sync", "golang.org/x/sys", module + "proto/clock",
	}
}

// readings are what a pure room may use of proto/strict: the types that its
// configuration is declared with, and the reading of bytes it was given. Load
// and Env read files and the environment: roots do that (proto/DESIGN.md).
func readings() []string {
	return []string{"Doc", "Fault", "Duration", "Size", "Parse", "Nearest", "At", "Under", "Unreadable"}
}

// TestPureRoomsStayPure: inputs in, values out.
func TestPureRoomsStayPure(t *testing.T) {
	clocks := []string{"Now", "Since", "Until", "After", "AfterFunc", "NewTimer", "NewTicker", "Tick", "Sleep", "Timer", "Ticker", "Local"}
	seen := 0
	for _, p := range list(t) {
		if !pure(p.rel) {
			continue
		}
		seen++
		for _, imp := range p.imports(false) {
			if slices.ContainsFunc(impure(), func(no string) bool { return imp == no || strings.HasPrefix(imp, no+"/") }) {
				t.Errorf("%s imports %s: a pure room takes inputs and returns values", p.rel, imp)
			}
		}
		for _, f := range p.files {
			if f.test {
				continue
			}
			if f.names["."] != "" {
				t.Errorf("%s/%s imports %s as if it were its own: what it uses can't be seen", p.rel, f.name, f.names["."])
			}
			ast.Inspect(f.ast, func(n ast.Node) bool {
				switch name, _ := f.calls(n); {
				case strings.HasPrefix(name, "time.") && slices.Contains(clocks, strings.TrimPrefix(name, "time.")):
					t.Errorf("%s: %s in a pure room", f.at(n), name)
				case strings.HasPrefix(name, module+"proto/strict.") && !slices.Contains(readings(), strings.TrimPrefix(name, module+"proto/strict.")):
					t.Errorf("%s: %s in a pure room: it is given bytes, it opens nothing", f.at(n), name)
				}
				return true
			})
		}
	}
	if seen < 4 {
		t.Errorf("only %d pure rooms were looked at", seen)
	}
}
