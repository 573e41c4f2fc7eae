package ingest

import (
	"fmt"
	"log/slog"
	"slices"
	"testing"
	"time"

	"plantmesh/proto/mesh"
	"plantmesh/proto/wire"
)

// An agent whose disk was put back, or begun anew, is held while its other
// branch may still be written, and taken in when that has been silent.
func TestIngest_AForkIsTakenInWhenTheOtherBranchIsSilent(t *testing.T) {
	for name, parent := range map[string]int{"put back": 2, "begun anew": 0} {
		t.Run(name, func(t *testing.T) {
			r, a := newRig(t), newAgent(t, "gw-1")
			now := time.Unix(1e9, 0)
			r.g = New(Config{Now: func() time.Time { return now }}, r.store, slog.New(slog.DiscardHandler))
			r.raw(a, wire.AppendDescriptor(nil, a.table))
			r.send(a, a.open(), a.batch(1), a.batch(1))
			r.send(a, a.open(), a.batch(1))
			tip := a.at
			a.at = mesh.Position{}
			if parent > 0 {
				a.at = a.records[parent-1].At
			}
			opening, batch := a.open(), a.batch(1)
			held := func(why string) {
				t.Helper()
				if rec := r.send(a, opening, batch); rec.Have.Through != tip {
					t.Fatalf("%s: taken through %v", why, rec.Have.Through)
				}
			}
			held("at once")
			now = now.Add(4 * time.Minute)
			other := newAgent(t, "gw-1")
			other.at = tip
			still := other.batch(1)
			r.send(a, still)
			tip = still.At
			now = now.Add(4 * time.Minute)
			held("the other spoke four minutes ago")
			r.g = New(Config{Now: func() time.Time { return now }}, r.store, slog.New(slog.DiscardHandler))
			held("the hub has just begun")
			now = now.Add(6 * time.Minute)
			if rec := r.send(a, opening, batch); rec.Have.Through != a.at || r.g.Stats().Grafted != 1 {
				t.Fatalf("after silence: %+v, stats %+v", rec.Have, r.g.Stats())
			}
			next := []mesh.Record{a.open(), a.batch(2)}
			if rec := r.send(a, next...); rec.Have.Through != a.at {
				t.Errorf("its next epoch: %+v", rec.Have)
			}
			// What the other branch still had on its way is stored, and moves nothing.
			late := other.batch(1)
			if rec := r.send(a, late, late); rec.Have.Through != a.at || r.g.Stats().Clashed != 0 {
				t.Errorf("the other branch: %+v, stats %+v", rec.Have, r.g.Stats())
			}
		})
	}
}

// A branch that is taken in may go on where a clone had ended it. What came of it
// meanwhile was stored and did not count. It counts from then on: its agent may
// have let it go. More islands than a set holds are asked for, and count when they
// come again, without being stored again.
func TestIngest_WhatWasStoredBeyondAnEndCountsAgain(t *testing.T) {
	for _, holes := range []bool{false, true} {
		r, a, clone := newRig(t), newAgent(t, "gw-1"), newAgent(t, "gw-1")
		now := time.Unix(1e9, 0)
		again := func(log slog.Handler) {
			r.g = New(Config{Now: func() time.Time { return now }}, r.store, slog.New(log))
		}
		again(slog.DiscardHandler)
		r.raw(a, wire.AppendDescriptor(nil, a.table))
		r.send(a, a.open())
		clone.at = a.at
		r.send(clone, clone.open(), clone.batch(1))
		all := []mesh.Record{a.batch(1), a.void()}
		for i := range 3*regainIslands + 1 {
			all = append(all, a.batch(i))
		}
		beyond := slices.Clone(all)
		if holes {
			beyond = beyond[:0]
			for i := 0; i < len(all); i += 2 {
				beyond = append(beyond, all[i])
			}
		}
		var log words
		again(slog.NewTextHandler(&log, nil))
		r.send(a, beyond...)
		r.send(a, beyond...)
		if log.has("beyond the end of their epoch") != 1 || log.has(fmt.Sprint("records=", len(beyond))) != 1 {
			t.Error("the hub does not say once that they stand beyond the end")
		}
		now = now.Add(time.Hour)
		last := all[len(all)-1].At
		next := []mesh.Record{a.open(), a.batch(3)}
		rec := r.send(a, next...)
		if !holes && rec.Have.Through != a.at {
			t.Fatalf("taken in: %+v", rec.Have)
		}
		again(slog.DiscardHandler)
		if holes {
			if n := len(rec.Have.Islands); n < regainIslands || n > mesh.MaxIslands || rec.Have.Through.Epoch != last.Epoch {
				t.Fatalf("taken in: %d islands above %s", n, rec.Have.Through)
			}
			rec = r.send(a, append(slices.Clone(all), next...)...)
		} else {
			rec = r.send(a, append(slices.Clone(all), all...)...)
		}
		if rec.Have.Through != a.at || len(rec.Have.Islands) > 0 {
			t.Errorf("sent again: %+v", rec.Have)
		}
		if s := r.g.Stats(); s.Clashed != 0 || !holes && s.Taken != 0 {
			t.Errorf("stats %+v", s)
		}
		if !holes {
			r.want(append(clone.records, a.records...)...)
		}
	}
}
