package opcua

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gopcua/opcua/ua"
)

// spare makes a node whose value stands since noon, and lets seven seconds be proven
// that signal a had another value in.
func (p *plc) spare(t *testing.T, r *running, a *cell) (other *cell) {
	t.Helper()
	r.says(t, "2@0 3")
	other = p.add("ns=2;s=a2", "", int32(100)) // at noon
	p.set(a, int32(11))
	p.pass(9 * time.Second)
	r.says(t, "0@1 11")
	r.provenTo(t, noon.Add(5*time.Second))
	p.now(a, int32(12)) // the last that is heard lies beyond the proof
	p.edit(func() { p.queueOf(a); p.flush() })
	r.says(t, "0@11 12")
	r.provenTo(t, noon.Add(6*time.Second))
	return other
}

// another is pressed, with another node for a.
func another() Config {
	cfg := pressed()
	cfg.Signals[0].Path, cfg.Signals[0].Node = "", "nsu=urn:press;s=a2"
	return cfg
}

// TestReader_AnotherNodeInTheFile: what stood in the new node before is none of the
// signal's past, and what stood in the old one none of its future.
func TestReader_AnotherNodeInTheFile(t *testing.T) {
	p := newPLC(t)
	a, _, _ := p.plant()
	r := p.run(t, pressed(), nil)
	other := p.spare(t, r, a)
	r.stop()
	p.now(a, int32(13))
	p.pass(8 * time.Second)
	again := p.run(t, another(), r)
	again.says(t, "0@20 100")
	p.set(other, int32(101))
	again.says(t, "0@21 101")
	again.stop()
	if got, want := again.said(), "0@6 !BadConfigurationError, 0@11 !BadConfigurationError, 0@20 100, 1@0 2, 2@0 3, 0@21 101"; got != want {
		t.Errorf("it kept %s, want %s", got, want)
	}
	if got := again.notes(); !strings.Contains(got, "what they were until their first value is not known: a (ns=2;s=a2) | ") {
		t.Errorf("notes %s", got)
	}

	// By another path to the same node nothing moves, and with a further restart neither.
	cfg := another()
	cfg.Signals[0].Path, cfg.Signals[0].Node = "/Objects/nsu=urn:press;press/2:speed", ""
	p.edit(func() { p.paths["0:Objects/2:press/2:speed"] = "ns=2;s=a2" })
	third := p.run(t, cfg, again)
	third.says(t, "2@0 3")
	if got, want := third.said(), "0@21 101, 1@0 2, 2@0 3"; got != want {
		t.Errorf("it kept %s, want %s", got, want)
	}
}

// TestReader_ForgottenAndElsewhere: the server forgets the subscription while the PLC
// is loaded anew, and the path leads to another node.
func TestReader_ForgottenAndElsewhere(t *testing.T) {
	for _, restart := range []bool{false, true} {
		t.Run(fmt.Sprint("restart ", restart), func(t *testing.T) {
			p := newPLC(t)
			a, _, _ := p.plant()
			r := p.run(t, pressed(), nil)
			p.spare(t, r, a)
			if restart {
				r.stop()
			}
			p.edit(func() {
				p.paths["0:Objects/2:press/2:speed"] = "ns=2;s=a2"
				clear(p.subs)
				p.clock = p.clock.Add(9 * time.Second)
			})
			want := "0@11 !BadConfigurationError, 0@20 100, 1@0 2, 2@0 3"
			if restart {
				r, want = p.run(t, pressed(), r), "0@6 !BadConfigurationError, "+want
			} else {
				p.cut()
			}
			r.says(t, "0@20 100")
			if got := r.said(); !strings.HasSuffix(got, want) || strings.Contains(got, "0@0 100") {
				t.Errorf("it kept %s, want %s", got, want)
			}
		})
	}
}

