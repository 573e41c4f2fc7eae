package audit

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

const (
	// asideMark begins the folders of what was set aside, in the trail's; behind it stands when.
	asideMark = "aside-"
	asideTime = "20060102T150405.000000Z"
	// asideAction is the entry that goes on behind a break.
	asideAction = "audit.aside"
	// unfinished is a file that has no name yet; no backup has it.
	unfinished = ".tmp-aside"
)

// ErrWhole is returned where nothing is to be set aside.
var ErrWhole = errors.New("the audit trail is whole, and nothing is set aside: that its end is gone, or was torn and cut off, shows only a seal that somebody kept; take it from the hub's log or its /readyz?verbose, and say it as --since N:HASH")

// Aside is what became of a trail that was broken.
type Aside struct {
	Folder string      // in the trail's: there lie the files from the broken one on, as they were
	Files  int         // so many
	Break  *BreakError // the first one
	Good   Seal        // the newest entry before it: all through that stay in the trail
	Seal   Seal        // of the entry that says all this, and goes on behind it
}

// SetAside has a broken trail go on: entries before the break stay where they are, the files
// from the broken one on are kept in a folder beside, and an entry says which, where the
// break was, and the hash of the last good entry. by says who and why. since is a seal that
// somebody kept, whose entry must be in it; nil: nobody did. A trail that is whole is
// ErrWhole.
//
// Where it is killed the trail is broken as before, or at the files that were not moved yet:
// to do it again goes on.
func (t *Trail) SetAside(ctx context.Context, by Change, since *Seal) (a Aside, err error) {
	by.Action, by.Object = asideAction, "audit"
	if by, err = by.bounded(); err != nil {
		return a, err
	}
	err = t.Hold(func() error {
		files, err := names(t.dir)
		if err != nil {
			return err
		}
		good, bad, err := goodUntil(ctx, t.dir, files)
		if err == nil && since != nil { // all that is there is good, but not all is there
			bad = max(0, bad-1)
			_, err = Verify(ctx, t.dir, since)
		}
		broken, is := errors.AsType[*BreakError](err)
		switch {
		case is:
		case err != nil:
			return err
		default:
			return fmt.Errorf("%w (to %s)", ErrWhole, good.seal)
		}
		a = Aside{Break: broken, Good: good.seal, Files: len(files[bad:])}
		if a.Folder, err = t.free(); err != nil {
			return err
		}
		by.Before = cut(strings.TrimPrefix(broken.Error(), ErrBroken.Error()+": ")+"; good to "+a.Good.String(), maxState)
		by.After = a.Folder
		if err := t.move(&good, files[bad:], a.Folder, by); err != nil {
			return fmt.Errorf("set the audit trail aside: %w", err)
		}
		t.mu.Lock()
		t.tail, t.asides = nil, append(t.asides, a.Folder)
		t.mu.Unlock()
		now, err := t.look()
		a.Seal = now.seal
		return err
	})
	return a, err
}

// free is a name for what is set aside now: a clock may stand, or have been put back.
func (t *Trail) free() (string, error) {
	taken, err := asides(t.dir)
	if err != nil {
		return "", err
	}
	at := asideMark + t.now().UTC().Format(asideTime)
	name := at
	for n := 2; slices.Contains(taken, name); n++ {
		name = fmt.Sprintf("%s-%d", at, n)
	}
	return name, nil
}

// goodUntil is where a trail is whole to, and the first file that is not; the break is its
// error.
func goodUntil(ctx context.Context, dir string, files []string) (good tail, bad int, err error) {
	good.seal.Hash = zero()
	for i, name := range files {
		if err := ctx.Err(); err != nil {
			return good, i, err
		}
		if len(good.torn) > 0 {
			return good, i - 1, &BreakError{File: good.file, N: good.seal.N + 1, What: "is written half, and others follow"}
		}
		if beginOf(name) != good.seal.N+1 {
			if bad = i; i > 0 && good.size == 0 { // the file before says nothing
				bad--
			}
			return good, bad, &BreakError{File: name, N: good.seal.N + 1, What: "is not there, nor the file that begins with it"}
		}
		now, err := readOn(dir, tail{file: name, seal: good.seal})
		if now != nil && (err == nil || now.size > 0) {
			good = *now
		}
		if err != nil {
			return good, i, err
		}
	}
	return good, len(files), nil
}

