package opcua

import (
	"context"
	"runtime"
	"strings"
	"testing"
	"time"

	edgeua "plantmesh/edge/source/opcua"
	"plantmesh/proto/clock"
	"plantmesh/proto/mesh"
)

// drain is a source.Log that keeps nothing, so that memory is the reader's alone.
type drain struct {
	n    chan uint64
	sent uint64
	told chan string
}

func (d *drain) Append(_ context.Context, _ mesh.Offer) (uint64, error) {
	d.sent++
	select {
	case <-d.n:
	default:
	}
	d.n <- d.sent
	return d.sent, nil
}

func (d *drain) Committed(ctx context.Context, after uint64) (uint64, error) {
	for {
		select {
		case n := <-d.n:
			if n > after {
				return n, nil
			}
		case <-ctx.Done():
			return after, ctx.Err()
		}
	}
}

func (d *drain) Tell(text string) { d.told <- text }

// footprint is what the process holds after a collection.
func footprint() (heap uint64, goroutines int) {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc, runtime.NumGoroutine()
}

// TestCycles: a connection that breaks again and again costs no memory and leaves
// no goroutine behind. Half of the breaks end the session too.
func TestCycles(t *testing.T) {
	n := 100
	if full() {
		n = 1000
	}
	p := serve(t, 5, 100*time.Millisecond)
	g := newGateway(t, p, "cycles")
	r, err := edgeua.New(g.cfg, clock.Machine{}.Now, logger(t))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	log := &drain{n: make(chan uint64, 1), told: make(chan string, 1024)}
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx, nil, log) }()
	connected := func() {
		t.Helper()
		late := time.After(time.Minute)
		for {
			select {
			case said := <-log.told:
				if strings.HasPrefix(said, "connected") {
					return
				}
			case <-late:
				t.Fatal("it does not come back")
			}
		}
	}
	connected()
	began := time.Now()
	var heap uint64
	var goroutines int
	for i := range n {
		if i == n/10 {
			heap, goroutines = footprint()
		}
		if i%2 == 1 {
			p.tell(order{"do": "expire", "name": "cycles", "forget": i%4 == 3})
		} else {
			g.cable.Reset()
		}
		connected()
	}
	var now uint64
	var running int
	until(t, 10*time.Second, "the last connection's goroutines have ended", func() bool {
		now, running = footprint()
		return running <= goroutines
	})
	t.Logf("%d cycles in %s: heap %d KiB, then %d KiB; goroutines %d, then %d", n, time.Since(began).Round(time.Millisecond), heap>>10, now>>10, goroutines, running)
	if now > heap+heap/4+256<<10 {
		t.Errorf("the heap has grown from %d to %d bytes in %d cycles", heap, now, n)
	}
	cancel()
	if err := <-done; err == nil {
		t.Error("it ended by itself")
	}
}
