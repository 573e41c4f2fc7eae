package sim

import (
	"cmp"
	"context"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"

	"plantmesh/cloud/product"
	"plantmesh/proto/mesh"
	"plantmesh/proto/wire"
)

var errStore = errors.New("the store refused to commit")

// store is a model of the hub's database, at the level of transactions. It is
// what a process sees; what of it survives a power loss is kept beside.
type store struct {
	tap  *tap
	now  *tableSet
	safe *tableSet // nil: as now

	unsynced      bool // control: synchronous=NORMAL
	apart         bool // control: the accounts are a transaction of their own
	unconditional bool // control: an append names no end
	keepsEpoch    bool // control: an opening goes on in the epoch that stands
	uncontiguous  bool // control: through is the highest that came
	arrival       bool // control: late input folds onto the newest state
}

func newStore(t *tap) *store { return &store{tap: t, now: newTables()} }

// tableSet is all the tables.
type tableSet struct {
	epochs   []epochRow // in the order they began
	entries  []mesh.Entry
	of       map[mesh.Position]int // of an agent's position: its entry
	accounts map[mesh.LogID]*mesh.Account
	descs    map[mesh.Hash]mesh.Descriptor
	place    mesh.Place
	outs     map[string]*output
	ports    map[string]mesh.Position
}

// epochRow is one epoch of one log.
type epochRow struct {
	log   mesh.LogID
	epoch mesh.Epoch
	last  uint64
	first int // index of its first entry or row in the log
}

// output is one product.
type output struct {
	place               mesh.Position
	progress, watermark mesh.Nanos
	rows                map[string]mesh.Row // by entity and key
	states              map[string][]mesh.FoldState
	log                 []mesh.Row
}

func newTables() *tableSet {
	return &tableSet{
		of: map[mesh.Position]int{}, accounts: map[mesh.LogID]*mesh.Account{}, descs: map[mesh.Hash]mesh.Descriptor{},
		outs: map[string]*output{}, ports: map[string]mesh.Position{},
	}
}

// clone is a copy that later writes don't reach.
func (t *tableSet) clone() *tableSet {
	c := &tableSet{
		epochs: slices.Clone(t.epochs), entries: slices.Clip(t.entries), of: maps.Clone(t.of), accounts: maps.Clone(t.accounts),
		descs: maps.Clone(t.descs), place: t.place, outs: map[string]*output{}, ports: maps.Clone(t.ports),
	}
	t.entries = slices.Clip(t.entries)
	for id, o := range t.outs {
		o.log = slices.Clip(o.log)
		d := &output{place: o.place, progress: o.progress, watermark: o.watermark, rows: maps.Clone(o.rows), states: make(map[string][]mesh.FoldState, len(o.states)), log: o.log}
		for k, s := range o.states {
			d.states[k] = slices.Clone(s)
		}
		c.outs[id] = d
	}
	return c
}

// image is a copy of the database.
func (s *store) image() *store {
	c := *s
	c.now, c.safe, c.tap = s.now.clone(), nil, nil
	if s.safe != nil {
		c.safe = s.safe.clone()
	}
	return &c
}

// powerLoss forgets what was not synced.
func (s *store) powerLoss() {
	if s.safe != nil {
		s.now, s.safe = s.safe, nil
	}
}

// write runs a transaction; fn changes nothing where it refuses.
func (s *store) write(fn func(t *tableSet) error) error {
	s.tap.pass()
	failed := s.tap.failsNow()
	if failed && s.tap.failHow != failDurable {
		return errStore
	}
	if s.unsynced && s.safe == nil {
		s.safe = s.now.clone()
	}
	if err := fn(s.now); err != nil {
		return err
	}
	if failed {
		return errStore
	}
	s.tap.pass()
	return nil
}

const hubLog = mesh.LogID("hub/0")

func outLog(product string) mesh.LogID { return mesh.LogID("out/" + product + "/0") }

