package torture

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"plantmesh/firmware-sim/ledger"
	"plantmesh/firmware-sim/plant"
)

// numbers are what comes out of a comparison. The first five must be 0.
type numbers struct {
	lost, duplicated, phantom, reordered, unmarked int
	emitted, told, rows                            int
	empty                                          int // rows without a value that nobody emitted: a payload could not be read
}

func (n numbers) bad() bool {
	return n.lost+n.duplicated+n.phantom+n.reordered+n.unmarked > 0
}

func (n numbers) plus(o numbers) numbers {
	return numbers{
		n.lost + o.lost, n.duplicated + o.duplicated, n.phantom + o.phantom, n.reordered + o.reordered, n.unmarked + o.unmarked,
		n.emitted + o.emitted, n.told + o.told, n.rows + o.rows, n.empty + o.empty,
	}
}

func (n numbers) String() string {
	return fmt.Sprintf("lost %d, duplicated %d, phantom %d, reordered %d, unmarked %d", n.lost, n.duplicated, n.phantom, n.reordered, n.unmarked)
}

// kept is a row of product signals.
type kept struct {
	signal string
	at     int64 // ns
	value  string
}

// none is how a row says that it has no value.
const none = "null"

// gap is a row of product coverage.
type gap struct {
	source   string
	from, to int64 // ns; to: the far future where it is open
	cause    string
}

// has: rows cut instants to milliseconds, so the last of a gap may be in it.
func (g gap) has(source string, at int64) bool {
	return g.source == source && g.from <= at && at <= g.to
}

// text is a value as rows say it.
func text(v plant.Value) string {
	switch v.Type {
	case plant.Bool:
		return strconv.FormatBool(v.B)
	case plant.Int:
		return strconv.FormatInt(v.I, 10)
	case plant.Double:
		return strconv.FormatFloat(v.F, 'g', -1, 64)
	case plant.String:
		return v.S
	case plant.None:
	}
	return ""
}

// compare holds the rows against the book. What is told received and not there
// is lost, unless a gap of a cause in mayLose covers it. say is told the first
// of each finding.
func compare(book *ledger.Book, rows []kept, gaps []gap, mayLose []string, say func(string)) (n numbers) {
	type key struct {
		signal string
		at     int64
	}
	type sample struct {
		source string
		index  uint64
		value  string
		told   bool
		seen   int
	}
	first := func(n int, format string, args ...any) {
		if n <= 3 {
			say(fmt.Sprintf(format, args...))
		}
	}
	all := map[key]*sample{}
	for source, es := range book.Emitted {
		for _, e := range es {
			n.emitted++
			all[key{e.Signal, e.Time.UnixNano()}] = &sample{source: source, index: e.Index, value: text(e.Value), told: told(book.Received[source], e.Index)}
		}
	}
	newest := map[string]int64{}
	for _, r := range rows {
		n.rows++
		s := all[key{r.signal, r.at}]
		if r.value == none { // rows say milliseconds: it may stand in one with a sample
			n.empty++
			continue
		}
		if r.at < newest[r.signal] {
			n.reordered++
			first(n.reordered, "reordered: %s at %s stands behind %s", r.signal, instant(r.at), instant(newest[r.signal]))
		}
		newest[r.signal] = r.at
		if s == nil || s.value != r.value {
			n.phantom++
			first(n.phantom, "phantom: %s at %s is %s", r.signal, instant(r.at), r.value)
			continue
		}
		if s.seen++; s.seen > 1 {
			n.duplicated++
			first(n.duplicated, "duplicated: %s at %s", r.signal, instant(r.at))
			continue
		}
	}
	for k, s := range all {
		if s.told {
			n.told++
		}
		if s.seen > 0 {
			continue
		}
		named, excused := false, false
		for _, g := range gaps {
			if g.has(s.source, k.at) {
				named, excused = true, excused || slices.Contains(mayLose, g.cause)
			}
		}
		if s.told && !excused {
			n.lost++
			first(n.lost, "lost: %s at %s, sample %d of %s, was told received", k.signal, instant(k.at), s.index, s.source)
		}
		if !named {
			n.unmarked++
			first(n.unmarked, "unmarked: %s at %s, sample %d of %s", k.signal, instant(k.at), s.index, s.source)
		}
	}
	return n
}

// absent are the samples that were told received and that no row has.
func absent(book *ledger.Book, rows []kept) (out []plant.Emission) {
	have := map[string]bool{}
	key := func(signal string, at int64, value string) string { return fmt.Sprint(at, " ", signal, " ", value) }
	for _, r := range rows {
		have[key(r.signal, r.at, r.value)] = true
	}
	for source, es := range book.Emitted {
		for _, e := range es {
			if told(book.Received[source], e.Index) && !have[key(e.Signal, e.Time.UnixNano(), text(e.Value))] {
				out = append(out, e)
			}
		}
	}
	return out
}

