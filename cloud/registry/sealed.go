package registry

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// ErrSealed is returned where the hub's keys can't be read for want of what they are
// sealed with.
var ErrSealed = errors.New("the hub's keys are sealed")

const (
	// sealBytes: AES-256.
	sealBytes = 32
	// sealFor binds what is sealed to what it is.
	sealFor = "plantmesh registry keys 1"
)

// sealed is keys.json where the keys are encrypted: AES-256-GCM.
type sealed struct {
	Nonce  []byte `json:"nonce,omitempty"`
	Sealed []byte `json:"sealed,omitempty"`
}

// readKeys reads keys.json; ok is false where there is none, plain where it is not
// sealed.
func readKeys(path, keyFile string) (k keys, ok, plain bool, err error) {
	var s sealed
	if ok, err = readJSON(path, &s); err != nil || !ok {
		return k, ok, false, err
	}
	if s.Sealed == nil {
		ok, err = readJSON(path, &k)
		return k, ok, true, err
	}
	if keyFile == "" {
		return k, true, false, fmt.Errorf("%w: name the file of their key in hub.yaml, as identity.key_file", ErrSealed)
	}
	aead, err := sealer(keyFile)
	if err != nil {
		return k, true, false, err
	}
	if len(s.Nonce) != aead.NonceSize() {
		return k, true, false, fmt.Errorf("%w: %s is damaged", ErrSealed, path)
	}
	b, err := aead.Open(nil, s.Nonce, s.Sealed, []byte(sealFor))
	if err != nil {
		return k, true, false, fmt.Errorf("%w: with another key than that in %s, or %s is damaged", ErrSealed, keyFile, path)
	}
	if err := json.Unmarshal(b, &k); err != nil {
		return k, true, false, fmt.Errorf("read %s: %w", path, err)
	}
	return k, true, false, nil
}

// writeKeys writes keys.json, sealed where there is a file of a key, which is made where
// it is not there.
func writeKeys(path, keyFile string, k keys) error {
	if keyFile == "" {
		return writeJSON(path, k)
	}
	key := make([]byte, sealBytes)
	_, _ = rand.Read(key) // never fails
	if _, err := os.Stat(keyFile); errors.Is(err, fs.ErrNotExist) {
		if err := os.MkdirAll(filepath.Dir(keyFile), 0o700); err != nil {
			return fmt.Errorf("make the key of the hub's keys: %w", err)
		}
		if _, err := createJSON(keyFile, hex.EncodeToString(key)); err != nil {
			return fmt.Errorf("make the key of the hub's keys: %w", err)
		}
	}
	aead, err := sealer(keyFile) // which another process may have made
	if err != nil {
		return err
	}
	b, err := json.Marshal(k)
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	s := sealed{Nonce: make([]byte, aead.NonceSize())}
	_, _ = rand.Read(s.Nonce) // never fails
	s.Sealed = aead.Seal(nil, s.Nonce, b, []byte(sealFor))
	return writeJSON(path, s)
}

// sealer is the cipher of the key in a file: 64 hexadecimal digits, that others can't
// read.
func sealer(keyFile string) (cipher.AEAD, error) {
	info, err := os.Stat(keyFile)
	if err != nil {
		return nil, fmt.Errorf("%w: their key can't be read: %w", ErrSealed, err)
	}
	if info.Mode().Perm()&0o007 != 0 {
		return nil, fmt.Errorf("%w: everybody can read their key in %s: chmod 600 it", ErrSealed, keyFile)
	}
	b, err := os.ReadFile(keyFile)
	if err != nil {
		return nil, fmt.Errorf("%w: their key can't be read: %w", ErrSealed, err)
	}
	key, err := hex.DecodeString(strings.Trim(string(b), " \r\n\""))
	if err != nil || len(key) != sealBytes {
		return nil, fmt.Errorf("%w: %s holds no key of %d hexadecimal digits", ErrSealed, keyFile, 2*sealBytes)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("use the key in %s: %w", keyFile, err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return nil, fmt.Errorf("use the key in %s: %w", keyFile, err)
	}
	return aead, nil
}
