package access

import (
	"context"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"time"
)

// maxNote bounds what people write beside a change.
const maxNote = 200

// User is somebody who may sign in. A name is never used for somebody else: the record
// would say one thing of two people.
type User struct {
	Name     string     `json:"name"`
	Grants   []Grant    `json:"grants"`
	Created  time.Time  `json:"created"`
	By       string     `json:"by"`
	Password string     `json:"password,omitempty"` // its hash; empty: none was set yet
	Set      *time.Time `json:"password_set,omitempty"`
	// Link is the hash of the link by which a password can be set; empty: there is none.
	Link string `json:"link,omitempty"`
	// Generation grows with each reset and password: sessions are of one generation.
	Generation int        `json:"generation"`
	Ended      *time.Time `json:"ended,omitempty"`
}

// May says whether the user's grants allow something at a location.
func (u User) May(p Permission, location string) bool {
	return u.Ended == nil && mayBy(u.Grants, p, location)
}

// admin says whether somebody can manage all users.
func (u User) admin() bool { return u.May(ManageUsers, Everywhere) }

// IsName says whether a text can be a user's name.
func IsName(s string) bool {
	return regexp.MustCompile(`^[a-z0-9][a-z0-9._@-]{0,62}$`).MatchString(s)
}

func (a *Access) userFile(name string) string {
	return filepath.Join(a.cfg.Dir, usersFolder, name+".json")
}

// User reads a user.
func (a *Access) User(name string) (u User, err error) {
	if !IsName(name) {
		return u, fmt.Errorf("%w: user %q: %w", ErrRefused, name, ErrUnknown)
	}
	ok, err := readJSON(a.userFile(name), &u)
	switch {
	case err != nil:
		return User{}, err
	case !ok:
		return User{}, fmt.Errorf("%w: user %q: %w; plantmesh users list names them", ErrRefused, name, ErrUnknown)
	case u.Name != name: // a file that was put in another's place is nobody
		return User{}, fmt.Errorf("read %s: it is damaged: it is the file of %q", a.userFile(name), u.Name)
	}
	return u, nil
}

// Users are all users by name.
func (a *Access) Users() ([]User, error) {
	names, err := list(filepath.Join(a.cfg.Dir, usersFolder))
	if err != nil {
		return nil, err
	}
	out := []User{}
	for _, name := range names {
		u, err := a.User(name)
		if err != nil {
			return nil, err
		}
		out = append(out, u)
	}
	return out, nil
}

// AddUser adds somebody. The secret is of the link by which they set their password; it is
// told here and nowhere else.
func (a *Access) AddUser(by Caller, name string, grants []Grant, reason string) (u User, secret string, err error) {
	if !IsName(name) {
		return u, "", fmt.Errorf("%w: %q is no name: use lower case letters, digits, '.', '-', '_' and '@', at most 63, beginning with a letter or digit", ErrRefused, name)
	}
	if err := checkGrants(grants); err != nil {
		return u, "", err
	}
	secret, hash := newSecret("")
	now := a.cfg.Now().UTC()
	u = User{Name: name, Grants: sorted(grants), Created: now, By: by.User, Link: hash}
	return u, secret, a.change(by, reason, func() (c Change, _ func() error, err error) {
		if err := a.bounded(by, u.Grants...); err != nil {
			return c, nil, err
		}
		if ok, err := readJSON(a.userFile(name), &User{}); ok || err != nil {
			if err == nil {
				err = fmt.Errorf("%w: there is a user %q already, or was: %w", ErrRefused, name, ErrTaken)
			}
			return c, nil, err
		}
		return Change{Action: "add user", Object: "user " + name, After: Said(u.Grants)}, func() error {
			if err := a.writeLink(name, hash, now); err != nil {
				return err
			}
			return writeJSON(a.userFile(name), u)
		}, nil
	})
}

// alter changes one user. how changes it in place and says what is recorded; an empty
// Action: there is nothing to do.
func (a *Access) alter(by Caller, name, reason string, how func(u *User) (Change, error)) (u User, err error) {
	return u, a.change(by, reason, func() (c Change, _ func() error, err error) {
		if u, err = a.User(name); err != nil {
			return c, nil, err
		}
		was := u
		u.Grants = slices.Clone(u.Grants)
		c, err = how(&u)
		if err != nil || c.Action == "" {
			return c, nil, err
		}
		if was.admin() && !u.admin() {
			if err := a.anotherAdmin(name); err != nil {
				return c, nil, err
			}
		}
		c.Object = "user " + name
		return c, func() error {
			if was.Link != "" && was.Link != u.Link {
				if err := remove(a.linkFile(was.Link)); err != nil {
					return err
				}
			}
			return writeJSON(a.userFile(name), u)
		}, nil
	})
}

// anotherAdmin is nil where somebody else can manage all users.
func (a *Access) anotherAdmin(than string) error {
	all, err := a.Users()
	if err != nil {
		return err
	}
	if slices.ContainsFunc(all, func(u User) bool { return u.Name != than && u.admin() }) {
		return nil
	}
	return fmt.Errorf("%w: %s is the last admin: make another one first (plantmesh users role grant NAME admin)", ErrRefused, than)
}

func alive(u *User) error {
	if u.Ended != nil {
		return fmt.Errorf("%w: user %s has ended, for good: add another one", ErrRefused, u.Name)
	}
	return nil
}

