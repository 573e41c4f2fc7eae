package runner

import (
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"plantmesh/cloud/product"
	"plantmesh/proto/mesh"
)

// ErrCursor is returned for a cursor that Signals never gave.
var ErrCursor = errors.New("the cursor is not one of this product")

const (
	signalsLimit = 1000 // of a page, where the query names none
	// A page opens event time piece by piece, each twice the one before: it may
	// be all of an hour in which little was said, or a second of it.
	signalsFirst = time.Second
	signalsChunk = time.Hour
	// signalsBytes bounds what is opened at once, sealed, but for a piece of
	// signalsFirst: at two bytes a sample half a million of them.
	signalsBytes = 1 << 20
)

// Signals answers product signals from the stored batches. Safe for concurrent use.
type Signals struct {
	def *product.Definition
	log Log
	out Output
}

// NewSignals makes the view. def is the definition of product signals, whose
// runner keeps the site and what is known.
func NewSignals(def *product.Definition, log Log, out Output) *Signals {
	return &Signals{def: def, log: log, out: out}
}

// signalCursor is the row a page ended with.
type signalCursor struct {
	Entity string     `json:"e"`
	Time   mesh.Nanos `json:"t"`
	Key    string     `json:"k"`
}

// Rows are the samples of the equipment asked for, in (entity, time, signal)
// order, each once. A row's revision is 1; it is final once its source is
// complete through it.
func (s *Signals) Rows(ctx context.Context, q mesh.RowQuery) (rows []mesh.Row, next string, err error) {
	after, err := parseSignalCursor(q.After)
	if err != nil {
		return nil, "", err
	}
	sites, err := s.sites(ctx)
	if err != nil || sites == nil {
		return nil, "", err
	}
	tape, err := NewTape(s.log)
	if err != nil {
		return nil, "", err
	}
	limit := q.Limit
	if limit <= 0 {
		limit = signalsLimit
	}
	for _, id := range sites.Equipment() {
		if id < after.Entity || len(q.Entities) > 0 && !slices.Contains(q.Entities, id) {
			continue
		}
		v := view{signals: s, tape: tape, id: id, limit: limit + 1 - len(rows), prefix: q.Prefix}
		if sites.Transforms() {
			v.made = map[*Table][]product.Derivation{}
		}
		if id == after.Entity {
			v.after = after
		}
		more, err := v.rows(ctx, sites, q.Span)
		if err != nil {
			return nil, "", fmt.Errorf("read the signals of %s: %w", id, err)
		}
		if rows = append(rows, more...); len(rows) > limit {
			rows = rows[:limit]
			last := &rows[limit-1]
			return rows, signalCursor{last.Entity, last.From, last.Key}.String(), nil
		}
	}
	return rows, "", nil
}

func (s *Signals) sites(ctx context.Context) (*product.Sites, error) {
	st, ok, err := s.out.State(ctx, s.def.ID, siteKey, stateFrom)
	if err != nil || !ok {
		return nil, err
	}
	return product.DecodeSites(st.Bytes)
}

// known is what is known of a source, as the runner of a product left it.
func known(ctx context.Context, out Output, product, name string) (*source, error) {
	src := &source{name: name}
	st, ok, err := out.State(ctx, product, knownKey+name, stateFrom)
	if err != nil || !ok {
		return src, err
	}
	return src, src.decode(st.Bytes)
}

// End is how far a source is known; 0: nothing of it ever came.
type End struct {
	Source  string
	Through mesh.Nanos
}

// Ends are the sources of a site and how far a product knows each.
func Ends(ctx context.Context, out Output, product string, site *product.Site) (ends []End, err error) {
	for _, name := range site.Sources() {
		s, err := known(ctx, out, product, name)
		if err != nil {
			return nil, fmt.Errorf("look how far a source is known: %w", err)
		}
		e := End{Source: name}
		if len(s.spans) > 0 {
			e.Through = s.end()
		}
		ends = append(ends, e)
	}
	return ends, nil
}

// Stands is the instant through which a product's rows say all that it knows: the end
// of time, but on the way of a fold of several passes.
func Stands(ctx context.Context, out Output, product string) (stands mesh.Nanos, err error) {
	marks, _, err := marksOf(ctx, out, product)
	if err != nil {
		return 0, fmt.Errorf("look through where rows are made: %w", err)
	}
	stands = never
	for _, m := range marks {
		if m.Stands != nil {
			stands = min(stands, *m.Stands)
		}
	}
	return stands, nil
}

// view reads one equipment.
type view struct {
	signals *Signals
	tape    *Tape
	id      string
	limit   int
	after   signalCursor
	passed  bool // the row that after names
	prefix  string

	// Of the revision of the site at hand:
	site  *product.Site
	index int
	final mesh.Nanos
	made  map[*Table][]product.Derivation // of the equipment, by table; nil: no model of the site has transforms
}

// rows reads span, revision of the site by revision.
func (v *view) rows(ctx context.Context, sites *product.Sites, span mesh.Span) (out []mesh.Row, err error) {
	if span == (mesh.Span{}) {
		span = mesh.Span{From: always, To: never}
	}
	span.From = max(span.From, v.after.Time)
	for _, r := range sites.Revisions() {
		part := r.Meet(span)
		if v.made != nil {
			clear(v.made)
		}
		v.site, v.index = r.Site, slices.IndexFunc(r.Site.Equipment, func(e product.Equipment) bool { return e.ID == v.id })
		if v.index < 0 || part.Empty() {
			continue
		}
		more, err := v.part(ctx, part, v.limit-len(out))
		if err != nil {
			return nil, err
		}
		if out = append(out, more...); len(out) >= v.limit {
			break
		}
	}
	return out, nil
}

