package source

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

// A reason that comes and goes is remembered: who looks a moment later finds the reader
// connected.
func TestSupervisor_RemembersTroubles(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s Supervisor
		began := time.Now()
		for range 3 {
			s.told("not connected: thrown out")
			s.told("connected")
			<-time.After(time.Minute)
		}
		s.told("not connected: away")
		got := s.Status()
		if got.Told != "not connected: away" || len(got.Troubles) != 2 {
			t.Fatalf("%+v", got)
		}
		if x := got.Troubles[0]; x.Says != "thrown out" || x.Times != 3 || !x.First.Equal(began) || x.Last.Sub(began) != 2*time.Minute {
			t.Errorf("%+v", x)
		}
		for i := range 3 * mostTroubles {
			s.told(fmt.Sprintf("not connected: %d", i))
		}
		if all := s.Status().Troubles; len(all) != mostTroubles || all[mostTroubles-1].Says != "23" {
			t.Errorf("%+v", all)
		}
		if got.Troubles[0].Says != "thrown out" {
			t.Error("a copy changes")
		}
	})
}
