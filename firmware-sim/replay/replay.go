// Package replay plays a recording as machines: a CSV whose rows are segments
// of time becomes the emissions a device would have given. A small YAML file
// says which column is what.
//
//	row:      end, seconds, status, items, power, product
//	emitted:  start  counters with the row added; state, mode, product
//	          end    state is BadNoData, unless the next row starts right there
//
// What lies between the rows is nobody's knowledge, so the state says so. A row
// of no length only counts.
package replay

import (
	"cmp"
	"slices"
	"time"

	"plantmesh/firmware-sim/plant"
	"plantmesh/proto/strict"
)

// Roles every replayed machine has, beside its counters.
const (
	roleState   = "state"   // PackML state number; BadNoData between segments
	roleMode    = "mode"    // PackML unit mode
	roleProduct = "product" // as recorded
)

// Feed is a recording as emissions, each emitted when it happened. It
// implements plant.Feed. Not safe for concurrent use.
type Feed struct {
	signals   []plant.Signal
	emissions []plant.Emission
	next      int
}

var _ plant.Feed = (*Feed)(nil)

// Open reads the recording at csvPath as the file at mapPath describes it. A
// fault is a *strict.Fault: file, line, what.
func Open(csvPath, mapPath string) (*Feed, error) {
	m, err := loadMap(mapPath)
	if err != nil {
		return nil, err
	}
	byAsset, err := m.read(csvPath)
	if err != nil {
		return nil, err
	}
	f := new(Feed)
	for _, a := range m.Assets {
		f.signals = append(f.signals, m.signalsOf(a)...)
		p := &player{feed: f, m: m, asset: a}
		if err := p.play(csvPath, byAsset[a.Asset]); err != nil {
			return nil, err
		}
	}
	if len(f.emissions) == 0 {
		return nil, &strict.Fault{File: csvPath, What: "none of its rows is of an asset of " + mapPath}
	}
	slices.SortStableFunc(f.emissions, func(a, b plant.Emission) int { return a.Time.Compare(b.Time) })
	index := map[string]uint64{}
	for i := range f.emissions {
		e := &f.emissions[i]
		index[e.Source]++
		e.Index = index[e.Source]
	}
	return f, nil
}

// Start is the instant of the first emission.
func (f *Feed) Start() time.Time { return f.emissions[0].Time }

// End is the instant of the last emission.
func (f *Feed) End() time.Time { return f.emissions[len(f.emissions)-1].Time }

// Until implements plant.Feed.
func (f *Feed) Until(t time.Time) []plant.Emission {
	from := f.next
	for f.next < len(f.emissions) && !f.emissions[f.next].Emitted.After(t) {
		f.next++
	}
	return f.emissions[from:f.next:f.next]
}

// Signals implements plant.Feed.
func (f *Feed) Signals() []plant.Signal { return slices.Clone(f.signals) }

func (m *mapping) signalsOf(a asset) []plant.Signal {
	out := []plant.Signal{
		{Source: a.Source, Name: a.signal(roleState), Type: plant.Int},
		{Source: a.Source, Name: a.signal(roleMode), Type: plant.Int},
		{Source: a.Source, Name: a.signal(roleProduct), Type: plant.String},
	}
	for _, c := range m.Counters {
		out = append(out, plant.Signal{Source: a.Source, Name: a.signal(c.Role), Type: plant.Int, Unit: c.Unit})
	}
	return out
}

// player makes the emissions of one machine.
type player struct {
	feed   *Feed
	m      *mapping
	asset  asset
	counts []int64 // by counter
}

// play turns the segments of one machine into emissions. No signal gets two
// values at one instant.
func (p *player) play(file string, segs []segment) error {
	if len(segs) == 0 {
		return nil
	}
	slices.SortStableFunc(segs, func(a, b segment) int { return cmp.Or(a.start.Compare(b.start), a.end.Compare(b.end)) })
	p.counts = make([]int64, len(p.m.Counters))
	p.count(segs[0].start.Add(-time.Millisecond)) // where counting begins
	var last *segment                             // the last one with a length
	for len(segs) > 0 {
		n := 1
		for n < len(segs) && segs[n].start.Equal(segs[0].start) {
			n++
		}
		var now *segment // at most one of those that start here has a length
		for i := range segs[:n] {
			s := &segs[i]
			for c, v := range s.counts {
				p.counts[c] += v
			}
			if s.end.Equal(s.start) {
				continue
			}
			if now != nil || last != nil && s.start.Before(last.end) {
				return &strict.Fault{File: file, Line: s.line, What: "segment overlaps another of asset " + p.asset.Asset}
			}
			now = s
		}
		if now != nil {
			p.silence(last, now)
			p.begin(now)
			last = now
		}
		p.count(segs[0].start)
		segs = segs[n:]
	}
	p.silence(last, nil)
	return nil
}

// silence says that nothing is known from the end of last, unless next starts
// right there.
func (p *player) silence(last, next *segment) {
	if last == nil || next != nil && next.start.Equal(last.end) {
		return
	}
	p.emit(last.end, roleState, plant.BadNoData, plant.Value{})
}

func (p *player) begin(s *segment) {
	p.emit(s.start, roleState, plant.Good, plant.Value{Type: plant.Int, I: s.as.State})
	p.emit(s.start, roleMode, plant.Good, plant.Value{Type: plant.Int, I: s.as.Mode})
	p.emit(s.start, roleProduct, plant.Good, plant.Value{Type: plant.String, S: s.product})
}

func (p *player) count(at time.Time) {
	for i, c := range p.m.Counters {
		p.emit(at, c.Role, plant.Good, plant.Value{Type: plant.Int, I: p.counts[i]})
	}
}

func (p *player) emit(at time.Time, role string, status uint32, v plant.Value) {
	p.feed.emissions = append(p.feed.emissions, plant.Emission{
		Source: p.asset.Source, Signal: p.asset.signal(role), Time: at, Emitted: at, Status: status, Value: v,
	})
}
