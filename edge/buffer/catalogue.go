package buffer

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"

	"plantmesh/proto/mesh"
)

// The catalogue is what is known of the log without opening a segment: a line
// of JSON for each epoch begun, segment filled, stretch that is gone, and
// reader's epoch. It is what a damaged segment is voided from, and what a
// reader is told who asks for what is no longer kept.

// note is one line. Exactly one field is set.
type note struct {
	Epoch  *epochNote  `json:"epoch,omitempty"`
	Filled *filledNote `json:"filled,omitempty"`
	Gone   *goneNote   `json:"gone,omitempty"`
	Reader *readerNote `json:"reader,omitempty"`
	// Made is a segment that was created: a file of that name is this log's.
	Made *madeNote `json:"made,omitempty"`
	// Through is how far the reader has everything.
	Through *throughNote `json:"through,omitempty"`
}

type madeNote struct {
	Segment string `json:"segment"`
}

type throughNote struct {
	Epoch string `json:"epoch"`
	Seq   uint64 `json:"seq"`
}

type epochNote struct {
	Epoch     string `json:"epoch"`
	Parent    string `json:"parent,omitempty"` // epoch; empty for the first
	ParentSeq uint64 `json:"parent_seq,omitempty"`
	First     uint64 `json:"first"` // index of its opening
}

type filledNote struct {
	Segment string           `json:"segment"`
	First   uint64           `json:"first"`
	Last    uint64           `json:"last"`
	At      int64            `json:"at,omitempty"` // machine time, Unix seconds
	Sources map[string]tally `json:"sources,omitempty"`
	// States are those that count, where a commit failed: what stands in the
	// segment may be the failed one's.
	States map[string][]byte `json:"states,omitzero"`
}

type goneNote struct {
	First uint64     `json:"first"`
	Last  uint64     `json:"last"`
	Why   mesh.Cause `json:"why,omitempty"`  // empty: received by the reader
	Void  uint64     `json:"void,omitempty"` // index of the void that says so
}

type readerNote struct {
	Log   mesh.LogID `json:"log"`
	Epoch string     `json:"epoch"`
}

// tally is what a segment holds of one source.
type tally struct {
	From  mesh.Nanos `json:"from"`
	To    mesh.Nanos `json:"to"`
	Count uint64     `json:"count"`
}

func (t tally) plus(o tally) tally {
	switch {
	case t.From == t.To:
		t.From, t.To = o.From, o.To
	case o.From != o.To:
		t.From, t.To = min(t.From, o.From), max(t.To, o.To)
	}
	t.Count += o.Count
	return t
}

const tallyBytes = 24

// catalogue is the file of notes. Used under the buffer's writing lock.
type catalogue struct {
	path  string
	size  int64
	torn  bool // its last line has no end
	notes []note
	keep  func(lines []byte) error // nil: in the file at path

	broken int // lines that can't be read
}

// catalogueLimit is the size above which old notes are let go at opening.
const catalogueLimit = 4 << 20

// openCatalogue reads what stands there. A torn last line was never durable,
// and any other line that can't be read is left out: every note helps, none is
// needed.
func openCatalogue(dir string) (*catalogue, error) {
	c := &catalogue{path: filepath.Join(dir, "catalogue.jsonl")}
	b, err := os.ReadFile(c.path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read the catalogue: %w", err)
	}
	c.parse(b)
	if len(b) > catalogueLimit {
		// On a full disk it stays long: nothing depends on that.
		if err := c.rewrite(true); err != nil && !errors.Is(full(err), ErrFull) {
			return c, err
		}
	}
	return c, nil
}

func (c *catalogue) parse(b []byte) {
	for line := range bytes.Lines(b) {
		line = bytes.TrimSuffix(line, []byte("\n"))
		if n, ok := decodeNote(line); ok {
			c.notes = append(c.notes, n)
		} else if len(line) > 0 {
			c.broken++
		}
	}
	c.size, c.torn = int64(len(b)), len(b) > 0 && b[len(b)-1] != '\n'
}

// A line ends with a checksum of what stands before it: a flipped digit is JSON
// all the same, and would hide records. Lines of before 2026-11-28 have none.
const (
	sumFormat = `,"sum":"%08x"}`
	sumBytes  = len(`,"sum":"00000000"}`)
)

