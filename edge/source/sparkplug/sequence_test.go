package sparkplug

import (
	"strings"
	"testing"
	"time"

	"plantmesh/edge/source/sparkplug/payload"
	"plantmesh/proto/mesh"
)

func TestSequence_BeginsAnywhereAndWraps(t *testing.T) {
	for _, first := range []uint64{0, 1, 200, 255} {
		k := newKit(t, nil)
		k.say("plant/NBIRTH/n", payload.Payload{Timestamp: k.ms(), Seq: first, HasSeq: true, Metrics: []payload.Metric{double("x", 0)}})
		for i := range 300 {
			k.pass(100 * time.Millisecond)
			k.say("plant/NDATA/n", payload.Payload{Timestamp: k.ms(), Seq: (first + 1 + uint64(i)) % 256, HasSeq: true, Metrics: []payload.Metric{double("x", float64(i))}})
		}
		k.seal()
		if len(k.samples) != 301 || len(k.voids) != 0 || k.h.counters.gaps != 0 || len(k.sent) != 0 {
			t.Errorf("from %d: %d samples, voids %+v, asked %d", first, len(k.samples), k.voids, len(k.sent))
		}
	}
}

func TestSequence_Reordered(t *testing.T) {
	k := newKit(t, nil)
	d := k.node("n")
	d.born(double("x", 0))
	k.pass(time.Second)
	var all []payload.Payload
	for i := range 4 {
		all = append(all, d.message(double("x", float64(i+1))))
	}
	for _, i := range []int{2, 1, 2, 3} { // one of them twice
		k.say("plant/NDATA/n", all[i])
	}
	if n := len(k.of("plant.n.x")); k.h.sealer.Len() != 1 {
		t.Fatalf("%d samples, %d waiting", n, k.h.sealer.Len())
	}
	k.pass(4 * time.Second) // less than the reorder timeout
	k.say("plant/NDATA/n", all[0])
	k.pass(time.Minute)
	k.seal()
	if got := k.of("plant.n.x"); len(got) != 5 || len(k.voids) != 0 || len(k.sent) != 0 {
		t.Errorf("samples %v, voids %+v", got, k.voids)
	}
}

func TestSequence_Gap(t *testing.T) {
	k := newKit(t, nil)
	d := k.node("n")
	d.born(aliased(1, double("x", 0)), aliased(2, double("still", 7)))
	d.dborn("dev", double("y", 1))
	d.runs(10, func(i int) payload.Metric { return alone(aliased(1, double("", float64(i)))) })
	last := k.now.plant
	k.pass(time.Second)
	d.loses()
	d.loses()
	late := payload.Payload{Timestamp: k.ms(), Seq: d.seq, HasSeq: true, Metrics: []payload.Metric{alone(aliased(1, double("", 66)))}}
	k.pass(time.Second)
	d.data(alone(aliased(1, double("", 100))))
	after := k.now.plant
	k.pass(4 * time.Second)
	k.seal()
	if len(k.voids) != 0 || len(k.sent) != 0 {
		t.Fatalf("before the reorder timeout: %+v", k.voids)
	}
	k.pass(3 * time.Second)
	k.seal()
	if len(k.voids) != 1 || k.voids[0].Cause != mesh.CauseDisconnected {
		t.Fatalf("voids %+v", k.voids)
	}
	v := k.voids[0]
	for _, want := range []string{`"plant/n"`, "2026-01-01T12:00:10Z", "2026-01-01T12:00:12Z", "2 of its messages", "QoS 0"} {
		if !strings.Contains(v.Note, want) {
			t.Errorf("the void %q does not say %q", v.Note, want)
		}
	}
	if len(v.Parts) != 1 || v.Parts[0].Count != 2 || !v.Parts[0].Times.Empty() || v.Parts[0].Times.From != last {
		t.Errorf("part %+v", v.Parts)
	}
	k.want(k.last("plant.n.still"), last+1, mesh.StatusBadNoCommunication, mesh.Value{})
	k.want(k.last("plant.n.dev.y"), last+1, mesh.StatusBadNoCommunication, mesh.Value{})
	k.want(k.last("plant.n.x"), after, mesh.StatusGood, mesh.Double(100))
	if got := k.of("plant.n.x"); len(got) != 13 || got[11].Time != last+1 || got[11].Status != mesh.StatusBadNoCommunication {
		t.Errorf("samples %v", got)
	}
	if got := k.last("plant.n.x"); got.Flags != 0 {
		t.Errorf("the value after the gap: %s", got)
	}
	if len(k.sent) != 1 {
		t.Errorf("asked %d times", len(k.sent))
	}
	// One of the missing comes after all: its value counts, and the sequence goes on.
	k.say("plant/NDATA/n", late)
	d.data(alone(aliased(1, double("", 101))))
	k.seal()
	if k.h.counters.late != 1 || k.h.counters.gaps != 1 || len(k.of("plant.n.x")) != 15 {
		t.Errorf("counters %+v, samples %v", k.h.counters, k.of("plant.n.x"))
	}
	d.born(aliased(1, double("x", 5)), aliased(2, double("still", 8)))
	k.pass(time.Hour)
	k.seal()
	if len(k.sent) != 1 {
		t.Errorf("asked %d times, after it was born", len(k.sent))
	}
}

