package source

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"plantmesh/proto/mesh"
)

// Since when a source is not read is one moment, however many words it has for why; and
// values that were written off have the time of the last that were counted.
func TestSupervisor_KnowsSinceWhenItIsDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := NewSupervisor(Config{ID: "s1"}, nil, nil, nil, quiet())
		began := time.Now()
		down := func(want time.Time) {
			t.Helper()
			if got := s.Status().Down; !got.Equal(want) {
				t.Errorf("down since %s, want %s", got, want)
			}
		}
		wait := func() { <-time.After(time.Minute) }
		wait()
		s.set(StateStarting)
		down(began)
		s.told("connected")
		down(time.Time{})
		wait()
		away := time.Now()
		s.told("not connected: a")
		wait()
		s.told("not connected: b")
		s.failed(StateRestarting, errors.New("gone"))
		s.set(StateStarting)
		down(away)
		s.told("connected")
		wait()
		full := time.Now()
		s.failed(StateHeld, errors.New("full"))
		wait()
		down(full)
		s.writtenOff(mesh.Void{Cause: mesh.CauseOverflow, Parts: []mesh.Part{{Count: 3}}})
		last := time.Now()
		wait()
		s.writtenOff(mesh.Void{Cause: mesh.CauseOverflow, Parts: []mesh.Part{{}}}, mesh.Void{Cause: mesh.CauseDisconnected})
		v := s.Status().Voids
		if x := v[mesh.CauseOverflow]; x.Count != 3 || x.Voids != 2 || !x.Last.Equal(last) || !v[mesh.CauseDisconnected].Last.IsZero() {
			t.Errorf("%+v", v)
		}
	})
}
