package sim

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"plantmesh/cloud/product"
	"plantmesh/cloud/product/runner"
	"plantmesh/proto/mesh"
	"plantmesh/proto/meshtest"
	"plantmesh/proto/wire"
)

// verdict is what became of a run.
type verdict struct {
	meshtest.Report

	stuck string // why it did not come to rest
	early int    // final rows that changed for no reason
	said  []string
}

func (v verdict) ok() bool { return v.OK() && v.stuck == "" && v.early == 0 }

// kind names what is wrong first.
func (v verdict) kind() string {
	switch {
	case v.Lost > 0:
		return "lost"
	case v.Unmarked > 0:
		return "unmarked"
	case v.Phantom > 0:
		return "phantom"
	case v.Duplicated > 0:
		return "duplicated"
	case v.Reordered > 0:
		return "reordered"
	case v.early > 0:
		return "early"
	case v.stuck != "":
		return "stuck"
	}
	return "clean"
}

func (v verdict) String() string {
	s := v.Report.String()
	if v.early > 0 {
		s += fmt.Sprintf(" early=%d", v.early)
	}
	if v.stuck != "" {
		s += " stuck: " + v.stuck
	}
	return s + " " + strings.Join(v.said, "; ")
}

// rounds is how many rounds without faults everything has to arrive in.
const rounds = 60

// settle takes all faults away and lets everything arrive.
func (w *world) settle() (v verdict) {
	w.stream.harm, w.port.failIn, w.zombie = 0, 0, nil
	if w.hits[faultZombie] > 0 { // who takes a zombie away has the hub open its log anew
		w.stopHub()
	}
	w.tap.crashIn, w.tap.failIn = 0, 0
	for _, a := range w.agents {
		a.tap.crashIn, a.tap.failIn = 0, 0
	}
	if len(w.agents) > 1 {
		w.stopAgent(w.agents[1]) // somebody finds the clone
	}
	why := ""
	for n := range rounds {
		if l := luck(n); n == 0 || n == 10 { // life goes on
			w.agents[0].d.emit(&l)
		}
		if n == rounds/2 && w.alarmed { // somebody answers the agent's alarm: the hub opens its log anew
			w.answered++
			w.stopHub()
		}
		w.refusal = ""
		if why = w.round(); why == "" {
			break
		}
	}
	if why != "" {
		w.tell("not at rest: %s", why)
		if also := w.products(); also != "" {
			why += "; " + also
		}
	}
	w.note()
	v = w.judge()
	if why != "" && (!w.cloned || !w.waits(w.agents[0])) {
		v.stuck = why
	}
	if w.refusal != "" { // whatever an agent waits for: all others wait with it
		v.stuck = "the hub takes nothing: " + w.refusal
	}
	return v
}

// waits reports whether an agent's log can't go on: a clone's opening ended the
// epoch it writes in, or went on in its name while it was silent, and it stands on
// what was left then. What it sends is stored, but it is told so only after its
// next opening, or never.
func (w *world) waits(a *agent) bool {
	acc := w.store.now.accounts[agentLog]
	if acc == nil || !a.up() {
		return false
	}
	ended := func(e mesh.Epoch) (at uint64, ok bool) {
		i := slices.IndexFunc(acc.Chain, func(l mesh.Link) bool { return l.Epoch == e })
		if i < 0 || i == len(acc.Chain)-1 {
			return 0, false
		}
		return acc.Chain[i].End, true
	}
	_, openings, end, err := a.queue.Outset()
	if err != nil {
		return false
	}
	if _, ok := ended(end.Epoch); ok { // by another's opening: its own is the newest it has
		return true
	}
	for _, r := range openings {
		if slices.ContainsFunc(acc.Chain, func(l mesh.Link) bool { return l.Epoch == r.At.Epoch }) {
			continue
		}
		o, err := wire.OpenOpening(r.Sealed)
		at, ok := ended(o.Parent.Epoch)
		return err == nil && ok && at == 0
	}
	return false
}

