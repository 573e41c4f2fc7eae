package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"

	"plantmesh/proto/mesh"
	"plantmesh/proto/wire"
)

// gather is what one pass reads: the batches it takes, and their samples.
type gather struct {
	dec     *wire.Decoder
	kinds   []*kindPiles
	at      map[kind]int
	batches []batchRow
	samples int
	beside  int // bytes of texts, marks and piles, which samples don't say
	damaged int
	tables  map[mesh.Hash]bool // those that were looked for: they can be read

	prints printer
	undo   []undo // of the batch at hand
	lied   bool   // the batch at hand lies about its times
	texts  bool   // those of the batch at hand are counted
}

// Bounds of what a pass holds beside samples: some 100 MB with the batch that
// goes over them.
const (
	passBeside = 64 << 20
	markBytes  = 64   // a mark without its rule's name
	pileBytes  = 1024 // a pile of few samples
)

// behindAll is the end of a span with the last instant in it, as wire writes it.
const behindAll = mesh.Nanos(-1 << 63)

// kindPiles are the piles of one kind of sample.
type kindPiles struct {
	kind

	piles []*pile
	at    map[uint32]*pile
}

// batchRow is a batch a pass takes, as hub.db has it.
type batchRow struct {
	id    int64
	epoch int64
	crc   uint32
	past  past
}

// undo is how long a pile was before the batch at hand.
type undo struct {
	pile    *pile
	n       int
	texts   int
	ordered bool
	print   uint64
}

func newGather() (*gather, error) {
	dec, err := wire.NewDecoder()
	if err != nil {
		return nil, fmt.Errorf("gather batches: %w", err)
	}
	return &gather{dec: dec, at: map[kind]int{}, tables: map[mesh.Hash]bool{}}, nil
}

// read takes batches behind from up to and with to, until there are enough
// samples, and says how far it came. A batch that can't be read, or whose table
// can't, stays where it is: products call it damaged, and must go on to.
func (g *gather) read(ctx context.Context, tx *sql.Tx, p Pass, from, to spot) (through spot, err error) {
	rows, err := tx.QueryContext(ctx, `SELECT id, epoch, seq, of_log, of_epoch, of_seq, ord, through, sealed, verdict FROM hub_log
		WHERE partition = ? AND (epoch, seq) > (?, ?) AND (epoch, seq) <= (?, ?) AND kind = 2 ORDER BY epoch, seq`, p.Partition, from.epoch, from.seq, to.epoch, to.seq)
	if err != nil {
		return from, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var (
			b               batchRow
			epoch           []byte
			ofSeq, ord, thr int64
			sealed, verdict sql.RawBytes
			seq             int64
		)
		if err := rows.Scan(&b.id, &b.epoch, &seq, &b.past.of.log, &epoch, &ofSeq, &ord, &thr, &sealed, &verdict); err != nil {
			return from, err
		}
		copy(b.past.of.epoch[:], epoch)
		b.past.seq, b.past.ofSeq, b.past.ord, b.past.through = seq, uint64(ofSeq), mesh.Ordinal(ord), mesh.Ordinal(thr)
		ok, err := g.readable(ctx, tx, sealed)
		if err != nil {
			return from, err
		}
		if ok && g.take(&b, sealed, verdict) {
			g.batches = append(g.batches, b)
		} else {
			g.damaged++
		}
		through = spot{b.epoch, seq}
		if g.samples >= p.MaxSamples || g.beside >= p.beside || len(g.batches) >= passBatches {
			return through, nil
		}
	}
	if err := rows.Err(); err != nil {
		return from, err
	}
	return to, nil
}

// readable reports whether the table of a batch is there and can be read.
func (g *gather) readable(ctx context.Context, tx *sql.Tx, sealed []byte) (ok bool, err error) {
	h, err := wire.ParseHeader(sealed)
	if err != nil || h.Count == 0 || len(h.Needs) != 1 {
		return err == nil && h.Count == 0, nil
	}
	ok, known := g.tables[h.Needs[0]]
	if known {
		return ok, nil
	}
	var d mesh.Descriptor
	err = tx.QueryRowContext(ctx, `SELECT kind, content FROM descriptor WHERE hash = ?`, h.Needs[0][:]).Scan(&d.Kind, &d.Content)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return false, err
	}
	if err == nil {
		_, err = wire.Signals(d)
	}
	g.tables[h.Needs[0]] = err == nil
	return err == nil, nil
}

