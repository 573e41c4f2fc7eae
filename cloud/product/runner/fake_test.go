package runner

import (
	"cmp"
	"context"
	"encoding/binary"
	"fmt"
	"log/slog"
	"math"
	"slices"
	"strconv"
	"testing"

	"plantmesh/cloud/product"
	"plantmesh/proto/mesh"
	"plantmesh/proto/wire"
)

// fakeLog is a hub's log in memory.
type fakeLog struct {
	entries     []mesh.Entry
	descriptors map[mesh.Hash]mesh.Descriptor
	accounts    map[mesh.LogID]*mesh.Account
	histories   int
	asked       []mesh.Span // of each
	most        int         // samples of the largest
	compacted   int         // so many of the first entries have their samples in chunks
	dropped     mesh.Nanos  // what of that lies before has no samples any more
}

func newFakeLog() *fakeLog {
	return &fakeLog{descriptors: map[mesh.Hash]mesh.Descriptor{}, accounts: map[mesh.LogID]*mesh.Account{}}
}

func (l *fakeLog) append(e mesh.Entry) {
	e.At = mesh.Position{Log: "hub/0", Epoch: mesh.Epoch{1}, Seq: uint64(len(l.entries) + 1)}
	h, err := wire.ParseHeader(e.Sealed)
	if err != nil {
		panic(err)
	}
	e.Header = h
	l.entries = append(l.entries, e)
}

// arrive takes a record of an agent's log, once.
func (l *fakeLog) arrive(r mesh.Record, v *mesh.Verdict) {
	a := l.accounts[r.At.Log]
	if a == nil {
		a = &mesh.Account{Log: r.At.Log}
		l.accounts[r.At.Log] = a
		if err := a.Open(r.At.Epoch, mesh.Opening{}); err != nil {
			panic(err)
		}
		if err := a.Add(mesh.Range{Epoch: r.At.Epoch, First: 1, Last: 1}); err != nil {
			panic(err)
		}
	}
	if a.Has(r.At) {
		return
	}
	if err := a.Add(mesh.Range{Epoch: r.At.Epoch, First: r.At.Seq, Last: r.At.Seq}); err != nil {
		panic(err)
	}
	ord, _ := a.Ordinal(r.At)
	l.append(mesh.Entry{Of: r.At, Ord: ord, Through: a.Through(), Sealed: r.Sealed, Verdict: v})
}

// reopen begins a new epoch of a log behind a position.
func (l *fakeLog) reopen(e mesh.Epoch, parent mesh.Position) {
	a := l.accounts[parent.Log]
	if err := a.Open(e, mesh.Opening{Parent: parent}); err != nil {
		panic(err)
	}
	sealed, err := wire.SealOpening(mesh.Opening{Parent: parent})
	if err != nil {
		panic(err)
	}
	l.arrive(mesh.Record{At: mesh.Position{Log: parent.Log, Epoch: e, Seq: 1}, Sealed: sealed}, nil)
}

// site takes a revision of the site as a fact.
func (l *fakeLog) site(src string) { l.siteFrom(math.MinInt64, src) }

// siteFrom takes a revision that holds from an instant on.
func (l *fakeLog) siteFrom(from mesh.Nanos, src string) {
	d := mesh.Descriptor{Kind: mesh.DescribeSite, Content: []byte(src)}
	l.descriptors[d.Hash()] = d
	sealed, err := wire.SealFact(mesh.Fact{About: "site/test", Valid: mesh.Span{From: from, To: math.MaxInt64}, Descriptor: d.Hash()})
	if err != nil {
		panic(err)
	}
	l.append(mesh.Entry{Sealed: sealed})
}

func (l *fakeLog) Peek(_ context.Context, _ int, after mesh.Position, most int) ([]mesh.Entry, error) {
	from := int(after.Seq)
	if from > len(l.entries) {
		return nil, mesh.ErrGone
	}
	out := slices.Clone(l.entries[from:min(len(l.entries), from+most)])
	for i := range out {
		if l.chunked(from + i) {
			out[i].Sealed, out[i].Verdict = nil, nil
		}
	}
	return out, nil
}

// chunked reports whether an entry's samples are in chunks: a batch whose table
// can't be read never is, see cloud/store.
func (l *fakeLog) chunked(i int) bool {
	h := l.entries[i].Header
	if i >= l.compacted || h.Kind != mesh.KindBatch {
		return false
	}
	if h.Count == 0 {
		return true
	}
	_, err := wire.Signals(l.descriptors[h.Needs[0]])
	return err == nil
}

