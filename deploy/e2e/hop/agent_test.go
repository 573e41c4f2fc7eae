package hop

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"plantmesh/edge/buffer"
	"plantmesh/proto/mesh"
	"plantmesh/proto/meshtest"
	"plantmesh/proto/subject"
	"plantmesh/proto/wire"
)

// agentHop is the first hop under the suite: from the agent's log to the hub's.
type agentHop struct {
	*hop

	left   []*hub // killed or paused: they hold what they hold, and write no more
	resume func() // lets the newest paused one go on; nil: none is
	clone  *agent // on a copy of the agent's folder
	// older copies, as of the last time everything was settled.
	agentWas, hubWas string
}

func newAgentHop(t *testing.T) *agentHop {
	t.Helper()
	a := &agentHop{hop: newHop(t)}
	t.Cleanup(a.bury)
	a.keepCopies()
	return a
}

// bury ends what was left behind.
func (a *agentHop) bury() {
	if a.resume != nil {
		a.resume()
	}
	for _, u := range a.left {
		a.end(u)
	}
	if a.left, a.resume = nil, nil; a.clone != nil {
		a.endAgent(a.clone)
		a.clone = nil
	}
}

// Write implements meshtest.Hop.
func (a *agentHop) Write(ctx context.Context, first, n int) error {
	for n > 0 {
		some := min(n, 4)
		if err := a.say(ctx, a.agent.buffer, first, some); err != nil {
			return err
		}
		first, n = first+some, n-some
	}
	return nil
}

// say appends one batch.
func (a *agentHop) say(ctx context.Context, to *buffer.Buffer, first, n int) error {
	b := mesh.Batch{Source: source, Table: a.table.Hash()}
	for i := first; i < first+n; i++ {
		b.Samples = append(b.Samples, mesh.Sample{Signal: 1, Time: meshtest.At(i), Value: mesh.Int(int64(i))})
	}
	sealed, err := a.enc.Seal(&b)
	if err != nil {
		return err
	}
	_, err = to.Append(ctx, []mesh.Offer{{Source: source, Sealed: [][]byte{sealed}, Descriptors: []mesh.Descriptor{a.table}}})
	return err
}

// Inflict implements meshtest.Hop.
func (a *agentHop) Inflict(ctx context.Context, f meshtest.Fault) (why string, err error) {
	switch f {
	case meshtest.MessageLost, meshtest.MessageDoubled, meshtest.MessageReordered, meshtest.MessageLate, meshtest.AnswerLost:
		a.pipe.strike(f)
	case meshtest.BetweenDeleted:
		a.deleteStream()
	case meshtest.WriterKilled:
		a.killAgent()
	case meshtest.ReaderKilled:
		a.killHub()
		a.startHub()
	case meshtest.BothKilled:
		a.killHub()
		a.killAgent()
		a.stopBroker()
		a.startBroker()
		a.startHub()
	case meshtest.WriterPutBack:
		// What it had and nobody else is lost with any disk: so all has arrived.
		if err := a.arrived(ctx); err != nil {
			return "", err
		}
		a.stopAgent()
		a.moveAgent(a.agentWas)
		a.startAgent() // the hub waits five minutes for another with this log: see arrived
		a.agentWas = a.image()
	case meshtest.ReaderPutBack:
		if err := a.arrived(ctx); err != nil { // and the agent may have heard so
			return "", err
		}
		a.stopHub()
		a.restore(a.hubWas)
		a.startHub()
		a.hubWas = a.backup()
	case meshtest.SecondWriter:
		return "", a.secondAgent(ctx)
	case meshtest.SecondReader:
		return "", a.secondHub(ctx)
	case meshtest.CommitRefused, meshtest.CommitUnsure:
		a.hub.takes.fail(f)
	}
	return "", nil
}

// killHub leaves the hub as it stands: its connection breaks, what it has open
// stays open.
func (a *agentHop) killHub() {
	u := a.hub
	u.left.Store(true)
	u.stop()
	u.nc.Close()
	a.left = append(a.left, u)
}

