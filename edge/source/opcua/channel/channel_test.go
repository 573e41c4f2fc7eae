package channel

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gopcua/opcua/id"
	"github.com/gopcua/opcua/server"
	"github.com/gopcua/opcua/ua"
	"github.com/gopcua/opcua/uasc"
)

const patience = 10 * time.Second

// side is a certificate with its key.
type side struct {
	cert []byte
	key  *rsa.PrivateKey
}

func newSide(t testing.TB, name string, bits int) side {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		t.Fatal(err)
	}
	uri, err := url.Parse("urn:test:" + name)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, URIs: []*url.URL{uri},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	cert, err := x509.CreateCertificate(rand.Reader, c, c, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return side{cert, key}
}

// protection is a pair of policy and mode.
type protection struct {
	policy string
	mode   ua.MessageSecurityMode
}

func (p protection) String() string {
	_, name, _ := strings.Cut(p.policy, "#")
	return name + " " + strings.TrimPrefix(p.mode.String(), "MessageSecurityMode")
}

func protections() []protection {
	out := []protection{{ua.SecurityPolicyURINone, ua.MessageSecurityModeNone}}
	for _, p := range []string{ua.SecurityPolicyURIBasic256Sha256, ua.SecurityPolicyURIAes128Sha256RsaOaep, ua.SecurityPolicyURIAes256Sha256RsaPss} {
		out = append(out, protection{p, ua.MessageSecurityModeSign}, protection{p, ua.MessageSecurityModeSignAndEncrypt})
	}
	return out
}

// peer is the library's server. Reads are answered with as many values of so
// many bytes as nodes were asked for.
func peer(t *testing.T, s side) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	opts := []server.Option{server.EndPoint("127.0.0.1", port), server.Certificate(s.cert), server.PrivateKey(s.key), server.EnableAuthMode(ua.UserTokenTypeAnonymous)}
	for _, p := range protections() {
		opts = append(opts, server.EnableSecurity(p.policy, p.mode))
	}
	srv := server.New(opts...)
	srv.RegisterHandler(id.ReadRequest_Encoding_DefaultBinary, func(_ *uasc.SecureChannel, r ua.Request, _ uint32) (ua.Response, error) {
		req, ok := r.(*ua.ReadRequest)
		if !ok {
			return nil, ua.StatusBadUnexpectedError
		}
		resp := &ua.ReadResponse{ResponseHeader: &ua.ResponseHeader{RequestHandle: r.Header().RequestHandle, ServiceDiagnostics: &ua.DiagnosticInfo{}, AdditionalHeader: ua.NewExtensionObject(nil)}}
		for _, n := range req.NodesToRead {
			v := &ua.DataValue{Value: ua.MustVariant(strings.Repeat(n.NodeID.StringID(), 4))}
			v.UpdateMask()
			resp.Results = append(resp.Results, v)
		}
		return resp, nil
	})
	if err := srv.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = srv.Close() })
	return fmt.Sprintf("opc.tcp://127.0.0.1:%d", port)
}

// dial opens a channel that lives as long as the test.
func dial(t testing.TB, cfg Config) (*Channel, error) {
	t.Helper()
	cfg.DialTimeout, cfg.SendTimeout = cmp.Or(cfg.DialTimeout, patience), patience
	cfg.Lifetime = cmp.Or(cfg.Lifetime, time.Hour)
	opened, ended := make(chan *Channel, 1), make(chan error, 1)
	go func() {
		ended <- With(t.Context(), cfg, func(c *Channel) error {
			opened <- c
			<-c.Done()
			return nil
		})
	}()
	select {
	case c := <-opened:
		t.Cleanup(func() {
			c.Close()
			<-ended
		})
		return c, nil
	case err := <-ended:
		return nil, err
	}
}

