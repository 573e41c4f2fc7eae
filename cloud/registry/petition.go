package registry

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nkeys"

	"plantmesh/proto/enroll"
)

// Errors of asking to be let in.
var (
	// ErrCode is returned for a code that no gateway shows that asks.
	ErrCode = errors.New("no gateway that asks has this code; plantmesh agents inbox lists those that do")
	// ErrTwoCodes is returned for a code that several gateways show.
	ErrTwoCodes = errors.New("several gateways show this code, and all but one may be false: say the whole fingerprint of the one you mean")
	// ErrDecided is returned for a request that was approved under another name.
	ErrDecided = errors.New("this gateway was let in already")
	// ErrForged is returned for a request that its key did not sign.
	ErrForged = errors.New("the request is not signed by the key in it")
	// ErrCrowd is returned while too many gateways ask.
	ErrCrowd = errors.New("too many gateways ask to be let in: approve or refuse some (plantmesh agents inbox), then ask again")
)

const (
	// maxPetitions bounds the gateways that ask at once: each is a file of at most
	// some 20 KiB, and who asks need not be one of ours.
	maxPetitions = 1000
	// maxFrom of them may come from one address: a plant behind one router has fewer
	// that wait, and who floods leaves room for others.
	maxFrom = 50
	// askedFor is how long one that asks no more is remembered.
	askedFor = 24 * time.Hour
	// askAgain is how soon one that waits may ask again.
	askAgain = 3 * time.Second
)

// Petition is a gateway that asked to be let in.
type Petition struct {
	Code        string         `json:"code"`
	Fingerprint string         `json:"fingerprint"`
	Request     enroll.Request `json:"request"` // without its one-time key
	From        string         `json:"from"`    // the address it asked from; empty: it came in a file
	First       time.Time      `json:"first"`
	Last        time.Time      `json:"last"`
	Decision    *Decision      `json:"decision,omitempty"` // in a file of its own
}

// Decision is what became of a request.
type Decision struct {
	State enroll.State `json:"state"` // approved or refused
	Site  string       `json:"site,omitempty"`
	Name  string       `json:"name,omitempty"`
	Why   string       `json:"why,omitempty"`
	By    string       `json:"by"` // who decided: a user, or the key that it brought
	At    time.Time    `json:"at"`
}

// Gate is what a hub lets gateways in by.
type Gate struct {
	Site     string        // the only one it has
	Lifetime time.Duration // of tokens
}

// Ask is a gateway that asks, from an address; it is answered the same however often
// it does. An error is a request that is none, or a folder that can't be written.
func (r *Registry) Ask(g Gate, signed enroll.Signed, from string, now time.Time) (enroll.Answer, error) {
	q, err := r.verified(signed)
	if err != nil {
		return enroll.Answer{}, err
	}
	if q.Site != "" && q.Site != g.Site {
		return refusal(fmt.Sprintf("this hub is of site %s, not %s", g.Site, q.Site)), nil
	}
	var d Decision
	decided, err := readJSON(r.decision(q.PublicKey), &d)
	if err == nil && !decided {
		decided, err = r.byHand(g.Site, q, &d)
	}
	if err == nil && !decided && q.Key != "" {
		d, err = r.invited(g.Site, q, from, now)
		decided = err == nil
	}
	switch {
	case errors.Is(err, ErrInvite), errors.Is(err, ErrTaken), errors.Is(err, ErrRevoked):
		return refusal(err.Error()), nil
	case err != nil:
		return enroll.Answer{}, err
	case !decided:
		return enroll.Answer{State: enroll.Pending, Site: g.Site, Agent: q.Agent, Retry: int(askAgain / time.Second)}, r.remember(q, from, now)
	case d.State != enroll.Approved:
		return refusal(d.Why), nil
	}
	return r.admit(g, d, q.PublicKey, now)
}

// verified reads a request and holds its signature against the key in it.
func (r *Registry) verified(signed enroll.Signed) (q enroll.Request, err error) {
	if q, err = signed.Parse(); err != nil {
		return q, err
	}
	if !nkeys.IsValidPublicUserKey(q.PublicKey) {
		return q, fmt.Errorf("%w: its public key is none of an agent", enroll.ErrRequest)
	}
	kp, err := nkeys.FromPublicKey(q.PublicKey)
	if err != nil || kp.Verify(signed.Request, signed.Signature) != nil {
		return q, ErrForged
	}
	return q, nil
}

