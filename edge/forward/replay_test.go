package forward

import (
	"errors"
	"testing"
	"time"

	"plantmesh/proto/mesh"
	"plantmesh/proto/subject"
	"plantmesh/proto/wire"
)

// What the hub has is sent once more where somebody wants it: behind all that waits, only
// what was asked for, and the hub takes none of it twice.
func TestReplay_SendsAgainWhatTheHubHas(t *testing.T) {
	r := newRig(t)
	r.log.batches(40)
	r.connect()
	r.settle(5)
	before := r.sent(subject.Backlog)
	asked := map[mesh.Position]bool{}
	first, last := r.log.records[10], r.log.records[20]
	takes := func(sealed []byte) bool {
		for i, rec := range r.log.records {
			if string(rec.Sealed) == string(sealed) && i%2 == 0 {
				asked[rec.At] = true
				return true
			}
		}
		return false
	}
	check(t, r.f.Replay(first.At, last.At, 0, takes))
	if err := r.steps(); err != nil {
		t.Fatal(err)
	}
	if r.f.Status().Replays != 0 || r.sent(subject.Backlog) == before || r.f.Status().Resent == 0 {
		t.Errorf("%+v, %d messages", r.f.Status(), r.sent(subject.Backlog)-before)
	}
	r.settle(5)
	if len(asked) != 5 {
		t.Errorf("%d records went, want the 5 that were asked for behind the first", len(asked))
	}
	for at, n := range r.hub.got {
		if want := 1; asked[at] {
			if want = 2; n != want {
				t.Errorf("%s came %d times, want %d", at, n, want)
			}
		} else if n != 1 && at.Seq > 1 {
			t.Errorf("%s came %d times, want %d", at, n, want)
		}
	}
	if n := len(r.f.roads[subject.Backlog].flights); n > 0 {
		t.Errorf("%d messages fly for ever", n)
	}
}

func TestReplay_IsBounded(t *testing.T) {
	r := newRig(t) // not connected: nothing is sent
	r.log.batches(3)
	end := r.log.records[3].At
	var err error
	for range maxReplays + 1 {
		err = errors.Join(err, r.f.Replay(mesh.Position{}, end, 0, func([]byte) bool { return true }))
		check(t, r.steps())
	}
	if !errors.Is(err, ErrReplays) || r.f.Status().Replays != maxReplays {
		t.Errorf("%v, %d wait", err, r.f.Status().Replays)
	}
}

// With a rate what is sent again comes little by little, and no slower than it may; what is
// new does not wait for it.
func TestReplay_AtARate(t *testing.T) {
	r := newRig(t)
	r.log.batches(40)
	r.connect()
	r.settle(5)
	again := 0 // samples
	for _, rec := range r.log.records {
		if h, err := wire.ParseHeader(rec.Sealed); err == nil && h.Kind == mesh.KindBatch {
			again += int(h.Count)
		}
	}
	const seconds = 10
	rate := (again + seconds - 1) / seconds
	check(t, r.f.Replay(mesh.Position{}, r.log.records[len(r.log.records)-1].At, rate, func(sealed []byte) bool {
		h, err := wire.ParseHeader(sealed)
		return err == nil && h.Kind == mesh.KindBatch
	}))
	began, before := r.now, r.sent(subject.Backlog)
	for r.f.Status().Replays > 0 || r.now.Equal(began) {
		check(t, r.steps())
		if r.now.Sub(began) == 2*time.Second {
			if n := r.sent(subject.Backlog) - before; n == 0 || r.f.Status().Replays == 0 {
				t.Errorf("after 2 s there are %d messages, and %d stretches wait", n, r.f.Status().Replays)
			}
			live := r.sent(subject.Live)
			r.log.batches(1)
			check(t, r.steps())
			if r.sent(subject.Live) == live {
				t.Error("what is new waits for what is sent again")
			}
		}
		if r.now = r.now.Add(200 * time.Millisecond); r.now.Sub(began) > 2*seconds*time.Second {
			t.Fatal("there is no end")
		}
	}
	if took := r.now.Sub(began); took < (seconds-2)*time.Second || took > (seconds+2)*time.Second {
		t.Errorf("%d samples at %d/s took %s", again, rate, took)
	}
}
