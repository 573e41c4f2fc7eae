package buffer

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"plantmesh/proto/mesh"
	"plantmesh/proto/wire"
)

// The quarantine folder holds the raw bytes of records that were taken out of the log's
// way, and beside each why. It is a copy for people: what counts is the void in the log.

// Errors of what was set aside.
var (
	// ErrNotAside is returned where no such record was set aside, or several were.
	ErrNotAside = errors.New("no such record is set aside")
	// ErrNoMore is returned for a record that can't be put into the log again.
	ErrNoMore = errors.New("it can't be put back into the log")
)

const (
	maxQuarantined = 1000
	maxRawBytes    = 1 << 20 // of one file
	rawSuffix      = ".frame"
	whySuffix      = ".why"
	backSuffix     = ".released" // where it stands again
)

// Aside is a record that was set aside.
type Aside struct {
	ID     string // what it is called by, for people: the begin of its epoch, and its number
	At     mesh.Position
	When   time.Time
	Cause  mesh.Cause // empty: it was set aside by an agent that did not keep why
	Why    string
	Bytes  int
	Header mesh.Header // of a record that can be read
	Record mesh.Record // likewise
	Broken string      // why it can't be read; empty: it can
}

// reason is what stands beside the raw bytes.
type reason struct {
	Cause mesh.Cause `json:"cause"`
	Why   string     `json:"why"`
}

// keepRaw keeps the bytes of a record that is set aside, and why it is.
func (b *Buffer) keepRaw(at mesh.Position, raw []byte, why reason) error {
	if len(raw) == 0 || len(raw) > maxRawBytes {
		return nil
	}
	dir := b.quarantineDir()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	names, err := b.rawNames()
	if err != nil || len(names) >= maxQuarantined {
		return err
	}
	base := filepath.Join(dir, fmt.Sprintf("%s-%d", hex.EncodeToString(at.Epoch[:]), at.Seq))
	if err := os.WriteFile(base+rawSuffix, raw, 0o600); err != nil {
		return err
	}
	said, err := json.Marshal(why)
	if err != nil {
		return err
	}
	return os.WriteFile(base+whySuffix, said, 0o600)
}

// rawNames are the names of what was set aside, without their suffix.
func (b *Buffer) rawNames() (out []string, err error) {
	entries, err := os.ReadDir(b.quarantineDir())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	for _, e := range entries {
		if name, ok := strings.CutSuffix(e.Name(), rawSuffix); ok {
			out = append(out, name)
		}
	}
	return out, err
}

// CountQuarantined is how many records are set aside, without a look into them.
func (b *Buffer) CountQuarantined() (int, error) {
	names, err := b.rawNames()
	return len(names), err
}

// Quarantined are the records that were set aside, by their names.
func (b *Buffer) Quarantined() (out []Aside, err error) {
	names, err := b.rawNames()
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		a, err := b.aside(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue // it was dropped meanwhile
		}
		if err != nil {
			return nil, err
		}
		out = append(out, a)
	}
	return out, nil
}

// aside reads one of them.
func (b *Buffer) aside(name string) (a Aside, err error) {
	short, whole, seq := nameOf(name)
	if a.ID = name; short != "" {
		a.ID = short + "-" + strconv.FormatUint(seq, 10)
	}
	a.At = mesh.Position{Log: b.cfg.Log, Epoch: whole, Seq: seq}
	path := filepath.Join(b.quarantineDir(), name)
	info, err := os.Stat(path + rawSuffix)
	if err != nil {
		return a, err
	}
	if a.Bytes, a.When = int(info.Size()), info.ModTime(); info.Size() > maxRawBytes {
		a.Broken = "it is larger than any record"
		return a, nil
	}
	raw, err := os.ReadFile(path + rawSuffix)
	if err != nil {
		return a, err
	}
	var why reason
	if said, err := os.ReadFile(path + whySuffix); err == nil && json.Unmarshal(said, &why) == nil {
		a.Cause, a.Why = why.Cause, why.Why
	}
	if a.Record, err = parse(raw); err == nil {
		a.Header, err = wire.ParseHeader(a.Record.Sealed)
	}
	if err == nil && whole.IsZero() {
		a.At = a.Record.At
	}
	switch {
	case err != nil:
		a.Broken = err.Error()
	case a.Record.At != a.At:
		a.Broken = "it says that it is " + a.Record.At.String()
	}
	return a, nil
}

// nameOf reads the name of a file: the begin of the record's epoch, all of it where the name
// has it, and the record's number. An agent of before wrote the begin alone, as the letters
// of its digits.
func nameOf(name string) (short string, whole mesh.Epoch, seq uint64) {
	epoch, number, _ := strings.Cut(name, "-")
	seq, err := strconv.ParseUint(number, 10, 64)
	raw, err2 := hex.DecodeString(epoch)
	switch {
	case err != nil || err2 != nil:
	case len(raw) == len(whole):
		copy(whole[:], raw)
		return whole.String(), whole, seq
	case len(raw) == len(whole.String()):
		return string(raw), whole, seq
	}
	return "", whole, 0
}

// find is the one that is called id, or whose name begins so.
func (b *Buffer) find(id string) (a Aside, name string, err error) {
	names, err := b.rawNames()
	if err != nil {
		return a, "", err
	}
	var found []string
	for _, n := range names {
		if short, _, seq := nameOf(n); n == id || short != "" && short+"-"+strconv.FormatUint(seq, 10) == id {
			found = append(found, n)
		}
	}
	if len(found) != 1 {
		return a, "", fmt.Errorf("%w: %d are called %q", ErrNotAside, len(found), id)
	}
	a, err = b.aside(found[0])
	return a, found[0], err
}

// SetAside is the record that is called id.
func (b *Buffer) SetAside(id string) (Aside, error) {
	a, _, err := b.find(id)
	return a, err
}

// Drop lets the bytes of a record that was set aside go. What it held stays named by the
// void in the log.
func (b *Buffer) Drop(id string) (a Aside, err error) {
	a, name, err := b.find(id)
	if err != nil {
		return a, err
	}
	b.log.Info("bytes of a record that was set aside are dropped", "at", a.At.String(), "cause", string(a.Cause), "why", a.Why)
	return a, b.removeRaw(name)
}

func (b *Buffer) removeRaw(name string) error {
	var errs []error
	for _, suffix := range []string{rawSuffix, whySuffix} {
		if err := os.Remove(filepath.Join(b.quarantineDir(), name+suffix)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// Holding is where in the log what sources said in a span of event times may stand: behind
// after, through until. earliest is the oldest event time of all that is kept of them; 0:
// nothing is. Of one source alone if that is not empty.
func (b *Buffer) Holding(source string, span mesh.Span) (after, until mesh.Position, earliest mesh.Nanos) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, p := range b.pieces {
		t := p.tallyOf(source)
		if t.From == t.To && t.Count == 0 {
			continue
		}
		if earliest == 0 || t.From < earliest {
			earliest = t.From
		}
		if t.To < span.From || t.From >= span.To {
			continue
		}
		if until.IsZero() {
			after = b.chain.at(p.first - 1)
		}
		until = b.chain.at(p.last)
	}
	return after, until, earliest
}

// tallyOf is what a segment has of a source, or of all.
func (p *piece) tallyOf(source string) (t tally) {
	if source != "" {
		return p.tallies[source]
	}
	for _, one := range p.tallies {
		t = t.plus(one)
	}
	return t
}
