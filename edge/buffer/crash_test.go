package buffer

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"plantmesh/proto/mesh"
)

const crashDir = "PLANTMESH_TEST_CRASH_DIR"

// TestBuffer_KillNine kills a process that appends, at moments nobody chose,
// and demands every position it was given.
func TestBuffer_KillNine(t *testing.T) {
	if dir := os.Getenv(crashDir); dir != "" {
		appendForEver(t, dir)
		return
	}
	exe, err := os.Executable()
	check(t, err)
	dir, confirmed := t.TempDir(), map[string]bool{}
	rounds := 8
	if testing.Short() {
		rounds = 2
	}
	for round := range rounds {
		cmd := exec.Command(exe, "-test.run=^TestBuffer_KillNine$")
		cmd.Env = append(os.Environ(), crashDir+"="+dir)
		out, err := cmd.StdoutPipe()
		check(t, err)
		check(t, cmd.Start())
		lines, n := bufio.NewScanner(out), 0
		for lines.Scan() {
			if p, ok := strings.CutPrefix(lines.Text(), "at "); ok {
				confirmed[p] = true
				n++
			}
			if n == 20+round*13 {
				check(t, cmd.Process.Kill())
			}
		}
		if err := cmd.Wait(); err == nil || n < 20 {
			t.Fatalf("round %d: the child ended by itself after %d appends: %v", round, n, err)
		}
	}
	b := mustOpen(t, testConfig(dir))
	rs := all(t, b)
	got := positions(t, rs)
	for p := range got {
		delete(confirmed, p.String())
	}
	if len(confirmed) > 0 {
		t.Errorf("%d confirmed positions are lost", len(confirmed))
	}
	if v := voidsOf(t, rs); len(v) > 0 {
		t.Errorf("voids %+v", v)
	}
	if a := account(t, rs); a.Set.Through != b.End() {
		t.Errorf("contiguous through %s, want %s", a.Set.Through, b.End())
	}
}

func appendForEver(t *testing.T, dir string) {
	t.Helper()
	cfg := testConfig(dir)
	cfg.MaxBytes, cfg.SegmentBytes = 1<<30, 1<<20
	b := mustOpen(t, cfg)
	for i := mesh.Nanos(0); ; i++ {
		if _, err := fmt.Fprintln(os.Stdout, "at", mustAppend(t, b, offer(t, "a", i*1000, 900)).String()); err != nil {
			return
		}
	}
}
