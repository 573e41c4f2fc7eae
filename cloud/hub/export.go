package hub

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math"
	"path/filepath"
	"slices"
	"time"

	"plantmesh/cloud/port/parquet"
	"plantmesh/cloud/product"
	"plantmesh/cloud/store"
	"plantmesh/proto/mesh"
	"plantmesh/proto/wire"
)

// ErrUsage is returned when what is asked for makes no sense.
var ErrUsage = errors.New("usage")

const (
	// exportTags are read at a time: a day of them at 1 Hz is some 250 MB in memory.
	exportTags = 16
	// exportDays bounds one export.
	exportDays = 3660
	// exported is the product whose samples they are.
	exported = "signals"
)

// ExportRequest says which samples are wanted.
type ExportRequest struct {
	From, To  time.Time // UTC days, both included
	Equipment []string  // empty: every signal there is, of equipment or not
	Out       string    // the folder
}

// Exported is one file.
type Exported struct {
	Path  string `json:"path"`
	Rows  int64  `json:"rows"`
	Bytes int64  `json:"bytes"`
	// LeftOut are batches of the day that can't be read: their samples are missing.
	LeftOut int `json:"left_out_batches"`
}

// Export writes the samples of whole days as Parquet, a file a day, while a hub
// runs on the data folder or not. Each sample is there once, with its marks, as
// in product signals. A file is put in place when it is whole; one of the same
// day goes, but not for one that has less: of some equipment alone, or of a day
// whose history is dropped.
func Export(ctx context.Context, cfg Config, r ExportRequest, log *slog.Logger) (out []Exported, err error) {
	days := int(r.To.Sub(r.From)/(24*time.Hour)) + 1
	if days < 1 || days > exportDays {
		return nil, fmt.Errorf("%w: from %s to %s are %d days; ask for 1 to %d", ErrUsage, r.From.Format(time.DateOnly), r.To.Format(time.DateOnly), days, exportDays)
	}
	x := &export{ask: r, log: log}
	if x.store, err = store.OpenReading(ctx, filepath.Join(cfg.Data, databaseName), log); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrData, err)
	}
	defer func() { err = errors.Join(err, x.store.Close()) }()
	if x.site, _, err = effectiveSite(ctx, cfg, x.store); err != nil {
		return nil, err
	}
	if x.made, err = transformsOf(ctx, x.store); err != nil {
		return nil, err
	}
	for _, id := range r.Equipment {
		if x.site.Find(id) == nil {
			return nil, fmt.Errorf("%w: the site has no equipment %q", ErrUsage, id)
		}
	}
	if x.dec, err = wire.NewDecoder(); err != nil {
		return nil, err
	}
	for day := range days {
		if err := x.mayWrite(ctx, r.From.AddDate(0, 0, day)); err != nil {
			return nil, err
		}
	}
	for day := range days {
		f, err := x.day(ctx, r.From.AddDate(0, 0, day))
		if err != nil {
			return out, err
		}
		if f.Rows > 0 {
			out = append(out, f)
		}
	}
	return out, nil
}

// export is one under way.
type export struct {
	ask   ExportRequest
	log   *slog.Logger
	site  *product.Site
	store *store.Store
	dec   *wire.Decoder
	made  *transforms            // nil: no model has any
	tags  []string               // of the day at hand, sorted
	of    map[string][]string    // the sources of a tag
	left  map[mesh.Position]bool // batches of the day that can't be read
}

// mayWrite refuses to put less in the place of more.
func (x *export) mayWrite(ctx context.Context, day time.Time) error {
	if !parquet.Has(x.ask.Out, exported, day) {
		return nil
	}
	date := day.Format(time.DateOnly)
	if len(x.ask.Equipment) > 0 {
		return fmt.Errorf("%w: %s has a file of %s, and one of some equipment alone must not take its place: name another folder", ErrUsage, x.ask.Out, date)
	}
	kept, err := x.store.Kept(ctx)
	if err != nil {
		return err
	}
	if mesh.NanosOf(day) < kept {
		return fmt.Errorf("%w: the history of %s was dropped, and %s has a file of it: begin with %s, or name another folder", ErrUsage, date, x.ask.Out, kept.Time().UTC().Format(time.DateOnly))
	}
	return nil
}

