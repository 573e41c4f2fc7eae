package ingest

import (
	"bytes"
	"log/slog"
	"math/rand/v2"
	"testing"

	"plantmesh/proto/mesh"
	"plantmesh/proto/subject"
	"plantmesh/proto/wire"
)

func newIngest(s Store) *Ingest { return New(Config{}, s, slog.New(slog.DiscardHandler)) }

// agent writes a log and keeps its records, as an agent does.
type agent struct {
	t       testing.TB
	log     mesh.LogID
	at      mesh.Position
	enc     *wire.Encoder
	table   mesh.Descriptor
	records []mesh.Record
}

func newAgent(tb testing.TB, name string) *agent {
	tb.Helper()
	enc, err := wire.NewEncoder()
	if err != nil {
		tb.Fatal(err)
	}
	d, err := wire.DescribeSignals([]mesh.Signal{{ID: 1, Name: "line1.filler.state", Type: mesh.TypeInt}})
	if err != nil {
		tb.Fatal(err)
	}
	a := &agent{t: tb, log: mesh.LogID(subject.AgentLog("graz", name)), enc: enc, table: d}
	a.at.Log = a.log
	return a
}

func (a *agent) append(sealed []byte, err error) mesh.Record {
	a.t.Helper()
	if err != nil {
		a.t.Fatal(err)
	}
	a.at.Seq++
	r := mesh.Record{At: a.at, Sealed: sealed}
	a.records = append(a.records, r)
	return r
}

func (a *agent) open() mesh.Record {
	a.t.Helper()
	parent := a.at
	if parent.IsZero() {
		parent = mesh.Position{}
	}
	a.at = mesh.Position{Log: a.log, Epoch: mesh.NewEpoch()}
	return a.append(wire.SealOpening(mesh.Opening{Parent: parent}))
}

func (a *agent) batch(n int) mesh.Record {
	a.t.Helper()
	b := mesh.Batch{Source: "line1-opcua", Table: a.table.Hash()}
	for i := range n {
		b.Samples = append(b.Samples, mesh.Sample{Signal: 1, Time: mesh.Nanos(int(a.at.Seq)*1000 + i), Value: mesh.Int(int64(i))})
	}
	return a.append(a.enc.Seal(&b))
}

func (a *agent) void(lost ...mesh.Range) mesh.Record {
	a.t.Helper()
	return a.append(wire.SealVoid(mesh.Void{Lost: lost, Cause: mesh.CauseDiskPolicy}))
}

func (a *agent) span(first, last uint64) mesh.Range {
	return mesh.Range{Epoch: a.at.Epoch, First: first, Last: last}
}

// rig is an ingest with a stream that numbers messages.
type rig struct {
	t     testing.TB
	store *memory
	g     *Ingest
	seq   uint64
}

func newRig(tb testing.TB) *rig {
	tb.Helper()
	s := newMemory()
	return &rig{t: tb, store: s, g: newIngest(s)}
}

func (r *rig) message(road subject.Road, log mesh.LogID, data []byte) Message {
	r.t.Helper()
	site, name, ok := subject.ParseAgentLog(string(log))
	if !ok {
		r.t.Fatalf("%s is no agent's log", log)
	}
	r.seq++
	return Message{subject.Ingest(site, name, road), mesh.Place{Stream: "INGEST@1", Seq: r.seq}, data}
}

// send takes records in one message, and gives the receipt.
func (r *rig) send(a *agent, records ...mesh.Record) mesh.Receipt {
	r.t.Helper()
	return r.raw(a, frames(records...))
}

func (r *rig) raw(a *agent, data []byte) mesh.Receipt {
	r.t.Helper()
	answers, err := r.g.Step(r.t.Context(), []Message{r.message(subject.Live, a.log, data)})
	if err != nil {
		r.t.Fatal(err)
	}
	if len(answers) != 1 {
		r.t.Fatalf("%d answers", len(answers))
	}
	rec, err := wire.DecodeReceipt(answers[0].Receipt)
	if err != nil {
		r.t.Fatal(err)
	}
	return rec
}

func frames(records ...mesh.Record) (b []byte) {
	for _, r := range records {
		b = wire.AppendRecord(b, r)
	}
	return b
}

// stored are the agents' records in the hub's log.
func (r *rig) stored() (out []mesh.Entry) {
	r.t.Helper()
	for _, e := range r.store.all() {
		if !e.Of.IsZero() {
			out = append(out, e)
		}
	}
	return out
}

// want demands exactly these records, untouched, in any order.
func (r *rig) want(records ...mesh.Record) {
	r.t.Helper()
	have := map[mesh.Position][]byte{}
	for _, e := range r.stored() {
		if have[e.Of] != nil {
			r.t.Fatalf("%s is stored twice", e.Of)
		}
		have[e.Of] = e.Sealed
	}
	for _, rec := range records {
		if !bytes.Equal(have[rec.At], rec.Sealed) {
			r.t.Errorf("%s is not stored as it was sent", rec.At)
		}
		delete(have, rec.At)
	}
	for p := range have {
		r.t.Errorf("%s is stored and should not be", p)
	}
}

func (r *rig) missing(agents []*agent) (out []mesh.Record) {
	r.t.Helper()
	for _, a := range agents {
		site, name, _ := subject.ParseAgentLog(string(a.log))
		data, err := r.g.Receipt(r.t.Context(), site, name)
		if err != nil {
			r.t.Fatal(err)
		}
		rec, err := wire.DecodeReceipt(data)
		if err != nil {
			r.t.Fatal(err)
		}
		acc := mesh.Account{Log: a.log, Chain: rec.Chain, Set: rec.Have}
		for _, x := range a.records {
			if !acc.Has(x.At) {
				out = append(out, x)
			}
		}
	}
	return out
}

// pipe delivers records in small messages: some lost, some twice, some late.
func (r *rig) pipe(rnd *rand.Rand, records []mesh.Record, agents []*agent) {
	r.t.Helper()
	var msgs []Message
	for i := 0; i < len(records); {
		n, log := 1+rnd.IntN(6), records[i].At.Log
		var data []byte
		if rnd.IntN(3) == 0 {
			data = wire.AppendDescriptor(data, agents[0].table)
		}
		for ; n > 0 && i < len(records) && records[i].At.Log == log; n-- {
			data = wire.AppendRecord(data, records[i])
			i++
		}
		road := subject.Live
		if rnd.IntN(2) == 0 {
			road = subject.Backlog
		}
		for range []int{0, 1, 1, 1, 2}[rnd.IntN(5)] {
			msgs = append(msgs, r.message(road, log, data))
		}
	}
	for range len(msgs) / 4 {
		i, j := rnd.IntN(len(msgs)), rnd.IntN(len(msgs))
		msgs[i].Data, msgs[j].Data, msgs[i].Subject, msgs[j].Subject = msgs[j].Data, msgs[i].Data, msgs[j].Subject, msgs[i].Subject
	}
	for len(msgs) > 0 {
		n := min(len(msgs), 1+rnd.IntN(20))
		if _, err := r.g.Step(r.t.Context(), msgs[:n]); err != nil {
			r.t.Fatal(err)
		}
		msgs = msgs[n:]
	}
}
