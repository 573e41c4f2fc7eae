//go:build amd64 || arm64 || arm

package channel

import (
	"io"
	"net"
	"os"
	"syscall"
	"unsafe"
)

// quieten reads and writes the socket past the runtime's account of system calls.
//
// Go's monitor thread sleeps while a program idles, and each counted system call wakes
// it: then it looks around every 20 microseconds until the program idles again. A
// reader idles before every message, so that this took a seventh of its processor time
// at full speed, and a fifth where messages are rare. The account is for calls that
// may block; these never do (MSG_DONTWAIT), and where there is nothing to read or no
// room to write, the wait is the runtime's own, with its deadlines.
func quieten(conn net.Conn) net.Conn {
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		return conn
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return conn
	}
	q := &quiet{TCPConn: tcp, raw: raw}
	q.in.call, q.out.call = q.in.receive, q.out.send
	return q
}

// quiet is a connection of which one goroutine reads and one at a time writes.
type quiet struct {
	*net.TCPConn

	raw     syscall.RawConn
	in, out transfer
}

// transfer is one call under way; it is kept, so that a call takes no memory.
type transfer struct {
	b    []byte
	n    int
	err  syscall.Errno
	call func(fd uintptr) bool
}

func (t *transfer) receive(fd uintptr) bool { return t.try(syscall.SYS_RECVFROM, fd, 0) }

// send asks for no SIGPIPE, as the runtime's own writes have none.
func (t *transfer) send(fd uintptr) bool {
	return t.try(syscall.SYS_SENDTO, fd, syscall.MSG_NOSIGNAL)
}

// try makes the call and reports whether it is done with; else the runtime waits until
// the socket is ready.
func (t *transfer) try(trap, fd, flags uintptr) bool {
	for {
		n, _, err := syscall.RawSyscall6(trap, fd, uintptr(unsafe.Pointer(&t.b[0])), uintptr(len(t.b)), flags|syscall.MSG_DONTWAIT, 0, 0) //nolint:gosec // t.b is the caller's and not empty
		switch err {
		case 0:
			t.n, t.err = int(n), 0
			return true
		case syscall.EINTR:
		case syscall.EAGAIN:
			return false
		default:
			t.n, t.err = 0, err
			return true
		}
	}
}

// Read implements net.Conn.
func (q *quiet) Read(b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	q.in.b = b
	err := q.raw.Read(q.in.call)
	q.in.b = nil
	switch {
	case err != nil:
		return 0, err //nolint:wrapcheck // it is net's own
	case q.in.err != 0:
		return 0, &net.OpError{Op: "read", Net: "tcp", Source: q.LocalAddr(), Addr: q.RemoteAddr(), Err: os.NewSyscallError("recvfrom", q.in.err)}
	case q.in.n == 0:
		return 0, io.EOF
	}
	return q.in.n, nil
}

// Write implements net.Conn.
func (q *quiet) Write(b []byte) (n int, err error) {
	for n < len(b) {
		q.out.b = b[n:]
		err := q.raw.Write(q.out.call)
		q.out.b = nil
		switch {
		case err != nil:
			return n, err //nolint:wrapcheck // it is net's own
		case q.out.err != 0:
			return n, &net.OpError{Op: "write", Net: "tcp", Source: q.LocalAddr(), Addr: q.RemoteAddr(), Err: os.NewSyscallError("sendto", q.out.err)}
		}
		n += q.out.n
	}
	return n, nil
}