func TestSequence_HeldIsBounded(t *testing.T) {
	k := newKit(t, nil)
	d := k.node("n")
	d.born(double("x", 0))
	d.loses()
	for range maxHeld + 1 {
		d.data(double("x", 1))
	}
	if k.h.counters.gaps != 1 || k.h.held != 0 {
		t.Errorf("counters %+v, held %d", k.h.counters, k.h.held)
	}
	d.loses()
	big := payload.Metric{Name: []byte("blob"), Value: payload.Value{Kind: payload.InBytes, Bytes: make([]byte, 200<<10)}}
	d.data(big)
	d.data(big)
	if k.h.counters.gaps != 2 || k.h.held != 0 {
		t.Errorf("counters %+v, held %d", k.h.counters, k.h.held)
	}
}

func TestSequence_ADuplicateChangesNothing(t *testing.T) {
	k := newKit(t, nil)
	d := k.node("n")
	d.born(double("x", 0))
	p := d.message(double("x", 1))
	k.say("plant/NDATA/n", p)
	k.say("plant/NDATA/n", p)
	k.pass(time.Minute)
	d.data(double("x", 2))
	k.seal()
	if k.h.counters.again != 1 || k.h.counters.gaps != 0 || len(k.of("plant.n.x")) != 3 {
		t.Errorf("counters %+v, %v", k.h.counters, k.samples)
	}
}

// What is held when the node dies, is born again, or our connection breaks: it is
// taken, and what was missing before it is named.
func TestSequence_WhatIsHeldIsNotLost(t *testing.T) {
	for name, end := range map[string]func(k *kit, d *device){
		"death":      func(_ *kit, d *device) { d.dies(1) },
		"birth":      func(_ *kit, d *device) { d.born(double("x", 3)) },
		"disconnect": func(k *kit, _ *device) { k.cut(time.Second) },
	} {
		k := newKit(t, nil)
		d := k.node("n")
		d.born(double("x", 0))
		k.pass(time.Second)
		d.loses()
		d.data(double("x", 1))
		end(k, d)
		k.seal()
		if len(k.noted("1 of its messages")) != 1 {
			t.Errorf("%s: voids %+v", name, k.voids)
		}
		found := false
		for _, s := range k.of("plant.n.x") {
			found = found || s.Value.Compare(mesh.Double(1)) == 0
		}
		if !found || k.h.held != 0 {
			t.Errorf("%s: samples %v, held %d", name, k.samples, k.h.held)
		}
	}
}

// A break that is short for the node's pace, and a sequence that goes on: nothing was
// missed, and nothing is asked.
func TestBreak_IsBridgedBySequence(t *testing.T) {
	k := newKit(t, nil)
	d := k.node("n")
	d.born(aliased(1, double("x", 0)))
	d.runs(60, func(i int) payload.Metric { return alone(aliased(1, double("", float64(i)))) })
	k.seal()
	proven := k.through()
	k.cut(3 * time.Second)
	d.runs(10, func(i int) payload.Metric { return alone(aliased(1, double("", float64(i)))) })
	k.seal()
	if len(k.voids) != 0 || len(k.sent) != 0 || len(k.of("plant.n.x")) != 71 {
		t.Errorf("voids %+v, asked %d, samples %d", k.voids, len(k.sent), len(k.samples))
	}
	for i, p := range k.proven[1:] {
		if p.From != k.proven[i].To {
			t.Errorf("the proof is not whole: %v", k.proven)
		}
	}
	if to := k.through(); to <= proven || to != k.now.plant.Add(-5*time.Second) {
		t.Errorf("proven through %s", to)
	}
}

