package channel

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gopcua/opcua/ua"
)

// TestChannel_HostileServer: whatever it sends instead of an answer, the caller
// is told what was wrong, in time, and nothing grows.
func TestChannel_HostileServer(t *testing.T) {
	fault := func(n uint32, text string) []byte {
		b := append([]byte("ERRF"), 0, 0, 0, 0)
		b = appendBytes(binary.LittleEndian.AppendUint32(b, n), []byte(text))
		binary.LittleEndian.PutUint32(b[4:], uint32(len(b)))
		return b
	}
	token := []byte{1, 0, 0, 0}
	for _, c := range []struct {
		name string
		want error
		say  string
		do   func(s *session, id uint32) error
	}{
		{"a chunk is missing", ErrSecurity, "chunk 3 came after chunk 1", func(s *session, id uint32) error {
			return s.raw("MSGF", 7, token, 3, id, nil)
		}},
		{"a chunk twice", ErrSecurity, "chunk 1 came after chunk 1", func(s *session, id uint32) error {
			return s.raw("MSGF", 7, token, 1, id, nil)
		}},
		{"another channel", ErrSecurity, "a message of channel 8", func(s *session, id uint32) error {
			return s.raw("MSGF", 8, token, 2, id, nil)
		}},
		{"another token", ErrSecurity, "with token 2", func(s *session, id uint32) error {
			return s.raw("MSGF", 7, []byte{2, 0, 0, 0}, 2, id, nil)
		}},
		{"a chunk longer than agreed", ErrProtocol, "at most 65535 are agreed", func(s *session, _ uint32) error {
			_, err := s.Write([]byte("MSGF\xff\xff\xff\xff"))
			return err
		}},
		{"a chunk of nothing", ErrProtocol, "a chunk of 0 bytes", func(s *session, _ uint32) error {
			_, err := s.Write([]byte("MSGF\x00\x00\x00\x00"))
			return err
		}},
		{"a chunk without a sequence header", ErrProtocol, "without a sequence header", func(s *session, _ uint32) error {
			_, err := s.Write([]byte("MSGF\x14\x00\x00\x00\x07\x00\x00\x00\x01\x00\x00\x00abcd"))
			return err
		}},
		{"no OPC UA", ErrProtocol, `of type "HTT"`, func(s *session, _ uint32) error {
			_, err := s.Write([]byte("HTTP/1.1 400 Bad Request\r\n\r\n"))
			return err
		}},
		{"a kind of chunk that is none", ErrProtocol, "a chunk of kind", func(s *session, id uint32) error {
			return s.raw("MSGX", 7, token, 2, id, nil)
		}},
		{"chunks without end", ErrProtocol, "more than 1024 chunks", func(s *session, id uint32) error {
			for range maxChunks + 2 {
				if err := s.message("C", id, []byte("x")); err != nil {
					return nil //nolint:nilerr // it was closed, as it should be
				}
			}
			return nil
		}},
		{"large chunks without end", ErrProtocol, "or 16777216 bytes", func(s *session, id uint32) error {
			for range maxMessage/60_000 + 2 {
				if err := s.message("C", id, make([]byte, 60_000)); err != nil {
					return nil //nolint:nilerr // it was closed, as it should be
				}
			}
			return nil
		}},
		{"it opens a channel anew", ErrProtocol, "nobody asked for", func(s *session, id uint32) error { return s.open(id, 1000) }},
		{"an answer without a type", ErrProtocol, "without a type", func(s *session, id uint32) error { return s.message("F", id, []byte{9}) }},
		{"an answer of another kind", ErrProtocol, "can't be read", func(s *session, id uint32) error { return s.message("F", id, []byte{0, 1, 2, 3, 4}) }},
		{"an answer that is cut", ErrProtocol, "can't be read", func(s *session, id uint32) error {
			return s.message("F", id, []byte{1, 0, 0xaf, 1, 0, 0})
		}},
		{"an answer given up", ua.StatusBadTCPMessageTooLarge, "gave an answer up", func(s *session, id uint32) error {
			return s.message("A", id, append(binary.LittleEndian.AppendUint32(nil, uint32(ua.StatusBadTCPMessageTooLarge)), "\x03\x00\x00\x00big"...))
		}},
		{"an error", ErrClosed, "StatusBadTCPInternalError no room", func(s *session, _ uint32) error {
			_, err := s.Write(fault(uint32(ua.StatusBadTCPInternalError), "no room"))
			return err
		}},
		{"an error with a text of no length", ErrClosed, "0x00000005", func(s *session, _ uint32) error {
			b := fault(5, "x")
			binary.LittleEndian.PutUint32(b[12:], math.MaxUint32)
			_, err := s.Write(b)
			return err
		}},
		{"it closes the channel", ErrClosed, "by the server", func(s *session, id uint32) error { return s.raw("CLOF", 7, token, 2, id, nil) }},
		{"half a message", ErrClosed, "EOF", func(s *session, _ uint32) error { _, err := s.Write([]byte("MSGF\x50\x00\x00\x00\x07")); return err }},
	} {
		t.Run(c.name, func(t *testing.T) {
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
					return c.do(s, id)
				})
			}()
			ch, err := dial(t, Config{Endpoint: f.endpoint, Mode: ua.MessageSecurityModeNone})
			if err != nil {
				t.Fatal(err)
			}
			_, err = ch.Call(t.Context(), nil, patience, &ua.GetEndpointsRequest{})
			if !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.say) {
				t.Errorf("%v, want %v: %s", err, c.want, c.say)
			}
			if err := <-done; err != nil {
				t.Error(err)
			}
		})
	}
}

