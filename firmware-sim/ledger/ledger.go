// Package ledger is the promise book of the devices: what each source emitted,
// and what it was told is received. Nothing it says is received may ever be
// missing in the cloud.
//
// A ledger is a text file, one line for each entry:
//
//	E,<source>,<index>,<signal>,<time_ms>,<emitted_ms>,<status>,<type>,<value>
//	R,<source>,<first>,<last>
//
// Times are milliseconds since 1970 UTC, the status is a decimal number, the
// value is quoted as in Go where it is text. Lines are appended and synced; a crash
// may leave a torn last line, which readers pass over.
package ledger

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"plantmesh/firmware-sim/plant"
)

// Range is a run of indexes of one source, both ends included.
type Range struct{ First, Last uint64 }

// Ledger writes. Safe for concurrent use.
type Ledger struct {
	mu   sync.Mutex // protects file, line and err; held while the disk syncs
	file *os.File
	line []byte
	err  error // the first; nothing is written after it

	told     sync.Mutex          // protects received; taken inside mu, never held long
	received map[string][]uint64 // told, not yet written
}

// Open opens the ledger at path for append, or makes it. A torn last line of a
// crash before is cut off.
func Open(path string) (*Ledger, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the ledger: %w", err)
	}
	if err := mend(f); err != nil {
		return nil, errors.Join(fmt.Errorf("open the ledger: %w", err), f.Close())
	}
	return &Ledger{file: f, received: map[string][]uint64{}}, nil
}

// mend cuts the file behind its last whole line and goes there.
func mend(f *os.File) error {
	end, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return fmt.Errorf("find the end: %w", err)
	}
	buf := make([]byte, 1)
	for ; end > 0; end-- {
		if _, err := f.ReadAt(buf, end-1); err != nil {
			return fmt.Errorf("read the end: %w", err)
		}
		if buf[0] == '\n' {
			break
		}
	}
	if err := f.Truncate(end); err != nil {
		return fmt.Errorf("cut a torn line: %w", err)
	}
	if _, err := f.Seek(end, io.SeekStart); err != nil {
		return fmt.Errorf("find the end: %w", err)
	}
	return nil
}

// Emitted writes emissions. They are durable when it returns: only then may
// they leave a device.
func (l *Ledger) Emitted(batch []plant.Emission) error {
	if len(batch) == 0 {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	b := l.line[:0]
	for i := range batch {
		b = appendEmission(b, &batch[i])
	}
	l.line = b
	return l.write(b)
}

func appendEmission(b []byte, e *plant.Emission) []byte {
	b = append(b, "E,"...)
	b = append(b, e.Source...)
	b = append(b, ',')
	b = strconv.AppendUint(b, e.Index, 10)
	b = append(b, ',')
	b = append(b, e.Signal...)
	b = append(b, ',')
	b = strconv.AppendInt(b, e.Time.UnixMilli(), 10)
	b = append(b, ',')
	b = strconv.AppendInt(b, e.Emitted.UnixMilli(), 10)
	b = append(b, ',')
	b = strconv.AppendUint(b, uint64(e.Status), 10)
	b = append(b, ',')
	switch e.Value.Type {
	case plant.None:
		b = append(b, "none,"...)
	case plant.Bool:
		b = strconv.AppendBool(append(b, "bool,"...), e.Value.B)
	case plant.Int:
		b = strconv.AppendInt(append(b, "int,"...), e.Value.I, 10)
	case plant.Double:
		b = strconv.AppendFloat(append(b, "double,"...), e.Value.F, 'g', -1, 64)
	case plant.String:
		b = strconv.AppendQuote(append(b, "string,"...), e.Value.S)
	}
	return append(b, '\n')
}

// Received implements plant.Received. What it is told becomes durable with the
// next Sync.
func (l *Ledger) Received(source string, indexes []uint64) {
	l.told.Lock()
	defer l.told.Unlock()
	l.received[source] = append(l.received[source], indexes...)
}

// Sync writes what was received since the last time, as ranges. Call it often:
// a promise not in the book when the machine dies was never made.
func (l *Ledger) Sync() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.told.Lock()
	received := l.received
	l.received = map[string][]uint64{}
	l.told.Unlock()
	b := l.line[:0]
	for source, indexes := range received {
		for _, r := range Ranges(indexes) {
			b = fmt.Appendf(b, "R,%s,%d,%d\n", source, r.First, r.Last)
		}
	}
	if l.line = b; len(b) == 0 {
		return l.err
	}
	return l.write(b)
}

func (l *Ledger) write(b []byte) error {
	if l.err != nil {
		return l.err
	}
	_, err := l.file.Write(b)
	if err == nil {
		err = l.file.Sync()
	}
	if err != nil {
		l.err = fmt.Errorf("write the ledger: %w", err)
	}
	return l.err
}

