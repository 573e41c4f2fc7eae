package source

import (
	"cmp"
	"encoding/json"
	"fmt"
	"path"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"plantmesh/proto/mesh"
)

// Raw is a value as its device said it, before anything was made of it: no conversion, no
// rule. Its texts may be anything a device says.
type Raw struct {
	Heard   mesh.Nanos  `json:"heard"`             // plant clock
	Signal  string      `json:"signal,omitempty"`  // that it becomes; empty: none
	Node    string      `json:"node"`              // node id; topic and place in its payload; group/node/device/metric
	Type    string      `json:"type,omitempty"`    // as its protocol calls it; empty: it does not say, or there is no value
	Value   string      `json:"value"`             // its text, cut where it is long
	Status  mesh.Status `json:"status"`            // as the device says it
	Quality string      `json:"quality,omitempty"` // in the protocol's own words, where it has some
	Source  mesh.Nanos  `json:"source,omitempty"`  // stamps of the device; 0: it gave none
	Server  mesh.Nanos  `json:"server,omitempty"`
	Notes   []string    `json:"notes,omitempty"` // what is special about it, or why it becomes no sample
}

// RawQuery says which raw values somebody wants to hear.
type RawQuery struct {
	Pattern string // over the signal, or the node where that is the device's name of it: see Matcher
	Quality string // good, uncertain or bad; empty: all
	Rate    int    // values a second, at most
}

// RawHeard is what a listener gets at once.
type RawHeard struct {
	Values  []Raw  `json:"values,omitempty"`
	LeftOut uint64 `json:"left_out,omitempty"` // were asked for, and were more than the rate, or than could be held
	Others  uint64 `json:"others,omitempty"`   // were not asked for; Such names one
	Such    string `json:"such,omitempty"`
}

const (
	// rawEvery is how long raw values wait in a worker for others to go with.
	rawEvery = 100 * time.Millisecond
	// mostRaw and mostRawBytes bound what waits for one listener, on each side of the pipe.
	mostRaw      = 1000
	mostRawBytes = 256 << 10
	// maxRawText bounds each text of a raw value.
	maxRawText  = 1 << 10
	maxRawNotes = 8
	// maxRawTaps bounds the listeners that one worker hears of; maxRawFrame what it tells them
	// at once, of which each byte may take six.
	maxRawTaps  = 8
	maxRawFrame = 16 << 20
)

