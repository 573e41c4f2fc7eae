package hop

import (
	"errors"
	"sync"

	"plantmesh/proto/meshtest"
)

// errBroken is what a transaction is made to fail with.
var errBroken = errors.New("the disk says no")

// takes are the transactions of one reader, which fail or wait on command. Safe
// for concurrent use.
type takes struct {
	mu      sync.Mutex // protects what follows
	armed   []meshtest.Fault
	held    chan struct{} // closed when they go on; nil: none waits
	waiting int
	refused int // failed by themselves
	ended   int
}

// fail has the next transaction fail.
func (k *takes) fail(f meshtest.Fault) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.armed = append(k.armed, f)
}

// hold has all transactions wait before they begin, until the function it gives
// is called.
func (k *takes) hold() (release func()) {
	k.mu.Lock()
	defer k.mu.Unlock()
	held := make(chan struct{})
	k.held = held
	return sync.OnceFunc(func() {
		k.mu.Lock()
		defer k.mu.Unlock()
		k.held = nil
		close(held)
	})
}

func (k *takes) do(tx func() error) error {
	k.mu.Lock()
	f, held := meshtest.Fault(""), k.held
	if len(k.armed) > 0 {
		f, k.armed = k.armed[0], k.armed[1:]
	}
	if held != nil {
		k.waiting++
	}
	k.mu.Unlock()
	if held != nil {
		<-held
	}
	var err error
	if f != meshtest.CommitRefused {
		err = tx()
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.ended++
	if err != nil {
		k.refused++
	} else if f != "" {
		err = errBroken
	}
	return err
}

// counts are how many transactions wait or waited, were refused, and how many
// faults struck nothing yet.
func (k *takes) counts() (waiting, refused, unmet int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.waiting, k.refused, len(k.armed)
}

// busy is how many transactions ended.
func (k *takes) busy() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.ended
}
