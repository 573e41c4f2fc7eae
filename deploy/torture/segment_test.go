package torture

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"plantmesh/proto/mesh"
	"plantmesh/proto/wire"
)

// What lies where in a segment of the agent's buffer, so that a case can damage
// just what it means to. The layout of pages is bbolt's (edge/buffer/check.go).

// pageBytes is the size of a page.
const pageBytes = 4096

// segmentFile is a segment as it lies on the disk.
type segmentFile struct {
	path string
	b    []byte
}

// element is one of a page: its key, and where its value lies in the file.
type element struct {
	key      []byte
	page     uint64 // where it stands
	child    uint64 // of a branch
	at, size int    // of a leaf
}

// held is a record in a segment.
type held struct {
	index  uint64
	header mesh.Header
	pieces []element // of which it consists
}

// tree is what one of the two roots leads to.
type tree struct {
	records  []held
	branches []uint64        // pages of the records' tree
	used     map[uint64]bool // all pages
	pages    uint64          // that were ever given out
}

// segments are the agent's, oldest first. It must not run.
func (r *rig) segments() (out []*segmentFile) {
	r.Helper()
	names, err := filepath.Glob(filepath.Join(r.edgeData, "buffer", "*.seg"))
	if err != nil || len(names) == 0 {
		r.Fatalf("no segments: %v", err)
	}
	slices.Sort(names)
	for _, n := range names {
		b, err := os.ReadFile(n)
		if err != nil {
			r.Fatal(err)
		}
		out = append(out, &segmentFile{n, b})
	}
	return out
}

func number64(b []byte) uint64 { return binary.NativeEndian.Uint64(b) }
func number32(b []byte) int    { return int(binary.NativeEndian.Uint32(b)) }

// newest is the page that names the newest root: 0 or 1.
func (s *segmentFile) newest() uint64 {
	const transaction = 64
	if number64(s.b[transaction:]) > number64(s.b[pageBytes+transaction:]) {
		return 0
	}
	return 1
}

// tree walks what a root page (0 or 1) leads to.
func (s *segmentFile) tree(meta uint64) (t tree, err error) {
	defer func() {
		if p := recover(); p != nil { // a page reaches beyond the file
			err = fmt.Errorf("read %s: %v", filepath.Base(s.path), p)
		}
	}()
	head := s.b[meta*pageBytes:]
	t.used = map[uint64]bool{}
	t.pages = number64(head[56:])
	for _, e := range s.leaves(number64(head[32:]), &t, false) {
		root := number64(s.b[e.at:])
		if string(e.key) != "record" {
			if root != 0 {
				s.leaves(root, &t, false)
			}
			continue
		}
		var inside []element
		if root == 0 {
			inside = s.elements(e.at+16, e.page)
		} else {
			inside = s.leaves(root, &t, true)
		}
		if t.records, err = s.records(inside); err != nil {
			return t, err
		}
	}
	return t, nil
}

// leaves are the elements of all leaves below a page.
func (s *segmentFile) leaves(page uint64, t *tree, records bool) (out []element) {
	p := s.b[page*pageBytes:]
	for i := range uint64(number32(p[12:]) + 1) {
		t.used[page+i] = true
	}
	inside := s.elements(int(page*pageBytes), page)
	if s.b[page*pageBytes+8]&1 == 0 {
		return inside
	}
	if records {
		t.branches = append(t.branches, page)
	}
	for _, e := range inside {
		out = append(out, s.leaves(e.child, t, records)...)
	}
	return out
}

// elements are those of the page, or of the bucket in a value, at this place.
func (s *segmentFile) elements(at int, page uint64) (out []element) {
	branch := s.b[at+8]&1 != 0
	for i := range int(binary.NativeEndian.Uint16(s.b[at+10:])) {
		place := at + 16 + i*16
		w := s.b[place:]
		e := element{page: page}
		if branch {
			key := place + number32(w)
			e.key, e.child = s.b[key:key+number32(w[4:])], number64(w[8:])
		} else {
			key := place + number32(w[4:])
			e.at, e.size = key+number32(w[8:]), number32(w[12:])
			e.key = s.b[key:e.at]
		}
		out = append(out, e)
	}
	return out
}

// records puts records together from their pieces.
func (s *segmentFile) records(pieces []element) (out []held, err error) {
	for len(pieces) > 0 {
		key := pieces[0].key[:8]
		n := slices.IndexFunc(pieces, func(e element) bool { return string(e.key[:8]) != string(key) })
		if n < 0 {
			n = len(pieces)
		}
		h := held{index: binary.BigEndian.Uint64(key), pieces: pieces[:n]}
		var whole []byte
		for _, e := range pieces[:n] {
			whole = append(whole, s.b[e.at:e.at+e.size]...)
		}
		_, frame, _, err := wire.Next(whole)
		if err != nil {
			return nil, fmt.Errorf("record %d: %w", h.index, err)
		}
		rec, err := wire.ParseRecord(frame)
		if err != nil {
			return nil, fmt.Errorf("record %d: %w", h.index, err)
		}
		if h.header, err = wire.ParseHeader(rec.Sealed); err != nil {
			return nil, fmt.Errorf("record %d: %w", h.index, err)
		}
		out, pieces = append(out, h), pieces[n:]
	}
	return out, nil
}

// must is tree where it has to be whole.
func (s *segmentFile) must(t *testing.T, meta uint64) tree {
	t.Helper()
	out, err := s.tree(meta)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// write puts bytes at a place of the file.
func (s *segmentFile) write(t *testing.T, at int, b []byte) {
	t.Helper()
	f, err := os.OpenFile(s.path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt(b, int64(at)); err != nil {
		t.Fatal(err)
	}
	if err := f.Sync(); err != nil {
		t.Fatal(err)
	}
}
