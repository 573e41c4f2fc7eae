// Package parquet is the road of files: the samples of a day as Parquet, for
// whoever wants history in a tool of their own. A file is there whole or not at
// all.
//
//	<folder>/product=signals/date=2026-03-01/part-1.parquet
//
// Rows are sorted by (tag, ts), in groups of 128 Ki, or of 16 MiB of texts,
// packed with zstd: what reads one signal skips most of a file.
package parquet

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	pq "github.com/parquet-go/parquet-go"
)

// groupRows is how many rows are packed together, and the least that is read.
const groupRows = 128 << 10

// groupBytes ends a group early where texts are long: it is held in memory until
// it is packed. Ordinary rows are some 60 bytes.
const groupBytes = 16 << 20

// Row is one sample. Of the values one is not null, as type says, and two of arrays,
// structures and events: their body as it is stored, and as JSON, whose names are
// those of the signal table; none where the source gave none. Instants are nanoseconds UTC; those of the three clocks
// and the device's number are null where there was none, here 0.
type Row struct {
	Tag       string   `parquet:"tag,dict,zstd"`
	TS        int64    `parquet:"ts,timestamp(nanosecond),delta,zstd"`
	Equipment string   `parquet:"equipment,dict,zstd"`
	Source    string   `parquet:"source,dict,zstd"`
	Type      string   `parquet:"type,dict,zstd"`
	Bool      *bool    `parquet:"value_bool,optional"`
	Int       *int64   `parquet:"value_int,optional,zstd"`
	Uint      *uint64  `parquet:"value_uint,optional,zstd"`
	Double    *float64 `parquet:"value_double,optional,zstd"`
	Text      *string  `parquet:"value_text,optional,dict,zstd"`
	Bytes     []byte   `parquet:"value_bytes,optional,zstd"`
	JSON      string   `parquet:"value_json,optional,zstd"`
	Words     string   `parquet:"text,optional,dict,zstd"` // what a number is called at the source
	Unit      string   `parquet:"unit,dict,zstd"`
	Status    uint32   `parquet:"status,dict,zstd"` // OPC UA StatusCode
	Flags     uint32   `parquet:"flags,dict,zstd"`  // see proto/mesh
	SourceTS  int64    `parquet:"source_ts,optional,timestamp(nanosecond),delta,zstd"`
	ServerTS  int64    `parquet:"server_ts,optional,timestamp(nanosecond),delta,zstd"`
	AgentTS   int64    `parquet:"agent_ts,optional,timestamp(nanosecond),delta,zstd"`
	DeviceSeq uint64   `parquet:"device_seq,optional,delta,zstd"`
	Marks     []Mark   `parquet:"marks,list"`
	// Of a row that a model's transform makes: the tag of what it is made of, and the model.
	DerivedFrom string `parquet:"derived_from,optional,dict,zstd"`
	DerivedBy   string `parquet:"derived_by,optional,dict,zstd"`
}

// Mark is a rule's finding about a sample.
type Mark struct {
	Rule   string `parquet:"rule,dict,zstd"`
	Action string `parquet:"action,dict,zstd"`
}

var (
	errUnsorted = errors.New("rows must come in the order of (tag, ts)")
	errReadBack = errors.New("the file doesn't give back what was written")
)

// File is a file under way. Not safe for concurrent use.
type File struct {
	dir, path string // where it will be
	rev       int
	tmp       *os.File
	w         *pq.GenericWriter[Row]
	rows      int64
	bytes     int // of texts in the row group at hand
	in        int // rows in it
	tag       string
	ts        int64
}

func dayFolder(folder, product string, day time.Time) string {
	return filepath.Join(folder, "product="+product, "date="+day.UTC().Format(time.DateOnly))
}

// Has reports whether a folder has a file of one product and UTC day.
func Has(folder, product string, day time.Time) bool {
	return len(revisions(dayFolder(folder, product, day))) > 0
}

// Create begins the file of one product and UTC day under a folder. Nothing is
// to be seen of it before Commit.
func Create(folder, product string, day time.Time) (*File, error) {
	dir := dayFolder(folder, product, day)
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return nil, fmt.Errorf("make the folder of a Parquet file: %w", err)
	}
	f := &File{dir: dir, rev: 1}
	for _, rev := range revisions(dir) {
		f.rev = max(f.rev, rev+1)
	}
	f.path = filepath.Join(dir, "part-"+strconv.Itoa(f.rev)+".parquet")
	var err error
	if f.tmp, err = os.CreateTemp(dir, ".part-*"); err != nil {
		return nil, fmt.Errorf("begin a Parquet file: %w", err)
	}
	f.w = pq.NewGenericWriter[Row](f.tmp, pq.MaxRowsPerRowGroup(groupRows), pq.CreatedBy("plantmesh", "", ""),
		pq.SortingWriterConfig(pq.SortingColumns(pq.Ascending("tag"), pq.Ascending("ts"))))
	return f, nil
}

