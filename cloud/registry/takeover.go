package registry

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// TakeOver puts into a registry that was read from a backup what the one at from
// knows beside it: keys that were revoked since, agents that were enrolled since,
// revisions since, readers since, and the key that signs their tokens, where that is another since. It
// says how many. A registry of another hub, or none, gives nothing. keyFile is as in OpenSealed.
func TakeOver(from, into, keyFile string) (n int, err error) {
	if same, err := Same(from, into, keyFile); err != nil || !same {
		return 0, err
	}
	older, err := OpenSealed(from, keyFile)
	if err != nil {
		return 0, err
	}
	if err := Folders(into); err != nil {
		return 0, err
	}
	r, err := OpenSealed(into, keyFile)
	if err != nil {
		return 0, err
	}
	agents, err := r.takeAgents(older)
	if err != nil {
		return agents, err
	}
	keys, err := r.takeRevoked(older)
	if err != nil {
		return agents + keys, err
	}
	revisions, err := r.takeRevisions(older)
	if err != nil {
		return agents + keys + revisions, err
	}
	readers, err := r.takeReaders(older)
	if err != nil {
		return agents + keys + revisions + readers, err
	}
	if took, err := r.takeSigning(older, time.Now()); err != nil || !took {
		return agents + keys + revisions + readers, err
	}
	return agents + keys + revisions + readers + 1, nil
}

// Same says whether two registries are of one hub.
func Same(one, other, keyFile string) (bool, error) {
	if _, err := os.Stat(one); errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	was, ok, _, err := readKeys(filepath.Join(one, keysFile), keyFile)
	if err != nil || !ok {
		return false, err
	}
	is, _, _, err := readKeys(filepath.Join(other, keysFile), keyFile)
	if err != nil {
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