// TestReader_AnotherNodeAndNoValueYet: the reader ends before the first value of the
// new node came. What comes to the run behind it is the first value all the same.
func TestReader_AnotherNodeAndNoValueYet(t *testing.T) {
	for name, cfg := range map[string]Config{"subscribed": another(), "in the living subscription": pressed()} {
		t.Run(name, func(t *testing.T) {
			p := newPLC(t)
			a, _, _ := p.plant()
			r := p.run(t, pressed(), nil)
			p.spare(t, r, a)
			if name == "subscribed" {
				r.stop()
			}
			p.edit(func() {
				p.paths["0:Objects/2:press/2:speed"] = "ns=2;s=a2"
				p.still = true
				p.clock = p.clock.Add(9 * time.Second)
			})
			if name == "subscribed" {
				r = p.run(t, cfg, r)
			} else {
				p.cut()
			}
			until(t, "the item is made", func() bool {
				r.mu.Lock()
				defer r.mu.Unlock()
				s, err := decodeState(r.state)
				return err == nil && s.Created == 3 && s.Moved.has(0)
			})
			r.stop()
			p.edit(func() { p.still = false })
			again := p.run(t, cfg, r)
			again.says(t, "0@20 100")
			if got := again.said(); strings.Contains(got, "0@0 100") {
				t.Errorf("it kept %s", got)
			}
			if name == "subscribed" {
				again.says(t, "2@0 3")
				again.mu.Lock()
				if got := strings.Join(again.first, ", "); got != "0@20 100, 1@0 2, 2@0 3" {
					t.Errorf("said to be of the beginning: %s", got)
				}
				again.mu.Unlock()
			}
			until(t, "that is noted", func() bool {
				again.mu.Lock()
				defer again.mu.Unlock()
				s, err := decodeState(again.state)
				return err == nil && len(s.Moved) == 0
			})
		})
	}
}

// TestReader_ABadValueStandsInForTheFirst: servers say that they wait for it.
func TestReader_ABadValueStandsInForTheFirst(t *testing.T) {
	p := newPLC(t)
	a, _, _ := p.plant()
	r := p.run(t, pressed(), nil)
	other := p.spare(t, r, a)
	first := other.value
	r.stop()
	p.edit(func() {
		other.value = &ua.DataValue{EncodingMask: ua.DataValueStatusCode, Status: ua.StatusBadWaitingForInitialData}
	})
	p.pass(9 * time.Second)
	r = p.run(t, another(), r)
	r.says(t, "0@20 !BadWaitingForInitialData")
	p.edit(func() {
		other.value = first // since noon
		p.queueOf(other)
		p.flush()
	})
	r.says(t, " 100")
	p.set(other, int32(101))
	r.says(t, "0@21 101")
	if got := r.said(); strings.Contains(got, "0@0 100") {
		t.Errorf("it kept %s", got)
	}
}

// TestReader_AStateWithoutSketch is of a program that had none: where file and nodes
// are the same nothing has moved, else everything may have.
func TestReader_AStateWithoutSketch(t *testing.T) {
	for _, same := range []bool{true, false} {
		t.Run(fmt.Sprint("same ", same), func(t *testing.T) {
			p := newPLC(t)
			a, _, _ := p.plant()
			r := p.run(t, pressed(), nil)
			p.spare(t, r, a)
			r.stop()
			s, err := decodeState(r.state)
			if err != nil {
				t.Fatal(err)
			}
			s.Kept, s.Last = nil, 0
			if r.state, err = json.Marshal(s); err != nil {
				t.Fatal(err)
			}
			p.edit(func() { clear(p.subs) })
			cfg, want := another(), "0@6 !BadConfigurationError, 1@6 !BadConfigurationError, 2@6 !BadConfigurationError, 0@11 100, 1@11 2, 2@11 3"
			if same {
				cfg, want = pressed(), "0@11 12, 1@0 2, 2@0 3"
			}
			r = p.run(t, cfg, r)
			r.says(t, " 3")
			if got := r.said(); got != want {
				t.Errorf("it kept %s, want %s", got, want)
			}
		})
	}
}

// TestReader_PolledFromAnotherNode is the first of these, polled.
func TestReader_PolledFromAnotherNode(t *testing.T) {
	p := newPLC(t)
	a, _, _ := p.plant()
	r := p.run(t, read(500*time.Millisecond), nil)
	r.says(t, "2@0 3")
	other := p.add("ns=2;s=a2", "", int32(100))
	p.now(a, int32(11))
	p.pass(9 * time.Second)
	r.says(t, "0@1 11")
	r.provenTo(t, noon.Add(9*time.Second))
	r.stop()
	p.pass(10 * time.Second)
	cfg := read(500 * time.Millisecond)
	cfg.Signals = another().Signals
	r = p.run(t, cfg, r)
	r.says(t, " 3")
	p.now(other, int32(101))
	r.says(t, "0@21 101")
	if got, want := r.said(), "0@9 !BadConfigurationError, 0@20 100, 1@0 2, 2@0 3, 0@21 101"; got != want {
		t.Errorf("it kept %s, want %s", got, want)
	}
}

