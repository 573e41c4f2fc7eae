package sparkplug

import (
	"slices"
	"strconv"
	"testing"
	"time"

	"plantmesh/firmware-sim/mqtt/sparkplug/payload"
	"plantmesh/firmware-sim/plant"
)

func is(verb string) func(said) bool { return func(m said) bool { return m.verb == verb } }

// says waits for a message with this value of line3's filler.
func says(value int) func(said) bool {
	return func(m said) bool {
		return m.verb == "DDATA" && m.device == "filler" && slices.ContainsFunc(m.metrics, func(x metricSaid) bool {
			return !x.historical && int32(uint32(x.bits)) == int32(value)
		})
	}
}

func TestServer_BirthsThenData(t *testing.T) {
	s, _ := serve(t, Config{})
	e := listenTo(t, s, "spBv1.0/#")
	first := emission(0)
	s.Push(first)
	s.Push(plant.Emission{Source: src, Index: 2, Signal: "line3.capper.blocked", Time: start, Emitted: start, Status: plant.BadNoData})
	s.Prove(start)
	all := e.until("the capper's birth", func(m said) bool { return m.verb == "DBIRTH" && m.device == "capper" })
	if len(all) != 3 || all[0].verb != "NBIRTH" || all[1].device != "filler" {
		t.Fatalf("births: %v", all)
	}
	n := all[0]
	if b := n.metric("bdSeq"); b.typ != payload.Int64 || b.bits != 0 || b.alias != 0 {
		t.Errorf("bdSeq: %+v", b)
	}
	if r := n.metric(payload.RebirthName); r.typ != payload.Boolean || r.bits != 0 || r.alias != 0 {
		t.Errorf("rebirth: %+v", r)
	}
	for i, m := range all {
		if m.seq != i || m.stamp != start.UnixMilli() {
			t.Errorf("birth %d: %v", i, m)
		}
	}
	p := all[1].metric("produced")
	if p.typ != payload.Int32 || int32(uint32(p.bits)) != -5 || p.bits != 0xfffffffb || p.unit != "C62" || p.quality != payload.Good || p.at != first.Time.UnixMilli() || p.historical {
		t.Errorf("produced: %+v", p)
	}
	if v := all[1].metric("order"); !v.null || v.quality != payload.Stale || v.typ != payload.String {
		t.Errorf("a metric without a value: %+v", v)
	}
	if v := all[2].metric("blocked"); !v.null || v.quality != payload.Bad || v.typ != payload.Boolean {
		t.Errorf("a bad value: %+v", v)
	}
	names := aliases(all)
	if len(names) != 1+8 {
		t.Errorf("%d aliases: %v", len(names), names)
	}
	at := start.Add(time.Minute)
	for i, v := range []plant.Value{{Type: plant.Double, F: 1.5}, {Type: plant.Double, F: 2.5}} {
		s.Push(plant.Emission{Source: src, Signal: "line3.filler.speed", Time: at.Add(time.Duration(i)), Emitted: at, Value: v})
	}
	s.Push(plant.Emission{Source: src, Signal: "line3.filler.order", Time: at, Emitted: at, Value: plant.Value{Type: plant.String, S: "PO-1"}})
	s.Prove(at)
	rest := e.until("the order", func(m said) bool {
		return slices.ContainsFunc(m.metrics, func(x metricSaid) bool { return x.text == "PO-1" && !x.historical })
	})
	var speeds []float64
	for i, m := range rest {
		if m.seq != 3+i {
			t.Errorf("seq %d behind %d messages", m.seq, 3+i)
		}
		for _, x := range m.metrics {
			if x.name != "" || x.typ != 0 {
				t.Errorf("data with a name or a type: %+v", x)
			}
			if names[x.alias] == "filler.speed" && !x.historical {
				speeds = append(speeds, double(x.bits))
				if m.stamp != at.UnixMilli() {
					t.Errorf("stamp %d", m.stamp)
				}
			}
		}
	}
	if !slices.Equal(speeds, []float64{1.5, 2.5}) {
		t.Errorf("speeds %v", speeds)
	}
	eventually(t, "the broker has all", func() bool { return s.Waiting() == 0 })
}

