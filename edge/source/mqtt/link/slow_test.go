package link

import (
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// A large message over a slow line takes minutes; the broker hears of us meanwhile. It
// would end the connection else, and begin the message again for ever.
func TestLink_PingsWhileALargeMessageComes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ours, theirs := net.Pipe()
		defer ours.Close()
		defer theirs.Close()
		last, longest := time.Now(), time.Duration(0)
		done := make(chan struct{})
		go func() {
			defer close(done)
			for b := make([]byte, 2); ; {
				if _, err := io.ReadFull(theirs, b); err != nil {
					return
				}
				longest, last = max(longest, time.Since(last)), time.Now()
			}
		}()
		body := "\x00\x01t\x00\x07\x00" + strings.Repeat("x", 600<<10)
		go func() {
			all := sized(0x32, len(body)) + body
			for len(all) > 0 {
				<-time.After(500 * time.Millisecond) // 64 kbit/s
				n := min(4<<10, len(all))
				if _, err := theirs.Write([]byte(all[:n])); err != nil {
					return
				}
				all = all[n:]
			}
		}()
		l := &Link{conn: ours, in: newInbox(ours, 1<<20), wrote: time.Now()}
		l.in.ping = func() error { return l.pingAt(l.silence()) }
		var p Packet
		if kind, err := l.Next(&p); err != nil || kind != Published || len(p.Payload) != 600<<10 {
			t.Fatal(kind, err)
		}
		theirs.Close()
		<-done
		if longest = max(longest, time.Since(last)); longest > KeepAlive {
			t.Errorf("the broker heard nothing for %v", longest)
		}
	})
}

// A broker that wants to hear of us more often does.
func TestLink_TheBrokersKeepAliveGoesFirst(t *testing.T) {
	l, _, err := Dial(t.Context(), evil(t, "\x20\x06\x00\x00\x03\x13\x00\x06"), Hello{ClientID: "c"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if l.silence() != 2*time.Second {
		t.Errorf("a ping after %v, the broker wants one in 6 s", l.silence())
	}
}

func TestLink_AnotherClientWithOurID(t *testing.T) {
	l, _, err := Dial(t.Context(), evil(t, connack+"\xe0\x02\x8e\x00"), Hello{ClientID: "c"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	var p Packet
	if _, err := l.Next(&p); !errors.Is(err, ErrTaken) {
		t.Errorf("error %v", err)
	}
}