func TestBreak_ThatIsNotBridged(t *testing.T) {
	for name, c := range map[string]struct {
		run   time.Duration // of a break
		loses int
	}{
		"a number is missing":     {3 * time.Second, 1},
		"256 could be missing":    {200 * time.Second, 0},
		"and really were, unseen": {256 * time.Second, 256},
	} {
		t.Run(name, func(t *testing.T) {
			k := newKit(t, nil)
			d := k.node("n")
			d.born(aliased(1, double("x", 0)))
			d.runs(60, func(i int) payload.Metric { return alone(aliased(1, double("", float64(i)))) })
			last := k.now.plant
			k.cut(c.run)
			for range c.loses {
				d.loses()
			}
			k.pass(time.Second)
			d.data(alone(aliased(1, double("", 100))))
			at := k.now.plant
			k.pass(2 * time.Second)
			k.seal()
			k.want(k.last("plant.n.x"), last+1, mesh.StatusBadNoCommunication, mesh.Value{})
			if v := k.noted("our connection was broken"); len(v) != 1 || v[0].Cause != mesh.CauseDisconnected {
				t.Errorf("voids %+v", k.voids)
			}
			if len(k.sent) != 1 {
				t.Fatalf("asked %v", k.sent)
			}
			d.born(aliased(1, double("x", 101))) // the answer: in the same connection of the node
			k.seal()
			got := k.of("plant.n.x")
			k.want(got[len(got)-3], at, mesh.StatusGood, mesh.Double(100)) // was held, and has its name now
			k.want(got[len(got)-2], at+1, mesh.StatusBadNoCommunication, mesh.Value{})
			k.want(got[len(got)-1], k.now.plant, mesh.StatusGood, mesh.Double(101))
		})
	}
}

// The same without aliases: each message says what its metrics are.
func TestBreak_OfANodeWithoutAliases(t *testing.T) {
	k := newKit(t, func(c *Config) { c.Mode = Passive })
	d := k.node("n")
	d.born(double("x", 0))
	d.runs(60, func(i int) payload.Metric { return double("x", float64(i)) })
	last := k.now.plant
	k.cut(3 * time.Second)
	d.loses()
	k.pass(time.Second)
	d.data(double("x", 100))
	k.seal()
	got := k.of("plant.n.x")
	k.want(got[len(got)-2], last+1, mesh.StatusBadNoCommunication, mesh.Value{})
	k.want(got[len(got)-1], k.now.plant, mesh.StatusGood, mesh.Double(100))
	if len(k.sent) != 0 || len(k.noted("our connection was broken")) != 1 {
		t.Errorf("sent %v, voids %+v", k.sent, k.voids)
	}
}

func TestBreak_PassiveSaysThatItCannotAsk(t *testing.T) {
	k := newKit(t, func(c *Config) { c.Mode = Passive })
	d := k.node("n")
	d.data(alone(aliased(1, double("", 1))), alone(aliased(2, double("", 1)))) // before any birth
	k.pass(time.Minute)
	k.seal()
	if v := k.noted(errPassive.Error()); len(v) != 1 || v[0].Parts[0].Count != 2 {
		t.Errorf("voids %+v", k.voids)
	}
	if len(k.sent) != 0 || len(k.samples) != 0 {
		t.Errorf("sent %v, samples %v", k.sent, k.samples)
	}
	if c := k.h.census(); !strings.Contains(c, "passive mode cannot ask") {
		t.Errorf("the status says %q", c)
	}
}

