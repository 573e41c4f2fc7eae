package store

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"os"
	"slices"

	"plantmesh/proto/mesh"
	"plantmesh/proto/wire"
)

// merging is one merge of a day under way.
type merging struct {
	*work

	day   int64
	known dayStat
	rows  []listed // by kind, signal and number
	of    []int64  // numbers of the kinds

	own, shared *chunkWriter
	last        int64     // number of the chunk written last
	least       uint32    // signal that is piled
	most        int       // samples in memory
	want        []countOf // by kind
	back        []countOf // as read back
	file        *os.File  // that is written
	synced      int64     // samples in it
	halted      func(string) error
}

// countOf is what there is of each signal of a kind.
type countOf map[uint32]*found

func (c countOf) at(signal uint32) *found {
	f := c[signal]
	if f == nil {
		f = &found{}
		c[signal] = f
	}
	return f
}

// listed is a chunk of the list.
type listed struct {
	id, kind     int64
	signal, last uint32
}

// A file that was merged numbers its chunks from -samples on, so that there is a
// number for each whatever there are, and the last one as it was numbered before.
func newMerging(day int64, known dayStat, halted func(string) error) (*merging, error) {
	m := &merging{day: day, known: known, last: -known.samples, most: mergeSamples, halted: halted}
	g, err := newGather()
	if err != nil {
		return nil, err
	}
	enc, err := wire.NewEncoder()
	if err != nil {
		return nil, fmt.Errorf("merge chunks: %w", err)
	}
	m.work = &work{gather: g, number: known.pass}
	m.own = &chunkWriter{work: m.work, enc: enc, day: day, ids: &m.last}
	m.shared = &chunkWriter{work: m.work, enc: enc, day: day, ids: &m.last}
	return m, nil
}

func (m *merging) chunks() int { return int(m.own.stat.chunks + m.shared.stat.chunks) }

// write reads the day's file and writes the other one, synced.
func (m *merging) write(ctx context.Context, from, to string) (err error) {
	src, err := openFile(ctx, from, mergeCacheKiB)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, src.Close()) }()
	if m.file, err = likeFile(from, to); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, m.file.Close()) }() // SQLite's locks go with it: at the end
	// Without a journal and syncs: whatever breaks off, the file is removed.
	dst, err := sql.Open("sqlite", dsn(to, "immediate", "off", fmt.Sprintf("page_size(%d)", dayPageBytes), "synchronous(off)"))
	if err != nil {
		return fmt.Errorf("open %s: %w", to, plain(err))
	}
	dst.SetMaxOpenConns(1)
	err = within(ctx, src, func(r *sql.Tx) error {
		if err := m.known.check(ctx, r, m.day, maxPass); err != nil {
			return err
		}
		return within(ctx, dst, func(w *sql.Tx) error { return m.merge(ctx, r, w) })
	})
	if err := errors.Join(err, dst.Close()); err != nil {
		return err
	}
	if err := m.file.Sync(); err != nil {
		return fmt.Errorf("sync %s: %w", to, err)
	}
	return nil
}

// likeFile makes an empty file that those may read who may read the other.
func likeFile(other, path string) (*os.File, error) {
	i, err := os.Stat(other)
	if err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, i.Mode().Perm())
	if err != nil {
		return nil, fmt.Errorf("make %s: %w", path, err)
	}
	return f, nil
}

// sync has what was written go to the disk bit by bit: a gigabyte at once would
// hold up whoever syncs something else.
func (m *merging) sync() error {
	if n := m.own.stat.samples + m.shared.stat.samples; n-m.synced >= syncSamples {
		m.synced = n
		return m.file.Sync()
	}
	return nil
}

