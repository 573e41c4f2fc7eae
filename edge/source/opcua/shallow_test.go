package opcua

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/gopcua/opcua/ua"
)

// push puts a value into an item's queue, over the one before where it holds one.
func (s *plcSub) push(it *plcItem, v *ua.DataValue) {
	for _, n := range s.queue {
		if n.ClientHandle == it.handle && it.queue <= 1 {
			n.Value = v
			return
		}
	}
	s.queue = append(s.queue, &ua.MonitoredItemNotification{ClientHandle: it.handle, Value: v})
}

// holds has the server keep so many values of every item.
func (p *plc) holds(queue uint32) {
	p.item = func(_ *ua.MonitoredItemCreateRequest, res *ua.MonitoredItemCreateResult) {
		res.RevisedQueueSize = queue
	}
}

// changes gives a cell values, a second apart, that nobody is sent yet.
func (p *plc) changes(c *cell, values ...int32) {
	for _, v := range values {
		p.edit(func() {
			p.clock = p.clock.Add(time.Second)
			c.value = p.stamped(v)
			p.queueOf(c)
		})
	}
}

func (r *running) voidText() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var all []string
	for _, v := range r.voids {
		t := v.Parts[0].Times
		all = append(all, string(v.Cause)+" "+second(t.From)+"-"+second(t.To)+" "+v.Note)
	}
	return strings.Join(all, " | ")
}

// known has the signals' values known, and the source proven to 5 s after noon, at 10.
func (p *plc) known(t *testing.T, r *running) {
	t.Helper()
	r.says(t, "2@0 3")
	p.pass(10 * time.Second)
	r.provenTo(t, noon.Add(5*time.Second))
}

// TestReader_AQueueOfOneHidesWhatItLost: the one value that comes behind an outage may
// stand for others. Of a signal that has none nothing is lost.
func TestReader_AQueueOfOneHidesWhatItLost(t *testing.T) {
	const lost = "overflow 5-12 the server keeps one value of a: what else they were meanwhile is not known; it offers no history of a"
	for name, c := range map[string]struct {
		queue   uint32
		restart bool
		want    string
		voids   string
	}{
		"one":              {1, false, "0@12 12", lost},
		"none is one":      {0, false, "0@12 12", lost},
		"one, restarted":   {1, true, "0@12 12", lost},
		"two":              {2, false, "0@11 11, 0@12 12", ""},
		"two, restarted":   {2, true, "0@11 11, 0@12 12", ""},
		"as many as asked": {100_000, false, "0@11 11, 0@12 12", ""},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPLC(t)
			p.holds(c.queue)
			a, _, _ := p.plant()
			r := p.run(t, pressed(), nil)
			p.known(t, r)
			before := len(r.said())
			if c.restart {
				r.stop()
			} else {
				p.edit(func() { p.down = true })
			}
			p.cut() // else it may still answer to who is gone, which is no outage
			p.changes(a, 11, 12)
			p.pass(time.Second)
			if c.restart {
				r, before = p.run(t, pressed(), r), 0
			} else {
				p.edit(func() { p.down = false })
			}
			r.says(t, "0@12 12")
			p.pass(10 * time.Second)
			r.provenTo(t, noon.Add(18*time.Second))
			if got := strings.TrimPrefix(r.said()[before:], ", "); got != c.want {
				t.Errorf("it kept %s, want %s", got, c.want)
			}
			if got := r.voidText(); !strings.HasPrefix(got, c.voids) || c.voids == "" && got != "" {
				t.Errorf("voids %s", got)
			}
			p.set(a, int32(13)) // from here on each comes
			p.set(a, int32(14))
			r.says(t, "0@24 13, 0@25 14")
		})
	}
}

// TestReader_TheFirstMessageGetsLost: it is asked for again, by the same run or by
// another, and says no more than before.
func TestReader_TheFirstMessageGetsLost(t *testing.T) {
	for _, restart := range []bool{false, true} {
		t.Run(fmt.Sprint("restart ", restart), func(t *testing.T) {
			p := newPLC(t)
			p.holds(1)
			a, _, _ := p.plant()
			r := p.run(t, pressed(), nil)
			p.known(t, r)
			p.edit(func() { p.down = true })
			p.cut()
			p.changes(a, 11, 12)
			p.pass(time.Second)
			p.edit(func() { p.down, p.drops = false, 1 })
			until(t, "it is lost", func() bool { p.mu.Lock(); defer p.mu.Unlock(); return p.drops == 0 })
			if restart {
				r.stop()
				r = p.run(t, pressed(), r)
			} else {
				p.cut()
			}
			r.says(t, "0@12 12")
			p.pass(10 * time.Second)
			r.provenTo(t, noon.Add(18*time.Second))
			if got := r.voidText(); !strings.HasPrefix(got, "overflow 5-12 ") {
				t.Errorf("voids %s", got)
			}
		})
	}
}

