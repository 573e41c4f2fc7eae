package opcua

import (
	"strings"
	"testing"
	"time"

	edgeua "plantmesh/edge/source/opcua"
	"plantmesh/proto/mesh"
)

// TestEvents_FieldsOfAPlantsOwnType come with its events, and again after a restart.
func TestEvents_FieldsOfAPlantsOwnType(t *testing.T) {
	beside(t)
	p, b := newPress(t, 0), newNotebook(t)
	cfg := p.config(edgeua.Events{Name: "line1.press.jams", Types: []string{"nsu=" + plantURI + ";s=JamEventType"}})
	stop := b.listens(cfg)
	until(t, 20*time.Second, "it is connected", func() bool { return strings.HasPrefix(b.last(), "connected") })
	p.ask(map[string]any{"do": "raise", "message": "no jam", "severity": 500}, nil)
	p.ask(map[string]any{"do": "jam", "position": 12.5, "station": 3, "part": "A-17"}, nil)
	until(t, 10*time.Second, "the jam comes", func() bool { return len(b.of("")) >= 1 })
	stop()
	proofs := b.proven()
	p.ask(map[string]any{"do": "jam", "position": -1, "station": 65535, "part": "ä"}, nil)
	stop = b.listens(cfg)
	until(t, 20*time.Second, "the next jam comes", func() bool { return len(b.of("")) >= 2 })
	stop()
	if n := b.proven(); n != proofs {
		t.Errorf("the restart has cost a gap: %d pieces are proven, %d before", n, proofs)
	}
	all := b.of("")
	for i, want := range []map[string]string{
		{"message": "jammed", "Position": "12.5", "Station": "3", "Part": "A-17", "event_type": "nsu=" + plantURI + ";s=JamEventType"},
		{"message": "jammed", "Position": "-1", "Station": "65535", "Part": "ä"},
	} {
		for field, value := range want {
			if got := all[i].text(field); got != value {
				t.Errorf("jam %d: %s is %q, want %q", i, field, got, value)
			}
		}
	}
	if len(all) != 2 {
		t.Errorf("%d events came", len(all))
	}
}

// TestEvents_AQueueThatRanOver is a gap up to the first event that stood in it.
func TestEvents_AQueueThatRanOver(t *testing.T) {
	beside(t)
	p, b := newPress(t, 0), newNotebook(t)
	stop := b.listens(p.config(edgeua.Events{Name: "line1.press.events"}))
	until(t, 20*time.Second, "it is connected", func() bool { return strings.HasPrefix(b.last(), "connected") })
	p.ask(map[string]any{"do": "raise", "message": "before", "severity": 500}, nil)
	until(t, 10*time.Second, "the first event comes", func() bool { return len(b.of("")) == 1 })
	p.ask(map[string]any{"do": "overflow"}, nil)
	p.ask(map[string]any{"do": "raise", "message": "behind", "severity": 500}, nil)
	until(t, 10*time.Second, "the event behind it comes", func() bool { return len(b.of("")) == 2 })
	stop()
	b.mu.Lock()
	defer b.mu.Unlock()
	var said []mesh.Void
	for _, v := range b.voids {
		if v.Cause == mesh.CauseOverflow {
			said = append(said, v)
		}
	}
	if len(said) != 1 || !strings.Contains(said[0].Note, "line1.press.events ran over") {
		t.Fatalf("%+v", b.voids)
	}
	gap, first, last := said[0].Parts[0].Times, b.events[0].Time, b.events[1].Time
	if gap.From < first || gap.To > last || gap.Empty() {
		t.Errorf("the gap is %v, between %v and %v", gap, first, last)
	}
}
