package release

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strconv"
	"strings"
	"time"
)

// Sizes of an ar archive, ar(5): what a Debian package is, deb(5).
const (
	arMagic  = "!<arch>\n"
	arHeader = 60
	arName   = 16
	arSize   = 48 // where ten digits of it begin
	arEnd    = 58
)

var errNoPackage = errors.New("no Debian package")

// member gives a part of a Debian package, as data.tar.gz.
func member(deb []byte, name string) ([]byte, error) {
	rest, ok := bytes.CutPrefix(deb, []byte(arMagic))
	for ok && len(rest) >= arHeader {
		h := rest[:arHeader]
		size, err := strconv.Atoi(strings.TrimSpace(string(h[arSize:arEnd])))
		if rest = rest[arHeader:]; err != nil || size < 0 || size > len(rest) {
			return nil, errNoPackage
		}
		if strings.TrimRight(string(h[:arName]), "/ ") == name {
			return rest[:size], nil
		}
		rest = rest[min(size+size%2, len(rest)):] // parts begin at even places
	}
	return nil, fmt.Errorf("%w with a part %s", errNoPackage, name)
}

// files reads a part of a Debian package that is a tar.gz.
func files(deb []byte, part string, each func(*tar.Header, io.Reader) error) error {
	b, err := member(deb, part)
	if err != nil {
		return err
	}
	z, err := gzip.NewReader(bytes.NewReader(b))
	if err != nil {
		return fmt.Errorf("read %s: %w", part, err)
	}
	for t := tar.NewReader(z); ; {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read %s: %w", part, err)
		}
		if err := each(h, t); err != nil {
			return err
		}
	}
}

// archive writes the tree of the Debian package deb below one folder into the
// tar.gz to, and INSTALL beside it.
func archive(deb, to, folder string, install func() ([]byte, error), at time.Time) (err error) {
	from, err := os.ReadFile(deb)
	if err != nil {
		return err
	}
	words, err := install()
	if err != nil {
		return err
	}
	var out bytes.Buffer
	z, err := gzip.NewWriterLevel(&out, gzip.BestCompression) // its header has no time and no name
	if err != nil {
		return err
	}
	w := tar.NewWriter(z)
	write := func(h tar.Header, r io.Reader) error {
		if err := w.WriteHeader(&h); err != nil {
			return err
		}
		_, err := io.Copy(w, r)
		return err
	}
	err = write(tar.Header{Name: path.Join(folder, "INSTALL"), Mode: 0o644, Size: int64(len(words)), ModTime: at, Typeflag: tar.TypeReg}, bytes.NewReader(words))
	if err != nil {
		return err
	}
	err = files(from, "data.tar.gz", func(h *tar.Header, r io.Reader) error {
		name := path.Join(folder, h.Name) //nolint:gosec // nothing is unpacked here
		if h.Typeflag == tar.TypeDir {
			name += "/"
		}
		return write(tar.Header{Name: name, Mode: h.Mode, Size: h.Size, ModTime: at, Typeflag: h.Typeflag}, r)
	})
	if err != nil {
		return err
	}
	if err := errors.Join(w.Close(), z.Close()); err != nil {
		return err
	}
	return os.WriteFile(to, out.Bytes(), 0o644) //nolint:gosec // for everybody to read
}