// Matcher says which names a pattern means: as a glob, or without * ? and [ as a part of the
// name. Slashes are letters like others.
func Matcher(pattern string) (func(string) bool, error) {
	if !strings.ContainsAny(pattern, `*?[\`) {
		return func(name string) bool { return strings.Contains(name, pattern) }, nil
	}
	flat := strings.NewReplacer("/", "\x01")
	glob := flat.Replace(pattern)
	if _, err := path.Match(glob, ""); err != nil {
		return nil, fmt.Errorf("%q is no pattern such as '*.press.*': %w", pattern, err)
	}
	return func(name string) bool {
		ok, err := path.Match(glob, flat.Replace(name))
		return ok && err == nil
	}, nil
}

// Allowance lets so many a second through.
type Allowance struct {
	rate, left float64
	last       time.Time
}

// NewAllowance allows rate a second, and as many at once.
func NewAllowance(rate int, now time.Time) Allowance {
	return Allowance{float64(rate), float64(rate), now}
}

// Take takes one, where one is left at machine time now.
func (a *Allowance) Take(now time.Time) bool {
	a.left = min(a.rate, a.left+now.Sub(a.last).Seconds()*a.rate)
	a.last = now
	if a.left < 1 {
		return false
	}
	a.left--
	return true
}

// Taps is where a reader tells raw values, in its worker. While nobody listens that costs a
// look at Open, for each message or more. Safe for concurrent use; nil is one to which
// nobody ever listens.
type Taps struct {
	open atomic.Bool

	mu   sync.Mutex // protects the fields below
	taps []*rawTap
	wake chan struct{} // something waits
}

// rawTap is one listener, as its worker knows it.
type rawTap struct {
	rawOrder

	match   func(string) bool
	allowed Allowance
	size    int
	out     RawHeard
}

// rawOrder is a listener as workers are told of it.
type rawOrder struct {
	RawQuery

	ID uint64 `json:"id"`
}

// rawParcel is what a worker tells of one.
type rawParcel struct {
	RawHeard

	ID uint64 `json:"id"`
}

func newTaps() *Taps { return &Taps{wake: make(chan struct{}, 1)} }

// Listening is where a reader tells one listener, for who steps it without a process; heard
// is what it told since.
func Listening(q RawQuery) (t *Taps, heard func() RawHeard, err error) {
	b, err := json.Marshal([]rawOrder{{q, 1}})
	if err != nil {
		return nil, nil, fmt.Errorf("listen: %w", err)
	}
	t = newTaps()
	return t, t.tapped, t.set(b)
}

// tapped is what waits for the first listener.
func (t *Taps) tapped() (h RawHeard) {
	t.mu.Lock()
	defer t.mu.Unlock()
	x := t.taps[0]
	h, x.out, x.size = x.out, RawHeard{}, 0
	return h
}

// Tapped may be implemented by a Log to which somebody may listen.
type Tapped interface{ Taps() *Taps }

// TapsOf are those of a log.
func TapsOf(log Log) *Taps {
	if t, ok := log.(Tapped); ok {
		return t.Taps()
	}
	return nil
}

// Open reports whether somebody listens: only then a reader has anything to tell.
func (t *Taps) Open() bool { return t != nil && t.open.Load() }

// Tell tells a value of a signal (empty: it becomes none) and a node, if somebody asked for
// it; then said is called once for all of it. It keeps nobody waiting.
func (t *Taps) Tell(signal, node string, s mesh.Status, said func() Raw) {
	if !t.Open() {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	var made *Raw
	for _, x := range t.taps {
		switch {
		case !x.match(node) && (signal == "" || !x.match(signal)), x.Quality != "" && x.Quality != s.Severity():
			x.out.Others++
			x.out.Such = cut(cmp.Or(signal, node))
		case !x.allowed.Take(time.Now()), len(x.out.Values) >= mostRaw, x.size >= mostRawBytes:
			x.out.LeftOut++
		default:
			if made == nil {
				r := said()
				r.Signal, r.Node, r.Status = signal, node, s
				r.bound()
				made = &r
			}
			x.out.Values = append(x.out.Values, *made)
			x.size += made.size()
		}
	}
	select {
	case t.wake <- struct{}{}:
	default:
	}
}

func (r *Raw) bound() {
	for _, s := range []*string{&r.Signal, &r.Node, &r.Type, &r.Value, &r.Quality} {
		*s = cut(*s)
	}
	r.Notes = r.Notes[:min(len(r.Notes), maxRawNotes)]
	for i := range r.Notes {
		r.Notes[i] = cut(r.Notes[i])
	}
}

func cut(s string) string {
	if len(s) <= maxRawText {
		return s
	}
	return strings.ToValidUTF8(s[:maxRawText], "") + "…"
}

func (r *Raw) size() int {
	n := 200 + len(r.Signal) + len(r.Node) + len(r.Type) + len(r.Value) + len(r.Quality)
	for _, s := range r.Notes {
		n += len(s)
	}
	return n
}

// set makes these all who listen. Who did before goes on as before.
func (t *Taps) set(payload []byte) error {
	var orders []rawOrder
	if err := json.Unmarshal(payload, &orders); err != nil {
		return fmt.Errorf("%w: who listens: %w", errPipe, err)
	}
	if len(orders) > maxRawTaps {
		return fmt.Errorf("%w: %d listeners", errPipe, len(orders))
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	before := map[uint64]*rawTap{}
	for _, x := range t.taps {
		before[x.ID] = x
	}
	t.taps = nil
	for _, o := range orders {
		x := before[o.ID]
		if x == nil {
			match, err := Matcher(o.Pattern)
			if err != nil {
				return fmt.Errorf("%w: %w", errPipe, err)
			}
			x = &rawTap{rawOrder: o, match: match, allowed: NewAllowance(o.Rate, time.Now())}
		}
		t.taps = append(t.taps, x)
	}
	t.open.Store(len(t.taps) > 0)
	return nil
}

// take is what waits, as it goes through the pipe; nil: nothing does.
func (t *Taps) take() ([]byte, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	var all []rawParcel
	for _, x := range t.taps {
		if len(x.out.Values) > 0 || x.out.LeftOut > 0 || x.out.Others > 0 {
			all = append(all, rawParcel{x.out, x.ID})
			x.out, x.size = RawHeard{}, 0
		}
	}
	if all == nil {
		return nil, nil
	}
	b, err := json.Marshal(all)
	if err != nil {
		return nil, fmt.Errorf("tell raw values: %w", err)
	}
	return b, nil
}
