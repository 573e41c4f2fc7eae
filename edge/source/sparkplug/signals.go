package sparkplug

import (
	"cmp"
	"errors"
	"fmt"
	"hash/fnv"
	"reflect"
	"slices"

	"plantmesh/proto/mesh"
	"plantmesh/proto/wire"
)

// Why a metric can't be a signal.
var (
	errNameTaken   = errors.New("another metric has the same signal name already: give one of them a name of its own under `signals`")
	errNameLong    = fmt.Errorf("the name of its signal is longer than %d bytes", wire.MaxName)
	errTooMany     = errors.New("there are more signals than max_signals")
	errTableFull   = errors.New("the names of all signals together are too long for one table")
	errConfigured  = errors.New("its birth says another type than `signals` of the configuration")
	errUnknownType = errors.New("its birth gives it a data type that no metric of Sparkplug B has")
)

const (
	// maxTable bounds the names of all signals, and some bytes for each: the table
	// travels in one message, see wire.MaxFrame.
	maxTable = 6 << 20
	perRow   = 16
)

// signal is one row of the table, whose it is, and how it stands.
type signal struct {
	row   mesh.Signal
	owner uint64
	time  mesh.Nanos // of its newest sample that is current and not suspect; 0: none in this run
	dark  bool       // a sample said that nothing is known of it; none since

	// Of a node that keeps what is not heard: the newest value, what it was when
	// something was missed, and when it was given up; 0: it was not.
	value, before worth
	gone          mesh.Nanos
}

// worth is a value with its status; without a type: none.
type worth struct {
	value  mesh.Value
	status mesh.Status
}

// table is the signal table of the source. It grows with what births name. A name
// keeps its id for as long as this process lives, and over a restart where its birth
// is known then. Not safe for concurrent use.
type table struct {
	names   map[string]*signal
	next    uint32 // the id of the next signal
	bytes   int
	most    int
	changed bool                   // since rows was called last
	before  map[uint32]mesh.Signal // what rows were that are others now, or none, since then
}

func newTable(most int) *table { return &table{names: map[string]*signal{}, most: most} }

// owner tells a metric from all others: also the node's own a/b from b of its device a,
// which have the same place.
func owner(group, node, device, metric string) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(group + "/" + node + "/" + device + "/" + metric)) // never fails; none but metric has a slash in it
	return h.Sum64()
}

// claim gives a metric its signal, which is what row says but for the id. id is what
// the signal had before a restart; nil: it is new.
func (t *table) claim(row mesh.Signal, owner uint64, id *uint32) (*signal, error) {
	if s := t.names[row.Name]; s != nil {
		if s.owner != owner {
			return nil, errNameTaken
		}
		row.ID = s.row.ID
		if !reflect.DeepEqual(s.row, row) {
			t.was(s.row)
			t.bytes += size(&row) - size(&s.row)
			s.row, t.changed = row, true
		}
		return s, nil
	}
	switch n := size(&row); {
	case len(row.Name) > wire.MaxName:
		return nil, errNameLong
	case len(t.names) >= t.most:
		return nil, errTooMany
	case t.bytes+n > maxTable:
		return nil, errTableFull
	default:
		t.bytes += n
	}
	if row.ID = t.next; id != nil {
		row.ID = *id
	}
	t.next = max(t.next, row.ID+1)
	s := &signal{row: row, owner: owner}
	t.names[row.Name], t.changed = s, true
	return s, nil
}

func size(row *mesh.Signal) int { return perRow + len(row.Name) + len(row.Unit) + inside(row.Fields) }

func inside(fields []mesh.Field) (n int) {
	for i := range fields {
		n += perRow + len(fields[i].Name) + inside(fields[i].Fields)
	}
	return n
}

// was remembers a row as it was when samples referred to it.
func (t *table) was(row mesh.Signal) {
	if t.before == nil {
		t.before = map[uint32]mesh.Signal{}
	}
	if _, has := t.before[row.ID]; !has {
		t.before[row.ID] = row
	}
}

// crowded reports whether there is room for few more signals.
func (t *table) crowded() bool { return len(t.names) > t.most/4*3 || t.bytes > maxTable/4*3 }

// drop takes a signal out; its id is not used again.
func (t *table) drop(s *signal) {
	if t.names[s.row.Name] != s {
		return
	}
	delete(t.names, s.row.Name)
	t.bytes -= size(&s.row)
	t.was(s.row)
	t.changed = true
}

// rows are all signals, by their ids.
func (t *table) rows() []mesh.Signal {
	t.changed, t.before = false, nil
	return t.list(nil)
}

// were are all signals as they were when rows was called last, and those that are new.
func (t *table) were() []mesh.Signal { return t.list(t.before) }

func (t *table) list(before map[uint32]mesh.Signal) []mesh.Signal {
	out := make([]mesh.Signal, 0, len(t.names)+len(before))
	for _, s := range t.names {
		if _, other := before[s.row.ID]; !other {
			out = append(out, s.row)
		}
	}
	for _, row := range before {
		out = append(out, row)
	}
	slices.SortFunc(out, func(a, b mesh.Signal) int { return cmp.Compare(a.ID, b.ID) })
	return out
}
