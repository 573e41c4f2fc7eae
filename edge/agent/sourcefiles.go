package agent

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"plantmesh/edge/source"
	"plantmesh/proto/revision"
	"plantmesh/proto/strict"
)

// disabledSuffix ends the name of a source's file that is not read.
const disabledSuffix = ".yaml.disabled"

// ErrSourceThere is returned where a file of that name, or a source, is there already.
var ErrSourceThere = errors.New("it is there already")

// SourceListed is one file of sources.d, for people.
type SourceListed struct {
	Source   string `json:"source,omitempty"` // empty: the file can't be read
	Protocol string `json:"protocol,omitempty"`
	Endpoint string `json:"endpoint,omitempty"`
	Signals  int    `json:"signals"` // that the file names
	File     string `json:"file"`
	Enabled  bool   `json:"enabled"`
	Revision uint64 `json:"revision,omitempty"` // of the hub, where the file came with it
	Fault    string `json:"fault,omitempty"`    // why it can't be read
	// State is what the running agent says of it; empty: none runs, or it doesn't read it.
	State string `json:"state,omitempty"`
}

// SourcesDir is where the sources' files are.
func (c *Config) SourcesDir() string { return filepath.Join(filepath.Dir(c.path), "sources.d") }

// ErrOfRevision is returned for a source that came with a configuration of the hub.
var ErrOfRevision = errors.New("this source came with a configuration of the hub: change it there; or put a file of the same name into sources.d, which goes before it")

// ListSources are the files of sources.d, and those that came from the hub; running is whether an agent answers.
func (c *Config) ListSources(ctx context.Context) (out []SourceListed, running bool, err error) {
	out = []SourceListed{}
	states := map[string]string{}
	if s, err := Status(ctx, *c); err == nil {
		running = true
		for _, x := range s.Sources {
			states[x.Source] = x.State
		}
	}
	entries, err := os.ReadDir(c.SourcesDir())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, running, &strict.Fault{File: c.SourcesDir(), What: strict.Unreadable(err)}
	}
	for _, e := range entries {
		enabled := filepath.Ext(e.Name()) == ".yaml"
		if !enabled && !strings.HasSuffix(e.Name(), disabledSuffix) {
			continue
		}
		l := c.listed(filepath.Join(c.SourcesDir(), e.Name()))
		l.Enabled = enabled
		if enabled {
			l.State = states[l.Source]
		}
		out = append(out, l)
	}
	files, _, err := c.files(revision.SourcesFolder, c.applied)
	for _, f := range files {
		if f.revision > 0 {
			l := c.listed(f.path)
			l.Enabled, l.Revision, l.State = true, f.revision, states[l.Source]
			out = append(out, l)
		}
	}
	return out, running, err
}

// listed is what a file says.
func (c *Config) listed(file string) SourceListed {
	l := SourceListed{File: file}
	raw, err := strict.Read(file)
	if err != nil {
		l.Fault = strict.Unreadable(err)
		return l
	}
	s, err := ParseSource(file, raw, c.Window)
	if err != nil {
		l.Fault = err.Error()
	}
	if all := s.sections(); len(all) == 1 {
		l.Source, l.Protocol, l.Signals = all[0].id, all[0].key, len(s.signals())
	}
	l.Endpoint = s.endpoint()
	return l
}

// endpoint is what a source calls, or where it is called.
func (s *SourceFile) endpoint() string {
	switch {
	case s.OPCUA != nil:
		return s.OPCUA.Endpoint
	case s.MQTT != nil:
		return s.MQTT.URL
	case s.Sparkplug != nil:
		return s.Sparkplug.URL
	case s.Listener != nil:
		return s.Listener.Listen
	}
	return ""
}

// FindSource is the file of a source, by its name or that of the file; enabled or not.
func (c *Config) FindSource(ctx context.Context, name string) (l SourceListed, running bool, err error) {
	all, running, err := c.ListSources(ctx)
	if err != nil {
		return l, running, err
	}
	var known []string
	for _, l := range all {
		base := filepath.Base(l.File)
		short := strings.TrimSuffix(strings.TrimSuffix(base, disabledSuffix), ".yaml")
		if l.Source == name || base == name || short == name {
			return l, running, nil
		}
		known = append(known, orName(l.Source, short))
	}
	has := "there is none"
	if len(known) > 0 {
		has = "there are " + strings.Join(known, ", ")
	}
	return l, running, fmt.Errorf("%w: %q; %s", ErrNoSource, name, has)
}