// TestServer_SequenceGoesRound: many messages, no hole, nothing lost, in order.
func TestServer_SequenceGoesRound(t *testing.T) {
	s, _ := serve(t, Config{})
	e := listenTo(t, s, "spBv1.0/#")
	s.Prove(start)
	births := e.until("births", func(m said) bool { return m.device == "capper" })
	const n = 20_000
	for i := range n {
		s.Push(emission(i))
	}
	s.Prove(start.Add(n * time.Second))
	all := slices.Concat(births, e.until("the last", says(n-1-5)))
	for i, m := range all {
		if m.seq != i%256 {
			t.Fatalf("message %d has seq %d", i, m.seq)
		}
	}
	values, _ := counts(aliases(births), "produced", all)
	if len(values) != n || !slices.IsSorted(values) {
		t.Errorf("%d values of %d, sorted: %t", len(values), n, slices.IsSorted(values))
	}
	eventually(t, "the broker has all", func() bool { return s.Waiting() == 0 })
}

func TestServer_SaysNothingIsNew(t *testing.T) {
	t.Parallel()
	s, _ := serve(t, Config{})
	e := listenTo(t, s, "spBv1.0/#")
	s.Prove(start)
	for _, want := range []time.Time{start, start.Add(10 * time.Second), start.Add(10*time.Second + time.Millisecond)} {
		s.Prove(want)
		m := e.until("the clock", is("NDATA"))
		if last := m[len(m)-1]; last.stamp < want.UnixMilli() || len(last.metrics) != 1 || last.metrics[0].at != last.stamp {
			t.Errorf("want %s: %v", want, last)
		}
	}
	began := time.Now() // the clock stands
	e.until("the clock again", is("NDATA"))
	if took := time.Since(began); took > heartbeatStanding+2*time.Second {
		t.Errorf("a standing clock was said after %s", took)
	}
}

// TestServer_PrimaryHost: nothing is born before the host is online; what comes
// while it is away is kept, in order, with its stamps, and said as historical,
// with the stretch before that the host may have missed.
func TestServer_PrimaryHost(t *testing.T) {
	t.Parallel()
	s, _ := serve(t, Config{Host: "gw-1", StoreAndForward: true})
	e := listenTo(t, s, "spBv1.0/#")
	for i := range 10 {
		s.Push(emission(i))
	}
	s.Prove(start.Add(9 * time.Second))
	e.state("gw-2", true, 1)
	e.state("gw-1", false, 1)
	<-time.After(300 * time.Millisecond)
	if !e.silent() {
		t.Fatal("born without a host")
	}
	e.state("gw-1", true, 100)
	births := e.until("births", func(m said) bool { return m.device == "capper" })
	if got := births[1].metric("produced"); int32(uint32(got.bits)) != 9-5 {
		t.Errorf("the birth says %+v", got)
	}
	past := e.until("the clock", is("NDATA"))
	if v, h := counts(aliases(births), "produced", past); len(v) != 10 || slices.Contains(h, false) {
		t.Errorf("first values: %v %v", v, h)
	}
	s.Push(emission(10))
	s.Prove(start.Add(10 * time.Second))
	e.until("a live value", says(10-5))

	e.state("gw-1", false, 99) // older than its birth: it says nothing
	s.Push(emission(11))
	s.Prove(start.Add(11 * time.Second))
	e.until("a live value", says(11-5))

	e.state("gw-1", false, 100)
	death := e.until("a death", is("NDEATH"))
	if d := death[len(death)-1]; d.seq != -1 || len(d.metrics) != 1 || d.metrics[0].bits != 0 {
		t.Errorf("death: %v", d)
	}
	for i := 12; i < 3000; i++ {
		s.Push(emission(i))
	}
	s.Prove(start.Add(3000 * time.Second))
	<-time.After(backoff + 300*time.Millisecond)
	if s.Waiting() < 3000-12 {
		t.Errorf("%d wait", s.Waiting())
	}
	e.state("gw-1", true, 200)
	again := e.until("births", func(m said) bool { return m.device == "capper" })
	if again[0].verb != "NBIRTH" || again[0].metric("bdSeq").bits == 0 {
		t.Errorf("the second birth: %v", again[0])
	}
	past = e.until("the clock", is("NDATA"))
	v, h := counts(aliases(again), "produced", past)
	if len(v) != 3000 || v[0] != -5 || !slices.IsSorted(v) || slices.Contains(h, false) {
		t.Errorf("%d values from %d, sorted: %t", len(v), v[0], slices.IsSorted(v))
	}
	for _, m := range past {
		for _, x := range m.metrics {
			if m.verb == "DDATA" && x.at != start.Add(time.Duration(int32(uint32(x.bits))+5)*time.Second).Add(-time.Millisecond).UnixMilli() {
				t.Fatalf("another stamp: %v", x)
			}
		}
	}
	if last := past[len(past)-1]; last.stamp != start.Add(3000*time.Second).UnixMilli() || last.metrics[0].historical {
		t.Errorf("behind the past: %v", last)
	}
	eventually(t, "the broker has all", func() bool { return s.Waiting() == 0 })
}

