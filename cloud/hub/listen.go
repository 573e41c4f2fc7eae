package hub

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"syscall"
)

// ErrListen is returned when a listener can't be opened, whatever the cause.
var ErrListen = errors.New("the hub can't listen")

// listenOn opens a listener, and says in words why it can't.
func listenOn(ctx context.Context, listen string) (net.Listener, error) {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", listen)
	if err == nil {
		return l, nil
	}
	return nil, &listenError{listen, err}
}

// bounded has no more connections open than there is room for; others wait in the
// system's queue.
type bounded struct {
	net.Listener

	room chan struct{}
}

// Accept implements net.Listener.
func (b *bounded) Accept() (net.Conn, error) {
	b.room <- struct{}{}
	c, err := b.Listener.Accept()
	if err != nil {
		<-b.room
		return nil, err
	}
	return &counted{Conn: c, leave: sync.OnceFunc(func() { <-b.room })}, nil
}

// counted makes room when it closes.
type counted struct {
	net.Conn

	leave func()
}

// Close implements net.Conn.
func (c *counted) Close() error {
	defer c.leave()
	return c.Conn.Close()
}

// listenError is ErrListen, and what the system said.
type listenError struct {
	listen string
	cause  error
}

func (e *listenError) Error() string {
	return fmt.Sprintf("%v on %s: %s", ErrListen, e.listen, cannotListen(e.cause))
}

func (e *listenError) Unwrap() []error { return []error{ErrListen, e.cause} }

// cannotListen is the cause in words.
func cannotListen(err error) string {
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return "the address is in use by another program: stop it, or name another port in hub.yaml"
	case errors.Is(err, syscall.EACCES), errors.Is(err, syscall.EPERM):
		return "this user may not: name a port above 1023 in hub.yaml"
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return "this machine has no such address: name one it has in hub.yaml"
	}
	return err.Error()
}
