package buffer

import (
	"bytes"
	"os"
	"strconv"
	"testing"

	"plantmesh/proto/mesh"
)

// mapped is how much of segments in a folder this process is said to take.
func mapped(t *testing.T, dir string) (n int64) {
	t.Helper()
	b, err := os.ReadFile("/proc/self/smaps")
	if err != nil {
		t.Skip("skipped: this system does not say what a process takes")
	}
	ours := false
	for line := range bytes.Lines(b) {
		f := bytes.Fields(line)
		if len(f) > 4 && bytes.Contains(f[0], []byte("-")) {
			ours = bytes.Contains(line, []byte(dir))
		}
		if ours && len(f) == 3 && string(f[0]) == "Rss:" {
			k, err := strconv.ParseInt(string(f[1]), 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			n += k << 10
		}
	}
	return n
}

// What was read or written of the buffer is not counted as the agent's memory:
// a backlog is read once by the rules and once by each road.
func TestBuffer_TakesNoMemoryForWhatItRead(t *testing.T) {
	unwatched(t)
	dir := t.TempDir()
	b := mustOpen(t, Config{Dir: dir, Log: testLog, MaxBytes: 512 << 20, SegmentBytes: 8 << 20})
	const each = 64 << 10
	for i := range 240 { // 15 MiB: a segment that is filled, and one that grows
		mustAppend(t, b, offer(t, "s", mesh.Nanos(i)*each, each/8))
	}
	if n := b.Stats().Segments; n != 2 {
		t.Fatalf("%d segments", n)
	}
	most, records := mapped(t, dir), 0
	for after := (mesh.Position{}); ; {
		got, err := b.Peek(after, 256<<10)
		if err != nil {
			t.Fatal(err)
		}
		if len(got) == 0 {
			break
		}
		after = got[len(got)-1].At
		records += len(got)
		most = max(most, mapped(t, dir))
	}
	if records < 240 {
		t.Errorf("%d records were read", records)
	}
	if most > 1<<20 {
		t.Errorf("%d KiB of segments are mapped", most>>10)
	}
}