func refusal(why string) enroll.Answer { return enroll.Answer{State: enroll.Refused, Why: why} }

// byHand: an operator signed this key without being asked.
func (r *Registry) byHand(site string, q enroll.Request, d *Decision) (bool, error) {
	have, ok, err := r.agent(site, q.Agent)
	if err != nil || !ok || have.PublicKey != q.PublicKey {
		return false, err
	}
	*d = Decision{State: enroll.Approved, Site: site, Name: q.Agent}
	return true, nil
}

// admit signs the key of a gateway that was let in.
func (r *Registry) admit(g Gate, d Decision, publicKey string, now time.Time) (a enroll.Answer, err error) {
	token, err := r.Enroll(d.Site, d.Name, publicKey, g.Lifetime, now)
	switch {
	case errors.Is(err, ErrTaken), errors.Is(err, ErrRevoked):
		return refusal(err.Error()), nil
	case err != nil:
		return a, err
	}
	if token, err = r.File(token); err != nil {
		return a, err
	}
	if err := os.Remove(r.asked(publicKey)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return a, fmt.Errorf("forget a request that was answered: %w", err)
	}
	return enroll.Answer{State: enroll.Approved, Site: d.Site, Agent: d.Name, Token: token}, nil
}

// remember keeps a request for whoever decides on it.
func (r *Registry) remember(q enroll.Request, from string, now time.Time) error {
	q.Key = "" // it was not looked at, and is nobody's business here
	p := Petition{First: now.UTC()}
	known, err := readJSON(r.asked(q.PublicKey), &p)
	if err != nil {
		return err
	}
	if !known {
		if err := r.room(from, now); err != nil {
			return err
		}
	}
	p.Code, p.Fingerprint, p.Request, p.From, p.Last = enroll.Code(q.PublicKey), enroll.Fingerprint(q.PublicKey), q, from, now.UTC()
	return writeJSON(r.asked(q.PublicKey), p)
}

// crowd is who asks, counted.
type crowd struct {
	at   time.Time // of the count; those that came since are in it
	all  int
	from map[string]int
}

// countEvery is how old a count may be: it reads a file for each that asks.
const countEvery = 5 * time.Second

// room forgets who asks no more, where another one wants to be remembered.
func (r *Registry) room(from string, now time.Time) error {
	if r.crowd.from == nil || now.Sub(r.crowd.at) >= countEvery {
		if err := r.count(now); err != nil {
			return err
		}
	}
	if r.crowd.all >= maxPetitions || from != "" && r.crowd.from[from] >= maxFrom {
		return ErrCrowd
	}
	r.crowd.all++
	r.crowd.from[from]++
	return nil
}

func (r *Registry) count(now time.Time) error {
	all, err := r.Petitions()
	if err != nil {
		return err
	}
	r.crowd = crowd{at: now, from: map[string]int{}}
	for _, p := range all {
		if now.Sub(p.Last) < askedFor {
			r.crowd.all++
			r.crowd.from[p.From]++
			continue
		}
		if err := os.Remove(r.asked(p.Request.PublicKey)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("forget a request: %w", err)
		}
	}
	return nil
}

// Petitions are the gateways that ask, those that have waited longest first; what was
// decided on one and not fetched by it yet stands beside.
func (r *Registry) Petitions() ([]Petition, error) {
	files, err := os.ReadDir(filepath.Join(r.dir, askedFolder))
	if err != nil {
		return nil, fmt.Errorf("list who asks: %w", err)
	}
	out := []Petition{}
	for _, f := range files {
		key, ok := strings.CutSuffix(f.Name(), ".json")
		if !ok {
			continue
		}
		var p Petition
		if ok, err = readJSON(r.asked(key), &p); err != nil {
			return nil, err
		}
		var d Decision
		decided, err := readJSON(r.decision(key), &d)
		if err != nil {
			return nil, err
		}
		if decided {
			p.Decision = &d
		}
		if ok {
			out = append(out, p)
		}
	}
	slices.SortFunc(out, func(a, b Petition) int { return a.First.Compare(b.First) })
	return out, nil
}

