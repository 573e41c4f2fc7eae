package torture

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"plantmesh/firmware-sim/ledger"
	"plantmesh/firmware-sim/plant"
	"plantmesh/proto/mesh"
)

// small segments, so that a few seconds fill several.
const smallSegments = "max_bytes: 64MiB, segment_bytes: 1MiB"

// wound is a chain whose agent's buffer is damaged.
type wound struct {
	*rig

	had  map[string]bool // rows the hub had before
	lost []held          // records that the damage may cost
	pid  int             // of the agent since it came up beside the damage
	// before is how much it had said until then.
	before int
}

// wounded makes a chain with sources that fill segments.
func (x *trial) wounded() *wound {
	x.Helper()
	w := &wound{rig: x.rig(options{sources: x.bulky(), buffer: smallSegments}), had: map[string]bool{}}
	w.flow()
	return w
}

func rowKey(signal string, at int64) string { return fmt.Sprint(signal, " ", at) }

// hoard cuts the link until some segments of what the hub lacks have filled.
func (w *wound) hoard(more int) {
	w.Helper()
	w.link.Cut(true)
	s, ok := w.status()
	w.await("segments fill", time.Minute, func() bool {
		now, answered := w.status()
		return ok && answered && now.Buffer.Segments >= s.Buffer.Segments+more && now.Buffer.Pending > 20
	})
	rows, err := w.allRows()
	if err != nil {
		w.Fatal(err)
	}
	for _, row := range rows {
		w.had[rowKey(row.signal, row.at)] = true
	}
}

// lacking are the records of a segment of which the hub has no sample; there
// must be some.
func (w *wound) lacking(records []held) []held {
	w.Helper()
	out := w.unseen(records)
	if len(out) == 0 {
		w.Fatalf("the hub lacks none of %d records: nothing would be tested", len(records))
	}
	return out
}

// unseen are those of these records of which the hub has no sample.
func (w *wound) unseen(records []held) (out []held) {
	newest := map[string]mesh.Nanos{}
	for _, s := range w.o.sources {
		newest[s.id] = mesh.Nanos(w.newest(s.equipment()).UnixNano())
	}
	for _, h := range records {
		if h.header.Kind == mesh.KindBatch && h.header.Count > 0 && h.header.Times.From > newest[h.header.About] {
			out = append(out, h)
		}
	}
	return out
}

// told reports whether devices were told that some of these records are received:
// of a sample behind a record's first time, because the one before it may end there.
func (w *wound) told(records []held) bool {
	book, err := ledger.Read(w.load.path)
	if err != nil {
		w.Fatal(err)
	}
	for _, h := range records {
		for _, e := range book.Emitted[h.header.About] {
			if h.has(e) && mesh.Nanos(e.Time.UnixNano()) > h.header.Times.From && told(book.Received[e.Source], e.Index) {
				return true
			}
		}
	}
	return false
}

// has reports whether a sample may stand in a record.
func (h held) has(e plant.Emission) bool {
	at := mesh.Nanos(e.Time.UnixNano())
	return h.header.About == e.Source && h.header.Times.From <= at && at <= h.header.Times.To
}

// pick is one of the segments all of which the hub lacks: the newest, or one
// before it.
func (w *wound) pick(newest bool) *segmentFile {
	all := w.segments()
	if newest {
		return all[len(all)-1]
	}
	return all[len(all)-2]
}

// filled is pick, and what the hub lacks of it. The newest may just have been made
// and hold nothing: then it is the one before it.
func (w *wound) filled(newest bool) (s *segmentFile, lacks []held, last bool) {
	w.Helper()
	if newest {
		s = w.pick(true)
		if lacks = w.unseen(s.must(w.T, s.newest()).records); len(lacks) > 0 {
			return s, lacks, true
		}
	}
	s = w.pick(false)
	return s, w.lacking(s.must(w.T, s.newest()).records), false
}

// up starts the agent and waits until it says something about the damage.
func (w *wound) up(words ...string) {
	w.Helper()
	w.before = len(w.edge.said())
	w.edge.start()
	w.pid = w.edge.pid()
	w.saying(words...)
}

// saying waits until the agent has said all these words in one line since it began.
func (w *wound) saying(words ...string) {
	w.Helper()
	w.await("the agent says: "+strings.Join(words, " ... "), 30*time.Second, func() bool {
		for line := range strings.Lines(w.edge.said()[w.before:]) {
			n := 0
			for _, word := range words {
				if strings.Contains(line, word) {
					n++
				}
			}
			if n == len(words) {
				return true
			}
		}
		return false
	})
}

// heals lets the agent reach the hub again.
func (w *wound) heals() {
	w.Helper()
	w.link.Cut(false)
	w.mended(w.trial)
	if !w.edge.up() || w.edge.pid() != w.pid {
		w.Errorf("the agent ended beside its damaged buffer:\n%s", w.edge.tail(10))
	}
}

// ends compares: missing is only what stood in the damaged records.
func (w *wound) ends() {
	w.Helper()
	w.settle(string(mesh.CauseDamaged))
	w.mustMiss(func(e plant.Emission) bool {
		if w.had[rowKey(e.Signal, e.Time.UnixNano())] {
			return false
		}
		return slices.ContainsFunc(w.lost, func(h held) bool { return h.has(e) })
	})
}

// noise is so many random bytes.
func (x *trial) noise(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(x.luck.Uint32())
	}
	return b
}

