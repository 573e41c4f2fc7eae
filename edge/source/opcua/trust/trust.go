// Package trust is the certificate side of an OPC UA client: the agent's own
// application certificate, and the servers' certificates that a person has
// decided to trust.
//
// A Store is a folder, and the folder is all there is: whoever copies a file
// into it or takes one out has done the same as a command.
//
//	own/       cert.der and key.pem: what the agent shows to servers
//	next/      the same, made by Renew and waiting for Adopt
//	aside/     pairs that were replaced or are unusable; nobody reads them
//	trusted/   certificates of servers, and of issuers whose servers are trusted
//	issuers/   certificates between a server and a trusted issuer; not trusted by themselves
//	crl/       revocation lists of issuers
//	rejected/  what servers showed and nobody trusts yet: at most 32 files, the oldest leave
//	pins/      a mark for each endpoint that a trusted certificate is meant for
//	lock       held by whoever changes anything but rejected/
//
// Certificates are DER files named "<common name> [<SHA-1>].der"; under any other
// name, and as PEM, they are read as well. What counts is the content. A trusted
// certificate with no mark in pins/ is trusted at every endpoint.
//
// Nothing is ever trusted because it came first.
package trust

import (
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Folders of a store. own, next and aside come into being when they are needed,
// as whole folders, so that key and certificate are never seen apart.
const (
	ownDir      = "own"
	nextDir     = "next"
	asideDir    = "aside"
	trustedDir  = "trusted"
	issuersDir  = "issuers"
	listsDir    = "crl"
	rejectedDir = "rejected"
	pinsDir     = "pins"
)

// Errors for those who must tell cases apart.
var (
	// ErrFingerprint means that a text is no fingerprint.
	ErrFingerprint = errors.New("is no SHA-256 fingerprint")
	// ErrNotFound means that no certificate has this fingerprint.
	ErrNotFound = errors.New("no such certificate")
	// ErrAmbiguous means that several certificates have a fingerprint that begins so.
	ErrAmbiguous = errors.New("more than one certificate has a fingerprint that begins so")
	// ErrNoNext means that Adopt was called without Renew before it.
	ErrNoNext = errors.New("there is no renewed certificate to take into use")
)

// Store is a folder of certificates. It remembers nothing between calls and
// reads the folder each time, so any number of Stores, in any number of
// processes, may use one folder at once; all methods are safe for concurrent
// use. What a method has written is durable when it returns without an error.
type Store struct {
	dir    string
	newKey func() (*rsa.PrivateKey, error)
}

// Open opens the store in dir and makes what is missing of it, with mode 0700.
// Its own folders that others could enter are closed to them. It fails if dir
// can't be made or used, or if others may write to it: they could put their own
// certificates in place.
func Open(dir string) (*Store, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("open the certificate store: %w", err)
	}
	if err := guarded(dir); err != nil {
		return nil, fmt.Errorf("open the certificate store: %w", err)
	}
	s := &Store{dir: dir, newKey: func() (*rsa.PrivateKey, error) { return rsa.GenerateKey(rand.Reader, keyBits) }}
	for _, sub := range []string{trustedDir, issuersDir, listsDir, rejectedDir, pinsDir, asideDir} {
		if err := os.Mkdir(s.path(sub), 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, fmt.Errorf("open the certificate store: %w", err)
		}
	}
	for _, sub := range []string{ownDir, nextDir, trustedDir, issuersDir, listsDir, rejectedDir, pinsDir, asideDir} {
		if err := private(s.path(sub)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("open the certificate store: %w", err)
		}
	}
	return s, nil
}

func (s *Store) path(parts ...string) string {
	return filepath.Join(append([]string{s.dir}, parts...)...)
}
