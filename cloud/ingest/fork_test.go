package ingest

import (
	"log/slog"
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
// meanwhile was stored and did not count: it is asked for, and counts when it
// comes again, without being stored again.
func TestIngest_WhatWasStoredBeyondAnEndCountsAgain(t *testing.T) {
	r, a, clone := newRig(t), newAgent(t, "gw-1"), newAgent(t, "gw-1")
	now := time.Unix(1e9, 0)
	r.g = New(Config{Now: func() time.Time { return now }}, r.store, slog.New(slog.DiscardHandler))
	r.raw(a, wire.AppendDescriptor(nil, a.table))
	opening := a.open()
	r.send(a, opening)
	clone.at = a.at
	r.send(clone, clone.open(), clone.batch(1))
	beyond := []mesh.Record{a.batch(1), a.batch(2), a.void()}
	var log words
	r.g = New(Config{Now: func() time.Time { return now }}, r.store, slog.New(slog.NewTextHandler(&log, nil)))
	r.send(a, beyond...)
	r.send(a, beyond...)
	if log.has("beyond the end of their epoch") != 1 || log.has("records=3") != 1 {
		t.Error("the hub does not say once that they stand beyond the end")
	}
	r.want(append(clone.records, a.records...)...)
	now = now.Add(time.Hour)
	next := []mesh.Record{a.open(), a.batch(3)}
	if rec := r.send(a, next...); rec.Have.Through != opening.At {
		t.Fatalf("taken in: %+v", rec.Have)
	}
	r.g = New(Config{Now: func() time.Time { return now }}, r.store, slog.New(slog.DiscardHandler))
	if rec := r.send(a, append(beyond, beyond...)...); rec.Have.Through != a.at || len(rec.Have.Islands) > 0 {
		t.Errorf("sent again: %+v", rec.Have)
	}
	if s := r.g.Stats(); s.Taken != 0 || s.Twice != 6 || s.Clashed != 0 {
		t.Errorf("stats %+v", s)
	}
	r.want(append(clone.records, a.records...)...)
}
