package opcua

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gopcua/opcua/ua"

	"plantmesh/proto/mesh"
	"plantmesh/proto/wire"
)

func TestReader_RefusedSignalIsBadFromTheProofsBegin(t *testing.T) {
	r, log := stepped(t, nil)
	r.refuse(0, errors.New("the server has no namespace"))
	r.refuse(0, ua.StatusBadNotReadable) // asked for twice
	if want := "connected, 1 of 2 signals refused: a (BadNotReadable)"; r.connected() != want {
		t.Errorf("it says %q", r.connected())
	}
	r.state.Refused = nil
	r.refuse(0, errors.New("the server has no namespace"))
	if want := "connected, 1 of 2 signals refused: a (BadNodeIdUnknown)"; r.connected() != want {
		t.Errorf("it says %q", r.connected())
	}
	r.step(t, pulse(1, noon), pulse(1, noon.Add(20*time.Second)))

	// The same subscription after a restart: it is said, and not emitted again.
	r, again := stepped(t, log.state)
	r.step(t, pulse(1, noon.Add(30*time.Second)))
	if len(r.state.Refused) != 1 || !strings.Contains(r.connected(), "1 of 2") {
		t.Errorf("refused %+v", r.state.Refused)
	}
	if got, want := strings.Join(append(log.lines, again.lines...), "; "), "0-15: !80340000i; 15-25:"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestReader_DoubtIsToldOnceAndTakenBack(t *testing.T) {
	r, log := stepped(t, nil)
	r.step(t, r.message(t, 1, 0, false, int32(1)), pulse(2, noon.Add(24*time.Hour)))
	if !strings.Contains(log.said, "nothing is proven: the server's clock says") {
		t.Errorf("it says %q", log.said)
	}
	r.step(t, pulse(2, noon.Add(10*time.Second)))
	if log.said != "connected" {
		t.Errorf("it says %q", log.said)
	}
}

// The clock is the bubble's; only the refused connection is real.
func TestReader_UnreachableServerIsAVoid(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		cfg := config()
		cfg.Endpoint = "opc.tcp://127.0.0.1:1"
		r, err := New(cfg, func() mesh.Nanos { return noon.Add(time.Since(began)) }, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		dec, err := wire.NewDecoder()
		if err != nil {
			t.Fatal(err)
		}
		log := &spool{t: t, dec: dec}
		state, err := json.Marshal(state{Subscription: 3, Table: r.hash, Created: 2, Proof: noon.Add(-5 * time.Second)})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 95*time.Second)
		defer cancel()
		if err := r.Run(ctx, state, log); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		if len(log.lines) != 2 || !strings.HasPrefix(log.lines[0], "disconnected -5-1") || !strings.HasPrefix(log.lines[1], "disconnected -5-7") {
			t.Errorf("the log says %q", log.lines)
		}
		for _, n := range log.notes {
			if !strings.Contains(n, "connection refused") {
				t.Errorf("note %q", n)
			}
		}
	})
}
