// Package enroll is what a gateway and a hub say to each other before either knows the
// other: a gateway asks to be let in, in a request signed by a key it has made itself,
// and is told how that stands. The same bytes go over HTTP and, where no network leads
// to the hub, in files. Nothing in them is a secret but a one-time key.
package enroll

import (
	"crypto/sha256"
	"encoding/base32"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"unicode"
)

const (
	// Path is where a hub takes signed requests, by POST.
	Path = "/api/v1/enrollments"
	// Page is where a hub shows the request with a code, which stands behind it.
	Page = "/e/"
	// ServerName is what a hub's certificate is for, whatever address it is called at:
	// its authority signs for it alone.
	ServerName = "hub.plantmesh"
	// Protocol is what an agent says in a TLS handshake (ALPN) at an address that others
	// call, too: it is to be shown the certificate of the hub's own authority.
	Protocol = "plantmesh"
	// Version of requests.
	Version = 1
	// MaxBytes bounds a signed request.
	MaxBytes = 16 << 10
	// MaxAnswer bounds an answer: a token has some 1 KiB.
	MaxAnswer = 64 << 10
	// maxText bounds each text of a request.
	maxText = 128
)

// ErrRequest is returned for a request that is none.
var ErrRequest = errors.New("this is no request of a gateway")

// Request is what a gateway says of itself. All of it but the public key is only said:
// whoever approves it compares the fingerprint with what the gateway shows.
type Request struct {
	Version   int    `json:"version"`
	PublicKey string `json:"public_key"`     // of the gateway, an nkey: U and 55 letters or digits
	Site      string `json:"site,omitempty"` // empty: the hub's own
	Agent     string `json:"agent"`          // the name it would have
	Key       string `json:"key,omitempty"`  // a one-time key: nobody has to approve then
	Host      Host   `json:"host"`
}

// Host is the machine, for the person who approves.
type Host struct {
	Name    string `json:"name,omitempty"`
	System  string `json:"system,omitempty"` // as linux/arm64
	Cores   int    `json:"cores,omitempty"`
	Version string `json:"version,omitempty"` // of the agent
}

// Signed is a request as it travels.
type Signed struct {
	Request   []byte `json:"request"`   // JSON of a Request
	Signature []byte `json:"signature"` // Ed25519 over these bytes, by the private half of the key in them
}

// State is how a request stands.
type State string

// States of a request.
const (
	Pending  State = "pending"  // somebody has to approve it; ask again
	Approved State = "approved" // here is the token
	Refused  State = "refused"  // Why says why
)

// Answer is what a hub says to a request.
type Answer struct {
	State State  `json:"state"`
	Site  string `json:"site,omitempty"`
	Agent string `json:"agent,omitempty"` // the name it was given
	Token string `json:"token,omitempty"` // the whole file of the agent's token
	NATS  string `json:"nats,omitempty"`  // where it is to send, as nats://hub:4222
	// WebSocket is where it is to send through a proxy, as wss://hub; empty: there too.
	WebSocket string `json:"websocket,omitempty"`

	Why   string `json:"why,omitempty"`
	Retry int    `json:"retry_seconds,omitempty"` // of a pending request: when to ask again
}

// Parse reads what was signed, and bounds it; whether the signature holds is not
// looked at.
func (s *Signed) Parse() (r Request, err error) {
	if len(s.Request) > MaxBytes {
		return r, fmt.Errorf("%w: it has more than %d bytes", ErrRequest, MaxBytes)
	}
	if err := json.Unmarshal(s.Request, &r); err != nil {
		return r, fmt.Errorf("%w: %w", ErrRequest, err)
	}
	return r, r.check()
}

func (r *Request) check() error {
	if r.Version != Version {
		return fmt.Errorf("%w: version %d is not one that this hub reads (%d): one of the two programs is too old", ErrRequest, r.Version, Version)
	}
	if !Name(r.Agent) || r.Site != "" && !Name(r.Site) {
		return fmt.Errorf("%w: agent and site are lower case letters, digits, '-' and '_', at most 63", ErrRequest)
	}
	for _, text := range []string{r.PublicKey, r.Key, r.Host.Name, r.Host.System, r.Host.Version} {
		if len(text) > maxText || strings.ContainsFunc(text, func(c rune) bool { return !unicode.IsPrint(c) }) {
			return fmt.Errorf("%w: its texts are printable and have at most %d bytes", ErrRequest, maxText)
		}
	}
	if r.Host.Cores < 0 || r.Host.Cores > 1<<16 {
		return fmt.Errorf("%w: %d cores", ErrRequest, r.Host.Cores)
	}
	return nil
}

// Name reports whether a text can be the name of a site or an agent: one token of a
// subject.
func Name(s string) bool { return regexp.MustCompile(`^[a-z0-9][a-z0-9_-]{0,62}$`).MatchString(s) }

// crockford has no letters that are taken for others.
func crockford() *base32.Encoding {
	return base32.NewEncoding("0123456789ABCDEFGHJKMNPQRSTVWXYZ").WithPadding(base32.NoPadding)
}

// Fingerprint is how people compare keys: "SHA256:" and 64 hexadecimal digits.
func Fingerprint(publicKey string) string {
	sum := sha256.Sum256([]byte(publicKey))
	return "SHA256:" + hex.EncodeToString(sum[:])
}

// Code is the beginning of the fingerprint, for people to type: KXQ7-2MPL. It names a
// request and proves nothing: two keys can be made that share one.
func Code(publicKey string) string {
	sum := sha256.Sum256([]byte(publicKey))
	code := crockford().EncodeToString(sum[:5])
	return code[:4] + "-" + code[4:]
}

// ReadCode is a code as Code writes it, of what somebody typed; ok is false where it
// can be none.
func ReadCode(typed string) (code string, ok bool) {
	s := strings.NewReplacer("-", "", " ", "", "O", "0", "I", "1", "L", "1").Replace(strings.ToUpper(typed))
	if _, err := crockford().DecodeString(s); err != nil || len(s) != 8 {
		return "", false
	}
	return s[:4] + "-" + s[4:], true
}
