package registry

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"plantmesh/proto/revision"
)

// keptRevisions is how many of an agent's revisions are kept, the newest.
const keptRevisions = 20

// Errors of revisions.
var (
	// ErrNoRevision is returned for a revision that an agent has not, or not any more.
	ErrNoRevision = fmt.Errorf("no such revision of this agent: the newest %d are kept", keptRevisions)
	// ErrMoved is returned where a revision was made meanwhile.
	ErrMoved = errors.New("somebody has configured this agent meanwhile: look at its configuration, and do it again")
)

// Wanted is a revision to be made.
type Wanted struct {
	Site, Agent string
	Files       revision.Files
	Note        string
	// After is the newest revision as who wants it saw it; nil: whichever it is.
	After *uint64
	// Above is a number that its own must be above: the agent knows that one, of before this
	// hub was put back, say.
	Above uint64
}

// Configure makes the next revision of an agent's configuration. Nothing of its files is
// checked but their form: what they say only the gateway can judge, and does before it
// applies them.
func (r *Registry) Configure(w Wanted, by Actor, now time.Time) (made revision.Revision, err error) {
	if err := checkNames(w.Site, w.Agent); err != nil {
		return made, err
	}
	a, ok, err := r.agent(w.Site, w.Agent)
	switch {
	case err != nil:
		return made, err
	case !ok:
		return made, fmt.Errorf("%s at %s: %w", w.Agent, w.Site, ErrUnknown)
	case a.Revoked != nil:
		return made, fmt.Errorf("%s at %s: %w", w.Agent, w.Site, ErrRevoked)
	}
	if err := w.Files.Check(); err != nil {
		return made, err
	}
	newest, err := r.Newest(w.Site, w.Agent)
	if err != nil {
		return made, err
	}
	if w.After != nil && *w.After != newest.Number {
		return made, ErrMoved
	}
	made = revision.Revision{
		Ref: revision.Ref{Number: max(newest.Number, w.Above) + 1, Sum: w.Files.Sum()},
		At:  now.UTC().Truncate(time.Second), By: cmp.Or(revision.Plain(by.Who), by.Via), Note: revision.Plain(w.Note), Files: w.Files,
	}
	act := Act{Actor: by, Action: "agent.configure", Object: w.Site + "/" + w.Agent, Before: said(newest.Ref), After: said(made.Ref), Reason: made.Note}
	err = r.change(act, func() error { return r.putRevision(w.Site, w.Agent, made) })
	return made, err
}

// said is a revision as it is recorded.
func said(ref revision.Ref) string {
	if ref.IsZero() {
		return ""
	}
	return ref.String() + " sha256:" + ref.Sum
}

// putRevision writes a revision, durable when it returns, and forgets the oldest.
func (r *Registry) putRevision(site, agent string, v revision.Revision) error {
	dir := r.revisions(site, agent)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make the folder of an agent's revisions: %w", err)
	}
	made, err := createJSON(filepath.Join(dir, strconv.FormatUint(v.Number, 10)+".json"), v)
	if err == nil && !made {
		err = ErrMoved
	}
	if err == nil {
		err = errors.Join(syncFolder(dir), syncFolder(filepath.Dir(dir)))
	}
	if err != nil {
		return err
	}
	all, err := r.numbers(site, agent)
	if err != nil {
		return err
	}
	for _, n := range all[min(keptRevisions, len(all)):] {
		_ = os.Remove(filepath.Join(dir, strconv.FormatUint(n, 10)+".json")) // one that stays is one more that is kept
	}
	return nil
}

// syncFolder makes the names in a folder durable.
func syncFolder(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("sync %s: %w", path, err)
	}
	if err := errors.Join(d.Sync(), d.Close()); err != nil {
		return fmt.Errorf("sync %s: %w", path, err)
	}
	return nil
}

func (r *Registry) revisions(site, agent string) string {
	return filepath.Join(r.dir, revisionsFolder, site+"."+agent)
}

