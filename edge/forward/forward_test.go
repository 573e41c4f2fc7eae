package forward

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"plantmesh/proto/mesh"
	"plantmesh/proto/subject"
)

func TestForward_EveryPublishMayFail(t *testing.T) {
	for name, faults := range map[string][]string{
		"none":              nil,
		"first failed":      {"failed"},
		"first happened":    {"happened"},
		"second failed":     {"", "failed"},
		"second happened":   {"", "happened"},
		"third happened":    {"", "", "happened"},
		"all of a time":     {"", "happened", "failed", "happened", "failed", "failed"},
		"preamble lost":     {"lost"},
		"record lost":       {"", "", "lost"},
		"two lost":          {"", "lost", "lost", "", "lost"},
		"doubled":           {"doubled", "doubled", "doubled"},
		"preamble late":     {"late"},
		"reordered":         {"", "late", "", "late", "late", ""},
		"everything at all": {"late", "lost", "doubled", "failed", "happened", "late", "", "lost", "late"},
	} {
		for _, silent := range []bool{false, true} {
			t.Run(name, func(t *testing.T) {
				r := newRig(t)
				r.hub.silent = silent
				r.log.batches(30)
				r.s.faults = faults
				r.connect()
				check(t, ignoreLink(r.steps()))
				r.log.batches(30)
				r.settle(200)
				if r.hub.verdicts == 0 {
					t.Error("no verdict travelled")
				}
				r.log.epoch()
				r.log.batches(30)
				r.settle(10)
				if name == "none" && len(r.hub.got) != len(r.log.records) {
					t.Errorf("%d positions came, want %d", len(r.hub.got), len(r.log.records))
				}
				for at, n := range r.hub.got {
					if name == "none" && at.Seq > 1 && n > 1 {
						t.Errorf("%s came %d times", at, n)
					}
				}
			})
		}
	}
}

func ignoreLink(err error) error {
	if errors.Is(err, errLink) {
		return nil
	}
	return err
}

func TestForward_ConnectSendsWhatTheSetLacks(t *testing.T) {
	r := newRig(t)
	r.log.batches(50)
	r.connect()
	r.settle(3)
	sent := len(r.s.messages)

	r.f = r.forward() // the agent starts again
	r.log.epoch()
	r.log.batches(3)
	r.connect()
	r.settle(3)
	if n := len(r.s.messages) - sent; n > 3 {
		t.Errorf("%d messages after a restart, want the preamble and the new records", n)
	}
	for at, n := range r.hub.got {
		if at.Seq > 1 && n > 1 {
			t.Errorf("%s came %d times", at, n)
		}
	}
}

func TestForward_LiveGoesFirstAfterAnOutage(t *testing.T) {
	r := newRig(t)
	r.log.batches(10)
	r.connect()
	r.settle(3)
	r.f.Disconnected()
	check(t, r.steps())
	if s := r.f.Status(); s.Connected || !s.Since.Equal(r.now) {
		t.Errorf("it is away since %s, want %s", s.Since, r.now)
	}
	r.log.batches(500)
	if n := len(r.s.messages); r.steps() != nil || len(r.s.messages) != n {
		t.Fatal("something was published without a connection")
	}
	r.connect()
	check(t, r.steps2(2))
	r.log.batches(1)
	fresh := r.log.records[len(r.log.records)-1].At
	check(t, r.steps2(6))
	r.hub.read(r.s)
	if !r.hub.account.Has(fresh) {
		t.Error("the new record waits behind the backlog")
	}
	if n := len(r.hub.account.Set.Islands); n != 1 {
		t.Errorf("%d islands, want 1: roads are contiguous", n)
	}
	r.settle(5)
	if r.sent(subject.Backlog) < 10 {
		t.Errorf("%d messages on the backlog road", r.sent(subject.Backlog))
	}
}

// steps2 takes n steps.
func (r *rig) steps2(n int) error {
	for range n {
		if _, err := r.f.Step(r.t.Context()); err != nil {
			return err
		}
	}
	return nil
}

// A record whose verdict is not there yet waits with its road; receipts are
// taken meanwhile, and what stands before it has gone.
func TestForward_WaitsForAVerdictWithoutStandingStill(t *testing.T) {
	r := newRig(t)
	judged := uint64(3) // of the log's sequence
	r.f.judge = func(_ context.Context, rec mesh.Record) ([]byte, error) {
		if rec.At.Seq > judged {
			return nil, ErrLater
		}
		return nil, nil
	}
	r.log.batches(5)
	r.connect()
	check(t, r.steps2(20))
	r.hub.read(r.s)
	end := r.log.records[len(r.log.records)-1].At
	if got := r.hub.account.Set.Through.Seq; got != judged {
		t.Errorf("the hub has %d records, judged are %d", got, judged)
	}
	if r.hub.account.Has(end) {
		t.Error("a record went before it was judged")
	}
	judged = end.Seq
	r.settle(5)
	if !r.hub.account.Has(end) {
		t.Error("a record that was judged later never went")
	}
}

func TestForward_BacklogWaitsWhileTheStreamIsFull(t *testing.T) {
	r := newRig(t)
	r.log.batches(100)
	r.hub.share = 70
	r.connect()
	check(t, r.steps())
	r.log.batches(1)
	check(t, r.steps())
	if n := r.sent(subject.Backlog); n != 0 {
		t.Errorf("%d messages on the backlog road at 70 %%", n)
	}
	if n := r.sent(subject.Live); n == 0 {
		t.Error("the live road waits too")
	}
	if says := r.f.Status().Waits; says != "older data waits: the hub's stream is 70 % full, below 70 % it is sent" {
		t.Errorf("the status says %q", says)
	}
	r.hub.share = 69
	r.settle(3)
	if says := r.f.Status().Waits; says != "" {
		t.Errorf("in the end the status says %q", says)
	}
}