// merge fills the new file.
func (m *merging) merge(ctx context.Context, r, w *sql.Tx) (err error) {
	if _, err := w.ExecContext(ctx, daySchema); err != nil {
		return err
	}
	if err := m.copyKinds(ctx, r, w); err != nil {
		return err
	}
	if err := m.list(ctx, r); err != nil {
		return err
	}
	if err := m.halted("merge listed"); err != nil {
		return err
	}
	get, err := r.PrepareContext(ctx, `SELECT t_from, t_to, sealed, marks FROM chunk WHERE id = ?`)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, get.Close()) }()
	put, err := w.PrepareContext(ctx, putChunk)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, put.Close()) }()
	m.own.put, m.shared.put = put, put
	for from := 0; from < len(m.rows); {
		to := from
		for to < len(m.rows) && m.rows[to].kind == m.rows[from].kind {
			to++
		}
		if err := m.oneKind(ctx, get, m.rows[from:to]); err != nil {
			return err
		}
		from = to
	}
	if n := m.own.stat.samples + m.shared.stat.samples; n != m.known.samples {
		return fmt.Errorf("it holds %d samples, %d were written to it: %w", n, m.known.samples, errUnmerged)
	}
	_, err = w.ExecContext(ctx, `UPDATE chunk SET id = ? WHERE id = ?`, m.known.chunks, m.last)
	return err
}

// copyKinds copies the kinds, with their numbers.
func (m *merging) copyKinds(ctx context.Context, r, w *sql.Tx) (err error) {
	rows, err := r.QueryContext(ctx, `SELECT n, source, signals, judged, revision, rules FROM kind ORDER BY n`)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var (
			n, revision  int64
			k            kind
			table, rules []byte
		)
		if err := rows.Scan(&n, &k.source, &table, &k.judged, &revision, &rules); err != nil {
			return err
		}
		copy(k.table[:], table)
		copy(k.rules[:], rules)
		k.revision = uint64(revision)
		if m.kind(k); len(m.kinds) != len(m.of)+1 {
			return fmt.Errorf("kind %d is there twice: %w", n, errUnmerged)
		}
		m.of = append(m.of, n)
		m.want, m.back = append(m.want, countOf{}), append(m.back, countOf{})
		_, err := w.ExecContext(ctx, `INSERT INTO kind (n, source, signals, judged, revision, rules) VALUES (?, ?, ?, ?, ?, ?)`, n, k.source, table, k.judged, revision, rules)
		if err != nil {
			return err
		}
	}
	return rows.Err()
}

// list finds all chunks, in the order they are read. It looks at the table, not
// at an index: a chunk that one doesn't name must not be left behind.
func (m *merging) list(ctx context.Context, r *sql.Tx) (err error) {
	rows, err := r.QueryContext(ctx, `SELECT id, kind, signal, last FROM chunk NOT INDEXED`)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var l listed
		if err := rows.Scan(&l.id, &l.kind, &l.signal, &l.last); err != nil {
			return err
		}
		if len(m.rows) == mergeChunks {
			return fmt.Errorf("it has more than %d chunks: %w", mergeChunks, errUnmerged)
		}
		m.rows = append(m.rows, l)
	}
	slices.SortFunc(m.rows, func(a, b listed) int {
		return cmp.Or(cmp.Compare(a.kind, b.kind), cmp.Compare(a.signal, b.signal), cmp.Compare(a.id, b.id))
	})
	return rows.Err()
}

// oneKind merges the chunks of a kind. A signal is written once no chunk that
// comes can have it, or once there is too much in memory.
func (m *merging) oneKind(ctx context.Context, get *sql.Stmt, rows []listed) error {
	i := slices.Index(m.of, rows[0].kind)
	if i < 0 {
		return fmt.Errorf("chunk %d is of no kind: %w", rows[0].id, errUnmerged)
	}
	k := m.kinds[i]
	for _, c := range []*chunkWriter{m.own, m.shared} {
		c.kind, c.number = i, m.of[i]
	}
	for _, l := range rows {
		if len(k.piles) > 0 && m.least < l.signal {
			if err := m.settle(ctx, i, int64(l.signal)); err != nil {
				return err
			}
		}
		if len(k.piles) == 0 {
			m.least = l.signal
		}
		if err := m.read(ctx, get, k, l); err != nil {
			return err
		}
		if m.samples >= m.most || m.gather.beside >= passBeside {
			if err := m.settle(ctx, i, math.MaxUint32+1); err != nil {
				return err
			}
		}
	}
	if err := m.settle(ctx, i, math.MaxUint32+1); err != nil {
		return err
	}
	return m.shared.flush(ctx)
}