func encodeNote(n note) ([]byte, error) {
	line, err := json.Marshal(n)
	if err != nil {
		return nil, fmt.Errorf("write the catalogue: %w", err)
	}
	line = line[:len(line)-1]
	return append(fmt.Appendf(line, sumFormat, sumOf(line)), '\n'), nil
}

func decodeNote(line []byte) (n note, ok bool) {
	if at := len(line) - sumBytes; at > 0 && bytes.HasPrefix(line[at:], []byte(`,"sum":"`)) && !bytes.Equal(line[at:], fmt.Appendf(nil, sumFormat, sumOf(line[:at]))) {
		return n, false
	}
	return n, json.Unmarshal(line, &n) == nil && n.sound()
}

// sound reports whether a note says one thing, and one that can be.
func (n note) sound() bool {
	run := func(first, last uint64) bool { return 0 < first && first <= last && last <= math.MaxInt64 }
	switch n {
	case note{Epoch: n.Epoch}:
		return n.Epoch != nil && run(n.Epoch.First, n.Epoch.First)
	case note{Filled: n.Filled}:
		return run(n.Filled.First, n.Filled.Last)
	case note{Gone: n.Gone}:
		return run(n.Gone.First, n.Gone.Last)
	case note{Reader: n.Reader}, note{Made: n.Made}, note{Through: n.Through}:
		return true
	}
	return false
}

func sumOf(line []byte) uint32 { return crc32.Checksum(line, crc32.MakeTable(crc32.Castagnoli)) }

// rewrite writes the notes anew; if halve, without the older half of those
// about segments.
func (c *catalogue) rewrite(halve bool) error {
	if halve {
		half, all := len(c.notes)/2, c.notes
		c.notes = slices.DeleteFunc(slices.Clone(all[:half]), func(n note) bool { return n.Epoch == nil && n.Reader == nil })
		c.notes = append(c.notes, all[half:]...)
	}
	var b bytes.Buffer
	for _, n := range c.notes {
		line, err := encodeNote(n)
		if err != nil {
			return err
		}
		b.Write(line)
	}
	making := c.path + makingSuffix
	if err := writeSynced(making, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, b.Bytes()); err != nil {
		return err
	}
	if err := os.Rename(making, c.path); err != nil {
		return fmt.Errorf("write the catalogue: %w", err)
	}
	c.size, c.torn = int64(b.Len()), false
	return syncDir(filepath.Dir(c.path))
}

// add makes notes durable.
func (c *catalogue) add(notes ...note) error {
	var b []byte
	if c.torn {
		b = append(b, '\n')
	}
	for _, n := range notes {
		line, err := encodeNote(n)
		if err != nil {
			return err
		}
		b = append(b, line...)
	}
	if err := c.write(b); err != nil {
		c.torn = true // perhaps: an empty line more does no harm
		return err
	}
	c.torn = false
	c.notes = append(c.notes, notes...)
	c.size += int64(len(b))
	return nil
}

func writeSynced(path string, flag int, b []byte) error {
	f, err := os.OpenFile(path, flag, 0o600)
	if err != nil {
		return fmt.Errorf("write %s: %w", filepath.Base(path), err)
	}
	_, err = f.Write(b)
	if err == nil {
		err = f.Sync()
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("write %s: %w", filepath.Base(path), err)
	}
	return nil
}

// made are the names of all segments this log is known to have made.
func (c *catalogue) made() map[string]bool {
	out := map[string]bool{}
	for _, n := range c.notes {
		if n.Made != nil {
			out[n.Made.Segment] = true
		}
	}
	return out
}

// filled are the notes of filled segments by name.
func (c *catalogue) filled() map[string]*filledNote {
	out := map[string]*filledNote{}
	for _, n := range c.notes {
		if n.Filled != nil {
			out[n.Filled.Segment] = n.Filled
		}
	}
	return out
}

// eras are the epochs noted, in order.
func (c *catalogue) eras(log mesh.LogID) (out []era) {
	for _, n := range c.notes {
		if n.Epoch == nil {
			continue
		}
		e := era{epoch: parseEpoch(n.Epoch.Epoch), first: n.Epoch.First}
		if n.Epoch.Parent != "" {
			e.parent = mesh.Position{Log: log, Epoch: parseEpoch(n.Epoch.Parent), Seq: n.Epoch.ParentSeq}
		}
		out = append(out, e)
	}
	return out
}

// unnoted are the epochs that a kill kept from being noted.
func (c *catalogue) unnoted(on *chain) (out []note) {
	noted := c.eras(on.log)
	for _, e := range on.eras {
		if !slices.ContainsFunc(noted, func(n era) bool { return n.epoch == e.epoch }) {
			out = append(out, noteEra(e))
		}
	}
	return out
}