// round lets everything happen once. It says what is not at rest yet.
func (w *world) round() (why string) {
	w.clock = w.clock.Add(7 * time.Second)
	w.startHub()
	a := w.agents[0]
	w.startAgent(a)
	w.connect(a)
	if !a.up() || w.hub == nil {
		return "agent or hub does not start"
	}
	for range 4 {
		a.d.flush()
		a.reader.take(window)
		w.commit(a)
		a.reader.acknowledge(nil, false)
	}
	a.reader.dropped() // what was not acknowledged comes again
	w.send(a, 200)
	w.look(w.hub)
	for w.deliver(w.hub, 64) > 0 {
		continue
	}
	w.remind(w.hub)
	w.receipts(a, 1000)
	if len(a.d.notes) > 0 || len(a.d.held) > 0 {
		return fmt.Sprintf("the device keeps %d notes", len(a.d.notes))
	}
	if _, _, end, err := a.queue.Outset(); err != nil || w.hubThrough() != end {
		return fmt.Sprintf("the hub has %s of %s", w.hubThrough(), end)
	}
	if n := a.buf.Stats().Pending; n > 0 {
		return fmt.Sprintf("%d records are pending", n)
	}
	return w.products()
}

// products lets the products and the port catch up.
func (w *world) products() (why string) {
	if w.hub == nil {
		return "the hub does not start"
	}
	if err := w.hub.set.Flush(w.ctx); err != nil {
		return "products: " + err.Error()
	}
	for id, reason := range w.hub.set.Suspended() {
		return "product " + id + " is suspended: " + reason
	}
	for w.publish(w.hub) {
		continue
	}
	return ""
}

// judge compares what came with what was told.
func (w *world) judge() (v verdict) {
	spans := map[string]*product.Voices{}
	for _, a := range w.agents {
		spans[a.d.source] = w.voices(a.d.source)
	}
	waiting := w.waiting()
	missing := func(s meshtest.Sample, f meshtest.Fate) meshtest.Absence {
		out := w.absence(s, f, spans[s.Source], waiting)
		if out != meshtest.AbsenceMarked && out != meshtest.AbsenceWaiting && len(v.said) < 8 {
			v.said = append(v.said, fmt.Sprintf("sample %d of %s is missing", s.N, s.Source))
		}
		return out
	}
	w.count(&v)
	report := w.ledger.Compare(missing, !w.twice)
	v.Lost, v.Duplicated, v.Phantom, v.Unmarked = report.Lost, report.Duplicated, v.Phantom+report.Phantom, report.Unmarked
	w.judgeView(&v)
	w.judgeRows(&v)
	w.judgePort(&v)
	return v
}

// count finds what every batch in the hub's log holds.
func (w *world) count(v *verdict) {
	for i := range w.store.now.entries {
		e := &w.store.now.entries[i]
		if x, err := wire.OpenVoid(e.Sealed); w.drops && err == nil && x.Cause == mesh.CauseDiskPolicy {
			w.hit(faultDropped)
		}
		if e.Header.Kind != mesh.KindBatch {
			continue
		}
		b, ok := w.ledger.batches[string(e.Sealed)]
		if !ok {
			v.Phantom++
			continue
		}
		for _, s := range b.samples {
			w.ledger.Get(meshtest.Sample{Source: b.d.source, N: s}, b.d.at(s))
		}
	}
}

// waiting are the samples that a disk still has to give.
func (w *world) waiting() map[meshtest.Sample]bool {
	if !w.cloned {
		return nil
	}
	out := map[meshtest.Sample]bool{}
	for _, a := range w.agents {
		w.startAgent(a)
		if !a.up() {
			continue
		}
		for after := (mesh.Position{}); ; {
			records, err := a.buf.Peek(after, 1<<20)
			if err != nil || len(records) == 0 {
				break
			}
			for _, r := range records {
				b := w.ledger.batches[string(r.Sealed)]
				for _, s := range b.samples {
					out[meshtest.Sample{Source: b.d.source, N: s}] = true
				}
			}
			after = records[len(records)-1].At
		}
	}
	return out
}

// absence judges one that is missing.
func (w *world) absence(s meshtest.Sample, f meshtest.Fate, known *product.Voices, waiting map[meshtest.Sample]bool) meshtest.Absence {
	switch {
	case waiting[s]:
		return meshtest.AbsenceWaiting
	case !w.costly && !w.drops:
		return meshtest.AbsenceLost
	}
	has := func(t mesh.Nanos) bool {
		return slices.ContainsFunc(known.Spans(), func(x mesh.Span) bool { return x.From <= t && t < x.To })
	}
	if has(f.At) && has(f.Sent-1) {
		return meshtest.AbsenceUnmarked
	}
	return meshtest.AbsenceMarked
}