func TestServer_RebirthSaysTheRecentPastAgain(t *testing.T) {
	for _, keeps := range []bool{true, false} {
		t.Run(strconv.FormatBool(keeps), func(t *testing.T) {
			s, _ := serve(t, Config{StoreAndForward: keeps})
			e := listenTo(t, s, "spBv1.0/#")
			s.Prove(start)
			births := e.until("the clock", is("NDATA"))
			for i := range 100 {
				s.Push(emission(i))
			}
			s.Prove(start.Add(100 * time.Second))
			e.until("the last", says(100-1-5))
			eventually(t, "the broker has all", func() bool { return s.Waiting() == 0 })
			e.say("spBv1.0/plant/NCMD/line3", []byte{1, 2, 3}, false)
			e.askRebirth("line4")
			e.askRebirth("line3")
			all := e.until("the clock", func(m said) bool { return m.verb == "NDATA" && m.seq < 100 })
			i := slices.IndexFunc(all, is("NBIRTH"))
			if i < 0 || all[i].seq != 0 || all[i].metric("bdSeq").bits != births[0].metric("bdSeq").bits {
				t.Fatalf("rebirth: %v", all)
			}
			values, historical := counts(aliases(all), "produced", all[i:])
			if keeps && (len(values) != 100 || slices.Contains(historical, false)) || !keeps && len(values) != 0 {
				t.Errorf("said again: %d", len(values))
			}
			if s.Waiting() != 0 {
				t.Errorf("%d wait", s.Waiting())
			}
		})
	}
}

func TestServer_CutLosesNothing(t *testing.T) {
	t.Parallel()
	s, _ := serve(t, Config{StoreAndForward: true})
	e := listenTo(t, s, "spBv1.0/#")
	s.Prove(start)
	births := e.until("births", func(m said) bool { return m.device == "capper" })
	const n = 5000
	seen := map[int32]bool{}
	note := func(all []said) {
		v, _ := counts(aliases(births), "produced", all)
		for _, x := range v {
			seen[x] = true
		}
	}
	deaths := uint64(0)
	for round := range 5 {
		for i := range n {
			s.Push(emission(round*n + i))
			if i == n/2 {
				s.Cut("line3")
			}
		}
		s.Prove(start.Add(time.Duration((round+1)*n) * time.Second))
		// A node that is back before its broker has seen the cut takes its own session over:
		// this broker says no death then.
		all := e.until("a death, or the next birth", func(m said) bool { return m.verb == "NDEATH" || m.verb == "NBIRTH" })
		if d := all[len(all)-1]; d.verb == "NDEATH" && (d.metrics[0].name != "bdSeq" || d.metrics[0].bits != deaths) {
			t.Errorf("round %d: death %+v", round, d)
		}
		deaths++
		note(all)
		note(e.until("the clock", is("NDATA")))
	}
	s.Push(emission(5 * n))
	note(e.until("the last", says(5*n-5)))
	if len(seen) != 5*n+1 {
		t.Errorf("%d of %d came", len(seen), 5*n+1)
	}
	eventually(t, "the broker has all", func() bool { return s.Waiting() == 0 })
}

