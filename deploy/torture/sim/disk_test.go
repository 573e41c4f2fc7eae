package sim

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"plantmesh/edge/buffer"
)

var errSync = errors.New("the disk refused to sync")

// crash is thrown where a process is killed: between any two writes.
type crash struct{ who *tap }

// tap stands before and behind every write of a process, so that it can be
// killed there, and has writes fail.
type tap struct {
	crashIn int // writes from now; 0: never
	failIn  int
	failHow howFails
	crashes int
	fails   int
}

// howFails is what becomes of a write that is reported failed.
type howFails uint8

const (
	failNothing  howFails = iota // nothing of it stands
	failReadable                 // it reads back, and is gone after a power loss
	failDurable                  // it is there for good
	failKinds
)

// due says whether the process dies at the next pass.
func (t *tap) due() bool { return t.crashIn == 1 }

func (t *tap) pass() {
	if t.crashIn == 0 {
		return
	}
	if t.crashIn--; t.crashIn == 0 {
		t.crashes++
		panic(crash{t})
	}
}

func (t *tap) failsNow() bool {
	if t.failIn == 0 {
		return false
	}
	t.failIn--
	if t.failIn == 0 {
		t.fails++
	}
	return t.failIn == 0
}

// disk is a model of the agent's disk, at the level of transactions. It is what
// a process sees; what of it survives a power loss is kept beside.
type disk struct {
	tap       *tap
	files     map[string]*file
	notes     []byte
	notesSafe int // bytes of notes that survive a power loss

	unsynced bool // control: syncs do nothing
	believes bool // control: a failed sync is believed where the data reads back
	rereads  bool // control: what reads back is believed by the next process
}

func newDisk(t *tap) *disk { return &disk{tap: t, files: map[string]*file{}} }

// file is one segment.
type file struct {
	now     *tables
	safe    *tables // nil: as now
	damaged bool
}

// tables are the spaces of a segment. Keys are in order.
type tables struct {
	of   [8]column
	size int64
}

type column struct {
	keys   []string
	values [][]byte
}

func spaceIndex(s buffer.Space) int {
	for i, x := range allSpaces {
		if x == s {
			return i
		}
	}
	panic("no such space: " + string(s))
}

var allSpaces = buffer.Spaces()

func (t *tables) clone() *tables {
	c := &tables{size: t.size}
	for i := range t.of {
		c.of[i] = column{slices.Clone(t.of[i].keys), slices.Clone(t.of[i].values)}
	}
	return c
}

func (t *tables) put(s int, key string, value []byte) {
	c := &t.of[s]
	n := len(c.keys)
	at, found := n, false
	if n > 0 && c.keys[n-1] >= key {
		at, found = slices.BinarySearch(c.keys, key)
	}
	if found {
		t.size += int64(len(value) - len(c.values[at]))
		c.values[at] = value
		return
	}
	t.size += int64(len(key) + len(value) + 16)
	c.keys, c.values = slices.Insert(c.keys, at, key), slices.Insert(c.values, at, value)
}

// image is a copy of the disk as it stands, or as it would after a power loss.
func (d *disk) image() *disk {
	c := newDisk(nil)
	c.unsynced, c.believes, c.rereads = d.unsynced, d.believes, d.rereads
	for name, f := range d.files {
		g := &file{now: f.now.clone(), damaged: f.damaged}
		if f.safe != nil {
			g.safe = f.safe.clone()
		}
		c.files[name] = g
	}
	c.notes, c.notesSafe = slices.Clone(d.notes), d.notesSafe
	return c
}

// powerLoss forgets what was not synced; a note's tail may be torn.
func (d *disk) powerLoss(torn uint64) {
	for _, f := range d.files {
		if f.safe != nil {
			f.now, f.safe = f.safe, nil
		}
	}
	if open := len(d.notes) - d.notesSafe; open > 0 {
		d.notes = slices.Clip(d.notes[:d.notesSafe+int(torn%uint64(open+1))])
		d.notesSafe = len(d.notes)
	}
}

// Names implements buffer.Disk.
func (d *disk) Names() (out []string, err error) {
	for name := range d.files {
		out = append(out, name)
	}
	slices.Sort(out)
	return out, nil
}

// Open implements buffer.Disk.
func (d *disk) Open(name string, how buffer.Mode) (buffer.Segment, error) {
	f := d.files[name]
	switch {
	case how == buffer.ModeCreate && f != nil:
		return nil, fs.ErrExist
	case how == buffer.ModeCreate:
		d.tap.pass()
		f = &file{now: &tables{}}
		d.files[name] = f
		d.tap.pass()
	case f == nil:
		return nil, fs.ErrNotExist
	case f.damaged:
		return nil, fmt.Errorf("open %s: %w", name, buffer.ErrDamaged)
	case how == buffer.ModeAppend && f.safe != nil && !d.unsynced && !d.rereads:
		if d.tap.failsNow() {
			return nil, errSync
		}
		f.safe = nil
	}
	return &segment{d: d, f: f, write: how != buffer.ModeRead}, nil
}