func noteEra(e era) note {
	n := &epochNote{Epoch: hex.EncodeToString(e.epoch[:]), First: e.first, ParentSeq: e.parent.Seq}
	if !e.parent.IsZero() {
		n.Parent = hex.EncodeToString(e.parent.Epoch[:])
	}
	return note{Epoch: n}
}

// parseEpoch gives the zero epoch for what is none.
func parseEpoch(s string) (e mesh.Epoch) {
	if b, err := hex.DecodeString(s); err == nil {
		copy(e[:], b)
	}
	return e
}

// late are the epochs that were noted behind one that follows them: their own
// line was damaged. They gave no index again.
func (c *catalogue) late() map[*epochNote]bool {
	out, followed := map[*epochNote]bool{}, map[string]bool{}
	for _, n := range c.notes {
		if n.Epoch != nil {
			out[n.Epoch] = followed[n.Epoch.Epoch]
			followed[n.Epoch.Parent] = true
		}
	}
	return out
}

// goneNotes are the stretches noted as gone, as far as their indexes still mean
// the same: where the end of the log was lost, the next epoch gives indexes
// again. unsaid is one whose void was lost so.
func (c *catalogue) goneNotes(each func(g goneNote, unsaid bool)) {
	again := uint64(1<<64 - 1) // indexes from here on were given again later
	var out []func()
	late := c.late()
	for _, n := range slices.Backward(c.notes) {
		if n.Epoch != nil && !late[n.Epoch] {
			again = min(again, n.Epoch.First)
		}
		if n.Gone == nil || n.Gone.First >= again {
			continue
		}
		g, unsaid := *n.Gone, n.Gone.Void >= again
		g.Last = min(g.Last, again-1)
		out = append(out, func() { each(g, unsaid) })
	}
	for _, do := range slices.Backward(out) {
		do()
	}
}

// gone are the stretches noted as gone for a reason that keep accepts.
func (c *catalogue) gone(keep func(why mesh.Cause) bool) []stretch {
	var out []stretch
	c.goneNotes(func(g goneNote, _ bool) {
		if keep(g.Why) {
			out = append(out, stretch{g.First, g.Last})
		}
	})
	return join(out)
}

// carried are the stretches whose void stands in one of lost and nowhere else
// that is kept: with it nobody would know of them any more.
func (c *catalogue) carried(lost []stretch) []stretch {
	var said, kept []stretch
	gone := c.gone(func(mesh.Cause) bool { return true })
	c.goneNotes(func(g goneNote, unsaid bool) {
		s, at := stretch{g.First, g.Last}, stretch{g.Void, g.Void}
		switch {
		case g.Void == 0:
		case unsaid || len(overlap(at, lost)) > 0:
			said = append(said, s)
		case len(overlap(at, gone)) == 0:
			kept = append(kept, s)
		}
	})
	var out []stretch
	for _, s := range join(said) {
		out = append(out, s.without(join(kept))...)
	}
	return out
}

// onTheWay reports whether something is gone that a reader lacks, and so is the
// void that says so: it comes.
func (c *catalogue) onTheWay(covered []stretch) (yes bool) {
	gone := c.gone(func(mesh.Cause) bool { return true })
	c.goneNotes(func(g goneNote, unsaid bool) {
		if g.Void == 0 || unsaid {
			return
		}
		void := stretch{g.Void, g.Void}
		yes = yes || len((stretch{g.First, g.Last}).without(covered)) > 0 && len(void.without(join(append(gone, covered...)))) > 0
	})
	return yes
}

// parts are the sources that stretches of the log held something of, as far as
// filled segments tell.
func (c *catalogue) parts(lost []stretch) map[string]tally {
	out := map[string]tally{}
	for _, n := range c.notes {
		if n.Filled == nil || len(overlap(stretch{n.Filled.First, n.Filled.Last}, lost)) == 0 {
			continue
		}
		for source, t := range n.Filled.Sources {
			out[source] = out[source].plus(t)
		}
	}
	return out
}

// overlap is what of s lies in any of with.
func overlap(s stretch, with []stretch) (out []stretch) {
	for _, w := range with {
		if f, l := max(s.first, w.first), min(s.last, w.last); f <= l {
			out = append(out, stretch{f, l})
		}
	}
	return out
}