// part reads in pieces until there are enough. What lies before and behind all
// that is known is one piece each.
func (v *view) part(ctx context.Context, span mesh.Span, limit int) (out []mesh.Row, err error) {
	src, err := known(ctx, v.signals.out, v.signals.def.ID, v.site.Equipment[v.index].Source)
	if err != nil {
		return nil, err
	}
	v.final = src.voices.Watermark
	first, end := product.Extent(src.spans)
	width := signalsFirst
	for from := span.From; from < span.To && len(out) < limit; {
		to, most := span.To, int64(0)
		switch {
		case from < first:
			to = min(to, first)
		case from < end:
			to = min(to, from.Add(width))
			if width > signalsFirst {
				most = signalsBytes
			}
		}
		more, err := v.piece(ctx, mesh.Span{From: from, To: to}, most)
		if errors.Is(err, mesh.ErrLarge) {
			width = max(signalsFirst, width/8)
			continue
		}
		if err != nil {
			return nil, err
		}
		out, from, width = append(out, more...), to, min(2*width, signalsChunk)
	}
	return out[:min(len(out), limit)], nil
}

func (v *view) piece(ctx context.Context, span mesh.Span, most int64) (out []mesh.Row, err error) {
	e := &v.site.Equipment[v.index]
	var readings []product.Reading
	err = v.tape.History(ctx, e.Source, span, most, func(it *Item) error {
		if it.Table != nil {
			readings = v.pick(readings, it, span)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if v.made != nil {
		readings = product.RealStands(readings)
	}
	readings = product.Collapse(readings)
	for i := range readings {
		x := v.signals.def.SignalDraft(v.site, e, &readings[i])
		if v.skip(&x, readings[i].Name) {
			continue
		}
		if out = append(out, v.row(v.signals.def.ID, e.ID, &x, readings[i].Sample.Agent)); len(out) >= v.limit {
			break
		}
	}
	return out, nil
}

// row is the row of a draft: final once its source is complete through it.
func (v *view) row(id, entity string, x *product.Draft, made mesh.Nanos) mesh.Row {
	row := mesh.Row{Product: id, Entity: entity, Key: x.Key, From: x.From, To: x.To, State: mesh.RowProvisional, Revision: 1, Produced: made, Body: x.Body}
	if x.From < v.final {
		row.State = mesh.RowFinal
	}
	return row
}

// skip reports whether a row was given before, or isn't asked for.
func (v *view) skip(x *product.Draft, signal string) bool {
	if !strings.HasPrefix(x.Key, v.prefix) {
		return true
	}
	if v.after.Entity == "" || v.passed || x.From != v.after.Time {
		return v.after.Entity != "" && x.From < v.after.Time
	}
	// Samples of one instant stand in the order of signals, those of one signal in
	// that of folding, which their keys don't tell.
	if c := cmp.Compare(signal, v.after.signal()); c != 0 {
		return c < 0
	}
	v.passed = x.Key == v.after.Key
	return true
}

// pick takes the samples of this equipment in span.
func (v *view) pick(out []product.Reading, it *Item, span mesh.Span) []product.Reading {
	marks := map[uint32][]mesh.Mark{}
	if it.Entry.Verdict != nil {
		for _, m := range it.Entry.Verdict.Marks {
			marks[m.Index] = append(marks[m.Index], m)
		}
	}
	mine := make([]bool, len(it.Table.Signals))
	for i := range it.Table.Signals {
		e, _ := v.site.Signal(it.Entry.Header.About, it.Table.Signals[i].Name)
		mine[i] = e == v.index
	}
	made := v.makes(it)
	for i := range it.Samples {
		k := it.Table.index(it.Samples[i].Signal)
		if k < 0 || !mine[k] || !span.Has(it.Samples[i].Time) {
			continue
		}
		sig := &it.Table.Signals[k]
		r := product.ReadingOf(sig, it.Samples[i], marks[uint32(i)])
		out = append(out, r)
		for d := range made {
			if made[d].Raw == k {
				out = append(out, made[d].Reading(r))
			}
		}
	}
	return out
}

// makes is what the equipment's model makes of the signals of an item, and nothing where no
// model of the site has transforms.
func (v *view) makes(it *Item) []product.Derivation {
	if v.made == nil {
		return nil
	}
	made, ok := v.made[it.Table]
	if !ok {
		made = slices.DeleteFunc(v.site.Derivations(it.Entry.Header.About, it.Table.Signals), func(d product.Derivation) bool { return d.Equipment != v.index })
		v.made[it.Table] = made
	}
	return made
}

// signal is whose row the page ended with: a key is "<time>/<signal>/<sum>".
func (c signalCursor) signal() string {
	_, rest, _ := strings.Cut(c.Key, "/")
	return rest[:max(0, strings.LastIndexByte(rest, '/'))]
}

func (c signalCursor) String() string {
	b, err := json.Marshal(c)
	if err != nil {
		return "" // two strings and a number always marshal
	}
	return base64.RawURLEncoding.EncodeToString(b)
}

func parseSignalCursor(s string) (c signalCursor, err error) {
	if s == "" {
		return signalCursor{Time: always}, nil
	}
	b, err := base64.RawURLEncoding.DecodeString(s)
	if err != nil {
		return c, ErrCursor
	}
	if err := json.Unmarshal(b, &c); err != nil || c.Entity == "" {
		return c, ErrCursor
	}
	return c, nil
}