func TestForward_LiveRoadThatFallsBehindJumps(t *testing.T) {
	r := newRig(t)
	r.connect()
	r.settle(3)
	r.log.batches(400)
	check(t, r.steps2(3))
	r.now = r.now.Add(time.Minute)
	r.settle(5)
	if r.sent(subject.Backlog) == 0 {
		t.Error("nothing was left to the backlog")
	}
}

func TestForward_ReceiptAsksForDescriptors(t *testing.T) {
	r := newRig(t)
	r.log.batches(5)
	r.connect()
	r.settle(3)
	r.log.batches(1) // both roads have sent what goes first
	r.settle(3)
	clear(r.hub.descs)
	r.log.batches(5)
	check(t, r.steps())
	r.hub.read(r.s)
	if r.hub.refused == 0 {
		t.Fatal("the hub lacked nothing")
	}
	r.settle(5)
}

func TestForward_HubThatWentBack(t *testing.T) {
	for name, restore := range map[string]func(r *rig, old *mesh.Account){
		"restored": func(r *rig, old *mesh.Account) {
			r.hub.account, r.hub.by = old, mesh.Position{Log: "hub/0", Epoch: mesh.NewEpoch(), Seq: 1}
		},
		"a fork is taken in, and less counts": func(r *rig, old *mesh.Account) {
			r.hub.account = old // in the same epoch
			r.hub.by.Seq++
		},
		"new hub": func(r *rig, _ *mesh.Account) {
			at := r.hub.place
			r.hub = newHub(r.t)
			r.hub.place = at
		},
		"stream made anew with what was in it lost": func(r *rig, _ *mesh.Account) {
			r.log.batches(20)
			check(r.t, r.steps())
			*r.s = stream{id: "INGEST@2"}
			r.hub.place = 0
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			r.log.batches(50)
			r.connect()
			r.settle(3)
			old := r.hub.account.Clone()
			r.log.batches(50)
			r.settle(3)
			restore(r, old)
			r.log.batches(1)
			r.settle(5)
		})
	}
}

// A stream that is an old copy of itself has lost what was sent. Where the buffer is
// full nothing new goes out that would move the hub past it.
func TestForward_StreamThatWentBackWhileNothingNewIsSaid(t *testing.T) {
	r := newRig(t)
	r.log.batches(20)
	r.connect()
	r.settle(3)
	r.log.batches(20)
	kept := len(r.s.messages)
	check(t, r.steps())
	r.s.messages = r.s.messages[:kept]
	r.settle(standsStill*60 + 3)
	if n := r.f.Status().Resent; n == 0 {
		t.Error("nothing was sent again")
	}
}

// A hub that is behind, or gives no receipts, is no stream that went back.
func TestForward_WaitsForAHubThatIsBehind(t *testing.T) {
	r := newRig(t)
	r.log.batches(20)
	r.connect()
	r.settle(3)
	for i := range 60 { // each message takes it three minutes
		r.log.batches(1)
		check(t, r.steps())
		if i%3 == 0 {
			r.hub.readTo(r.s, r.hub.place+1)
		}
		check(t, r.f.Receive(r.hub.receipt(r.s)))
		check(t, r.steps())
		r.now = r.now.Add(time.Minute)
	}
	r.log.batches(3)
	check(t, r.steps())
	r.now = r.now.Add(24 * time.Hour) // and no receipt
	check(t, r.steps())
	check(t, r.f.Receive(r.hub.receipt(r.s))) // and then one that names the same place
	check(t, r.steps())
	if n := r.f.Status().Resent; n != 0 {
		t.Errorf("%d resends", n)
	}
}

func TestForward_ReviewSpacesResends(t *testing.T) {
	r := newRig(t)
	r.connect()
	r.settle(3)
	r.log.batches(1)
	stuck := r.log.records[len(r.log.records)-1].At
	r.s.faults = []string{"lost"}
	check(t, r.steps())
	for range 120 { // a hub that never takes one record, and everything else
		r.log.batches(1)
		r.s.faults = nil
		check(t, r.steps())
		for ; r.hub.place < len(r.s.messages); r.hub.place++ {
			continue
		}
		last := r.log.records[len(r.log.records)-1].At
		check(t, r.hub.account.Add(mesh.Range{Epoch: last.Epoch, First: stuck.Seq + 1, Last: last.Seq}))
		r.hub.by.Seq++
		check(t, r.f.Receive(r.hub.receipt(r.s)))
		check(t, r.steps())
		r.now = r.now.Add(time.Second)
	}
	if n := r.f.Status().Resent; n < 2 || n > 8 {
		t.Errorf("%d resends in two minutes, want them spaced", n)
	}
	r.hub.place = 0
	r.settle(70)
}

func TestForward_Run(t *testing.T) {
	r := newRig(t)
	ctx, cancel := context.WithCancel(t.Context())
	var done sync.WaitGroup
	f := New(Config{Site: "graz", Agent: "gw-1"}, r.log, r.s, func(context.Context, mesh.Record) ([]byte, error) { return nil, nil }, time.Now, quiet())
	check(t, f.Receive(r.hub.receipt(r.s)))
	f.Connected()
	done.Go(func() { check(t, f.Run(ctx)) })
	r.log.batches(5)
	for end := time.Now().Add(10 * time.Second); f.Status().Flights == 0; {
		if time.Now().After(end) {
			t.Error("nothing was sent")
			break
		}
		<-time.After(5 * time.Millisecond)
	}
	cancel()
	done.Wait()
}
