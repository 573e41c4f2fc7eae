package opcua

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/gopcua/opcua/ua"

	"plantmesh/edge/source/opcua/channel"
	"plantmesh/proto/mesh"
)

// A message that can't be read is asked for three times; then its subscription is
// given up, and the gap says why.
func TestReader_AMessageThatCantBeReadIsGivenUp(t *testing.T) {
	r, s := stepped(t, nil)
	noon := mesh.NanosOf(time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC))
	r.sealer.Begin(noon)
	r.sealer.Prove(noon + mesh.Nanos(time.Minute))
	spoils := fmt.Errorf("%w: a variant of type 77", channel.ErrProtocol)
	for _, step := range []struct {
		seq  uint32
		err  error
		gone bool
	}{
		{7, spoils, false}, {7, channel.ErrTimeout, false}, {7, spoils, false}, {8, spoils, false}, {8, spoils, false}, {8, spoils, true},
	} {
		err := r.notRepeated(step.seq, step.err)
		if errors.Is(err, errGone) != step.gone || !errors.Is(err, step.err) || !strings.Contains(err.Error(), strconv.Itoa(int(step.seq))) {
			t.Errorf("message %d: %v", step.seq, err)
		}
	}
	for i := range 2 { // what the gap says holds for this one alone
		at := noon + mesh.Nanos(time.Hour)*mesh.Nanos(i+1)
		r.state.Fresh, r.state.Heard = true, at
		r.begun(at, "", false)
		r.sealer.Prove(at + mesh.Nanos(time.Minute))
	}
	if _, err := r.commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	said := strings.Join(append(s.notes, s.lines...), "\n")
	if strings.Count(said, "message 8 of the server's can't be read") != 1 || strings.Count(said, notKept) != 1 || strings.Count(said, string(mesh.CauseUnreadable)+" ") != 1 {
		t.Errorf("the gaps say: %s", said)
	}
}

// A file that names fewer signals than before: what was refused of the others is no
// signal of this reader.
func TestReader_RefusedSignalsThatAreGone(t *testing.T) {
	r, _ := stepped(t, nil)
	r.state.Refused = []refused{{0, mesh.StatusBadNodeIDUnknown}, {len(r.table), mesh.StatusBadNodeIDUnknown}}
	b, err := r.state.encode(r.sealer)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.restore(b); err != nil {
		t.Fatal(err)
	}
	if len(r.state.Refused) != 1 || !strings.Contains(r.connected(), "1 of") {
		t.Errorf("refused: %v, %s", r.state.Refused, r.connected())
	}
}

// Until the new items of moved signals are made the subscription is not whole: a
// node that is back by then has an item whose values count for nothing.
func TestReader_ARetiredItemIsMadeAgain(t *testing.T) {
	r, _ := stepped(t, nil)
	r.state.Created = len(r.nodes)
	if err := r.retire(nil); err != nil || r.state.Created != len(r.nodes) {
		t.Errorf("nothing moved: %v, %d items made", err, r.state.Created)
	}
	r.items[0].made, r.items[0].id, r.items[0].at = "ns=2;s=a", 7, ua.NewStringNodeID(3, "a")
	if err := r.retire([]int{0}); err != nil || r.state.Created != 0 {
		t.Errorf("one moved: %v, %d items made", err, r.state.Created)
	}
	if err := r.takeUp(t.Context()); !errors.Is(err, errGone) {
		t.Errorf("taken up though its items are not made: %v", err)
	}
}

// What is kept though it is in the band moves the band.
func TestSieve_AnInitialValueMovesTheBand(t *testing.T) {
	r, _ := stepped(t, nil)
	r.sieved = []sieve{{band: 1}}
	for _, c := range []struct {
		value float64
		flags uint32
		held  bool
	}{{10, 0, false}, {10.9, mesh.FlagInitial, false}, {9.1, 0, false}, {9.9, 0, true}} {
		if got := r.held(0, &mesh.Sample{Value: mesh.Double(c.value), Flags: c.flags}); got != c.held {
			t.Errorf("%v: held %v", c.value, got)
		}
	}
}
