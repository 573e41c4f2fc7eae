package access

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"time"
)

// How long a session lasts: OWASP ASVS 4.0.3 3.3.2 for level 2, as NIST SP 800-63B 4.2.3:
// 12 hours, or 30 minutes without use.
const (
	SessionLife = 12 * time.Hour
	SessionIdle = 30 * time.Minute
	// seenEvery is how often it is written that a session was used.
	seenEvery = time.Minute
	// maxSessions of one user; the oldest goes.
	maxSessions = 20
	maxProgram  = 120 // of what a browser says it is
	shownID     = 12
)

// Session is somebody who signed in, in a file named by the hash of its secret.
type Session struct {
	ID         string    `json:"id"` // the hash's beginning
	User       string    `json:"user"`
	Generation int       `json:"generation"`
	Created    time.Time `json:"created"`
	Seen       time.Time `json:"seen"`
	Address    string    `json:"address"`
	Program    string    `json:"program"`
}

// good says whether a session still is one of a user.
func (s Session) good(u User, now time.Time) bool {
	return u.Name == s.User && u.Ended == nil && u.Password != "" && u.Generation == s.Generation &&
		now.Before(s.Created.Add(SessionLife)) && now.Before(s.Seen.Add(SessionIdle))
}

func (a *Access) sessionFile(hash string) string {
	return filepath.Join(a.cfg.Dir, SessionsFolder, hash+".json")
}

// Login signs somebody in: always with a new secret, which goes into a cookie and nowhere
// else. Whether a name is known can't be told from what it says, nor from how long it takes.
func (a *Access) Login(ctx context.Context, by Caller, name, password, program string) (secret string, s Session, err error) {
	who := account(name)
	if err := a.tries.begin(a.cfg.Now(), who, address(by.Address)); err != nil {
		return "", s, err
	}
	var u User
	if IsName(name) {
		if _, err := readJSON(a.userFile(name), &u); err != nil {
			return "", s, err
		}
	}
	kept := u.Password
	if u.Name != name || u.Ended != nil {
		kept = ""
	}
	ok, err := a.verify(ctx, kept, password)
	if err != nil {
		return "", s, err
	}
	if !ok {
		return "", s, a.failed(by, who, u)
	}
	a.tries.well(who)
	a.tries.back(address(by.Address))
	now := a.cfg.Now().UTC()
	secret, hash := newSecret("")
	s = Session{ID: hash[:shownID], User: name, Generation: u.Generation, Created: now, Seen: now, Address: by.Address, Program: clean(program, maxProgram)}
	by.User = name
	return secret, s, a.change(by, "", func() (Change, func() error, error) {
		if again, err := a.User(name); err != nil || !s.good(again, now) { // changed while the hash was made
			return Change{}, nil, errors.Join(ErrLogin, err)
		}
		return Change{Action: "sign in", Object: "user " + name}, func() error {
			if err := a.sweep(name, maxSessions-1); err != nil {
				return err
			}
			return writeJSON(a.sessionFile(hash), s)
		}, nil
	})
}

// failed records a login that failed, once a minute for each account; all names that
// are nobody's are one.
func (a *Access) failed(by Caller, key string, u User) error {
	object := "user " + u.Name
	if u.Name == "" {
		key, object = "nobody", "no user"
	}
	n, ok := a.tries.tell(key, a.cfg.Now())
	if !ok {
		return ErrLogin
	}
	err := a.change(by, "", func() (Change, func() error, error) {
		return Change{Action: "fail to sign in", Object: object, After: fmt.Sprintf("%d since the last entry", n)}, func() error { return nil }, nil
	})
	return errors.Join(ErrLogin, err)
}