// stillKept refuses a file of which retention took a part while it was written:
// what was read before is in it, the rest is not.
func (x *export) stillKept(ctx context.Context, day time.Time, was mesh.Nanos) error {
	kept, err := x.store.Kept(ctx)
	if err == nil && kept > was && kept > mesh.NanosOf(day) {
		err = fmt.Errorf("the history of %s was dropped while it was exported, and no file is made of what was left: begin with %s", day.Format(time.DateOnly), kept.Time().UTC().Format(time.DateOnly))
	}
	return err
}

// list finds the tags that are wanted: those of every table that samples of a
// span may have, whether the site has their source or not.
func (x *export) list(ctx context.Context, span mesh.Span) error {
	x.tags, x.of, x.left = nil, map[string][]string{}, map[mesh.Position]bool{}
	tables, err := x.store.Tables(ctx, span)
	if err != nil {
		return err
	}
	for _, source := range slices.Sorted(maps.Keys(tables)) {
		for _, hash := range tables[source] {
			table, err := x.table(ctx, hash)
			if err != nil {
				return err
			}
			if len(table) == 0 {
				x.log.WarnContext(ctx, "a signal table is missing or can't be read: what it names is not in the file", "source", source, "table", hash.String())
			}
			for i := range table {
				x.want(table[i].Name, table[i].Name, source)
			}
			for _, d := range x.made.within(source, hash, table, span) {
				x.want(d.Name, d.From, source)
			}
		}
	}
	for tag := range x.of {
		x.tags = append(x.tags, tag)
	}
	slices.Sort(x.tags)
	return nil
}

// want puts a tag on the list, where the equipment that has a signal is asked for.
func (x *export) want(tag, signal, source string) {
	if len(x.ask.Equipment) > 0 && !slices.Contains(x.ask.Equipment, x.equipment(signal, source)) {
		return
	}
	if !slices.Contains(x.of[tag], source) {
		x.of[tag] = append(x.of[tag], source)
	}
}

// table is a signal table; none where it is not stored or can't be read: products
// say that its batches are damaged.
func (x *export) table(ctx context.Context, hash mesh.Hash) ([]mesh.Signal, error) {
	d, ok, err := x.store.Descriptor(ctx, hash)
	if err != nil || !ok {
		return nil, err
	}
	table, err := wire.Signals(d)
	if err != nil {
		return nil, nil //nolint:nilerr // whoever reads a batch of it counts that as left out
	}
	return table, nil
}

// equipment is whose signal this is; empty: nobody's.
func (x *export) equipment(tag, source string) string {
	if i, _ := x.site.Signal(source, tag); i >= 0 {
		return x.site.Equipment[i].ID
	}
	return ""
}

// day writes the file of a day; none where there are no rows.
func (x *export) day(ctx context.Context, day time.Time) (out Exported, err error) {
	f, err := parquet.Create(x.ask.Out, exported, day)
	if err != nil {
		return out, err
	}
	defer func() { err = errors.Join(err, f.Abort()) }()
	from := mesh.NanosOf(day)
	span := mesh.Span{From: from, To: from.Add(24 * time.Hour)}
	kept, err := x.store.Kept(ctx)
	if err != nil {
		return out, err
	}
	if err := x.list(ctx, span); err != nil {
		return out, err
	}
	for tags := range slices.Chunk(x.tags, exportTags) {
		if err := ctx.Err(); err != nil {
			return out, err
		}
		rows, err := x.rows(ctx, tags, span)
		if err != nil {
			return out, err
		}
		out.Rows += int64(len(rows))
		if err := f.Write(rows); err != nil {
			return out, err
		}
	}
	if out.LeftOut = len(x.left); out.LeftOut > 0 {
		x.log.WarnContext(ctx, "batches can't be read: their samples are not in the file", "day", day.Format(time.DateOnly), "batches", out.LeftOut)
	}
	if err := x.stillKept(ctx, day, kept); err != nil || out.Rows == 0 {
		return out, err
	}
	if err := x.mayWrite(ctx, day); err != nil {
		return out, err
	}
	out.Path, out.Rows, out.Bytes, err = f.Commit()
	return out, err
}

