package proxy

import (
	"bytes"
	"errors"
	"io"
	"net"
	"sync"
	"syscall"
	"testing"
	"time"
)

// echo answers every byte with itself. It is told apart from the proxy by what
// it counts.
type echo struct {
	l    net.Listener
	mu   sync.Mutex
	took int
}

func newEcho(t *testing.T) *echo {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	e := &echo{l: l}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				b := make([]byte, 4<<10)
				for {
					n, err := c.Read(b)
					if err != nil {
						return
					}
					e.mu.Lock()
					e.took += n
					e.mu.Unlock()
					if _, err := c.Write(b[:n]); err != nil {
						return
					}
				}
			}()
		}
	}()
	return e
}

func (e *echo) count() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.took
}

func open(t *testing.T) (*Proxy, *echo) {
	t.Helper()
	e := newEcho(t)
	p, err := Listen(t.Context(), "127.0.0.1:0", e.l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() { defer close(done); p.Run(t.Context()) }()
	t.Cleanup(func() { <-done })
	return p, e
}

func dial(t *testing.T, p *Proxy) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", p.Addr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// ask sends text and reads as much; within bounds the wait.
func ask(c net.Conn, text string, within time.Duration) (string, error) {
	if _, err := c.Write([]byte(text)); err != nil {
		return "", err
	}
	b := make([]byte, len(text))
	c.SetReadDeadline(time.Now().Add(within))
	n, err := io.ReadFull(c, b)
	return string(b[:n]), err
}

func silent(err error) bool {
	e, ok := errors.AsType[net.Error](err)
	return ok && e.Timeout()
}

const (
	long  = 10 * time.Second
	short = 100 * time.Millisecond
)

func carries(t *testing.T, c net.Conn) {
	t.Helper()
	if got, err := ask(c, "hello", long); got != "hello" || err != nil {
		t.Fatalf("answer %q, %v", got, err)
	}
}

func TestCut_EndsConnectionsAndRefusesNewOnes(t *testing.T) {
	p, _ := open(t)
	c := dial(t, p)
	carries(t, c)
	p.Cut(true)
	if _, err := ask(c, "x", long); err == nil || silent(err) {
		t.Errorf("the connection goes on: %v", err)
	}
	if _, err := ask(dial(t, p), "x", long); err == nil || silent(err) {
		t.Errorf("a new connection is served: %v", err)
	}
	p.Cut(false)
	carries(t, dial(t, p))
}

func TestReset_IsHeardAsOne(t *testing.T) {
	p, _ := open(t)
	c := dial(t, p)
	carries(t, c)
	p.Reset()
	c.SetReadDeadline(time.Now().Add(long))
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the caller hears %v, want a reset", err)
	}
	carries(t, dial(t, p))
}

// Each way apart: what goes up arrives though nothing comes down.
func TestStall_HoldsOneWayAndGivesAllAfterwards(t *testing.T) {
	p, e := open(t)
	c := dial(t, p)
	p.Set(Down, Fault{Stall: true})
	if got, err := ask(c, "hello", short); got != "" || !silent(err) {
		t.Errorf("answer %q, %v", got, err)
	}
	if n := e.count(); n != len("hello") {
		t.Errorf("%d bytes went up", n)
	}
	p.Set(Down, Fault{})
	b := make([]byte, len("hello"))
	c.SetReadDeadline(time.Now().Add(long))
	if _, err := io.ReadFull(c, b); err != nil || string(b) != "hello" {
		t.Errorf("afterwards %q, %v", b, err)
	}
}

func TestSwallow_NeverMakesHalfAStream(t *testing.T) {
	p, e := open(t)
	c := dial(t, p)
	p.Set(Up, Fault{Swallow: true})
	if got, err := ask(c, "lost", short); got != "" || !silent(err) || e.count() != 0 {
		t.Errorf("answer %q, %v, %d bytes went up", got, err, e.count())
	}
	p.Set(Up, Fault{})
	if got, err := ask(c, "rest", long); err == nil || silent(err) || e.count() != 0 {
		t.Errorf("the rest went up without what is missing: %q, %v", got, err)
	}
}

// The other way goes on meanwhile.
func TestSwallow_IsOfOneWay(t *testing.T) {
	p, e := open(t)
	c := dial(t, p)
	p.Set(Down, Fault{Swallow: true})
	for range 2 {
		if got, err := ask(c, "hello", short); got != "" || !silent(err) {
			t.Errorf("answer %q, %v", got, err)
		}
	}
	if n := e.count(); n != 2*len("hello") {
		t.Errorf("%d bytes went up", n)
	}
}

func TestFreeze_LeavesOldConnectionsHalfOpen(t *testing.T) {
	p, e := open(t)
	c := dial(t, p)
	carries(t, c)
	p.Freeze()
	was := e.count()
	if got, err := ask(c, "x", short); got != "" || !silent(err) || e.count() != was {
		t.Errorf("answer %q, %v", got, err)
	}
	carries(t, dial(t, p))
}

func TestFlip_TurnsOneBit(t *testing.T) {
	p, _ := open(t)
	c := dial(t, p)
	p.Set(Up, Fault{Flip: 1})
	got, err := ask(c, "hello", long)
	if err != nil {
		t.Fatal(err)
	}
	bits := 0
	for i := range got {
		for x := got[i] ^ "hello"[i]; x != 0; x &= x - 1 {
			bits++
		}
	}
	if bits != 1 {
		t.Errorf("%q came: %d bits turned, want 1", got, bits)
	}
}

func TestRate_Slows(t *testing.T) {
	p, _ := open(t)
	c := dial(t, p)
	p.Set(Up, Fault{Rate: 10_000})
	began := time.Now()
	text := string(bytes.Repeat([]byte("x"), 5_000))
	if got, err := ask(c, text, long); got != text || err != nil {
		t.Fatalf("%d bytes came, %v", len(got), err)
	}
	if took := time.Since(began); took < 400*time.Millisecond {
		t.Errorf("5,000 bytes at 10,000 a second took %s", took)
	}
}

func TestHear_TellsWhatGetsThrough(t *testing.T) {
	p, _ := open(t)
	c := dial(t, p)
	var mu sync.Mutex
	var up, down []byte
	p.Hear(Up, func(b []byte) { mu.Lock(); up = append(up, b...); mu.Unlock() })
	p.Hear(Down, func(b []byte) { mu.Lock(); down = append(down, b...); mu.Unlock() })
	carries(t, c)
	mu.Lock()
	defer mu.Unlock()
	if string(up) != "hello" || string(down) != "hello" || p.Dials() != 1 {
		t.Errorf("heard %q up and %q down, %d dials", up, down, p.Dials())
	}
}
