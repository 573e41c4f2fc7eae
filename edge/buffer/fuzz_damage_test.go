package buffer

import (
	"bytes"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"testing"
	"time"

	"plantmesh/proto/mesh"
	"plantmesh/proto/strict"
)

// smallSegment is less than the configuration allows: what is damaged must be
// copied each time.
const smallSegment = 64 << 10

func openSmall(dir string) (*Buffer, error) {
	cfg := Config{Dir: dir, Log: testLog, MaxBytes: 16 * smallSegment, SegmentBytes: smallSegment, Keep: new(strict.Duration), Policy: PolicyBlock, Now: time.Now}
	return open(cfg, folder{dir: dir, size: smallSegment}, func() (int64, error) { return 1 << 40, nil }, quiet())
}

// kept is a folder as an agent left it, in memory.
type kept struct {
	names   []string // of the files that are damaged: segments, the newest last, and the catalogue
	files   map[string][]byte
	records map[mesh.Position][]byte // those that stand in segments
	order   []mesh.Position          // the same, in the order of the log
	had     []mesh.Record            // the reader has these
}

// keepSmall fills three segments and begins a fourth, over several runs, with
// records of a page and of many, states and a reader.
func keepSmall(f *testing.F) *kept {
	f.Helper()
	dir := f.TempDir()
	k := &kept{files: map[string][]byte{}, records: map[mesh.Position][]byte{}}
	var b *Buffer
	h := newHub()
	var early mesh.Position
	done := func() bool {
		n := len(b.pieces)
		return n > 3 && b.pieces[n-1].last > b.pieces[n-1].first+5
	}
	for i := 0; b == nil || !done(); i++ {
		if i%25 == 0 { // each run begins a new epoch
			if b != nil {
				check(f, b.Close())
			}
			var err error
			b, err = openSmall(dir)
			check(f, err)
		}
		n := []int{20, 150, 1500}[i%3]
		o := offer(f, []string{"line1", "line2"}[i%2], mesh.Nanos(i+1)*1e6, n)
		o.State = bytes.Repeat([]byte{byte(i)}, []int{30, 700}[i%2])
		at := mustAppend(f, b, o)
		switch i {
		case 15, 30: // it is told to be lost, and passed over
			check(f, b.Quarantine(at, "the reader can't take it"))
		case 18:
			early = at
		case 33: // and told in another segment
			check(f, b.Quarantine(early, "the reader can't take it"))
		case 10:
			k.had = all(f, b)
			_, err := b.Ack(h.receipt(at))
			check(f, err)
		}
	}
	for _, r := range all(f, b) {
		k.records[r.At] = bytes.Clone(r.Sealed)
		k.order = append(k.order, r.At)
	}
	for _, p := range b.pieces {
		k.names = append(k.names, p.name)
	}
	k.names = append(k.names, "catalogue.jsonl")
	check(f, b.Close())
	for _, name := range k.names {
		raw, err := os.ReadFile(filepath.Join(dir, name))
		check(f, err)
		k.files[name] = raw
	}
	return k
}

// hurt is one byte that is another.
type hurt struct {
	file string
	at   int
	bits byte
}

// hurts reads damage: five bytes each, the file, where in it, and the bits that
// turn over.
func (k *kept) hurts(damage []byte) (out []hurt) {
	for ; len(damage) >= 5 && len(out) < 8; damage = damage[5:] {
		h := hurt{file: k.names[int(damage[0])%len(k.names)], bits: damage[4]}
		h.at = (int(damage[1]) | int(damage[2])<<8 | int(damage[3])<<16) % len(k.files[h.file])
		out = append(out, h)
	}
	return out
}

// hit is damage in that form.
func hit(file, at int, bits byte) []byte {
	return []byte{byte(file), byte(at), byte(at >> 8), byte(at >> 16), bits}
}

