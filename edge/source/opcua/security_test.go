package opcua

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gopcua/opcua/id"
	"github.com/gopcua/opcua/server"
	"github.com/gopcua/opcua/ua"
	"github.com/gopcua/opcua/uasc"

	"plantmesh/edge/source/opcua/channel"
	"plantmesh/edge/source/opcua/trust"
)

const serverURI = "urn:test:server"

// guarded is the library's server with every kind of protection. activated is
// called with each request to activate a session.
func guarded(t *testing.T, identity trust.Identity, activated func(*ua.ActivateSessionRequest)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr, ok := l.Addr().(*net.TCPAddr)
	if !ok {
		t.Fatal("no TCP address")
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	opts := []server.Option{
		server.EndPoint("127.0.0.1", addr.Port), server.Certificate(identity.DER), server.PrivateKey(identity.Key),
		server.EnableAuthMode(ua.UserTokenTypeAnonymous), server.EnableAuthMode(ua.UserTokenTypeUserName), server.EnableAuthMode(ua.UserTokenTypeCertificate),
		server.EnableSecurity("None", ua.MessageSecurityModeNone),
	}
	for _, p := range policies() {
		opts = append(opts, server.EnableSecurity(p, ua.MessageSecurityModeSign), server.EnableSecurity(p, ua.MessageSecurityModeSignAndEncrypt))
	}
	srv := server.New(opts...)
	if activated != nil {
		srv.RegisterHandler(id.ActivateSessionRequest_Encoding_DefaultBinary, func(_ *uasc.SecureChannel, r ua.Request, _ uint32) (ua.Response, error) {
			req, ok := r.(*ua.ActivateSessionRequest)
			if !ok {
				return nil, ua.StatusBadUnexpectedError
			}
			activated(req)
			return &ua.ActivateSessionResponse{
				ResponseHeader: &ua.ResponseHeader{RequestHandle: r.Header().RequestHandle, ServiceDiagnostics: &ua.DiagnosticInfo{}, AdditionalHeader: ua.NewExtensionObject(nil)},
				ServerNonce:    make([]byte, 32),
			}, nil
		})
	}
	if err := srv.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = srv.Close() })
	return fmt.Sprintf("opc.tcp://127.0.0.1:%d", addr.Port)
}

