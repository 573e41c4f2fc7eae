package buffer

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"plantmesh/proto/mesh"
)

// waiting lets appends pile up while the disk is busy, then lets them go.
func waiting(t *testing.T, b *Buffer, appends ...func()) {
	t.Helper()
	var all sync.WaitGroup
	b.writing.Lock()
	for i, do := range appends {
		all.Go(do)
		for n := 0; n <= i; { // until it stands in the queue, behind those before it
			b.queue.mu.Lock()
			n = len(b.queue.waiters)
			b.queue.mu.Unlock()
		}
	}
	b.writing.Unlock()
	all.Wait()
}

// TestBuffer_AppendsThatWaitShareACommit: eight sources, one pair of syncs, in
// the order in which they came.
func TestBuffer_AppendsThatWaitShareACommit(t *testing.T) {
	t.Parallel()
	b := mustOpen(t, testConfig(quickDir(t)))
	before := b.Stats().Commits
	end := b.End()
	got := make([][]mesh.Position, 8)
	var appends []func()
	for i := range got {
		source := fmt.Sprintf("s%d", i)
		o := []mesh.Offer{offer(t, source, mesh.Nanos(i)*1000, 10), {Source: "@proof/" + source, State: []byte("p")}}
		appends = append(appends, func() {
			at, err := b.Append(t.Context(), o)
			if err != nil {
				t.Error(err)
			}
			got[i] = at
		})
	}
	waiting(t, b, appends...)
	for i, at := range got {
		want := mesh.Position{Log: testLog, Epoch: end.Epoch, Seq: end.Seq + uint64(i) + 1}
		if len(at) != 2 || at[0] != want || at[1] != want {
			t.Errorf("append %d stands at %v, want %s", i, at, want)
		}
		if s, err := b.State(fmt.Sprintf("@proof/s%d", i)); err != nil || string(s) != "p" {
			t.Errorf("append %d left the state %q, %v", i, s, err)
		}
	}
	now := b.Stats().Commits
	if n := now.Count - before.Count; n != 1 {
		t.Errorf("%d commits, want 1", n)
	}
	if n := now.Sources["s3"]; n != (SourceCount{Windows: 1, Values: 10}) || len(now.Sources) != 8 {
		t.Errorf("counted %+v", now.Sources)
	}
	if now.Written-before.Written < now.Payload-before.Payload || now.Took <= before.Took {
		t.Errorf("counted %+v", now)
	}
}

// TestBuffer_GroupTellsEachItsOwn: who gave up gets its own error and takes
// nothing from the others; what all together have no room for is tried alone.
func TestBuffer_GroupTellsEachItsOwn(t *testing.T) {
	t.Parallel()
	b := mustOpen(t, testConfig(quickDir(t)))
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	var at []mesh.Position
	waiting(t, b, func() {
		if _, err := b.Append(gone, []mesh.Offer{offer(t, "a", 1, 5)}); !errors.Is(err, context.Canceled) {
			t.Errorf("who gave up is told %v", err)
		}
	}, func() {
		var err error
		if at, err = b.Append(t.Context(), []mesh.Offer{offer(t, "b", 1, 5)}); err != nil {
			t.Error(err)
		}
	})
	if rs := positions(t, all(t, b)); len(rs) != 1 || len(at) != 1 || !rs[at[0]] {
		t.Errorf("batches %v, told %v", rs, at)
	}

	b.writing.Lock()
	b.free, b.minFree = func() (int64, error) { return 100 << 10, nil }, 50<<10
	b.writing.Unlock()
	const many = 6
	told := make([]error, many)
	var appends []func()
	for i := range told {
		n := 100
		if i == many/2 {
			n = 9000 // 8 bytes each: more than is free
		}
		o := offer(t, fmt.Sprintf("s%d", i), 1<<40+mesh.Nanos(i), n)
		appends = append(appends, func() { _, told[i] = b.Append(t.Context(), []mesh.Offer{o}) })
	}
	waiting(t, b, appends...)
	for i, err := range told {
		if (i == many/2) != errors.Is(err, ErrFull) || i != many/2 && err != nil {
			t.Errorf("append %d is told %v", i, err)
		}
	}
}

// TestBuffer_ClosedTellsAllWhoWait: nobody is left waiting.
func TestBuffer_ClosedTellsAllWhoWait(t *testing.T) {
	t.Parallel()
	b := mustOpen(t, testConfig(quickDir(t)))
	b.writing.Lock()
	b.mu.Lock()
	b.closed = true
	b.mu.Unlock()
	b.writing.Unlock()
	closed := func() {
		if _, err := b.Append(t.Context(), []mesh.Offer{offer(t, "a", 1, 5)}); !errors.Is(err, ErrClosed) {
			t.Errorf("told %v", err)
		}
	}
	waiting(t, b, closed, closed, closed)
}