// tip is the newest epoch of a log; nil where it was never opened.
func (t *tableSet) tip(log mesh.LogID) *epochRow {
	for i := len(t.epochs) - 1; i >= 0; i-- {
		if t.epochs[i].log == log {
			return &t.epochs[i]
		}
	}
	return nil
}

func (e *epochRow) end() mesh.Position {
	if e == nil {
		return mesh.Position{}
	}
	return mesh.Position{Log: e.log, Epoch: e.epoch, Seq: e.last}
}

// begin makes a new epoch, its first record given.
func (s *store) begin(t *tableSet, log mesh.LogID, first int) *epochRow {
	if at := t.tip(log); at != nil && s.keepsEpoch {
		if log == hubLog {
			at.last++ // the opening is a record there
		}
		return at
	}
	t.epochs = append(t.epochs, epochRow{log: log, epoch: mesh.NewEpoch(), last: 1, first: first})
	return &t.epochs[len(t.epochs)-1]
}

// find is how many entries or rows of a log stand before and at p.
func (t *tableSet) find(log mesh.LogID, p mesh.Position, opening int) (n int, err error) {
	if p.IsZero() {
		return 0, nil
	}
	for i := range t.epochs {
		if e := &t.epochs[i]; e.log == log && e.epoch == p.Epoch && p.Seq <= e.last {
			return e.first + max(0, int(p.Seq)-opening), nil
		}
	}
	return 0, fmt.Errorf("find %s: %w", p, mesh.ErrGone)
}

// OpenLog implements ingest.Store.
func (s *store) OpenLog(_ context.Context, _ int) (o mesh.Opened, err error) {
	err = s.write(func(t *tableSet) error {
		parent := t.tip(hubLog).end()
		sealed, err := wire.SealOpening(mesh.Opening{Parent: parent})
		if err != nil {
			return err
		}
		var before []mesh.Epoch
		for i := range t.epochs {
			if t.epochs[i].log == hubLog {
				before = append(before, t.epochs[i].epoch)
			}
		}
		e := s.begin(t, hubLog, len(t.entries))
		before = slices.DeleteFunc(before, func(x mesh.Epoch) bool { return x == e.epoch })
		before = before[max(0, len(before)-mesh.MaxBefore):]
		o = mesh.Opened{End: e.end(), Before: before, Accounts: map[mesh.LogID]*mesh.Account{}, Place: t.place}
		t.entries = append(t.entries, mesh.Entry{At: o.End, Header: mesh.Header{Kind: mesh.KindOpening}, Sealed: sealed})
		for log, a := range t.accounts {
			o.Accounts[log] = a.Clone()
		}
		return nil
	})
	return o, err
}

// Take implements ingest.Store.
func (s *store) Take(_ context.Context, take mesh.Take) (end mesh.Position, err error) {
	if s.apart { // the set first, the rows in another transaction
		err := s.write(func(t *tableSet) error {
			t.putAccounts(take.Accounts)
			return nil
		})
		if err != nil {
			return end, err
		}
	}
	err = s.write(func(t *tableSet) error {
		at := t.tip(hubLog)
		if at == nil || at.end() != take.After && !s.unconditional {
			return fmt.Errorf("append after %s where the end is %s: %w", take.After, at.end(), mesh.ErrMoved)
		}
		for i := range take.Entries {
			if of := take.Entries[i].Of; !of.IsZero() && !s.unconditional {
				if _, ok := t.of[of]; ok {
					return fmt.Errorf("%s is stored already", of)
				}
			}
		}
		for _, e := range take.Entries {
			at.last++
			e.At = at.end()
			if s.uncontiguous {
				e.Through = max(e.Through, e.Ord)
			}
			if !e.Of.IsZero() {
				t.of[e.Of] = len(t.entries)
			}
			t.entries = append(t.entries, e)
		}
		t.putAccounts(take.Accounts)
		for _, d := range take.Descriptors {
			t.descs[d.Hash()] = d
		}
		t.place, end = take.Place, at.end()
		return nil
	})
	return end, err
}

func (t *tableSet) putAccounts(accounts []*mesh.Account) {
	for _, a := range accounts {
		t.accounts[a.Log] = a.Clone()
	}
}

