package audit

import (
	"errors"
	"io/fs"
	"slices"
	"sync"
)

// Rounds reads the files of a trail over and over, one at each Step: Append and Seal look
// at its end alone, and an older file may be changed or lost under a hub that runs for
// months. Safe for concurrent use.
type Rounds struct {
	trail *Trail

	mu    sync.Mutex // protects what follows
	seal  Seal       // of the newest entry that was read in this round
	last  string     // the file that it stands in; empty: the round begins
	ends  map[string]Seal
	aside []string // folders of what was set aside, when the round began
	found *BreakError
}

// NewRounds begins with the trail's first file.
func NewRounds(t *Trail) *Rounds { return &Rounds{trail: t, ends: map[string]Seal{}} }

// Found is where the trail was not what was recorded, when it was looked at last; nil: it
// is, as far as the rounds came.
func (r *Rounds) Found() *BreakError {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.found
}

// Step reads the next file, some 4 MiB. done says that it was the last one of a round. A
// break is looked at again while nobody else may append, before it is believed; the round
// begins anew then. An error is a file that can't be read now.
func (r *Rounds) Step() (done bool, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if done, err = r.read(); errors.Is(err, ErrBroken) {
		err = r.trail.Hold(func() error {
			done, err = r.read()
			return err
		})
	}
	if broken, is := errors.AsType[*BreakError](err); is {
		r.found, err, r.last = broken, nil, ""
		return true, nil
	}
	if err == nil && done {
		r.found = nil
	}
	return done, err
}

// read reads one file.
func (r *Rounds) read() (done bool, err error) {
	aside, err := asides(r.trail.dir)
	if err != nil {
		return false, err
	}
	if !slices.Equal(aside, r.aside) { // files of before may be others now, and somebody has said so
		r.aside, r.last, r.ends, r.found = aside, "", map[string]Seal{}, nil
	}
	files, err := names(r.trail.dir)
	if err != nil {
		return false, err
	}
	if r.last == "" {
		r.seal = Seal{Hash: zero()}
	}
	i := slices.IndexFunc(files, func(name string) bool { return name > r.last })
	if i < 0 {
		r.last = ""
		return true, r.gone(files)
	}
	name := files[i]
	if n := beginOf(name); n != r.seal.N+1 {
		return false, &BreakError{File: name, N: r.seal.N + 1, What: "is not there, nor the file that begins with it"}
	}
	was, now := r.ends[name], Report{Seal: r.seal}
	same, err := walkFile(r.trail.dir, name, &now, 0, func(e *Entry, _ []byte) bool { return e.N != was.N || e.Hash == was.Hash })
	last := i == len(files)-1
	switch {
	case errors.Is(err, fs.ErrNotExist): // it was moved aside meanwhile: the next look knows
		r.last = ""
		return false, nil
	case err != nil:
		return false, err
	case !same:
		return false, &BreakError{File: name, N: was.N, What: "is another one than was there: the trail was written anew"}
	case now.Seal.N < was.N:
		return false, &BreakError{File: name, N: was.N, What: "was there and is not: the file is cut off"}
	case now.Torn > 0 && !last:
		return false, &BreakError{File: name, N: now.Seal.N + 1, What: "is written half, and others follow"}
	}
	r.seal, r.last, r.ends[name] = now.Seal, name, now.Seal
	if last {
		r.last = ""
		return true, r.gone(files)
	}
	return false, nil
}

// gone sees that no file is missing that was there in a round before.
func (r *Rounds) gone(files []string) error {
	for name, was := range r.ends {
		if !slices.Contains(files, name) {
			return &BreakError{File: name, N: was.N, What: "is gone, with its file"}
		}
	}
	return nil
}
