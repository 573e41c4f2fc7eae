package trust

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"
)

const (
	keyBits  = 2048
	years    = 5              // of validity
	lead     = 24 * time.Hour // validity begins so long before now: clocks of devices are behind, or set to local time
	certFile = "cert.der"
	keyFile  = "key.pem"
	maxKey   = 64 << 10
)

// Identity is the agent's own application certificate with its key.
type Identity struct {
	Cert *x509.Certificate
	DER  []byte // what is shown to servers: Cert, and its issuers' where the file has them
	Key  *rsa.PrivateKey
	// Notice says in plain words what people must know: that the certificate was
	// made just now and servers don't know it, that it is past its end, that others
	// could read the key. Empty: nothing.
	Notice string
}

// flaw is what is wrong with a pair of key and certificate that can be read.
type flaw struct {
	what string
	key  *rsa.PrivateKey // where that is good
}

func (f *flaw) Error() string { return f.what }

// Own gives the agent's certificate and key. At the first call it makes them: RSA
// 2048, signed by itself with SHA-256, valid for 5 years from a day before now,
// with applicationURI and hosts (names and addresses of this gateway; at least one)
// as OPC 10000-6 §6.2.2 asks for. Later calls give the same ones; other hosts don't
// matter to them, another applicationURI is an error, because servers refuse what
// doesn't match it: Renew and Adopt make a new certificate on purpose.
//
// A pair that is damaged, or where the certificate is not that of the key, is moved
// to aside/ and made anew, with the key if that one is good; Notice tells. A file
// that can't be read (permissions, a failing disk) is an error: it may be readable
// again. Any number of processes may call at once: all get the same pair.
func (s *Store) Own(applicationURI string, hosts []string, now time.Time) (Identity, error) {
	id, err := s.pair(ownDir, now)
	if needsWork(err) {
		id, err = s.settle(applicationURI, hosts, now)
	}
	if err != nil {
		return Identity{}, fmt.Errorf("the agent's own certificate: %w", err)
	}
	if has := uriOf(id.Cert); has != applicationURI {
		return Identity{}, fmt.Errorf("the agent's own certificate is for the application URI %q, and the agent is now called %q; servers refuse that. Go back to the old name, or make a new certificate, which each server must trust anew: plantmesh-edge cert renew", clean(has), applicationURI)
	}
	return id, nil
}

// OwnOr is Own for a program that has used the certificate before: where the files can't be
// used as they lie there, which may be because somebody is replacing them, last is given
// again, and nothing is touched; Notice tells.
func (s *Store) OwnOr(last Identity, applicationURI string, hosts []string, now time.Time) (Identity, error) {
	if _, err := s.pair(ownDir, now); err == nil || last.Cert == nil {
		return s.Own(applicationURI, hosts, now)
	} else if why := clean(err.Error()); last.Notice == "" || !strings.Contains(last.Notice, why) {
		last.Notice = fmt.Sprintf("The agent's own certificate can't be used as it lies in %s (%s). The one before goes on being used: put its certificate and its key there, both whole and of one another.", s.path(ownDir), why)
	}
	return last, nil
}

// needsWork reports whether there is no usable pair, as against one that can't be read.
func needsWork(err error) bool {
	_, bad := errors.AsType[*flaw](err)
	return bad || errors.Is(err, fs.ErrNotExist)
}

// settle makes the own pair, or one out of what is left of it.
func (s *Store) settle(applicationURI string, hosts []string, now time.Time) (Identity, error) {
	unlock, err := s.lock()
	if err != nil {
		return Identity{}, err
	}
	defer unlock()
	id, err := s.pair(ownDir, now) // another process may have been first
	if !needsWork(err) {
		return id, err
	}
	bad, damaged := errors.AsType[*flaw](err)
	if !damaged {
		if id, err := s.pair(nextDir, now); err == nil { // Adopt was cut off between its two moves
			id.Notice = join("The renewed certificate was taken into use: that had been interrupted.", id.Notice)
			return id, s.move(nextDir, ownDir)
		}
		id, err = s.make(ownDir, nil, applicationURI, hosts, now)
		id.Notice = "The agent's own certificate was made: each server must be told to trust it."
		return id, err
	}
	if err := s.setAside(ownDir); err != nil {
		return Identity{}, err
	}
	id, err = s.make(ownDir, bad.key, applicationURI, hosts, now)
	id.Notice = fmt.Sprintf("The agent's own certificate was unusable (%s). It was moved to %s and made anew: each server must be told to trust it again.", clean(bad.what), s.path(asideDir))
	return id, err
}