func identityOf(t *testing.T, uri string) trust.Identity {
	t.Helper()
	s, err := trust.Open(filepath.Join(t.TempDir(), "pki"))
	if err != nil {
		t.Fatal(err)
	}
	own, err := s.Own(uri, []string{"127.0.0.1"}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return own
}

func secured(t *testing.T, endpoint string, s Security) *session {
	t.Helper()
	if err := s.validate(); err != nil {
		t.Fatal(err)
	}
	return &session{
		endpoint: endpoint, life: time.Minute, security: s, log: slog.New(slog.DiscardHandler),
		app: Application{Store: filepath.Join(t.TempDir(), "pki"), URI: "urn:test:agent", Hosts: []string{"gw-1"}},
	}
}

func nothing() error { return nil }

// trusting trusts the server that s was refused for.
func (s *session) trusting(t *testing.T) {
	t.Helper()
	store, err := trust.Open(s.app.Store)
	if err != nil {
		t.Fatal(err)
	}
	all, err := store.List(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range all {
		if e.Role == trust.Rejected {
			if _, err := store.Trust(trust.Fingerprint(e.Certificate), s.endpoint); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// TestSession_TrustsByAnActOnly: a server is refused by its fingerprint, and taken
// after that was trusted, under every pair of policy and mode.
func TestSession_TrustsByAnActOnly(t *testing.T) {
	endpoint := guarded(t, identityOf(t, serverURI), nil)
	for _, p := range append(policies(), "") {
		for _, mode := range []string{"Sign", "SignAndEncrypt"} {
			s := secured(t, endpoint, Security{Policy: p, Mode: mode})
			err := s.open(t.Context(), "test", nothing)
			var refused *trust.Refusal
			if !errors.As(err, &refused) || refused.Reason != trust.Unknown || s.token != nil {
				t.Fatalf("%s %s: %v", p, mode, err)
			}
			if said := s.explain(err); !strings.Contains(said, "SHA256:") || !strings.Contains(said, "cert trust") {
				t.Errorf("it says %q", said)
			}
			s.trusting(t)
			asks := func() error {
				ns, err := s.namespaces(t.Context())
				if len(ns) == 0 {
					return errors.Join(err, errors.New("no namespaces"))
				}
				return err
			}
			if err := s.open(t.Context(), "test", asks); err != nil {
				t.Fatalf("%s %s: %v", p, mode, err)
			}
			if got := s.offer.SecurityPolicyURI; p != "" && got != policyPrefix+p || p == "" && got != policyPrefix+policies()[0] {
				t.Errorf("%s: it took %s", p, got)
			}
			if known, err := s.resume(t.Context(), asks); !known || err != nil {
				t.Errorf("%s %s, on a new connection: %v, %v", p, mode, known, err)
			}
		}
	}
}

// TestSession_ChangedCertificate: the server comes back with another one, or
// somebody answers in its name.
func TestSession_ChangedCertificate(t *testing.T) {
	s := secured(t, guarded(t, identityOf(t, serverURI), nil), Security{})
	if err := s.open(t.Context(), "test", nothing); err == nil {
		t.Fatal("it was trusted")
	}
	s.trusting(t)
	if err := s.open(t.Context(), "test", nothing); err != nil {
		t.Fatal(err)
	}
	was := s.endpoint
	s.endpoint = guarded(t, identityOf(t, serverURI), nil)
	known, err := s.resume(t.Context(), nothing)
	var refused *trust.Refusal
	if !errors.As(err, &refused) || refused.Reason != trust.Unknown || !known {
		t.Errorf("another server: %v", err)
	}
	store, err := trust.Open(s.app.Store)
	if err != nil {
		t.Fatal(err)
	}
	err = store.Judge(identityOf(t, serverURI).DER, trust.Want{Endpoint: was, Host: "127.0.0.1", ApplicationURI: serverURI}, time.Now())
	if !errors.As(err, &refused) || refused.Reason != trust.Changed || refused.Old == nil {
		t.Errorf("another certificate: %v", err)
	}
}

// TestSession_Logins: what a server gets of each.
func TestSession_Logins(t *testing.T) {
	var got *ua.ActivateSessionRequest
	endpoint := guarded(t, identityOf(t, serverURI), func(r *ua.ActivateSessionRequest) { got = r })
	dir := t.TempDir()
	password := filepath.Join(dir, "password")
	if err := os.WriteFile(password, []byte("open sesame\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		s    Security
	}{
		{"anonymous", Security{}},
		{"user", Security{User: "anna", PasswordFile: password}},
	} {
		s := secured(t, endpoint, c.s)
		if err := s.open(t.Context(), "test", nothing); err == nil {
			t.Fatal("it was trusted")
		}
		s.trusting(t)
		if err := s.open(t.Context(), "test", nothing); err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		switch token := got.UserIdentityToken.Value.(type) {
		case *ua.AnonymousIdentityToken:
			if c.name != "anonymous" {
				t.Errorf("%s: logged in without a name", c.name)
			}
		case *ua.UserNameIdentityToken:
			if token.UserName != "anna" || strings.Contains(string(token.Password), "sesame") || len(token.Password) < 256 || token.EncryptionAlgorithm == "" {
				t.Errorf("%s: %q by %s", c.name, token.UserName, token.EncryptionAlgorithm)
			}
		}
	}
}

func TestSession_Choose(t *testing.T) {
	offer := func(policy string, mode ua.MessageSecurityMode, url string) *ua.EndpointDescription {
		return &ua.EndpointDescription{SecurityPolicyURI: policyPrefix + policy, SecurityMode: mode, EndpointURL: url}
	}
	const both, sign = ua.MessageSecurityModeSignAndEncrypt, ua.MessageSecurityModeSign
	here, there := "opc.tcp://127.0.0.1:4840", "opc.tcp://plc-7:4840"
	for _, c := range []struct {
		name   string
		policy string
		offers []*ua.EndpointDescription
		want   int // of offers; -1: none
	}{
		{"the strongest", "", []*ua.EndpointDescription{offer("Basic256Sha256", both, here), nil, offer("Aes256_Sha256_RsaPss", both, there)}, 2},
		{"the host that was called", "", []*ua.EndpointDescription{offer("Basic256Sha256", both, there), offer("Basic256Sha256", both, here)}, 1},
		{"never a weaker mode", "", []*ua.EndpointDescription{offer("Basic256Sha256", sign, here), offer("None", ua.MessageSecurityModeNone, here)}, -1},
		{"never a broken policy", "", []*ua.EndpointDescription{offer("Basic256", both, here)}, -1},
		{"never another policy", "Basic256Sha256", []*ua.EndpointDescription{offer("Aes256_Sha256_RsaPss", both, here)}, -1},
		{"nothing", "", nil, -1},
	} {
		s := secured(t, here, Security{Policy: c.policy})
		got, err := s.choose(c.offers)
		if c.want < 0 {
			if err == nil || !strings.Contains(err.Error(), "does not offer") {
				t.Errorf("%s: %v, %v", c.name, got, err)
			}
			continue
		}
		if err != nil || got != c.offers[c.want] {
			t.Errorf("%s: %+v, %v", c.name, got, err)
		}
	}
}

func TestSession_Explain(t *testing.T) {
	s := &session{security: Security{Insecure: true}}
	for _, c := range []struct {
		err  error
		want string
	}{
		{fmt.Errorf("open: %w", &channel.FaultError{Code: uint32(ua.StatusBadSecurityChecksFailed)}), "does not trust this gateway"},
		{fmt.Errorf("activate the session: %w", ua.StatusBadUserAccessDenied), "refuses this login"},
		{fmt.Errorf("dial: %w", &net.DNSError{Name: "plc-7", Err: "no such host"}), "plc-7 in this source's endpoint is not known here"},
		{errors.New("something else"), "something else"},
	} {
		if got := s.explain(c.err); !strings.Contains(got, c.want) {
			t.Errorf("%v is said as %q", c.err, got)
		}
	}
	for code, a := range advices() {
		if a.say == "" || a.fix == "" || ua.StatusCodes[code].Name == "" {
			t.Errorf("%v: %+v", code, a)
		}
	}
}
