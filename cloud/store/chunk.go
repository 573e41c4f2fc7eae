package store

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"sort"

	"plantmesh/proto/mesh"
	"plantmesh/proto/wire"
)

// piece is a stretch of a pile that goes into one chunk.
type piece struct {
	day      int64
	kind     int
	pile     *pile
	from, to int // in the order of folding
}

// pieces cuts the piles at the edges of days and into chunks, in the order they
// are written.
func (w *work) pieces() (out []piece) {
	perDay := map[int64]int{}
	for k, kp := range w.kinds {
		slices.SortFunc(kp.piles, func(a, b *pile) int { return cmp.Compare(a.signal, b.signal) })
		for _, p := range kp.piles {
			p.sort()
			n := len(p.times)
			for from := 0; from < n; {
				day := dayOf(p.time(from))
				to := from + sort.Search(n-from, func(i int) bool { return dayOf(p.time(from+i)) > day })
				perDay[day] += to - from
				out = cut(out, piece{day, k, p, from, to})
				from = to
			}
		}
	}
	to := w.strayed()
	for i := range out {
		if day := out[i].day; w.stray(day, perDay[day]) {
			out[i].day = to
		}
	}
	slices.SortStableFunc(out, func(a, b piece) int { return cmp.Or(cmp.Compare(a.day, b.day), cmp.Compare(a.kind, b.kind)) })
	return out
}

// load is what a stretch of samples holds beside them. A text counts once: a
// chunk has it once, as a batch has.
type load struct {
	text, marks, rules int // bytes, number, bytes

	texts map[*byte]struct{}
	last  *byte
	upon  *load // what is there already
}

// add counts what the i-th sample of a pile in the order of folding has.
func (l *load) add(p *pile, i int) {
	i = p.index(i)
	if t := p.textAt(i); len(t) > 0 && l.last != &t[0] {
		l.last = &t[0]
		if !l.has(l.last) {
			if l.texts == nil {
				l.texts = map[*byte]struct{}{}
			}
			l.texts[l.last] = struct{}{}
			l.text += len(t)
		}
	}
	for _, m := range p.marksAt(i) {
		l.marks++
		l.rules += len(m.rule)
	}
}

func (l *load) has(text *byte) bool {
	if _, has := l.texts[text]; has || l.upon == nil {
		return has
	}
	return l.upon.has(text)
}

// addAll counts a whole piece.
func (l *load) addAll(p piece) {
	if p.pile.texts == nil && p.pile.marks == nil {
		return
	}
	for i := p.from; i < p.to; i++ {
		l.add(p.pile, i)
	}
}

func (l *load) over() bool {
	text, marks, rules := l.text, l.marks, l.rules
	if l.upon != nil {
		text, marks, rules = text+l.upon.text, marks+l.upon.marks, rules+l.upon.rules
	}
	return text > chunkText || marks > chunkMarks || rules > chunkRules
}

// cut cuts a piece into such as fit into a chunk. What one sample has always
// fits: it came in one batch, with one verdict.
func cut(out []piece, all piece) []piece {
	n := all.to - all.from
	parts := max(1, (n+chunkSamples/2)/chunkSamples)
	for i := range parts {
		p := all
		p.from, p.to = all.from+n*i/parts, all.from+n*(i+1)/parts
		if p.pile.texts == nil && p.pile.marks == nil {
			out = append(out, p)
			continue
		}
		var l load
		first := p.from
		for k := p.from; k < p.to; k++ {
			l.add(p.pile, k)
			if l.over() && k > first {
				part := p
				part.from, part.to = first, k
				out, first, l = append(out, part), k, load{}
				l.add(p.pile, k)
			}
		}
		p.from = first
		out = append(out, p)
	}
	return out
}

// writeChunks writes the chunks of a pass, day by day.
func (s *Store) writeChunks(ctx context.Context, w *work) error {
	enc, err := wire.NewEncoder()
	if err != nil {
		return fmt.Errorf("write chunks: %w", err)
	}
	for rest := w.pieces(); len(rest) > 0; {
		day := rest[0].day
		n := slices.IndexFunc(rest, func(p piece) bool { return p.day != day })
		if n < 0 {
			n = len(rest)
		}
		cw := &chunkWriter{work: w, enc: enc, day: day}
		if err := s.writeDay(ctx, day, w.days[day], func(tx *sql.Tx) error { return cw.write(ctx, tx, rest[:n]) }); err != nil {
			return s.spoil(day, err)
		}
		w.wrote[day] = cw.stat
		w.chunks += int(cw.stat.chunks)
		rest = rest[n:]
		if err := s.halted("wrote"); err != nil {
			return err
		}
	}
	if len(w.wrote) == 0 {
		return nil
	}
	return s.syncHistory()
}

