package hop

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"plantmesh/cloud/product"
	"plantmesh/cloud/product/runner"
	"plantmesh/cloud/store"
	"plantmesh/proto/mesh"
	"plantmesh/proto/meshtest"
)

// productHop is the second hop under the suite: from the hub's log to the rows and
// output logs of products. Writer and reader have the database open each for
// itself, so that each can be killed and come back alone.
type productHop struct {
	t   *testing.T
	dir string

	said   upstream
	w      *hubWriter
	r      *products
	defs   []*product.Definition
	loose  bool // the reader's fence is gone
	left   []*products
	leftW  []*hubWriter
	paused *products
	resume func()
	was    string // an older copy, as of the last time everything was settled
}

func newProductHop(t *testing.T) *productHop {
	t.Helper()
	h := &productHop{t: t, dir: t.TempDir()}
	h.said.init(t)
	all, err := product.Definitions()
	check(t, err)
	for _, d := range all {
		if slices.Contains([]string{"equipment-state", "production-rate", "coverage"}, d.ID) {
			h.defs = append(h.defs, d)
		}
	}
	h.w = h.openWriter()
	check(t, h.w.site(t.Context()))
	h.startReader()
	t.Cleanup(func() {
		h.bury()
		h.r.end(t)
		check(t, h.w.store.Close())
	})
	h.was = backupOf(t, h.dir)
	return h
}

// products are the runners over one opening of the database.
type products struct {
	store *store.Store
	set   *runner.Set
	takes takes
	stop  context.CancelFunc
	done  sync.WaitGroup
	idle  atomic.Int64 // steps that found nothing to do
}

// fenced is a store whose commits fail and wait on command.
type fenced struct {
	*store.Store

	takes *takes
	loose bool
}

// Commit implements runner.Output.
func (f fenced) Commit(ctx context.Context, step mesh.Step) (end mesh.Position, err error) {
	return end, f.takes.do(func() error {
		end, err = f.Store.Commit(ctx, step)
		if f.loose && errors.Is(err, mesh.ErrMoved) {
			// What the conditions are there to forbid: it takes the log, and doesn't look.
			if step.After, step.PlaceWas, err = f.Resume(ctx, step.Product, step.Partition); err == nil {
				end, err = f.Store.Commit(ctx, step)
			}
		}
		return err
	})
}

// startReader steps the products as Set.Run does, without its waits between two
// tries.
func (h *productHop) startReader() {
	h.t.Helper()
	ctx, stop := context.WithCancel(h.t.Context())
	p := &products{store: openStore(h.t, h.dir), stop: stop}
	cfg := runner.Config{Cadence: 50 * time.Millisecond, Growth: time.Nanosecond, Settle: time.Nanosecond}
	var err error
	p.set, err = runner.NewSetOf(h.defs, cfg, p.store, fenced{p.store, &p.takes, h.loose}, machineClock())
	check(h.t, err)
	p.done.Go(func() {
		look := time.NewTicker(40 * time.Millisecond) // the writer's bell is another opening's
		defer look.Stop()
		for ctx.Err() == nil {
			worked, err := p.set.Step(ctx)
			if worked && err == nil {
				continue
			}
			if err == nil {
				p.idle.Add(1)
			}
			select {
			case <-ctx.Done():
			case <-look.C:
			}
		}
	})
	h.r = p
}

func machineClock() runner.Clock {
	return runner.Clock{Now: func() mesh.Nanos { return mesh.NanosOf(time.Now()) }, Log: slog.New(slog.DiscardHandler)}
}

func (p *products) end(t *testing.T) {
	t.Helper()
	p.stop()
	p.done.Wait()
	check(t, p.store.Close())
}

// killReader leaves it as it stands, perhaps within a commit; nothing is closed.
func (h *productHop) killReader() {
	h.r.stop()
	h.left = append(h.left, h.r)
}

// killWriter leaves it with all that it has open.
func (h *productHop) killWriter() { h.leftW = append(h.leftW, h.w) }

// bury ends what was left behind.
func (h *productHop) bury() {
	if h.resume != nil {
		h.resume()
	}
	for _, p := range h.left {
		p.end(h.t)
	}
	for _, w := range h.leftW {
		check(h.t, w.store.Close())
	}
	h.left, h.leftW, h.paused, h.resume = nil, nil, nil, nil
}

// Write implements meshtest.Hop.
func (h *productHop) Write(ctx context.Context, first, n int) error {
	return h.said.write(ctx, h.w, first, n)
}

