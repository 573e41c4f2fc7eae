// Package access keeps who may do what at a hub: people with their roles, what they sign
// in with, their sessions, and the tokens of programs. Nobody is there at first, and there
// is no default password: who is added gets a link that is good once.
//
// All of it lies in files that only the hub's user reads, and no secret lies in them:
// passwords as argon2id, links, tokens and sessions as SHA-256 of 256 random bits.
package access

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// Errors of access. What a stranger is told never says which of several causes it is.
var (
	// ErrRefused is in every error of a change that is not made as asked.
	ErrRefused = errors.New("refused")
	// ErrLogin is returned for a name and a password that don't belong together, whether
	// there is such a user or not.
	ErrLogin = errors.New("this name and password don't belong together")
	// ErrLink is returned for a link that is none, was used or has ended.
	ErrLink = errors.New("this link is not good any more: it was used, has ended, or was replaced by another; an admin makes a new one with plantmesh users reset")
	// ErrNobody is returned for a secret of no session or token that is good.
	ErrNobody = errors.New("nobody is signed in by this")
	// ErrBeyond is returned for a change of what lies above or outside the roles of who asks.
	ErrBeyond = errors.New("beyond your own roles")
	// ErrTaken is returned for a name that somebody has or had.
	ErrTaken = errors.New("names are never used again")
	// ErrUnknown is returned for a user or a token that is not there.
	ErrUnknown = errors.New("not known here")
)

// WaitError is returned where too much was tried before.
type WaitError struct{ For time.Duration }

func (e *WaitError) Error() string { return "too many tries: wait, then try again" }

// SessionsFolder is where sessions lie; the hub alone writes them, and no backup has them.
const SessionsFolder = "sessions"

// Names in the folder.
const (
	usersFolder  = "users"
	linksFolder  = "links"
	tokensFolder = "tokens"
	usedFolder   = "used" // when tokens were last used; the hub alone writes
	lockName     = "lock"
)

// Change is a change of who may do what, for the record.
type Change struct {
	Who, Via, Address string // as in Caller
	Action            string // a verb and a noun: "add user"
	Object            string // what was changed: "user anna"
	Before, After     string // as far as it can be said in a line; no secrets
	Reason            string
}

// Caller is who asks for something.
type Caller struct {
	User    string // empty: nobody that is known
	Via     string // "session", "token", "loopback" or "cli"; empty: nobody
	Address string // without its port; empty: it came from no network

	as *Identity // whose roles bound what they may change; see Identity.Bound
}

// The ways in which somebody calls.
const (
	ViaSession  = "session"
	ViaToken    = "token"
	ViaLoopback = "loopback"
	ViaCLI      = "cli"
)

// Config is how access is kept.
type Config struct {
	Dir string
	Now func() time.Time
	// Record is told each change before it is made; where it fails the change is not made.
	Record func(Change) error
	// Cost of hashing passwords; zero: what OWASP recommends.
	Cost Cost
}

// Access is who may do what, in one folder. Safe for concurrent use, and beside other
// processes that change it: each change takes the folder's lock. Reading takes none, and
// nothing that is read is kept: what another process withdraws is withdrawn at once.
type Access struct {
	cfg    Config
	hashes chan struct{} // as many as may be made at once
	tries  tries

	mu      sync.Mutex // beside the folder's lock, which is one of processes
	peopled bool       // there is a user: none ever goes; under mu
}

// Open opens the folder and makes it where it is not there.
func Open(cfg Config) (*Access, error) {
	for _, sub := range []string{usersFolder, linksFolder, tokensFolder, usedFolder, SessionsFolder} {
		if err := os.MkdirAll(filepath.Join(cfg.Dir, sub), 0o700); err != nil {
			return nil, errors.Join(errors.New("make the folder of users"), err)
		}
	}
	if cfg.Cost == (Cost{}) {
		cfg.Cost = recommended()
	}
	if cfg.Record == nil {
		cfg.Record = func(Change) error { return nil }
	}
	return &Access{cfg: cfg, hashes: make(chan struct{}, hashesAtOnce), tries: newTries()}, nil
}

// Peopled says whether anybody was ever added. From then on nobody gets in without
// saying who they are.
func (a *Access) Peopled() (bool, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.peopled {
		return true, nil
	}
	names, err := list(filepath.Join(a.cfg.Dir, usersFolder))
	a.peopled = len(names) > 0
	return a.peopled, err
}

// change runs one change alone, whichever process makes it. do says what to record, and
// what then makes it so.
func (a *Access) change(by Caller, reason string, do func() (Change, func() error, error)) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	free, err := lockFolder(filepath.Join(a.cfg.Dir, lockName))
	if err != nil {
		return err
	}
	defer free()
	c, apply, err := do()
	if err != nil || apply == nil {
		return err
	}
	c.Who, c.Via, c.Address, c.Reason = by.User, by.Via, by.Address, clean(reason, maxNote)
	if err := a.cfg.Record(c); err != nil {
		return errors.Join(errors.New("the change is not made: it can't be recorded"), err)
	}
	return apply()
}

// Identity is somebody who is signed in, or is let in without.
type Identity struct {
	Caller  Caller
	User    User
	Token   *Token   // nil: no token was shown
	Session *Session // nil: nobody signed in

	form string
}

// Loopback is the identity of a reader on this machine, while nobody has an account.
func Loopback(address string) Identity {
	return Identity{Caller: Caller{Via: ViaLoopback, Address: address}}
}

// May says whether somebody may do something at a location. Without an entry: no.
func (i Identity) May(p Permission, location string) bool {
	switch i.Caller.Via {
	case ViaLoopback:
		return reads(p)
	case ViaSession:
		return i.User.May(p, location)
	case ViaToken: // never more than its owner may now
		return i.Token != nil && mayBy(i.Token.Grants, p, location) && i.User.May(p, location)
	}
	return false
}

// MayAnywhere says whether there is a location at which somebody may do something.
func (i Identity) MayAnywhere(p Permission) bool {
	if i.May(p, Everywhere) {
		return true
	}
	grants := i.User.Grants
	if i.Token != nil {
		grants = append(slices.Clip(grants), i.Token.Grants...)
	}
	for _, g := range grants {
		if i.May(p, g.Location) {
			return true
		}
	}
	return false
}

type key struct{}

// With puts who calls into a request's context.
func With(ctx context.Context, i Identity) context.Context {
	return context.WithValue(ctx, key{}, i)
}

// Of is who calls; a context of no request has nobody, who may nothing.
func Of(ctx context.Context) Identity {
	i, _ := ctx.Value(key{}).(Identity)
	return i
}

// CallerOf is who calls, for the record.
func CallerOf(ctx context.Context) Caller { return Of(ctx).Caller }

// May says whether who calls may do something at a location.
func May(ctx context.Context, p Permission, location string) bool { return Of(ctx).May(p, location) }

// FormTokenOf is what a page's form must bring back as field "csrf", or a script as
// header X-CSRF-Token: bound to the session. Empty where nobody signed in.
func FormTokenOf(ctx context.Context) string { return Of(ctx).form }

// clean is a text for people, in one line and bounded.
func clean(s string, most int) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return -1
		}
		return r
	}, strings.ToValidUTF8(s, ""))
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "")
}
