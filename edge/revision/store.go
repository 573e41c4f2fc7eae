package revision

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"plantmesh/proto/fault"
	"plantmesh/proto/revision"
)

// Names in a store's folder.
const (
	stateFile = "state.json"
	holdFile  = "hold.json"
	metaFile  = "revision.json"
	damaged   = ".damaged"
	temporary = ".tmp-"
	maxState  = 1 << 20
)

// Store is the revisions on a gateway's disk: a folder for each, N/sources.d and N/rules.d,
// what is known of them in state.json, and a hold in hold.json. What it wrote is durable
// when it returns, and whole or not there. One process writes; others may read.
type Store struct{ dir string }

// NewStore is the store in a folder, which need not be there.
func NewStore(dir string) Store { return Store{dir} }

// Folder is where a revision's files lie.
func (s Store) Folder(ref revision.Ref) string {
	return filepath.Join(s.dir, strconv.FormatUint(ref.Number, 10))
}

// Load reads the state. One that can't be read is an error, and the zero State: the
// gateway's own files alone.
func (s Store) Load() (st State, err error) {
	err = read(filepath.Join(s.dir, stateFile), &st)
	if err != nil {
		return State{}, err
	}
	return st, nil
}

// read reads a file of JSON; one that is not there leaves v.
func read(path string, v any) error {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read %s: %w", filepath.Base(path), err)
	}
	b, err := io.ReadAll(io.LimitReader(f, maxState))
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("read %s: %w", filepath.Base(path), err)
	}
	if err := json.Unmarshal(b, v); err != nil {
		return fmt.Errorf("%s is damaged: %w", path, err)
	}
	return nil
}

// SetAside moves a state that can't be read out of the way, for who wants to see why.
func (s Store) SetAside() error {
	err := os.Rename(filepath.Join(s.dir, stateFile), filepath.Join(s.dir, stateFile+damaged))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("set the state of revisions aside: %w", err)
	}
	return nil
}

// Save writes the state.
func (s Store) Save(st State) error {
	if err := s.write(stateFile, st); err != nil {
		return err
	}
	fault.Point("revision.state.after")
	return nil
}

// write replaces a file of JSON.
func (s Store) write(name string, v any) error {
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return fmt.Errorf("make the folder of revisions: %w", err)
	}
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	tmp := filepath.Join(s.dir, temporary+name)
	if err := put(tmp, append(b, '\n')); err != nil {
		return err
	}
	fault.Point("revision.write.before")
	if err := os.Rename(tmp, filepath.Join(s.dir, name)); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	return syncFolder(s.dir)
}

// put writes a file, synced.
func put(path string, b []byte) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("write %s: %w", filepath.Base(path), err)
	}
	_, err = f.Write(b)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("write %s: %w", filepath.Base(path), err)
	}
	return nil
}

func syncFolder(path string) error {
	d, err := os.Open(path)
	if err == nil {
		err = errors.Join(d.Sync(), d.Close())
	}
	if err != nil {
		return fmt.Errorf("sync %s: %w", path, err)
	}
	return nil
}

// Hold is the hold there is; nil: none. One that can't be read counts, as nobody knows that
// it was released.
func (s Store) Hold() *revision.Hold {
	var h *revision.Hold
	err := read(filepath.Join(s.dir, holdFile), &h)
	if err == nil && h != nil && h.Reason == "" {
		err = errors.New("it says no reason")
	}
	if err != nil {
		return &revision.Hold{Reason: "the hold on this disk can't be read (" + err.Error() + "): release it"}
	}
	return h
}

// SetHold keeps a hold; nil: there is none any more.
func (s Store) SetHold(h *revision.Hold) error {
	if h != nil {
		return s.write(holdFile, h)
	}
	err := os.Remove(filepath.Join(s.dir, holdFile))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("release: %w", err)
	}
	return syncFolder(s.dir)
}

