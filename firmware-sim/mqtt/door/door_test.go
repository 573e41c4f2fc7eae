package door

import (
	"io"
	"log/slog"
	"net"
	"sync"
	"testing"

	mochi "github.com/mochi-mqtt/server/v2"
)

func broker(t *testing.T) (*mochi.Server, *Door) {
	t.Helper()
	b := mochi.New(&mochi.Options{Logger: slog.New(slog.DiscardHandler)})
	d, err := Open("127.0.0.1:0", b)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.AddListener(d); err != nil {
		t.Fatal(err)
	}
	return b, d
}

// Clients come while the broker is closed, and never say who they are: with mochi's own
// listener the broker does not end.
func TestDoor_ClosesBesideWhoComes(t *testing.T) {
	for range 50 {
		b, d := broker(t)
		if err := b.Serve(); err != nil {
			t.Fatal(err)
		}
		var callers sync.WaitGroup
		for range 4 {
			callers.Go(func() {
				c, err := net.Dial("tcp", d.Address())
				if err != nil {
					return // it was closed before
				}
				_, _ = c.Write([]byte{1 << 4}) // the kernel resets whom nobody accepted only once they say something
				_, _ = io.ReadAll(c)           // until it hangs up
				_ = c.Close()                  // it is gone
			})
		}
		if err := b.Close(); err != nil {
			t.Error(err)
		}
		callers.Wait()
		if len(d.inside) > 0 {
			t.Fatalf("%d connections are left", len(d.inside))
		}
	}
}

// A broker that is closed before it serves ends too, and so does what it begins then.
func TestDoor_ClosedBeforeItServes(t *testing.T) {
	b, d := broker(t)
	if err := b.Close(); err != nil {
		t.Error(err)
	}
	d.Serve(nil)
	if _, err := net.Dial("tcp", d.Address()); err == nil {
		t.Error("somebody comes in")
	}
}
