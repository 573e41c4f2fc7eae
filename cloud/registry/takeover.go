package registry

import (
	"path/filepath"
)

// TakeOver puts into a registry that was read from a backup what the one at from
// knows beside it: keys that were revoked since, and agents that were enrolled
// since. It says how many. A registry of another hub, or none, gives nothing.
func TakeOver(from, into string) (n int, err error) {
	if same, err := Same(from, into); err != nil || !same {
		return 0, err
	}
	older, err := Open(from)
	if err != nil {
		return 0, err
	}
	r, err := Open(into)
	if err != nil {
		return 0, err
	}
	agents, err := r.takeAgents(older)
	if err != nil {
		return agents, err
	}
	keys, err := r.takeRevoked(older)
	return agents + keys, err
}

// Same says whether two registries are of one hub.
func Same(one, other string) (bool, error) {
	var was, is keys
	if ok, err := readJSON(filepath.Join(one, keysFile), &was); err != nil || !ok {
		return false, err
	}
	if _, err := readJSON(filepath.Join(other, keysFile), &is); err != nil {
		return false, err
	}
	return was.Operator == is.Operator, nil
}

// takeAgents takes over agents that were enrolled since.
func (r *Registry) takeAgents(older *Registry) (n int, err error) {
	agents, err := older.Agents()
	if err != nil {
		return 0, err
	}
	for _, a := range agents {
		have, ok, err := r.agent(a.Site, a.Name)
		if err != nil {
			return n, err
		}
		if ok && !have.Enrolled.Before(a.Enrolled) {
			continue
		}
		a.Revoked = nil // is in the key's own file
		if err := writeJSON(filepath.Join(r.dir, agentsFolder, a.Site+"."+a.Name+".json"), a); err != nil {
			return n, err
		}
		n++
	}
	return n, nil
}

// takeRevoked takes over keys that were revoked since.
func (r *Registry) takeRevoked(older *Registry) (n int, err error) {
	keys, err := older.Revoked()
	if err != nil {
		return 0, err
	}
	for _, key := range keys {
		var v Revocation
		has, err := readJSON(r.revocation(key), &v)
		if err == nil && !has {
			n++
			if _, err = readJSON(older.revocation(key), &v); err == nil {
				err = writeJSON(r.revocation(key), v)
			}
		}
		if err != nil {
			return n, err
		}
	}
	return n, nil
}