// Grant gives a user a role at a location.
func (a *Access) Grant(by Caller, name string, g Grant, reason string) (User, error) {
	if err := g.check(); err != nil {
		return User{}, err
	}
	return a.alter(by, name, reason, func(u *User) (c Change, err error) {
		if err := a.bounded(by, g); err != nil {
			return c, err
		}
		if err := alive(u); err != nil || slices.Contains(u.Grants, g) {
			return c, err
		}
		was := Said(u.Grants)
		u.Grants = sorted(append(u.Grants, g))
		if len(u.Grants) > maxGrants {
			return c, fmt.Errorf("%w: at most %d roles", ErrRefused, maxGrants)
		}
		return Change{Action: "grant role", Before: was, After: Said(u.Grants)}, nil
	})
}

// Withdraw takes a role from a user.
func (a *Access) Withdraw(by Caller, name string, g Grant, reason string) (User, error) {
	return a.alter(by, name, reason, func(u *User) (c Change, err error) {
		if err := a.bounded(by, g); err != nil {
			return c, err
		}
		if err := alive(u); err != nil {
			return c, err
		}
		i := slices.Index(u.Grants, g)
		if i < 0 {
			return c, fmt.Errorf("%w: %s has no role %s, but %s", ErrRefused, name, g, Said(u.Grants))
		}
		was := Said(u.Grants)
		u.Grants = slices.Delete(u.Grants, i, i+1)
		return Change{Action: "withdraw role", Before: was, After: Said(u.Grants)}, nil
	})
}

// Reset makes a new first link, and ends the password and all sessions.
func (a *Access) Reset(by Caller, name, reason string) (u User, secret string, err error) {
	secret, hash := newSecret("")
	now := a.cfg.Now().UTC()
	u, err = a.alter(by, name, reason, func(u *User) (Change, error) {
		if err := a.boundedOf(by, u); err != nil {
			return Change{}, err
		}
		if err := alive(u); err != nil {
			return Change{}, err
		}
		u.Password, u.Set, u.Link = "", nil, hash
		u.Generation++
		return Change{Action: "reset user", After: "a new link, no password, no sessions"}, a.writeLink(name, hash, now)
	})
	return u, secret, err
}

// End ends a user for good, with all sessions and tokens.
func (a *Access) End(by Caller, name, reason string) (User, error) {
	return a.alter(by, name, reason, func(u *User) (c Change, err error) {
		if err := a.boundedOf(by, u); err != nil || u.Ended != nil {
			return c, err
		}
		was, now := Said(u.Grants), a.cfg.Now().UTC()
		u.Ended, u.Password, u.Link = &now, "", ""
		u.Generation++
		return Change{Action: "end user", Before: was, After: "ended"}, nil
	})
}

// linkLife is how long a first link is good for.
const linkLife = 24 * time.Hour

// link is a first link, in a file named by its hash.
type link struct {
	User    string    `json:"user"`
	Expires time.Time `json:"expires"`
}

func (a *Access) linkFile(hash string) string {
	return filepath.Join(a.cfg.Dir, linksFolder, hash+".json")
}

func (a *Access) writeLink(name, hash string, now time.Time) error {
	return writeJSON(a.linkFile(hash), link{User: name, Expires: now.Add(linkLife)})
}

// LinkedUser is whose link a secret is, as long as it is good. It uses nothing up. Tries
// count for an address.
func (a *Access) LinkedUser(by Caller, secret string) (User, error) {
	key := address(by.Address)
	if err := a.tries.begin(a.cfg.Now(), key); err != nil {
		return User{}, err
	}
	u, err := a.linked(secret)
	if err == nil {
		a.tries.back(key)
	}
	return u, err
}

func (a *Access) linked(secret string) (User, error) {
	hash := hashOf(secret)
	var l link
	ok, err := readJSON(a.linkFile(hash), &l)
	if err != nil {
		return User{}, err
	}
	if !ok || !a.cfg.Now().Before(l.Expires) {
		return User{}, ErrLink
	}
	u, err := a.User(l.User)
	if err != nil {
		return User{}, err
	}
	if u.Link != hash || u.Ended != nil {
		return User{}, ErrLink
	}
	return u, nil
}

// SetPassword sets a password by a link, and uses the link up. Of two that come at once
// one does.
func (a *Access) SetPassword(ctx context.Context, by Caller, secret, password string) (User, error) {
	u, err := a.LinkedUser(by, secret)
	if err != nil {
		return u, err
	}
	if err := checkPassword(u.Name, password); err != nil {
		return u, err
	}
	kept, err := a.hash(ctx, password)
	if err != nil {
		return u, err
	}
	by.User = u.Name
	return a.alter(by, u.Name, "", func(now *User) (Change, error) {
		if _, err := a.linked(secret); err != nil {
			return Change{}, err
		}
		a.setPassword(now, kept)
		return Change{Action: "set password", After: "by the first link"}, nil
	})
}

func (a *Access) setPassword(u *User, kept string) {
	now := a.cfg.Now().UTC()
	u.Password, u.Set, u.Link = kept, &now, ""
	u.Generation++
}

// ChangePassword sets another password for who knows the old one, and ends all sessions.
func (a *Access) ChangePassword(ctx context.Context, by Caller, old, password string) error {
	key := account(by.User)
	if err := a.tries.begin(a.cfg.Now(), key); err != nil {
		return err
	}
	u, err := a.User(by.User)
	if err != nil {
		return err
	}
	ok, err := a.verify(ctx, u.Password, old)
	if err != nil {
		return err
	}
	if !ok {
		return ErrLogin
	}
	a.tries.well(key)
	if err := checkPassword(u.Name, password); err != nil {
		return err
	}
	kept, err := a.hash(ctx, password)
	if err != nil {
		return err
	}
	_, err = a.alter(by, u.Name, "", func(now *User) (Change, error) {
		if now.Generation != u.Generation || now.Ended != nil { // reset or ended meanwhile
			return Change{}, ErrLogin
		}
		a.setPassword(now, kept)
		return Change{Action: "change password"}, nil
	})
	return err
}
