package access

import (
	"net/netip"
	"strings"
	"sync"
	"time"
)

// Bounds of trying. One account takes at most 5 tries at once and one a minute from the
// eleventh on: fewer than the 100 an hour that OWASP ASVS 4.0.3 2.2.1 allows. One address
// has more: a plant behind one router has many people.
const (
	freeTries    = 5
	freeAddress  = 30
	slowestTry   = time.Minute
	forgetTries  = 15 * time.Minute // without one
	mostTried    = 4096             // accounts and addresses that are told apart
	oncePerEntry = time.Minute      // of the record, for each account
)

// tries counts what failed, by account and by address. Safe for concurrent use.
type tries struct {
	mu     *sync.Mutex
	of     map[string]*tried
	swept  time.Time
	others tried // all that there is no room for
}

// tried is what failed of one.
type tried struct {
	n      int
	last   time.Time
	next   time.Time // no try before it is looked at
	told   time.Time // when it was last recorded
	unseen int       // failures since then
}

func newTries() tries { return tries{mu: &sync.Mutex{}, of: map[string]*tried{}} }

const addressKey = "address "

// account and address are the keys of tries.
func account(name string) string { return "account " + hashOf(name) }

func address(from string) string {
	a, err := netip.ParseAddr(from)
	if err != nil {
		return addressKey
	}
	a = a.Unmap().WithZone("")
	bits := 32
	if a.Is6() { // one caller has a network of 64 bits
		bits = 64
	}
	return addressKey + netip.PrefixFrom(a, bits).Masked().String()
}

// begin counts a try before its outcome is known, as if it failed: of many that come at
// once each is counted. It fails while one of the keys must wait.
func (t *tries) begin(now time.Time, keys ...string) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	var wait time.Duration
	for _, k := range keys {
		wait = max(wait, t.get(k, now).next.Sub(now))
	}
	if wait > 0 {
		return &WaitError{For: wait}
	}
	for _, k := range keys {
		e := t.get(k, now)
		e.n, e.last = e.n+1, now
		free := freeTries
		if strings.HasPrefix(k, addressKey) {
			free = freeAddress
		}
		if over := e.n - free; over >= 0 {
			e.next = now.Add(min(time.Second<<min(over, 10), slowestTry))
		}
	}
	return nil
}

// well says that a try of a key went well, so that those before count no more.
func (t *tries) well(key string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if e, ok := t.of[key]; ok {
		e.n, e.next = 0, time.Time{}
	}
}

// back takes back that a try of a key was counted: it went well.
func (t *tries) back(key string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if e, ok := t.of[key]; ok && e.n > 0 {
		e.n, e.next = e.n-1, time.Time{}
	}
}

// tell says whether a failure of a key is to be recorded now, and of how many.
func (t *tries) tell(key string, now time.Time) (n int, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	e := t.get(key, now)
	e.unseen++
	if !e.told.IsZero() && now.Sub(e.told) < oncePerEntry {
		return 0, false
	}
	n, e.unseen, e.told, e.last = e.unseen, 0, now, now
	return n, true
}

// get is the entry of a key. Callers hold mu.
func (t *tries) get(key string, now time.Time) *tried {
	if e, ok := t.of[key]; ok {
		if now.Sub(e.last) >= forgetTries {
			e.n = 0
		}
		return e
	}
	if len(t.of) >= mostTried && now.Sub(t.swept) >= time.Second {
		t.swept = now
		for k, e := range t.of {
			if now.Sub(e.last) >= forgetTries {
				delete(t.of, k)
			}
		}
	}
	if len(t.of) >= mostTried {
		return &t.others
	}
	e := &tried{last: now}
	t.of[key] = e
	return e
}