// Inflict implements meshtest.Hop.
func (h *productHop) Inflict(ctx context.Context, f meshtest.Fault) (why string, err error) {
	switch f {
	case meshtest.MessageLost, meshtest.BetweenDeleted:
		return "nothing lies between: the reader reads the log itself", nil
	case meshtest.AnswerLost:
		return "the answer is the place, and stands in the transaction with the rows", nil
	case meshtest.ReaderPutBack:
		return "rows, places and the hub's log are one database: they go back together", nil
	case meshtest.MessageDoubled, meshtest.MessageReordered, meshtest.MessageLate:
		h.said.armed = append(h.said.armed, f) // as the hop before hands it on
	case meshtest.WriterKilled:
		h.killWriter()
		return "", h.restartWriter(ctx)
	case meshtest.ReaderKilled:
		h.killReader()
		h.startReader()
	case meshtest.BothKilled:
		h.killReader()
		h.killWriter()
		h.startReader()
		return "", h.restartWriter(ctx)
	case meshtest.WriterPutBack:
		if err := h.arrived(ctx); err != nil {
			return "", err
		}
		h.r.end(h.t)
		check(h.t, h.w.store.Close())
		putBack(h.t, h.dir, h.was)
		h.startReader()
		if err := h.restartWriter(ctx); err != nil {
			return "", err
		}
		h.was = backupOf(h.t, h.dir)
	case meshtest.SecondWriter:
		return "", h.secondWriter(ctx)
	case meshtest.SecondReader:
		return "", h.secondReader(ctx)
	case meshtest.CommitRefused, meshtest.CommitUnsure:
		h.r.takes.fail(f)
	}
	return "", nil
}

// restartWriter opens the log anew, and has the agent give again what it lacks.
func (h *productHop) restartWriter(ctx context.Context) error {
	h.w = h.openWriter()
	return h.said.again(ctx, h.w)
}

// secondWriter has another open the log, and the one before write all the same
// what nobody said.
func (h *productHop) secondWriter(ctx context.Context) error {
	h.killWriter()
	was := h.w
	if err := h.restartWriter(ctx); err != nil {
		return err
	}
	stray, err := h.said.record(meshtest.At(1)+1, -1)
	if err != nil {
		return err
	}
	stray.At.Seq += 1000
	if err := was.take(ctx, stray); !errors.Is(err, mesh.ErrMoved) {
		return fmt.Errorf("a hub that was left writes, and is told %w", err)
	}
	return nil
}

// secondReader pauses the runners in the middle of a commit, and has others begin
// beside them.
func (h *productHop) secondReader(ctx context.Context) error {
	if err := h.comesBack(ctx); err != nil {
		return err
	}
	p := h.r
	h.paused, h.resume = p, p.takes.hold()
	h.left = append(h.left, p)
	if err := h.w.site(ctx); err != nil { // the same again: something to read
		return err
	}
	err := poll(ctx, "the first runners are about to commit", func() (bool, error) {
		waiting, _, _ := p.takes.counts()
		return waiting > 0, nil
	})
	h.startReader()
	return err
}

// comesBack lets the paused runners go on, beside those that took over, until they
// met the fence and found their way, or would go on without it.
func (h *productHop) comesBack(ctx context.Context) error {
	if h.paused == nil {
		return nil
	}
	p := h.paused
	idle, busy := p.idle.Load(), p.takes.busy()
	h.resume()
	h.paused, h.resume = nil, nil
	err := poll(ctx, "the paused runners find nothing to do", func() (bool, error) {
		_, refused, _ := p.takes.counts()
		return p.takes.busy() > busy && (refused > 0 || p.idle.Load() > idle+1), nil
	})
	p.stop()
	p.done.Wait()
	return err
}

// arrived waits until every product has read the hub's log through its end.
func (h *productHop) arrived(ctx context.Context) error {
	return poll(ctx, "the products have read all", func() (bool, error) {
		for _, why := range h.r.set.Troubles() {
			if why.Suspended {
				return false, fmt.Errorf("%s is suspended: %s", why.Product, why.Reason)
			}
		}
		tip, err := h.w.store.Tip(ctx, 0)
		for _, d := range h.defs {
			_, _, place, perr := h.r.store.Progress(ctx, d.ID)
			if err = errors.Join(err, perr); err != nil || place != tip {
				return false, err
			}
		}
		return true, nil
	})
}

// Settle implements meshtest.Hop.
func (h *productHop) Settle(ctx context.Context) error {
	if err := h.said.settle(ctx, h.w); err != nil {
		return err
	}
	if err := h.arrived(ctx); err != nil {
		return err
	}
	if err := h.comesBack(ctx); err != nil {
		return err
	}
	h.bury()
	if err := h.arrived(ctx); err != nil {
		return err
	}
	if _, _, unmet := h.r.takes.counts(); unmet > 0 {
		return fmt.Errorf("%d commits were to fail and none came", unmet)
	}
	h.was = backupOf(h.t, h.dir)
	return nil
}

