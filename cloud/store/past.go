package store

import (
	"context"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"plantmesh/proto/mesh"
)

// What stays of a batch whose samples stand in chunks: its header, where it
// stood, and its checksum. Headers lie in runs, in log order, as distances from
// the one before of the same log and source: some 34 bytes each. Checksums lie
// in blocks by the position in the log they came from: some 7 bytes each.

const (
	// runEntries bounds a run: one is read to find any of its entries.
	runEntries = 256
	// sumBlock positions share a row of checksums: a kilobyte or two.
	sumBlock = 256
	// pastVersion is the first byte of a run and of a block.
	pastVersion = 1
)

// errPast says that a stored run or block is not one.
var errPast = errors.New("what is kept of compacted batches is damaged")

// origin is a log and one of its epochs; the zero origin is the hub's own.
type origin struct {
	log   int64 // account.n
	epoch mesh.Epoch
}

// past is one batch of which the body is gone.
type past struct {
	seq          int64 // in the hub's log
	of           origin
	ofSeq        uint64
	ord, through mesh.Ordinal
	header       mesh.Header
}

// pastCodec turns pasts into distances and back; both sides remember alike.
type pastCodec struct {
	seq     int64
	origins []origin
	sources []string
	needs   []mesh.Hash
	of      map[origin]past
	times   map[string]mesh.Nanos // the end of what the source said last
}

func newPastCodec() pastCodec {
	return pastCodec{of: map[origin]past{}, times: map[string]mesh.Nanos{}}
}

// stamps are the instants of a header, in the order they are written.
func stamps(h *mesh.Header) [5]*mesh.Nanos {
	return [5]*mesh.Nanos{&h.Proven.From, &h.Proven.To, &h.Complete, &h.Times.From, &h.Times.To}
}

func (c *pastCodec) remember(p *past) {
	c.seq = p.seq
	c.of[p.of] = *p
	c.times[p.header.About] = p.header.Proven.To
}

// encodeRun writes a run.
func encodeRun(run []past) []byte {
	b, c := []byte{pastVersion}, newPastCodec()
	b = binary.AppendUvarint(b, uint64(len(run)))
	for i := range run {
		p := &run[i]
		b = binary.AppendVarint(b, p.seq-c.seq)
		o := slices.Index(c.origins, p.of)
		if o < 0 {
			o, c.origins = len(c.origins), append(c.origins, p.of)
			b = binary.AppendUvarint(b, uint64(o))
			b = binary.AppendVarint(b, p.of.log)
			b = append(b, p.of.epoch[:]...)
		} else {
			b = binary.AppendUvarint(b, uint64(o))
		}
		was := c.of[p.of]
		b = binary.AppendVarint(b, int64(p.ofSeq-was.ofSeq))
		b = binary.AppendVarint(b, int64(p.ord-was.ord)-int64(p.ofSeq-was.ofSeq))
		b = binary.AppendVarint(b, int64(p.through-was.through))
		s := slices.Index(c.sources, p.header.About)
		if s < 0 {
			s, c.sources = len(c.sources), append(c.sources, p.header.About)
			b = binary.AppendUvarint(b, uint64(s))
			b = binary.AppendUvarint(b, uint64(len(p.header.About)))
			b = append(b, p.header.About...)
		} else {
			b = binary.AppendUvarint(b, uint64(s))
		}
		last := c.times[p.header.About]
		for _, t := range stamps(&p.header) {
			b = binary.AppendVarint(b, int64(*t-last))
			last = *t
		}
		b = binary.AppendUvarint(b, uint64(p.header.Count))
		b = binary.AppendUvarint(b, uint64(len(p.header.Needs)))
		for _, h := range p.header.Needs {
			n := slices.Index(c.needs, h)
			if n < 0 {
				n, c.needs = len(c.needs), append(c.needs, h)
				b = append(binary.AppendUvarint(b, uint64(n)), h[:]...)
			} else {
				b = binary.AppendUvarint(b, uint64(n))
			}
		}
		c.remember(p)
	}
	return b
}

