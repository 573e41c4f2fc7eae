package buffer

import (
	"log/slog"
	"os"
	"path/filepath"
)

// The seam below the log by its outward names: deploy puts a model of a disk
// there, and holds it to the real one.

// Disk holds segments by name.
type Disk = disk

// Segment is one file of records.
type Segment = segment

// Tx is one transaction.
type Tx = tx

// Mode says how a segment is opened.
type Mode = mode

// Space is a keyspace of a segment.
type Space = space

// How a segment is opened.
const (
	ModeRead   = modeRead
	ModeAppend = modeAppend
	ModeCreate = modeCreate
)

// ErrDamaged is what a Disk says of a segment that can't be trusted.
var ErrDamaged = errDamaged

// Notes is what a Disk has besides that keeps the catalogue too. Called by one
// goroutine at a time; the bytes belong to who called.
type Notes interface {
	// ReadNotes is all that was added; a torn last line may be among it.
	ReadNotes() ([]byte, error)
	// AddNotes makes lines durable. After an error some of their bytes may stand.
	AddNotes(lines []byte) error
}

// FolderDisk is the disk of files that Open uses, of segments of size bytes.
func FolderDisk(dir string, size int64) Disk { return folder{dir: dir, size: size} }

// Spaces are the keyspaces of a segment.
func Spaces() []Space { return spaces() }

// OpenOn is Open on another disk. Nothing of the machine is looked at: no lock
// is taken, no space held back, and cfg is taken as it is, however small.
func OpenOn(cfg Config, d Disk, free func() (int64, error), log *slog.Logger) (*Buffer, error) {
	return open(cfg, d, free, log)
}

// openNotes opens the catalogue where it is kept.
func openNotes(dir string, d disk) (*catalogue, error) {
	n, ok := d.(Notes)
	if !ok {
		return openCatalogue(dir)
	}
	c := &catalogue{path: filepath.Join(dir, "catalogue.jsonl"), keep: n.AddNotes}
	b, err := n.ReadNotes()
	if err != nil {
		return nil, err
	}
	c.parse(b)
	return c, nil
}

// write makes lines durable behind those that stand.
func (c *catalogue) write(lines []byte) error {
	if c.keep != nil {
		return c.keep(lines)
	}
	return writeSynced(c.path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, lines)
}

// heldBack is the space held back on the disk; none where the machine isn't looked at.
func heldBack(cfg Config, d disk) *reserve {
	r := &reserve{path: filepath.Join(cfg.Dir, "reserve"), size: int64(cfg.SegmentBytes)}
	if _, ok := d.(Notes); ok {
		r.size = 0
	}
	return r
}
