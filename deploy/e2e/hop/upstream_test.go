package hop

import (
	"context"
	"fmt"
	"math"
	"slices"
	"testing"

	"plantmesh/cloud/store"
	"plantmesh/proto/mesh"
	"plantmesh/proto/meshtest"
	"plantmesh/proto/wire"
)

// hubSite has one machine; each input is an interval and some pieces of it.
const hubSite = `
site: graz
zone: Europe/Vienna
production_day_start: "06:00"
shifts:
  - {id: early, start: "06:00", end: "14:00"}
  - {id: late, start: "14:00", end: "22:00"}
  - {id: night, start: "22:00", end: "06:00"}
ideal_cycle_seconds:
  filler: {a: 0.5}
equipment:
  - {id: line1-filler, line: line1, name: Filler, kind: filler, source: line1-opcua, signals_prefix: line1.filler.}
`

// hubWriter writes a hub's log as ingest does.
type hubWriter struct {
	store    *store.Store
	end      mesh.Position
	accounts map[mesh.LogID]*mesh.Account
	table    mesh.Descriptor
}

func (h *productHop) openWriter() *hubWriter {
	h.t.Helper()
	w := &hubWriter{store: openStore(h.t, h.dir), table: h.said.table}
	o, err := w.store.OpenLog(h.t.Context(), 0)
	check(h.t, err)
	w.end, w.accounts = o.End, o.Accounts
	return w
}

// site records the site's file, as a hub does when it starts.
func (w *hubWriter) site(ctx context.Context) (err error) {
	d := mesh.Descriptor{Kind: mesh.DescribeSite, Content: []byte(hubSite)}
	sealed, err := wire.SealFact(mesh.Fact{About: "site/graz", Valid: mesh.Span{From: math.MinInt64, To: math.MaxInt64}, Descriptor: d.Hash()})
	if err != nil {
		return err
	}
	h, err := wire.ParseHeader(sealed)
	if err != nil {
		return err
	}
	end, err := w.store.Take(ctx, mesh.Take{After: w.end, Entries: []mesh.Entry{{Header: h, Sealed: sealed}}, Descriptors: []mesh.Descriptor{d}})
	if err == nil {
		w.end = end
	}
	return err
}

// take accounts for records and puts those it lacks into the log.
func (w *hubWriter) take(ctx context.Context, records ...mesh.Record) error {
	acc := &mesh.Account{Log: agentLog}
	if is := w.accounts[agentLog]; is != nil {
		acc = is.Clone()
	}
	t := mesh.Take{After: w.end, Descriptors: []mesh.Descriptor{w.table}}
	for _, r := range records {
		if acc.Has(r.At) {
			continue
		}
		h, err := wire.ParseHeader(r.Sealed)
		if err != nil {
			return err
		}
		if h.Kind == mesh.KindOpening {
			if err := acc.Open(r.At.Epoch, mesh.Opening{}); err != nil {
				return err
			}
		}
		if err := acc.Add(mesh.Range{Epoch: r.At.Epoch, First: r.At.Seq, Last: r.At.Seq}); err != nil {
			return err
		}
		ord, _ := acc.Ordinal(r.At)
		t.Entries = append(t.Entries, mesh.Entry{Of: r.At, Ord: ord, Through: acc.Through(), Header: h, Sealed: r.Sealed})
	}
	t.Accounts = []*mesh.Account{acc}
	end, err := w.store.Take(ctx, t)
	if err == nil {
		w.end, w.accounts[agentLog] = end, acc
	}
	return err
}

// upstream is an agent as its hub knows it: it keeps what it said, and gives it
// again. Each input is a record with a state and a count.
type upstream struct {
	enc     *wire.Encoder
	table   mesh.Descriptor
	epoch   mesh.Epoch
	records []mesh.Record
	armed   []meshtest.Fault // for what is written next, one for each write
	late    []mesh.Record
}

func (u *upstream) init(t *testing.T) {
	t.Helper()
	var err error
	u.enc, err = wire.NewEncoder()
	check(t, err)
	u.table, err = wire.DescribeSignals([]mesh.Signal{
		{ID: 1, Name: "line1.filler.state", Type: mesh.TypeInt}, {ID: 2, Name: "line1.filler.produced", Type: mesh.TypeInt, Unit: "C62"},
	})
	check(t, err)
	u.epoch = mesh.NewEpoch()
	sealed, err := wire.SealOpening(mesh.Opening{})
	check(t, err)
	u.records = []mesh.Record{{At: mesh.Position{Log: agentLog, Epoch: u.epoch, Seq: 1}, Sealed: sealed}}
}

// record is what the source says at an instant: input n, which proves the time
// through the next one. A negative n proves nothing.
func (u *upstream) record(at mesh.Nanos, n int) (mesh.Record, error) {
	b := mesh.Batch{Source: source, Table: u.table.Hash(), Samples: []mesh.Sample{
		{Signal: 1, Time: at, Value: mesh.Int([]int64{6, 11}[n&1])}, {Signal: 2, Time: at, Value: mesh.Int(int64(3 * n))},
	}}
	if n > 0 {
		b.Proven, b.Complete = mesh.Span{From: at, To: at.Add(meshtest.Apart)}, at.Add(meshtest.Apart)
	}
	sealed, err := u.enc.Seal(&b)
	return mesh.Record{At: mesh.Position{Log: agentLog, Epoch: u.epoch, Seq: uint64(len(u.records) + 1)}, Sealed: sealed}, err
}

// write says inputs, in a few transactions, as the faults have it.
func (u *upstream) write(ctx context.Context, w *hubWriter, first, n int) error {
	var now []mesh.Record
	if len(u.records) == 1 {
		now = u.records // the opening
	}
	f := meshtest.Fault("")
	if len(u.armed) > 0 {
		f, u.armed = u.armed[0], u.armed[1:]
	}
	say := func(n int) error {
		r, err := u.record(meshtest.At(n), n)
		if err == nil {
			u.records, now = append(u.records, r), append(now, r)
		}
		return err
	}
	for i := first; i < first+n; i++ {
		if err := say(i); err != nil {
			return err
		}
		if f == meshtest.MessageDoubled { // the source says it again
			if err := say(i); err != nil {
				return err
			}
		}
	}
	switch f {
	case meshtest.MessageReordered:
		if now[0].At.Seq == 1 {
			slices.Reverse(now[1:])
		} else {
			slices.Reverse(now)
		}
	case meshtest.MessageLate:
		u.late, now = append(u.late, now[len(now)-n]), slices.Delete(now, len(now)-n, len(now)-n+1)
	default: // in order
	}
	for some := range slices.Chunk(now, 3) {
		if err := w.take(ctx, some...); err != nil {
			return err
		}
	}
	return nil
}

// again gives all that a hub's set lacks.
func (u *upstream) again(ctx context.Context, w *hubWriter) error {
	if len(u.records) == 1 {
		return nil
	}
	for some := range slices.Chunk(u.records, 50) {
		if err := w.take(ctx, some...); err != nil {
			return err
		}
	}
	return nil
}

// settle says what was held back.
func (u *upstream) settle(ctx context.Context, w *hubWriter) error {
	if len(u.armed) > 0 {
		return fmt.Errorf("%d faults struck nothing", len(u.armed))
	}
	for _, r := range u.late {
		if err := w.take(ctx, r); err != nil {
			return err
		}
	}
	u.late = nil
	return nil
}
