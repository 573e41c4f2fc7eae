package buffer

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
)

// bbolt names the roots of its trees in the first two pages in turn, and takes
// the older one where the newer can't be read: the last commit is then gone
// without a word. A power cut does not do that, since what counts of such a page
// lies in its first sector. So a segment with a damaged one is not continued, and
// something may be missing in it.

// Of such a page, behind its header: magic 4, version 4, page size 4, flags 4,
// root 16, freelist 8, pages 8, transaction 8, checksum 8.
const (
	metaFreelist = pageHeader + 32
	metaNumber   = pageHeader + 48
	metaSum      = pageHeader + 56
	metaBytes    = pageHeader + 64
	noFreelist   = 1<<64 - 1
)

// heads looks at both pages: errBack where one is damaged. One that names a
// written freelist is of before decision 19: bbolt would believe it.
func (w *walk) heads() error {
	newest, list := uint64(0), uint64(noFreelist)
	for i := range int64(firstPage) {
		b := make([]byte, metaBytes)
		if _, err := w.file.ReadAt(b, i*int64(w.page)); err != nil && !errors.Is(err, io.EOF) {
			return fmt.Errorf("page %d: %w", i, err)
		}
		sum := fnv.New64a()
		_, _ = sum.Write(b[pageHeader:metaSum]) // never fails
		if sum.Sum64() != binary.NativeEndian.Uint64(b[metaSum:]) {
			return fmt.Errorf("%w: page %d names no root", errBack, i)
		}
		if n := binary.NativeEndian.Uint64(b[metaNumber:]); n >= newest {
			newest, list = n, binary.NativeEndian.Uint64(b[metaFreelist:])
		}
	}
	if list != noFreelist {
		return fmt.Errorf("its free pages are written in it, which can't be checked")
	}
	return nil
}
