package channel

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/url"
	"time"
)

const (
	// acknowledgeBytes is the length of an ACK message: head 8, five numbers (OPC
	// 10000-6 §7.1.2.4).
	acknowledgeBytes = 8 + 5*4
	// faultBytes is the longest ERR message: head 8, code 4, a text of at most 4096
	// (§7.1.2.5).
	faultBytes = 8 + 4 + 4 + 4096
	// protocolVersion is that of all of OPC 10000-6 so far.
	protocolVersion = 0
	// usualPort stands where an endpoint names none (OPC 10000-6 §7.2).
	usualPort = "4840"
)

// sizes are what the server takes and sends (OPC 10000-6 §7.1.2.4).
type sizes struct {
	version, receive, send, message, chunks uint32
}

// connect makes the connection and agrees on sizes.
func (c *Channel) connect(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.DialTimeout)
	defer cancel()
	u, err := url.Parse(c.cfg.Endpoint)
	if err != nil {
		return fmt.Errorf("dial %.200q: %w", c.cfg.Endpoint, err)
	}
	port := u.Port()
	if port == "" {
		port = usualPort
	}
	d := net.Dialer{KeepAlive: 10 * time.Second}
	conn, err := d.DialContext(ctx, "tcp", net.JoinHostPort(u.Hostname(), port))
	if err != nil {
		return fmt.Errorf("dial %s: %w", c.cfg.Endpoint, err)
	}
	s, err := greet(ctx, conn, c.cfg.Endpoint)
	if err == nil {
		err = s.judge()
	}
	if err != nil {
		_ = conn.Close() // the error that counts is why
		return fmt.Errorf("dial %s: %w", c.cfg.Endpoint, err)
	}
	c.conn = quieten(conn)
	c.chunk, c.sendBytes, c.sendParts = int(min(s.receive, chunkBytes)), s.message, s.chunks
	return nil
}

// greet says hello, and reads what the server makes of it. It ends with ctx.
func greet(ctx context.Context, conn net.Conn, endpoint string) (s sizes, err error) {
	until, _ := ctx.Deadline()
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if err := conn.SetDeadline(until); err != nil {
		return s, fmt.Errorf("say hello: %w", err)
	}
	b := append([]byte("HELF"), 0, 0, 0, 0)
	for _, n := range []uint32{protocolVersion, chunkBytes, chunkBytes, maxMessage, maxChunks} {
		b = binary.LittleEndian.AppendUint32(b, n)
	}
	b = appendBytes(b, []byte(endpoint))
	binary.LittleEndian.PutUint32(b[4:], uint32(len(b)))
	if _, err := conn.Write(b); err != nil {
		return s, fmt.Errorf("say hello: %w", err)
	}
	if s, err = acknowledged(conn); err != nil {
		return s, err
	}
	if !stop() {
		return s, context.Cause(ctx)
	}
	return s, conn.SetDeadline(time.Time{})
}

// acknowledged reads the answer to a hello.
func acknowledged(r io.Reader) (s sizes, err error) {
	head := make([]byte, 8)
	if _, err := io.ReadFull(r, head); err != nil {
		return s, fmt.Errorf("%w: %w", ErrHello, err)
	}
	n := binary.LittleEndian.Uint32(head[4:])
	switch kind := string(head[:4]); {
	case kind == "ERRF" && n >= 16 && n <= faultBytes:
		rest := make([]byte, n-8)
		if _, err := io.ReadFull(r, rest); err != nil {
			return s, fmt.Errorf("read why it refuses: %w", err)
		}
		return s, fault(append(head, rest...))
	case kind != "ACKF":
		return s, fmt.Errorf("%w: %w: it answers with %q: this is no OPC UA server, or not its port", ErrProtocol, ErrHello, kind)
	case n != acknowledgeBytes:
		return s, fmt.Errorf("%w: an acknowledgement of %d bytes, which has %d", ErrProtocol, n, acknowledgeBytes)
	}
	rest := make([]byte, acknowledgeBytes-8)
	if _, err := io.ReadFull(r, rest); err != nil {
		return s, fmt.Errorf("%w: %w", ErrHello, err)
	}
	for i, field := range []*uint32{&s.version, &s.receive, &s.send, &s.message, &s.chunks} {
		*field = binary.LittleEndian.Uint32(rest[4*i:])
	}
	return s, nil
}

// judge refuses what can't be worked with. A limit of 0 is none.
func (s sizes) judge() error {
	switch {
	case s.version != protocolVersion:
		return fmt.Errorf("%w: it speaks version %d of the protocol, this client %d", ErrProtocol, s.version, protocolVersion)
	case s.receive < leastChunk || s.send > chunkBytes || s.send < leastChunk:
		return fmt.Errorf("%w: buffers of %d and %d bytes, where %d to %d are agreed", ErrProtocol, s.receive, s.send, leastChunk, chunkBytes)
	}
	return nil
}