// HistoryWithin gives of compacted batches a chunk each: what has a place in the log
// no more.
func (l *fakeLog) HistoryWithin(_ context.Context, source string, span mesh.Span, most int64) (out []mesh.Entry, err error) {
	l.histories++
	l.asked = append(l.asked, span)
	var bytes int64
	samples := 0
	for i, e := range l.entries {
		if e.Header.Kind != mesh.KindBatch || e.Header.About != source || e.Header.Times.Meet(span).Empty() {
			continue
		}
		if l.chunked(i) {
			if e.Header.Times.To <= l.dropped {
				continue
			}
			e.At, e.Of, e.Ord, e.Through = mesh.Position{}, mesh.Position{}, 0, 0
			e.Header.Proven, e.Header.Complete = mesh.Span{}, 0
		}
		out = append(out, e)
		if bytes += int64(len(e.Sealed)); most > 0 && bytes > most {
			return nil, mesh.ErrLarge
		}
		samples += int(e.Header.Count)
	}
	l.most = max(l.most, samples)
	return out, nil
}

func (l *fakeLog) Came(_ context.Context, log mesh.LogID, lost []mesh.Range) (out []mesh.Entry, err error) {
	for _, e := range l.entries {
		if e.Header.Kind == mesh.KindBatch && e.Of.Log == log && product.Within(lost, e.Of) {
			e.Sealed = nil
			out = append(out, e)
		}
	}
	return out, nil
}

func (l *fakeLog) Descriptor(_ context.Context, h mesh.Hash) (mesh.Descriptor, bool, error) {
	d, ok := l.descriptors[h]
	return d, ok, nil
}

// fakeOut is the output side of a store in memory.
type fakeOut struct {
	ends      map[string]mesh.Position
	places    map[string]mesh.Position
	states    map[string][]mesh.FoldState
	rows      map[string]map[string]mesh.Row // product -> entity/key
	log       []mesh.Row
	commits   int
	progress  map[string]mesh.Nanos
	watermark map[string]mesh.Nanos
	fail      error
	committed func(mesh.Step)
}

func newFakeOut() *fakeOut {
	return &fakeOut{
		ends: map[string]mesh.Position{}, places: map[string]mesh.Position{}, states: map[string][]mesh.FoldState{},
		rows: map[string]map[string]mesh.Row{}, progress: map[string]mesh.Nanos{}, watermark: map[string]mesh.Nanos{},
	}
}

func (o *fakeOut) Resume(_ context.Context, p string, _ int) (end, place mesh.Position, err error) {
	was := o.ends[p]
	var e mesh.Epoch
	binary.LittleEndian.PutUint64(e[:], binary.LittleEndian.Uint64(was.Epoch[:])+1)
	o.ends[p] = mesh.Position{Log: mesh.LogID("out/" + p), Epoch: e, Seq: 1}
	return o.ends[p], o.places[p], nil
}

func (o *fakeOut) State(_ context.Context, p, key string, before mesh.Nanos) (f mesh.FoldState, ok bool, err error) {
	for _, s := range o.states[p+"/"+key] {
		if s.At <= before && (!ok || s.At > f.At) {
			f, ok = s, true
		}
	}
	return f, ok, nil
}

func (o *fakeOut) Rows(_ context.Context, q mesh.RowQuery) (out []mesh.Row, next string, err error) {
	for _, r := range o.rows[q.Product] {
		if len(q.Entities) > 0 && !slices.Contains(q.Entities, r.Entity) || r.State == mesh.RowWithdrawn && !q.Withdrawn {
			continue
		}
		if q.Open && r.State != mesh.RowProvisional || q.Begins != (mesh.Span{}) && !q.Begins.Has(r.From) {
			continue
		}
		if q.Span != (mesh.Span{}) && (r.From >= q.Span.To || r.To != 0 && r.To <= q.Span.From && r.From < q.Span.From) {
			continue
		}
		out = append(out, r)
	}
	slices.SortFunc(out, func(x, y mesh.Row) int {
		return cmp.Or(cmp.Compare(x.Entity, y.Entity), cmp.Compare(x.From, y.From), cmp.Compare(x.Key, y.Key))
	})
	from := 0
	if q.After != "" {
		if from, err = strconv.Atoi(q.After); err != nil {
			return nil, "", err
		}
	}
	out = out[from:]
	if q.Limit > 0 && len(out) > q.Limit {
		return out[:q.Limit], strconv.Itoa(from + q.Limit), nil
	}
	return out, "", nil
}

