package buffer

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// bbolt finds the free pages of a file again by walking its trees, in a
// goroutine of its own where a damaged page ends the whole process. So a
// segment that is to be continued is walked here first: each page once, within
// its bounds, no deeper than trees can be.
//
// bbolt's file (version 2, unchanged since 2014): all numbers in the machine's
// own byte order. A page is a header (number 8, flags 2, elements 2, pages
// that belong to it beyond the first 4) and elements of 16 bytes, each with the
// distance from itself to its key: of a branch (distance 4, key 4, child 8), of
// a leaf (flags 4, distance 4, key 4, value 4). A bucket is a value: root page
// 8, sequence 8, and where the root is 0 a leaf that stands behind it.
const (
	branchFlag = 1
	leafFlag   = 2
	bucketFlag = 1
	bucketHead = 16
	firstPage  = 2  // behind the two that name the roots
	deepest    = 32 // trees of a segment have 3 or 4 levels
)

// walk is one look at all pages that a segment's root leads to.
type walk struct {
	file io.ReaderAt
	page int
	seen []bool // by page; those at and beyond its length were never given out
}

// span is where the keys of a tree lie; nil: without bound.
type span struct{ from, before []byte }

// tree walks the tree below a page: of the root, whose values are buckets, or
// of one of those, whose values are not.
func (w *walk) tree(id uint64, root bool, keys span, depth int) error {
	p, err := w.read(id, depth)
	if err != nil {
		return err
	}
	leaf := flagsOf(p) == leafFlag
	inside, err := elementsOf(p, leaf, keys)
	if err != nil {
		return fmt.Errorf("page %d: %w", id, err)
	}
	for i, e := range inside {
		switch {
		case leaf && (e.flags == bucketFlag) != root, e.flags > bucketFlag:
			err = fmt.Errorf("page %d: element %d has flags %#x", id, i, e.flags)
		case leaf && root:
			if err = w.bucket(e.value, depth+1); errors.Is(err, errEnd) && string(e.key) == string(spaceRecord) {
				err = fmt.Errorf("%w: %w", errBack, err)
			}
		case leaf:
		default:
			below := span{e.key, keys.before}
			if i+1 < len(inside) {
				below.before = inside[i+1].key
			}
			err = w.tree(e.child, root, below, depth+1)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// elementsOf are the keys of a page of its own: an empty space stands in its value.
func elementsOf(p []byte, leaf bool, keys span) ([]element, error) {
	inside, err := elements(p, leaf, keys)
	if err == nil && len(inside) == 0 {
		err = errors.New("it is empty")
	}
	if err != nil && keys.before == nil {
		err = fmt.Errorf("%w: %w", errEnd, err)
	}
	return inside, err
}

// bucket walks what stands behind a bucket's value.
func (w *walk) bucket(value []byte, depth int) error {
	if len(value) < bucketHead {
		return fmt.Errorf("a bucket of %d bytes", len(value))
	}
	if page := binary.NativeEndian.Uint64(value); page != 0 {
		return w.tree(page, false, span{}, depth)
	}
	inline := value[bucketHead:]
	if len(inline) < pageHeader || flagsOf(inline) != leafFlag {
		return fmt.Errorf("a bucket whose values are no leaf")
	}
	inside, err := elements(inline, true, span{})
	if err != nil {
		err = fmt.Errorf("%w: %w", errEnd, err)
	}
	for i, e := range inside {
		if e.flags != 0 {
			return fmt.Errorf("element %d of an inline bucket has flags %#x", i, e.flags)
		}
	}
	return err
}

// outline looks only at where pages lead to, which is enough for reading: a
// circle would have bbolt go round until its stack ends the process. All else
// that is wrong in a page shows when it is read.
func (w *walk) outline(id uint64, root bool, depth int) error {
	head, more, err := w.head(id, depth)
	if err != nil || flagsOf(head) == leafFlag && !root {
		return err
	}
	p, err := w.body(id, more)
	if err != nil {
		return err
	}
	n := int(binary.NativeEndian.Uint16(p[10:]))
	if pageHeader+n*leafElement > len(p) {
		return fmt.Errorf("page %d: %d elements in %d bytes", id, n, len(p))
	}
	for i := range n {
		b := p[pageHeader+i*leafElement:]
		child, below := binary.NativeEndian.Uint64(b[8:]), root
		if flagsOf(p) == leafFlag {
			below = false
			if child, err = bucketAt(b); err != nil {
				return fmt.Errorf("page %d: element %d: %w", id, i, err)
			}
		}
		if child == 0 {
			continue
		}
		if err := w.outline(child, below, depth+1); err != nil {
			return err
		}
	}
	return nil
}

// bucketAt is the page that a bucket's element of the root names; 0: the bucket
// stands in its value.
func bucketAt(b []byte) (page uint64, err error) {
	distance, key, value := uint64(binary.NativeEndian.Uint32(b[4:])), uint64(binary.NativeEndian.Uint32(b[8:])), uint64(binary.NativeEndian.Uint32(b[12:]))
	if distance+key+max(value, bucketHead) > uint64(len(b)) { // bbolt copies some of them
		return 0, errors.New("it reaches beyond the page")
	}
	return binary.NativeEndian.Uint64(b[distance+key:]), nil
}

// read is a page with those that belong to it, none of which was met before.
func (w *walk) read(id uint64, depth int) ([]byte, error) {
	_, more, err := w.head(id, depth)
	if err != nil {
		return nil, err
	}
	return w.body(id, more)
}

// head is the header of a page that was not met before, and how many pages
// more belong to it.
func (w *walk) head(id uint64, depth int) (head []byte, more uint64, err error) {
	head = make([]byte, pageHeader)
	if id < firstPage || id >= uint64(len(w.seen)) || depth > deepest {
		return nil, 0, fmt.Errorf("page %d in depth %d, the file has %d", id, depth, len(w.seen))
	}
	if _, err := w.file.ReadAt(head, int64(id)*int64(w.page)); err != nil {
		return nil, 0, fmt.Errorf("page %d: %w", id, err)
	}
	more = uint64(binary.NativeEndian.Uint32(head[12:]))
	switch {
	case binary.NativeEndian.Uint64(head) != id:
		return nil, 0, fmt.Errorf("page %d says it is %d", id, binary.NativeEndian.Uint64(head))
	case flagsOf(head) != leafFlag && flagsOf(head) != branchFlag:
		return nil, 0, fmt.Errorf("page %d is neither branch nor leaf: %#x", id, flagsOf(head))
	case id+more >= uint64(len(w.seen)):
		return nil, 0, fmt.Errorf("page %d has %d more, the file has %d", id, more, len(w.seen))
	}
	for i := id; i <= id+more; i++ {
		if w.seen[i] {
			return nil, 0, fmt.Errorf("page %d stands in two places", i)
		}
		w.seen[i] = true
	}
	return head, more, nil
}

func (w *walk) body(id, more uint64) ([]byte, error) {
	p := make([]byte, int(more+1)*w.page)
	if _, err := w.file.ReadAt(p, int64(id)*int64(w.page)); err != nil {
		return nil, fmt.Errorf("page %d: %w", id, err)
	}
	return p, nil
}

func flagsOf(p []byte) uint16 { return binary.NativeEndian.Uint16(p[8:]) }

// element is one key of a page.
type element struct {
	key, value []byte
	child      uint64
	flags      uint32
}

// errEnd is damage at the end of a space that may hide its last keys.
var errEnd = errors.New("keys at the end may be hidden")

// elements are the keys of a page, in order and within it. bbolt packs a page:
// behind its elements lie their keys and values, without a gap. So one that says
// it has fewer than it has is found out.
func elements(p []byte, leaf bool, keys span) ([]element, error) {
	n := int(binary.NativeEndian.Uint16(p[10:]))
	if pageHeader+n*leafElement > len(p) {
		return nil, fmt.Errorf("%d elements in %d bytes", n, len(p))
	}
	out := make([]element, n)
	next := uint64(pageHeader + n*leafElement)
	for i := range out {
		at := pageHeader + i*leafElement
		b := p[at:]
		var distance, key, value uint64
		word := func(k int) uint64 { return uint64(binary.NativeEndian.Uint32(b[k:])) }
		if leaf {
			out[i].flags, distance, key, value = uint32(word(0)), word(4), word(8), word(12)
		} else {
			distance, key, out[i].child = word(0), word(4), binary.NativeEndian.Uint64(b[8:])
		}
		if distance+key+value > uint64(len(b)) {
			return nil, fmt.Errorf("element %d reaches beyond the page", i)
		}
		if uint64(at)+distance != next {
			return nil, fmt.Errorf("element %d does not stand behind the one before it", i)
		}
		next += key + value
		out[i].key, out[i].value = b[distance:distance+key], b[distance+key:distance+key+value]
		if before := i > 0 && bytes.Compare(out[i-1].key, out[i].key) >= 0; before || len(out[i].key) == 0 {
			return nil, fmt.Errorf("key %d is out of order", i)
		}
	}
	// bbolt finds a page in the branch above by its first key: another key there
	// has it write the page's place twice.
	if n > 0 && (keys.from != nil && !bytes.Equal(out[0].key, keys.from) || keys.before != nil && bytes.Compare(out[n-1].key, keys.before) >= 0) {
		return nil, fmt.Errorf("its keys lie beyond those of the branch")
	}
	return out, nil
}
