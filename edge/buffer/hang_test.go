package buffer

import (
	"encoding/binary"
	"os"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"plantmesh/proto/mesh"
)

// hurtActive makes the last page of the records' tree neither branch nor leaf,
// behind the back of the buffer, as a bad block read again does.
func hurtActive(t *testing.T, b *Buffer) {
	t.Helper()
	s := b.active.(*boltSegment)
	var id uint64
	check(t, s.db.View(func(x *bbolt.Tx) error {
		id = uint64(x.Bucket([]byte(spaceRecord)).Root())
		return nil
	}))
	f, err := os.OpenFile(b.disk.(folder).path(b.pieces[len(b.pieces)-1].name), os.O_RDWR, 0)
	check(t, err)
	var flags [2]byte
	binary.NativeEndian.PutUint16(flags[:], 0x40)
	_, err = f.WriteAt(flags[:], int64(id)*pageBytes+8)
	check(t, err)
	check(t, f.Close())
}

func within(t *testing.T, what string, do func()) {
	t.Helper()
	done := make(chan struct{})
	go func() { do(); close(done) }()
	select {
	case <-done:
	case <-time.After(10 * time.Second):
		t.Fatalf("%s hangs", what)
	}
}

func broken(t *testing.T) *Buffer {
	t.Helper()
	b, err := Open(testConfig(quickDir(t)), quiet())
	check(t, err)
	for i := range 20 {
		mustAppend(t, b, offer(t, "a", mesh.Nanos(i+1)*1000, 400))
	}
	hurtActive(t, b)
	mustAppend(t, b, offer(t, "a", 1<<40, 400))
	return b
}

func TestBuffer_CloseAfterDamagedCommit(t *testing.T) {
	b := broken(t)
	within(t, "Close", func() { t.Log(b.Close()) })
}

func TestBuffer_AckAfterDamagedCommit(t *testing.T) {
	b := broken(t)
	end := b.End()
	within(t, "Ack", func() {
		_, err := b.Ack(mesh.Receipt{Have: mesh.Set{Through: end}})
		t.Log(err)
	})
	within(t, "Append", func() { mustAppend(t, b, offer(t, "a", 1<<41, 400)) })
}

func TestBuffer_PeekAfterDamagedCommit(t *testing.T) {
	b := broken(t)
	for i := range 400 {
		mustAppend(t, b, offer(t, "a", 1<<41+mesh.Nanos(i)*1000, 2000))
	}
	within(t, "Peek", func() { t.Log(len(all(t, b))) })
	within(t, "Append", func() { mustAppend(t, b, offer(t, "a", 1<<42, 400)) })
}
