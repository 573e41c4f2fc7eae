package hub

import (
	"archive/tar"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// ErrDamaged is returned for a backup that is not what it was when it was made.
var ErrDamaged = errors.New("the backup is damaged")

const (
	manifestName = "manifest.json"
	// dataPart of a backup is the hub's data folder.
	dataPart = "data"
	// backupFormat is that of the manifest.
	backupFormat = 1
	// manifestMost bounds a manifest: 100,000 files.
	manifestMost = 32 << 20
)

// Manifest says what a backup holds. It is the first file of one.
type Manifest struct {
	Format int       `json:"format"`
	Made   time.Time `json:"made"`
	Site   string    `json:"site"`
	Hub    string    `json:"hub"`    // the public key of its account
	Layout int       `json:"layout"` // of its database
	Tip    string    `json:"tip"`    // the end of its log
	Days   int       `json:"days"`   // files of the history
	// Faults are files that were lost or damaged before the backup.
	Faults []string   `json:"faults"`
	Files  []FileMark `json:"files"`
	// Sum is over all of Files.
	Sum string `json:"sum"`
}

// FileMark is one file of a backup.
type FileMark struct {
	Path   string `json:"path"` // with slashes, below the backup
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"`
}

// Bytes are those of all files.
func (m *Manifest) Bytes() (n int64) {
	for _, f := range m.Files {
		n += f.Size
	}
	return n
}

func (m *Manifest) sum() string {
	h := sha256.New()
	for _, f := range m.Files {
		_, _ = fmt.Fprintf(h, "%s %d %s\n", f.Path, f.Size, f.SHA256) // a hash takes all
	}
	return hex.EncodeToString(h.Sum(nil))
}

// check looks at a manifest that was read.
func (m *Manifest) check() error {
	if m.Format != backupFormat {
		return fmt.Errorf("%w: its manifest has format %d, this program reads %d", ErrDamaged, m.Format, backupFormat)
	}
	if m.Sum != m.sum() {
		return fmt.Errorf("%w: its manifest was changed", ErrDamaged)
	}
	for _, f := range m.Files {
		below, ok := strings.CutPrefix(f.Path, dataPart+"/")
		if !ok || path.Clean(f.Path) != f.Path || !filepath.IsLocal(filepath.FromSlash(below)) || strings.Contains(f.Path, `\`) {
			return fmt.Errorf("%w: its manifest names %q, which is not below %s", ErrDamaged, f.Path, dataPart)
		}
	}
	return nil
}

// writeManifest lists what lies below folder, in it.
func writeManifest(folder string, m Manifest) (Manifest, error) {
	err := filepath.WalkDir(filepath.Join(folder, dataPart), func(at string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		rel, err := filepath.Rel(folder, at)
		if err != nil {
			return err
		}
		mark, err := markOf(at, filepath.ToSlash(rel))
		m.Files = append(m.Files, mark)
		return err
	})
	if err != nil {
		return m, fmt.Errorf("list what was copied: %w", err)
	}
	slices.SortFunc(m.Files, func(a, b FileMark) int { return strings.Compare(a.Path, b.Path) })
	m.Format, m.Sum = backupFormat, m.sum()
	b, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return m, fmt.Errorf("write the manifest: %w", err)
	}
	return m, writeSynced(filepath.Join(folder, manifestName), append(b, '\n'))
}

func markOf(at, name string) (m FileMark, err error) {
	f, err := os.Open(at)
	if err != nil {
		return m, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	return markWhile(name, f, io.Discard)
}

// markWhile copies a file, and says what it is.
func markWhile(name string, r io.Reader, w io.Writer) (FileMark, error) {
	h := sha256.New()
	n, err := io.Copy(io.MultiWriter(h, w), r)
	return FileMark{Path: name, Size: n, SHA256: hex.EncodeToString(h.Sum(nil))}, err
}

// eachFile gives the files of a backup, the manifest first, whether it is a
// folder or one file.
func eachFile(from string, do func(name string, r io.Reader) error) (err error) {
	info, err := os.Stat(from)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrUsage, err)
	}
	if info.IsDir() {
		return eachInFolder(from, do)
	}
	f, err := os.Open(from)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrUsage, err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	for t := tar.NewReader(f); ; {
		head, err := t.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("%w: %w", ErrDamaged, err)
		}
		if err := do(head.Name, t); err != nil {
			return err
		}
	}
}

func eachInFolder(from string, do func(name string, r io.Reader) error) error {
	one := func(at, name string) (err error) {
		f, err := os.Open(at)
		if err != nil {
			return fmt.Errorf("%w: %w", ErrDamaged, err)
		}
		defer func() { err = errors.Join(err, f.Close()) }()
		return do(name, f)
	}
	if err := one(filepath.Join(from, manifestName), manifestName); err != nil {
		return err
	}
	return filepath.WalkDir(filepath.Join(from, dataPart), func(at string, d fs.DirEntry, err error) error {
		if err != nil {
			return fmt.Errorf("%w: %w", ErrDamaged, err)
		}
		if d.IsDir() {
			return nil
		}
		rel, err := filepath.Rel(from, at)
		if err != nil {
			return err
		}
		return one(at, filepath.ToSlash(rel))
	})
}

// Verify reads a backup to its end and compares every byte with its manifest.
func Verify(from string) (Manifest, error) {
	return readBackup(from, func(string) (io.WriteCloser, error) { return nowhere{io.Discard}, nil })
}

type nowhere struct{ io.Writer }

func (nowhere) Close() error { return nil }

// readBackup gives the files of a backup to what put opens, and makes sure that
// they are all there and whole.
func readBackup(from string, put func(name string) (io.WriteCloser, error)) (Manifest, error) {
	r := reading{put: put}
	if err := eachFile(from, r.file); err != nil {
		return r.m, err
	}
	if r.m.Format == 0 {
		return r.m, fmt.Errorf("%w: it has no manifest", ErrDamaged)
	}
	if len(r.want) > 0 {
		return r.m, fmt.Errorf("%w: %d of the files its manifest names are missing", ErrDamaged, len(r.want))
	}
	return r.m, nil
}

// reading is a backup that is read.
type reading struct {
	m    Manifest
	want map[string]FileMark // those that have not come
	put  func(name string) (io.WriteCloser, error)
}

func (b *reading) file(name string, r io.Reader) (err error) {
	if b.m.Format == 0 {
		if b.m, err = readManifest(name, r); err != nil {
			return err
		}
		b.want = make(map[string]FileMark, len(b.m.Files))
		for _, f := range b.m.Files {
			b.want[f.Path] = f
		}
		return nil
	}
	is, ok := b.want[name]
	if !ok {
		return fmt.Errorf("%w: it holds %q, which its manifest doesn't name", ErrDamaged, name)
	}
	delete(b.want, name)
	w, err := b.put(name)
	if err != nil {
		return err
	}
	got, err := markWhile(name, r, w)
	if errors.Is(err, io.ErrUnexpectedEOF) {
		err = fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	if err = errors.Join(err, w.Close()); err != nil {
		return fmt.Errorf("read %s of the backup: %w", name, err)
	}
	if got != is {
		return fmt.Errorf("%w: %s has %d bytes with SHA-256 %s, its manifest says %d and %s", ErrDamaged, name, got.Size, got.SHA256, is.Size, is.SHA256)
	}
	return nil
}

func readManifest(name string, r io.Reader) (m Manifest, err error) {
	if name != manifestName {
		return m, fmt.Errorf("%w: it begins with %q, not with its manifest", ErrDamaged, name)
	}
	b, err := io.ReadAll(io.LimitReader(r, manifestMost))
	if err != nil {
		return m, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	if err := json.Unmarshal(b, &m); err != nil {
		return m, fmt.Errorf("%w: its manifest: %w", ErrDamaged, err)
	}
	return m, m.check()
}

// pack writes a backup as one file.
func pack(folder, to string) (err error) {
	f, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	t := tar.NewWriter(f)
	err = eachInFolder(folder, func(name string, _ io.Reader) error {
		return packOne(t, filepath.Join(folder, filepath.FromSlash(name)), name)
	})
	return errors.Join(err, t.Close(), f.Sync())
}

func packOne(t *tar.Writer, at, name string) (err error) {
	f, err := os.Open(at)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if err := t.WriteHeader(&tar.Header{Name: name, Size: info.Size(), Mode: 0o600, ModTime: info.ModTime(), Format: tar.FormatPAX}); err != nil {
		return err
	}
	_, err = io.Copy(t, f)
	return err
}

func writeSynced(at string, b []byte) error {
	f, err := os.OpenFile(at, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	return errors.Join(err, f.Sync(), f.Close())
}

// syncFolder makes the names in a folder durable.
func syncFolder(at string) error {
	d, err := os.Open(at)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
