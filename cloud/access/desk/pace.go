package desk

import (
	"net/http"
	"strconv"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"plantmesh/cloud/access"
)

const (
	// changesEach is how many people, tokens and one-time keys one user may change in a
	// second: each is some synced files, for good, and a program that runs wild makes no more.
	changesEach  = 1
	changesBurst = 30
)

// Pace bounds what each user changes. Safe for concurrent use.
type Pace struct {
	now func() time.Time

	mu sync.Mutex               // protects what follows
	of map[string]*rate.Limiter // by name: as many as there are users
}

// NewPace is one at which nobody has changed anything.
func NewPace(now func() time.Time) *Pace {
	return &Pace{now: now, of: map[string]*rate.Limiter{}}
}

// Of serves a handler at the pace of who calls.
func (p *Pace) Of(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if safe(r) || p.may(access.CallerOf(r.Context()).User) {
			h.ServeHTTP(w, r)
			return
		}
		w.Header().Set("Retry-After", strconv.Itoa(1/changesEach))
		_ = say(w, http.StatusTooManyRequests, "pace", "too many changes: wait, then send one a second") // two texts and a number are always JSON
	})
}

func (p *Pace) may(user string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	l := p.of[user]
	if l == nil {
		l = rate.NewLimiter(changesEach, changesBurst)
		p.of[user] = l
	}
	return l.AllowN(p.now(), 1)
}
