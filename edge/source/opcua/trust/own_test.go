package trust

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

func (s *Store) own(t *testing.T) Identity {
	t.Helper()
	id, err := s.Own(agent, []string{"gw-1"}, noon)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func TestOwn_MadeOnce(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	id, err := s.Own(agent, []string{"gw-1.plant", "gw-1", "192.168.10.2", "fd00::2"}, noon)
	if err != nil {
		t.Fatal(err)
	}
	c := id.Cert
	switch {
	case uriOf(c) != agent, !slices.Equal(hostsOf(c), []string{"gw-1.plant", "gw-1", "192.168.10.2", "fd00::2"}):
		t.Errorf("names: %s, %s", uriOf(c), hostsOf(c))
	case !c.NotBefore.Equal(noon.AddDate(0, 0, -1)), !c.NotAfter.Equal(noon.AddDate(5, 0, 0)):
		t.Errorf("valid %s to %s", c.NotBefore, c.NotAfter)
	case c.SignatureAlgorithm != x509.SHA256WithRSA, !signed(c, c), !selfIssued(c), c.IsCA, !c.BasicConstraintsValid, len(c.SubjectKeyId) != 20, c.SerialNumber.Sign() < 1:
		t.Errorf("form: %+v", c)
	case c.KeyUsage != x509.KeyUsageDigitalSignature|x509.KeyUsageContentCommitment|x509.KeyUsageKeyEncipherment|x509.KeyUsageDataEncipherment|x509.KeyUsageCertSign:
		t.Errorf("uses %b", c.KeyUsage)
	case !slices.Equal(c.ExtKeyUsage, []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth}):
		t.Errorf("extended uses %v", c.ExtKeyUsage)
	case !id.Key.PublicKey.Equal(c.PublicKey), id.Key.N.BitLen() != 2048, !strings.Contains(id.Notice, "was made: each server must be told"):
		t.Errorf("%s", id.Notice)
	case fit(c) != nil:
		t.Errorf("we would refuse it ourselves: %v", fit(c))
	}
	again, err := open(t, dir).Own(agent, nil, noon.AddDate(1, 0, 0))
	if err != nil || !again.Cert.Equal(c) || !again.Key.Equal(id.Key) || again.Notice != "" {
		t.Errorf("not found again: %v, %q", err, again.Notice)
	}
	late, err := s.Own(agent, nil, noon.AddDate(6, 0, 0))
	if err != nil || !strings.Contains(late.Notice, "was valid until 2031-11-29 12:00:00 UTC") {
		t.Errorf("past its end: %v, %q", err, late.Notice)
	}
	if _, err := s.Own("urn:plant:other", nil, noon); err == nil || !strings.Contains(err.Error(), `is for the application URI "urn:plant:gateway", and the agent is now called "urn:plant:other"`) {
		t.Errorf("another name: %v", err)
	}
}

func TestOwn_RealKeys(t *testing.T) {
	s, err := Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if id := s.own(t); id.Key.N.BitLen() != keyBits {
		t.Errorf("%d bits", id.Key.N.BitLen())
	}
}

func TestOwn_RefusesWhatWouldBeRefused(t *testing.T) {
	for name, c := range map[string]struct {
		uri   string
		hosts []string
		now   time.Time
		want  string
	}{
		"no URI":        {"", []string{"a"}, noon, "can't stand in a certificate"},
		"no scheme":     {"gateway", []string{"a"}, noon, "can't stand in a certificate"},
		"spelled anew":  {"URN:x", []string{"a"}, noon, "can't stand in a certificate"},
		"no host":       {agent, nil, noon, "a certificate must name one"},
		"odd host":      {agent, []string{"gateway ä"}, noon, `the host name "gateway ä"`},
		"clock at 1970": {agent, []string{"a"}, time.Unix(0, 0), "set the clock first"},
	} {
		t.Run(name, func(t *testing.T) {
			s := open(t, t.TempDir())
			if _, err := s.Own(c.uri, c.hosts, c.now); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %s", err, c.want)
			}
			if _, err := os.Stat(s.path(ownDir)); err == nil {
				t.Error("something was made")
			}
		})
	}
}