// Close writes what is left and closes the file. Idempotent.
func (l *Ledger) Close() error {
	err := l.Sync()
	l.mu.Lock()
	defer l.mu.Unlock()
	if errors.Is(l.err, os.ErrClosed) {
		return nil
	}
	l.err = os.ErrClosed
	return errors.Join(err, l.file.Close())
}

// Ranges are the runs in indexes, which it sorts.
func Ranges(indexes []uint64) (out []Range) {
	slices.Sort(indexes)
	for _, i := range indexes {
		if n := len(out); n > 0 && i <= out[n-1].Last+1 {
			out[n-1].Last = i
			continue
		}
		out = append(out, Range{i, i})
	}
	return out
}

// Book is what a ledger says.
type Book struct {
	Emitted  map[string][]plant.Emission // by source, in order of index
	Received map[string][]Range          // by source, sorted and joined
}

// Read reads the ledger at path. A torn last line is passed over; any other
// line that can't be read is an error.
func Read(path string) (*Book, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read the ledger: %w", err)
	}
	defer f.Close() //nolint:errcheck // nothing was written
	b := &Book{Emitted: map[string][]plant.Emission{}, Received: map[string][]Range{}}
	in := bufio.NewReaderSize(f, 1<<20)
	names := map[string]string{} // one copy of each source and signal
	for n := 1; ; n++ {
		line, err := in.ReadString('\n')
		if errors.Is(err, io.EOF) {
			break // with a torn line or none
		}
		if err != nil {
			return nil, fmt.Errorf("read the ledger: %w", err)
		}
		if err := b.take(strings.TrimSuffix(line, "\n"), names); err != nil {
			return nil, fmt.Errorf("read the ledger: line %d: %w", n, err)
		}
	}
	for source, e := range b.Emitted {
		slices.SortFunc(e, func(x, y plant.Emission) int { return cmp.Compare(x.Index, y.Index) })
		b.Emitted[source] = slices.CompactFunc(e, func(x, y plant.Emission) bool { return x.Index == y.Index })
	}
	for source, r := range b.Received {
		b.Received[source] = join(r)
	}
	return b, nil
}

func join(in []Range) (out []Range) {
	slices.SortFunc(in, func(x, y Range) int { return cmp.Compare(x.First, y.First) })
	for _, r := range in {
		if n := len(out); n > 0 && r.First <= out[n-1].Last+1 {
			out[n-1].Last = max(out[n-1].Last, r.Last)
			continue
		}
		out = append(out, r)
	}
	return out
}

func (b *Book) take(line string, names map[string]string) error {
	if rest, ok := strings.CutPrefix(line, "R,"); ok {
		parts := strings.Split(rest, ",")
		if len(parts) != 3 {
			return fmt.Errorf("%d fields in a received range", len(parts))
		}
		first, err1 := strconv.ParseUint(parts[1], 10, 64)
		last, err2 := strconv.ParseUint(parts[2], 10, 64)
		if err := errors.Join(err1, err2); err != nil {
			return fmt.Errorf("parse a received range: %w", err)
		}
		b.Received[once(names, parts[0])] = append(b.Received[once(names, parts[0])], Range{first, last})
		return nil
	}
	e, err := parseEmission(line, names)
	if err != nil {
		return err
	}
	b.Emitted[e.Source] = append(b.Emitted[e.Source], e)
	return nil
}

func once(names map[string]string, s string) string {
	if n, ok := names[s]; ok {
		return n
	}
	s = strings.Clone(s)
	names[s] = s
	return s
}

func parseEmission(line string, names map[string]string) (e plant.Emission, err error) {
	f := strings.SplitN(line, ",", 9)
	if len(f) != 9 || f[0] != "E" {
		return e, errors.New("neither an emission nor a received range")
	}
	index, err1 := strconv.ParseUint(f[2], 10, 64)
	at, err2 := strconv.ParseInt(f[4], 10, 64)
	emitted, err3 := strconv.ParseInt(f[5], 10, 64)
	status, err4 := strconv.ParseUint(f[6], 10, 32)
	if err := errors.Join(err1, err2, err3, err4); err != nil {
		return e, fmt.Errorf("parse an emission: %w", err)
	}
	e = plant.Emission{
		Source: once(names, f[1]), Index: index, Signal: once(names, f[3]),
		Time: time.UnixMilli(at).UTC(), Emitted: time.UnixMilli(emitted).UTC(), Status: uint32(status),
	}
	switch v := f[8]; f[7] {
	case "none":
	case "bool":
		e.Value.Type = plant.Bool
		e.Value.B, err = strconv.ParseBool(v)
	case "int":
		e.Value.Type = plant.Int
		e.Value.I, err = strconv.ParseInt(v, 10, 64)
	case "double":
		e.Value.Type = plant.Double
		e.Value.F, err = strconv.ParseFloat(v, 64)
	case "string":
		e.Value.Type = plant.String
		e.Value.S, err = strconv.Unquote(v)
	default:
		err = fmt.Errorf("unknown type %q", f[7])
	}
	if err != nil {
		return e, fmt.Errorf("parse a value: %w", err)
	}
	return e, nil
}
