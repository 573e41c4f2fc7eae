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
				ns, _, err := s.namespaces(t.Context())
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