// TestOwn_Mends what crashes, disks and people leave behind.
func TestOwn_Mends(t *testing.T) {
	other := pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(keys().other)})
	for name, c := range map[string]struct {
		harm    func(s *Store) error
		keeps   bool // the key
		aside   int
		notice  string
		readErr string
	}{
		"key of another":      {func(s *Store) error { return os.WriteFile(s.path(ownDir, keyFile), other, 0o600) }, false, 1, "is not the key of the certificate beside it", ""},
		"certificate missing": {func(s *Store) error { return os.Remove(s.path(ownDir, certFile)) }, true, 1, "cert.der is missing", ""},
		"certificate cut":     {func(s *Store) error { return os.Truncate(s.path(ownDir, certFile), 300) }, true, 1, "holds no certificate", ""},
		"key missing":         {func(s *Store) error { return os.Remove(s.path(ownDir, keyFile)) }, false, 1, "key.pem is missing", ""},
		"key cut":             {func(s *Store) error { return os.Truncate(s.path(ownDir, keyFile), 300) }, false, 1, "holds no RSA key", ""},
		"folder empty": {func(s *Store) error {
			return errors.Join(os.Remove(s.path(ownDir, keyFile)), os.Remove(s.path(ownDir, certFile)))
		}, false, 1, "key.pem is missing", ""},
		"folder gone": {func(s *Store) error { return os.RemoveAll(s.path(ownDir)) }, false, 0, "was made: each server", ""},
		"key unreadable": {func(s *Store) error {
			return errors.Join(os.Remove(s.path(ownDir, keyFile)), os.Mkdir(s.path(ownDir, keyFile), 0o700))
		}, true, 0, "", "is no file"},
	} {
		t.Run(name, func(t *testing.T) {
			s := open(t, t.TempDir())
			before := s.own(t)
			if err := c.harm(s); err != nil {
				t.Fatal(err)
			}
			got, err := s.Own(agent, []string{"gw-1"}, noon)
			if n := s.count(t, asideDir); n != c.aside {
				t.Errorf("%d pairs in aside/", n)
			}
			if c.readErr != "" {
				if err == nil || !strings.Contains(err.Error(), c.readErr) {
					t.Errorf("made anew what may come back: %v", err)
				}
				return
			}
			if err != nil || got.Cert.Equal(before.Cert) || !strings.Contains(got.Notice, c.notice) || !got.Key.PublicKey.Equal(got.Cert.PublicKey) {
				t.Fatalf("%v, %q", err, got.Notice)
			}
			if name != "key of another" && got.Key.Equal(before.Key) != c.keeps {
				t.Error("the key")
			}
			if again := s.own(t); !again.Cert.Equal(got.Cert) || again.Notice != "" {
				t.Errorf("not settled: %q", again.Notice)
			}
		})
	}
}

func TestOwn_TakesAChainMadeElsewhere(t *testing.T) {
	ca := authority(t, "Plant CA", keys().ca, nil)
	mine := server(t, &ca)
	s := open(t, t.TempDir())
	if err := os.Mkdir(s.path(ownDir), 0o700); err != nil {
		t.Fatal(err)
	}
	s.plant(t, ownDir, keyFile, pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(keys().server)}))
	s.plant(t, ownDir, certFile, chain(mine, ca))
	id, err := s.Own(plcURI, nil, noon)
	if err != nil || !id.Cert.Equal(mine.cert) || len(id.DER) != len(chain(mine, ca)) {
		t.Errorf("%v", err)
	}
}

