package buffer

import (
	"maps"
	"time"

	"plantmesh/proto/fault"
	"plantmesh/proto/mesh"
)

// Commits is what keeping data costs on this machine's disk, counted by the
// buffer itself.
type Commits struct {
	Since   time.Time              // machine time; all else was counted since then
	Count   uint64                 // commits
	Batches uint64                 // of them such with batches; the others are the agent's own
	Took    time.Duration          // all of them together, from the first page written to the last sync
	Slowest time.Duration          // one of them
	Payload uint64                 // bytes of records and states
	Written uint64                 // bytes given to the file system: pages, and zeros ahead of them
	Sources map[string]SourceCount // of those that committed batches
}

// SourceCount is what one source has committed.
type SourceCount struct {
	Windows uint64 // offers with batches
	Values  uint64
}

// plus is both counts together, since the earlier beginning.
func (c Commits) plus(d Commits) Commits {
	out := Commits{
		Since: c.Since, Count: c.Count + d.Count, Batches: c.Batches + d.Batches, Took: c.Took + d.Took, Slowest: max(c.Slowest, d.Slowest),
		Payload: c.Payload + d.Payload, Written: c.Written + d.Written, Sources: maps.Clone(c.Sources),
	}
	if out.Since.IsZero() {
		out.Since = d.Since
	}
	if out.Sources == nil {
		out.Sources = map[string]SourceCount{}
	}
	for source, n := range d.Sources {
		was := out.Sources[source]
		out.Sources[source] = SourceCount{was.Windows + n.Windows, was.Values + n.Values}
	}
	return out
}

// countFor is how long one count goes on; the one before is kept beside it. So
// what is told is of the last five to ten minutes: the rate of now, also when
// hours of backlog went through before.
const countFor = 5 * time.Minute

// meter holds the two counts.
type meter struct {
	before, now Commits
	grown       growth
}

// add counts a commit that was durable at machine time at.
func (m *meter) add(c Commits, at time.Time) {
	if age := at.Sub(m.now.Since); age >= countFor {
		m.before = Commits{}
		if age < 2*countFor { // else nothing was committed for long, or ever
			m.before = m.now
		}
		m.now = Commits{Since: at.Add(-c.Took)}
	}
	m.now = m.now.plus(c)
}

// countOffer counts what an offer is.
func (cm *commit) countOffer(o mesh.Offer, headers []mesh.Header) {
	cm.cost.Payload += uint64(len(o.State))
	for _, k := range o.Kept {
		cm.cost.Payload += uint64(len(k.Name) + len(k.Bytes))
	}
	n := SourceCount{}
	for _, h := range headers {
		if h.Kind == mesh.KindBatch {
			n.Windows, n.Values = 1, n.Values+uint64(h.Count)
		}
	}
	if was := cm.cost.Sources[o.Source]; n.Windows > 0 {
		cm.cost.Sources[o.Source] = SourceCount{was.Windows + n.Windows, was.Values + n.Values}
	}
}

// run writes a commit into a segment and counts what that cost.
func (b *Buffer) run(cm *commit, to segment) error {
	began := time.Now()
	written, err := to.Update(cm.write)
	fault.Point("buffer.commit.after")
	cm.cost.Count, cm.cost.Took, cm.cost.Written = 1, time.Since(began), uint64(written)
	cm.cost.Slowest = cm.cost.Took
	if len(cm.cost.Sources) > 0 {
		cm.cost.Batches = 1
	}
	return err
}
