package registry

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Errors of revoking.
var (
	// ErrUnknown is returned for an agent that is not enrolled.
	ErrUnknown = errors.New("no agent of this name is enrolled")
	// ErrRevoked is returned for a key that was revoked: it never comes back.
	ErrRevoked = errors.New("this key was revoked: make another with plantmesh-edge keygen")
)

// Revocation is a key that is not accepted any more. Each is a file of its own,
// named by the key, so that two operators can't lose each other's.
type Revocation struct {
	Site      string    `json:"site"`
	Name      string    `json:"name"`
	PublicKey string    `json:"public_key"`
	Revoked   time.Time `json:"revoked"`
}

// Revoke ends what an agent's key may do, for good; the name and the log stay
// for another key. Revoking again changes nothing.
func (r *Registry) Revoke(site, name, why string, by Actor, now time.Time) (Revocation, error) {
	if err := checkNames(site, name); err != nil {
		return Revocation{}, err
	}
	a, ok, err := r.agent(site, name)
	switch {
	case err != nil:
		return Revocation{}, err
	case !ok:
		return Revocation{}, fmt.Errorf("%s at %s: %w", name, site, ErrUnknown)
	case a.Revoked != nil:
		return Revocation{site, name, a.PublicKey, *a.Revoked}, nil
	}
	v := Revocation{site, name, a.PublicKey, now.UTC()}
	act := Act{Actor: by, Action: "agent.revoke", Object: site + "/" + name, Before: mark(a.PublicKey), Reason: why}
	return v, r.change(act, func() error { return writeJSON(r.revocation(a.PublicKey), v) })
}

// Revoked are the keys that were revoked, sorted.
func (r *Registry) Revoked() ([]string, error) {
	files, err := os.ReadDir(filepath.Join(r.dir, "revoked"))
	if err != nil {
		return nil, fmt.Errorf("list revoked keys: %w", err)
	}
	var out []string
	for _, f := range files {
		if key, ok := strings.CutSuffix(f.Name(), ".json"); ok {
			out = append(out, key)
		}
	}
	slices.Sort(out)
	return out, nil
}

// PlantAccount signs the plant's account as it is without the agents' keys that were
// revoked, and with those that may sign agents' tokens.
func (r *Registry) PlantAccount(revoked, signers []string) (token string, err error) {
	operator, _, err := public(r.keys.Operator)
	if err != nil {
		return "", err
	}
	a := plantAccount(r.Trust.PlantKey, signers)
	for _, key := range revoked {
		// For ever, and not up to now: the clock that signed may have been ahead.
		a.RevokeAt(key, time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC))
	}
	if token, err = a.Encode(operator); err != nil {
		return "", fmt.Errorf("sign the plant's account: %w", err)
	}
	return token, nil
}

func (r *Registry) revocation(key string) string { return filepath.Join(r.dir, "revoked", key+".json") }

// agent reads one agent; ok is false where none of that name is enrolled.
func (r *Registry) agent(site, name string) (a Agent, ok bool, err error) {
	path := filepath.Join(r.dir, "agents", site+"."+name+".json")
	if ok, err = readJSON(path, &a); err != nil || !ok {
		return a, false, err
	}
	var v Revocation
	gone, err := readJSON(r.revocation(a.PublicKey), &v)
	if gone {
		a.Revoked = &v.Revoked
	}
	return a, true, err
}

// readJSON reads a file into v; ok is false where there is none in its folder. Where there is
// no folder nobody can tell.
func readJSON(path string, v any) (ok bool, err error) {
	b, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return false, there(filepath.Dir(path))
	case err != nil:
		return false, fmt.Errorf("read %s: %w", path, err)
	}
	if err := json.Unmarshal(b, v); err != nil {
		return false, fmt.Errorf("read %s: %w", path, err)
	}
	return true, nil
}