// read reads so many nodes with names of 100 bytes, and checks each value.
func read(ctx context.Context, c *Channel, n int) error {
	req := &ua.ReadRequest{TimestampsToReturn: ua.TimestampsToReturnNeither}
	var want []string
	for i := range n {
		name := fmt.Sprintf("%0100d", i)
		want = append(want, strings.Repeat(name, 4))
		req.NodesToRead = append(req.NodesToRead, &ua.ReadValueID{NodeID: ua.NewStringNodeID(1, name), AttributeID: ua.AttributeIDValue, DataEncoding: &ua.QualifiedName{}})
	}
	r, err := c.Call(ctx, nil, patience, req)
	if err != nil {
		return err
	}
	resp, ok := r.(*ua.ReadResponse)
	if !ok || len(resp.Results) != n {
		return fmt.Errorf("a %T with %d results", r, len(resp.Results))
	}
	for i, v := range resp.Results {
		if v.Value.String() != want[i] {
			return fmt.Errorf("value %d is %.40q", i, v.Value.String())
		}
	}
	return nil
}

// TestChannel_PoliciesAndModes: each pair, with messages of one chunk and of
// many both ways, before and after the token was renewed.
func TestChannel_PoliciesAndModes(t *testing.T) {
	for _, bits := range []int{2048, 3072} { // padding is told in two bytes beyond 2048
		srv := newSide(t, "server", bits)
		own := newSide(t, "client", bits)
		endpoint := peer(t, srv)
		for _, p := range protections() {
			t.Run(fmt.Sprintf("%d %s", bits, p), func(t *testing.T) {
				t.Parallel()
				c, err := dial(t, Config{Endpoint: endpoint, Policy: p.policy, Mode: p.mode, Cert: own.cert, Key: own.key, Remote: srv.cert})
				if err != nil {
					t.Fatal(err)
				}
				for range 3 {
					for _, n := range []int{1, 2, 700} {
						if err := read(t.Context(), c, n); err != nil {
							t.Fatalf("%d nodes: %v", n, err)
						}
					}
					if err := c.token(t.Context(), ua.SecurityTokenRequestTypeRenew); err != nil {
						t.Fatal(err)
					}
				}
			})
		}
	}
}