// move puts broken files into a folder, and an entry behind what is good.
func (t *Trail) move(good *tail, bad []string, folder string, by Change) error {
	changes := []Change{by}
	if good.seal.N == 0 {
		changes = []Change{begin(), by}
	}
	var lines []byte
	last := good.seal
	for _, c := range changes {
		line, s, err := seal(c, t.now(), last)
		if err != nil {
			return err
		}
		lines, last = append(lines, line...), s
	}
	at := filepath.Join(t.dir, folder)
	if err := os.Mkdir(at, 0o700); err != nil {
		return err
	}
	name := nameOf(good.seal.N + 1)
	var keep int64
	if len(bad) > 0 && good.file == bad[0] {
		name, keep = good.file, good.size
	}
	if slices.Contains(bad, name) {
		if err := copyFile(filepath.Join(at, name), filepath.Join(t.dir, name), -1, nil); err != nil {
			return err
		}
	}
	if err := errors.Join(syncFolder(at), syncFolder(t.dir)); err != nil {
		return err
	}
	next := filepath.Join(t.dir, unfinished)
	if err := os.RemoveAll(next); err != nil { // of one that was killed
		return err
	}
	if err := copyFile(next, filepath.Join(t.dir, name), keep, lines); err != nil {
		return err
	}
	if err := os.Rename(next, filepath.Join(t.dir, name)); err != nil {
		return err
	}
	if err := syncFolder(t.dir); err != nil {
		return err
	}
	for _, other := range bad {
		if other == name {
			continue
		}
		if err := os.Rename(filepath.Join(t.dir, other), filepath.Join(at, other)); err != nil {
			return err
		}
	}
	return errors.Join(syncFolder(at), syncFolder(t.dir))
}

// copyFile makes a file of the first bytes of another one, all where there are less than 0,
// and of more.
func copyFile(to, from string, first int64, more []byte) (err error) {
	w, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.Close()) }()
	if err := copyFirst(w, from, first); err != nil {
		return err
	}
	if _, err := w.Write(more); err != nil {
		return err
	}
	return w.Sync()
}

func copyFirst(w io.Writer, from string, first int64) (err error) {
	if first == 0 { // it may not be there
		return nil
	}
	r, err := os.Open(from)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	if first < 0 {
		_, err = io.Copy(w, r)
		return err
	}
	_, err = io.CopyN(w, r, first)
	return err
}

// resumed is the end of a trail that another process has set aside since this one saw where
// it ended: whole, with an entry that names a folder which was not there. Else the break
// stays, which is why.
func (t *Trail) resumed(files []string, why error) (*tail, error) {
	if !errors.Is(why, ErrBroken) {
		return nil, why
	}
	now, err := end(t.dir, files, nil)
	if err != nil {
		return nil, why
	}
	for _, name := range files {
		b, err := os.ReadFile(filepath.Join(t.dir, name))
		if err != nil {
			return nil, fmt.Errorf("read the audit trail: %w", err)
		}
		for line := range bytes.Lines(b) {
			var e Entry
			if !bytes.Contains(line, []byte(asideAction)) || json.Unmarshal(line, &e) != nil || e.Action != asideAction || slices.Contains(t.asides, e.After) {
				continue
			}
			t.asides, err = asides(t.dir)
			return now, err
		}
	}
	return nil, why
}

// asides are the folders of what was set aside.
func asides(dir string) (out []string, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("list the audit trail: %w", err)
	}
	for _, e := range entries {
		if e.IsDir() && strings.HasPrefix(e.Name(), asideMark) {
			out = append(out, e.Name())
		}
	}
	return out, nil
}