// Data before any birth waits for one, and then has names: in the order of its coming,
// and as much of it as may be held.
func TestUnborn_WaitsForABirth(t *testing.T) {
	k := newKit(t, nil)
	d := k.node("n")
	for i := range maxHeld + 6 {
		k.pass(100 * time.Millisecond)
		d.data(alone(aliased(1, double("", float64(i)))))
	}
	d.ddata("dev", alone(aliased(2, double("", 7))))
	if len(k.sent) != 1 {
		t.Fatalf("asked %d times", len(k.sent))
	}
	k.pass(100 * time.Millisecond)
	d.born(aliased(1, double("x", 500)))
	d.dborn("dev", aliased(2, double("y", 500)))
	k.pass(4 * time.Second)
	k.seal()
	if len(k.samples) != 2 {
		t.Errorf("too soon: they may be of a connection of the node before, whose death comes late: %v", k.samples)
	}
	k.pass(2 * time.Second)
	k.seal()
	if got := k.of("plant.n.x"); len(got) != maxHeld+1 || got[len(got)-2].Status != mesh.StatusBadNoCommunication || got[len(got)-1].Value.Compare(mesh.Double(500)) != 0 || got[0].Value.Compare(mesh.Double(7)) != 0 {
		t.Errorf("samples %v", got)
	}
	if got := k.of("plant.n.dev.y"); len(got) != 3 || got[0].Value.Type != mesh.TypeDouble || got[1].Status != mesh.StatusBadNoCommunication {
		t.Errorf("samples %v", got)
	}
	if v := k.noted(errDropped.Error()); len(v) != 1 {
		t.Errorf("voids %+v", k.voids)
	}
	if k.h.held != 0 {
		t.Errorf("%d bytes are still held", k.h.held)
	}
}

// What waits for a birth that does not come is named in the end.
func TestUnborn_DoesNotWaitForEver(t *testing.T) {
	k := newKit(t, nil)
	d := k.node("n")
	d.data(alone(aliased(1, double("", 1))))
	k.pass(holdFor + time.Second)
	k.seal()
	if len(k.noted(errDropped.Error())) != 1 || k.h.held != 0 {
		t.Errorf("voids %+v, held %d", k.voids, k.h.held)
	}
	d.data(alone(aliased(1, double("", 1))))
	d.dies(3) // the birth that comes after is of another connection
	k.seal()
	if len(k.noted(errParted.Error())) != 1 || k.h.held != 0 {
		t.Errorf("voids %+v, held %d", k.voids, k.h.held)
	}
}

// A node that died while we were not connected does not hold the proof up for ever.
func TestBreak_NobodyIsMissedForEver(t *testing.T) {
	for _, mode := range []Mode{Active, Passive} {
		k := newKit(t, func(c *Config) { c.Mode = mode })
		quiet, other := k.node("quiet"), k.node("other")
		quiet.born(double("x", 0))
		other.born(double("x", 0))
		for range 60 {
			quiet.data(double("x", 1))
			other.runs(1, func(i int) payload.Metric { return double("x", float64(i)) })
		}
		last := k.now.plant.Add(-time.Second)
		k.cut(time.Second) // and quiet dies meanwhile
		other.runs(90, func(i int) payload.Metric { return double("x", float64(i)) })
		k.seal()
		k.want(k.last("plant.quiet.x"), last+1, mesh.StatusBadNoCommunication, mesh.Value{})
		if to, want := k.through(), k.now.plant.Add(-5*time.Second); to != want {
			t.Errorf("%s: proven through %s, want %s", mode, to, want)
		}
		if asked := len(k.sent) > 0; asked != (mode == Active) {
			t.Errorf("%s: asked %d times", mode, len(k.sent))
		}
	}
}

// A node that comes back with another bdSeq, and nobody said that it was gone.
func TestBirth_OfAnotherConnectionOfTheNode(t *testing.T) {
	k := newKit(t, nil)
	d := k.node("n")
	d.born(double("x", 0))
	k.pass(time.Minute)
	d.bd = 2
	d.born(double("x", 1))
	d.dies(1) // the will of the connection before comes late
	k.seal()
	got := k.of("plant.n.x")
	if len(got) != 3 {
		t.Fatalf("samples %v", got)
	}
	k.want(got[1], noon+1, mesh.StatusBadNoCommunication, mesh.Value{})
	k.want(got[2], k.now.plant, mesh.StatusGood, mesh.Double(1))
	if k.h.counters.deaths != 1 {
		t.Errorf("counters %+v", k.h.counters)
	}
	// Born again in one connection: nobody can know whether something was lost before.
	k.pass(time.Minute)
	was := k.h.nodes["plant/n"].last
	d.born(double("x", 2))
	k.seal()
	got = k.of("plant.n.x")
	if len(got) != 5 || got[4].Status != mesh.StatusGood || len(k.voids) != 1 {
		t.Errorf("samples %v, voids %+v", got, k.voids)
	}
	k.want(got[3], was+1, mesh.StatusBadNoCommunication, mesh.Value{})
}

