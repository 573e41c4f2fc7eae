package runner

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"plantmesh/cloud/product"
	"plantmesh/proto/mesh"
)

// Spokesman is the log of agents in which a source is known to the latest instant, among
// those that count; empty: none of them has a batch of it. A gateway that was replaced left
// one behind, too.
func Spokesman(ctx context.Context, out Output, id, source string, counts func(mesh.LogID) bool) (log mesh.LogID, err error) {
	s, err := known(ctx, out, id, source)
	if err != nil {
		return "", fmt.Errorf("look which agent says a source: %w", err)
	}
	latest := mesh.Nanos(0)
	for _, of := range slices.Sorted(maps.Keys(s.voices.Of)) {
		k := s.voices.Of[of]
		if !k.Spoke || !counts(of) {
			continue
		}
		if _, end := product.Extent(k.Spans()); log == "" || end > latest {
			log, latest = of, end
		}
	}
	return log, nil
}