func (o *fakeOut) Commit(_ context.Context, st mesh.Step) (mesh.Position, error) {
	if o.fail != nil {
		err := o.fail
		o.fail = nil
		return mesh.Position{}, err
	}
	if st.After != o.ends[st.Product] || st.PlaceWas != o.places[st.Product] {
		return mesh.Position{}, mesh.ErrMoved
	}
	for _, gone := range st.Stale {
		k := st.Product + "/" + gone.Key
		o.states[k] = slices.DeleteFunc(o.states[k], func(s mesh.FoldState) bool { return gone.At.Has(s.At) })
	}
	for _, s := range st.States {
		k := st.Product + "/" + s.Key
		o.states[k] = slices.DeleteFunc(o.states[k], func(x mesh.FoldState) bool { return x.At == s.At })
		o.states[st.Product+"/"+s.Key] = append(o.states[st.Product+"/"+s.Key], s)
	}
	if o.rows[st.Product] == nil {
		o.rows[st.Product] = map[string]mesh.Row{}
	}
	end := st.After
	for _, r := range st.Rows {
		end.Seq++
		r.At = end
		was, ok := o.rows[st.Product][r.Entity+"/"+r.Key]
		if ok && was.State == mesh.RowFinal && r.Revision <= was.Revision {
			return mesh.Position{}, mesh.Permanent(fmt.Errorf("final row %s %s revision %d changes without a new one: %s then %s", r.Entity, r.Key, r.Revision, was.Body, r.Body))
		}
		o.rows[st.Product][r.Entity+"/"+r.Key] = r
		o.log = append(o.log, r)
	}
	o.ends[st.Product], o.places[st.Product] = end, st.Place
	o.progress[st.Product], o.watermark[st.Product] = st.Progress, st.Watermark
	o.commits++
	if o.committed != nil {
		o.committed(st)
	}
	return end, nil
}

// current are the standing rows of a product as text, sorted.
func (o *fakeOut) current(p string) (out []string) {
	for _, r := range o.rows[p] {
		if r.State != mesh.RowWithdrawn {
			out = append(out, fmt.Sprintf("%s %s %v %d %d %s", r.Entity, r.Key, r.State, r.From, r.To, r.Body))
		}
	}
	slices.Sort(out)
	return out
}

// feeder seals what one source says into records of an agent's log.
type feeder struct {
	t     testing.TB
	enc   *wire.Encoder
	log   mesh.LogID
	epoch mesh.Epoch
	seq   *uint64
	table mesh.Descriptor
	ids   map[string]uint32
}

func newFeeder(t testing.TB, hub *fakeLog, log mesh.LogID, seq *uint64, names []string) *feeder {
	t.Helper()
	enc, err := wire.NewEncoder()
	if err != nil {
		t.Fatal(err)
	}
	f := &feeder{t: t, enc: enc, log: log, epoch: mesh.Epoch{7}, seq: seq, ids: map[string]uint32{}}
	var table []mesh.Signal
	for i, n := range names {
		f.ids[n] = uint32(i + 1)
		table = append(table, mesh.Signal{ID: uint32(i + 1), Name: n, Unit: "C62"})
	}
	if f.table, err = wire.DescribeSignals(table); err != nil {
		t.Fatal(err)
	}
	hub.descriptors[f.table.Hash()] = f.table
	return f
}

func (f *feeder) at() mesh.Position {
	if *f.seq == 0 {
		*f.seq = 1 // the opening
	}
	*f.seq++
	return mesh.Position{Log: f.log, Epoch: f.epoch, Seq: *f.seq}
}

func (f *feeder) batch(source string, proven mesh.Span, complete mesh.Nanos, samples []mesh.Sample) mesh.Record {
	f.t.Helper()
	sealed, err := f.enc.Seal(&mesh.Batch{Source: source, Table: f.table.Hash(), Proven: proven, Complete: complete, Samples: slices.Clone(samples)})
	if err != nil {
		f.t.Fatal(err)
	}
	return mesh.Record{At: f.at(), Sealed: sealed}
}

func (f *feeder) void(v mesh.Void) mesh.Record {
	f.t.Helper()
	sealed, err := wire.SealVoid(v)
	if err != nil {
		f.t.Fatal(err)
	}
	return mesh.Record{At: f.at(), Sealed: sealed}
}

func testClock(now *mesh.Nanos) Clock {
	return Clock{Now: func() mesh.Nanos { return *now }, Log: slog.New(slog.DiscardHandler)}
}

func definitions(t testing.TB) []*product.Definition {
	t.Helper()
	d, err := product.Definitions()
	if err != nil {
		t.Fatal(err)
	}
	return d
}