func orName(id, file string) string {
	if id == "" {
		return file
	}
	return id
}

// ShowSource is what the file of a source says, without what looks like a secret.
func (c *Config) ShowSource(l SourceListed) (string, error) {
	b, err := begins(l.File)
	if err != nil {
		return "", &strict.Fault{File: l.File, What: strict.Unreadable(err)}
	}
	return string(redacted(b)), nil
}

// proposed is how a file is called that isn't there yet, in what is said of it.
const proposed = "the proposed file"

// mostQuoted bounds what is shown of a line.
const mostQuoted = 200

// ParseProposed reads a source file that isn't there yet.
func ParseProposed(raw []byte) (s SourceFile, err error) {
	s, err = ParseSource(proposed, raw, source.Window{})
	return s, quoted(err, raw)
}

// quoted is the fault of a file that nobody has: for the number of its line stands what the
// line says.
func quoted(err error, raw []byte) error {
	f, ok := errors.AsType[*strict.Fault](err)
	lines := bytes.Split(raw, []byte("\n"))
	if !ok || f.File != proposed || f.Line < 1 || f.Line > len(lines) {
		return err
	}
	said := bytes.TrimSpace(lines[f.Line-1])
	q := *f
	q.What, q.Line = fmt.Sprintf("%s; it stands where the file says %q", f.What, said[:min(len(said), mostQuoted)]), 0
	return &q
}

// Fits says whether a new source can be read beside those there are, and in which file it
// would stand.
func (c *Config) Fits(raw []byte) (file string, err error) {
	s, err := ParseProposed(raw)
	if err != nil {
		return "", err
	}
	if err := s.beside(c.Sources); err != nil {
		return "", quoted(err, raw)
	}
	file = filepath.Join(c.SourcesDir(), s.ID()+".yaml")
	for _, path := range []string{file, strings.TrimSuffix(file, ".yaml") + disabledSuffix} {
		if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
			return "", fmt.Errorf("%w: %s", ErrSourceThere, path)
		}
	}
	if err := os.MkdirAll(c.SourcesDir(), 0o750); err != nil {
		return "", &strict.Fault{File: c.SourcesDir(), What: "can't be made: " + err.Error()}
	}
	return file, nil
}

// likeFile gives a file the owner and the mode of another.
func likeFile(file, other string) error {
	info, err := os.Stat(other)
	if err != nil {
		return &strict.Fault{File: other, What: strict.Unreadable(err)}
	}
	if err := os.Chmod(file, info.Mode().Perm()); err != nil {
		return &strict.Fault{File: file, What: "its mode can't be set: " + err.Error()}
	}
	return own(file, info)
}

// SwitchSource has a source's file read or not read when the agent starts; its name says so.
func (c *Config) SwitchSource(l SourceListed, on bool) (file string, err error) {
	if l.Enabled == on {
		return l.File, nil
	}
	if l.Revision > 0 {
		return "", ErrOfRevision
	}
	file = l.File + ".disabled"
	if on {
		file = strings.TrimSuffix(l.File, ".disabled")
		if err := c.wouldBeRead(l.File); err != nil {
			return "", err
		}
	}
	if _, err := os.Lstat(file); !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("%w: %s", ErrSourceThere, file)
	}
	if err := os.Rename(l.File, file); err != nil {
		return "", &strict.Fault{File: l.File, What: "can't be renamed: " + err.Error()}
	}
	return file, syncDir(filepath.Dir(file))
}

// wouldBeRead says why a file could not be read beside the sources there are.
func (c *Config) wouldBeRead(file string) error {
	raw, err := strict.Read(file)
	if err != nil {
		return &strict.Fault{File: file, What: strict.Unreadable(err)}
	}
	s, err := ParseSource(file, raw, c.Window)
	if err != nil {
		return err
	}
	return s.beside(slices.Clone(c.Sources))
}

// RemoveSource deletes a source's file.
func (c *Config) RemoveSource(l SourceListed) error {
	if l.Revision > 0 {
		return ErrOfRevision
	}
	if err := os.Remove(l.File); err != nil {
		return &strict.Fault{File: l.File, What: "can't be removed: " + err.Error()}
	}
	return syncDir(filepath.Dir(l.File))
}

// syncDir makes what was renamed or removed in a folder durable.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("open %s: %w", dir, err)
	}
	return errors.Join(d.Sync(), d.Close())
}