// Renew makes the next own certificate, with a new key, beside the present one,
// which stays what Own gives until Adopt: meanwhile servers can be told to trust the
// next one. If one waits already for this applicationURI, Renew gives that one.
func (s *Store) Renew(applicationURI string, hosts []string, now time.Time) (Identity, error) {
	unlock, err := s.lock()
	if err != nil {
		return Identity{}, err
	}
	defer unlock()
	id, err := s.pair(nextDir, now)
	switch _, bad := errors.AsType[*flaw](err); {
	case err == nil && uriOf(id.Cert) == applicationURI && !now.After(id.Cert.NotAfter):
		return id, nil
	case err == nil || bad:
		err = s.setAside(nextDir)
	case errors.Is(err, fs.ErrNotExist):
		err = nil
	}
	if err == nil {
		id, err = s.make(nextDir, nil, applicationURI, hosts, now)
	}
	if err != nil {
		return Identity{}, fmt.Errorf("renew the agent's own certificate: %w", err)
	}
	id.Notice = "The next certificate was made: tell each server to trust it, then take it into use. Until then the present one is used."
	return id, nil
}

// Adopt takes the certificate that Renew made into use: Own gives it from now on,
// and the one before is moved to aside/, where the 8 youngest stay. Connections that
// are open keep the one they were opened with. The error wraps ErrNoNext if there is
// none. A crash in between is finished by the next Own or Adopt.
func (s *Store) Adopt(now time.Time) (Identity, error) {
	unlock, err := s.lock()
	if err != nil {
		return Identity{}, err
	}
	defer unlock()
	id, err := s.pair(nextDir, now)
	if errors.Is(err, fs.ErrNotExist) {
		return Identity{}, ErrNoNext
	}
	if err == nil {
		err = s.setAside(ownDir)
	}
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		err = s.move(nextDir, ownDir)
	}
	if err != nil {
		return Identity{}, fmt.Errorf("take the renewed certificate into use: %w", err)
	}
	return id, nil
}

// shown is the certificate in own/ or next/, and all that its file holds.
func (s *Store) shown(sub string) (*x509.Certificate, []byte, error) {
	der, err := readFile(s.path(sub, certFile), maxChain*maxCert)
	if err != nil {
		return nil, nil, err
	}
	chain, r := split(der)
	if r != nil {
		return nil, nil, &flaw{what: fmt.Sprintf("%s holds no certificate that can be read", s.path(sub, certFile))}
	}
	return chain[0], der, nil
}

// pair reads the key and certificate in a folder. The error is a flaw if what can
// be read is unusable, and wraps fs.ErrNotExist if there is no such folder.
func (s *Store) pair(sub string, now time.Time) (Identity, error) {
	if _, err := os.Stat(s.path(sub)); err != nil {
		return Identity{}, err
	}
	path := s.path(sub, keyFile)
	content, err := readFile(path, maxKey)
	if errors.Is(err, fs.ErrNotExist) {
		return Identity{}, &flaw{what: path + " is missing"}
	}
	if err != nil {
		return Identity{}, err
	}
	key, err := parseKey(content)
	if err != nil {
		return Identity{}, &flaw{what: path + " holds no RSA key that can be read"}
	}
	id := Identity{Key: key}
	id.Cert, id.DER, err = s.shown(sub)
	if bad, ok := errors.AsType[*flaw](err); ok {
		return Identity{}, &flaw{what: bad.what, key: key}
	}
	if errors.Is(err, fs.ErrNotExist) {
		return Identity{}, &flaw{what: s.path(sub, certFile) + " is missing", key: key}
	}
	if err != nil {
		return Identity{}, err
	}
	if !key.PublicKey.Equal(id.Cert.PublicKey) {
		return Identity{}, &flaw{what: fmt.Sprintf("%s is not the key of the certificate beside it", path), key: key}
	}
	opened, err := narrow(path, 0o600)
	if err != nil {
		return Identity{}, err
	}
	if opened {
		id.Notice = fmt.Sprintf("Others could read the private key %s until now. If anybody may have copied it, make a new one: plantmesh-edge cert renew.", path)
	}
	if now.After(id.Cert.NotAfter) {
		id.Notice = join(id.Notice, fmt.Sprintf("The agent's own certificate was valid until %s, and servers will refuse it: plantmesh-edge cert renew.", instant(id.Cert.NotAfter)))
	}
	return id, nil
}

func join(a, b string) string { return strings.TrimSpace(a + " " + b) }

func parseKey(content []byte) (*rsa.PrivateKey, error) {
	block, _ := pem.Decode(content)
	if block == nil {
		return nil, errors.New("no PEM")
	}
	if key, err := x509.ParsePKCS1PrivateKey(block.Bytes); err == nil {
		return key, nil
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, err
	}
	key, ok := parsed.(*rsa.PrivateKey)
	if !ok {
		return nil, errors.New("no RSA key")
	}
	return key, nil
}

