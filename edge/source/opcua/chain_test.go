package opcua

import (
	"bytes"
	"errors"
	"slices"
	"testing"

	"github.com/gopcua/opcua/ua"
	"github.com/gopcua/opcua/uapolicy"

	"plantmesh/edge/source/opcua/channel"
	"plantmesh/edge/source/opcua/trust"
)

// TestSession_OwnChain: where the own file has its issuers' certificates too,
// servers sign the first of them, and older ones all that was sent (OPC 10000-4
// §5.6.2.2).
func TestSession_OwnChain(t *testing.T) {
	srv := identityOf(t, serverURI)
	s := secured(t, guarded(t, srv, nil), Security{Policy: "Basic256Sha256"})
	if err := s.open(t.Context(), "test", nothing); err == nil {
		t.Fatal("a server that nobody trusts was taken")
	}
	s.trusting(t)
	err := s.open(t.Context(), "test", func() error {
		issuer := identityOf(t, "urn:test:issuer")
		s.own.DER = slices.Concat(s.own.Cert.Raw, issuer.Cert.Raw)
		nonce := bytes.Repeat([]byte{7}, leastNonce)
		for name, c := range map[string]struct {
			signed []byte
			by     trust.Identity
			want   error
		}{
			"the first":       {s.own.Cert.Raw, srv, nil},
			"all of them":     {s.own.DER, srv, nil},
			"another":         {issuer.Cert.Raw, srv, channel.ErrSecurity},
			"another's hand":  {s.own.Cert.Raw, issuer, channel.ErrSecurity},
			"nothing of them": {nil, srv, channel.ErrSecurity},
		} {
			a, err := uapolicy.Asymmetric(ua.SecurityPolicyURIBasic256Sha256, c.by.Key, &s.own.Key.PublicKey)
			if err != nil {
				return err
			}
			sig, err := a.Signature(slices.Concat(c.signed, nonce))
			if err != nil {
				return err
			}
			r := &ua.CreateSessionResponse{ServerCertificate: srv.DER, ServerNonce: nonce, ServerSignature: &ua.SignatureData{Signature: sig}}
			if err := s.proven(r, nonce); !errors.Is(err, c.want) {
				t.Errorf("%s: %v, want %v", name, err, c.want)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
