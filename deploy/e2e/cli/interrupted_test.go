package cli

import (
	"net"
	"strings"
	"testing"
	"time"
)

// Ctrl-C is no success: a script that goes on behind && must not take it for one.
func TestInterrupted_IsNoSuccess(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	called := make(chan net.Conn, 1)
	go func() {
		if c, err := l.Accept(); err == nil {
			called <- c // and no answer
		}
	}()
	p := begin(t, t.TempDir(), nil, "plantmesh-edge", "browse", "--endpoints", "opc.tcp://"+l.Addr().String())
	select {
	case c := <-called:
		defer c.Close()
	case <-time.After(20 * time.Second):
		t.Fatal("it does not call")
	}
	p.signal(interrupt)
	if code := p.ends(10 * time.Second); code != 8 || !strings.Contains(p.err.String(), "[interrupted]") {
		t.Errorf("it ended with %d: %s", code, p.err.String())
	}
}