// sweep removes sessions that have ended, and of a user's all but the newest.
func (a *Access) sweep(name string, most int) error {
	var mine []string // hashes
	seen := map[string]Session{}
	err := a.sessions(func(hash string, s Session, good bool) error {
		if !good {
			return remove(a.sessionFile(hash))
		}
		if s.User == name {
			mine, seen[hash] = append(mine, hash), s
		}
		return nil
	})
	slices.SortFunc(mine, func(x, y string) int { return seen[y].Seen.Compare(seen[x].Seen) })
	for i := most; i < len(mine) && err == nil; i++ {
		err = remove(a.sessionFile(mine[i]))
	}
	return err
}

// sessions goes over all sessions. What can't be read is no good.
func (a *Access) sessions(each func(hash string, s Session, good bool) error) error {
	hashes, err := list(filepath.Join(a.cfg.Dir, SessionsFolder))
	if err != nil {
		return err
	}
	for _, hash := range hashes {
		var s Session
		ok, err := readJSON(a.sessionFile(hash), &s)
		if err == nil && !ok {
			continue
		}
		u, unknown := a.User(s.User)
		if err := each(hash, s, err == nil && unknown == nil && s.good(u, a.cfg.Now())); err != nil {
			return err
		}
	}
	return nil
}

// Sessions are a user's that are good, newest first.
func (a *Access) Sessions(name string) ([]Session, error) {
	out := []Session{}
	err := a.sessions(func(_ string, s Session, good bool) error {
		if good && s.User == name {
			out = append(out, s)
		}
		return nil
	})
	slices.SortFunc(out, func(x, y Session) int { return y.Created.Compare(x.Created) })
	return out, err
}

// BySession is who signed in with a secret; ErrNobody: nobody, or not any more. That it
// was used is written.
func (a *Access) BySession(secret, address string) (i Identity, err error) {
	s, u, err := a.session(secret)
	if err != nil {
		return i, err
	}
	if now := a.cfg.Now().UTC(); now.Sub(s.Seen) >= seenEvery {
		a.touch(secret, &s, now)
	}
	return Identity{Caller: Caller{User: u.Name, Via: ViaSession, Address: address}, User: u, Session: &s, form: formToken(secret)}, nil
}

func (a *Access) session(secret string) (s Session, u User, err error) {
	ok, err := readJSON(a.sessionFile(hashOf(secret)), &s)
	if err != nil {
		return s, u, err
	}
	if !ok {
		return s, u, ErrNobody
	}
	u, err = a.User(s.User)
	if err == nil && !s.good(u, a.cfg.Now()) {
		err = ErrNobody
	}
	return s, u, err
}

// touch writes that a session was used, unless it has ended meanwhile. Where the disk
// takes nothing the session is good for as long as was written before.
func (a *Access) touch(secret string, s *Session, now time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	path := a.sessionFile(hashOf(secret))
	var have Session
	if ok, err := readJSON(path, &have); err == nil && ok {
		s.Seen = now
		_ = writeJSON(path, *s) // see above
	}
}

// formToken is bound to a session, and tells nothing of its secret.
func formToken(secret string) string {
	m := hmac.New(sha256.New, []byte(secret))
	m.Write([]byte("form"))
	return base64.RawURLEncoding.EncodeToString(m.Sum(nil))
}

// Logout ends the session of a secret.
func (a *Access) Logout(by Caller, secret string) error {
	return a.change(by, "", func() (Change, func() error, error) {
		return Change{Action: "sign out", Object: "user " + by.User}, func() error { return remove(a.sessionFile(hashOf(secret))) }, nil
	})
}

// EndSession ends one of a user's sessions by its ID.
func (a *Access) EndSession(by Caller, name, id string) error {
	return a.change(by, "", func() (c Change, apply func() error, err error) {
		err = a.sessions(func(hash string, s Session, _ bool) error {
			if s.User == name && s.ID == id && hash[:shownID] == id {
				c = Change{Action: "end session", Object: "user " + name, Before: s.ID}
				apply = func() error { return remove(a.sessionFile(hash)) }
			}
			return nil
		})
		return c, apply, err
	})
}
