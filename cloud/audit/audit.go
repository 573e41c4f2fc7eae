// Package audit is the trail of every change that a person, a program or the hub itself
// makes to who may do what: an append-only chain of entries, each with the hash of the
// one before. It lies in files of a folder, a JSON line each, that several processes may
// append to.
//
// What is not recorded is not done: whoever changes something has Append return first.
// A chain shows that nothing in it was changed or left out; that its end was cut off is
// shown by a Seal that somebody kept elsewhere.
package audit

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// Errors of a trail.
var (
	// ErrBroken is wrapped by each BreakError.
	ErrBroken = errors.New("the audit trail is broken")
	// ErrChange is returned for a change that is none: its action or its way is unknown.
	ErrChange = errors.New("this is no change to record")
	// ErrSeal is returned for a text that is no seal.
	ErrSeal = errors.New("a seal is a number, a colon and 64 hexadecimal digits, as plantmesh audit verify prints it")
)

// Via is the way a change came.
type Via string

// Ways.
const (
	Session  Via = "session"  // a person, logged in
	Token    Via = "token"    // a program, by an API token
	CLI      Via = "cli"      // plantmesh beside the hub; who is the user of the system
	Loopback Via = "loopback" // a page or program on the hub's own machine, while there are no users
	Hub      Via = "hub"      // the hub itself
	Agent    Via = "agent"    // a gateway, by a one-time key
	Stranger Via = "stranger" // who has not signed in: a first link, a login
)

// Change is what somebody does. Texts that are too long are cut.
type Change struct {
	Who     string `json:"who"`
	Via     Via    `json:"via"`
	Address string `json:"address,omitempty"` // it came from; empty: this machine
	Action  string `json:"action"`            // words with dots between, as agent.approve
	Object  string `json:"object"`            // as graz/gw-1
	Before  string `json:"before,omitempty"`  // empty: it was not there
	After   string `json:"after,omitempty"`   // empty: it is no more
	Reason  string `json:"reason,omitempty"`
}

// Entry is a change as it is recorded.
type Entry struct {
	N  uint64    `json:"n"`  // from 1, without holes
	At time.Time `json:"at"` // UTC, by the clock of the machine that recorded it

	Change //nolint:embeddedstructfieldcheck // the order of what stands in a line

	Prev string `json:"prev"` // hash of the entry before; of the first: zeros
	Hash string `json:"hash"` // SHA-256 of the line's bytes before `,"hash"`
}

// Seal is the newest entry of a trail at some time: who keeps one notices when that entry
// is gone or another.
type Seal struct {
	N    uint64
	Hash string
}

func (s Seal) String() string { return strconv.FormatUint(s.N, 10) + ":" + s.Hash }

// ParseSeal reads what String wrote.
func ParseSeal(text string) (s Seal, err error) {
	n, hash, ok := strings.Cut(text, ":")
	if s.N, err = strconv.ParseUint(n, 10, 64); !ok || err != nil || !isHash(hash) {
		return s, fmt.Errorf("%q: %w", text, ErrSeal)
	}
	s.Hash = hash
	return s, nil
}

// Bounds of an entry's texts, in bytes; MaxLine is what one can be as JSON, where a byte
// becomes at most six.
const (
	maxWho     = 128
	maxAddress = 64
	maxAction  = 64
	maxObject  = 256
	maxState   = 2 << 10
	maxReason  = 1 << 10
	MaxLine    = 64 << 10
)

// zero is what the first entry has before it.
func zero() string { return strings.Repeat("0", 2*sha256.Size) }

func isHash(s string) bool {
	b, err := hex.DecodeString(s)
	return err == nil && len(b) == sha256.Size && s == strings.ToLower(s)
}

// bounded is a change as it is recorded.
func (c Change) bounded() (Change, error) {
	if !regexp.MustCompile(`^[a-z]+(-[a-z]+)*(\.[a-z]+)+$`).MatchString(c.Action) || len(c.Action) > maxAction {
		return c, fmt.Errorf("%w: action %q", ErrChange, c.Action)
	}
	switch c.Via {
	case Session, Token, CLI, Loopback, Hub, Agent, Stranger:
	default:
		return c, fmt.Errorf("%w: via %q", ErrChange, c.Via)
	}
	for _, f := range []struct {
		text *string
		most int
	}{{&c.Who, maxWho}, {&c.Address, maxAddress}, {&c.Object, maxObject}, {&c.Before, maxState}, {&c.After, maxState}, {&c.Reason, maxReason}} {
		*f.text = cut(*f.text, f.most)
	}
	return c, nil
}

// cut is a text of at most so many bytes, and says so where it was longer.
func cut(s string, most int) string {
	if s = strings.ToValidUTF8(s, "?"); len(s) <= most {
		return s
	}
	const more = "…"
	s = s[:most-len(more)]
	for !utf8.ValidString(s) {
		s = s[:len(s)-1]
	}
	return s + more
}

// hashMark begins the hash at the end of a line. What stands before it is what is hashed.
const hashMark = `,"hash":"`

// seal makes the line of the entry behind another one, with its line feed.
func seal(c Change, at time.Time, behind Seal) (line []byte, s Seal, err error) {
	e := Entry{N: behind.N + 1, At: at.UTC(), Change: c, Prev: behind.Hash}
	b, err := json.Marshal(e)
	if err != nil {
		return nil, s, fmt.Errorf("write an entry of the audit trail: %w", err)
	}
	body, ok := bytes.CutSuffix(b, []byte(hashMark+`"}`))
	if !ok {
		return nil, s, fmt.Errorf("write an entry of the audit trail: it ends with %q", b[max(0, len(b)-20):])
	}
	sum := sha256.Sum256(body)
	s = Seal{e.N, hex.EncodeToString(sum[:])}
	line = append(append(bytes.Clone(body), hashMark...), s.Hash...)
	return append(line, "\"}\n"...), s, nil
}

// unseal reads a line without its line feed, and holds its hash against its bytes.
func unseal(line []byte) (e Entry, err error) {
	tail := len(hashMark) + 2*sha256.Size + len(`"}`)
	at := len(line) - tail
	if at < 0 || !bytes.HasPrefix(line[at:], []byte(hashMark)) || !bytes.HasSuffix(line, []byte(`"}`)) {
		return e, errors.New("is no entry")
	}
	sum := sha256.Sum256(line[:at])
	if hex.EncodeToString(sum[:]) != string(line[at+len(hashMark):len(line)-2]) {
		return e, errors.New("has other bytes than were recorded: its hash is not theirs")
	}
	if err := json.Unmarshal(line, &e); err != nil {
		return e, fmt.Errorf("is no entry: %w", err)
	}
	return e, nil
}

// BreakError is where a trail is not what was recorded.
type BreakError struct {
	File string // its name; empty: it is not there
	Line int    // from 1; 0: the whole file
	N    uint64 // the entry that should stand there
	What string
	// Since is the newest entry that the trail which found it has seen itself: what is gone
	// behind a break shows that alone to others. Zero: it had seen none.
	Since Seal
}

func (b *BreakError) Error() string {
	at := b.File
	if b.Line > 0 {
		at = fmt.Sprintf("%s:%d", b.File, b.Line)
	}
	if at != "" {
		at += ": "
	}
	return fmt.Sprintf("%v: %sentry %d %s", ErrBroken, at, b.N, b.What)
}

func (b *BreakError) Unwrap() error { return ErrBroken }
