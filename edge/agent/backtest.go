package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"golang.org/x/sync/errgroup"

	"plantmesh/edge/quality"
	"plantmesh/edge/status"
	"plantmesh/proto/mesh"
	"plantmesh/proto/strict"
	"plantmesh/proto/wire"
)

// Backtested is what rules would have found in what the buffer has.
type Backtested struct {
	Records uint64             `json:"records"`
	Samples uint64             `json:"samples"`
	From    string             `json:"from,omitempty"`
	To      string             `json:"to,omitempty"`
	Marked  uint64             `json:"marked"` // by each rule; a sample may be marked by several
	Found   []status.RuleFound `json:"found"`
	More    uint64             `json:"more,omitempty"` // found, and too many to count one by one
	Nothing []string           `json:"nothing"`        // rules that found nothing
	Unread  uint64             `json:"unread,omitempty"`
}

// tried are the rules to try: those of files, or of rules.d as they are now.
func (c *Config) tried(files []string) (*quality.Rules, error) {
	if len(files) == 0 {
		return c.Rules, c.Need(Rules)
	}
	var sets []*quality.Rules
	for _, f := range files {
		one, err := ruleFile(f)
		if err != nil {
			return nil, err
		}
		sets = append(sets, one)
	}
	return quality.Join(sets)
}

// BacktestFile has rules look at what an export holds, without an agent: see Backtest.
func (c *Config) BacktestFile(source string, files []string, export string) (b Backtested, err error) {
	rules, err := c.tried(files)
	if err != nil {
		return b, err
	}
	in, err := os.Open(export)
	if err != nil {
		return b, &strict.Fault{File: export, What: strict.Unreadable(err)}
	}
	defer in.Close() //nolint:errcheck // it was only read
	if err := b.read(in, source, rules); err != nil {
		return b, fmt.Errorf("%w: %s: %w", ErrNoExport, export, err)
	}
	return b, nil
}

// ErrNoExport is returned for a file that holds something else than records.
var ErrNoExport = errors.New("not a whole file of records, as buffer export writes one by itself or with --format records")

// Backtest has rules look at what the running agent's buffer has: those of files, or of
// rules.d as they are now. They begin without a memory, as they would on a new gateway.
func (c *Config) Backtest(ctx context.Context, source string, files []string) (b Backtested, err error) {
	rules, err := c.tried(files)
	if err != nil {
		return b, err
	}
	if _, err := Status(ctx, *c); err != nil {
		return b, err
	}
	in, out := io.Pipe()
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		_, err := status.Export(gctx, c.Status, out, status.ExportQuery{Source: source})
		return errors.Join(err, out.CloseWithError(err))
	})
	g.Go(func() error {
		err := b.read(in, "", rules)
		return errors.Join(err, in.CloseWithError(err))
	})
	err = g.Wait()
	return b, err
}

// backtest is one on its way.
type backtest struct {
	rules *quality.Rules
	state quality.State
	found findings
	open  *opener
	times mesh.Span

	source string // empty: all
}

// tables are descriptors by their names, as they come before the records.
type tables map[mesh.Hash]mesh.Descriptor

// Descriptor implements descriptors.
func (t tables) Descriptor(h mesh.Hash) (mesh.Descriptor, bool) {
	d, ok := t[h]
	return d, ok
}

// read judges the records of an export, of one source alone if that is not empty.
func (b *Backtested) read(from io.Reader, source string, rules *quality.Rules) error {
	known := tables{}
	open, err := newOpener(known)
	if err != nil {
		return err
	}
	t := backtest{rules: rules, open: open, source: source}
	if err := frames(from, known, func(frame []byte) error { b.judge(&t, frame); return nil }); err != nil {
		return err
	}
	b.Found, b.More, b.Nothing = append([]status.RuleFound{}, t.found.told()...), t.found.more, []string{}
	for _, r := range rules.All() {
		if !slices.ContainsFunc(b.Found, func(f status.RuleFound) bool { return f.Rule == r.ID }) {
			b.Nothing = append(b.Nothing, r.ID)
		}
	}
	b.Marked = t.found.more
	for i := range b.Found {
		b.Marked += b.Found[i].Count
	}
	if b.Samples > 0 {
		b.From, b.To = instant(t.times.From), instant(t.times.To)
	}
	return nil
}

// judge has the rules look at one record.
func (b *Backtested) judge(t *backtest, frame []byte) {
	r, err := wire.ParseRecord(frame)
	if err != nil {
		b.Unread++
		return
	}
	h, err := wire.ParseHeader(r.Sealed)
	if err != nil || h.Kind != mesh.KindBatch || h.Count == 0 || t.source != "" && h.About != t.source {
		return
	}
	batch, names, err := t.open.batch(r)
	if err != nil {
		b.Unread++
		return
	}
	table := make([]mesh.Signal, 0, len(names))
	for _, s := range names {
		table = append(table, s)
	}
	b.Records++
	b.Samples += uint64(len(batch.Samples))
	for _, s := range batch.Samples {
		if t.times.From == 0 || s.Time < t.times.From {
			t.times.From = s.Time
		}
		t.times.To = max(t.times.To, s.Time)
	}
	t.found.add(&batch, table, t.rules.Judge(r.At, batch, table, &t.state).Marks)
}
