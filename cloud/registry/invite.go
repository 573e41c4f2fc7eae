package registry

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"plantmesh/proto/enroll"
)

// ErrInvite is returned for a one-time key that lets nobody in; which of the reasons it
// is, a stranger is not told.
var ErrInvite = errors.New("this one-time key is not accepted: it is not one of this hub, is used up, has ended, or is for other names")

// ErrKey is returned for a one-time key that is not made as asked, ErrNoKey for one that is
// not there.
var (
	ErrKey   = errors.New("no such one-time key is made")
	ErrNoKey = errors.New("no key has this id")
)

// Bounds of one-time keys.
const (
	MaxUses   = 1000
	MaxInvite = 90 * 24 * time.Hour
	// secretBytes: 160 bits can't be guessed, however often somebody tries.
	secretBytes  = 20
	secretPrefix = "pmk-"
	// viaAgent is the way of a gateway that comes with a key.
	viaAgent = "agent"
)

// Invite is a one-time key, or one for a number of gateways. The key itself is told
// once; kept is its hash.
type Invite struct {
	ID      string    `json:"id"`     // the hash's beginning
	Prefix  string    `json:"prefix"` // agents whose names begin so; empty: any
	Uses    int       `json:"uses"`
	Used    []Claim   `json:"used"` // each in a file of its own
	Created time.Time `json:"created"`
	Expires time.Time `json:"expires"`
	By      string    `json:"by"`
	Note    string    `json:"note,omitempty"`
	// Ended is when somebody ended it before its time; nil: nobody did.
	Ended *time.Time `json:"ended,omitempty"`
}

// Claim is a gateway that came with a key.
type Claim struct {
	PublicKey string    `json:"public_key"`
	Name      string    `json:"name"`
	At        time.Time `json:"at"`
}

// Invite makes a one-time key. The secret is told here and nowhere else.
func (r *Registry) Invite(i Invite, by Actor) (made Invite, secret string, err error) {
	switch life := i.Expires.Sub(i.Created); {
	case i.Uses < 1 || i.Uses > MaxUses:
		return i, "", fmt.Errorf("%w: a key is for 1 to %d gateways, not %d", ErrKey, MaxUses, i.Uses)
	case life <= 0 || life > MaxInvite:
		return i, "", fmt.Errorf("%w: a key is good for at most %d days, not %s", ErrKey, MaxInvite/(24*time.Hour), life)
	case i.Prefix != "" && !enroll.Name(i.Prefix):
		return i, "", fmt.Errorf("the names' beginning %q: %w", i.Prefix, ErrName)
	}
	b := make([]byte, secretBytes)
	_, _ = rand.Read(b) // never fails
	secret = secretPrefix + strings.ToLower(base32.StdEncoding.EncodeToString(b))
	hash := hashOf(secret)
	i.ID, i.Used, i.By = hash[:8], nil, by.Who
	act := Act{Actor: by, Action: "key.create", Object: i.ID, After: fmt.Sprintf("for %d gateways %s… until %s", i.Uses, i.Prefix, i.Expires.UTC().Format(time.RFC3339)), Reason: i.Note}
	return i, secret, r.change(act, func() error { return writeJSON(r.invite(hash), i) })
}

func hashOf(secret string) string {
	sum := sha256.Sum256([]byte(secret))
	return hex.EncodeToString(sum[:])
}

// invited lets in a gateway by the key it brings, and counts that, once for each
// gateway. Of several that come at once as many get in as the key is for.
func (r *Registry) invited(site string, q enroll.Request, from string, now time.Time) (d Decision, err error) {
	hash := hashOf(q.Key)
	i, err := r.readInvite(hash)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return d, ErrInvite
	case err != nil:
		return d, err
	case i.Ended != nil || !now.Before(i.Expires) || !strings.HasPrefix(q.Agent, i.Prefix):
		return d, ErrInvite
	}
	if err := r.free(site, q.Agent, q.PublicKey); err != nil {
		return d, err
	}
	claim := Claim{q.PublicKey, q.Agent, now.UTC()}
	mine := slices.ContainsFunc(i.Used, func(c Claim) bool { return c.PublicKey == q.PublicKey })
	for n := len(i.Used); !mine; n++ {
		if n >= i.Uses {
			return d, ErrInvite
		}
		if mine, err = createJSON(r.use(hash, n), claim); err != nil {
			return d, err
		}
	}
	d = Decision{State: enroll.Approved, Site: site, Name: q.Agent, By: "key " + i.ID, At: now.UTC()}
	act := Act{Actor: Actor{Who: d.By, Via: viaAgent, Address: from}, Action: "agent.enroll", Object: site + "/" + q.Agent, After: mark(q.PublicKey)}
	return d, r.change(act, func() error { return writeJSON(r.decision(q.PublicKey), d) })
}

// Invites are the keys there are, newest last, with who used them.
func (r *Registry) Invites() ([]Invite, error) {
	files, err := os.ReadDir(filepath.Join(r.dir, invitesFolder))
	if err != nil {
		return nil, fmt.Errorf("list the keys: %w", err)
	}
	out := []Invite{}
	for _, f := range files {
		hash, ok := strings.CutSuffix(f.Name(), ".json")
		if !ok || strings.Contains(hash, ".") {
			continue
		}
		i, err := r.readInvite(hash)
		if err != nil {
			return nil, err
		}
		out = append(out, i)
	}
	slices.SortFunc(out, func(a, b Invite) int { return a.Created.Compare(b.Created) })
	return out, nil
}

// EndInvite ends a key before its time; who came by it stays.
func (r *Registry) EndInvite(id, why string, by Actor, now time.Time) (Invite, error) {
	files, err := os.ReadDir(filepath.Join(r.dir, invitesFolder))
	if err != nil {
		return Invite{}, fmt.Errorf("list the keys: %w", err)
	}
	for _, f := range files {
		hash, ok := strings.CutSuffix(f.Name(), ".json")
		if !ok || strings.Contains(hash, ".") || hash[:min(8, len(hash))] != id {
			continue
		}
		if i, err := r.readInvite(hash); err != nil || i.Ended != nil {
			return i, err
		}
		at := now.UTC()
		err := r.change(Act{Actor: by, Action: "key.end", Object: id, Reason: why}, func() error {
			_, err := createJSON(r.ended(hash), at)
			return err
		})
		if err != nil {
			return Invite{}, err
		}
		return r.readInvite(hash)
	}
	return Invite{}, fmt.Errorf("%q: %w; plantmesh agents keys list shows them", id, ErrNoKey)
}

// readInvite reads a key with all that was done with it.
func (r *Registry) readInvite(hash string) (i Invite, err error) {
	ok, err := readJSON(r.invite(hash), &i)
	if err == nil && !ok {
		err = fs.ErrNotExist
	}
	if err != nil {
		return i, err
	}
	for n := range i.Uses {
		var c Claim
		if ok, err := readJSON(r.use(hash, n), &c); err != nil || !ok {
			if err != nil {
				return i, err
			}
			break
		}
		i.Used = append(i.Used, c)
	}
	var at time.Time
	if ok, err := readJSON(r.ended(hash), &at); err != nil || !ok {
		return i, err
	}
	i.Ended = &at
	return i, nil
}

func (r *Registry) invite(hash string) string {
	return filepath.Join(r.dir, invitesFolder, hash+".json")
}

func (r *Registry) use(hash string, n int) string {
	return filepath.Join(r.dir, invitesFolder, fmt.Sprintf("%s.use-%d.json", hash, n))
}

func (r *Registry) ended(hash string) string {
	return filepath.Join(r.dir, invitesFolder, hash+".ended.json")
}
