package buffer

import (
	"testing"
	"time"
)

// TestMeter_TellsOfNow: what an agent did long ago is not today's rate.
func TestMeter_TellsOfNow(t *testing.T) {
	t.Parallel()
	m, at := meter{}, time.Date(2026, 3, 1, 6, 0, 0, 0, time.UTC)
	one := Commits{Count: 1, Batches: 1, Took: time.Second, Slowest: time.Second, Payload: 10, Written: 100, Sources: map[string]SourceCount{"a": {1, 5}}}
	m.add(one, at)
	for range 5*60 - 1 {
		at = at.Add(5 * time.Second)
		m.add(one, at)
		c := m.before.plus(m.now)
		if age := at.Sub(c.Since); age > 2*countFor+time.Second || uint64(age/(5*time.Second))+1 != c.Count || c.Written != 100*c.Count || c.Sources["a"].Values != 5*c.Count {
			t.Fatalf("at %s: %+v", at, c)
		}
	}
	if c := m.before.plus(m.now); c.Count < 60 || c.Slowest != time.Second || c.Took != time.Duration(c.Count)*time.Second {
		t.Errorf("counted %+v", c)
	}
	at = at.Add(5 * time.Hour)
	m.add(one, at)
	if c := m.before.plus(m.now); c.Count != 1 || at.Sub(c.Since) != time.Second {
		t.Errorf("after a long silence: %+v", c)
	}
}