// lay puts the folder down, with damage.
func (k *kept) lay(t *testing.T, dir string, all []hurt) {
	t.Helper()
	files := maps.Clone(k.files)
	for _, h := range all {
		file := bytes.Clone(files[h.file])
		file[h.at] ^= h.bits
		files[h.file] = file
	}
	for name, file := range files {
		check(t, os.WriteFile(filepath.Join(dir, name), file, 0o600))
	}
}

// FuzzBuffer_Damage turns over bits anywhere in a real folder. No process ends,
// nothing hangs, and each record is read as it was or is said to be lost.
func FuzzBuffer_Damage(f *testing.F) {
	k := keepSmall(f)
	more := offer(f, "line1", 1<<50, 10)
	f.Add([]byte{})
	for file, name := range k.names {
		last := (len(k.files[name]) - 1) / pageBytes
		for _, page := range []int{0, 1, 2, 5, last - 1, last} {
			if page < 0 || page > last {
				continue
			}
			f.Add(hit(file, page*pageBytes+8+2*(page%2), 1))    // its flags, or its count
			f.Add(hit(file, page*pageBytes+24+4*(page%2), 1))   // a child, or a key's length
			f.Add(hit(file, page*pageBytes+300+10*(page%2), 4)) // a key, or what it stands for
		}
	}
	n := 0
	f.Fuzz(func(t *testing.T, damage []byte) {
		if n++; n%256 == 0 {
			runtime.GC() // closes the files of handles that must not be closed
		}
		dir, all := t.TempDir(), k.hurts(damage)
		k.lay(t, dir, all)
		// What stands in two files is not lost by what happens to one.
		one := !slices.ContainsFunc(all, func(h hurt) bool { return h.file != all[0].file })
		within(t, "reading", func() {
			if took := allocated(func() { k.judge(t, dir, one, more) }); took > 64<<20 {
				t.Errorf("%d bytes of memory taken", took)
			}
		})
	})
}

// judge opens a damaged folder and reads all of it; if whole, nothing may be
// missing that nobody tells of.
func (k *kept) judge(t *testing.T, dir string, whole bool, more mesh.Offer) {
	t.Helper()
	b, err := openSmall(dir)
	if err != nil {
		t.Errorf("it does not open: %v", err)
		return
	}
	have := &mesh.Account{Log: testLog}
	_, openings, _, err := b.Outset()
	check(t, err)
	for _, x := range slices.Concat(openings[:1], k.had, openings[1:]) {
		add(t, have, x)
	}
	seen := map[mesh.Position]bool{}
	var after mesh.Position
	var said []mesh.Void
	for range 1000 {
		rs, err := b.Peek(after, 100<<10)
		if err != nil {
			t.Errorf("peek behind %s: %v", after, err)
			break
		}
		if len(rs) == 0 {
			break
		}
		for _, x := range rs {
			if was, ok := k.records[x.At]; ok && !bytes.Equal(was, x.Sealed) {
				t.Errorf("%s is read otherwise", x.At)
			}
			if seen[x.At] {
				t.Errorf("%s is read twice", x.At)
			}
			seen[x.At] = true
			add(t, have, x)
		}
		said = append(said, voidsOf(t, rs)...)
		after = rs[len(rs)-1].At
	}
	if through := have.Set.Through; through != b.End() || len(have.Set.Islands) > 0 {
		t.Errorf("a reader ends at %s %v, the log at %s", through, have.Set.Islands, b.End())
	}
	if lost := k.lost(seen, said); whole && len(lost) > 0 {
		n := len(lost)
		t.Errorf("%d of %d records are neither read nor said to be lost: %v", n, len(k.records), lost[:min(4, n)])
	}
	at, err := b.Append(t.Context(), []mesh.Offer{more})
	if err != nil {
		t.Errorf("append: %v", err)
	} else if rs, err := b.Peek(mesh.Position{Log: testLog, Epoch: at[0].Epoch, Seq: at[0].Seq - 1}, 1); err != nil || len(rs) != 1 || !bytes.Equal(rs[0].Sealed, more.Sealed[0]) {
		t.Errorf("what was appended then reads as %d records, %v", len(rs), err)
	}
	if err := b.Close(); err != nil {
		t.Error(err)
	}
}

