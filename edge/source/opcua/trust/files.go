package trust

import (
	"bytes"
	"crypto/sha1" //nolint:gosec // thumbprints are SHA-1 in OPC UA; nothing is decided by one
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Bounds of what is read.
const (
	maxCert     = 64 << 10 // bytes of a certificate
	maxChain    = 8        // certificates from a server to the trusted issuer
	maxList     = 4 << 20  // bytes of a revocation list
	maxFiles    = 512      // files of a folder
	maxRejected = 32
	maxAside    = 8
)

// makingPrefix begins the names of what is being written: worth nothing after a crash.
const makingPrefix = ".making-"

// sha is the SHA-256 fingerprint of a certificate, in hexadecimal: its identity here.
func sha(der []byte) string {
	sum := sha256.Sum256(der)
	return hex.EncodeToString(sum[:])
}

func thumbprint(der []byte) string {
	sum := sha1.Sum(der) //nolint:gosec // see the import
	return hex.EncodeToString(sum[:])
}

// fileName is the name of a certificate's file. The common name is only for
// people: a server chose it.
func fileName(c *x509.Certificate) string {
	safe := strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', strings.ContainsRune("-_@ ", r):
			return r
		default:
			return '_'
		}
	}, c.Subject.CommonName)
	safe = strings.TrimSpace(safe[:min(len(safe), 60)])
	if safe == "" {
		safe = "no name"
	}
	return safe + " [" + thumbprint(c.Raw) + "].der"
}

// readFile reads a regular file of at most limit bytes.
func readFile(path string, limit int64) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() { // opening a pipe would wait for its writer
		return nil, fmt.Errorf("%s is no file", path)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // it is only read
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	if int64(len(b)) > limit {
		return nil, fmt.Errorf("%s is longer than %d bytes", path, limit)
	}
	return b, nil
}

// each calls take with every file of a folder. Files that can't be read or that
// take does not like are named in broken and keep nothing else from working.
func (s *Store) each(sub string, limit int64, take func(name string, content []byte) error) (broken []error, err error) {
	entries, err := os.ReadDir(s.path(sub))
	if err != nil {
		return nil, fmt.Errorf("read the certificate store: %w", err)
	}
	entries = slices.DeleteFunc(entries, func(e fs.DirEntry) bool { return strings.HasPrefix(e.Name(), ".") })
	if len(entries) > maxFiles {
		broken = append(broken, fmt.Errorf("%s holds %d files: only the first %d are read", s.path(sub), len(entries), maxFiles))
		entries = entries[:maxFiles]
	}
	for _, e := range entries {
		path := s.path(sub, e.Name())
		content, err := readFile(path, limit)
		if errors.Is(err, fs.ErrNotExist) { // another process took it away meanwhile
			continue
		}
		if err == nil {
			if err = take(e.Name(), content); err != nil {
				err = fmt.Errorf("%s: %w", path, err)
			}
		}
		if err != nil {
			broken = append(broken, err)
		}
	}
	return broken, nil
}

// unwrap gives what a DER or PEM file holds. PEM with anything but one block of
// the kind asked for is refused: which of them was meant?
func unwrap(content []byte, kind string) ([]byte, error) {
	const sequence = 0x30 // each certificate and list begins with it, no PEM does
	if len(content) > 0 && content[0] == sequence {
		return content, nil
	}
	block, rest := pem.Decode(content)
	switch {
	case block == nil:
		return nil, fmt.Errorf("holds no %s, neither as DER nor as PEM", strings.ToLower(kind))
	case block.Type != kind:
		return nil, fmt.Errorf("holds a %q, not a %q", clean(block.Type), kind)
	}
	if more, _ := pem.Decode(rest); more != nil {
		return nil, errors.New("holds more than one block: put each into a file of its own")
	}
	return block.Bytes, nil
}

func parseCertificate(content []byte) (*x509.Certificate, error) {
	der, err := unwrap(content, "CERTIFICATE")
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

func parseList(content []byte) (*x509.RevocationList, error) {
	der, err := unwrap(content, "X509 CRL")
	if err != nil {
		return nil, err
	}
	return x509.ParseRevocationList(der)
}

// write puts a file in place, whole or not at all, and makes it durable.
func write(path string, content []byte, mode fs.FileMode) error {
	f, err := os.CreateTemp(filepath.Dir(path), makingPrefix+"*")
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	err = f.Chmod(mode)
	if err == nil {
		_, err = f.Write(content)
	}
	if err == nil {
		err = f.Sync()
	}
	err = errors.Join(err, f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err == nil {
		err = syncDir(filepath.Dir(path))
	} else {
		_ = os.Remove(f.Name()) // the first error is the one to tell
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

// public is the mode of certificates: the folder keeps strangers out, and a
// command run by another user must not lock the agent out.
const public fs.FileMode = 0o644

func (s *Store) put(sub string, c *x509.Certificate) error {
	return write(s.path(sub, fileName(c)), c.Raw, public)
}

// remove takes files away; it is no error if somebody else was first.
func (s *Store) remove(sub string, names ...string) error {
	if len(names) == 0 {
		return nil
	}
	for _, name := range names {
		if err := os.RemoveAll(s.path(sub, name)); err != nil {
			return fmt.Errorf("remove %s: %w", s.path(sub, name), err)
		}
	}
	return syncDir(s.path(sub))
}

// prune takes the oldest entries of a folder away until at most n are left. Those
// in keep stay: with a clock that was set back they would seem the oldest.
func (s *Store) prune(sub string, n int, keep ...string) error {
	entries, err := os.ReadDir(s.path(sub))
	if err != nil {
		return fmt.Errorf("read the certificate store: %w", err)
	}
	type aged struct {
		name string
		at   time.Time
	}
	var all []aged
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || slices.Contains(keep, e.Name()) || strings.HasPrefix(e.Name(), ".") {
			continue // gone meanwhile, or not ours to count
		}
		all = append(all, aged{e.Name(), info.ModTime()})
	}
	slices.SortFunc(all, func(a, b aged) int {
		if c := a.at.Compare(b.at); c != 0 {
			return c
		}
		return strings.Compare(a.name, b.name)
	})
	var names []string
	for _, a := range all[:max(0, len(all)+len(keep)-n)] {
		names = append(names, a.name)
	}
	return s.remove(sub, names...)
}

// sweep removes what a crash left half written. Whoever holds the lock is the only
// one who writes, but for Judge: that keeps a certificate at its next try. Trouble
// is not told: the next sweep tries again, and nobody reads what is left.
func (s *Store) sweep() {
	for _, sub := range []string{"", trustedDir, rejectedDir, pinsDir} {
		left, _ := filepath.Glob(s.path(sub, makingPrefix+"*"))
		for _, path := range left {
			_ = os.RemoveAll(path)
		}
	}
}

// keep puts what was refused as unknown into rejected/, for a person to judge. A
// file that is there already only becomes the youngest.
func (s *Store) keep(chain []*x509.Certificate, now time.Time) error {
	var names []string
	for _, c := range chain {
		name := fileName(c)
		path := s.path(rejectedDir, name)
		there, err := readFile(path, maxCert)
		if err != nil || !bytes.Equal(there, c.Raw) {
			err = s.put(rejectedDir, c)
		}
		if err == nil {
			err = os.Chtimes(path, now, now)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) { // another process may have pruned it
			return fmt.Errorf("keep the certificate: %w", err)
		}
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return s.prune(rejectedDir, maxRejected, names...)
}
