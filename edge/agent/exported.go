package agent

import (
	"bufio"
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"

	"golang.org/x/sync/errgroup"

	"plantmesh/edge/status"
	"plantmesh/proto/answer"
	"plantmesh/proto/mesh"
	"plantmesh/proto/wire"
)

// Form is how an export is written.
type Form string

// The forms there are.
const (
	Records Form = "records" // whole records, as dump and backtest read them
	JSONL   Form = "jsonl"   // a line of JSON for each sample of the window
	CSV     Form = "csv"     // a line for each sample of the window, for a spreadsheet
)

// Exported is what an export has.
type Exported struct {
	status.Exported // of jsonl and csv samples and times are of those written

	Outside uint64 `json:"outside,omitempty"` // samples of the same records beside the window, which are left out
	Unread  uint64 `json:"unread,omitempty"`  // records that could not be opened
}

// Row is a sample of an export: what tap tells of one, whole, and what dump does.
type Row struct {
	status.Sample // its value as it is, however long

	Means      string `json:"means,omitempty"` // what the value is called
	SourceTime string `json:"source_time,omitempty"`
	ServerTime string `json:"server_time,omitempty"`
	AgentTime  string `json:"agent_time,omitempty"`
	Seq        string `json:"seq,omitempty"` // the device's own number; a text, as most readers of JSON have no more than 53 bits
	StatusCode uint32 `json:"status_code"`
	Flags      uint32 `json:"flags"`
	Record     string `json:"record"` // the position of the record it stands in
}

// columns are those of CSV.
func rowColumns() []string {
	return []string{
		"time", "source", "signal", "type", "value", "means", "unit", "quality", "status", "notes",
		"source_time", "server_time", "agent_time", "seq", "status_code", "flags", "record",
	}
}

func (r *Row) cells(to []string) []string {
	to = append(to[:0],
		r.Time, r.Source, r.Signal, r.Type, r.Value, r.Means, r.Unit, r.Quality, r.Status, strings.Join(r.Notes, "; "),
		r.SourceTime, r.ServerTime, r.AgentTime, r.Seq, strconv.FormatUint(uint64(r.StatusCode), 10), strconv.FormatUint(uint64(r.Flags), 10), r.Record)
	for i, text := range to {
		to[i] = answer.Cell(text) // a device must not have a formula run where the file is opened
	}
	return to
}

// ExportBuffer has the running agent write what it keeps to to.
func ExportBuffer(ctx context.Context, cfg Config, to io.Writer, q status.ExportQuery, form Form) (e Exported, err error) {
	span, err := windowOf(q.From, q.To)
	if err != nil {
		return e, err
	}
	if _, err := Status(ctx, cfg); err != nil {
		return e, err
	}
	if form == Records {
		e.Exported, err = status.Export(ctx, cfg.Status, to, q)
		return e, err
	}
	x, err := newRows(to, form, span)
	if err != nil {
		return e, err
	}
	in, out := io.Pipe()
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() (err error) {
		e.Exported, err = status.Export(gctx, cfg.Status, out, q)
		return errors.Join(err, out.CloseWithError(err))
	})
	g.Go(func() error {
		err := x.read(in)
		return errors.Join(err, in.CloseWithError(err))
	})
	err = g.Wait()
	x.tell(&e)
	return e, err
}

// Lines writes the samples of a file of records, a line for each that lies in the window.
func Lines(to io.Writer, records io.Reader, form Form, from, until string) (e Exported, err error) {
	span, err := windowOf(from, until)
	if err != nil {
		return e, err
	}
	x, err := newRows(to, form, span)
	if err != nil {
		return e, err
	}
	err = x.read(records)
	x.tell(&e)
	return e, err
}

// tell says what was written.
func (x *rows) tell(e *Exported) {
	e.Samples, e.First, e.Last, e.Outside, e.Unread = x.samples, instant(x.times.From), instant(x.times.To), x.outside, x.unread
}

// rows writes the samples of an export, a line for each.
type rows struct {
	known  tables
	open   *opener
	window mesh.Span
	put    func(*Row) error
	end    func() error

	samples, outside, unread uint64
	times                    mesh.Span // of the first and the last by event time
}

func newRows(to io.Writer, form Form, window mesh.Span) (*rows, error) {
	x := &rows{known: tables{}, window: window}
	var err error
	if x.open, err = newOpener(x.known); err != nil {
		return nil, err
	}
	if form == JSONL {
		w := bufio.NewWriter(to)
		enc := json.NewEncoder(w)
		enc.SetEscapeHTML(false)
		x.put, x.end = func(r *Row) error { return enc.Encode(r) }, w.Flush
		return x, nil
	}
	w := csv.NewWriter(to)
	var cells []string
	x.put = func(r *Row) error { cells = r.cells(cells); return w.Write(cells) }
	x.end = func() error { w.Flush(); return w.Error() }
	return x, w.Write(rowColumns())
}

// frames reads an export of records: what describes them becomes known, each record is given
// to use.
func frames(from io.Reader, known tables, use func(frame []byte) error) error {
	for r := bufio.NewReader(from); ; {
		kind, frame, err := wire.ReadFrame(r)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read the records: %w", err)
		}
		switch kind {
		case wire.FrameDescriptor:
			if d, err := wire.ParseDescriptor(frame); err == nil {
				known[d.Hash()] = d
			}
		case wire.FrameRecord:
			if err := use(frame); err != nil {
				return err
			}
		default:
		}
	}
}

// read takes an export of records apart. It holds one record at a time, and the descriptors.
func (x *rows) read(from io.Reader) error {
	err := frames(from, x.known, func(frame []byte) error {
		if err := x.record(frame); err != nil {
			return fmt.Errorf("write the samples: %w", err)
		}
		return nil
	})
	if err != nil {
		return err
	}
	if err := x.end(); err != nil {
		return fmt.Errorf("write the samples: %w", err)
	}
	return nil
}

func (x *rows) record(frame []byte) error {
	rec, err := wire.ParseRecord(frame)
	if err != nil {
		x.unread++
		return nil //nolint:nilerr // it is counted, and told
	}
	h, err := wire.ParseHeader(rec.Sealed)
	if err != nil || h.Kind != mesh.KindBatch || h.Count == 0 {
		return nil //nolint:nilerr // that it can't be read said ParseRecord
	}
	b, names, err := x.open.batch(rec)
	if err != nil {
		x.unread++
		return nil //nolint:nilerr // as above
	}
	at := rec.At.String()
	for i := range b.Samples {
		s := &b.Samples[i]
		if s.Time < x.window.From || s.Time >= x.window.To {
			x.outside++
			continue
		}
		x.count(s.Time)
		if err := x.put(rowOf(b.Source, s, names[s.Signal], at)); err != nil {
			return err
		}
	}
	return nil
}

func (x *rows) count(at mesh.Nanos) {
	if x.samples == 0 {
		x.times = mesh.Span{From: math.MaxInt64, To: math.MinInt64}
	}
	x.samples++
	x.times.From, x.times.To = min(x.times.From, at), max(x.times.To, at)
}

func rowOf(source string, s *mesh.Sample, sig mesh.Signal, record string) *Row {
	r := &Row{
		Sample: sampleOf(source, *s, sig), Means: meaning(s.Value, sig), SourceTime: instant(s.Source), ServerTime: instant(s.Server), AgentTime: instant(s.Agent),
		StatusCode: uint32(s.Status), Flags: s.Flags, Record: record,
	}
	r.Value = exactly(s.Value, sig)
	if s.Seq != 0 {
		r.Seq = strconv.FormatUint(s.Seq, 10)
	}
	return r
}
