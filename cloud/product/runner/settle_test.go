package runner

import (
	"testing"
	"time"

	"plantmesh/proto/mesh"
)

// drained has an hour come behind what came after it, a minute every second of
// the machine clock, and counts how often the hour's row was written meanwhile.
func drained(t *testing.T, cfg Config, restart bool) (b *bench, times int) {
	t.Helper()
	b = newBench(t, cfg)
	b.hub.arrive(b.heard(30*time.Minute, b.sample(0, "state", mesh.Int(6)), b.sample(0, "produced", mesh.Int(0))), nil)
	var backlog []mesh.Record
	for i := range 60 {
		at := 30*time.Minute + time.Duration(i)*time.Minute
		backlog = append(backlog, b.heard(at+time.Minute, b.sample(at, "produced", mesh.Int(int64(10*i)))))
	}
	b.hub.arrive(b.heard(3*time.Hour, b.sample(2*time.Hour, "state", mesh.Int(2))), nil)
	b.step()
	n := len(b.out.log)
	for i, r := range backlog {
		if restart && i == len(backlog)-5 {
			b.open(cfg)
		}
		if i == len(backlog)-1 {
			for _, row := range b.out.log[n:] {
				if row.Product == "oee" && row.Key == "hour/2026-03-02T04:00:00.000Z" {
					times++
				}
			}
		}
		b.now += second
		b.hub.arrive(r, nil)
		b.step()
	}
	return b, times
}

// While records of before are still to come, a row that ended is written once in
// 30 s, and once when nothing is missing any more.
func TestRunner_RevisionsCoalesceWhileAHoleIsOpen(t *testing.T) {
	hour := "hour/2026-03-02T04:00:00.000Z"
	at, often := drained(t, Config{Settle: time.Nanosecond}, false)
	want, _ := at.row("oee", hour)
	if often < 40 {
		t.Errorf("without a wait the row was written %d times", often)
	}
	for _, restart := range []bool{false, true} {
		b, seldom := drained(t, Config{}, restart)
		if seldom > 3 {
			t.Errorf("in a minute the row was written %d times (begun again: %v)", seldom, restart)
		}
		if r, _ := b.row("oee", hour); r.State != mesh.RowFinal || string(r.Body) != string(want.Body) {
			t.Errorf("the hole is closed, and the row (begun again: %v) is %v %s, not %s", restart, r.State, r.Body, want.Body)
		}
	}
}

// A program that ends while a change is held back begins where that was.
func TestRunner_WhatIsHeldBackIsFoldedAgain(t *testing.T) {
	hour := "hour/2026-03-02T04:00:00.000Z"
	b := newBench(t, Config{})
	b.hub.arrive(b.heard(20*time.Minute, b.sample(0, "state", mesh.Int(6))), nil)
	first := b.heard(40 * time.Minute)
	b.heard(50 * time.Minute) // never comes
	b.hub.arrive(b.heard(3*time.Hour), nil)
	b.step()
	b.now += second
	b.hub.arrive(first, nil)
	b.step()
	if _, m := b.row("oee", hour); m["unknown_seconds"] != 30*60.0 {
		t.Fatalf("the change is not held back: %v", m["unknown_seconds"])
	}
	for range 10 { // all is committed but what is held back
		b.now += second
		b.step()
	}
	b.open(Config{})
	b.now += 40 * second
	b.step()
	if _, m := b.row("oee", hour); m["unknown_seconds"] != 600.0 {
		t.Errorf("what was held back is forgotten: %v", m["unknown_seconds"])
	}
}