// Descriptor implements ingest.Store and runner.Log.
func (s *store) Descriptor(_ context.Context, h mesh.Hash) (d mesh.Descriptor, ok bool, err error) {
	d, ok = s.now.descs[h]
	return d, ok, nil
}

// Sums implements ingest.Store.
func (s *store) Sums(_ context.Context, of []mesh.Position) (map[mesh.Position]uint32, error) {
	out := map[mesh.Position]uint32{}
	for _, p := range of {
		if i, ok := s.now.of[p]; ok {
			b := s.now.entries[i].Sealed
			out[p] = binary.LittleEndian.Uint32(b[len(b)-4:])
		}
	}
	return out, nil
}

// Peek implements runner.Log.
func (s *store) Peek(_ context.Context, _ int, after mesh.Position, most int) ([]mesh.Entry, error) {
	n, err := s.now.find(hubLog, after, 0)
	if err != nil {
		return nil, err
	}
	return slices.Clone(s.now.entries[n:min(len(s.now.entries), n+most)]), nil
}

// HistoryWithin implements runner.Log.
func (s *store) HistoryWithin(_ context.Context, source string, span mesh.Span, most int64) (out []mesh.Entry, err error) {
	var bytes int64
	for i := range s.now.entries {
		if e := &s.now.entries[i]; e.Header.Kind == mesh.KindBatch && e.Header.About == source && !e.Header.Times.Meet(span).Empty() {
			if bytes += int64(len(e.Sealed)); most > 0 && bytes > most {
				return nil, mesh.ErrLarge
			}
			out = append(out, *e)
		}
	}
	return out, nil
}

// Came implements runner.Log.
func (s *store) Came(_ context.Context, log mesh.LogID, lost []mesh.Range) (out []mesh.Entry, err error) {
	for _, e := range s.now.entries {
		if e.Header.Kind == mesh.KindBatch && e.Of.Log == log && product.Within(lost, e.Of) {
			e.Sealed = nil
			out = append(out, e)
		}
	}
	return out, nil
}

func (t *tableSet) out(product string) *output {
	o := t.outs[product]
	if o == nil {
		o = &output{rows: map[string]mesh.Row{}, states: map[string][]mesh.FoldState{}}
		t.outs[product] = o
	}
	return o
}

// Resume implements runner.Output.
func (s *store) Resume(_ context.Context, product string, _ int) (end, place mesh.Position, err error) {
	err = s.write(func(t *tableSet) error {
		o := t.out(product)
		end, place = s.begin(t, outLog(product), len(o.log)).end(), o.place
		return nil
	})
	return end, place, err
}

// State implements runner.Output.
func (s *store) State(_ context.Context, product, key string, before mesh.Nanos) (f mesh.FoldState, ok bool, err error) {
	o := s.now.outs[product]
	if o == nil {
		return f, false, nil
	}
	for _, x := range o.states[key] {
		if (x.At <= before || s.arrival) && (!ok || x.At > f.At) {
			f, ok = x, true
		}
	}
	return f, ok, nil
}

// rowPlace is where a page of rows goes on.
type rowPlace struct {
	Entity string
	From   mesh.Nanos
	Key    string
}

func (a rowPlace) compare(b rowPlace) int {
	return cmp.Or(cmp.Compare(a.Entity, b.Entity), cmp.Compare(a.From, b.From), cmp.Compare(a.Key, b.Key))
}

// Rows implements runner.Output.
func (s *store) Rows(_ context.Context, q mesh.RowQuery) (out []mesh.Row, next string, err error) {
	var after rowPlace
	if q.After != "" {
		b, err := base64.RawURLEncoding.DecodeString(q.After)
		if err == nil {
			err = json.Unmarshal(b, &after)
		}
		if err != nil {
			return nil, "", err
		}
	}
	for _, r := range s.now.out(q.Product).rows {
		if wanted(&r, &q) && (q.After == "" || after.compare(placeOf(&r)) < 0) {
			out = append(out, r)
		}
	}
	slices.SortFunc(out, func(x, y mesh.Row) int { return placeOf(&x).compare(placeOf(&y)) })
	if limit := cmp.Or(q.Limit, 1000); len(out) > limit {
		out = out[:limit]
		b, err := json.Marshal(placeOf(&out[limit-1]))
		return out, base64.RawURLEncoding.EncodeToString(b), err
	}
	return out, "", nil
}

