package wire

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// A reader written from DESIGN.md in another language reads the golden files
// as Go does.
func TestGolden_IsReadByJavaScript(t *testing.T) {
	skip := func(why string) {
		t.Helper()
		if slices.Contains(strings.Split(os.Getenv("PLANTMESH_REQUIRE"), ","), "interop") {
			t.Fatal(why)
		}
		t.Skip(why)
	}
	for _, p := range []string{"node", "npm"} {
		if _, err := exec.LookPath(p); err != nil {
			skip("no " + p + " here to run the JavaScript reader: install Node.js")
		}
	}
	dir := t.TempDir()
	for _, name := range []string{"package.json", "package-lock.json", "read.mjs", "check.mjs"} {
		b, err := os.ReadFile(filepath.Join("js", name))
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, name), b, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	install := exec.CommandContext(t.Context(), "npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts")
	install.Dir = dir
	if out, err := install.CombinedOutput(); err != nil {
		skip("npm can't install what the JavaScript reader needs: " + string(out))
	}
	golden, err := filepath.Abs(filepath.Join("testdata", "v2"))
	if err != nil {
		t.Fatal(err)
	}
	check := exec.CommandContext(t.Context(), "node", "check.mjs", golden)
	check.Dir = dir
	out, err := check.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	t.Log(strings.TrimSpace(string(out)))
}
