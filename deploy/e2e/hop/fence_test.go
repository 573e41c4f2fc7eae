package hop

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"plantmesh/cloud/product"
	"plantmesh/proto/meshtest"
)

// TestHop_HubToProduct_WithoutItsFence: the suite notices when a commit is taken
// whoever makes it.
func TestHop_HubToProduct_WithoutItsFence(t *testing.T) {
	h := newProductHop(t)
	h.loose = true
	h.killReader()
	h.startReader()
	x := meshtest.NewTrial(h, 1)
	if _, err := x.Alone(t.Context(), meshtest.MessageDoubled); err != nil {
		t.Fatal(err)
	}
	// Whoever commits last: rows stand there twice, or the place stays behind for
	// ever, as those who went on believe that they are through.
	within, stop := context.WithTimeout(t.Context(), 5*time.Second)
	defer stop()
	_, err := x.Alone(within, meshtest.SecondReader)
	if errors.Is(err, context.DeadlineExceeded) && h.believesToBeThrough() {
		err = meshtest.ErrNumbers
	}
	if !errors.Is(err, meshtest.ErrNumbers) {
		t.Errorf("two runners write one product, and nobody notices: %v", err)
	} else {
		t.Log(err)
	}
}

// believesToBeThrough reports whether runners find nothing to do though what is
// stored says that something is left.
func (h *productHop) believesToBeThrough() bool {
	ctx, idle := h.t.Context(), h.r.idle.Load()
	check(h.t, poll(ctx, "the runners look again", func() (bool, error) { return h.r.idle.Load() > idle+1, nil }))
	tip, err := h.w.store.Tip(ctx, 0)
	check(h.t, err)
	return slices.ContainsFunc(h.defs, func(d *product.Definition) bool {
		_, _, place, err := h.r.store.Progress(ctx, d.ID)
		check(h.t, err)
		return place != tip
	})
}