// TestChannel_HostileHandshake: sizes that can't be agreed on, and worse.
func TestChannel_HostileHandshake(t *testing.T) {
	for name, ack := range map[string][5]uint32{
		"no room to send": {0, 0, chunkBytes, 0, 0},
		"little room":     {0, 100, chunkBytes, 0, 0},
		"it sends more":   {0, chunkBytes, math.MaxUint32, 0, 0},
		"it sends little": {0, chunkBytes, 1, 0, 0},
		"another version": {1 << 30, chunkBytes, chunkBytes, 0, 0},
	} {
		f := newFake(t)
		f.ack = ack
		done := make(chan error, 1)
		go func() { done <- f.serve(func(*session) error { return nil }) }()
		if _, err := dial(t, Config{Endpoint: f.endpoint, Mode: ua.MessageSecurityModeNone}); err == nil {
			t.Errorf("%s: a channel was opened", name)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

// TestChannel_WeakerAnswer: a server, or somebody between, that answers less
// protected than was asked for.
func TestChannel_WeakerAnswer(t *testing.T) {
	own, srv := newSide(t, "client", 2048), newSide(t, "server", 2048)
	f := newFake(t)
	done := make(chan error, 1)
	go func() {
		done <- f.serve(func(s *session) error {
			if _, _, err := s.next(); err != nil {
				return err
			}
			return s.open(1, 3_600_000)
		})
	}()
	_, err := dial(t, Config{Endpoint: f.endpoint, Policy: ua.SecurityPolicyURIBasic256Sha256, Mode: ua.MessageSecurityModeSign, Cert: own.cert, Key: own.key, Remote: srv.cert})
	if !errors.Is(err, ErrSecurity) || !strings.Contains(err.Error(), "asked for was") {
		t.Errorf("a weaker answer: %v", err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// TestChannel_AnswersNobodyAskedFor are left out, and cost nothing.
func TestChannel_AnswersNobodyAskedFor(t *testing.T) {
	f := newFake(t)
	done := make(chan error, 1)
	want := &ua.GetEndpointsResponse{ResponseHeader: &ua.ResponseHeader{ServiceDiagnostics: &ua.DiagnosticInfo{}, AdditionalHeader: ua.NewExtensionObject(nil)}}
	go func() {
		done <- f.serve(func(s *session) error {
			if err := s.opened(); err != nil {
				return err
			}
			id, err := s.request()
			if err != nil {
				return err
			}
			body, err := answer(want)
			if err != nil {
				return err
			}
			for i := range uint32(2000) {
				mark := "C"
				if i%3 == 0 {
					mark = "F"
				}
				if err := s.message(mark, id+1+i, bytes.Repeat(body, 100)); err != nil {
					return err
				}
			}
			return s.message("F", id, body)
		})
	}()
	c, err := dial(t, Config{Endpoint: f.endpoint, Mode: ua.MessageSecurityModeNone})
	if err != nil {
		t.Fatal(err)
	}
	if r, err := c.Call(t.Context(), nil, patience, &ua.GetEndpointsRequest{}); err != nil {
		t.Errorf("%T, %v", r, err)
	}
	if n := len(c.in.parts); n != 0 || c.in.pending != 0 {
		t.Errorf("%d messages are kept, %d bytes", n, c.in.pending)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// TestChannel_GoroutinesEnd with the channel.
func TestChannel_GoroutinesEnd(t *testing.T) {
	before := runtime.NumGoroutine()
	for range 20 {
		f := newFake(t)
		done := make(chan error, 1)
		go func() { done <- f.serve((*session).opened) }()
		cfg := Config{Endpoint: f.endpoint, Mode: ua.MessageSecurityModeNone, DialTimeout: patience, SendTimeout: patience, Lifetime: time.Hour}
		if err := With(t.Context(), cfg, func(*Channel) error { return nil }); err != nil {
			t.Fatal(err)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	for limit := time.Now().Add(patience); runtime.NumGoroutine() > before; runtime.Gosched() {
		if time.Now().After(limit) {
			t.Fatalf("%d goroutines, %d before", runtime.NumGoroutine(), before)
		}
	}
}

// FuzzUnlock: what is encrypted and signed for this client, by whoever has the
// keys, and then changed: the certificates' keys, and those of a token.
func FuzzUnlock(f *testing.F) {
	own := newSide(f, "client", 2048)
	cfg := Config{Policy: ua.SecurityPolicyURIAes256Sha256RsaPss, Mode: ua.MessageSecurityModeSignAndEncrypt, Cert: own.cert, Key: own.key, Remote: own.cert}
	asym, err := cfg.asymmetric() // to itself
	if err != nil {
		f.Fatal(err)
	}
	client, server := pair(f, ua.SecurityPolicyURIAes128Sha256RsaOaep)
	for _, by := range []algorithm{asym, server} {
		fr := framer{kind: "OPN", algo: by, sign: true, encrypt: true}
		whole, err := fr.frame(nil, true, 1, 2, []byte("hello"))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(whole, 0, byte(0))
		f.Add(whole, 40, byte(1))
		f.Add(whole[:messageHead], 0, byte(0))
	}
	f.Fuzz(func(t *testing.T, b []byte, at int, flip byte) {
		if len(b) < messageHead {
			return
		}
		b = slices.Clone(b)
		if at >= 0 && at < len(b) {
			b[at] ^= flip
		}
		for _, algo := range []algorithm{asym, client} {
			p, err := unlock(slices.Clone(b), messageHead, algo, true)
			if err == nil && string(p[sequenceHead:]) != "hello" {
				t.Errorf("%q came out", p)
			}
		}
	})
}

// FuzzChunks: any stream of bytes after the handshake.
func FuzzChunks(f *testing.F) {
	f.Add([]byte("MSGF\x20\x00\x00\x00\x07\x00\x00\x00\x01\x00\x00\x00\x01\x00\x00\x00\x01\x00\x00\x00\x01\x00\x3d\x03\x00\x00\x00\x00"))
	f.Add([]byte("OPNF\x20\x00\x00\x00\x07\x00\x00\x00\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\x00\x00\x00"))
	f.Add([]byte("ERRF\x14\x00\x00\x00\x00\x00\x05\x80\x01\x00\x00\x00xxxx"))
	f.Fuzz(func(t *testing.T, b []byte) {
		c := &Channel{cfg: Config{Policy: ua.SecurityPolicyURINone, Mode: ua.MessageSecurityModeNone}, free: make(chan *Answer, 1), waiting: map[uint32]*waiter{}, id: 7}
		var err error
		if c.asym, err = c.cfg.asymmetric(); err != nil {
			t.Fatal(err)
		}
		c.taking[0] = keys{token: 1, algo: c.asym, until: time.Now().Add(time.Hour)}
		for id := range uint32(4) {
			c.waiting[id] = &waiter{kind: kind(id), got: make(chan reply, 1)}
		}
		c.in = newInbox(bytes.NewReader(b))
		for err == nil {
			err = c.chunkIn()
		}
	})
}