// TestReader_PolledWithOneSignalLess: that another one was refused says nothing of the
// signal that has its place now.
func TestReader_PolledWithOneSignalLess(t *testing.T) {
	p := newPLC(t)
	p.plant()
	p.edit(func() { delete(p.cells, "ns=2;s=b") })
	r := p.run(t, read(500*time.Millisecond), nil)
	r.says(t, "1@0 !BadNodeIdUnknown")
	p.pass(10 * time.Second)
	r.provenTo(t, noon.Add(9*time.Second))
	r.stop()
	p.pass(10 * time.Second)
	cfg := read(500 * time.Millisecond)
	cfg.Signals = append(cfg.Signals[:1:1], cfg.Signals[2])
	r = p.run(t, cfg, r)
	r.says(t, " 3")
	if got, want := r.said(), "0@0 1, 1@0 3"; got != want {
		t.Errorf("it kept %s, want %s", got, want)
	}
}

func TestSketch(t *testing.T) {
	ties := func(n int) (out []tie) {
		for i := range n {
			out = append(out, tie{fmt.Sprint("line1.machine", i), fmt.Sprint("nsu=urn:x;i=", i)})
		}
		return out
	}
	for _, c := range []struct{ signals, moved, most int }{{1, 1, 1}, {3, 1, 1}, {143, 20, 20}, {144, 1, 1}, {5000, 1, 1}, {5000, 10, 40}, {5000, 5000, 5000}} {
		all := ties(c.signals)
		was := newSketch(all)
		if len(was) > sketchSize {
			t.Errorf("of %d it has %d bytes", c.signals, len(was))
		}
		if out := was.moved(all); len(out) > 0 {
			t.Errorf("of %d none has moved, and it says %d", c.signals, len(out))
		}
		var want []int
		for k := range c.moved {
			i := k * c.signals / c.moved
			all[i].node += "0"
			want = append(want, i)
		}
		got := was.moved(all)
		for _, i := range want {
			if !slices.Contains(got, i) {
				t.Fatalf("%d of %d has moved, and it does not say so", i, c.signals)
			}
		}
		if len(got) > c.most {
			t.Errorf("%d of %d have moved, and it says %d", c.moved, c.signals, len(got))
		}
	}
	all := ties(10)
	was := newSketch(all)
	all = append(all[:4:4], append([]tie{{"new", "i=7"}}, all[5:]...)...)
	if got := was.moved(all); !slices.Equal(got, []int{4}) {
		t.Errorf("a new one is among %v", got)
	}
	if n := len(make(sketch, 7).moved(all)); n != len(all) {
		t.Errorf("of what is no sketch %d of %d have moved", n, len(all))
	}
}

func TestMarks(t *testing.T) {
	var m marks
	for _, i := range []int{0, 7, 8, 1000, 3} {
		m = m.with(i)
	}
	m = m.without(1000)
	m = m.without(5)
	m = m.without(5000)
	var got []int
	for i := range 2000 {
		if m.has(i) {
			got = append(got, i)
		}
	}
	if !slices.Equal(got, []int{0, 3, 7, 8}) || len(m) != 2 {
		t.Errorf("%v in %d bytes", got, len(m))
	}
	for _, i := range got {
		m = m.without(i)
	}
	if len(m) != 0 {
		t.Errorf("%d bytes are left", len(m))
	}
}

// TestReader_TheNewNodesClockIsBehind: its first value stands at when the node was
// found. What changes then must not lie before that by the device's own clock.
func TestReader_TheNewNodesClockIsBehind(t *testing.T) {
	p := newPLC(t)
	a, _, _ := p.plant()
	r := p.run(t, pressed(), nil)
	other := p.spare(t, r, a)
	r.stop()
	p.pass(9 * time.Second)
	r = p.run(t, another(), r)
	r.says(t, "0@20 100")
	for i := range 4 {
		p.edit(func() {
			p.clock = p.clock.Add(time.Second)
			other.value = p.stamped(int32(101 + i))
			if i != 2 {
				other.value.SourceTimestamp = p.clock.Add(-2500 * time.Millisecond).Time()
			}
			p.queueOf(other)
			p.flush()
		})
		r.says(t, fmt.Sprint(" ", 101+i))
	}
	if got := r.said(); !strings.HasSuffix(got, "0@20.000000001 101, 0@20.000000002 102, 0@23 103, 0@21.5 104") {
		t.Errorf("it kept %s", got)
	}
}
