package runner

import (
	"encoding/json"
	"fmt"
	"slices"

	"plantmesh/cloud/product"
	"plantmesh/proto/mesh"
)

// source is what a runner holds of one source.
type source struct {
	name    string
	voices  product.Voices
	fresh   bool        // something was claimed since it settled
	changed bool        // not committed yet
	compare bool        // the rows of product coverage were not compared since
	spans   []mesh.Span // what is known, as it settled last
	rows    *entity     // the source itself, in product coverage
}

// in is what is known of the source by the log a record comes from.
func (s *source) in(e *mesh.Entry) *product.Known {
	s.fresh, s.changed, s.compare = true, true, true
	return s.voices.Log(e.Of.Log)
}

// damaged takes back what an unreadable batch claims: its samples are lost.
func (s *source) damaged(e *mesh.Entry, why error) {
	v := mesh.Void{Cause: mesh.CauseDamaged, Note: why.Error()}
	for _, span := range []mesh.Span{e.Header.Proven, e.Header.Times} {
		s.in(e).Void(e.Of, e.Ord+1, v, mesh.Part{Source: s.name, Times: span, Count: uint64(e.Header.Count)})
	}
}

// end is the end of what is known.
func (s *source) end() mesh.Nanos {
	_, end := product.Extent(s.spans)
	return end
}

func (s *source) encode() ([]byte, error) {
	b, err := json.Marshal(&s.voices)
	if err != nil {
		return nil, fmt.Errorf("encode source %s: %w", s.name, err)
	}
	return b, nil
}

func (s *source) decode(b []byte) error {
	if err := json.Unmarshal(b, &s.voices); err != nil {
		return fmt.Errorf("decode source %s: %w", s.name, err)
	}
	s.spans = s.voices.Spans()
	return nil
}

// agentLog is what a runner holds of one agent's log.
type agentLog struct {
	chain   *product.Chain
	changed bool // not committed yet
	fresh   bool // not weighed by its sources yet
}

// part is a stretch in which an equipment is fed in one way.
type part struct {
	mesh.Span

	site   *product.Site
	eq     *product.Equipment // nil: the site has none of this id then
	source *source            // nil with eq
}

func (p *part) same(o *part) bool { return p.site.SameMapping(p.eq, o.site, o.eq) }

// feed is how an equipment is fed, over all of time.
type feed []part

// changes are the instants at which other samples begin to fill its registers.
func (f feed) changes() (out []mesh.Nanos) {
	for i := 1; i < len(f); i++ {
		if !f[i].same(&f[i-1]) {
			out = append(out, f[i].From)
		}
	}
	return out
}

// same reports whether two feeds put the same samples into the same registers.
func (f feed) same(o feed) bool {
	for i := range f {
		for j := range o {
			if !f[i].Meet(o[j].Span).Empty() && !f[i].same(&o[j]) {
				return false
			}
		}
	}
	return len(f) > 0 && len(o) > 0
}

// hears reports whether a source feeds the equipment at some time of a span.
func (f feed) hears(source string, span mesh.Span) bool {
	for i := range f {
		if f[i].source != nil && f[i].source.name == source && !f[i].Meet(span).Empty() {
			return true
		}
	}
	return false
}

// at is the part that holds at t, or the first behind it with an equipment:
// where a machine begins within a window, the window is that one's.
func (f feed) at(t mesh.Nanos) *part {
	var last *part
	for i := range f {
		if f[i].eq == nil {
			continue
		}
		if last = &f[i]; t < last.To {
			return last
		}
	}
	return last
}

// known is what is known of the equipment: of each stretch, what is known of
// the source that feeds it then.
func (f feed) known() (out []mesh.Span) {
	if len(f) == 1 && f[0].source != nil {
		return f[0].source.spans
	}
	for i := range f {
		if f[i].source == nil {
			continue
		}
		for _, s := range f[i].source.spans {
			m := s.Meet(f[i].Span)
			if n := len(out); n > 0 && out[n-1].To == m.From && !m.Empty() {
				out[n-1].To = m.To
			} else if !m.Empty() {
				out = append(out, m)
			}
		}
	}
	return out
}

// final reports whether nothing more is expected of a stretch.
func (f feed) final(s mesh.Span) bool {
	if s.To == 0 {
		return false
	}
	for i := range f {
		if f[i].source == nil || s.Meet(f[i].Span).Empty() && !f[i].Has(s.From) {
			continue
		}
		if f[i].source.voices.Watermark < min(s.To, f[i].To) {
			return false
		}
	}
	return true
}

// ends is where the equipment ends, once everybody is known up to there: never
// for one the site still has.
func (f feed) ends(horizon mesh.Nanos) (at mesh.Nanos, ended bool) {
	for i, p := range slices.Backward(f) {
		if p.eq != nil {
			return p.To, i < len(f)-1 && p.To <= horizon
		}
	}
	return 0, false
}
