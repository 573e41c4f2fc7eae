package sim

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"plantmesh/edge/buffer"
	"plantmesh/proto/mesh"
	"plantmesh/proto/strict"
	"plantmesh/proto/wire"
)

// The models are held to what they stand for: the same script on both gives the
// same answers.

// place is where a disk lies, so that its process can be killed: whoever opens
// what is there then finds what survives.
type diskPlace interface {
	disk() buffer.Disk
	killed(t *testing.T) diskPlace
	rot(t *testing.T, name string)
}

type modelPlace struct{ d *disk }

func (p modelPlace) disk() buffer.Disk { return p.d }

func (p modelPlace) killed(*testing.T) diskPlace {
	d := p.d.image()
	d.tap = &tap{}
	d.powerLoss(0)
	return modelPlace{d}
}

func (p modelPlace) rot(_ *testing.T, name string) { p.d.files[name].damaged = true }

type folderPlace struct{ dir string }

func (p folderPlace) disk() buffer.Disk { return buffer.FolderDisk(p.dir, 1<<20) }

// killed copies the files as they stand, open as they are.
func (p folderPlace) killed(t *testing.T) diskPlace {
	t.Helper()
	to := t.TempDir()
	if err := os.CopyFS(to, os.DirFS(p.dir)); err != nil {
		t.Fatal(err)
	}
	return folderPlace{to}
}

func (p folderPlace) rot(t *testing.T, name string) {
	t.Helper()
	if err := os.Truncate(filepath.Join(p.dir, name), 5000); err != nil {
		t.Fatal(err)
	}
}

func kindOf(err error) string {
	for _, e := range []error{buffer.ErrDamaged, fs.ErrExist, fs.ErrNotExist, mesh.ErrMoved, mesh.ErrGone} {
		if errors.Is(err, e) {
			return e.Error()
		}
	}
	if err != nil {
		return "refused"
	}
	return "done"
}

// diskScript runs a seeded script and writes down all answers.
func diskScript(t *testing.T, p diskPlace, seed uint64) (out []string) {
	t.Helper()
	l := luck(seed)
	d := p.disk()
	open := map[string]buffer.Segment{}
	number, next := 0, map[string]uint64{}
	say := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	pick := func() string {
		names, err := d.Names()
		if err != nil || len(names) == 0 {
			return "00000099-0000000000000001.seg"
		}
		return names[l.below(len(names))]
	}
	for range 60 {
		switch l.below(9) {
		case 0:
			number++
			name := fmt.Sprintf("%08x-%016x.seg", 1+(number-1)%12, 1)
			s, err := d.Open(name, buffer.ModeCreate)
			say("create %s: %s", name, kindOf(err))
			if err == nil {
				open[name], next[name] = s, 0
			}
		case 1, 2, 3:
			name := pick()
			s := open[name]
			if s == nil {
				break
			}
			refuse := l.below(4) == 0
			_, err := s.Update(func(x buffer.Tx) error { return fill(x, &l, next[name], refuse) })
			say("update %s: %s", name, kindOf(err))
			if err == nil {
				next[name] += 3
			}
		case 4:
			name := pick()
			if open[name] != nil { // a file has one handle that writes, or many that read
				break
			}
			s, err := d.Open(name, buffer.ModeRead)
			say("read %s: %s", name, kindOf(err))
			if err == nil {
				say("%s", dump(s))
				_ = s.Close() // nothing was written
			}
		case 5:
			name := pick()
			if s := open[name]; s != nil {
				say("look %s: %s", name, dump(s))
			}
		case 6:
			name := pick()
			if s := open[name]; s != nil {
				say("close %s: %s", name, kindOf(s.Close()))
				delete(open, name)
				_, err := s.Update(func(buffer.Tx) error { return nil })
				say("update closed: %s", kindOf(err))
			}
		case 7:
			if name := pick(); open[name] == nil && l.below(2) == 0 {
				say("remove %s: %s", name, kindOf(d.Remove(name)))
			} else if open[name] == nil && l.below(3) == 0 {
				say("set aside %s: %s", name, kindOf(d.SetAside(name)))
			}
		default:
			p = p.killed(t)
			d = p.disk()
			clear(open)
			names, err := d.Names()
			say("killed: %v %s", names, kindOf(err))
			for _, name := range names {
				if l.below(12) == 0 {
					p.rot(t, name)
				}
				s, err := d.Open(name, buffer.ModeAppend)
				say("continue %s: %s", name, kindOf(err))
				if err == nil {
					open[name] = s
					say("%s", dump(s))
				}
			}
		}
	}
	return out
}

// fill puts things into several spaces, and reads some back.
func fill(x buffer.Tx, l *luck, from uint64, refuse bool) error {
	for i := range uint64(3) {
		key := binary.BigEndian.AppendUint64(nil, from+i+1)
		if err := x.Put(allSpaces[0], key, bytes.Repeat([]byte{byte(from + i)}, 1+l.below([]int{100, 9000}[l.below(2)]))); err != nil {
			return err
		}
	}
	for range 3 {
		key := []byte{byte('a' + l.below(5))}
		s := allSpaces[1+l.below(len(allSpaces)-1)]
		if err := x.Put(s, key, strconv.AppendInt(nil, int64(l.below(1000)), 10)); err != nil {
			return err
		}
		if x.Get(s, key) == nil {
			return errors.New("what was put is not there")
		}
	}
	if refuse {
		return errors.New("refused")
	}
	return nil
}