// TestOwn_ManyAtOnce: workers start together, each a process of its own.
func TestOwn_ManyAtOnce(t *testing.T) {
	dir := t.TempDir()
	got := make([]Identity, 8)
	var wg sync.WaitGroup
	for i := range got {
		s := open(t, dir)
		wg.Go(func() {
			var err error
			if got[i], err = s.Own(agent, []string{"gw-1"}, noon); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for _, id := range got {
		if id.Cert == nil || !id.Cert.Equal(got[0].Cert) || !id.Key.Equal(got[0].Key) {
			t.Fatal("two certificates for one agent")
		}
	}
}

func TestOwn_Modes(t *testing.T) {
	if os.PathSeparator != '/' {
		t.Skip("this system has other modes")
	}
	dir := filepath.Join(t.TempDir(), "pki")
	s := open(t, dir)
	s.own(t)
	if _, err := s.Renew(agent, []string{"gw-1"}, noon); err != nil {
		t.Fatal(err)
	}
	mode := func(parts ...string) os.FileMode {
		info, err := os.Stat(s.path(parts...))
		if err != nil {
			t.Fatal(err)
		}
		return info.Mode().Perm()
	}
	for _, sub := range []string{"", ownDir, nextDir, asideDir, trustedDir, issuersDir, listsDir, rejectedDir, pinsDir} {
		if m := mode(sub); m != 0o700 {
			t.Errorf("%s/ has mode %04o", sub, m)
		}
	}
	if a, b := mode(ownDir, keyFile), mode(nextDir, keyFile); a != 0o600 || b != 0o600 {
		t.Errorf("keys have modes %04o, %04o", a, b)
	}
	for path, m := range map[string]os.FileMode{s.path(ownDir, keyFile): 0o644, s.path(trustedDir): 0o755, s.path(ownDir): 0o777} {
		if err := os.Chmod(path, m); err != nil {
			t.Fatal(err)
		}
	}
	s = open(t, dir)
	if id := s.own(t); !strings.Contains(id.Notice, "Others could read the private key") || mode(ownDir, keyFile) != 0o600 {
		t.Errorf("mode %04o, %q", mode(ownDir, keyFile), id.Notice)
	}
	if id := s.own(t); id.Notice != "" || mode(trustedDir) != 0o700 || mode(ownDir) != 0o700 {
		t.Errorf("%q, modes %04o %04o", id.Notice, mode(trustedDir), mode(ownDir))
	}
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(dir); err == nil || !strings.Contains(err.Error(), "others may write to") {
		t.Errorf("a store that others may write to: %v", err)
	}
}

func TestOpen_NoFolder(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(path); err == nil {
		t.Error("opened a file")
	}
}

func TestOwn_SweepsWhatACrashLeft(t *testing.T) {
	if os.PathSeparator != '/' {
		t.Skip("this system has no lock: nobody knows what is left")
	}
	s := open(t, t.TempDir())
	pair := s.path(makingPrefix + "pair")
	if err := os.MkdirAll(pair, 0o700); err != nil {
		t.Fatal(err)
	}
	s.plant(t, makingPrefix+"pair", keyFile, []byte("half a k"))
	for _, sub := range []string{trustedDir, rejectedDir, pinsDir} {
		s.plant(t, sub, makingPrefix+"1", []byte("half"))
	}
	id := s.own(t)
	for _, sub := range []string{trustedDir, rejectedDir, pinsDir} {
		if s.count(t, sub) != 0 {
			t.Errorf("%s/ keeps what a crash left", sub)
		}
	}
	if _, err := os.Stat(pair); err == nil || id.Cert == nil {
		t.Errorf("what a crash left stays for ever: %v", err)
	}
}

func TestRenew_Overlap(t *testing.T) {
	s := open(t, t.TempDir())
	hosts := []string{"gw-1"}
	if _, err := s.Adopt(noon); !errors.Is(err, ErrNoNext) {
		t.Errorf("nothing to adopt: %v", err)
	}
	first := s.own(t)
	next, err := s.Renew(agent, hosts, noon)
	if err != nil || next.Cert.Equal(first.Cert) || next.Key.Equal(first.Key) || !strings.Contains(next.Notice, "tell each server") {
		t.Fatalf("%v, %q", err, next.Notice)
	}
	if id := s.own(t); !id.Cert.Equal(first.Cert) {
		t.Error("the present one is no longer used")
	}
	if id, err := s.Renew(agent, hosts, noon); err != nil || !id.Cert.Equal(next.Cert) {
		t.Errorf("renewed twice: %v", err)
	}
	renamed, err := s.Renew("urn:plant:renamed", hosts, noon)
	if err != nil || uriOf(renamed.Cert) != "urn:plant:renamed" || s.count(t, asideDir) != 1 {
		t.Errorf("renewed under another name: %v", err)
	}
	id, err := s.Adopt(noon)
	if err != nil || !id.Cert.Equal(renamed.Cert) || s.count(t, asideDir) != 2 {
		t.Fatalf("%v", err)
	}
	if id, err := s.Own("urn:plant:renamed", hosts, noon); err != nil || !id.Cert.Equal(renamed.Cert) || id.Notice != "" {
		t.Errorf("%v, %q", err, id.Notice)
	}
	if _, err := s.Adopt(noon); !errors.Is(err, ErrNoNext) {
		t.Errorf("adopted twice: %v", err)
	}
	for range maxAside + 3 {
		if _, err = s.Renew(agent, hosts, noon); err == nil {
			_, err = s.Adopt(noon)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if n := s.count(t, asideDir); n != maxAside {
		t.Errorf("%d pairs in aside/", n)
	}
}

// TestAdopt_CutOff: the present pair is away and the next one not yet in place.
func TestAdopt_CutOff(t *testing.T) {
	for _, finish := range []string{"Own", "Adopt"} {
		t.Run(finish, func(t *testing.T) {
			s := open(t, t.TempDir())
			s.own(t)
			next, err := s.Renew(agent, []string{"gw-1"}, noon)
			if err == nil {
				err = s.setAside(ownDir)
			}
			if err != nil {
				t.Fatal(err)
			}
			var id Identity
			if finish == "Own" {
				id = s.own(t)
				if !strings.Contains(id.Notice, "taken into use") {
					t.Errorf("%q", id.Notice)
				}
			} else if id, err = s.Adopt(noon); err != nil {
				t.Fatal(err)
			}
			if again := s.own(t); !id.Cert.Equal(next.Cert) || !again.Cert.Equal(next.Cert) {
				t.Error("another certificate than the one that servers were told of")
			}
		})
	}
}