func TestServer_WithoutStoreOnlyTheNewestComesBack(t *testing.T) {
	t.Parallel()
	s, _ := serve(t, Config{})
	s.Prove(start)
	e := listenTo(t, s, "spBv1.0/#")
	s.Rebirth("line3")
	e.until("the clock", is("NDATA"))
	s.Cut("")
	e.until("death", is("NDEATH"))
	for i := range 10 {
		s.Push(emission(i))
	}
	all := e.until("the clock", is("NDATA"))
	if v, _ := counts(aliases(all), "produced", all); len(v) != 0 {
		t.Errorf("kept: %v", v)
	}
	if s.Waiting() != 0 || s.Forgotten() != 10 {
		t.Errorf("%d wait, %d forgotten", s.Waiting(), s.Forgotten())
	}
	for _, m := range all {
		if m.device == "filler" && m.verb == "DBIRTH" && int32(uint32(m.metric("produced").bits)) != 9-5 {
			t.Errorf("the birth says %+v", m.metric("produced"))
		}
	}
}

func TestServer_Faults(t *testing.T) {
	s, _ := serve(t, Config{StoreAndForward: true})
	e := listenTo(t, s, "spBv1.0/#")
	s.Prove(start)
	births := e.until("the clock", is("NDATA"))
	before := aliases(births)
	i, seq := 0, births[len(births)-1].seq
	live := func() said {
		s.Push(emission(i))
		s.Prove(start.Add(time.Duration(i) * time.Second))
		i++
		all := e.until("a live value", says(i-1-5))
		return all[len(all)-1]
	}
	if m := live(); m.seq != seq+1 {
		t.Errorf("seq %d behind %d", m.seq, seq)
	}

	s.Drop("", 3)
	for range 3 {
		s.Push(emission(i))
		i++
	}
	if m := live(); m.seq != seq+1+3+1 {
		t.Errorf("behind a hole: seq %d", m.seq)
	}

	s.Swap("line3")
	s.Push(emission(i))
	s.Push(emission(i + 1))
	all := e.until("the earlier", says(i-5))
	if n := len(all); n < 2 || !says(i+1-5)(all[n-2]) || all[n-2].seq != all[n-1].seq+1 {
		t.Errorf("swapped: %v", all)
	}
	i += 2

	s.ReplayDeath("line3")
	all = e.until("an old death", is("NDEATH"))
	if d := all[len(all)-1]; d.metrics[0].bits != 255 { // before 0
		t.Errorf("old death: %v", d)
	}

	s.Leave("line3", "filler")
	all = e.until("a device's death", is("DDEATH"))
	if d := all[len(all)-1]; d.device != "filler" || d.seq < 0 {
		t.Errorf("death: %v", d)
	}
	s.Push(emission(i))
	s.Prove(start.Add(time.Duration(i) * time.Second))
	s.Rebirth("line3")
	e.until("a birth", is("NBIRTH"))
	if all := e.until("the clock", is("NDATA")); slices.ContainsFunc(all, func(m said) bool { return m.device == "filler" }) {
		t.Errorf("a dead device speaks: %v", all)
	}
	s.Join("line3", "filler")
	e.until("a device's birth", is("DBIRTH"))
	all = e.until("the clock", is("NDATA"))
	v, h := counts(before, "produced", all)
	if !slices.Contains(v, int32(i-5)) || slices.Contains(h, false) {
		t.Errorf("behind a device's birth: %v", all)
	}
	i++
	eventually(t, "the broker has all", func() bool { return s.Waiting() == 0 })

	s.Realias("line3")
	after := aliases(append(e.until("a birth", is("NBIRTH")), e.until("the clock", is("NDATA"))...))
	for alias, name := range before {
		if after[alias] == "" || after[alias] == name {
			t.Errorf("alias %d is %q, was %q", alias, after[alias], name)
		}
	}
	if s.Cut("line9") || s.Leave("line3", "nobody") || !s.Swap("line3") {
		t.Error("who there is and who isn't")
	}
}