// Read implements meshtest.Hop. Each input is an interval of its own in
// equipment-state; what else stands there is a phantom. Rows that are not those
// of one fold, never interrupted, over the same log into an empty database were
// made into something else; so is an output log that doesn't end in the rows. A
// change that stands in it twice is a duplicate.
func (h *productHop) Read(ctx context.Context, l *meshtest.Ledger) (meshtest.Missing, error) {
	want, err := h.straight(ctx)
	if err != nil {
		return nil, err
	}
	var gaps []mesh.Span
	for _, d := range h.defs {
		rows, err := currentRows(ctx, h.r.store, d.ID)
		if err != nil {
			return nil, err
		}
		rows = slices.DeleteFunc(rows, func(r mesh.Row) bool { return r.State == mesh.RowWithdrawn })
		differences(l, want[d.ID], rows)
		out, err := outputOf(ctx, h.r.store, d.ID)
		if err != nil {
			return nil, err
		}
		replay(l, d.ID == "equipment-state", out, rows)
		for _, r := range rows {
			switch d.ID {
			case "equipment-state":
				n, _ := meshtest.Number(r.From)
				l.Get(meshtest.Sample{Source: meshtest.Source, N: n}, r.From)
			case "coverage":
				gaps = append(gaps, mesh.Span{From: r.From, To: r.To})
			}
		}
	}
	return func(_ meshtest.Sample, f meshtest.Fate) meshtest.Absence {
		if slices.ContainsFunc(gaps, func(g mesh.Span) bool { return g.From <= f.At && (g.To == 0 || f.At < g.To) }) {
			return meshtest.AbsenceLost // it is named, and all the same it was told received
		}
		return meshtest.AbsenceUnmarked
	}, nil
}

// straight are the rows of one fold of all there is.
func (h *productHop) straight(ctx context.Context) (map[string][]mesh.Row, error) {
	into := &memory{rows: map[string]map[string]mesh.Row{}}
	set, err := runner.NewSetOf(h.defs, runner.Config{}, h.r.store, into, machineClock())
	if err != nil {
		return nil, err
	}
	if err := set.Flush(ctx); err != nil {
		return nil, err
	}
	out := map[string][]mesh.Row{}
	for product, rows := range into.rows {
		out[product] = slices.Collect(maps.Values(rows))
	}
	return out, nil
}

// memory is an empty database that is filled in one go: nobody asks it for rows or
// states before.
type memory struct {
	rows map[string]map[string]mesh.Row // of a product, by entity and key
}

// Resume implements runner.Output.
func (m *memory) Resume(_ context.Context, product string, _ int) (end, place mesh.Position, err error) {
	m.rows[product] = map[string]mesh.Row{}
	return end, place, nil
}

// State implements runner.Output.
func (m *memory) State(context.Context, string, string, mesh.Nanos) (f mesh.FoldState, ok bool, err error) {
	return f, false, nil
}

// Rows implements runner.Output.
func (m *memory) Rows(context.Context, mesh.RowQuery) (rows []mesh.Row, next string, err error) {
	return nil, "", nil
}

// Commit implements runner.Output.
func (m *memory) Commit(_ context.Context, step mesh.Step) (mesh.Position, error) {
	for _, r := range step.Rows {
		m.rows[step.Product][r.Entity+" "+r.Key] = r
		if r.State == mesh.RowWithdrawn {
			delete(m.rows[step.Product], r.Entity+" "+r.Key)
		}
	}
	return step.After, nil
}

// what is all that a row says, less when it was made and how often.
func what(r mesh.Row) string {
	return fmt.Sprintf("%s %s %d %d %d %s", r.Entity, r.Key, r.From, r.To, r.State, r.Body)
}

func differences(l *meshtest.Ledger, want, got []mesh.Row) {
	said := map[string]int{}
	for _, r := range want {
		said[what(r)]++
	}
	for _, r := range got {
		said[what(r)]--
	}
	for _, n := range said {
		if n != 0 {
			l.Disorder()
		}
	}
}

// replay reads an output log as its ports do.
func replay(l *meshtest.Ledger, inputs bool, out, rows []mesh.Row) {
	last := map[string]mesh.Row{}
	for _, r := range out {
		k := r.Entity + " " + r.Key
		was, ok := last[k]
		switch {
		case ok && what(was) == what(r):
			if n, is := meshtest.Number(r.From); is && inputs {
				l.Get(meshtest.Sample{Source: meshtest.Source, N: n}, r.From)
			} else {
				l.Disorder()
			}
		case ok && r.Revision < was.Revision:
			l.Disorder()
		}
		last[k] = r
	}
	var ends []mesh.Row
	for _, r := range last {
		if r.State != mesh.RowWithdrawn {
			ends = append(ends, r)
		}
	}
	differences(l, rows, ends)
}

// TestHop_HubToProduct runs the suite over a real database and the real runners.
func TestHop_HubToProduct(t *testing.T) {
	meshtest.Suite{
		Absent: []meshtest.Fault{meshtest.MessageLost, meshtest.BetweenDeleted, meshtest.AnswerLost, meshtest.ReaderPutBack},
		Seeds:  1, Rounds: 1,
	}.Run(t, func(t *testing.T) meshtest.Hop {
		t.Helper()
		return newProductHop(t)
	})
}