// read piles up a chunk. One that isn't what its row says can't be merged.
func (m *merging) read(ctx context.Context, get *sql.Stmt, k *kindPiles, l listed) error {
	var (
		said          = extent{signal: l.signal, last: l.last}
		sealed, marks []byte
		v             mesh.Verdict
	)
	if err := get.QueryRowContext(ctx, l.id).Scan(&said.from, &said.to, &sealed, &marks); err != nil {
		return err
	}
	h, err := wire.ParseHeader(sealed)
	if err == nil && (h.About != k.source || len(h.Needs) != 1 || h.Needs[0] != k.table) {
		err = errPile
	}
	if err == nil && marks != nil {
		if v, err = wire.OpenVerdict(marks); err == nil && (!k.judged || v.Revision != k.revision || v.Rules != k.rules) {
			err = errPile
		}
	}
	if err == nil {
		var has extent
		if has, err = m.pile(k, &h, sealed, v.Marks); err == nil && (has != said || dayOf(has.from) != m.day || dayOf(has.to-1) != m.day) {
			err = errPile
		}
	}
	if err != nil {
		return fmt.Errorf("chunk %d, signal %d of %s: %w: %w", l.id, l.signal, k.source, err, errUnmerged)
	}
	return nil
}

// settle writes the piles of signals before one, and forgets them.
func (m *merging) settle(ctx context.Context, i int, before int64) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	k := m.kinds[i]
	slices.SortFunc(k.piles, func(a, b *pile) int { return cmp.Compare(a.signal, b.signal) })
	done := 0
	for ; done < len(k.piles) && int64(k.piles[done].signal) < before; done++ {
		p := k.piles[done]
		if err := m.put(ctx, i, p); err != nil {
			return err
		}
		if err := m.sync(); err != nil {
			return err
		}
		m.samples -= len(p.times)
		delete(k.at, p.signal)
	}
	k.piles = slices.Delete(k.piles, 0, done)
	if len(k.piles) == 0 {
		m.gather.beside = 0
	} else {
		m.least = k.piles[0].signal
	}
	return nil
}

// put writes a pile: a signal of few samples shares chunks with others.
func (m *merging) put(ctx context.Context, i int, p *pile) error {
	p.sort()
	f := m.want[i].at(p.signal)
	f.n += len(p.times)
	f.print += p.print
	for _, part := range cut(nil, piece{m.day, i, p, 0, len(p.times)}) {
		if len(p.times) < sparseSamples {
			if err := m.shared.share(ctx, part); err != nil {
				return err
			}
			continue
		}
		m.own.add(part)
		if err := m.own.flush(ctx); err != nil {
			return err
		}
	}
	return nil
}

// verify reads the new file as a pass reads what it wrote, and compares it with
// what was read of the old one.
func (m *merging) verify(ctx context.Context, path string) (err error) {
	db, err := openFile(ctx, path, dayCacheKiB)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	if err := m.known.check(ctx, db, m.day, maxPass); err != nil {
		return err
	}
	rows, err := db.QueryContext(ctx, `SELECT id, kind, signal, last, t_from, t_to, sealed, marks FROM chunk NOT INDEXED`)
	if err != nil {
		return plain(err)
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	n := 0
	for ; rows.Next(); n++ {
		var (
			id, of        int64
			said          extent
			sealed, marks sql.RawBytes
		)
		if err := rows.Scan(&id, &of, &said.signal, &said.last, &said.from, &said.to, &sealed, &marks); err != nil {
			return plain(err)
		}
		i := slices.Index(m.of, of)
		if i < 0 {
			return fmt.Errorf("chunk %d: %w", id, errVerify)
		}
		has, err := m.count(&m.kinds[i].kind, sealed, marks, m.back[i].at)
		if err == nil && has != said {
			err = errVerify
		}
		if err != nil {
			return fmt.Errorf("chunk %d: %w", id, err)
		}
	}
	if err := rows.Err(); err != nil {
		return plain(err)
	}
	return m.compare(n)
}

// compare says whether as much was read back as was put in.
func (m *merging) compare(chunks int) error {
	if chunks != m.chunks() {
		return fmt.Errorf("%d chunks of %d: %w", chunks, m.chunks(), errVerify)
	}
	for i, want := range m.want {
		for signal, f := range want {
			if got := m.back[i][signal]; got == nil || *got != *f {
				return fmt.Errorf("signal %d of %s: %w", signal, m.kinds[i].source, errVerify)
			}
		}
		if len(m.back[i]) != len(want) {
			return fmt.Errorf("%d signals of %s, not %d: %w", len(m.back[i]), m.kinds[i].source, len(want), errVerify)
		}
	}
	return nil
}
