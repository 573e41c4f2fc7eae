package channel

import (
	"bytes"
	"context"
	"crypto/sha1"
	"encoding/binary"
	"errors"
	"math"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gopcua/opcua/ua"
)

// ack is an acknowledgement of those numbers.
func ack(numbers ...uint32) []byte {
	b := append([]byte("ACKF"), 0, 0, 0, 0)
	for _, n := range numbers {
		b = binary.LittleEndian.AppendUint32(b, n)
	}
	binary.LittleEndian.PutUint32(b[4:], uint32(len(b)))
	return b
}

// TestChannel_HostileHello: whatever comes instead of an acknowledgement, the
// caller is told in time, in words, and nothing grows.
func TestChannel_HostileHello(t *testing.T) {
	refusal := func(n uint32, text string) []byte {
		b := append([]byte("ERRF"), 0, 0, 0, 0)
		b = appendBytes(binary.LittleEndian.AppendUint32(b, n), []byte(text))
		binary.LittleEndian.PutUint32(b[4:], uint32(len(b)))
		return b
	}
	long := refusal(5, "x")
	binary.LittleEndian.PutUint32(long[4:], math.MaxUint32)
	for name, c := range map[string]struct {
		b   []byte
		say string
	}{
		"another protocol":        {[]byte("SSH-2.0-OpenSSH_9.6\r\n"), "no OPC UA server"},
		"nothing":                 {nil, "does not say hello"},
		"half of it":              {ack(0, chunkBytes), "an acknowledgement of 16 bytes"},
		"one that ends early":     {ack(0, chunkBytes, chunkBytes, 0, 0)[:20], "does not say hello"},
		"one of four gigabytes":   {append([]byte("ACKF\xff\xff\xff\xff"), make([]byte, 100)...), "of 4294967295 bytes"},
		"one of nothing":          {[]byte("ACKF\x00\x00\x00\x00"), "of 0 bytes"},
		"a buffer of 0":           {ack(0, 0, 0, 0, 0), "buffers of 0 and 0 bytes"},
		"buffers of 4 gigabytes":  {ack(0, math.MaxUint32, math.MaxUint32, math.MaxUint32, math.MaxUint32), "buffers of 4294967295"},
		"another version":         {ack(7, chunkBytes, chunkBytes, 0, 0), "version 7"},
		"a refusal":               {refusal(uint32(ua.StatusBadTCPEndpointURLInvalid), "who?"), "StatusBadTCPEndpointURLInvalid who?"},
		"a refusal without a sum": {long, "no OPC UA server"},
		"a message":               {[]byte("MSGF\x20\x00\x00\x00aaaaaaaaaaaaaaaaaaaaaaaa"), "no OPC UA server"},
	} {
		t.Run(name, func(t *testing.T) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			done := make(chan error, 1)
			go func() {
				conn, err := l.Accept()
				if err == nil {
					_, _, err = (&session{Conn: conn}).next()
					_, _ = conn.Write(c.b) // it may be closed before all of it went
					conn.Close()
				}
				done <- err
			}()
			if _, err := dial(t, Config{Endpoint: "opc.tcp://" + l.Addr().String(), Mode: ua.MessageSecurityModeNone}); err == nil || !strings.Contains(err.Error(), c.say) {
				t.Errorf("%v, want %s", err, c.say)
			}
			if err := <-done; err != nil {
				t.Error(err)
			}
		})
	}
}

// TestChannel_SilentHello: a server that takes the connection and says nothing is
// left after the time for it, or at once where nobody wants it any more.
func TestChannel_SilentHello(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	cfg := Config{Endpoint: "opc.tcp://" + l.Addr().String(), Mode: ua.MessageSecurityModeNone, DialTimeout: 50 * time.Millisecond, SendTimeout: patience, Lifetime: time.Hour}
	if err := With(t.Context(), cfg, func(*Channel) error { return nil }); err == nil || !strings.Contains(err.Error(), "does not say hello") {
		t.Errorf("%v", err)
	}
	cfg.DialTimeout = time.Hour
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := With(ctx, cfg, func(*Channel) error { return nil }); err == nil {
		t.Error("a channel was opened")
	}
}

