package opcua

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/gopcua/opcua/ua"
	"github.com/gopcua/opcua/uapolicy"

	"plantmesh/edge/source/opcua/channel"
	"plantmesh/edge/source/opcua/trust"
	"plantmesh/proto/strict"
)

// Security says how the connection is protected, and who logs in.
type Security struct {
	Insecure bool   `yaml:"insecure"` // true: neither signed nor encrypted; must be said
	Policy   string `yaml:"policy"`   // Basic256Sha256, Aes128_Sha256_RsaOaep or Aes256_Sha256_RsaPss; default: the strongest that the server offers
	Mode     string `yaml:"mode"`     // Sign or SignAndEncrypt, the default

	User            string `yaml:"user"`             // logs in by name; default: without one
	PasswordFile    string `yaml:"password_file"`    // of that user; beside the source's file where it is no absolute path
	UserCertificate string `yaml:"user_certificate"` // PEM: logs in by certificate
	UserKey         string `yaml:"user_key"`         // PEM, of that certificate

	AcceptExpired      bool `yaml:"accept_expired"`       // a server's certificate past its end is taken
	AcceptHostMismatch bool `yaml:"accept_host_mismatch"` // one that names another host
	AcceptURIMismatch  bool `yaml:"accept_uri_mismatch"`  // one of another application than the server says it is
}

// Application is this client as servers know it.
type Application struct {
	Store  string   `json:"store"`  // folder of its certificate and of those it trusts
	URI    string   `json:"uri"`    // as in its certificate
	Hosts  []string `json:"hosts"`  // names of this gateway
	Config string   `json:"config"` // the agent's file, named in what a technician is told to type
}

// policyPrefix is what the names of policies stand behind (OPC 10000-7).
const policyPrefix = "http://opcfoundation.org/UA/SecurityPolicy#"

// policies are those that are taken, the strongest first.
func policies() []string {
	return []string{"Aes256_Sha256_RsaPss", "Aes128_Sha256_RsaOaep", "Basic256Sha256"}
}

func (s *Security) validate() error {
	if s.Mode == "" && !s.Insecure {
		s.Mode = "SignAndEncrypt"
	}
	none := func(v string) bool { return v == "" || v == "None" }
	switch {
	case s.Insecure && (!none(s.Policy) || !none(s.Mode)):
		return strict.At("insecure", "security.insecure: true asks for no protection, and security.policy or security.mode for some: take one of them out")
	case s.Insecure && (s.User != "" || s.UserCertificate != ""):
		return strict.At("user", "security.user and security.user_certificate are for protected connections, as everyone would read the login: take security.insecure: true out")
	case s.Insecure:
		return nil
	case s.Policy == "None" || s.Mode == "None":
		return strict.At("insecure", "security.insecure: true must be said in place of None: this connection would be neither signed nor encrypted")
	case slices.Contains(brokenPolicies(), s.Policy):
		return strict.At("policy", "security.policy %s is broken and no longer allowed: %s", s.Policy, strings.Join(policies(), ", "))
	case s.Policy != "" && !slices.Contains(policies(), s.Policy):
		return strict.At("policy", "security.policy %q is none of %s", s.Policy, strings.Join(policies(), ", "))
	case s.Mode != "Sign" && s.Mode != "SignAndEncrypt":
		return strict.At("mode", "security.mode %q is neither Sign nor SignAndEncrypt", s.Mode)
	case s.User != "" && s.UserCertificate != "":
		return strict.At("user_certificate", "security.user_certificate and security.user are two ways to log in: take one of them out")
	case (s.User == "") != (s.PasswordFile == ""):
		return strict.At("password_file", "security.password_file and security.user go together: a password stands in a file of its own")
	case (s.UserCertificate == "") != (s.UserKey == ""):
		return strict.At("user_key", "security.user_key and security.user_certificate go together")
	}
	return nil
}

// Files are those the configuration names, with the key of each.
func (s *Security) Files() map[string]*string {
	return map[string]*string{"password_file": &s.PasswordFile, "user_certificate": &s.UserCertificate, "user_key": &s.UserKey}
}

