package evil

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gopcua/opcua/id"
	libserver "github.com/gopcua/opcua/server"
	"github.com/gopcua/opcua/ua"
	"github.com/gopcua/opcua/uasc"

	"plantmesh/edge/source/opcua/trust"
)

// between is somebody on the wire: it passes all on but for what the server says on a
// protected connection, which it changes.
type between struct {
	l net.Listener

	mu     sync.Mutex
	to     string
	change func(n int, chunk []byte) []byte // n counts the chunks of a connection
	open   map[net.Conn]bool
}

func newBetween(t *testing.T) *between {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b := &between{l: l, open: map[net.Conn]bool{}}
	t.Cleanup(func() { l.Close(); b.become(nil) })
	go func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			b.mu.Lock()
			to := b.to
			b.mu.Unlock()
			out, err := net.Dial("tcp", to)
			if err != nil {
				in.Close()
				continue
			}
			b.mu.Lock()
			b.open[in], b.open[out] = true, true
			change := b.change
			b.mu.Unlock()
			go func() {
				_, _ = io.Copy(out, in)
				out.Close()
			}()
			go func() {
				carry(in, out, change)
				in.Close()
				out.Close()
			}()
		}
	}()
	return b
}

// carry brings chunks from the server to the client.
func carry(to, from net.Conn, change func(n int, chunk []byte) []byte) {
	protected := false
	for n := 0; ; n++ {
		head := make([]byte, 8)
		if _, err := io.ReadFull(from, head); err != nil {
			return
		}
		b := make([]byte, binary.LittleEndian.Uint32(head[4:]))
		copy(b, head)
		if _, err := io.ReadFull(from, b[8:]); err != nil {
			return
		}
		if string(b[:3]) == "OPN" {
			protected = !strings.Contains(string(b), ua.SecurityPolicyURINone)
		}
		if protected && change != nil {
			b = change(n, b)
		}
		if _, err := to.Write(b); err != nil {
			return
		}
	}
}

// become changes what is done, and drops who is connected.
func (b *between) become(change func(n int, chunk []byte) []byte) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.change = change
	for c := range b.open {
		c.Close()
		delete(b.open, c)
	}
}

// protectedServer is the library's, with protection, and what options there are
// beside. The sessions of a forged one are
// signed by nobody.
func protectedServer(t *testing.T, forged bool, also ...libserver.Option) (addr string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	at, ok := l.Addr().(*net.TCPAddr)
	if !ok {
		t.Fatal("no TCP address")
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	store, err := trust.Open(filepath.Join(t.TempDir(), "pki"))
	if err != nil {
		t.Fatal(err)
	}
	own, err := store.Own("urn:test:server", []string{"127.0.0.1"}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	opts := append([]libserver.Option{libserver.EndPoint("127.0.0.1", at.Port)}, also...)
	srv := libserver.New(append(opts, libserver.Certificate(own.DER), libserver.PrivateKey(own.Key),
		libserver.EnableAuthMode(ua.UserTokenTypeAnonymous), libserver.EnableSecurity("None", ua.MessageSecurityModeNone),
		libserver.EnableSecurity("Basic256Sha256", ua.MessageSecurityModeSignAndEncrypt))...)
	if forged {
		srv.RegisterHandler(id.CreateSessionRequest_Encoding_DefaultBinary, func(_ *uasc.SecureChannel, r ua.Request, _ uint32) (ua.Response, error) {
			h := header(0)
			h.RequestHandle = r.Header().RequestHandle
			return &ua.CreateSessionResponse{
				ResponseHeader: h, SessionID: ua.NewTwoByteNodeID(1), AuthenticationToken: ua.NewTwoByteNodeID(2), ServerCertificate: own.DER, ServerNonce: make([]byte, 32),
				ServerSignature: &ua.SignatureData{Signature: make([]byte, 256)},
			}, nil
		})
	}
	if err := srv.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = srv.Close() })
	return at.String()
}