// decodeRun reads what encodeRun wrote.
func decodeRun(b []byte) ([]past, error) {
	if len(b) == 0 || b[0] != pastVersion {
		return nil, errPast
	}
	r, c := cursor{b: b[1:]}, newPastCodec()
	n := r.count()
	out := make([]past, 0, n)
	for range n {
		p := past{seq: c.seq + r.varint()}
		p.of = c.origin(&r)
		was := c.of[p.of]
		step := uint64(r.varint())
		p.ofSeq = was.ofSeq + step
		p.ord = was.ord + mesh.Ordinal(r.varint()+int64(step))
		p.through = was.through + mesh.Ordinal(r.varint())
		p.header = mesh.Header{Kind: mesh.KindBatch, About: c.source(&r)}
		last := c.times[p.header.About]
		for _, t := range stamps(&p.header) {
			last += mesh.Nanos(r.varint())
			*t = last
		}
		p.header.Count = uint32(r.uvarint())
		for range r.count() {
			p.header.Needs = append(p.header.Needs, c.need(&r))
		}
		// Entries are found by halves.
		if r.bad || len(out) > 0 && p.seq <= c.seq {
			return nil, errPast
		}
		c.remember(&p)
		out = append(out, p)
	}
	if r.bad || len(r.b) > 0 {
		return nil, errPast
	}
	return out, nil
}

func (c *pastCodec) origin(r *cursor) (o origin) {
	switch n := r.uvarint(); {
	case n < uint64(len(c.origins)):
		return c.origins[n]
	case n > uint64(len(c.origins)):
		r.bad = true
		return o
	}
	o = origin{r.varint(), r.epoch()}
	c.origins = append(c.origins, o)
	return o
}

func (c *pastCodec) source(r *cursor) (s string) {
	switch n := r.uvarint(); {
	case n < uint64(len(c.sources)):
		return c.sources[n]
	case n > uint64(len(c.sources)):
		r.bad = true
		return ""
	}
	s = string(r.take(r.count()))
	c.sources = append(c.sources, s)
	return s
}

func (c *pastCodec) need(r *cursor) (h mesh.Hash) {
	switch n := r.uvarint(); {
	case n < uint64(len(c.needs)):
		return c.needs[n]
	case n > uint64(len(c.needs)):
		r.bad = true
		return h
	}
	copy(h[:], r.take(len(h)))
	c.needs = append(c.needs, h)
	return h
}

// sum is the checksum of a record at a place of a block, and where the record
// stands in the hub's log.
type sum struct {
	at    uint8 // of_seq modulo sumBlock
	crc   uint32
	epoch int64
	seq   int64
}

func encodeSums(sums []sum) []byte {
	b := []byte{pastVersion}
	b = binary.AppendUvarint(b, uint64(len(sums)))
	var epoch, seq int64
	for _, s := range sums {
		b = append(b, s.at)
		b = binary.LittleEndian.AppendUint32(b, s.crc)
		b = binary.AppendVarint(b, s.epoch-epoch)
		b = binary.AppendVarint(b, s.seq-seq)
		epoch, seq = s.epoch, s.seq
	}
	return b
}

func decodeSums(b []byte) ([]sum, error) {
	if len(b) == 0 || b[0] != pastVersion {
		return nil, errPast
	}
	r := cursor{b: b[1:]}
	n := r.count()
	out := make([]sum, 0, n)
	var epoch, seq int64
	for range n {
		var s sum
		if at := r.take(5); at != nil {
			s.at, s.crc = at[0], binary.LittleEndian.Uint32(at[1:])
		}
		epoch += r.varint()
		seq += r.varint()
		s.epoch, s.seq = epoch, seq
		// Places are found by halves: one that is missed would count as voided.
		if r.bad || len(out) > 0 && s.at <= out[len(out)-1].at {
			return nil, errPast
		}
		out = append(out, s)
	}
	if r.bad || len(r.b) > 0 {
		return nil, errPast
	}
	return out, nil
}

func (c *cursor) varint() int64 {
	v, n := binary.Varint(c.b)
	if n <= 0 {
		c.bad, c.b = true, nil
		return 0
	}
	c.b = c.b[n:]
	return v
}

