package mesh

import (
	"cmp"
	"slices"
)

// Joined is the instants that lie in any of the spans: sorted, none empty, none touching
// another. It sorts spans, and takes their array.
func Joined(spans []Span) []Span {
	slices.SortFunc(spans, func(x, y Span) int { return cmp.Compare(x.From, y.From) })
	out := spans[:0]
	for _, s := range spans {
		if s.Empty() {
			continue
		}
		if n := len(out); n > 0 && s.From <= out[n-1].To {
			out[n-1].To = max(out[n-1].To, s.To)
			continue
		}
		out = append(out, s)
	}
	return out
}

// Within is what of each of the spans lies in s.
func Within(spans []Span, s Span) (out []Span) {
	for _, x := range spans {
		if x = x.Meet(s); !x.Empty() {
			out = append(out, x)
		}
	}
	return out
}

// Without is what of each of the spans lies outside of s.
func Without(spans []Span, s Span) (out []Span) {
	for _, x := range spans {
		if s.Empty() || x.Meet(s).Empty() {
			out = append(out, x)
			continue
		}
		for _, part := range []Span{{x.From, s.From}, {s.To, x.To}} {
			if !part.Empty() {
				out = append(out, part)
			}
		}
	}
	return out
}