// d08 flips a bit of a record that the hub lacks: that record is gone, and
// nothing else.
func d08(x *trial) {
	w := x.wounded()
	for range x.rounds {
		w.hoard(2)
		w.edge.kill()
		s, all, _ := w.filled(x.luck.IntN(2) == 0)
		h := all[x.luck.IntN(len(all))]
		e := h.pieces[x.luck.IntN(len(h.pieces))]
		at := e.at + x.luck.IntN(e.size)
		s.write(x.T, at, []byte{s.b[at] ^ 1<<x.luck.IntN(8)})
		w.lost = append(w.lost, h)
		w.up("agent is up")
		w.heals()
		w.saying("record quarantined", "its checksum is wrong")
	}
	w.ends()
}

// d09 puts garbage into a page that is free, which costs nothing, and then into
// one that leads to a segment's records, which costs that segment.
func d09(x *trial) {
	w := x.wounded()
	for range x.rounds {
		w.hoard(2)
		w.edge.kill()
		s := w.pick(true)
		t := s.must(x.T, s.newest())
		free := uint64(0)
		for p := uint64(2); p < t.pages; p++ {
			if !t.used[p] {
				free = p
			}
		}
		if free == 0 {
			x.Fatal("the segment has no free page")
		}
		s.write(x.T, int(free)*pageBytes, x.noise(pageBytes))
		w.up("agent is up")
		w.heals()
		if said := w.edge.said(); strings.Contains(said, "set aside") || strings.Contains(said, "not continued") {
			x.Errorf("garbage in a free page is taken for damage:\n%s", w.edge.tail(20))
		}
		w.hoard(2)
		w.edge.kill()
		s, lacks, _ := w.filled(x.luck.IntN(2) == 0)
		t = s.must(x.T, s.newest())
		w.lost = append(w.lost, lacks...)
		if len(t.branches) == 0 {
			x.Fatalf("%s has no branch", s.path)
		}
		s.write(x.T, int(t.branches[x.luck.IntN(len(t.branches))])*pageBytes, x.noise(pageBytes))
		w.up("segment set aside", filepath.Base(s.path))
		w.heals()
	}
	w.ends()
}

// d10 puts garbage into the page that names the newest root: the last commit is
// gone, and only that.
func d10(x *trial) {
	w := x.wounded()
	for range x.rounds {
		w.hoard(1)
		var s *segmentFile
		var gone []held
		for range 50 { // until the last commit was one of records that devices were told of
			w.edge.kill()
			s = w.pick(true)
			now := s.must(x.T, s.newest())
			before, err := s.tree(1 - s.newest()) // a commit under way may have begun to write over it
			if gone = now.records[min(len(before.records), len(now.records)):]; err == nil && w.told(w.unseen(gone)) {
				break
			}
			gone = nil
			w.edge.start()
			pause(x.between(time.Second, 2*time.Second))
		}
		if len(gone) == 0 {
			x.Fatal("no last commit had what devices were told of and the hub lacks")
		}
		w.lost = append(w.lost, gone...)
		s.write(x.T, int(s.newest())*pageBytes, x.noise(pageBytes))
		w.up("damaged") // the segment, which may have had that commit alone; a filled one lacks a record
		w.heals()
	}
	w.ends()
}

// d11 puts garbage into both pages that name a root.
func d11(x *trial) {
	w := x.wounded()
	for range x.rounds {
		w.segmentLost(x.luck.IntN(2) == 0, func(x *trial, s *segmentFile) { s.write(x.T, 0, x.noise(2*pageBytes)) })
	}
	w.ends()
}

// d12 cuts a file to 60 % of what is used of it, while the agent is down and
// while it runs.
func d12(x *trial) {
	w := x.wounded()
	for range x.rounds {
		w.segmentLost(x.luck.IntN(2) == 0, sixtyPercent)
		w.hoard(2)
		w.pid, w.before = w.edge.pid(), len(w.edge.said())
		w.edge.signal(syscall.SIGSTOP) // so that what is read is one moment's
		s, lost, newest := w.filled(x.luck.IntN(2) == 0)
		sixtyPercent(x, s)
		w.edge.signal(syscall.SIGCONT)
		pause(x.between(0, time.Second))
		w.heals()
		w.saying("segment set aside", filepath.Base(s.path))
		if newest { // until it was noticed more went the same way
			for _, s := range w.o.sources {
				lost = append(lost, held{header: mesh.Header{About: s.id, Times: mesh.Span{From: lost[0].header.Times.From, To: mesh.Nanos(time.Now().UnixNano())}}})
			}
		}
		w.lost = append(w.lost, lost...)
	}
	w.ends()
}

func sixtyPercent(x *trial, s *segmentFile) {
	cutFile(x, s.path, int(s.must(x.T, s.newest()).pages)*pageBytes*6/10)
}

// d13 leaves nothing of the newest file.
func d13(x *trial) {
	w := x.wounded()
	for range x.rounds {
		w.segmentLost(true, func(x *trial, s *segmentFile) { cutFile(x, s.path, 0) })
	}
	w.ends()
}

func cutFile(x *trial, path string, size int) {
	x.Helper()
	if err := os.Truncate(path, int64(size)); err != nil {
		x.Fatal(err)
	}
}

// segmentLost hurts a segment while the agent is down, so that all of it is lost.
func (w *wound) segmentLost(newest bool, hurt func(*trial, *segmentFile)) {
	w.Helper()
	w.hoard(2)
	w.edge.kill()
	s, lacks, _ := w.filled(newest)
	w.lost = append(w.lost, lacks...)
	hurt(w.trial, s)
	w.up("segment set aside", filepath.Base(s.path))
	w.heals()
}
