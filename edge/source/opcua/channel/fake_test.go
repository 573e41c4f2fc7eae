package channel

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"testing"
	"time"

	"github.com/gopcua/opcua/ua"
)

// fake is a server that says what a test wants it to.
type fake struct {
	endpoint string
	l        net.Listener
	ack      [5]uint32 // version, receive, send, message, chunks
}

func newFake(t testing.TB) *fake {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return &fake{endpoint: "opc.tcp://" + l.Addr().String(), l: l, ack: [5]uint32{0, chunkBytes, chunkBytes, 1 << 20, 64}}
}

// session is one connection of a fake.
type session struct {
	net.Conn

	seq, token uint32
}

// serve takes one connection, shakes hands, and does what it is told.
func (f *fake) serve(do func(s *session) error) error {
	conn, err := f.l.Accept()
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	s := &session{Conn: conn, token: 1}
	if _, _, err := s.next(); err != nil {
		return err
	}
	hello := append([]byte("ACKF"), 28, 0, 0, 0)
	for _, n := range f.ack {
		hello = binary.LittleEndian.AppendUint32(hello, n)
	}
	if _, err := conn.Write(hello); err != nil {
		return err
	}
	return do(s)
}

// next reads one chunk.
func (s *session) next() (kind string, b []byte, err error) {
	head := make([]byte, 8)
	if _, err := io.ReadFull(s, head); err != nil {
		return "", nil, err
	}
	n := binary.LittleEndian.Uint32(head[4:])
	if n < 8 || n > chunkBytes {
		return "", nil, fmt.Errorf("a chunk of %d bytes", n)
	}
	b = make([]byte, n-8)
	_, err = io.ReadFull(s, b)
	return string(head[:4]), b, err
}

// awaitOpen reads the client's open request, and gives its id.
func (s *session) awaitOpen() (id uint32, err error) {
	kind, b, err := s.next()
	if err != nil || kind != "OPNF" {
		return 0, errors.Join(err, fmt.Errorf("a %q came", kind))
	}
	return openID(b), nil
}

func openID(b []byte) uint32 {
	n := 4 + 4 + len(ua.SecurityPolicyURINone) + 4 + 4 // channel, policy, two nulls
	return binary.LittleEndian.Uint32(b[n+4:])
}

// echo answers everything until the connection ends, each token with the next.
func (s *session) echo() error {
	body, err := answer(&ua.GetEndpointsResponse{ResponseHeader: &ua.ResponseHeader{ServiceDiagnostics: &ua.DiagnosticInfo{}, AdditionalHeader: ua.NewExtensionObject(nil)}})
	if err != nil {
		return err
	}
	first := s.token + 1
	for {
		kind, b, err := s.next()
		switch {
		case err != nil:
		case kind == "OPNF":
			s.token++
			err = s.open(openID(b), 3_600_000)
		default:
			// With the token before now and then, where there is one: it was under way.
			now := s.token
			if now > first {
				s.token -= uint32(b[12] & 1)
			}
			err = s.message("F", binary.LittleEndian.Uint32(b[12:]), body)
			s.token = now
		}
		if err != nil {
			return err
		}
	}
}

func (s *session) opened() error {
	id, err := s.awaitOpen()
	if err != nil {
		return err
	}
	return s.open(id, 3_600_000)
}

// open answers an open request.
func (s *session) open(id, life uint32) error {
	security := appendBytes(appendBytes(appendBytes(nil, []byte(ua.SecurityPolicyURINone)), nil), nil)
	body, err := answer(&ua.OpenSecureChannelResponse{
		ResponseHeader: &ua.ResponseHeader{ServiceDiagnostics: &ua.DiagnosticInfo{}, AdditionalHeader: ua.NewExtensionObject(nil)},
		SecurityToken:  &ua.ChannelSecurityToken{ChannelID: 7, TokenID: s.token, RevisedLifetime: life, CreatedAt: time.Now()},
	})
	if err != nil {
		return err
	}
	return s.write("OPNF", 7, security, id, body)
}

func answer(r ua.Response) ([]byte, error) {
	b, err := ua.Encode(r)
	if err != nil {
		return nil, err
	}
	id := ua.ServiceTypeID(r)
	return append([]byte{1, 0, byte(id), byte(id >> 8)}, b...), nil
}

// write sends one chunk with the next sequence number.
func (s *session) write(kind string, channel uint32, security []byte, id uint32, body []byte) error {
	s.seq++
	return s.raw(kind, channel, security, s.seq, id, body)
}

func (s *session) raw(kind string, channel uint32, security []byte, seq, id uint32, body []byte) error {
	b := append([]byte(kind), 0, 0, 0, 0)
	b = append(binary.LittleEndian.AppendUint32(b, channel), security...)
	b = binary.LittleEndian.AppendUint32(binary.LittleEndian.AppendUint32(b, seq), id)
	b = append(b, body...)
	binary.LittleEndian.PutUint32(b[4:], uint32(len(b)))
	_, err := s.Write(b)
	return err
}

// message sends one chunk of MSG.
func (s *session) message(mark string, id uint32, body []byte) error {
	return s.write("MSG"+mark, 7, binary.LittleEndian.AppendUint32(nil, s.token), id, body)
}

// request reads a request of one chunk, and gives its id.
func (s *session) request() (id uint32, err error) {
	kind, b, err := s.next()
	if err != nil || kind != "MSGF" || len(b) < 16 {
		return 0, errors.Join(err, fmt.Errorf("a %q of %d bytes came", kind, len(b)))
	}
	return binary.LittleEndian.Uint32(b[12:]), nil
}
