package page

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"sync"
	"time"
)

// Bounds of who may look.
const (
	inviteFor   = 10 * time.Minute
	sessionFor  = 8 * time.Hour
	sessionIdle = time.Hour
	maxInvites  = 8
	maxSessions = 8
	keyBytes    = 32
)

// cookie names the session.
const cookie = "plantmesh_page"

// doors know who may look: links that were not used yet, and sessions. Of both only a hash
// is kept, in memory alone: an agent that starts anew knows nobody. Safe for concurrent use.
type doors struct {
	now func() time.Time

	mu       sync.Mutex // protects what follows
	invites  map[[sha256.Size]byte]time.Time
	sessions map[[sha256.Size]byte]*session
}

type session struct{ until, seen time.Time }

func newDoors(now func() time.Time) *doors {
	return &doors{now: now, invites: map[[sha256.Size]byte]time.Time{}, sessions: map[[sha256.Size]byte]*session{}}
}

func newKey() (key string, hash [sha256.Size]byte) {
	b := make([]byte, keyBytes)
	_, _ = rand.Read(b) // it never fails
	key = base64.RawURLEncoding.EncodeToString(b)
	return key, sha256.Sum256([]byte(key))
}

// invite makes a link's key. Where there are too many the oldest ends.
func (d *doors) invite() (key string, until time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	key, hash := newKey()
	for len(d.invites) >= maxInvites {
		var oldest [sha256.Size]byte
		for h, at := range d.invites {
			if was, ok := d.invites[oldest]; !ok || at.Before(was) {
				oldest = h
			}
		}
		delete(d.invites, oldest)
	}
	until = d.now().Add(inviteFor)
	d.invites[hash] = until
	return key, until
}

// enter takes a link's key once, and gives a session.
func (d *doors) enter(key string) (name string, ok bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	hash := sha256.Sum256([]byte(key))
	until, there := d.invites[hash]
	delete(d.invites, hash)
	now := d.now()
	if !there || now.After(until) {
		return "", false
	}
	for len(d.sessions) >= maxSessions { // who did nothing for longest leaves
		var idlest [sha256.Size]byte
		for h, s := range d.sessions {
			if was, ok := d.sessions[idlest]; !ok || s.seen.Before(was.seen) {
				idlest = h
			}
		}
		delete(d.sessions, idlest)
	}
	name, hash = newKey()
	d.sessions[hash] = &session{until: now.Add(sessionFor), seen: now}
	return name, true
}

// knows reports whether a session is one, and notes that it was seen.
func (d *doors) knows(name string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	hash, now := sha256.Sum256([]byte(name)), d.now()
	s := d.sessions[hash]
	if s == nil {
		return false
	}
	if now.After(s.until) || now.Sub(s.seen) > sessionIdle {
		delete(d.sessions, hash)
		return false
	}
	s.seen = now
	return true
}

func (d *doors) leave(name string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.sessions, sha256.Sum256([]byte(name)))
}

// guarded lets in who has a session.
func (p *Page) guarded(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if c, err := r.Cookie(cookie); err == nil && p.doors.knows(c.Value) {
			next.ServeHTTP(w, r)
			return
		}
		p.write(w, http.StatusUnauthorized, "door", view{Title: "Who is there?"})
	})
}

// enter takes a link. The page that answers leads on by itself: a cookie for this site
// alone does not travel with a redirect that another site began.
func (p *Page) enter(w http.ResponseWriter, r *http.Request) {
	name, ok := p.doors.enter(r.URL.Query().Get("key"))
	if !ok {
		p.write(w, http.StatusUnauthorized, "door", view{Title: "This link has ended", Used: true})
		return
	}
	http.SetCookie(w, &http.Cookie{ //nolint:gosec // not Secure: loopback has no TLS
		Name: cookie, Value: name, Path: "/", MaxAge: int(sessionFor.Seconds()), HttpOnly: true, SameSite: http.SameSiteStrictMode,
	})
	p.write(w, http.StatusOK, "entered", view{Title: "Come in"})
}

func (p *Page) leave(w http.ResponseWriter, r *http.Request) {
	if c, err := r.Cookie(cookie); err == nil {
		p.doors.leave(c.Value)
	}
	http.SetCookie(w, &http.Cookie{Name: cookie, Path: "/", MaxAge: -1, HttpOnly: true, SameSite: http.SameSiteStrictMode}) //nolint:gosec // as above
	p.write(w, http.StatusOK, "door", view{Title: "You left"})
}
