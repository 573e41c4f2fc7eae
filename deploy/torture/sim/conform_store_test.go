package sim

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"plantmesh/cloud/ingest"
	"plantmesh/cloud/port/stream"
	"plantmesh/cloud/product/runner"
	sqlite "plantmesh/cloud/store"
	"plantmesh/proto/mesh"
	"plantmesh/proto/wire"
)

// database is all that the rooms ask of a hub's store.
type database interface {
	ingest.Store
	runner.Log
	runner.Output
	stream.Outputs
}

// storePlace is where a database lies, so that its process can be killed.
type storePlace interface {
	open(t *testing.T) database
	killed(t *testing.T) storePlace
}

type modelStore struct{ s *store }

func (p modelStore) open(*testing.T) database { return p.s }

func (p modelStore) killed(*testing.T) storePlace {
	s := p.s.image()
	s.tap = &tap{}
	s.powerLoss()
	return modelStore{s}
}

type sqliteStore struct{ dir string }

func (p sqliteStore) open(t *testing.T) database {
	t.Helper()
	s, err := sqlite.Open(t.Context(), filepath.Join(p.dir, "hub.db"), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func (p sqliteStore) killed(t *testing.T) storePlace {
	t.Helper()
	to := t.TempDir()
	if err := os.CopyFS(to, os.DirFS(p.dir)); err != nil {
		t.Fatal(err)
	}
	return sqliteStore{to}
}

// names are positions by the order in which their epochs came.
type names map[mesh.Epoch]int

func (n names) of(p mesh.Position) string {
	if p.IsZero() {
		return "-"
	}
	if _, ok := n[p.Epoch]; !ok {
		n[p.Epoch] = len(n) + 1
	}
	return fmt.Sprintf("%s@%d:%d", p.Log, n[p.Epoch], p.Seq)
}

// storeRun is one script on one database.
type storeRun struct {
	t      *testing.T
	ctx    context.Context
	l      luck
	k      kit
	db     database
	names  names
	end    mesh.Position // as this writer believes
	outEnd mesh.Position
	place  mesh.Position
	old    []mesh.Position // ends of before
	agent  mesh.Position
	acc    *mesh.Account
	taken  []mesh.Position
	ends   []mesh.Position // of the output log
	out    []string
}

func (r *storeRun) say(format string, args ...any) {
	r.out = append(r.out, fmt.Sprintf(format, args...))
}

// entry is the next record of an agent, or one that came before.
func (r *storeRun) entry(again bool) mesh.Entry {
	r.t.Helper()
	n := int64(r.agent.Seq)
	b := mesh.Batch{Source: "d0", Table: r.k.table.Hash(), Samples: []mesh.Sample{{Signal: 1, Time: mesh.Nanos(n * 100), Value: mesh.Int(n)}}}
	sealed, err := r.k.enc.Seal(&b)
	if err != nil {
		r.t.Fatal(err)
	}
	h, err := wire.ParseHeader(sealed)
	if err != nil {
		r.t.Fatal(err)
	}
	at := r.agent
	if again && len(r.taken) > 0 {
		at = r.taken[r.l.below(len(r.taken))]
	}
	return mesh.Entry{Of: at, Ord: mesh.Ordinal(1<<40 | at.Seq), Through: mesh.Ordinal(1<<40 | at.Seq), Header: h, Sealed: sealed}
}

func (r *storeRun) take() {
	after, again := r.end, r.l.below(8) == 0
	if len(r.old) > 0 && r.l.below(6) == 0 {
		after = r.old[r.l.below(len(r.old))]
	}
	t := mesh.Take{After: after, Accounts: []*mesh.Account{r.acc}, Place: mesh.Place{Stream: "s", Seq: r.agent.Seq}}
	for range r.l.below(3) {
		r.agent.Seq++
		t.Entries = append(t.Entries, r.entry(again))
	}
	if r.l.below(2) == 0 {
		t.Descriptors = append(t.Descriptors, r.k.table)
	}
	end, err := r.db.Take(r.ctx, t)
	r.say("take %d after %s: %s %s", len(t.Entries), r.names.of(after), kindOf(err), r.names.of(end))
	if err != nil {
		return
	}
	for _, e := range t.Entries {
		r.taken = append(r.taken, e.Of)
	}
	if r.end != end {
		r.old = append(r.old, r.end)
	}
	r.end = end
}

func (r *storeRun) commit() {
	st := mesh.Step{Product: "p", After: r.outEnd, PlaceWas: r.place, Place: r.end, Progress: 5, Watermark: 4}
	switch r.l.below(6) {
	case 0:
		st.PlaceWas = mesh.Position{Log: hubLog, Epoch: mesh.Epoch{9}, Seq: 1}
	case 1:
		if len(r.ends) > 1 {
			st.After = r.ends[r.l.below(len(r.ends)-1)]
		}
	}
	if from := mesh.Nanos(r.l.below(60)); r.l.below(2) == 0 {
		st.Stale = []mesh.Stale{{Key: fmt.Sprint("s", r.l.below(3)), At: mesh.Span{From: from, To: from + 20}}}
	}
	for range r.l.below(4) {
		n := r.l.below(8)
		st.Rows = append(st.Rows, mesh.Row{
			Product: "p", Entity: fmt.Sprint("e", n%3), Key: fmt.Sprint("k", n), From: mesh.Nanos(n * 10), To: mesh.Nanos(r.l.below(2) * (n*10 + 15)),
			State: mesh.RowState(1 + r.l.below(3)), Revision: uint32(1 + r.l.below(3)), Produced: 7, Body: fmt.Appendf(nil, `{"n":%d}`, r.l.below(100)),
		})
	}
	for range r.l.below(3) {
		st.States = append(st.States, mesh.FoldState{Key: fmt.Sprint("s", r.l.below(2)), At: mesh.Nanos(r.l.below(6) * 10), Bytes: fmt.Append(nil, r.l.below(100))})
	}
	end, err := r.db.Commit(r.ctx, st)
	r.say("commit %d rows: %s %s", len(st.Rows), kindOf(err), r.names.of(end))
	if err == nil {
		r.outEnd, r.place, r.ends = end, st.Place, append(r.ends, end)
	}
}

func (r *storeRun) read() {
	after := mesh.Position{}
	if len(r.old) > 0 && r.l.below(3) > 0 {
		after = r.old[r.l.below(len(r.old))]
	}
	if r.l.below(8) == 0 {
		after = mesh.Position{Log: hubLog, Epoch: mesh.Epoch{7}, Seq: 3}
	}
	entries, err := r.db.Peek(r.ctx, 0, after, 1+r.l.below(9))
	r.say("peek: %s %s", kindOf(err), r.entries(entries))
	from := mesh.Nanos(r.l.below(3000))
	entries, err = r.db.HistoryWithin(r.ctx, "d0", mesh.Span{From: from, To: from + 700}, int64(r.l.below(3))*400)
	r.say("history: %s %s", kindOf(err), r.entries(entries))
	lost := []mesh.Range{{Epoch: r.agent.Epoch, First: uint64(1 + r.l.below(9)), Last: uint64(9 + r.l.below(9))}}
	entries, err = r.db.Came(r.ctx, agentLog, lost)
	r.say("came: %s %s", kindOf(err), r.entries(entries))
	sums, err := r.db.Sums(r.ctx, append(slices.Clone(r.taken[:len(r.taken)/2]), mesh.Position{Log: agentLog, Epoch: r.agent.Epoch, Seq: 1 << 30}))
	r.say("sums: %s %d %v", kindOf(err), len(sums), slices.Sorted(maps.Values(sums)))
	d, ok, err := r.db.Descriptor(r.ctx, r.k.table.Hash())
	r.say("descriptor: %v %s %d", ok, kindOf(err), len(d.Content))
}

func (r *storeRun) entries(all []mesh.Entry) string {
	var s strings.Builder
	for _, e := range all {
		fmt.Fprintf(&s, "%s of %s %d %d %s %d; ", r.names.of(e.At), r.names.of(e.Of), e.Ord, e.Through, e.Header.Kind, len(e.Sealed))
	}
	return s.String()
}

func (r *storeRun) readRows() {
	q := mesh.RowQuery{Product: "p", Limit: 1 + r.l.below(4), Withdrawn: r.l.below(2) == 0}
	if r.l.below(2) == 0 {
		q.Span = mesh.Span{From: mesh.Nanos(r.l.below(60)), To: mesh.Nanos(20 + r.l.below(60))}
	}
	if r.l.below(2) == 0 {
		q.Entities = []string{"e1", "e0"}
	}
	if r.l.below(3) == 0 {
		from := mesh.Nanos(r.l.below(60))
		q.Begins, q.Open = mesh.Span{From: from, To: from + 30}, r.l.below(2) == 0
	}
	for range 9 {
		rows, next, err := r.db.Rows(r.ctx, q)
		r.say("rows: %s %v %s", kindOf(err), next != "", r.rows(rows))
		if q.After = next; next == "" {
			break
		}
	}
	after := mesh.Position{}
	if len(r.ends) > 0 && r.l.below(3) > 0 {
		after = r.ends[r.l.below(len(r.ends))]
	}
	rows, err := r.db.Out(r.ctx, "p", after, 1+r.l.below(6))
	r.say("out behind %s: %s %s", r.names.of(after), kindOf(err), r.rows(rows))
	st, ok, err := r.db.State(r.ctx, "p", fmt.Sprint("s", r.l.below(3)), mesh.Nanos(r.l.below(60)))
	r.say("state: %v %s %d %s", ok, kindOf(err), st.At, st.Bytes)
	at, err := r.db.PortPlace(r.ctx, "x", "p")
	r.say("port at %s: %s", r.names.of(at), kindOf(err))
	if r.l.below(8) == 0 { // it takes itself to be elsewhere
		at = r.outEnd
	}
	r.say("port acknowledges: %s", kindOf(r.db.AckPort(r.ctx, "x", "p", at, r.outEnd)))
}

func (r *storeRun) rows(all []mesh.Row) string {
	var s strings.Builder
	for _, x := range all {
		fmt.Fprintf(&s, "%s/%s %d-%d %d r%d %s %s; ", x.Entity, x.Key, x.From, x.To, x.State, x.Revision, r.names.of(x.At), x.Body)
	}
	return s.String()
}

func storeScript(t *testing.T, p storePlace, seed uint64) []string {
	t.Helper()
	r := &storeRun{t: t, ctx: t.Context(), l: luck(seed), k: newKit(t), db: p.open(t), names: names{}, agent: mesh.Position{Log: agentLog, Epoch: mesh.Epoch{1}}}
	r.acc = &mesh.Account{Log: agentLog, Chain: []mesh.Link{{Epoch: r.agent.Epoch}}}
	backup := p
	begin := func() {
		if r.l.below(3) > 0 || r.end.IsZero() {
			o, err := r.db.OpenLog(r.ctx, 0)
			r.say("open: %s %s place %d, %d accounts", kindOf(err), r.names.of(o.End), o.Place.Seq, len(o.Accounts))
			for _, e := range o.Before {
				r.say("before it %s", r.names.of(mesh.Position{Log: hubLog, Epoch: e, Seq: 1}))
			}
			r.old, r.end = append(r.old, r.end), o.End
		}
		if r.l.below(3) > 0 || r.outEnd.IsZero() {
			end, place, err := r.db.Resume(r.ctx, "p", 0)
			r.say("resume: %s %s place %s", kindOf(err), r.names.of(end), r.names.of(place))
			r.outEnd, r.place, r.ends = end, place, append(r.ends, end)
		}
	}
	begin()
	for range 80 {
		switch r.l.below(12) {
		case 0, 1, 2, 3:
			r.take()
		case 4, 5:
			r.commit()
		case 6, 7:
			r.read()
		case 8, 9:
			r.readRows()
		case 10:
			begin()
		default:
			switch p = p.killed(t); r.l.below(3) {
			case 0:
				backup = p.killed(t)
			case 1: // restored: positions of the branch that is gone are unknown
				p = backup.killed(t)
				r.db = p.open(t)
				r.end, r.outEnd = mesh.Position{}, mesh.Position{}
				begin()
				continue
			}
			r.db = p.open(t)
			r.say("killed")
		}
	}
	return r.out
}

func TestConform_Store(t *testing.T) {
	seeds := uint64(10)
	if testing.Short() {
		seeds = 3
	}
	for seed := range seeds {
		model := storeScript(t, modelStore{newStore(&tap{})}, seed+1)
		same(t, seed+1, model, storeScript(t, sqliteStore{t.TempDir()}, seed+1))
	}
}
