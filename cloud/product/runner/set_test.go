package runner

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"plantmesh/proto/mesh"
)

// broken is an output of which one product can't be written while bad.
type broken struct {
	*fakeOut

	product string
	bad     atomic.Bool
	begun   atomic.Int64 // epochs begun for the product
}

func (b *broken) Resume(ctx context.Context, p string, partition int) (end, place mesh.Position, err error) {
	if p == b.product {
		b.begun.Add(1)
	}
	return b.fakeOut.Resume(ctx, p, partition)
}

func (b *broken) Commit(ctx context.Context, st mesh.Step) (mesh.Position, error) {
	if st.Product == b.product && b.bad.Load() {
		return mesh.Position{}, errors.New("the hub's database is damaged")
	}
	return b.fakeOut.Commit(ctx, st)
}

func TestSet_AFailingProductWaitsLongerAndAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := newFakeLog()
		hub.site(testSite)
		for _, r := range script(t, hub, 1, 2) {
			hub.arrive(r, nil)
		}
		out := &broken{fakeOut: newFakeOut(), product: "oee"}
		out.bad.Store(true)
		began := mesh.NanosOf(time.Now())
		s, err := NewSet(Config{}, hub, out, Clock{Now: func() mesh.Nanos { return mesh.NanosOf(time.Now()) }, Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- s.Run(ctx, func() <-chan struct{} { return nil }) }()
		<-time.After(10 * time.Minute)
		synctest.Wait()
		if n := out.begun.Load(); n < 3 || n > 20 {
			t.Errorf("%d epochs begun in ten minutes", n)
		}
		got := s.Troubles()
		if len(got) != 1 || got[0].Product != "oee" || got[0].Suspended || got[0].Reason == "" || got[0].Since.Sub(began) > time.Minute {
			t.Errorf("troubles %+v", got)
		}
		if len(out.current("equipment-state")) == 0 {
			t.Error("the other products wait too")
		}
		out.bad.Store(false)
		<-time.After(2 * retryMost)
		synctest.Wait()
		if got := s.Troubles(); len(got) > 0 || len(out.current("oee")) == 0 {
			t.Errorf("healed: troubles %+v, %d rows", got, len(out.current("oee")))
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}
