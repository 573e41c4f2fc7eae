package mesh_test

import (
	"math/rand/v2"
	"slices"
	"testing"

	"plantmesh/proto/mesh"
)

// What spans are joined, within and without another is told by looking at each instant.
func TestSpans_InstantByInstant(t *testing.T) {
	const end = 30
	has := func(spans []mesh.Span, at mesh.Nanos) bool {
		return slices.ContainsFunc(spans, func(s mesh.Span) bool { return s.Has(at) })
	}
	for seed := range uint64(500) {
		random := rand.New(rand.NewPCG(seed, 1))
		span := func() mesh.Span {
			from := mesh.Nanos(random.IntN(end))
			return mesh.Span{From: from, To: from + mesh.Nanos(random.IntN(8)) - 1}
		}
		spans := make([]mesh.Span, random.IntN(6))
		for i := range spans {
			spans[i] = span()
		}
		s := span()
		within, without := mesh.Within(spans, s), mesh.Without(spans, s)
		joined := mesh.Joined(slices.Clone(spans))
		for at := range mesh.Nanos(2 * end) {
			if in := has(spans, at); has(joined, at) != in || has(within, at) != (in && s.Has(at)) || has(without, at) != (in && !s.Has(at)) {
				t.Fatalf("seed %d, instant %d: %v and %v are joined %v, within %v, without %v", seed, at, spans, s, joined, within, without)
			}
		}
		for i, j := range joined {
			if j.Empty() || i > 0 && j.From <= joined[i-1].To {
				t.Fatalf("seed %d: %v are joined %v", seed, spans, joined)
			}
		}
	}
}