// make makes a pair in a folder that isn't there: as a whole folder, so that
// nobody sees a key without its certificate. Without a key it makes one.
func (s *Store) make(sub string, key *rsa.PrivateKey, uri string, hosts []string, now time.Time) (Identity, error) {
	template, err := application(uri, hosts, now)
	if err != nil {
		return Identity{}, err
	}
	if key == nil {
		if key, err = s.newKey(); err != nil {
			return Identity{}, fmt.Errorf("make a key: %w", err)
		}
	}
	sum := sha256.Sum256(x509.MarshalPKCS1PublicKey(&key.PublicKey))
	template.SubjectKeyId, template.AuthorityKeyId = sum[:20], sum[:20]
	id := Identity{Key: key}
	if id.DER, err = x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key); err != nil {
		return Identity{}, fmt.Errorf("make a certificate: %w", err)
	}
	if id.Cert, err = x509.ParseCertificate(id.DER); err != nil {
		return Identity{}, fmt.Errorf("make a certificate: %w", err)
	}
	return id, s.lay(sub, id)
}

// lay puts a pair in place.
func (s *Store) lay(sub string, id Identity) error {
	key, err := x509.MarshalPKCS8PrivateKey(id.Key)
	if err != nil {
		return fmt.Errorf("write the key: %w", err)
	}
	making, err := os.MkdirTemp(s.dir, makingPrefix+"*") // made with mode 0700
	if err != nil {
		return fmt.Errorf("write the key: %w", err)
	}
	err = write(filepath.Join(making, keyFile), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}), 0o600)
	if err == nil {
		err = write(filepath.Join(making, certFile), id.DER, public)
	}
	if err == nil {
		err = s.move(filepath.Base(making), sub)
	}
	if err != nil {
		_ = os.RemoveAll(making) // the first error is the one to tell
	}
	return err
}

// application is an application instance certificate of OPC 10000-6 §6.2.2, but
// for its keys.
func application(applicationURI string, hosts []string, now time.Time) (*x509.Certificate, error) {
	uri, err := url.Parse(applicationURI)
	if err != nil || uri.Scheme == "" || uri.String() != applicationURI {
		return nil, fmt.Errorf("the application URI %q can't stand in a certificate: write it like urn:plant:gateway", clean(applicationURI))
	}
	if now.Before(time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC)) {
		return nil, fmt.Errorf("the gateway's clock says %s, and a certificate made now would soon be refused: set the clock first", instant(now))
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, fmt.Errorf("make a serial number: %w", err)
	}
	if len(hosts) == 0 {
		return nil, errors.New("no host name or address of this gateway is known: a certificate must name one")
	}
	c := &x509.Certificate{
		SerialNumber: serial.Add(serial, big.NewInt(1)),
		Subject:      pkix.Name{CommonName: "plantmesh-edge@" + hosts[0][:min(len(hosts[0]), 49)], Organization: []string{"plantmesh"}},
		NotBefore:    now.Add(-lead), NotAfter: now.AddDate(years, 0, 0),
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageContentCommitment |
			x509.KeyUsageKeyEncipherment | x509.KeyUsageDataEncipherment | x509.KeyUsageCertSign,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true, SignatureAlgorithm: x509.SHA256WithRSA,
		URIs: []*url.URL{uri},
	}
	for _, host := range hosts {
		if ip := net.ParseIP(host); ip != nil {
			c.IPAddresses = append(c.IPAddresses, ip)
			continue
		}
		if host == "" || strings.ContainsFunc(host, func(r rune) bool { return r <= ' ' || r > '~' }) {
			return nil, fmt.Errorf("the host name %q can't stand in a certificate", clean(host))
		}
		c.DNSNames = append(c.DNSNames, host)
	}
	return c, nil
}

// move renames a folder of the store; to must not hold anything.
func (s *Store) move(from, to string) error {
	if err := os.Rename(s.path(from), s.path(to)); err != nil {
		return err
	}
	return errors.Join(syncDir(s.dir), syncDir(s.path(asideDir)))
}

// setAside moves a pair to where nobody reads it.
func (s *Store) setAside(sub string) error {
	var name string
	for n := 1; ; n++ {
		name = fmt.Sprintf("%s-%d", sub, n)
		_, err := os.Lstat(s.path(asideDir, name))
		if errors.Is(err, fs.ErrNotExist) {
			break
		}
		if err != nil {
			return err
		}
	}
	if err := s.move(sub, filepath.Join(asideDir, name)); err != nil {
		return err
	}
	return s.prune(asideDir, maxAside, name)
}