// TestChannel_NoLimits: a server that has none for messages says 0.
func TestChannel_NoLimits(t *testing.T) {
	f := newFake(t)
	f.ack = [5]uint32{0, 1 << 20, chunkBytes, 0, 0}
	done := make(chan error, 1)
	go func() {
		done <- f.serve(func(s *session) error { return errors.Join(s.opened(), s.echo()) })
	}()
	c, err := dial(t, Config{Endpoint: f.endpoint, Mode: ua.MessageSecurityModeNone})
	if err != nil {
		t.Fatal(err)
	}
	if c.chunk != chunkBytes || c.sendBytes != 0 || c.sendParts != 0 {
		t.Errorf("chunks of %d, %d bytes in %d", c.chunk, c.sendBytes, c.sendParts)
	}
	if _, err := c.Call(t.Context(), nil, patience, &ua.GetEndpointsRequest{}); err != nil {
		t.Error(err)
	}
	c.Close()
	<-done
}

// TestChannel_OwnChain: what servers name is the own certificate, also where its
// issuers' stand behind it (OPC 10000-6 §6.7.2.3).
func TestChannel_OwnChain(t *testing.T) {
	own, issuer, srv := newSide(t, "client", 2048), newSide(t, "issuer", 2048), newSide(t, "server", 2048)
	cfg := Config{Policy: ua.SecurityPolicyURIBasic256Sha256, Mode: ua.MessageSecurityModeSign, Cert: slices.Concat(own.cert, issuer.cert), Key: own.key, Remote: srv.cert}
	c := &Channel{cfg: cfg}
	for cert, want := range map[string]error{string(own.cert): nil, string(cfg.Cert): ErrSecurity, string(issuer.cert): ErrSecurity} {
		sum := sha1.Sum([]byte(cert))
		b := make([]byte, messageHead)
		b = appendBytes(appendBytes(appendBytes(b, []byte(cfg.Policy)), srv.cert), sum[:])
		if _, err := c.sender(b); !errors.Is(err, want) {
			t.Errorf("%v, want %v", err, want)
		}
	}
	if !bytes.Contains(c.asymmetricHead(), cfg.Cert) {
		t.Error("the issuers' certificates are not sent")
	}
}

// TestChannel_DeepAnswer: what would overflow the library's stack is one answer
// that can't be read; the channel lives on.
func TestChannel_DeepAnswer(t *testing.T) {
	for name, piece := range map[string][]byte{"variants": {24}, "data values": {23, 1}, "diagnostics": nil} {
		t.Run(name, func(t *testing.T) {
			f := newFake(t)
			done := make(chan error, 1)
			go func() {
				done <- f.serve(func(s *session) error {
					if err := s.opened(); err != nil {
						return err
					}
					id, err := s.request()
					if err != nil {
						return err
					}
					body := append([]byte{1, 0, 0x7a, 2}, make([]byte, 24)...) // a read response, good
					deep := bytes.Repeat(piece, 2<<20)
					if piece == nil {
						body, deep = body[:20], bytes.Repeat([]byte{0x40}, 2<<20)
					} else {
						body = append(body, 1, 0, 0, 0, 1)
					}
					for body = append(body, deep...); len(body) > 60_000; body = body[60_000:] {
						if err := s.message("C", id, body[:60_000]); err != nil {
							return err
						}
					}
					if err := s.message("F", id, body); err != nil {
						return err
					}
					return s.echo()
				})
			}()
			c, err := dial(t, Config{Endpoint: f.endpoint, Mode: ua.MessageSecurityModeNone})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := c.Call(t.Context(), nil, patience, &ua.GetEndpointsRequest{}); !errors.Is(err, ErrProtocol) || !strings.Contains(err.Error(), "nested too deep") {
				t.Errorf("%v", err)
			}
			if _, err := c.Call(t.Context(), nil, patience, &ua.GetEndpointsRequest{}); err != nil {
				t.Errorf("the next one: %v", err)
			}
			c.Close()
			<-done
		})
	}
}

// FuzzAcknowledged: any answer to a hello.
func FuzzAcknowledged(f *testing.F) {
	f.Add(ack(0, chunkBytes, chunkBytes, 0, 0))
	f.Add([]byte("ERRF\x14\x00\x00\x00\x00\x00\x05\x80\x01\x00\x00\x00xxxx"))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := acknowledged(bytes.NewReader(b))
		if err != nil || s.judge() != nil {
			return
		}
		if s.receive < leastChunk || s.send > chunkBytes {
			t.Errorf("%+v is taken", s)
		}
	})
}
