package sparkplug

import (
	"io"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"plantmesh/firmware-sim/plant"
)

// idler is somebody who wants everything and reads nothing.
func idler(t *testing.T, s *Server) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", s.address)
	if err != nil {
		t.Fatal(err)
	}
	hello := []byte{0x10, 16, 0, 4, 'M', 'Q', 'T', 'T', 4, 2, 0, 0, 0, 4, 's', 'l', 'o', 'w', 0x82, 6, 0, 1, 0, 1, '#', 0}
	if _, err := conn.Write(hello); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(conn, make([]byte, 4+5)); err != nil { // CONNACK and SUBACK
		t.Fatal(err)
	}
	return conn
}

// wordy is an emission of a kilobyte: few of them fill what TCP keeps.
func wordy(i int) plant.Emission {
	at := start.Add(time.Duration(i) * time.Second)
	return plant.Emission{Source: src, Signal: "line3.filler.order", Time: at, Emitted: at, Value: plant.Value{Type: plant.String, S: strings.Repeat("x", 1<<10)}}
}

// narrow is a server whose broker has little room.
func narrow(t *testing.T) (*Server, *broker) {
	t.Helper()
	b, err := listen("127.0.0.1:0", room{behind: 100, pending: 200, stuckAfter: time.Second}, slog.New(slog.NewTextHandler(t.Output(), nil)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.close)
	s, _ := serve(t, Config{Broker: "mqtt://" + b.address})
	return s, b
}

// TestBroker_WaitsForASlowSubscriber: the own broker throws nothing away while a
// subscriber goes on reading.
func TestBroker_WaitsForASlowSubscriber(t *testing.T) {
	t.Parallel()
	s, b := narrow(t)
	conn := idler(t, s)
	defer conn.Close()
	s.Prove(start)
	const n = 10_000
	for i := range n {
		s.Push(wordy(i))
	}
	s.Prove(start.Add(n * time.Second))
	eventually(t, "the brake is on", func() bool {
		b.mu.Lock()
		defer b.mu.Unlock()
		for _, d := range b.owed {
			if d.messages == b.room.behind {
				return true
			}
		}
		return false
	})
	if s.Waiting() == 0 {
		t.Error("nothing waits for the subscriber")
	}
	done := make(chan struct{})
	go func() { defer close(done); _, _ = io.Copy(io.Discard, conn) }()
	eventually(t, "the broker has all", func() bool { return s.Waiting() == 0 })
	if b.dropped.Load() != 0 {
		t.Errorf("%d messages thrown away", b.dropped.Load())
	}
	conn.Close()
	<-done
}

// TestBroker_DoesNotWaitForTheStuck: whoever takes nothing at all does not stop
// the plant.
func TestBroker_DoesNotWaitForTheStuck(t *testing.T) {
	t.Parallel()
	s, b := narrow(t)
	defer idler(t, s).Close()
	s.Prove(start)
	const n = 10_000
	for i := range n {
		s.Push(wordy(i))
	}
	s.Prove(start.Add(n * time.Second))
	eventually(t, "the broker has all", func() bool { return s.Waiting() == 0 })
	if b.dropped.Load() == 0 {
		t.Error("nothing was thrown away: this test shows nothing")
	}
}