// killAgent has the agent go on with the files as they lay before it closed any.
func (a *agentHop) killAgent() {
	was := a.agent
	was.stop()
	was.done.Wait()
	files := a.image()
	a.endAgent(was)
	a.moveAgent(files)
	a.startAgent()
}

// image copies the agent's files while nothing writes them.
func (a *agentHop) image() string {
	a.t.Helper()
	a.acks.Lock()
	defer a.acks.Unlock()
	to := filepath.Join(a.t.TempDir(), "agent")
	check(a.t, os.CopyFS(to, os.DirFS(filepath.Join(a.dir, "agent"))))
	return to
}

// moveAgent puts files in the place of the agent's; it is down.
func (a *agentHop) moveAgent(files string) {
	a.t.Helper()
	check(a.t, os.RemoveAll(filepath.Join(a.dir, "agent")))
	check(a.t, os.Rename(files, filepath.Join(a.dir, "agent")))
}

// secondHub pauses the hub in the middle of a transaction, and has another begin
// beside it.
func (a *agentHop) secondHub(ctx context.Context) error {
	if a.resume != nil { // the one before comes back first
		if err := a.comesBack(ctx); err != nil {
			return err
		}
	}
	u := a.hub
	js, err := jetstream.New(u.nc)
	if err != nil {
		return err
	}
	// Messages that it can't help but write about.
	write := func(what string, ok func(waiting, unmet int) bool) error {
		return poll(ctx, what, func() (bool, error) {
			if _, err := js.Publish(ctx, subject.Canary, []byte("x"), jetstream.WithRetryAttempts(0)); err != nil {
				a.t.Logf("a message of the hub's own: %v", err) // it makes the stream anew just now
			}
			waiting, _, unmet := u.takes.counts()
			return ok(waiting, unmet), nil
		})
	}
	// One that fails for another reason would open the log anew, as it may.
	if err := write("what was to fail has failed", func(_, unmet int) bool { return unmet == 0 }); err != nil {
		return err
	}
	a.resume = u.takes.hold()
	u.left.Store(true)
	a.left = append(a.left, u)
	if err := write("the first hub is about to write", func(waiting, _ int) bool { return waiting > 0 }); err != nil {
		return err
	}
	a.startHub()
	return nil
}

// comesBack lets the paused hub go on. It must write nothing any more.
func (a *agentHop) comesBack(ctx context.Context) error {
	u := a.left[slices.IndexFunc(a.left, func(u *hub) bool { w, _, _ := u.takes.counts(); return w > 0 })]
	a.resume()
	a.resume = nil
	return poll(ctx, "the paused hub is refused", func() (bool, error) {
		_, refused, _ := u.takes.counts()
		return refused > 0, nil
	})
}

// secondAgent tries a second one on the folder, and begins one on an older copy
// of it, with the same identity, which says something of its own.
func (a *agentHop) secondAgent(ctx context.Context) error {
	second, err := buffer.Open(buffer.Config{Dir: filepath.Join(a.dir, "agent"), Log: agentLog, MaxBytes: 1 << 30, SegmentBytes: 1 << 20}, a.quiet)
	if err == nil {
		return errors.Join(a.say(ctx, second, -1, 1), second.Close())
	}
	if a.clone != nil {
		return nil
	}
	if err := a.arrived(ctx); err != nil { // so the hub has heard more than the clone knows
		return err
	}
	a.clone = a.agentIn(a.agentWas)
	a.agentWas = a.image()
	return a.say(ctx, a.clone.buffer, -1, 1)
}