// rows are the samples of some tags, sorted.
func (x *export) rows(ctx context.Context, tags []string, span mesh.Span) (rows []parquet.Row, err error) {
	bySource := map[string][]string{}
	for _, tag := range tags {
		for _, source := range x.of[tag] {
			bySource[source] = append(bySource[source], tag)
		}
	}
	for source, names := range bySource {
		entries, err := x.store.Signals(ctx, source, span, x.made.read(source, names)...)
		if err != nil {
			return nil, err
		}
		var readings []product.Reading
		for i := range entries {
			if readings, err = x.pick(ctx, readings, &entries[i], names, span); err != nil {
				return nil, err
			}
		}
		readings = x.made.settled(readings)
		readings = product.Collapse(readings)
		for i := range readings {
			rows = append(rows, x.row(source, &readings[i]))
		}
	}
	slices.SortStableFunc(rows, func(a, b parquet.Row) int {
		return cmp.Or(cmp.Compare(a.Tag, b.Tag), cmp.Compare(a.TS, b.TS), cmp.Compare(a.Source, b.Source))
	})
	return rows, nil
}

// pick takes of a batch or chunk what is asked for. A batch that can't be read
// has none: its time is unknown, as the products say.
func (x *export) pick(ctx context.Context, out []product.Reading, e *mesh.Entry, names []string, span mesh.Span) ([]product.Reading, error) {
	if len(e.Header.Needs) != 1 {
		x.left[e.At] = true
		return out, nil
	}
	table, err := x.table(ctx, e.Header.Needs[0])
	if err != nil {
		return out, err
	}
	wanted := map[uint32]*mesh.Signal{}
	for i := range table {
		if slices.Contains(names, table[i].Name) {
			wanted[table[i].ID] = &table[i]
		}
	}
	b, err := x.dec.Batch(e.Sealed)
	if err != nil || len(table) == 0 {
		x.left[e.At] = true
		return out, nil //nolint:nilerr // it is counted
	}
	marks := map[uint32][]mesh.Mark{}
	if e.Verdict != nil {
		for _, m := range e.Verdict.Marks {
			marks[m.Index] = append(marks[m.Index], m)
		}
	}
	for i := range b.Samples {
		s := &b.Samples[i]
		if !span.Has(s.Time) {
			continue
		}
		if sig := wanted[s.Signal]; sig != nil {
			out = append(out, product.ReadingOf(sig, *s, marks[uint32(i)]))
		}
		for _, d := range x.made.of(e, table, s) {
			if slices.Contains(names, d.Name) {
				out = append(out, d.Reading(product.ReadingOf(&table[d.Raw], *s, marks[uint32(i)])))
			}
		}
	}
	return out, nil
}

func (x *export) row(source string, r *product.Reading) parquet.Row {
	s := &r.Sample
	value, status, marks := r.Shown()
	row := parquet.Row{
		Tag: r.Name, TS: int64(s.Time), Equipment: x.equipment(r.Name, source), Source: source, Type: value.Type.String(), Unit: r.Unit, Words: r.Choices.Text(s.Value),
		Status: uint32(status), Flags: s.Flags, SourceTS: int64(s.Source), ServerTS: int64(s.Server), AgentTS: int64(s.Agent), DeviceSeq: s.Seq,
	}
	if d := r.Derived; d != nil {
		row.Equipment, row.DerivedFrom, row.DerivedBy = x.equipment(d.From, source), d.From, d.By.Model
	}
	switch v := value; v.Type {
	case mesh.TypeBool:
		row.Bool = new(v.Bits != 0)
	case mesh.TypeInt:
		row.Int = new(int64(v.Bits))
	case mesh.TypeUint:
		row.Uint = new(v.Bits)
	case mesh.TypeDouble:
		row.Double = new(math.Float64frombits(v.Bits))
	case mesh.TypeString:
		row.Text = new(string(v.Bytes))
	case mesh.TypeBytes:
		row.Bytes = v.Bytes
	case mesh.TypeArray, mesh.TypeStruct, mesh.TypeEvent:
		row.Bytes, row.JSON = v.Bytes, string(r.Value())
	case mesh.TypeNone:
	}
	for _, m := range marks {
		row.Marks = append(row.Marks, parquet.Mark{Rule: m.Rule, Action: product.ActionName(m.Action)})
	}
	return row
}