// numbers are those of an agent's revisions, the newest first.
func (r *Registry) numbers(site, agent string) (out []uint64, err error) {
	files, err := os.ReadDir(r.revisions(site, agent))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("list the revisions of %s at %s: %w", agent, site, err)
	}
	for _, f := range files {
		if text, ok := strings.CutSuffix(f.Name(), ".json"); ok {
			if n, err := strconv.ParseUint(text, 10, 64); err == nil && n > 0 {
				out = append(out, n)
			}
		}
	}
	slices.SortFunc(out, func(a, b uint64) int { return cmp.Compare(b, a) })
	return out, nil
}

// Newest is the configuration that an agent should have; the zero Revision: none.
func (r *Registry) Newest(site, agent string) (v revision.Revision, err error) {
	if err := checkNames(site, agent); err != nil {
		return v, err
	}
	all, err := r.numbers(site, agent)
	if err != nil || len(all) == 0 {
		return v, err
	}
	return r.Revision(site, agent, all[0])
}

// Revision is one of an agent's.
func (r *Registry) Revision(site, agent string, number uint64) (v revision.Revision, err error) {
	if err := checkNames(site, agent); err != nil {
		return v, err
	}
	ok, err := readJSON(filepath.Join(r.revisions(site, agent), strconv.FormatUint(number, 10)+".json"), &v)
	if errors.Is(err, ErrGone) { // it has a folder from its first one on
		ok, err = false, there(filepath.Join(r.dir, revisionsFolder))
	}
	switch {
	case err != nil:
		return v, err
	case !ok:
		return v, fmt.Errorf("revision %d of %s at %s: %w", number, agent, site, ErrNoRevision)
	case v.Number != number:
		return v, fmt.Errorf("revision %d of %s at %s holds another one: %w", number, agent, site, revision.ErrRevision)
	}
	if err := v.Check(); err != nil {
		return v, fmt.Errorf("revision %d of %s at %s: %w", number, agent, site, err)
	}
	return v, nil
}

// Revisions are those that are kept of an agent, the newest first, without their files.
func (r *Registry) Revisions(site, agent string) (out []revision.Revision, err error) {
	if err := checkNames(site, agent); err != nil {
		return nil, err
	}
	all, err := r.numbers(site, agent)
	if err != nil {
		return nil, err
	}
	for _, n := range all {
		v, err := r.Revision(site, agent, n)
		if errors.Is(err, ErrNoRevision) { // it was the oldest, and another one came
			continue
		}
		if err != nil {
			return nil, err
		}
		v.Files = nil
		out = append(out, v)
	}
	return out, nil
}

// Configured is an agent that has revisions.
type Configured struct {
	Site, Name string
	At         time.Time // the last change of them
}

// Configured lists the agents that have revisions: as cheap as can be, for who looks every
// other second.
func (r *Registry) Configured() (out []Configured, err error) {
	all, err := os.ReadDir(filepath.Join(r.dir, revisionsFolder))
	if err != nil {
		return nil, fmt.Errorf("list the agents that are configured: %w", err)
	}
	for _, d := range all {
		site, agent, ok := strings.Cut(d.Name(), ".")
		if info, err := d.Info(); ok && err == nil && d.IsDir() {
			out = append(out, Configured{site, agent, info.ModTime()})
		}
	}
	return out, nil
}

// takeRevisions takes over revisions that are newer than those that are here.
func (r *Registry) takeRevisions(older *Registry) (n int, err error) {
	all, err := older.Configured()
	if err != nil {
		return 0, err
	}
	for _, a := range all {
		theirs, err := older.Newest(a.Site, a.Name)
		if err != nil {
			return n, err
		}
		ours, err := r.Newest(a.Site, a.Name)
		if err != nil {
			return n, err
		}
		if theirs.Number <= ours.Number {
			continue
		}
		if err := r.putRevision(a.Site, a.Name, theirs); err != nil {
			return n, err
		}
		n++
	}
	return n, nil
}
