package attack

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	libserver "github.com/gopcua/opcua/server"
	"github.com/gopcua/opcua/ua"

	"plantmesh/edge/source/opcua/trust"
)

// relay stands between the agent and an OPC UA server, and sees whose certificate each
// protected connection shows.
type relay struct {
	net.Listener

	to string

	mu    sync.Mutex
	shown [][]byte
	open  []net.Conn
}

// newRelay has one in front of a protected server.
func newRelay(t *testing.T, server trust.Identity) *relay {
	t.Helper()
	listen := func() (net.Listener, int) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		check(t, err)
		at, ok := l.Addr().(*net.TCPAddr)
		if !ok {
			t.Fatal("no TCP address")
		}
		return l, at.Port
	}
	front, known := listen()
	back, port := listen()
	check(t, back.Close())
	srv := libserver.New(libserver.EndPoint("127.0.0.1", port), libserver.EndPoint("127.0.0.1", known), libserver.Certificate(server.DER), libserver.PrivateKey(server.Key),
		libserver.EnableAuthMode(ua.UserTokenTypeAnonymous), libserver.EnableSecurity("None", ua.MessageSecurityModeNone),
		libserver.EnableSecurity("Basic256Sha256", ua.MessageSecurityModeSignAndEncrypt))
	check(t, srv.Start(t.Context()))
	r := &relay{Listener: front, to: back.Addr().String()}
	t.Cleanup(func() {
		front.Close()
		r.drop()
		_ = srv.Close()
	})
	go func() {
		for {
			in, err := front.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", r.to)
			if err != nil {
				in.Close()
				continue
			}
			r.mu.Lock()
			r.open = append(r.open, in, out)
			r.mu.Unlock()
			go func() { _, _ = io.Copy(in, out); in.Close() }()
			go func() { r.carry(out, in); out.Close() }()
		}
	}()
	return r
}

// carry brings chunks from the agent to the server (OPC 10000-6 §6.7.2).
func (r *relay) carry(to, from net.Conn) {
	for {
		head := make([]byte, 8)
		if _, err := io.ReadFull(from, head); err != nil {
			return
		}
		b := make([]byte, max(len(head), min(int(binary.LittleEndian.Uint32(head[4:])), 1<<20)))
		copy(b, head)
		if _, err := io.ReadFull(from, b[8:]); err != nil {
			return
		}
		if string(b[:3]) == "OPN" && !bytes.Contains(b, []byte(ua.SecurityPolicyURINone)) {
			policy := b[12:]
			sender := policy[4+binary.LittleEndian.Uint32(policy):]
			r.mu.Lock()
			r.shown = append(r.shown, bytes.Clone(sender[4:4+binary.LittleEndian.Uint32(sender)]))
			r.mu.Unlock()
		}
		if _, err := to.Write(b); err != nil {
			return
		}
	}
}

// drop ends all connections.
func (r *relay) drop() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range r.open {
		c.Close()
	}
	r.open = nil
}

// last is how many certificates were shown, and the last.
func (r *relay) last() (n int, der []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if n = len(r.shown); n > 0 {
		der = r.shown[n-1]
	}
	return n, der
}

// TestAttack_S07OPCUA: what a gateway trusts, and its own certificate, are changed on its disk
// while its agent runs. The next connection uses what lies there; of what is half written
// nothing is used and nothing moved: the certificate of before goes on, and it is told. Other
// sources notice nothing. The control of the half written: whole, it is used.
func TestAttack_S07OPCUA(t *testing.T) {
	t.Parallel()
	identity := func(uri string) (id trust.Identity, key []byte) {
		dir := filepath.Join(t.TempDir(), "pki")
		store, err := trust.Open(dir)
		check(t, err)
		id, err = store.Own(uri, []string{"127.0.0.1"}, time.Now())
		check(t, err)
		key, err = os.ReadFile(filepath.Join(dir, "own", "key.pem"))
		check(t, err)
		return id, key
	}
	server, _ := identity("urn:test:server")
	between := newRelay(t, server)
	endpoint := "opc.tcp://" + between.Addr().String()
	f := newField(t, newRig(t), map[string]string{
		"sources.d/oven.yaml": fmt.Sprintf("opcua:\n  id: line1-oven\n  endpoint: %s\n  signals:\n    - {name: line1.oven.v, type: string, node: \"i=2258\"}\n", endpoint),
	})
	pki := filepath.Join(filepath.Dir(f.edge), "data", "pki")
	cert, keyFile := filepath.Join(pki, "own", "cert.der"), filepath.Join(pki, "own", "key.pem")
	f.tell(3)
	until(t, "the server is refused", func() bool { return f.says("Nobody has trusted it") > 0 })
	if n, _ := between.last(); n > 0 {
		t.Fatalf("%d protected connections to a server that nobody trusts", n)
	}
	store, err := trust.Open(pki)
	check(t, err)
	_, err = store.Trust(trust.Fingerprint(server.Cert), endpoint)
	check(t, err)
	until(t, "the server is read, as it is trusted now", func() bool { return f.says("the source is being read") > 0 })
	_, was := between.last()
	if own, err := os.ReadFile(cert); err != nil || !bytes.Equal(own, was) {
		t.Fatalf("it shows another certificate than lies there: %v", err)
	}
	next, key := identity(uriOf(t, store))
	again := func(what string) []byte {
		f.tell(2)
		before, _ := between.last()
		between.drop()
		until(t, what, func() bool { n, _ := between.last(); return n > before })
		_, shown := between.last()
		return shown
	}
	for i, half := range [][]byte{next.DER[:len(next.DER)/2], next.DER, {}} {
		check(t, os.WriteFile(cert, half, 0o600))
		if shown := again("it comes again"); !bytes.Equal(shown, was) {
			t.Errorf("with a half of %d bytes it shows another certificate than before", len(half))
		}
		until(t, "it tells that the one before goes on being used", func() bool { return f.says("The one before goes on being used") > i })
		if n := f.says("The one before goes on being used"); n != i+1 {
			t.Errorf("that is told %d times, want %d", n, i+1)
		}
	}
	if moved, err := os.ReadDir(filepath.Join(pki, "aside")); err != nil || len(moved) > 0 {
		t.Errorf("%d were moved aside: %v", len(moved), err)
	}
	check(t, os.WriteFile(cert, next.DER, 0o600))
	check(t, os.WriteFile(keyFile, key, 0o600))
	if shown := again("it comes with the next certificate"); !bytes.Equal(shown, next.DER) {
		t.Error("the certificate that lies there whole is not shown")
	}
	until(t, "it tells that it is another one", func() bool { return f.says("another own certificate is shown from now on") == 1 })
	f.tell(2)
	f.arrived()
	if n := strings.Count(f.said.String(), "worker ended"); n > 0 {
		t.Errorf("%d workers ended", n)
	}
}

// uriOf is what a gateway's own certificate names it.
func uriOf(t *testing.T, s *trust.Store) string {
	t.Helper()
	all, err := s.List(time.Now())
	check(t, err)
	for _, e := range all {
		if e.Role == trust.Own {
			return e.ApplicationURI
		}
	}
	t.Fatal("it has no certificate")
	return ""
}