// take puts the samples of a batch onto their piles; ok is false where it
// can't be read, and then nothing of it stays.
func (g *gather) take(b *batchRow, sealed, verdict []byte) (ok bool) {
	h, err := wire.ParseHeader(sealed)
	if err != nil {
		return false
	}
	b.past.header, b.crc = h, crcOf(sealed)
	if h.Count == 0 {
		return true
	}
	if len(h.Needs) != 1 {
		return false
	}
	k := kind{source: h.About, table: h.Needs[0]}
	var v mesh.Verdict
	if verdict != nil {
		if v, err = wire.OpenVerdict(verdict); err != nil {
			return false
		}
		k.judged, k.revision, k.rules = true, v.Revision, v.Rules
	}
	if _, err := g.pile(g.kind(k), &h, sealed, v.Marks); err != nil {
		g.back()
		return false
	}
	return true
}

// errPile is returned where a batch holds something else than it says.
var errPile = errors.New("it holds something else than its header and marks say")

// pile puts the samples of a batch onto their piles, and says where readers must
// look for them. What an error leaves there is undone by back.
func (g *gather) pile(to *kindPiles, h *mesh.Header, sealed []byte, marks []mesh.Mark) (has extent, err error) {
	g.undo, g.lied, g.texts = g.undo[:0], false, false
	marked := marksByIndex(marks)
	for i := range marked {
		g.beside += markBytes + len(marked[i].Rule)
	}
	done := 0
	_, err = g.dec.Columns(sealed, func(c *wire.Column) {
		g.column(to, c, h.Times)
		has.add(c, done == 0)
		p := to.at[c.Signal]
		was := len(p.times)
		for len(marked) > 0 && int(marked[0].Index) < done+len(c.Times) {
			m, i := marked[0], int(marked[0].Index)-done
			marked = marked[1:]
			p.mark(was+i, m, g.prints.fingerprint(c, i))
		}
		p.add(c, &g.prints)
		done += len(c.Times)
	})
	if err == nil && (len(marked) > 0 || done != int(h.Count) || g.lied) {
		err = errPile
	}
	if err == nil {
		g.samples += done
	}
	return has, err
}

// column makes ready to take a column of the batch at hand.
func (g *gather) column(to *kindPiles, c *wire.Column, times mesh.Span) {
	p := to.at[c.Signal]
	if p == nil {
		p = to.add(c.Signal)
		g.beside += pileBytes
	}
	g.undo = append(g.undo, undo{p, len(p.times), len(p.texts), p.ordered, p.print})
	if !g.texts {
		for _, t := range c.Texts {
			g.beside += len(t)
		}
		g.texts = true
	}
	for _, t := range c.Times {
		if t < times.From || t >= times.To && times.To != behindAll {
			g.lied = true
		}
	}
}

func marksByIndex(marks []mesh.Mark) []mesh.Mark {
	if len(marks) == 0 {
		return nil
	}
	marks = slices.Clone(marks)
	slices.SortStableFunc(marks, func(a, b mesh.Mark) int { return int(a.Index) - int(b.Index) })
	return marks
}

// back undoes the batch at hand.
func (g *gather) back() {
	for _, u := range slices.Backward(g.undo) {
		u.pile.cut(u.n, u.texts)
		u.pile.ordered, u.pile.print = u.ordered, u.print
	}
}

func (g *gather) kind(k kind) *kindPiles {
	i, ok := g.at[k]
	if !ok {
		i = len(g.kinds)
		g.at[k] = i
		g.kinds = append(g.kinds, &kindPiles{kind: k, at: map[uint32]*pile{}})
	}
	return g.kinds[i]
}

func (k *kindPiles) add(signal uint32) *pile {
	p := &pile{signal: signal, ordered: true}
	k.at[signal] = p
	k.piles = append(k.piles, p)
	return p
}

// mark notes a finding about the sample that will lie at a place.
func (p *pile) mark(at int, m mesh.Mark, sample uint64) {
	p.marks = append(p.marks, pileMark{uint32(at), m.Rule, m.Action})
	p.print += markPrint(sample, m.Rule, m.Action)
}