// told reports whether a void names a position. That the log went on from before
// it tells a reader nothing of what it never had.
func told(said []mesh.Void, at mesh.Position) bool {
	for _, v := range said {
		for _, r := range v.Lost {
			if r.Epoch == at.Epoch && r.First <= at.Seq && at.Seq <= r.Last {
				return true
			}
		}
	}
	return false
}

func has(rs []mesh.Record, at mesh.Position) bool {
	return slices.ContainsFunc(rs, func(r mesh.Record) bool { return r.At == at })
}

// lost are the records that are neither read, nor the reader's, nor told to be
// lost, in the order of the log.
func (k *kept) lost(seen map[mesh.Position]bool, said []mesh.Void) (out []mesh.Position) {
	for _, at := range k.order {
		if !seen[at] && !told(said, at) && !has(k.had, at) {
			out = append(out, at)
		}
	}
	return out
}

// FuzzDisk_Walk turns over bits of one segment with branches, inline buckets and
// pages of before, and has it continued: it is refused, or records go in and
// come out, and it can be walked again. bbolt looks for free pages where no
// guard reaches: what the walk lets pass must not end the process.
func FuzzDisk_Walk(f *testing.F) {
	seed := folder{dir: f.TempDir(), size: smallSegment}
	k := &kept{names: []string{"1.seg"}, files: map[string][]byte{"1.seg": sampleSegment(f, seed)}}
	for page := range 12 { // the root, branches, and some leaves
		for _, at := range []int{0, 8, 10, 12, 16, 20, 24, 28, 300} {
			f.Add(hit(0, page*pageBytes+at, 1))
		}
	}
	record := bytes.Repeat([]byte("record"), 900)
	n := 0
	f.Fuzz(func(t *testing.T, damage []byte) {
		if n++; n%256 == 0 {
			runtime.GC() // closes the files of handles that must not be closed
		}
		d := folder{dir: t.TempDir(), size: smallSegment}
		k.lay(t, d.dir, k.hurts(damage))
		within(t, "the walk", func() {
			if took := allocated(func() { continueSegment(t, d, record) }); took > 16<<20 {
				t.Errorf("%d bytes of memory taken", took)
			}
		})
	})
}

// continueSegment writes records into a segment and reads them.
func continueSegment(t *testing.T, d folder, record []byte) {
	t.Helper()
	s, err := d.Open("1.seg", modeAppend)
	if err != nil {
		if !errors.Is(err, errDamaged) {
			t.Errorf("it is refused as %v", err)
		}
		return
	}
	const from = 1 << 40
	for i := range uint64(3) {
		_, err := s.Update(func(x tx) error {
			return errors.Join(x.Put(spaceRecord, keyOf(from+i), record), put(x, spaceState, []byte("a"), record[:400*i]), put(x, spaceWide, []byte("b"), record))
		})
		if err != nil {
			if !errors.Is(err, errDamaged) {
				t.Errorf("a record is refused as %v", err)
			}
			return // not closed: its locks may be held for ever
		}
	}
	err = s.View(func(x tx) error {
		for i := range uint64(3) {
			if got := x.Get(spaceRecord, keyOf(from+i)); !bytes.Equal(got, record) {
				t.Errorf("record %d of %d bytes reads as %d", i, len(record), len(got))
			}
		}
		x.Scan(spaceRecord, nil, func(_, _ []byte) bool { return true })
		return nil
	})
	if err != nil {
		if !errors.Is(err, errDamaged) {
			t.Errorf("it reads as %v", err)
		}
		return
	}
	check(t, s.Close())
	if err := d.walk(d.path("1.seg"), false); err != nil {
		t.Errorf("what was continued can't be walked: %v", err)
	}
}