// Stage puts a revision's files onto the disk: all of them, or none.
func (s Store) Stage(r *revision.Revision) error {
	if err := r.Check(); err != nil {
		return err
	}
	if s.Whole(r.Ref) {
		return nil
	}
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return fmt.Errorf("make the folder of revisions: %w", err)
	}
	tmp := filepath.Join(s.dir, temporary+strconv.FormatUint(r.Number, 10))
	if err := os.RemoveAll(tmp); err != nil {
		return fmt.Errorf("make room for a revision: %w", err)
	}
	for _, sub := range []string{"", revision.SourcesFolder, revision.RulesFolder} {
		if err := os.Mkdir(filepath.Join(tmp, sub), 0o700); err != nil {
			return fmt.Errorf("make a revision's folder: %w", err)
		}
	}
	for _, name := range r.Files.Names() {
		if err := put(filepath.Join(tmp, filepath.FromSlash(name)), []byte(r.Files[name])); err != nil {
			return err
		}
		fault.Point("revision.stage.partial")
	}
	meta := *r
	meta.Files = nil
	b, err := json.MarshalIndent(meta, "", "  ")
	if err == nil {
		err = put(filepath.Join(tmp, metaFile), b)
	}
	for _, sub := range []string{revision.SourcesFolder, revision.RulesFolder, ""} {
		err = errors.Join(err, syncFolder(filepath.Join(tmp, sub)))
	}
	if err != nil {
		return errors.Join(err, os.RemoveAll(tmp))
	}
	if err := os.RemoveAll(s.Folder(r.Ref)); err != nil { // one that is not whole
		return fmt.Errorf("make room for a revision: %w", err)
	}
	fault.Point("revision.stage.before")
	if err := os.Rename(tmp, s.Folder(r.Ref)); err != nil {
		return fmt.Errorf("keep a revision: %w", err)
	}
	return syncFolder(s.dir)
}

// Meta is a revision as it was told, without its files.
func (s Store) Meta(ref revision.Ref) (r revision.Revision, err error) {
	if err = read(filepath.Join(s.Folder(ref), metaFile), &r); err == nil && r.Ref != ref {
		err = fmt.Errorf("%s is not on this disk", ref)
	}
	return r, err
}

// Files reads a revision's files.
func (s Store) Files(ref revision.Ref) (revision.Files, error) {
	out, total := revision.Files{}, 0
	for _, sub := range []string{revision.SourcesFolder, revision.RulesFolder} {
		entries, err := os.ReadDir(filepath.Join(s.Folder(ref), sub))
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", ref, err)
		}
		for _, e := range entries {
			if len(out) == revision.MaxFiles || !e.Type().IsRegular() {
				return nil, fmt.Errorf("read %s: %w", ref, revision.ErrRevision)
			}
			b, err := begins(filepath.Join(s.Folder(ref), sub, e.Name()))
			if err != nil {
				return nil, fmt.Errorf("read %s: %w", ref, err)
			}
			if total += len(b); total > revision.MaxBytes {
				return nil, fmt.Errorf("read %s: %w", ref, revision.ErrRevision)
			}
			out[sub+"/"+e.Name()] = string(b)
		}
	}
	return out, nil
}

// begins reads no more of a file than a revision may have, and one byte.
func begins(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(io.LimitReader(f, revision.MaxBytes+1))
	return b, errors.Join(err, f.Close())
}

// Whole says whether a revision's files are on the disk as they came.
func (s Store) Whole(ref revision.Ref) bool {
	if ref.IsZero() {
		return true
	}
	files, err := s.Files(ref)
	return err == nil && files.Sum() == ref.Sum
}

// Tidy removes what no state speaks of: revisions that gave way, and what a power cut left.
func (s Store) Tidy(st State) error {
	entries, err := os.ReadDir(s.dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("tidy the revisions: %w", err)
	}
	keep := append([]revision.Ref{st.Current, st.Desired}, st.Good...)
	var faults error
	for _, e := range entries {
		n, no := strconv.ParseUint(e.Name(), 10, 64)
		kept := slices.ContainsFunc(keep, func(r revision.Ref) bool { return r.Number == n })
		if no == nil && !kept || strings.HasPrefix(e.Name(), temporary) {
			faults = errors.Join(faults, os.RemoveAll(filepath.Join(s.dir, e.Name())))
		}
	}
	return faults
}

// Hold makes a hold.
func Hold(reason string, until, now time.Time) (*revision.Hold, error) {
	reason = revision.Plain(reason)
	switch {
	case reason == "":
		return nil, fmt.Errorf("%w: say why: others see it, and wait", ErrHeld)
	case !until.IsZero() && !until.After(now):
		return nil, fmt.Errorf("%w: %s is over already", ErrHeld, until.Format(time.RFC3339))
	}
	return &revision.Hold{Reason: reason, Since: now.UTC().Truncate(time.Second), Until: until.UTC()}, nil
}