func (s *Security) mode() ua.MessageSecurityMode {
	switch {
	case s.Insecure:
		return ua.MessageSecurityModeNone
	case s.Mode == "Sign":
		return ua.MessageSecurityModeSign
	}
	return ua.MessageSecurityModeSignAndEncrypt
}

// discover asks the server what it offers, chooses, and judges its certificate.
// What is asked here is not protected; the secure channel then proves it.
func (s *session) discover(ctx context.Context) error {
	s.offer = nil
	var offers []*ua.EndpointDescription
	err := s.plainly(ctx, func(ch *channel.Channel) (err error) {
		offers, err = endpoints(ctx, ch, s.endpoint)
		return err
	})
	if err != nil {
		return err
	}
	offer, err := s.choose(offers)
	if err != nil {
		return err
	}
	store, err := trust.Open(s.app.Store)
	if err != nil {
		return err
	}
	now := time.Now()
	if err := store.Judge(offer.ServerCertificate, s.want(offer, s.endpoint), now); err != nil {
		return err
	}
	own, err := store.OwnOr(s.own, s.app.URI, s.app.Hosts, now)
	if err != nil {
		return err
	}
	if s.own.Cert != nil && !s.own.Cert.Equal(own.Cert) {
		s.log.Info("another own certificate is shown from now on", "fingerprint", trust.Fingerprint(own.Cert), "before", trust.Fingerprint(s.own.Cert))
	}
	if own.Notice != "" && own.Notice != s.own.Notice {
		s.log.Warn("the own certificate", "notice", own.Notice)
	}
	s.offer, s.own = offer, own
	return nil
}

// want is what the certificate of an offer must be, where the server is called at
// endpoint.
func (s *session) want(offer *ua.EndpointDescription, endpoint string) trust.Want {
	w := trust.Want{
		Endpoint: endpoint, Host: hostOf(endpoint), AcceptExpired: s.security.AcceptExpired,
		AcceptHostMismatch: s.security.AcceptHostMismatch, AcceptURIMismatch: s.security.AcceptURIMismatch,
	}
	if offer.Server != nil {
		w.ApplicationURI = offer.Server.ApplicationURI
	}
	return w
}

func hostOf(endpoint string) string {
	u, err := url.Parse(endpoint)
	if err != nil {
		return ""
	}
	return u.Hostname()
}

// leaf is the first certificate of a chain: the server's own.
func leaf(chain []byte) ([]byte, error) {
	all, err := x509.ParseCertificates(chain)
	if err != nil || len(all) == 0 {
		return nil, fmt.Errorf("%w: its certificate can't be read: %w", channel.ErrSecurity, errors.Join(err))
	}
	return all[0].Raw, nil
}

// proven checks that who answers has the key of the certificate that was judged.
func (s *session) proven(r *ua.CreateSessionResponse, nonce []byte) error {
	if s.offer == nil {
		return nil
	}
	if !bytes.HasPrefix(r.ServerCertificate, s.remote) {
		return fmt.Errorf("%w: its session has another certificate than its channel", channel.ErrSecurity)
	}
	if len(r.ServerNonce) < leastNonce {
		return fmt.Errorf("%w: a nonce of %d bytes", channel.ErrSecurity, len(r.ServerNonce))
	}
	// Of what was sent only the certificate itself is signed; servers of before that
	// rule sign its issuers' too (OPC 10000-4 §5.6.2.2).
	err := s.ch.Verify(r.ServerSignature, s.own.Cert.Raw, nonce)
	if err != nil && len(s.own.DER) > len(s.own.Cert.Raw) {
		return s.ch.Verify(r.ServerSignature, s.own.DER, nonce)
	}
	return err
}

// leastNonce is how long the nonces of sessions are (OPC 10000-4 §5.6.2).
const leastNonce = 32

