package agent

import (
	"cmp"
	"slices"

	"plantmesh/edge/status"
	"plantmesh/proto/mesh"
)

// maxFindings bounds the pairs of rule and signal that are counted.
const maxFindings = 1000

// findings count what rules found since this run began, by rule and signal: for people,
// who look at what a rule does. The verdicts themselves travel with the records.
//
// Not safe for concurrent use.
type findings struct {
	by   map[foundKey]*foundOf
	more uint64 // found where there was no room to count
}

type foundKey struct{ rule, source, signal string }

// foundOf is what a rule found in a signal.
type foundOf struct {
	action mesh.Action
	count  uint64
	first  mesh.Nanos
	last   mesh.Sample
	signal mesh.Signal
}

// add counts the marks of a batch.
func (f *findings) add(b *mesh.Batch, table []mesh.Signal, marks []mesh.Mark) {
	if len(marks) == 0 {
		return
	}
	if f.by == nil {
		f.by = map[foundKey]*foundOf{}
	}
	places := make(map[uint32]int, len(table))
	for i := range table {
		places[table[i].ID] = i
	}
	for _, m := range marks {
		if int(m.Index) >= len(b.Samples) {
			continue
		}
		s := b.Samples[m.Index]
		i, known := places[s.Signal]
		if !known {
			continue
		}
		key := foundKey{m.Rule, b.Source, table[i].Name}
		one := f.by[key]
		if one == nil {
			if len(f.by) >= maxFindings {
				f.more++
				continue
			}
			one = &foundOf{action: m.Action, first: s.Time, signal: table[i]}
			f.by[key] = one
		}
		one.count++
		one.last = s
	}
}

// told are all of them, those that quarantine first.
func (f *findings) told() (out []status.RuleFound) {
	for key, x := range f.by {
		out = append(out, status.RuleFound{
			Rule: key.rule, Does: actionOf(x.action), Source: key.source, Signal: key.signal, Count: x.count, First: instant(x.first), Last: sampleOf(key.source, x.last, x.signal),
		})
	}
	slices.SortFunc(out, func(x, y status.RuleFound) int {
		return cmp.Or(cmp.Compare(y.Does, x.Does), cmp.Compare(y.Count, x.Count), cmp.Compare(x.Rule, y.Rule), cmp.Compare(x.Source, y.Source), cmp.Compare(x.Signal, y.Signal))
	})
	return out
}

func actionOf(a mesh.Action) string {
	switch a {
	case mesh.ActionQuarantine:
		return "quarantine"
	case mesh.ActionAlert:
		return "alert"
	case mesh.ActionAnnotate:
	}
	return "annotate"
}

// Found is what rules found since this run began.
func (j *Judge) Found() (by []status.RuleFound, more uint64) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.counted.told(), j.counted.more
}
