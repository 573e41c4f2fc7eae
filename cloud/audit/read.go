package audit

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Filter is what of a trail is asked for. What is empty is not asked for.
type Filter struct {
	From, To time.Time // To is excluded
	Who      string
	Action   string // one, or with a dot at its end all that begin so
	Object   string // one, or with a slash at its end all that begin so
}

// takes says whether an entry is asked for.
func (f *Filter) takes(e *Entry) bool {
	like := func(asked, is, end string) bool {
		return asked == "" || asked == is || strings.HasSuffix(asked, end) && strings.HasPrefix(is, asked)
	}
	return (f.From.IsZero() || !e.At.Before(f.From)) && (f.To.IsZero() || e.At.Before(f.To)) &&
		(f.Who == "" || f.Who == e.Who) && like(f.Action, e.Action, ".") && like(f.Object, e.Object, "/")
}

// mostLooked bounds how many entries one Page looks at.
const mostLooked = 20_000

// Page gives at most so many entries behind the n-th, oldest first, and behind which to
// ask next; more is false at the end. It may give less than there are, or none.
func Page(ctx context.Context, dir string, f Filter, behind uint64, most int) (out []Entry, next uint64, more bool, err error) {
	looked := 0
	next, more = behind, false
	out = []Entry{}
	_, err = walk(ctx, dir, behind, func(e *Entry, _ []byte) bool {
		if e.N <= behind {
			return true
		}
		if looked++; len(out) == most || looked > mostLooked {
			more = true
			return false
		}
		if next = e.N; f.takes(e) {
			out = append(out, *e)
		}
		return true
	})
	return out, next, more, err
}

// Newest gives at most so many of the newest entries, newest first. It reads back from the
// newest file, no further than it has to. Where the trail is broken it gives those that stand
// in the files behind, and a BreakError.
func Newest(ctx context.Context, dir string, f Filter, most int) ([]Entry, error) {
	files, err := names(dir)
	if err != nil {
		return nil, err
	}
	out := []Entry{}
	var newer Entry // the first entry of the file behind; zero: there is none
	for i := len(files) - 1; i >= 0 && len(out) < most; i-- {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		first, of, err := newestOf(dir, files[i], &f, most, newer)
		if err != nil {
			return out, err
		}
		newer, out = first, append(out, of[:min(len(of), most-len(out))]...)
	}
	if newer.N > 1 && len(out) < most {
		return out, &BreakError{File: files[0], N: 1, What: "is not there, nor the file that begins with it"}
	}
	return out, nil
}

// newestOf is the first entry of a file, and those that are asked for, newest first. newer is
// what the file behind begins with.
func newestOf(dir, name string, f *Filter, most int, newer Entry) (first Entry, out []Entry, err error) {
	r := Report{Seal: Seal{Hash: zero()}}
	_, err = walkFile(dir, name, &r, beginOf(name)-1, func(e *Entry, _ []byte) bool {
		if first.N == 0 {
			first = *e
		}
		if f.takes(e) {
			if out = append(out, *e); len(out) >= 2*most {
				out = append([]Entry{}, out[len(out)-most:]...)
			}
		}
		return true
	})
	switch {
	case err != nil || newer.N == 0:
	case r.Torn > 0 || r.Seal.N+1 != newer.N:
		err = &BreakError{File: name, N: r.Seal.N + 1, What: "is written half, or is not there, and others follow"}
	case r.Seal.Hash != newer.Prev:
		err = &BreakError{File: nameOf(newer.N), Line: 1, N: newer.N, What: fmt.Sprintf("does not follow entry %d: the hash before it is another", r.Seal.N)}
	}
	slices.Reverse(out)
	return first, out, err
}

// Export writes the entries, a line each, as they were recorded. It says how many.
func Export(ctx context.Context, dir string, w io.Writer) (n uint64, err error) {
	var failed error
	_, err = walk(ctx, dir, 0, func(_ *Entry, line []byte) bool {
		if _, failed = w.Write(line); failed == nil {
			n++
		}
		return failed == nil
	})
	return n, errors.Join(err, failed)
}

// Report is what Verify found: all entries through Seal follow each other.
type Report struct {
	Seal  Seal
	Files int
	Bytes int64
	Torn  int // bytes of a half written last line; the next change cuts them off and says so
}

// Verify reads a whole trail. since is a seal that somebody kept, whose entry must be in
// it; nil: nobody did. Where it is broken the report is of what stands before.
func Verify(ctx context.Context, dir string, since *Seal) (r Report, err error) {
	found := since == nil || since.N == 0
	r, err = walk(ctx, dir, 0, func(e *Entry, _ []byte) bool {
		if since != nil && e.N == since.N {
			found = e.Hash == since.Hash
		}
		return found || e.N < since.N
	})
	switch {
	case err != nil || found:
		return r, err
	case r.Seal.N < since.N:
		return r, &BreakError{N: since.N, What: fmt.Sprintf("was there and is not: the trail ends with %d", r.Seal.N)}
	}
	r.Seal.N, r.Seal.Hash = 0, zero() // all of it may be another one
	return r, &BreakError{N: since.N, What: "is another one than was there: the trail was written anew"}
}

// walk gives the entries of a trail from the file in which the one behind the n-th
// stands, in order, as long as do says true.
func walk(ctx context.Context, dir string, behind uint64, do func(e *Entry, line []byte) bool) (r Report, err error) {
	files, err := names(dir)
	if err != nil {
		return r, err
	}
	for len(files) > 1 && beginOf(files[1]) <= behind+1 {
		files = files[1:]
	}
	r.Seal.Hash = zero()
	for i, name := range files {
		if err := ctx.Err(); err != nil {
			return r, err
		}
		last := i == len(files)-1
		goOn, err := walkFile(dir, name, &r, behind, do)
		switch {
		case err != nil || !goOn:
			return r, err
		case r.Torn > 0 && !last:
			return r, &BreakError{File: name, N: r.Seal.N + 1, What: "is written half, and others follow"}
		}
	}
	return r, nil
}

func walkFile(dir, name string, r *Report, behind uint64, do func(e *Entry, line []byte) bool) (goOn bool, err error) {
	f, err := os.Open(filepath.Join(dir, name))
	if err != nil {
		return false, fmt.Errorf("read the audit trail: %w", err)
	}
	defer f.Close() //nolint:errcheck // it was only read
	s := scan{file: name, seal: r.Seal, in: bufio.NewReaderSize(f, MaxLine)}
	if begin := beginOf(name); r.Files == 0 && behind > 0 && begin > 1 { // what stands before is not looked at
		prev, err := prevOf(f)
		if err != nil {
			return false, err
		}
		s.seal = Seal{begin - 1, prev}
	} else if begin != r.Seal.N+1 {
		return false, &BreakError{File: name, N: r.Seal.N + 1, What: "is not there, nor the file that begins with it"}
	}
	r.Files++
	defer func() { r.Seal, r.Bytes, r.Torn = s.seal, r.Bytes+s.size, len(s.torn) }()
	for {
		e, more, err := s.next()
		if err != nil || !more {
			return err == nil, err
		}
		if !do(&e, s.raw) {
			return false, nil
		}
	}
}

// prevOf is the hash that the first entry of a file names.
func prevOf(f *os.File) (string, error) {
	line, _ := bufio.NewReaderSize(f, MaxLine).ReadSlice('\n') // what is wrong with it, the scan says
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return "", fmt.Errorf("read the audit trail: %w", err)
	}
	e, _ := unseal(line[:max(0, len(line)-1)]) // likewise
	return e.Prev, nil
}