// Remove implements buffer.Disk.
func (d *disk) Remove(name string) error {
	d.tap.pass()
	delete(d.files, name)
	d.tap.pass()
	return nil
}

// SetAside implements buffer.Disk.
func (d *disk) SetAside(name string) error { return d.Remove(name) }

// ReadNotes implements buffer.Notes.
func (d *disk) ReadNotes() ([]byte, error) { return slices.Clone(d.notes), nil }

// AddNotes implements buffer.Notes.
func (d *disk) AddNotes(lines []byte) error {
	d.tap.pass()
	if d.tap.due() { // killed in the middle
		d.notes = append(d.notes, lines[:len(lines)/2]...)
		d.tap.pass()
	}
	d.notes = append(d.notes, lines...)
	if !d.unsynced {
		d.notesSafe = len(d.notes)
	}
	d.tap.pass()
	return nil
}

// segment is an open file.
type segment struct {
	d      *disk
	f      *file
	write  bool
	closed bool
}

func (s *segment) usable() error {
	switch {
	case s.closed:
		return errors.New("the segment is closed")
	case s.f.damaged:
		return buffer.ErrDamaged
	}
	return nil
}

// Update implements buffer.Segment.
func (s *segment) Update(fn func(buffer.Tx) error) (written int64, err error) {
	if err := s.usable(); err != nil {
		return 0, err
	}
	s.d.tap.pass()
	t := &txn{t: s.f.now, write: s.write}
	if err := fn(t); err != nil {
		return 0, err
	}
	if s.d.tap.failsNow() {
		switch s.d.tap.failHow {
		case failReadable:
			s.f.hold()
			t.apply()
			if s.d.believes {
				return t.bytes, nil
			}
		case failDurable:
			t.apply()
		default:
		}
		return 0, errSync
	}
	if s.d.unsynced {
		s.f.hold()
	}
	t.apply()
	if !s.d.unsynced {
		s.f.safe = nil // a sync is of the whole file
	}
	s.d.tap.pass()
	return t.bytes, nil
}

// hold keeps what is safe now.
func (f *file) hold() {
	if f.safe == nil {
		f.safe = f.now.clone()
	}
}

// View implements buffer.Segment.
func (s *segment) View(fn func(buffer.Tx) error) error {
	if err := s.usable(); err != nil {
		return err
	}
	return fn(&txn{t: s.f.now})
}

// Trim implements buffer.Segment.
func (s *segment) Trim() error { return nil }

// Close implements buffer.Segment.
func (s *segment) Close() error {
	s.closed = true
	return nil
}

// txn is one transaction.
type txn struct {
	t     *tables
	write bool
	puts  []put
	bytes int64
}

type put struct {
	space int
	key   string
	value []byte
}

func (t *txn) apply() {
	for _, p := range t.puts {
		t.t.put(p.space, p.key, p.value)
	}
}

// Put implements buffer.Tx.
func (t *txn) Put(s buffer.Space, key, value []byte) error {
	if !t.write {
		return errors.New("the segment is open for reading only")
	}
	t.puts = append(t.puts, put{spaceIndex(s), string(key), slices.Clone(value)})
	t.bytes += int64(len(key) + len(value))
	return nil
}

// Get implements buffer.Tx.
func (t *txn) Get(s buffer.Space, key []byte) []byte {
	n := spaceIndex(s)
	for _, p := range slices.Backward(t.puts) {
		if p.space == n && p.key == string(key) {
			return p.value
		}
	}
	c := &t.t.of[n]
	if i, ok := slices.BinarySearchFunc(c.keys, key, compareKey); ok {
		return c.values[i]
	}
	return nil
}

func compareKey(have string, want []byte) int { return cmp.Compare(have, string(want)) }

// Scan implements buffer.Tx.
func (t *txn) Scan(s buffer.Space, from []byte, fn func(key, value []byte) bool) {
	c := &t.t.of[spaceIndex(s)]
	i, _ := slices.BinarySearchFunc(c.keys, from, compareKey)
	for ; i < len(c.keys) && fn([]byte(c.keys[i]), c.values[i]); i++ {
		continue
	}
}

// Size implements buffer.Tx.
func (t *txn) Size() int64 { return t.t.size }