// voices is what product coverage knows of a source.
func (w *world) voices(source string) *product.Voices {
	v := &product.Voices{}
	st, ok, err := w.store.State(w.ctx, "coverage", "@known/"+source, 0)
	if err == nil && ok {
		err = json.Unmarshal(st.Bytes, v)
	}
	if err != nil {
		panic(err)
	}
	return v
}

// judgeView demands of product signals every sample of the hub's log once.
func (w *world) judgeView(v *verdict) {
	seen := map[int]int{}
	view := runner.NewSignals(w.view, w.store, w.store)
	for after := ""; ; {
		rows, next, err := view.Rows(w.ctx, mesh.RowQuery{Product: "signals", Entities: []string{"e0"}, After: after})
		if err != nil {
			v.stuck = "product signals: " + err.Error()
			return
		}
		for i := range rows {
			var body struct{ Value int }
			if err := json.Unmarshal(rows[i].Body, &body); err != nil || w.agents[0].d.at(body.Value) != rows[i].From {
				v.Phantom++
				continue
			}
			seen[body.Value]++
		}
		if after = next; next == "" {
			break
		}
	}
	w.ledger.Each("d0", func(n int, f meshtest.Fate) {
		switch {
		case seen[n] > 1:
			v.Duplicated += seen[n] - 1
		case f.Got > 0 && seen[n] == 0:
			v.Lost++
			v.said = append(v.said, fmt.Sprintf("sample %d is in the hub's log and not in product signals", n))
		case f.Got == 0 && seen[n] > 0:
			v.Phantom++
		}
	})
}

// judgeRows makes all rows again from the hub's log alone: any two ways agree
// to the bit.
func (w *world) judgeRows(v *verdict) {
	fresh := newStore(&tap{})
	clock := runner.Clock{Now: func() mesh.Nanos { return mesh.NanosOf(w.clock) }, Log: w.quiet}
	set, err := runner.NewSetOf(w.defs, runner.Config{}, w.store, fresh, clock)
	if err == nil {
		err = set.Flush(w.ctx)
	}
	if err != nil {
		v.stuck = "replay: " + err.Error()
		return
	}
	for _, id := range []string{"coverage", "production-rate"} {
		live, again := w.store.now.out(id).rows, fresh.now.out(id).rows
		for key, r := range live {
			s, ok := again[key]
			if r.State != mesh.RowWithdrawn && (!ok || s.State == mesh.RowWithdrawn || !bytes.Equal(r.Body, s.Body) || r.To != s.To) {
				v.Reordered++
				v.said = append(v.said, fmt.Sprintf("%s: live %s, replayed %s", id, r.Body, s.Body))
			}
		}
		for key, s := range again {
			if r, ok := live[key]; s.State != mesh.RowWithdrawn && (!ok || r.State == mesh.RowWithdrawn) {
				v.Reordered++
				v.said = append(v.said, fmt.Sprintf("%s: replayed only %s", id, s.Body))
			}
		}
	}
}

// judgePort demands every row that is kept at the consumer, in order.
func (w *world) judgePort(v *verdict) {
	v.Reordered += w.port.disorder()
	v.Phantom += w.port.other
	for _, id := range slices.Sorted(maps.Keys(w.store.now.outs)) {
		if id == "signals" {
			continue
		}
		final := map[string]mesh.Row{}
		for _, r := range w.store.now.out(id).log {
			name := fmt.Sprintf("%s/%x/%d", r.At.Log, r.At.Epoch[:], r.At.Seq)
			if _, ok := w.port.got[name]; !ok && v.stuck == "" {
				v.Lost++
				v.said = append(v.said, "row "+name+" was never published")
			}
			key := r.Entity + "\x00" + r.Key
			if was, ok := final[key]; ok && !bytes.Equal(was.Body, r.Body) && !w.revised && !w.drops {
				v.early++
				v.said = append(v.said, fmt.Sprintf("%s: final %s, then %s", id, was.Body, r.Body))
			}
			if r.State == mesh.RowFinal {
				final[key] = r
			}
		}
	}
}