// TestChannel_RenewsUnderLoad: the token changes while eight ask.
func TestChannel_RenewsUnderLoad(t *testing.T) {
	f := newFake(t)
	done := make(chan error, 1)
	go func() { done <- f.serve((*session).echo) }()
	c, err := dial(t, Config{Endpoint: f.endpoint, Mode: ua.MessageSecurityModeNone})
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 200 {
				if _, err := c.Call(t.Context(), nil, patience, &ua.GetEndpointsRequest{}); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for range 50 {
		if err := c.token(t.Context(), ua.SecurityTokenRequestTypeRenew); err != nil {
			t.Fatal(err)
		}
	}
	all.Wait()
	c.Close()
	if err := <-done; !errors.Is(err, io.EOF) {
		t.Error(err)
	}
}

// TestChannel_RenewsByItself: before three quarters of its life have passed.
func TestChannel_RenewsByItself(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	done := make(chan error, 1)
	go func() {
		done <- f.serve(func(s *session) error {
			for token := uint32(1); token <= 3; token++ {
				id, err := s.awaitOpen()
				if err != nil {
					return err
				}
				s.token = token
				if err := s.open(id, 1); err != nil { // one millisecond: the shortest that is believed counts
					return err
				}
			}
			return nil
		})
	}()
	if _, err := dial(t, Config{Endpoint: f.endpoint, Mode: ua.MessageSecurityModeNone}); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestChannel_ServerOfAnotherCertificate(t *testing.T) {
	srv, own, other := newSide(t, "server", 2048), newSide(t, "client", 2048), newSide(t, "server", 2048)
	endpoint := peer(t, srv)
	for _, p := range protections()[1:] {
		// This server says nothing at all to that.
		_, err := dial(t, Config{Endpoint: endpoint, Policy: p.policy, Mode: p.mode, Cert: own.cert, Key: own.key, Remote: other.cert, DialTimeout: 300 * time.Millisecond})
		if err == nil {
			t.Errorf("%s: a channel was opened", p)
		}
	}
}

func TestChannel_Config(t *testing.T) {
	own := newSide(t, "client", 2048)
	for name, cfg := range map[string]Config{
		"a policy without a mode": {Policy: ua.SecurityPolicyURIBasic256Sha256, Mode: ua.MessageSecurityModeNone},
		"a mode without a policy": {Mode: ua.MessageSecurityModeSign},
		"no certificate":          {Policy: ua.SecurityPolicyURIBasic256Sha256, Mode: ua.MessageSecurityModeSign, Cert: own.cert, Key: own.key},
		"no key":                  {Policy: ua.SecurityPolicyURIBasic256Sha256, Mode: ua.MessageSecurityModeSign, Remote: own.cert},
		"an unknown policy":       {Policy: "http://opcfoundation.org/UA/SecurityPolicy#Rot13", Mode: ua.MessageSecurityModeSign, Cert: own.cert, Key: own.key, Remote: own.cert},
	} {
		cfg.Endpoint = "opc.tcp://127.0.0.1:1"
		if _, err := dial(t, cfg); !errors.Is(err, ErrSecurity) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestChannel_NobodyWaitsForEver: calls end with their time, their context and
// the channel.
func TestChannel_NobodyWaitsForEver(t *testing.T) {
	f := newFake(t)
	hold := make(chan struct{})
	done := make(chan error, 1)
	go func() {
		done <- f.serve(func(s *session) error {
			if err := s.opened(); err != nil {
				return err
			}
			<-hold
			return nil
		})
	}()
	c, err := dial(t, Config{Endpoint: f.endpoint, Mode: ua.MessageSecurityModeNone})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Call(t.Context(), nil, time.Millisecond, &ua.GetEndpointsRequest{}); !errors.Is(err, ErrTimeout) {
		t.Errorf("its time passed: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.Call(ctx, nil, patience, &ua.GetEndpointsRequest{}); !errors.Is(err, context.Canceled) {
		t.Errorf("its context ended: %v", err)
	}
	c.mu.Lock()
	if n := len(c.waiting); n != 0 {
		t.Errorf("%d still wait", n)
	}
	c.mu.Unlock()
	close(hold)
	if _, err := c.Call(t.Context(), nil, patience, &ua.GetEndpointsRequest{}); !errors.Is(err, ErrClosed) {
		t.Errorf("its connection ended: %v", err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	if _, err := c.Post(&PublishRequest{}, make(chan Posted, 1)); !errors.Is(err, ErrClosed) {
		t.Errorf("on a closed channel: %v", err)
	}
}

func TestTypeID(t *testing.T) {
	for _, c := range []struct {
		in   string
		want uint32
		ok   bool
	}{
		{"\x00\x07", 7, true},
		{"\x01\x00\x3d\x03", 829, true},
		{"\x02\x00\x00\x3d\x03\x00\x00", 829, true},
		{"\x01\x01\x3d\x03", 0, false},
		{"\x03\x00\x00\x00\x00\x00\x00\x00", 0, false},
		{"", 0, false},
	} {
		if got, _, ok := typeID([]byte(c.in)); got != c.want || ok != c.ok {
			t.Errorf("%x gave %d, %v", c.in, got, ok)
		}
	}
}

func TestFramer_RoomIsWhatFits(t *testing.T) {
	srv, own := newSide(t, "server", 2048), newSide(t, "client", 3072)
	for _, p := range protections() {
		cfg := Config{Policy: p.policy, Mode: p.mode, Cert: own.cert, Key: own.key, Remote: srv.cert}
		algo, err := cfg.asymmetric()
		if err != nil {
			t.Fatal(err)
		}
		encrypt := p.mode != ua.MessageSecurityModeNone
		f := framer{kind: "OPN", algo: algo, sign: encrypt, encrypt: encrypt, security: []byte(p.policy)}
		for _, chunk := range []int{leastChunk, 9000, chunkBytes} {
			room := f.room(chunk)
			for _, n := range []int{0, 1, room - 1, room} {
				sum := sha256.Sum256([]byte{byte(n)})
				b, err := f.frame(nil, true, 1, 1, slices.Repeat(sum[:1], n))
				if err != nil || len(b) > chunk {
					t.Fatalf("%s: %d bytes in a chunk of %d became %d: %v", p, n, chunk, len(b), err)
				}
			}
			if b, err := f.frame(nil, true, 1, 1, make([]byte, room+512)); err == nil && len(b) <= chunk && p.mode == ua.MessageSecurityModeNone {
				t.Errorf("%s: room is not used", p)
			}
		}
	}
}
