package sparkplug

import (
	"testing"
	"time"

	"plantmesh/edge/source/sparkplug/payload"
	"plantmesh/proto/mesh"
)

// keeper is a node that keeps what is not heard, with a signal that changes and one that
// does not, which has run for a minute.
func keeper(t *testing.T) (k *kit, d *device) {
	t.Helper()
	k = newKit(t, func(c *Config) { c.Mode, c.HostID, c.StoreAndForward = Primary, "scada", []string{"plant/n"} })
	d = k.node("n")
	d.born(aliased(1, double("x", 0)), aliased(2, double("still", 7)), aliased(3, payload.Metric{Name: []byte("text"), Type: payload.String, Value: payload.Value{Kind: payload.InString, Bytes: []byte("A")}}))
	d.runs(60, func(i int) payload.Metric { return alone(aliased(1, double("", float64(i)))) })
	return k, d
}

// tells is a node that is back: births, what it kept, and then what is now.
func tells(k *kit, d *device, kept ...mesh.Nanos) {
	d.born(aliased(1, double("x", 500)), aliased(2, double("still", 7)), aliased(3, payload.Metric{Name: []byte("text"), Type: payload.String, Value: payload.Value{Kind: payload.InString, Bytes: []byte("A")}}))
	for i, at := range kept {
		m := alone(aliased(1, double("", 1000+float64(i))))
		m.Timestamp, m.Historical = uint64(at/1e6), true
		d.data(m)
	}
	k.seal()
}

func (k *kit) bad(name string) (n int) {
	for _, r := range k.of(name) {
		if r.Status.IsBad() {
			n++
		}
	}
	return n
}

func TestKeeper_TellsWhatWeMissed(t *testing.T) {
	for name, miss := range map[string]func(k *kit, d *device){
		"our connection broke": func(k *kit, d *device) {
			k.cut(20 * time.Second)
			d.bd++
		},
		"we were started again": func(k *kit, d *device) {
			k.seal()
			k.restart(20 * time.Second)
			d.bd++
		},
		"a message was lost": func(k *kit, d *device) {
			d.loses()
			k.pass(time.Second)
			d.data(alone(aliased(1, double("", 300))))
			d.runs(19, func(i int) payload.Metric { return alone(aliased(1, double("", 301+float64(i)))) })
			if len(k.sent) == 0 {
				t.Error("nobody asked")
			}
		},
		"the node was away": func(k *kit, d *device) {
			d.dies(1)
			d.bd++
			k.pass(20 * time.Second)
		},
		"a message was lost, and we were started again": func(k *kit, d *device) {
			d.loses()
			k.pass(time.Second)
			d.data(alone(aliased(1, double("", 300))))
			k.pass(10 * time.Second)
			k.seal()
			k.restart(5 * time.Second)
		},
	} {
		t.Run(name, func(t *testing.T) {
			k, d := keeper(t)
			last := k.now.plant
			miss(k, d)
			tells(k, d, last.Add(time.Second), last.Add(2*time.Second))
			if to := k.through(); to > last {
				t.Errorf("proven through %s before the node had said all; it was missed from %s on", to, last)
			}
			d.data(alone(aliased(1, double("", 501))))
			k.pass(time.Second)
			k.seal()
			if to, want := k.through(), k.now.plant.Add(-6*time.Second); to != want {
				t.Errorf("proven through %s, want %s", to, want)
			}
			for _, signal := range []string{"plant.n.x", "plant.n.still", "plant.n.text"} {
				if n := k.bad(signal); n > 0 {
					t.Errorf("%s was given up %d times: %v", signal, n, k.of(signal))
				}
			}
			if len(k.voids) > 0 {
				t.Errorf("voids %+v", k.voids)
			}
			for i, p := range k.proven[1:] {
				if p.From != k.proven[i].To {
					t.Errorf("the proof is not whole: %v", k.proven)
				}
			}
		})
	}
}

// One that does not say it in time is given up; when it says it after all, what did not
// change is known to have held.
func TestKeeper_ThatComesLate(t *testing.T) {
	k, d := keeper(t)
	last := k.now.plant
	d.dies(1)
	k.pass(collectFor + time.Second)
	k.seal()
	for _, signal := range []string{"plant.n.x", "plant.n.still", "plant.n.text"} {
		k.want(k.last(signal), last+1, mesh.StatusBadNoCommunication, mesh.Value{})
	}
	if v := k.noted("it did not say what it kept"); len(v) != 1 {
		t.Errorf("voids %+v", k.voids)
	}
	other := k.node("other") // which was held up until now
	other.born(double("y", 1))
	k.seal()
	if to, want := k.through(), k.now.plant.Add(-5*time.Second); to != want {
		t.Errorf("proven through %s, want %s", to, want)
	}
	k.pass(time.Hour)
	d.bd++
	tells(k, d, last.Add(10*time.Second))
	d.data(alone(aliased(1, double("", 501))))
	k.seal()
	still := k.of("plant.n.still")
	k.want(still[len(still)-2], last+2, mesh.StatusGood, mesh.Double(7))
	k.want(still[len(still)-1], k.now.plant, mesh.StatusGood, mesh.Double(7))
	text := k.of("plant.n.text")
	k.want(text[len(text)-2], last+2, mesh.StatusGood, mesh.Text("A"))
	x := k.of("plant.n.x")
	k.want(x[len(x)-4], last+2, mesh.StatusGood, mesh.Double(59))
	k.want(x[len(x)-3], last.Add(10*time.Second), mesh.StatusGood, mesh.Double(1000))
}