// A message of long ago that nobody missed is not late: it shows that numbers and
// messages do not go together any more.
func TestSequence_WhatWasNotMissedIsNotLate(t *testing.T) {
	k := newKit(t, nil)
	d := k.node("n")
	d.born(double("x", 0))
	old := d.message(double("x", 66))
	old.Timestamp++
	k.say("plant/NDATA/n", old)
	d.runs(20, func(i int) payload.Metric { return double("x", float64(i)) })
	old.Metrics[0] = double("x", 67)
	k.say("plant/NDATA/n", old)
	k.pass(10 * time.Second)
	k.seal()
	if k.h.counters.late != 0 || k.h.counters.gaps != 1 || len(k.sent) != 1 {
		t.Errorf("counters %+v, asked %d times", k.h.counters, len(k.sent))
	}
}

// A broker that stays away is written down; what is bridged by sequence is claimed behind
// that.
func TestBreak_IsSaid(t *testing.T) {
	k := newKit(t, nil)
	d := k.node("n")
	d.born(double("x", 0))
	d.runs(200, func(i int) payload.Metric { return double("x", float64(i)) })
	k.seal()
	k.h.disconnected(k.now)
	w := newWatch(k.h, k.now.machine)
	w.connected(k.now.machine)
	w.subscribed()
	w.lost("connection refused", k.now.machine)
	k.pass(15 * time.Second)
	if !w.due(k.now.machine) {
		t.Error("after 15 s nobody is told")
	}
	k.h.unheard(k.now.plant, w.word())
	if !k.h.due(k.now.machine) {
		t.Error("it is not committed at once")
	}
	k.seal()
	if v := k.noted("connection refused"); len(v) != 1 || v[0].Parts[0].Times.Empty() {
		t.Errorf("voids %+v", k.voids)
	}
	k.connect()
	d.runs(1, func(int) payload.Metric { return double("x", 5) })
	k.seal()
	if to, want := k.through(), k.now.plant.Add(-5*time.Second); to != want || len(k.voids) != 1 {
		t.Errorf("proven through %s, want %s; voids %+v", to, want, k.voids)
	}
}

// The status says who holds up what is known, and what was left out.
func TestWatch_Words(t *testing.T) {
	k := newKit(t, nil)
	k.h.disconnected(k.now)
	w := newWatch(k.h, k.now.machine)
	if _, news := w.news(k.now.machine); news {
		t.Error("news of a connection that was not tried")
	}
	w.connected(k.now.machine)
	w.subscribed()
	k.connect()
	quiet, other := k.node("quiet"), k.node("other")
	quiet.born(double("x", 0))
	other.born(double("x", 0))
	k.say("foreign/NDATA/n", payload.Payload{})
	if text, news := w.news(k.now.machine); !news || text != "connected, 2 nodes live; left out: 1 refused values, 1 messages of foreign nodes" {
		t.Errorf("%q", text)
	}
	other.runs(90, func(i int) payload.Metric { return double("x", float64(i)) })
	other.dies(1)
	k.node("new").data(double("x", 1))
	k.seal()
	w.news(k.now.machine.Add(-time.Minute)) // the proof moved then
	want := `connected, 1 nodes live, 1 dead, of 1 the names are not known, but nothing more is proven: node "plant/quiet" said nothing since 2026-01-01T12:00:00Z; left out: 1 refused values, 1 messages of foreign nodes`
	if text, _ := w.news(k.now.machine.Add(2 * time.Minute)); text != want {
		t.Errorf("%q, want %q", text, want)
	}
	w.lost("refused", k.now.machine)
	if text, _ := w.news(k.now.machine.Add(3 * time.Minute)); text != "not connected: refused" {
		t.Errorf("%q", text)
	}
}
