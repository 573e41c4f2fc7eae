package opcua

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
)

// built is the folder of what this suite builds; TestMain takes it away.
var built string

func TestMain(m *testing.M) {
	flag.Parse()
	if testing.Short() {
		fmt.Fprintln(os.Stderr, "skipped: servers that others wrote are met without -short, and without the race detector")
		return
	}
	if !full() {
		if err := flag.Set("test.parallel", "4"); err != nil { // they wait for servers most of the time
			panic(err)
		}
	}
	os.Exit(withFolder(m.Run))
}

func withFolder(run func() int) int {
	dir, err := os.MkdirTemp("", "plantmesh opcua ")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	built = dir
	return run()
}

// build makes a program of a folder with a module of its own, or of a package.
func build(folder, pkg, name string) (string, error) {
	path := filepath.Join(built, name)
	cmd := exec.Command("go", "build", "-o", path, pkg)
	cmd.Dir, cmd.Env = folder, append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=-trimpath")
	said, err := cmd.CombinedOutput()
	if err != nil {
		err = &buildError{name, string(said)}
	}
	return path, err
}

type buildError struct{ name, said string }

func (e *buildError) Error() string { return "build " + e.name + ": " + e.said }

var buildAwcullen = sync.OnceValues(func() (string, error) { return build("awcullen", ".", "awcullen") })

// awcullen is the server in Go.
func awcullen(t *testing.T) *exec.Cmd {
	t.Helper()
	path, err := buildAwcullen()
	if err != nil {
		lacking(t, err.Error())
	}
	return exec.Command(path)
}
