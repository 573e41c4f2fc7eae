package source

import (
	"context"
	"maps"
	"testing"
	"testing/synctest"

	"plantmesh/proto/mesh"
)

// keeper is a reader that keeps something beside its state.
type keeper struct {
	readerFunc

	found chan map[string][]byte
}

func (k keeper) Keep(kept map[string][]byte) { k.found <- kept }

// TestSupervisor_AReaderFindsWhatItKept: in the next life too, with what that
// replaces and without what was dropped, by offers that say nothing of a name.
func TestSupervisor_AReaderFindsWhatItKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		d, found, lives := newDisk(t), make(chan map[string][]byte, 10), 0
		offers := []mesh.Offer{
			{Kept: []mesh.Kept{{Name: "a", Bytes: []byte("1")}, {Name: "b", Bytes: []byte("1")}}},
			{State: []byte{1}},
			{Kept: []mesh.Kept{{Name: "a", Bytes: []byte("2")}}},
		}
		spawn := func(context.Context) (Process, error) {
			life := lives
			lives++
			return worker(keeper{func(ctx context.Context, _ []byte, log Log) error {
				if life == len(offers) {
					return hang(ctx)
				}
				n, err := log.Append(ctx, offers[life])
				if err != nil {
					return err
				}
				_, err = log.Committed(ctx, n-1)
				return err
			}, found}), nil
		}
		s := NewSupervisor(Config{ID: "s1"}, spawn, d, func() mesh.Nanos { return 1000 }, quiet())
		done := make(chan error)
		go func() { done <- s.Run(ctx) }()
		for i, want := range []map[string]string{{}, {"a": "1", "b": "1"}, {"a": "1", "b": "1"}, {"a": "2", "b": "1"}} {
			got := map[string]string{}
			for name, b := range <-found {
				got[name] = string(b)
			}
			if !maps.Equal(got, want) {
				t.Errorf("life %d found %v, want %v", i, got, want)
			}
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}