// find is the gateway that shows a code or a fingerprint.
func (r *Registry) find(shown string) (p Petition, err error) {
	all, err := r.Petitions()
	if err != nil {
		return p, err
	}
	return Find(all, shown)
}

// Find is the one of those that ask that shows a code or a fingerprint.
func Find(all []Petition, shown string) (p Petition, err error) {
	code, _ := enroll.ReadCode(shown)
	found := slices.DeleteFunc(slices.Clone(all), func(p Petition) bool { return p.Code != code && !strings.EqualFold(p.Fingerprint, shown) })
	switch len(found) {
	case 0:
		return p, ErrCode
	case 1:
		return found[0], nil
	}
	return p, ErrTwoCodes
}

// Approve lets in the gateway that shows a code or a fingerprint, under the name it
// asked for or another one. It fetches its token itself.
func (r *Registry) Approve(shown, site, as string, by Actor, now time.Time) (Petition, error) {
	return r.approve(shown, site, as, "", by, now)
}

func (r *Registry) approve(shown, site, as, reason string, by Actor, now time.Time) (Petition, error) {
	p, err := r.find(shown)
	if err != nil {
		return p, err
	}
	d := Decision{State: enroll.Approved, Site: site, Name: p.Request.Agent, By: by.Who, At: now.UTC()}
	if as != "" {
		d.Name = as
	}
	if p.Decision != nil && p.Decision.State == enroll.Approved && p.Decision.Name != d.Name {
		return p, fmt.Errorf("%s: %w, as %s", p.Code, ErrDecided, p.Decision.Name)
	}
	if err := r.free(site, d.Name, p.Request.PublicKey); err != nil {
		return p, err
	}
	if p.Decision != nil && p.Decision.State == enroll.Approved {
		return p, nil
	}
	act := Act{Actor: by, Action: "agent.approve", Object: site + "/" + d.Name, Before: p.stood(), After: p.Fingerprint, Reason: reason}
	p.Decision = &d
	return p, r.change(act, func() error { return writeJSON(r.decision(p.Request.PublicKey), d) })
}

// stood is how a request stood, for the record.
func (p *Petition) stood() string {
	if p.Decision != nil {
		return string(p.Decision.State) + " by " + p.Decision.By
	}
	return string(enroll.Pending)
}

// Refuse tells the gateway that shows a code or a fingerprint why it is not let in. It
// may be approved later.
func (r *Registry) Refuse(shown, why string, by Actor, now time.Time) (Petition, error) {
	p, err := r.find(shown)
	if err != nil {
		return p, err
	}
	if p.Decision != nil && p.Decision.State == enroll.Approved {
		return p, fmt.Errorf("%s: %w, as %s; plantmesh agents revoke ends that", p.Code, ErrDecided, p.Decision.Name)
	}
	act := Act{Actor: by, Action: "agent.refuse", Object: p.Request.Agent, Before: p.stood(), After: p.Fingerprint, Reason: why}
	p.Decision = &Decision{State: enroll.Refused, Why: why, By: by.Who, At: now.UTC()}
	return p, r.change(act, func() error { return writeJSON(r.decision(p.Request.PublicKey), p.Decision) })
}

// Carry is Ask and Approve of a request that came in a file.
func (r *Registry) Carry(g Gate, signed enroll.Signed, as string, by Actor, now time.Time) (a enroll.Answer, err error) {
	q, err := r.verified(signed)
	if err != nil {
		return a, err
	}
	if a, err = r.Ask(g, signed, "", now); err != nil || a.State == enroll.Approved {
		return a, err
	}
	if a.State == enroll.Refused {
		var d Decision
		if before, err := readJSON(r.decision(q.PublicKey), &d); err != nil || !before || d.State != enroll.Refused {
			return a, err // not for what somebody decided: it can't be let in
		}
		if err := r.remember(q, "", now); err != nil {
			return a, err
		}
	}
	if _, err := r.approve(enroll.Fingerprint(q.PublicKey), g.Site, as, "its request came in a file", by, now); err != nil {
		return a, err
	}
	return r.Ask(g, signed, "", now)
}

func (r *Registry) asked(key string) string { return filepath.Join(r.dir, askedFolder, key+".json") }

func (r *Registry) decision(key string) string {
	return filepath.Join(r.dir, decidedFolder, key+".json")
}
