package agent

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	revisions "plantmesh/edge/revision"
	"plantmesh/proto/revision"
	"plantmesh/proto/strict"
)

// revisionsFolder is where the hub's configurations lie, in the data folder: the one of
// edge.yaml is not the agent's to write.
const revisionsFolder = "revisions"

// origin is where a file of a configuration comes from.
type origin struct {
	name     string // as sources.d/press.yaml
	path     string
	base     string // the folder that relative paths in it count from
	revision uint64 // of the hub; 0: the gateway's own
}

func (c *Config) revisions() revisions.Store {
	return revisions.NewStore(filepath.Join(c.Data, revisionsFolder))
}

// load reads the sources and rules that are in force with a revision: the gateway's own
// files, and those of the revision. Of two of one name the gateway's own counts.
func (c *Config) load(ref revision.Ref) {
	c.faults = slices.DeleteFunc(c.faults, func(f partFault) bool { return f.part == Sources || f.part == Rules })
	c.applied, c.drift, c.Sources, c.Rules = ref, nil, nil, nil
	files, drift, err := c.files(revision.SourcesFolder, ref)
	c.fault(Sources, err)
	if err == nil {
		var faults []error
		c.Sources, faults = c.loadSources(files)
		c.fault(Sources, faults...)
	}
	c.drift = drift
	files, drift, err = c.files(revision.RulesFolder, ref)
	if err == nil {
		c.Rules, err = loadRules(files)
	}
	c.fault(Rules, err)
	c.drift = append(c.drift, drift...)
}

// files are those of one of the two folders: the gateway's own first, so that what can't
// stand beside them is told of the revision's. drift are those of its own that have another
// content than the revision's of the same name.
func (c *Config) files(folder string, ref revision.Ref) (out []origin, drift []string, err error) {
	base := filepath.Join(filepath.Dir(c.path), folder)
	own, err := yamlFiles(base)
	if err != nil {
		return nil, nil, err
	}
	named := map[string]string{}
	for _, path := range own {
		name := folder + "/" + filepath.Base(path)
		named[name] = path
		out = append(out, origin{name: name, path: path, base: base})
	}
	if ref.IsZero() {
		return out, nil, nil
	}
	pushed, err := yamlFiles(filepath.Join(c.revisions().Folder(ref), folder))
	if err != nil {
		return nil, nil, err
	}
	for _, path := range pushed {
		name := folder + "/" + filepath.Base(path)
		local, shadowed := named[name]
		if !shadowed {
			out = append(out, origin{name: name, path: path, base: base, revision: ref.Number})
			continue
		}
		mine, err := os.ReadFile(local)
		if err != nil {
			return nil, nil, &strict.Fault{File: local, What: strict.Unreadable(err)}
		}
		theirs, err := os.ReadFile(path)
		if err != nil {
			return nil, nil, &strict.Fault{File: path, What: strict.Unreadable(err)}
		}
		if string(mine) != string(theirs) {
			drift = append(drift, name)
		}
	}
	return out, drift, nil
}

// errNamed is returned for a file that a revision may not name.
var errNamed = errors.New("a configuration of the hub may name only files of this gateway's configuration folder, and none that is the agent's own")

// mayName says whether a source of a revision may name a file: who writes it must not have
// the agent send what it can read to a broker of theirs. path is as it stands there, whole
// where it leads.
func (c *Config) mayName(path, whole string) error {
	base := filepath.Dir(c.path)
	within := []string{base}
	name, secret := strings.CutPrefix(path, credential)
	if secret {
		within = []string{filepath.Join(base, credentials)}
		if dir := os.Getenv("CREDENTIALS_DIRECTORY"); dir != "" {
			within = []string{dir}
		}
	}
	if filepath.IsAbs(name) || secret && (!filepath.IsLocal(name) || filepath.Base(name) != name) {
		return fmt.Errorf("%s: %w: write a path that counts from sources.d, or cred:NAME", path, errNamed)
	}
	at, err := filepath.EvalSymlinks(whole)
	if errors.Is(err, fs.ErrNotExist) && inside(filepath.Clean(whole), within) {
		return nil // which is told
	}
	if err != nil || !inside(at, resolved(within)) {
		return fmt.Errorf("%s: %w", path, errNamed)
	}
	if inside(at, resolved([]string{c.Data})) {
		return fmt.Errorf("%s: %w", path, errNamed)
	}
	info, err := os.Stat(at)
	if err != nil {
		return fmt.Errorf("%s: %w", path, errNamed)
	}
	for _, mine := range []string{c.path, c.Hub.Key, c.Hub.Token, c.Hub.ProxyPasswordFile, c.renewedToken()} {
		if other, err := os.Stat(mine); err == nil && os.SameFile(info, other) {
			return fmt.Errorf("%s: %w", path, errNamed)
		}
	}
	return nil
}

// resolved are folders without links on the way.
func resolved(folders []string) (out []string) {
	for _, f := range folders {
		if at, err := filepath.EvalSymlinks(f); err == nil {
			out = append(out, at)
		}
	}
	return out
}

// inside says whether a path lies in one of some folders.
func inside(path string, folders []string) bool {
	return slices.ContainsFunc(folders, func(f string) bool {
		rel, err := filepath.Rel(f, path)
		return f != "" && err == nil && filepath.IsLocal(rel)
	})
}
