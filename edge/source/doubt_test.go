package source

import (
	"context"
	"encoding/binary"
	"strconv"
	"testing"
	"testing/synctest"

	"plantmesh/proto/mesh"
)

// doubtful is what the log leaves where it lost records of a source.
func doubtful(proven, until mesh.Nanos, old bool, cause mesh.Cause) []byte {
	b := binary.LittleEndian.AppendUint64(nil, uint64(proven))
	b = append(binary.LittleEndian.AppendUint64(b, uint64(until)), 0)
	if old {
		b[16] = 1
	}
	return append(b, cause...)
}

// TestSupervisor_NextProofDoesNotCoverWhatIsLost: a record holds more than it
// proves, and the next one's proof reaches over that. Where the first is lost, a
// void stands behind each that does.
func TestSupervisor_NextProofDoesNotCoverWhatIsLost(t *testing.T) {
	for _, c := range []struct {
		name  string
		doubt []byte
		want  string
	}{
		{"nothing is lost", nil, "1 in [100,110) complete 110 | 1 in [110,120) complete 120"},
		{"until the proof is beyond it", doubtful(105, 115, false, mesh.CauseDiskPolicy), "1 in [100,110) complete 110 | void disk_policy [105,115) | 1 in [110,120) complete 120 | void disk_policy [105,115)"},
		{"once", doubtful(95, 110, false, mesh.CauseDamaged), "1 in [100,110) complete 110 | void damaged [95,110) | 1 in [110,120) complete 120"},
		{"of what was never proven", doubtful(0, 110, false, mesh.CauseDamaged), "1 in [100,110) complete 110 | 1 in [110,120) complete 120"},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := newDisk(t)
			if c.doubt != nil {
				d.state[doubtPrefix+"s1"] = c.doubt
			}
			s := NewSupervisor(Config{ID: "s1"}, nil, d, func() mesh.Nanos { return 1000 }, quiet())
			sealer := newSealer(t, Window{})
			sealer.Begin(100)
			for range 2 {
				sealer.Add(at(int64(sealer.Proof())))
				sealer.Prove(sealer.Proof() + 10)
				o, err := sealer.Seal([]byte("state"))
				if err != nil {
					t.Fatal(err)
				}
				if err := s.Take(t.Context(), []mesh.Offer{o}); err != nil {
					t.Fatal(err)
				}
			}
			if got := d.told(); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
			if left := d.state[doubtPrefix+"s1"]; len(left) > 0 {
				t.Errorf("the doubt stays: %x", left)
			}
		})
	}
}

// doubter is a reader that notes whether its state is doubted.
type doubter struct {
	readerFunc

	doubted *bool
}

func (d doubter) Doubt() { *d.doubted = true }

// TestSupervisor_DoubtsAStateThatIsOld: the log has voided what it lost, so the
// void of the dead worker begins there, and the reader is told, once.
func TestSupervisor_DoubtsAStateThatIsOld(t *testing.T) {
	for _, old := range []bool{true, false} {
		t.Run(strconv.FormatBool(old), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				d := newDisk(t)
				d.state["s1"] = binary.LittleEndian.AppendUint64(nil, 200)
				d.state[proofPrefix+"s1"] = binary.LittleEndian.AppendUint64(nil, 200)
				d.state[doubtPrefix+"s1"] = doubtful(200, 900, old, mesh.CauseDamaged)
				doubted := false
				spawn := func(context.Context) (Process, error) { return worker(doubter{counter(1, hang), &doubted}), nil }
				s := NewSupervisor(Config{ID: "s1"}, spawn, d, func() mesh.Nanos { return 1000 }, quiet())
				done := make(chan error)
				go func() { done <- s.Run(ctx) }()
				for range 2 {
					<-d.moved
				}
				synctest.Wait()
				want := map[bool]string{
					true:  "void damaged [900,1000) | 1 in [200,210) complete 210",
					false: "void died [200,1000) | 1 in [200,210) complete 210 | void damaged [200,900)",
				}[old]
				if got := d.told(); got != want || doubted != old {
					t.Errorf("doubted %v, got %s\nwant %s", doubted, got, want)
				}
				if left := len(d.state[doubtPrefix+"s1"]) > 0; left == old {
					t.Errorf("a doubt is left: %v", left)
				}
				cancel()
				if err := <-done; err != nil {
					t.Error(err)
				}
			})
		})
	}
}