// TestReader_WhatWasSentBeforeIsNoGap: messages that were on their way when the
// connection broke, or were not committed when the reader ended.
func TestReader_WhatWasSentBeforeIsNoGap(t *testing.T) {
	p := newPLC(t)
	p.holds(1)
	a, b, _ := p.plant()
	r := p.run(t, pressed(), nil)
	p.known(t, r)
	p.edit(func() { p.drops = 2 })
	p.set(a, int32(11))
	p.set(b, int32(12))
	r.stop()
	r = p.run(t, pressed(), r)
	r.says(t, "0@11 11, 1@12 12")
	r.provenTo(t, noon.Add(7*time.Second))
	if got := r.said() + r.voidText(); got != "0@11 11, 1@12 12" {
		t.Errorf("it kept %s", got)
	}
}

// TestReader_AReaderThatStandsStill has the server without a request to answer, which
// is an outage too.
func TestReader_AReaderThatStandsStill(t *testing.T) {
	p := newPLC(t)
	p.holds(1)
	a, b, _ := p.plant()
	r := p.run(t, pressed(), nil)
	p.known(t, r)
	full := func(is bool) { r.mu.Lock(); defer r.mu.Unlock(); r.full = is }
	full(true)
	p.set(b, int32(12))
	until(t, "it stands still", func() bool { r.mu.Lock(); defer r.mu.Unlock(); return r.held })
	until(t, "the server has nothing to answer to", func() bool {
		p.set(b, int32(12))
		p.mu.Lock()
		defer p.mu.Unlock()
		return len(p.wait) == 0
	})
	p.pass(time.Second)
	p.changes(a, 21, 22)
	p.pass(10 * time.Second)
	began := time.Now() // machine time says how long it stood
	until(t, "it stood for long", func() bool { return time.Since(began) > 8*lookEvery })
	full(false)
	r.says(t, " 22")
	p.pass(10 * time.Second)
	until(t, "it is proven", func() bool { r.mu.Lock(); defer r.mu.Unlock(); return r.proof == p.clock.Add(-5*time.Second) })
	voids := r.voidText()
	// Of b too, where it was given one more while nobody could take it.
	if !strings.HasPrefix(voids, "overflow ") || !strings.Contains(voids, " the server keeps one value of a") {
		t.Errorf("it kept %s, voids %s", r.said(), voids)
	}
	for v := range int32(5) { // one after the other, and none is lost
		p.set(a, 100+v)
		r.says(t, fmt.Sprint(" ", 100+v))
	}
	if got := r.voidText(); got != voids {
		t.Errorf("voids %s", got)
	}
}

// TestReader_QueuesThatNobodyNoted are those of a subscription that a program of before
// made: what it knew is that the server keeps less than was asked.
func TestReader_QueuesThatNobodyNoted(t *testing.T) {
	p := newPLC(t)
	p.holds(1)
	a, _, _ := p.plant()
	r := p.run(t, pressed(), nil)
	p.known(t, r)
	p.set(a, int32(6))
	r.says(t, "0@11 6")
	r.provenTo(t, noon.Add(6*time.Second))
	r.stop()
	p.cut()
	s, err := decodeState(r.state)
	if err != nil {
		t.Fatal(err)
	}
	s.Shallow, s.Bridged, s.Kept = nil, 0, nil
	if r.state, err = json.Marshal(s); err != nil {
		t.Fatal(err)
	}
	p.changes(a, 12, 13)
	p.pass(time.Second)
	r = p.run(t, pressed(), r)
	r.says(t, "0@13 13")
	p.pass(10 * time.Second)
	r.provenTo(t, noon.Add(19*time.Second))
	if got := r.voidText(); !strings.HasPrefix(got, "overflow 6-13 the server keeps one value of a: ") {
		t.Errorf("voids %s", got)
	}
}