// arrived waits until the hub has all of the agent's log. While another copy of
// the log is the one that counts, the hub's clock runs on, a minute a look: it
// waits five, from what it heard of the other last and from its own begin.
func (a *agentHop) arrived(ctx context.Context) error {
	var seen mesh.Account
	var end mesh.Position
	err := poll(ctx, "the hub has all", func() (bool, error) {
		end = a.agent.buffer.End()
		acc, ok, err := a.hub.store.Account(ctx, agentLog)
		if !ok || err != nil {
			return false, err
		}
		seen = *acc
		if n := len(acc.Chain); n > 0 && acc.Chain[n-1].Epoch != end.Epoch {
			a.ahead.Add(int64(time.Minute))
		}
		return acc.Set.Through == end && len(acc.Set.Islands) == 0, nil
	})
	if err != nil {
		return fmt.Errorf("the agent's log ends at %s, the hub has %+v: %w", end, seen, err)
	}
	return nil
}

// Settle implements meshtest.Hop.
func (a *agentHop) Settle(ctx context.Context) error {
	if err := a.arrived(ctx); err != nil {
		return err
	}
	if a.resume != nil {
		if err := a.comesBack(ctx); err != nil {
			return err
		}
	}
	if a.clone != nil {
		if err := poll(ctx, "the clone is held", func() (bool, error) { return a.hub.in.Stats().Held > 0, nil }); err != nil {
			return err
		}
	}
	for _, l := range a.pipe.stragglers() {
		at, err := a.agent.link.Publish(ctx, l.subject, l.data)
		if err != nil {
			return err
		}
		if err := poll(ctx, "the late message is read", func() (bool, error) {
			p, err := a.hub.in.Place(ctx)
			return p.Seq >= at.Seq, err
		}); err != nil {
			return err
		}
	}
	_, _, unmet := a.hub.takes.counts()
	if unmet += a.pipe.unmet(); unmet > 0 {
		return fmt.Errorf("%d faults struck nothing", unmet)
	}
	a.bury()
	if err := a.arrived(ctx); err != nil {
		return err
	}
	a.keepCopies()
	return nil
}

func (a *agentHop) keepCopies() { a.agentWas, a.hubWas = a.image(), a.backup() }

// Read implements meshtest.Hop: the values in the order that the set gives their
// records.
func (a *agentHop) Read(ctx context.Context, l *meshtest.Ledger) (meshtest.Missing, error) {
	dec, err := wire.NewDecoder()
	if err != nil {
		return nil, err
	}
	all, err := entries(ctx, a.hub.store)
	if err != nil {
		return nil, err
	}
	slices.SortStableFunc(all, func(x, y mesh.Entry) int { return cmp.Compare(x.Ord, y.Ord) })
	newest := int64(0)
	for _, e := range all {
		if e.Header.Kind != mesh.KindBatch {
			continue
		}
		if e.Verdict == nil {
			return nil, fmt.Errorf("%s is stored without its verdict", e.Of)
		}
		b, err := dec.Batch(e.Sealed)
		if err != nil {
			return nil, err
		}
		for _, s := range b.Samples {
			v, _ := s.Value.Int()
			l.Get(meshtest.Sample{Source: meshtest.Source, N: int(v)}, s.Time)
			if v < newest {
				l.Disorder()
			}
			newest = max(newest, v)
		}
	}
	return nil, nil
}

// TestHop_AgentToHub: every fault of the suite has a place here.
func TestHop_AgentToHub(t *testing.T) {
	meshtest.Suite{Seeds: 1, Rounds: 1}.Run(t, func(t *testing.T) meshtest.Hop {
		t.Helper()
		return newAgentHop(t)
	})
}

// TestHop_AgentToHub_WithoutReceipts: the suite notices when what is lost between
// is not sent again.
func TestHop_AgentToHub_WithoutReceipts(t *testing.T) {
	h := newAgentHop(t)
	x := meshtest.NewTrial(h, 1)
	check(t, x.Mix(t.Context(), nil, 0)) // the agent is connected and was answered
	h.pipe.mu.Lock()
	h.pipe.deaf = true
	h.pipe.mu.Unlock()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	if _, err := x.Alone(ctx, meshtest.MessageLost); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a lost message comes again without any receipt: %v", err)
	}
}