// dump is all a segment holds.
func dump(s buffer.Segment) string {
	var b strings.Builder
	err := s.View(func(x buffer.Tx) error {
		for _, sp := range allSpaces {
			x.Scan(sp, nil, func(k, v []byte) bool {
				fmt.Fprintf(&b, "%s %x=%d:%x ", sp, k, len(v), v[:min(len(v), 4)])
				if !bytes.Equal(x.Get(sp, k), v) {
					b.WriteString("get differs ")
				}
				return true
			})
			x.Scan(sp, []byte{0, 0, 0, 0, 0, 0, 0, 3}, func(k, _ []byte) bool {
				fmt.Fprintf(&b, "from %x ", k)
				return false
			})
		}
		if x.Put(allSpaces[1], []byte("k"), nil) == nil {
			b.WriteString("a view writes ")
		}
		return nil
	})
	return b.String() + kindOf(err)
}

func same(t *testing.T, seed uint64, model, actual []string) {
	t.Helper()
	for i := range max(len(model), len(actual)) {
		if i >= len(model) || i >= len(actual) || model[i] != actual[i] {
			t.Fatalf("seed %d: answer %d differs\nmodel %.900s\nreal  %.900s", seed, i, at(model, i), at(actual, i))
		}
	}
}

func at(all []string, i int) string {
	if i < len(all) {
		return all[i]
	}
	return "nothing"
}

func TestConform_Disk(t *testing.T) {
	seeds := uint64(12)
	if testing.Short() {
		seeds = 4
	}
	for seed := range seeds {
		model := diskScript(t, modelPlace{newDisk(&tap{})}, seed+1)
		same(t, seed+1, model, diskScript(t, folderPlace{t.TempDir()}, seed+1))
	}
}

// logScript runs the real buffer on a disk, kills it now and then, and writes
// down what it answers.
func logScript(t *testing.T, p diskPlace, dir func(diskPlace) string, seed uint64) (out []string) {
	t.Helper()
	l, k := luck(seed), newKit(t)
	clock := time.Unix(1_800_000_000, 0)
	keep := strict.Duration(0)
	var b *buffer.Buffer
	open := func() {
		var err error
		b, err = buffer.OpenOn(buffer.Config{
			Dir: dir(p), Log: agentLog, Now: func() time.Time { return clock }, MaxBytes: 8 << 20, SegmentBytes: 1 << 20, Keep: &keep, Policy: buffer.PolicyBlock,
		}, p.disk(), func() (int64, error) { return 1 << 40, nil }, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
	}
	open()
	for n := range 40 {
		switch l.below(5) {
		case 0, 1, 2:
			batch := mesh.Batch{Source: "d0", Table: k.table.Hash()}
			for i := range 1 + l.below(30) {
				batch.Samples = append(batch.Samples, mesh.Sample{Signal: 1, Time: mesh.Nanos(n*1000 + i), Value: mesh.Int(int64(l.next()))})
			}
			sealed, err := k.enc.Seal(&batch)
			if err == nil {
				_, err = b.Append(context.WithoutCancel(t.Context()), []mesh.Offer{{Source: "d0", Sealed: [][]byte{sealed}, State: fmt.Append(nil, n), Descriptors: []mesh.Descriptor{k.table}}})
			}
			if err != nil {
				t.Fatal(err)
			}
		case 3: // the reader has something
			end := b.End()
			_, err := b.Ack(mesh.Receipt{By: mesh.Position{Log: hubLog, Epoch: mesh.Epoch{1}, Seq: uint64(n + 1)}, Have: mesh.Set{Through: mesh.Position{Log: agentLog, Epoch: end.Epoch, Seq: uint64(l.below(int(end.Seq) + 1))}}})
			out = append(out, "ack "+kindOf(err))
		default:
			p = p.killed(t)
			open()
		}
		state, err := b.State("d0")
		s := b.Stats()
		out = append(out, fmt.Sprintf("end %d state %s %v pending %d: %s", b.End().Seq, state, err, s.Pending, content(b)))
	}
	return out
}

// content is what can be read of a log; epochs by the order in which they come.
func content(b *buffer.Buffer) string {
	var out strings.Builder
	var epochs []mesh.Epoch
	for after := (mesh.Position{}); ; {
		records, err := b.Peek(after, 64<<10)
		if err != nil {
			return err.Error()
		}
		if len(records) == 0 {
			break
		}
		for _, r := range records {
			n := slices.Index(epochs, r.At.Epoch)
			if n < 0 {
				n, epochs = len(epochs), append(epochs, r.At.Epoch)
			}
			h, err := wire.ParseHeader(r.Sealed)
			fmt.Fprintf(&out, "%d:%d %s %d %v; ", n, r.At.Seq, h.Kind, h.Count, err)
		}
		after = records[len(records)-1].At
	}
	return out.String()
}

func TestConform_LogOnDisk(t *testing.T) {
	seeds := uint64(6)
	if testing.Short() {
		seeds = 2
	}
	for seed := range seeds {
		model := logScript(t, modelPlace{newDisk(&tap{})}, func(diskPlace) string { return "/dev/null/none" }, seed+1)
		dir := func(p diskPlace) string {
			if f, ok := p.(folderPlace); ok {
				return f.dir
			}
			return ""
		}
		same(t, seed+1, model, logScript(t, folderPlace{t.TempDir()}, dir, seed+1))
	}
}
