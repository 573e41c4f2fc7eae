package access

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// MaxToken is the longest that a token is good for.
const MaxToken = 400 * 24 * time.Hour

const (
	// TokenPrefix begins every token: scanners of repositories find one by it.
	TokenPrefix = "pmt_"
	// maxTokens of one user that are good.
	maxTokens = 100
)

// Token lets a program do what its grants say, and never more than its owner may. It lies
// in a file named by the hash of its secret.
type Token struct {
	ID      string     `json:"id"` // the hash's beginning
	User    string     `json:"user"`
	Grants  []Grant    `json:"grants"`
	Created time.Time  `json:"created"`
	Expires time.Time  `json:"expires"`
	By      string     `json:"by"`
	Note    string     `json:"note,omitempty"`
	Ended   *time.Time `json:"ended,omitempty"`

	// Used is when it was last used, and from where; it lies in a file of its own.
	Used *Used `json:"-"`
}

// Used is a use of a token.
type Used struct {
	At      time.Time `json:"at"`
	Address string    `json:"address"`
}

func (a *Access) tokenFile(hash string) string {
	return filepath.Join(a.cfg.Dir, tokensFolder, hash+".json")
}

func (a *Access) usedFile(hash string) string {
	return filepath.Join(a.cfg.Dir, usedFolder, hash+".json")
}

// CreateToken makes a token for a user. The secret is told here and nowhere else.
func (a *Access) CreateToken(by Caller, name string, grants []Grant, life time.Duration, note string) (t Token, secret string, err error) {
	if err := checkGrants(grants); err != nil {
		return t, "", err
	}
	if life <= 0 || life > MaxToken {
		return t, "", fmt.Errorf("%w: a token is good for at most %d days, not %s", ErrRefused, MaxToken/(24*time.Hour), life)
	}
	secret, hash := newSecret(TokenPrefix)
	now := a.cfg.Now().UTC()
	t = Token{ID: hash[:shownID], User: name, Grants: sorted(grants), Created: now, Expires: now.Add(life), By: by.User, Note: clean(note, maxNote)}
	return t, secret, a.change(by, t.Note, func() (c Change, _ func() error, err error) {
		u, err := a.tokenOwner(by, name, by.Via == ViaSession && by.User == name)
		if err == nil {
			err = alive(&u)
		}
		if err != nil {
			return c, nil, err
		}
		for _, g := range t.Grants {
			if !g.within(u.Grants) {
				return c, nil, fmt.Errorf("%w: %s may not do all of %s, so no token of theirs may: they are %s", ErrRefused, name, g, Said(u.Grants))
			}
		}
		all, err := a.Tokens()
		if err != nil {
			return c, nil, err
		}
		if n := len(slices.DeleteFunc(all, func(o Token) bool { return o.User != name || o.Ended != nil || !now.Before(o.Expires) })); n >= maxTokens {
			return c, nil, fmt.Errorf("%w: %s has %d tokens; end some first", ErrRefused, name, n)
		}
		return Change{Action: "create token", Object: "token " + t.ID + " of user " + name, After: Said(t.Grants) + " until " + t.Expires.Format(time.RFC3339)},
			func() error { return writeJSON(a.tokenFile(hash), t) }, nil
	})
}

// tokenOwner is whose token somebody makes or ends: their own, or that of a user with whom
// they may do as they like.
func (a *Access) tokenOwner(by Caller, name string, own bool) (u User, err error) {
	if u, err = a.User(name); err == nil && !own {
		err = a.boundedOf(by, &u)
	}
	return u, err
}

// readToken reads a token by its hash; ok is false where there is none.
func (a *Access) readToken(hash string) (t Token, ok bool, err error) {
	if ok, err = readJSON(a.tokenFile(hash), &t); err != nil || !ok {
		return t, false, err
	}
	if t.ID != hash[:shownID] { // a file that was put in another's place is none
		return t, false, fmt.Errorf("read %s: it is damaged: it is the file of another token", a.tokenFile(hash))
	}
	var used Used
	if ok, err := readJSON(a.usedFile(hash), &used); err == nil && ok { // nothing rests on it
		t.Used = &used
	}
	return t, true, nil
}

// Tokens are all tokens, oldest first.
func (a *Access) Tokens() ([]Token, error) {
	hashes, err := list(filepath.Join(a.cfg.Dir, tokensFolder))
	if err != nil {
		return nil, err
	}
	out := []Token{}
	for _, hash := range hashes {
		if !isHash(hash) {
			continue
		}
		t, ok, err := a.readToken(hash)
		if err != nil {
			return nil, err
		}
		if ok {
			out = append(out, t)
		}
	}
	slices.SortFunc(out, func(x, y Token) int { return x.Created.Compare(y.Created) })
	return out, nil
}

// TokensOf are a user's tokens, oldest first; of an empty name all.
func (a *Access) TokensOf(name string) ([]Token, error) {
	all, err := a.Tokens()
	return slices.DeleteFunc(all, func(t Token) bool { return name != "" && t.User != name }), err
}

// EndToken ends a token before its time. Where owner is not empty it must be theirs.
func (a *Access) EndToken(by Caller, id, owner, reason string) (t Token, err error) {
	return t, a.change(by, reason, func() (c Change, _ func() error, err error) {
		hashes, err := list(filepath.Join(a.cfg.Dir, tokensFolder))
		if err != nil {
			return c, nil, err
		}
		i := slices.IndexFunc(hashes, func(hash string) bool { return isHash(hash) && hash[:shownID] == id })
		if i < 0 {
			return c, nil, fmt.Errorf("%w: token %q: %w; plantmesh tokens list names them", ErrRefused, id, ErrUnknown)
		}
		var ok bool
		if t, ok, err = a.readToken(hashes[i]); err != nil {
			return c, nil, err
		}
		if !ok || owner != "" && t.User != owner {
			return c, nil, fmt.Errorf("%w: token %q: %w", ErrRefused, id, ErrUnknown)
		}
		if _, err := a.tokenOwner(by, t.User, owner != ""); err != nil || t.Ended != nil {
			return c, nil, err
		}
		now := a.cfg.Now().UTC()
		t.Ended = &now
		return Change{Action: "end token", Object: "token " + t.ID + " of user " + t.User, Before: Said(t.Grants), After: "ended"},
			func() error { return writeJSON(a.tokenFile(hashes[i]), t) }, nil
	})
}

// ByToken is whose program shows a secret; ErrNobody: nobody's, or not any more. What is
// none counts as a try of the address.
func (a *Access) ByToken(secret, from string) (i Identity, err error) {
	now := a.cfg.Now().UTC()
	hash := hashOf(secret)
	t, ok := Token{}, false
	if strings.HasPrefix(secret, TokenPrefix) {
		if t, ok, err = a.readToken(hash); err != nil {
			return i, err
		}
	}
	if !ok {
		if err := a.tries.begin(now, address(from)); err != nil {
			return i, err
		}
		return i, ErrNobody
	}
	u, err := a.User(t.User)
	if err != nil {
		return i, err
	}
	if t.Ended != nil || !now.Before(t.Expires) || u.Ended != nil {
		return i, ErrNobody
	}
	if t.Used == nil || now.Sub(t.Used.At) >= seenEvery {
		a.mu.Lock()
		_ = writeJSON(a.usedFile(hash), Used{At: now, Address: from}) // a full disk locks nobody out
		a.mu.Unlock()
	}
	return Identity{Caller: Caller{User: u.Name, Via: ViaToken, Address: from}, User: u, Token: &t}, nil
}