func placeOf(r *mesh.Row) rowPlace { return rowPlace{r.Entity, r.From, r.Key} }

func wanted(r *mesh.Row, q *mesh.RowQuery) bool {
	switch {
	case len(q.Entities) > 0 && !slices.Contains(q.Entities, r.Entity), r.State == mesh.RowWithdrawn && !q.Withdrawn:
		return false
	case q.Prefix != "" && (len(r.Key) < len(q.Prefix) || r.Key[:len(q.Prefix)] != q.Prefix):
		return false
	case q.Begins != mesh.Span{} && !q.Begins.Has(r.From), q.Open && r.State != mesh.RowProvisional:
		return false
	case q.Span == mesh.Span{}:
		return true
	}
	return r.From < q.Span.To && (r.To == 0 || r.To > q.Span.From || r.From >= q.Span.From)
}

// Commit implements runner.Output.
func (s *store) Commit(_ context.Context, st mesh.Step) (end mesh.Position, err error) {
	err = s.write(func(t *tableSet) error {
		o, at := t.out(st.Product), t.tip(outLog(st.Product))
		switch {
		case s.unconditional && at != nil:
		case at == nil || at.end() != st.After || o.place != st.PlaceWas:
			return fmt.Errorf("commit after %s where the end is %s: %w", st.After, at.end(), mesh.ErrMoved)
		}
		for _, r := range st.Rows {
			at.last++
			r.At = at.end()
			o.rows[r.Entity+"\x00"+r.Key] = r
			o.log = append(o.log, r)
		}
		o.putStates(&st)
		o.place, o.progress, o.watermark, end = st.Place, st.Progress, st.Watermark, at.end()
		return nil
	})
	return end, err
}

// putStates drops the cached states that don't hold any more, and writes others.
func (o *output) putStates(st *mesh.Step) {
	for _, gone := range st.Stale {
		o.states[gone.Key] = slices.DeleteFunc(slices.Clone(o.states[gone.Key]), func(f mesh.FoldState) bool { return gone.At.Has(f.At) })
	}
	for _, f := range st.States {
		of := slices.Clone(o.states[f.Key])
		if i := slices.IndexFunc(of, func(x mesh.FoldState) bool { return x.At == f.At }); i >= 0 {
			of[i] = f
			o.states[f.Key] = of
			continue
		}
		o.states[f.Key] = append(of, f)
	}
}

// Out implements stream.Outputs.
func (s *store) Out(_ context.Context, product string, after mesh.Position, most int) ([]mesh.Row, error) {
	n, err := s.now.find(outLog(product), after, 1)
	if err != nil {
		return nil, err
	}
	log := s.now.out(product).log
	return log[n:min(len(log), n+most)], nil
}

// End implements stream.Rows.
func (s *store) End(_ context.Context, product string) (mesh.Position, error) {
	if log := s.now.out(product).log; len(log) > 0 {
		return log[len(log)-1].At, nil
	}
	return mesh.Position{}, nil
}

func portKey(port, product string) string { return port + "\x00" + product }

// PortPlace implements stream.Outputs.
func (s *store) PortPlace(_ context.Context, port, product string) (mesh.Position, error) {
	return s.now.ports[portKey(port, product)], nil
}

// AckPort implements stream.Outputs.
func (s *store) AckPort(_ context.Context, port, product string, was, at mesh.Position) error {
	return s.write(func(t *tableSet) error {
		if t.ports[portKey(port, product)] != was {
			return mesh.ErrMoved
		}
		t.ports[portKey(port, product)] = at
		return nil
	})
}