func (c *cursor) take(n int) []byte {
	if n > len(c.b) {
		c.bad, c.b = true, nil
		return nil
	}
	out := c.b[:n]
	c.b = c.b[n:]
	return out
}

// readSums reads one block; nil where there is none.
func readSums(ctx context.Context, tx *sql.Tx, of origin, block int64) ([]sum, error) {
	var body []byte
	err := tx.QueryRowContext(ctx, `SELECT body FROM hub_sum WHERE of_log = ? AND of_epoch = ? AND block = ?`, of.log, of.epoch[:], block).Scan(&body)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return decodeSums(body)
}

// putSums adds checksums to a block, in order of place.
func putSums(ctx context.Context, tx *sql.Tx, of origin, block int64, more []sum) error {
	all, err := readSums(ctx, tx, of, block)
	if err != nil {
		return err
	}
	for _, s := range more {
		i, found := slices.BinarySearchFunc(all, s.at, func(x sum, at uint8) int { return int(x.at) - int(at) })
		if found {
			return fmt.Errorf("position %d of a log is compacted twice: %w", block*sumBlock+int64(s.at), errPast)
		}
		all = slices.Insert(all, i, s)
	}
	_, err = tx.ExecContext(ctx, `INSERT INTO hub_sum (of_log, of_epoch, block, body) VALUES (?, ?, ?, ?)
		ON CONFLICT (of_log, of_epoch, block) DO UPDATE SET body = excluded.body`, of.log, of.epoch[:], block, encodeSums(all))
	return err
}

// readPast reads at least most entries behind at, where there are so many, in
// log order.
func readPast(ctx context.Context, tx *sql.Tx, partition int, at spot, most int) (out []mesh.Entry, err error) {
	names := nameLogs(tx)
	for len(out) < most {
		var (
			epoch, last int64
			body, name  []byte
			log         mesh.LogID
		)
		err := tx.QueryRowContext(ctx, `SELECT p.epoch, p.last, p.body, e.log, e.epoch FROM hub_past p JOIN epoch e ON e.n = p.epoch
			WHERE p.partition = ? AND (p.epoch, p.last) > (?, ?) ORDER BY p.epoch, p.last LIMIT 1`, partition, at.epoch, at.seq).Scan(&epoch, &last, &body, &log, &name)
		if errors.Is(err, sql.ErrNoRows) {
			return out, nil
		}
		if err != nil {
			return nil, err
		}
		run, err := decodeRun(body)
		if err != nil {
			return nil, mesh.Permanent(err)
		}
		for i := range run {
			if epoch == at.epoch && run[i].seq <= at.seq {
				continue
			}
			e, err := names.entry(ctx, &run[i])
			if err != nil {
				return nil, err
			}
			e.At = mesh.Position{Log: log, Seq: uint64(run[i].seq)}
			copy(e.At.Epoch[:], name)
			out = append(out, e)
		}
		at = spot{epoch, last}
	}
	return out, nil
}

// logNames looks up what account numbers stand for.
type logNames struct {
	tx   *sql.Tx
	name map[int64]mesh.LogID
}

func nameLogs(tx *sql.Tx) logNames { return logNames{tx, map[int64]mesh.LogID{}} }

func (l logNames) of(ctx context.Context, n int64) (mesh.LogID, error) {
	if n == 0 {
		return "", nil
	}
	log, ok := l.name[n]
	if !ok {
		if err := l.tx.QueryRowContext(ctx, `SELECT log FROM account WHERE n = ?`, n).Scan(&log); err != nil {
			return "", err
		}
		l.name[n] = log
	}
	return log, nil
}

// entry is a past as readers get it: with its header and without sealed bytes.
func (l logNames) entry(ctx context.Context, p *past) (e mesh.Entry, err error) {
	e = mesh.Entry{Of: mesh.Position{Epoch: p.of.epoch, Seq: p.ofSeq}, Ord: p.ord, Through: p.through, Header: p.header}
	e.Of.Log, err = l.of(ctx, p.of.log)
	return e, err
}
