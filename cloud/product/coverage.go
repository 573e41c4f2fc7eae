package product

import (
	"slices"

	"plantmesh/proto/mesh"
)

// CauseUnproven is the cause of a gap that no void explains.
const CauseUnproven = "unproven"

// CoverageDrafts are the rows of product coverage for one source: each gap
// inside what is known, one before it where a void says since when, and an open
// one where a void reaches beyond its end.
func (d *Definition) CoverageDrafts(source string, v *Voices) (out []Draft) {
	spans := v.Spans()
	first, end := Extent(spans)
	if from, ok := v.lostSince(first); ok {
		gap := mesh.Span{From: from, To: first}
		why, _ := v.cause(gap)
		out = append(out, d.coverageDraft(source, gap, why))
	}
	for i := 1; i < len(spans); i++ {
		gap := mesh.Span{From: spans[i-1].To, To: spans[i].From}
		why, _ := v.cause(gap)
		out = append(out, d.coverageDraft(source, gap, why))
	}
	if end == 0 {
		return out
	}
	beyond := mesh.Span{From: end, To: 1<<63 - 1}
	if why, ok := v.cause(beyond); ok {
		out = append(out, d.coverageDraft(source, mesh.Span{From: end}, why))
	}
	return out
}

// cause is the void with the highest position that meets the gap.
func (k *Known) cause(gap mesh.Span) (l Lost, ok bool) {
	for _, v := range slices.Backward(k.Voids) {
		if !v.span().Meet(gap).Empty() {
			return v, true
		}
	}
	return Lost{Cause: CauseUnproven}, false
}

func (d *Definition) coverageDraft(source string, gap mesh.Span, why Lost) Draft {
	b := newBody(d.columns)
	b.text("source", source)
	b.instant("from", gap.From)
	b.instant("to", gap.To)
	if gap.To == 0 {
		b.null("seconds")
	} else {
		b.seconds("seconds", int64(gap.Duration()))
	}
	b.text("cause", string(why.Cause))
	b.integer("count", int64(min(why.Count, 1<<62)))
	b.words("note", why.Note)
	out := Draft{Key: TimeText(gap.From), From: gap.From, To: gap.To, Body: b.bytes()}
	out.Shape = string(out.Body)
	return out
}
