package channel

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"

	"github.com/gopcua/opcua/ua"
)

// algorithm signs and encrypts chunks: uapolicy's of the certificates' keys, or
// symmetric. What Encrypt and Decrypt give may lie where their argument does.
type algorithm interface {
	encryption
	signing
	NonceLength() int // 0: the keys are symmetric
}

type encryption interface {
	BlockSize() int
	PlaintextBlockSize() int
	Encrypt(plain []byte) ([]byte, error)
	Decrypt(sealed []byte) ([]byte, error)
}

type signing interface {
	SignatureLength() int
	RemoteSignatureLength() int
	Signature(message []byte) ([]byte, error)
	VerifySignature(message, signature []byte) error
}

// symmetric are the keys of one token: HMAC-SHA-256 and AES in CBC mode, as all three
// policies have them (OPC 10000-7, profiles Basic256Sha256, Aes128-Sha256-RsaOaep and
// Aes256-Sha256-RsaPss). The library's make key schedule, hash and room anew for every
// chunk; these are made once, and work in place. One goroutine may send by them while
// another one takes.
type symmetric struct{ out, in half }

// half is one direction.
type half struct {
	mac  hash.Hash
	sum  [sha256.Size]byte
	mode chaining
	iv   []byte // of every chunk (OPC 10000-6 §6.7.5)
}

// chaining is a cipher.BlockMode that can begin anew, as those of crypto/aes can.
type chaining interface {
	cipher.BlockMode
	SetIV(iv []byte)
}

// signingKey is how long the keys of signatures are, in bytes (DerivedSignatureKeyLength
// of the policies, 256 bits).
const signingKey = 32

// encryptingKey is how long a policy's AES keys are, in bytes; 0: it is none that is known.
func encryptingKey(policy string) int {
	switch policy {
	case ua.SecurityPolicyURIBasic256Sha256, ua.SecurityPolicyURIAes256Sha256RsaPss:
		return 32
	case ua.SecurityPolicyURIAes128Sha256RsaOaep:
		return 16
	}
	return 0
}

// derive makes the keys of a token from what both sides drew (OPC 10000-6 §6.7.5).
func derive(policy string, own, remote []byte) (*symmetric, error) {
	if policy == ua.SecurityPolicyURINone {
		return &symmetric{}, nil // never used
	}
	n := encryptingKey(policy)
	if n == 0 {
		return nil, fmt.Errorf("policy %.100q is none that this client speaks", policy)
	}
	s := &symmetric{}
	if err := s.out.set(expand(remote, own, signingKey+n+aes.BlockSize), cipher.NewCBCEncrypter); err != nil {
		return nil, err
	}
	return s, s.in.set(expand(own, remote, signingKey+n+aes.BlockSize), cipher.NewCBCDecrypter)
}

// set takes a signing key, an encrypting key and an initialization vector apart.
func (h *half) set(keys []byte, mode func(cipher.Block, []byte) cipher.BlockMode) error {
	at := len(keys) - aes.BlockSize
	block, err := aes.NewCipher(keys[signingKey:at])
	if err != nil {
		return fmt.Errorf("make a key: %w", err)
	}
	h.mac, h.iv = hmac.New(sha256.New, keys[:signingKey]), keys[at:]
	m, ok := mode(block, h.iv).(chaining)
	if !ok {
		return errors.New("make a key: this program's AES can't begin anew")
	}
	h.mode = m
	return nil
}

// expand is P_SHA256 (RFC 5246 §5).
func expand(secret, seed []byte, n int) []byte {
	mac := hmac.New(sha256.New, secret)
	sum := func(to []byte, parts ...[]byte) []byte {
		mac.Reset()
		for _, p := range parts {
			mac.Write(p)
		}
		return mac.Sum(to)
	}
	out := make([]byte, 0, n+sha256.Size)
	for a := sum(nil, seed); len(out) < n; a = sum(nil, a) {
		out = sum(out, a, seed)
	}
	return out[:n]
}

// sign is the signature of a message; it holds until the next call.
func (h *half) sign(message []byte) []byte {
	h.mac.Reset()
	h.mac.Write(message)
	return h.mac.Sum(h.sum[:0])
}

// crypt works in place.
func (h *half) crypt(b []byte) ([]byte, error) {
	if len(b)%aes.BlockSize != 0 {
		return nil, errLength
	}
	h.mode.SetIV(h.iv)
	h.mode.CryptBlocks(b, b)
	return b, nil
}

func (s *symmetric) BlockSize() int             { return aes.BlockSize }
func (s *symmetric) PlaintextBlockSize() int    { return aes.BlockSize }
func (s *symmetric) NonceLength() int           { return 0 }
func (s *symmetric) SignatureLength() int       { return sha256.Size }
func (s *symmetric) RemoteSignatureLength() int { return sha256.Size }

func (s *symmetric) Signature(message []byte) ([]byte, error) { return s.out.sign(message), nil }
func (s *symmetric) Encrypt(plain []byte) ([]byte, error)     { return s.out.crypt(plain) }
func (s *symmetric) Decrypt(sealed []byte) ([]byte, error)    { return s.in.crypt(sealed) }

var errSignature = errors.New("it is of other bytes, or of another key")

func (s *symmetric) VerifySignature(message, signature []byte) error {
	if !hmac.Equal(s.in.sign(message), signature) {
		return errSignature
	}
	return nil
}
