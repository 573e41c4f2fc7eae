package buffer

import (
	"bytes"
	"encoding/binary"
	"slices"

	"go.etcd.io/bbolt"
)

// bbolt splits a leaf page only when it holds more than four keys, and writes
// anew what already stood in it: records of nearly a page each lie in leaves of
// sixteen kilobytes that every commit writes again. So a record is cut into
// pieces of at most a quarter page, and so that the pages fill.
//
// How full the last page is, is followed here and not asked: bbolt tells
// nobody. After a restart it is not known, and a few pages of that segment fill
// less; nothing else depends on it.

// Sizes of bbolt's pages (its internal/common: page header, leaf element).
const (
	pageHeader  = 16
	leafElement = 16
	leafKeys    = 4 // a page with no more keys is never split
)

// leastPiece is the smallest piece that is worth its key.
const leastPiece = 64

// leaf is what is followed of the last leaf page.
type leaf struct {
	page int // bytes of a page
	used int
	keys int
}

// cut returns the lengths of the pieces of a record of n bytes under this key.
func (l *leaf) cut(key []byte, n int) (lengths []int) {
	for n > 0 || len(lengths) == 0 {
		beside := leafElement + len(pieceKey(key, len(lengths)))
		room := l.page - l.used - beside
		if room < min(n, leastPiece) {
			l.used, l.keys = pageHeader, 0
			room = l.page - l.used - beside
		}
		most := (l.page-pageHeader)/leafKeys - beside
		size := min(n, most, room)
		// bbolt leaves at least three keys behind the last page it splits off.
		if least := leafKeys - 1; n == size && l.keys+1 < least && len(lengths) > 0 && n > leastPiece {
			size = (n + least - l.keys - 1) / (least - l.keys)
		}
		l.used += beside + size
		l.keys++
		lengths = append(lengths, size)
		n -= size
	}
	return lengths
}

// pieceKey is the key of piece number n of the record with this key: the first
// has the record's own, the others follow it in order.
func pieceKey(key []byte, n int) []byte {
	switch {
	case n == 0:
		return key
	case n < 0x80:
		return append(slices.Clip(key), byte(n))
	}
	return binary.BigEndian.AppendUint16(slices.Clip(key), 0x8000|uint16(n))
}

// pieceOf is the record's key in the key of one of its pieces.
func pieceOf(key []byte) []byte { return key[:min(len(key), indexBytes)] }

// mostRecord is more than any record takes. A damaged page may say any length, up
// to 4 GiB: who copies what it says ends the process. What is cut has a wrong
// checksum, as it had before.
const mostRecord = maxSealed + pageBytes

// scanRecords puts records together from their pieces.
func (t boltTx) scanRecords(c *bbolt.Cursor, from []byte, fn func(k, v []byte) bool) {
	for k, v := c.Seek(from); k != nil; {
		record, whole, own := pieceOf(k), t.within(v), false
		for k, v = c.Next(); k != nil && bytes.Equal(pieceOf(k), record); k, v = c.Next() {
			if len(whole)+len(v) > mostRecord {
				continue
			}
			if !own {
				whole, own = append(make([]byte, 0, 2*pageBytes), whole...), true
			}
			whole = append(whole, v...)
		}
		if len(whole) > mostRecord {
			whole = whole[:0]
		}
		if !fn(record, whole) {
			return
		}
	}
}

// within is what stands in a page, or nothing of it where it is longer than its file.
func (t boltTx) within(b []byte) []byte {
	if int64(len(b)) > t.t.Size() {
		return b[:0]
	}
	return b
}