// revisions are those of the files in a folder.
func revisions(dir string) (out []int) {
	names, err := os.ReadDir(dir)
	if err != nil {
		return nil
	}
	for _, n := range names {
		mid, ok := strings.CutPrefix(n.Name(), "part-")
		mid, part := strings.CutSuffix(mid, ".parquet")
		if rev, err := strconv.Atoi(mid); err == nil && ok && part {
			out = append(out, rev)
		}
	}
	return out
}

// Write appends rows, which must be sorted by (tag, ts).
func (f *File) Write(rows []Row) error {
	from := 0
	for i := range rows {
		r := &rows[i]
		if r.Tag < f.tag || r.Tag == f.tag && r.TS < f.ts && f.rows > 0 {
			return fmt.Errorf("write %s: %w: %s at %d", f.path, errUnsorted, r.Tag, r.TS)
		}
		f.tag, f.ts = r.Tag, r.TS
		f.rows++
		f.in++
		if f.bytes += r.bytes(); f.bytes < groupBytes && f.in < groupRows {
			continue
		}
		if _, err := f.w.Write(rows[from : i+1]); err != nil {
			return fmt.Errorf("write %s: %w", f.path, err)
		}
		if err := f.w.Flush(); err != nil {
			return fmt.Errorf("write %s: %w", f.path, err)
		}
		from, f.bytes, f.in = i+1, 0, 0
	}
	if _, err := f.w.Write(rows[from:]); err != nil {
		return fmt.Errorf("write %s: %w", f.path, err)
	}
	return nil
}

// bytes are those of texts, which make rows long.
func (r *Row) bytes() (n int) {
	n = len(r.Bytes) + len(r.JSON) + len(r.Words)
	if r.Text != nil {
		n += len(*r.Text)
	}
	for _, m := range r.Marks {
		n += len(m.Rule)
	}
	return n
}

// Commit makes the file durable, reads it back, and puts it in place; files of
// the day that were there before go. It says where the file is and what is in it.
func (f *File) Commit() (path string, rows, size int64, err error) {
	if err := errors.Join(f.w.Close(), f.tmp.Sync()); err != nil {
		return "", 0, 0, errors.Join(fmt.Errorf("write %s: %w", f.path, err), f.Abort())
	}
	if size, err = f.check(); err != nil {
		return "", 0, 0, errors.Join(fmt.Errorf("read %s back: %w", f.path, err), f.Abort())
	}
	if err := errors.Join(f.tmp.Close(), os.Rename(f.tmp.Name(), f.path)); err != nil {
		return "", 0, 0, errors.Join(fmt.Errorf("put %s in place: %w", f.path, err), f.Abort())
	}
	for _, rev := range revisions(f.dir) {
		if rev < f.rev {
			if err := os.Remove(filepath.Join(f.dir, "part-"+strconv.Itoa(rev)+".parquet")); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return "", 0, 0, fmt.Errorf("remove what %s takes the place of: %w", f.path, err)
			}
		}
	}
	return f.path, f.rows, size, syncFolder(f.dir)
}

// check reads the footer and every page.
func (f *File) check() (size int64, err error) {
	i, err := f.tmp.Stat()
	if err != nil {
		return 0, err
	}
	file, err := pq.OpenFile(f.tmp, i.Size())
	if err != nil {
		return 0, err
	}
	r := pq.NewGenericReader[Row](file)
	defer func() { err = errors.Join(err, r.Close()) }()
	n, buf := int64(0), make([]Row, 1024)
	for n < f.rows {
		k, err := r.Read(buf)
		n += int64(k)
		if k == 0 {
			return 0, errors.Join(errReadBack, err)
		}
	}
	if file.NumRows() != f.rows {
		return 0, errReadBack
	}
	return i.Size(), nil
}

// Abort leaves nothing of the file. After Commit it does nothing.
func (f *File) Abort() error {
	_ = f.tmp.Close() // it may be closed already
	if err := os.Remove(f.tmp.Name()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove a Parquet file that was not finished: %w", err)
	}
	_ = os.Remove(f.dir) // it stays if there is anything in it
	return nil
}

func syncFolder(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("sync %s: %w", dir, err)
	}
	if err := errors.Join(d.Sync(), d.Close()); err != nil {
		return fmt.Errorf("sync %s: %w", dir, err)
	}
	return nil
}

// Read reads all rows of a file.
func Read(path string) ([]Row, error) {
	rows, err := pq.ReadFile[Row](path)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	return rows, nil
}
