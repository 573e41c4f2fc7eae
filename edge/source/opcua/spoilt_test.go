package opcua

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

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
	spoils := fmt.Errorf("%w: %w: a variant of type 77", channel.ErrProtocol, channel.ErrUnreadable)
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
