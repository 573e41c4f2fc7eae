// Package programs gives tests the three programs to start.
package programs

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
)

// packages are what each program is built from.
func packages() map[string]string {
	return map[string]string{
		"plantmesh":      "plantmesh/cloud/cmd/plantmesh",
		"plantmesh-edge": "plantmesh/edge/cmd/plantmesh-edge",
		"firmware-sim":   "plantmesh/firmware-sim/cmd/firmware-sim",
	}
}

// Into puts programs into a folder: those of the folder PLANTMESH_BIN, which `make test`
// has just built, or else it builds them as `make build` does.
func Into(ctx context.Context, dir string, names ...string) error {
	if bin := os.Getenv("PLANTMESH_BIN"); bin != "" {
		for _, name := range names {
			if err := copied(filepath.Join(bin, name), filepath.Join(dir, name)); err != nil {
				return fmt.Errorf("take a program from PLANTMESH_BIN: %w", err)
			}
		}
		return nil
	}
	args := []string{"build", "-trimpath", "-ldflags", "-s -w", "-o", dir + string(filepath.Separator)}
	for _, name := range names {
		args = append(args, packages()[name])
	}
	cmd := exec.CommandContext(ctx, "go", args...) //nolint:gosec // the packages above
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if said, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build the programs: %w\n%s", err, said)
	}
	return nil
}

func copied(from, to string) error {
	if os.Link(from, to) == nil {
		return nil
	}
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()                                                      //nolint:errcheck // it was only read
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY|os.O_EXCL, 0o700) //nolint:gosec // a program is run
	if err != nil {
		return err
	}
	if _, err := io.Copy(out, in); err != nil {
		_ = out.Close() // the copy has failed already
		return err
	}
	return out.Close()
}
