package registry

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"github.com/nats-io/nkeys"
)

const (
	// Swap is how long tokens of the key before are good where it is to go at once:
	// agents that are connected fetch new ones meanwhile. Whoever has a stolen key gets
	// nothing by it: a token is renewed for the key that its agent is enrolled with.
	Swap = 3 * time.Second
	// MaxGrace bounds how long two keys are good beside each other.
	MaxGrace = 30 * 24 * time.Hour
)

// ErrGrace is returned for a time between two keys that is none.
var ErrGrace = errors.New("the key before can be good for at most 30 days beside the new one")

// errNoKeys is returned where keys.json is gone beneath a registry that was opened.
var errNoKeys = errors.New("keys.json is gone: restore it from a backup")

// Retired is a key that signed agents' tokens before another one did. Nobody has its seed
// any more but who stole it.
type Retired struct {
	PublicKey string    `json:"public_key"`
	Retired   time.Time `json:"retired"`
	Until     time.Time `json:"until"` // so long its tokens are good
}

// Signing is by which keys agents' tokens are signed, and were.
type Signing struct {
	Key     string    `json:"key"`     // the public half of the one that signs now
	Retired []Retired `json:"retired"` // oldest first

	seed string
}

// Good are the public keys whose tokens are accepted at a time, the newest first.
func (s *Signing) Good(now time.Time) []string {
	out := []string{s.Key}
	for _, k := range slices.Backward(s.Retired) {
		if now.Before(k.Until) {
			out = append(out, k.PublicKey)
		}
	}
	return out
}

// Ends is when the next key is accepted no more; zero: the newest is the only one.
func (s *Signing) Ends(now time.Time) (end time.Time) {
	for _, k := range s.Retired {
		if now.Before(k.Until) && (end.IsZero() || k.Until.Before(end)) {
			end = k.Until
		}
	}
	return end
}

func (k *keys) signing() (s Signing, err error) {
	s = Signing{Retired: slices.Clone(k.Retired), seed: k.Agents}
	_, s.Key, err = public(k.Agents)
	return s, err
}

// Signing reads by which keys tokens are signed now: another process may have changed
// that. Tokens are signed by it once it is in Use. Safe beside all else.
func (r *Registry) Signing() (s Signing, err error) {
	k, err := r.read()
	if err != nil {
		return s, err
	}
	return k.signing()
}

// Use has tokens signed by the newest of these keys from now on.
func (r *Registry) Use(s Signing) { r.keys.Agents, r.keys.Retired = s.seed, slices.Clone(s.Retired) }

func (r *Registry) read() (keys, error) {
	path := filepath.Join(r.dir, keysFile)
	k, ok, _, err := readKeys(path, r.keyFile)
	if err == nil && !ok {
		err = errNoKeys
	}
	return k, err
}

// Rotate makes another key sign agents' tokens. Those of the keys before are good for a
// time more, or as long as they were, where that is shorter. A hub that runs has to be
// told: see Signing.
func (r *Registry) Rotate(grace time.Duration, why string, by Actor, now time.Time) (s Signing, err error) {
	if grace < 0 || grace > MaxGrace {
		return s, fmt.Errorf("%s: %w", grace, ErrGrace)
	}
	k, err := r.read()
	if err != nil {
		return s, err
	}
	was, err := k.signing()
	if err != nil {
		return s, err
	}
	k.retire(was.Key, now, now.Add(max(grace, Swap)))
	if k.Agents, err = newSeed(nkeys.CreateAccount); err != nil {
		return s, err
	}
	if s, err = k.signing(); err != nil {
		return s, err
	}
	act := Act{Actor: by, Action: "signing-key.rotate", Object: "agents", Before: mark(was.Key), After: mark(s.Key), Reason: why}
	return s, r.change(act, func() error { return writeKeys(filepath.Join(r.dir, keysFile), r.keyFile, k) })
}

// retire puts a key among those of before, and ends the others of them no later than it.
// Those are forgotten whose tokens have all ended by themselves.
func (k *keys) retire(key string, now, until time.Time) {
	k.Retired = slices.DeleteFunc(slices.Clone(k.Retired), func(o Retired) bool { return o.PublicKey == key || now.Sub(o.Until) > MaxLifetime })
	for i := range k.Retired {
		if k.Retired[i].Until.After(until) {
			k.Retired[i].Until = until.UTC()
		}
	}
	k.Retired = append(k.Retired, Retired{PublicKey: key, Retired: now.UTC(), Until: until.UTC()})
}

// takeSigning takes over the key that signs where it is newer than that of a backup: that
// one may have been stolen since. It says whether it did.
func (r *Registry) takeSigning(older *Registry, now time.Time) (bool, error) {
	is, err := older.keys.signing()
	if err != nil {
		return false, err
	}
	was, err := r.keys.signing()
	knows := func(s Signing, key string) bool {
		return slices.ContainsFunc(s.Retired, func(o Retired) bool { return o.PublicKey == key })
	}
	if err != nil || is.Key == was.Key || knows(was, is.Key) {
		return false, err
	}
	k := r.keys
	k.Agents, k.Retired = is.seed, is.Retired
	if !knows(is, was.Key) { // of another branch: nobody knows who has it
		k.retire(was.Key, now, now)
	}
	r.keys = k
	return true, writeKeys(filepath.Join(r.dir, keysFile), r.keyFile, k)
}
