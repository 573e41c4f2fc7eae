package agent

import (
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"time"

	revisions "plantmesh/edge/revision"
	"plantmesh/proto/revision"
	"plantmesh/proto/strict"
)

// Boot is LoadConfig for who runs the agent. A beginning counts against a revision that is
// on trial; where a revision can't be read any more, the last good one is in force, and it
// is said. What is wrong with the gateway's own files is an error, as ever.
func Boot(path string, log *slog.Logger) (Config, error) {
	c, err := OpenConfig(path, Names, Data)
	if err != nil {
		return c, err
	}
	store, now := c.revisions(), time.Now()
	if c.unread != nil {
		log.Error("what is known of the hub's configurations can't be read: this gateway begins with its own files alone", "err", c.unread)
		if err := store.SetAside(); err != nil {
			log.Error("it can't be set aside", "err", err)
		}
		c.state, c.unread = revisions.State{}, nil
	}
	was := c.state
	c.state = was.Boot(now).Lost(store.Whole, now)
	own := c
	own.load(revision.Ref{})
	for c.load(c.state.Current); own.Need(Sources, Rules) == nil; c.load(c.state.Current) {
		err := c.Need(Sources, Rules)
		if err == nil || c.state.Current.IsZero() {
			break
		}
		c.state = c.state.Revert("it could not be read when the agent began: "+c.inRevision(c.state.Current, err), now)
	}
	for _, e := range c.state.History[since(was, c.state):] {
		log.Warn("the configuration of the hub is not the one of before", "revision", e.Number, "now", c.state.Current.String(), "what", e.What, "why", e.Why)
	}
	if c.state.Trial != nil || len(c.state.History) != len(was.History) || c.state.Current != was.Current {
		if err := store.Save(c.state); err != nil {
			log.Error("what became of the hub's configuration can't be kept", "err", err)
		}
	}
	if err := store.Tidy(c.state); err != nil {
		log.Warn("revisions that nobody needs are still on the disk", "err", err)
	}
	return c, c.Need(parts()...)
}

// since is how much of a history was known before.
func since(was, is revisions.State) int {
	last := len(was.History)
	if last == 0 {
		return 0
	}
	for i, e := range slices.Backward(is.History) {
		if e == was.History[last-1] {
			return i + 1
		}
	}
	return 0
}

// inRevision is what is wrong with a revision, told so that who wrote it finds the line.
func (c *Config) inRevision(ref revision.Ref, err error) string {
	text := strings.ReplaceAll(err.Error(), c.revisions().Folder(ref)+string(filepath.Separator), "")
	return strings.ReplaceAll(text, filepath.Dir(c.path)+string(filepath.Separator), "")
}

// ofRevision says whether a fault lies in a file of a revision.
func (c *Config) ofRevision(ref revision.Ref, err error) bool {
	f, ok := errors.AsType[*strict.Fault](err)
	return ok && inside(f.File, []string{c.revisions().Folder(ref)})
}

// candidate is the configuration as it would be with a revision. own: the fault lies in the
// gateway's own files, and is none of the revision's.
func (c *Config) candidate(ref revision.Ref) (next Config, own bool, err error) {
	next = *c
	next.faults = nil
	next.load(ref)
	if err = next.Need(Sources, Rules); err == nil {
		return next, false, nil
	}
	if next.ofRevision(ref, err) {
		return next, false, err
	}
	bare := next
	bare.load(revision.Ref{})
	if fault := bare.Need(Sources, Rules); fault != nil {
		return next, true, fmt.Errorf("a file of this gateway's own is wrong: %w", fault)
	}
	return next, false, err // as rules that can't stand together
}
