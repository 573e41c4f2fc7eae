package buffer

import (
	"encoding/binary"
	"os"
	"os/exec"
	"runtime/debug"
	"testing"

	"go.etcd.io/bbolt"

	"plantmesh/proto/mesh"
)

// TestBuffer_PagesInACircleEndNoProcess: a wrong number of a child page makes a
// circle. The agent is started on it in a process of its own.
func TestBuffer_PagesInACircleEndNoProcess(t *testing.T) {
	unwatched(t)
	if dir := os.Getenv("PLANTMESH_BUFFER_DIR"); dir != "" {
		debug.SetMaxStack(64 << 20) // the default of 1 GiB only takes longer
		b, err := Open(testConfig(dir), quiet())
		t.Log("opened", err)
		if err == nil {
			check(t, b.Close())
		}
		return
	}
	dir := quickDir(t)
	b, err := Open(testConfig(dir), quiet())
	check(t, err)
	for i := range 600 {
		mustAppend(t, b, offer(t, "a", mesh.Nanos(i+1)*100000, 400))
	}
	check(t, b.Close())
	names := segments(t, dir)
	done := false
	for _, path := range names {
		db, err := bbolt.Open(path, 0o600, &bbolt.Options{ReadOnly: true})
		check(t, err)
		var root uint64
		check(t, db.View(func(x *bbolt.Tx) error { root = uint64(x.Bucket([]byte(spaceRecord)).Root()); return nil }))
		check(t, db.Close())
		file, err := os.ReadFile(path)
		check(t, err)
		p := file[root*pageBytes:][:pageBytes]
		if flagsOf(p) != branchFlag {
			continue
		}
		n := int(binary.NativeEndian.Uint16(p[10:]))
		for i := range n {
			at := p[pageHeader+16*i+8:]
			child := binary.NativeEndian.Uint64(at)
			if child != root {
				binary.NativeEndian.PutUint64(at, root)
				check(t, os.WriteFile(path, file, 0o600))
				done = true
				break
			}
		}
		if done {
			break
		}
	}
	if !done {
		t.Fatal("no segment has a branch")
	}
	c := exec.Command(os.Args[0], "-test.run=TestBuffer_PagesInACircleEndNoProcess", "-test.v")
	c.Env = append(os.Environ(), "PLANTMESH_BUFFER_DIR="+dir)
	out, err := c.CombinedOutput()
	if err != nil {
		t.Errorf("the process ended: %v\n%s", err, out[:min(len(out), 800)])
	}
}