// chunkWriter writes the chunks of one day.
type chunkWriter struct {
	*work

	enc  *wire.Encoder
	day  int64
	stat dayStat

	put         *sql.Stmt
	ids         *int64 // the number before the next; nil: the file gives them
	kind        int    // of what is gathered
	number      int64
	samples     []mesh.Sample
	marks       []mesh.Mark
	load        load // of samples
	first, last uint32
}

const putChunk = `INSERT INTO chunk (id, pass, kind, signal, last, t_from, t_to, sealed, marks) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)`

func (c *chunkWriter) write(ctx context.Context, tx *sql.Tx, pieces []piece) (err error) {
	if c.put, err = tx.PrepareContext(ctx, putChunk); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.put.Close()) }()
	c.kind = -1
	var sparse []piece
	for i, p := range pieces {
		if p.kind != c.kind {
			if err := c.mixed(ctx, sparse); err != nil {
				return err
			}
			sparse, c.kind = sparse[:0], p.kind
			if c.number, err = c.kindNumber(ctx, tx); err != nil {
				return err
			}
		}
		if p.to-p.from < sparseSamples {
			sparse = append(sparse, pieces[i])
			continue
		}
		c.add(p)
		if err := c.flush(ctx); err != nil {
			return err
		}
	}
	return c.mixed(ctx, sparse)
}

// mixed writes pieces of signals that have few samples, several to a chunk.
func (c *chunkWriter) mixed(ctx context.Context, pieces []piece) error {
	for _, p := range pieces {
		if err := c.share(ctx, p); err != nil {
			return err
		}
	}
	return c.flush(ctx)
}

// share puts a piece into the chunk at hand, or the next where it doesn't fit.
func (c *chunkWriter) share(ctx context.Context, p piece) error {
	more := load{upon: &c.load}
	more.addAll(p)
	if len(c.samples)+p.to-p.from > chunkSamples || len(c.samples) > 0 && more.over() {
		if err := c.flush(ctx); err != nil {
			return err
		}
	}
	c.add(p)
	c.load.addAll(p)
	return nil
}

// kindNumber is the number of the kind at hand in this file.
func (c *chunkWriter) kindNumber(ctx context.Context, tx *sql.Tx) (n int64, err error) {
	k := &c.kinds[c.kind].kind
	_, err = tx.ExecContext(ctx, `INSERT INTO kind (source, signals, judged, revision, rules) VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING`,
		k.source, k.table[:], k.judged, int64(k.revision), k.rules[:])
	if err != nil {
		return 0, err
	}
	err = tx.QueryRowContext(ctx, `SELECT n FROM kind WHERE source = ? AND signals = ? AND judged = ? AND revision = ? AND rules = ?`,
		k.source, k.table[:], k.judged, int64(k.revision), k.rules[:]).Scan(&n)
	return n, err
}

// add puts a piece behind what is gathered for the next chunk.
func (c *chunkWriter) add(p piece) {
	base := len(c.samples)
	if base == 0 {
		c.first = p.pile.signal
	}
	c.last = p.pile.signal
	c.samples = p.pile.samples(c.samples, p.from, p.to)
	if len(p.pile.marks) == 0 {
		return
	}
	for i := p.from; i < p.to; i++ {
		for _, m := range p.pile.marksAt(p.pile.index(i)) {
			c.marks = append(c.marks, mesh.Mark{Index: uint32(base + i - p.from), Rule: m.rule, Action: m.action})
		}
	}
}

// flush writes what is gathered as one chunk.
func (c *chunkWriter) flush(ctx context.Context) error {
	if len(c.samples) == 0 {
		return nil
	}
	k := &c.kinds[c.kind].kind
	sealed, err := c.enc.Seal(&mesh.Batch{Source: k.source, Table: k.table, Samples: c.samples})
	if err != nil {
		return fmt.Errorf("seal a chunk of %s: %w", k.source, err)
	}
	from, to := c.samples[0].Time, c.samples[0].Time
	for i := range c.samples {
		from, to = min(from, c.samples[i].Time), max(to, c.samples[i].Time)
	}
	var marks []byte
	if len(c.marks) > 0 {
		if marks, err = wire.SealVerdict(k.source, mesh.Verdict{Revision: k.revision, Rules: k.rules, Marks: c.marks}); err != nil {
			return fmt.Errorf("seal the marks of a chunk of %s: %w", k.source, err)
		}
	}
	var id any
	if c.ids != nil {
		*c.ids++
		id = *c.ids
	}
	_, err = c.put.ExecContext(ctx, id, c.work.number, c.number, c.first, c.last, int64(from), int64(endOf(to)), sealed, marks)
	c.stat.chunks++
	c.stat.samples += int64(len(c.samples))
	c.samples, c.marks, c.load = c.samples[:0], c.marks[:0], load{}
	return err
}

// endOf is the first instant behind one, or the last there is.
func endOf(t mesh.Nanos) mesh.Nanos { return max(t, t+1) }