// login is the identity token, and its signature.
func (s *session) login() (token any, signature *ua.SignatureData, err error) {
	if s.offer == nil {
		return &ua.AnonymousIdentityToken{PolicyID: s.user}, &ua.SignatureData{}, nil
	}
	kind := s.security.login()
	p, err := s.taken(s.offer)
	if err != nil {
		return nil, nil, err
	}
	policy := cmp.Or(p.SecurityPolicyURI, s.offer.SecurityPolicyURI)
	if kind == ua.UserTokenTypeUserName {
		token, err = s.byName(p.PolicyID, policy)
		return token, &ua.SignatureData{}, err
	}
	if kind == ua.UserTokenTypeCertificate {
		return s.byCertificate(p.PolicyID, policy)
	}
	return &ua.AnonymousIdentityToken{PolicyID: p.PolicyID}, &ua.SignatureData{}, nil
}

// byName encrypts the password for the server (OPC 10000-4 §7.41.2.2). Only on an
// encrypted channel may a server ask for it as it is.
func (s *session) byName(id, policy string) (*ua.UserNameIdentityToken, error) {
	password, err := os.ReadFile(s.security.PasswordFile)
	if err != nil {
		return nil, loginFault("the password in security.password_file can't be read on this gateway: %v", err)
	}
	password = bytes.TrimRight(password, "\r\n")
	if policy == ua.SecurityPolicyURINone {
		if s.security.mode() != ua.MessageSecurityModeSignAndEncrypt {
			return nil, loginFault("the server wants the password in clear text, which this agent sends only where all is encrypted: set security.mode: SignAndEncrypt")
		}
		return &ua.UserNameIdentityToken{PolicyID: id, UserName: s.security.User, Password: password}, nil
	}
	a, err := s.cipher(policy, s.own.Key)
	if err != nil {
		return nil, err
	}
	secret := binary.LittleEndian.AppendUint32(nil, uint32(len(password)+len(s.nonce)))
	sealed, err := a.Encrypt(append(append(secret, password...), s.nonce...))
	if err != nil {
		return nil, fmt.Errorf("encrypt the password: %w", err)
	}
	return &ua.UserNameIdentityToken{PolicyID: id, UserName: s.security.User, Password: sealed, EncryptionAlgorithm: a.EncryptionURI()}, nil
}

func (s *session) byCertificate(id, policy string) (*ua.X509IdentityToken, *ua.SignatureData, error) {
	pair, err := tls.LoadX509KeyPair(s.security.UserCertificate, s.security.UserKey)
	if err != nil {
		return nil, nil, loginFault("read the user's certificate and its key, security.user_certificate and security.user_key: %v", err)
	}
	key, ok := pair.PrivateKey.(*rsa.PrivateKey)
	if !ok {
		return nil, nil, loginFault("security.user_key holds no RSA key, and no other fits a policy that this agent speaks: have one made for the user")
	}
	a, err := s.cipher(policy, key)
	if err != nil {
		return nil, nil, err
	}
	sig, err := a.Signature(append(bytes.Clone(s.remote), s.nonce...))
	if err != nil {
		return nil, nil, fmt.Errorf("sign the login: %w", err)
	}
	return &ua.X509IdentityToken{PolicyID: id, CertificateData: pair.Certificate[0]}, &ua.SignatureData{Algorithm: a.SignatureURI(), Signature: sig}, nil
}

func (s *session) cipher(policy string, key *rsa.PrivateKey) (*uapolicy.EncryptionAlgorithm, error) {
	if !slices.Contains(policies(), strings.TrimPrefix(policy, policyPrefix)) {
		return nil, loginFault("the server wants a login protected with %.100q, which is none of %s: enable one of these for logins at the server", strings.TrimPrefix(policy, policyPrefix), strings.Join(policies(), ", "))
	}
	cert, err := x509.ParseCertificate(s.remote)
	if err != nil {
		return nil, fmt.Errorf("read the server's certificate: %w", err)
	}
	remote, ok := cert.PublicKey.(*rsa.PublicKey)
	if !ok {
		return nil, errors.New("the server's key is no RSA key")
	}
	a, err := uapolicy.Asymmetric(policy, key, remote)
	if err != nil {
		return nil, fmt.Errorf("protect the login: %w", err)
	}
	return a, nil
}