// trusting trusts whom the source was refused for.
func (r *rig) trusting(source, endpoint string) {
	r.Helper()
	r.await(source+" is not trusted", 30*time.Second, func() bool { return strings.Contains(r.status(source).Says, "Nobody has trusted it") })
	store, err := trust.Open(filepath.Join(r.dir, "data", "pki"))
	if err != nil {
		r.Fatal(err)
	}
	all, err := store.List(time.Now())
	if err != nil {
		r.Fatal(err)
	}
	for _, e := range all {
		if sum := trust.Fingerprint(e.Certificate); e.Role == trust.Rejected && strings.Contains(r.status(source).Says, sum) {
			if _, err := store.Trust(sum, endpoint); err != nil {
				r.Fatal(err)
			}
		}
	}
}

// TestEvil_OnTheWire: what somebody between agent and server can do, and a server that
// hasn't the key of its certificate. Nothing weaker is ever taken.
func TestEvil_OnTheWire(t *testing.T) {
	whole(t)
	between := newBetween(t)
	at, ok := between.l.Addr().(*net.TCPAddr)
	if !ok {
		t.Fatal("no TCP address")
	}
	between.to = protectedServer(t, false, libserver.EndPoint("127.0.0.1", at.Port)) // it knows itself by both
	mangled, forged := "opc.tcp://"+between.l.Addr().String(), "opc.tcp://"+protectedServer(t, true)
	source := func(name, url string) string {
		return fmt.Sprintf("opcua:\n  id: %s\n  endpoint: %s\n  signals:\n    - {name: line1.%s.v, type: string, node: \"i=2258\"}\n", name, url, name)
	}
	r := newRig(t, map[string]string{"mangled": source("mangled", mangled), "forged": source("forged", forged)})
	r.trusting("mangled", mangled)
	r.trusting("forged", forged)
	r.await("A06 its status says that the session is forged", 30*time.Second, func() bool { return strings.Contains(r.status("forged").Says, "its signature is wrong") })
	r.await("it is read", 30*time.Second, func() bool { return strings.HasPrefix(r.status("mangled").Says, "connected") })
	opened := func(do func(b []byte) []byte) func(int, []byte) []byte {
		return func(_ int, b []byte) []byte {
			if string(b[:3]) != "MSG" {
				return b
			}
			b = do(b)
			if len(b) >= 8 {
				binary.LittleEndian.PutUint32(b[4:], uint32(len(b)))
			}
			return b
		}
	}
	for _, c := range []struct {
		name, says string
		change     func(n int, b []byte) []byte
	}{
		{"A08 it answers without protection", "asked for was", func(int, []byte) []byte {
			return chunk("OPNF", 1, security(), 1, 1, nil)
		}},
		{"A05 a bit turned", "signature is wrong", opened(func(b []byte) []byte { b[len(b)/2] ^= 1; return b })},
		{"A05 the last bytes cut", "can't be decrypted", opened(func(b []byte) []byte { return b[:len(b)-7] })},
		{"A05 blocks cut", "signature", opened(func(b []byte) []byte { return b[:len(b)-32] })},
		{"A05 nothing but heads", "failed a security check", opened(func(b []byte) []byte { return b[:16] })},
		{"A05 a block of zeros", "failed a security check", opened(func(b []byte) []byte { return append(b[:16:16], make([]byte, 16)...) })},
		{"A05 of another token", "with token", opened(func(b []byte) []byte { b[12]++; return b })},
		{"A05 the channel's opening turned", "failed a security check", func(_ int, b []byte) []byte {
			b[len(b)-1] ^= 1
			return b
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := &rig{T: t, dir: r.dir, cmd: r.cmd, gone: r.gone, most: r.most}
			between.become(c.change)
			r.await("its status says "+c.says, 30*time.Second, func() bool {
				says := r.status("mangled").Says
				return strings.Contains(says, "not connected") && strings.Contains(says, c.says)
			})
			t.Logf("%q", clip(r.status("mangled").Says))
			between.become(nil)
			r.await("it is read again", 30*time.Second, func() bool { return strings.HasPrefix(r.status("mangled").Says, "connected") })
		})
	}
	r.unharmed()
	for _, name := range []string{"mangled", "forged"} {
		if st := r.status(name); st.Restarts != 0 {
			t.Errorf("%+v", st)
		}
	}
	t.Logf("the heaviest worker had %d MiB", r.heaviest()>>10)
}