func told(ranges []ledger.Range, index uint64) bool {
	i, _ := slices.BinarySearchFunc(ranges, index, func(r ledger.Range, at uint64) int {
		switch {
		case r.Last < at:
			return -1
		case r.First > at:
			return 1
		}
		return 0
	})
	return i < len(ranges) && ranges[i].First <= index && index <= ranges[i].Last
}

func instant(ns int64) string { return time.Unix(0, ns).UTC().Format("2006-01-02T15:04:05.000") }

// TestCompare: each of the five numbers must be able to say that something is
// wrong, or no case below is worth anything.
func TestCompare(t *testing.T) {
	book := func() *ledger.Book {
		b := &ledger.Book{Emitted: map[string][]plant.Emission{}, Received: map[string][]ledger.Range{"s": {{First: 1, Last: 2}, {First: 4, Last: 5}}}}
		for i := range uint64(6) {
			at := time.UnixMilli(int64(1000 + 10*i))
			b.Emitted["s"] = append(b.Emitted["s"], plant.Emission{Source: "s", Index: i + 1, Signal: "a", Time: at, Value: plant.Value{Type: plant.Int, I: int64(i + 1)}})
		}
		return b
	}
	rows := func(indexes ...int) (out []kept) {
		for _, i := range indexes {
			out = append(out, kept{"a", int64(1000+10*(i-1)) * 1e6, strconv.Itoa(i)})
		}
		return out
	}
	gapOf := func(index int, cause string) gap {
		return gap{"s", int64(1000+10*(index-1)) * 1e6, int64(1000+10*index) * 1e6, cause}
	}
	for _, c := range []struct {
		name string
		rows []kept
		gaps []gap
		may  []string
		want numbers
	}{
		{name: "all there", rows: rows(1, 2, 3, 4, 5, 6)},
		{name: "lost", rows: rows(1, 3, 4, 5, 6), want: numbers{lost: 1, unmarked: 1}},
		{name: "lost is lost with a gap too", rows: rows(1, 3, 4, 5, 6), gaps: []gap{gapOf(2, "disk_policy")}, want: numbers{lost: 1}},
		{name: "a policy may drop and says so", rows: rows(1, 3, 4, 5, 6), gaps: []gap{gapOf(2, "disk_policy")}, may: []string{"disk_policy"}},
		{name: "another cause is no policy", rows: rows(1, 3, 4, 5, 6), gaps: []gap{gapOf(2, "unproven")}, may: []string{"disk_policy"}, want: numbers{lost: 1}},
		{name: "not told, and named", rows: rows(1, 2, 4, 5, 6), gaps: []gap{gapOf(3, "overflow")}},
		{name: "not told, not named", rows: rows(1, 2, 4, 5, 6), want: numbers{unmarked: 1}},
		{name: "a gap beside it names nothing", rows: rows(1, 2, 4, 5, 6), gaps: []gap{gapOf(4, "overflow")}, want: numbers{unmarked: 1}},
		{name: "duplicated", rows: rows(1, 2, 3, 3, 4, 5, 6), want: numbers{duplicated: 1}},
		{name: "phantom instant", rows: append(rows(1, 2, 3, 4, 5, 6), kept{"a", 7000e6, "7"}), want: numbers{phantom: 1}},
		{name: "no value is no sample", rows: append(rows(1, 2, 3, 4, 5, 6), kept{"a", 7000e6, none}), want: numbers{empty: 1}},
		{name: "a value gone", rows: append(rows(1, 2, 3, 4, 5), kept{"a", 1050e6, none}), want: numbers{empty: 1, unmarked: 1}},
		{name: "phantom value", rows: append([]kept{{"a", 1000e6, "9"}}, rows(2, 3, 4, 5, 6)...), want: numbers{phantom: 1, lost: 1, unmarked: 1}},
		{name: "reordered", rows: rows(1, 2, 4, 3, 5, 6), want: numbers{reordered: 1}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var said []string
			got := compare(book(), c.rows, c.gaps, c.may, func(s string) { said = append(said, s) })
			c.want.emitted, c.want.told, c.want.rows = 6, 4, len(c.rows)
			if got != c.want {
				t.Errorf("%+v, want %+v\n%s", got, c.want, strings.Join(said, "\n"))
			}
			if got.bad() != (len(said) > 0) {
				t.Errorf("%s, and said: %q", got, said)
			}
		})
	}
}
