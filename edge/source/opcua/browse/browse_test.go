package browse

import (
	"context"
	"fmt"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gopcua/opcua/ua"
)

func walk(t *testing.T, f *fake, cfg Config) ([]Node, Summary) {
	t.Helper()
	if f.spaces == nil {
		f.spaces = []string{"urn:test"}
	}
	var all []Node
	sum, err := Walk(t.Context(), f, cfg, func(n *Node) error { all = append(all, *n); return nil })
	if err != nil {
		t.Fatal(err)
	}
	if sum.Nodes != len(all) {
		t.Errorf("%d nodes told, the summary says %d", len(all), sum.Nodes)
	}
	for i, n := range all {
		if n.Parent >= i || n.Parent >= 0 && all[n.Parent].Depth != n.Depth-1 {
			t.Fatalf("node %d %s of depth %d has parent %d", i, n.ID, n.Depth, n.Parent)
		}
	}
	return all, sum
}

func TestWalk_TellsAllInOrder(t *testing.T) {
	for _, f := range []*fake{{}, {limit: 7}, {most: 3}, {points: 1}, {limit: 50, most: 3, points: 2}} {
		f.below = func(node string) []*ua.ReferenceDescription {
			switch {
			case node == "i=85":
				return []*ua.ReferenceDescription{ref("a", ua.NodeClassObject), ref("b", ua.NodeClassObject), ref("c", ua.NodeClassObject)}
			case len(node) == len("ns=1;s=a"):
				var out []*ua.ReferenceDescription
				for i := range 300 {
					out = append(out, ref(node[len("ns=1;s="):]+strconv.Itoa(i), ua.NodeClassVariable))
				}
				return out
			case strings.HasSuffix(node, "7"): // some variables have variables
				return []*ua.ReferenceDescription{ref(node[len("ns=1;s="):]+".x", ua.NodeClassVariable)}
			}
			return nil
		}
		var want []string
		for _, o := range []string{"a", "b", "c"} {
			want = append(want, "nsu=urn:test;s="+o)
			for i := range 300 {
				want = append(want, fmt.Sprintf("nsu=urn:test;s=%s%d", o, i))
				if i%10 == 7 {
					want = append(want, fmt.Sprintf("nsu=urn:test;s=%s%d.x", o, i))
				}
			}
		}
		all, sum := walk(t, f, Config{})
		var got []string
		for _, n := range all {
			got = append(got, n.ID)
		}
		if !slices.Equal(got, want) || len(sum.Stopped)+len(sum.Notes) > 0 {
			t.Errorf("limit %d, most %d, points %d: %d nodes, want %d; %v %v", f.limit, f.most, f.points, len(got), len(want), sum.Stopped, sum.Notes)
		}
		if f.limit > 0 && f.largest > int(f.limit) {
			t.Errorf("%d nodes in one request, the server's limit is %d", f.largest, f.limit)
		}
	}
}

func TestWalk_ALoopIsWalkedOnce(t *testing.T) {
	f := &fake{below: func(string) []*ua.ReferenceDescription {
		// Every object refers to every one, itself and the start among them.
		out := []*ua.ReferenceDescription{named(ua.NewNumericNodeID(0, 85), 0, "Objects", ua.NodeClassObject, ua.NewNumericNodeID(0, 61))}
		for i := range 50 {
			out = append(out, ref("n"+strconv.Itoa(i), ua.NodeClassObject))
		}
		return out
	}}
	all, sum := walk(t, f, Config{})
	if len(all) != 50 || len(sum.Stopped) > 0 {
		t.Errorf("%d nodes of 50, stopped %v", len(all), sum.Stopped)
	}
}

// Each bound is named when it is met, and nothing goes on behind it.
func TestWalk_Bounds(t *testing.T) {
	deep := func(node string) []*ua.ReferenceDescription { // each node has one below it, without end
		return []*ua.ReferenceDescription{ref(node[strings.IndexByte(node, '=')+1:]+"x", ua.NodeClassObject)}
	}
	n := 0
	wide := func(string) []*ua.ReferenceDescription { // each has two below it, never the same
		n += 2
		return []*ua.ReferenceDescription{ref(strconv.Itoa(n), ua.NodeClassObject), ref(strconv.Itoa(n+1), ua.NodeClassObject)}
	}
	long := func(node string) []*ua.ReferenceDescription {
		if node != "i=85" {
			return nil
		}
		var out []*ua.ReferenceDescription
		for i := range 5000 {
			out = append(out, ref(strconv.Itoa(i)+strings.Repeat("n", 2000), ua.NodeClassVariable))
		}
		return out
	}
	for name, c := range map[string]struct {
		f    *fake
		cfg  Config
		most int
		says string
	}{
		"a million below one node":      {&fake{many: 1_000_000, class: ua.NodeClassVariable}, Config{}, 100_000, "stopped at 100000 nodes: the cap --max-nodes"},
		"a million, few wanted":         {&fake{many: 1_000_000, class: ua.NodeClassVariable}, Config{MaxNodes: 10}, 10, "stopped at 10 nodes: the cap --max-nodes"},
		"without end, deep":             {&fake{below: deep}, Config{}, 32, "stopped at depth 32: the cap --depth"},
		"without end, deep and shallow": {&fake{below: deep}, Config{Depth: 5}, 5, "stopped at depth 5: the cap --depth"},
		"without end, wide":             {&fake{below: wide}, Config{MaxNodes: 5000, Depth: 10_000}, 5000, "stopped at 5000 nodes: the cap --max-nodes"},
		"names":                         {&fake{below: long}, Config{MaxText: 2 << 20}, 5000, "stopped at 2 MiB of names and node ids: the cap --max-text"},
	} {
		t.Run(name, func(t *testing.T) {
			all, sum := walk(t, c.f, c.cfg)
			if len(all) > c.most || len(all) == 0 || !slices.Equal(sum.Stopped, []string{c.says}) {
				t.Errorf("%d nodes, at most %d; stopped %q, want %q", len(all), c.most, sum.Stopped, c.says)
			}
			if limit := c.most*5/4 + 10_000; c.f.references > limit {
				t.Errorf("%d references were taken for %d nodes", c.f.references, c.most)
			}
		})
	}
}

// As many nodes as the cap are no more than the cap.
func TestWalk_ExactlyTheCap(t *testing.T) {
	all, sum := walk(t, &fake{many: 500, class: ua.NodeClassVariable}, Config{MaxNodes: 500})
	if len(all) != 500 || len(sum.Stopped) > 0 {
		t.Errorf("%d nodes, stopped %v", len(all), sum.Stopped)
	}
}

func TestWalk_ReleasesWhatItLeaves(t *testing.T) {
	f := &fake{many: 50_000, class: ua.NodeClassVariable}
	if _, sum := walk(t, f, Config{MaxNodes: 100}); f.released != 1 || len(sum.Stopped) != 1 {
		t.Errorf("%d continuation points released, stopped %v", f.released, sum.Stopped)
	}
}

func TestWalk_PagesWithoutEnd(t *testing.T) {
	f := &fake{many: 10, class: ua.NodeClassVariable, endless: true}
	_, sum := walk(t, f, Config{})
	if len(sum.Notes) != 1 || !strings.Contains(sum.Notes[0], "sends pages without an entry") || sum.Requests > 3*emptyPages {
		t.Errorf("%d requests, notes %v", sum.Requests, sum.Notes)
	}
}

func TestWalk_TakesNoLongerThanItMay(t *testing.T) {
	n := 0
	f := &fake{below: func(string) []*ua.ReferenceDescription {
		n++
		return []*ua.ReferenceDescription{ref(strconv.Itoa(n), ua.NodeClassObject)}
	}}
	_, sum := walk(t, f, Config{Depth: 1 << 30, MaxNodes: 1 << 30, Within: time.Nanosecond})
	if !slices.Equal(sum.Stopped, []string{"stopped after 1ns: the cap --timeout"}) {
		t.Errorf("stopped %v", sum.Stopped)
	}
}

// silent gives the first pages, and then no answer.
type silent struct {
	fake

	n int
}

func (s *silent) Call(ctx context.Context, req ua.Request) (ua.Response, error) {
	if s.n++; s.n > 4 {
		<-ctx.Done()
		return nil, context.Cause(ctx)
	}
	return s.fake.Call(ctx, req)
}

func TestWalk_ASilentServerCostsNoMoreTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &silent{fake: fake{many: 50_000, class: ua.NodeClassVariable, spaces: []string{"urn:test"}}}
		sum, err := Walk(t.Context(), s, Config{Within: time.Minute}, func(*Node) error { return nil })
		if err != nil || !slices.Equal(sum.Stopped, []string{"stopped after 1m0s: the cap --timeout"}) || sum.Seconds != 60 {
			t.Errorf("%+v, %v", sum, err)
		}
	})
}

// What a server calls its nodes goes to a terminal.
func TestWalk_NamesMoveNoCursor(t *testing.T) {
	f := &fake{below: func(node string) []*ua.ReferenceDescription {
		if node != "i=85" {
			return nil
		}
		return []*ua.ReferenceDescription{
			ref("a\x1b[2J\nb\xff", ua.NodeClassVariable), ref(strings.Repeat("é", 600), ua.NodeClassVariable), ref(strings.Repeat("i", 5000), ua.NodeClassVariable),
		}
	}}
	all, sum := walk(t, f, Config{})
	if len(all) != 2 || all[0].Name != "a\uFFFD[2J\uFFFDb\uFFFD" || len(all[1].Name) > maxName+len("…") {
		t.Fatalf("%d nodes, the first %q", len(all), all[0].Name)
	}
	if id := Printable(all[0].ID); id != "nsu=urn:test;s=a\uFFFD[2J\uFFFDb\uFFFD" {
		t.Errorf("node id %q", id)
	}
	if len(sum.Notes) != 1 || !strings.Contains(sum.Notes[0], "a node id of 5007 bytes is left out") {
		t.Errorf("notes %v", sum.Notes)
	}
}

// Nodes of other servers, and answers that don't fit, are no reason to die.
func TestWalk_OddAnswers(t *testing.T) {
	f := &fake{below: func(node string) []*ua.ReferenceDescription {
		if node != "i=85" {
			return nil
		}
		other := ref("other", ua.NodeClassObject)
		other.NodeID = ua.NewExpandedNodeID(ua.NewStringNodeID(1, "other"), "", 3)
		elsewhere := ref("elsewhere", ua.NodeClassObject)
		elsewhere.NodeID = ua.NewExpandedNodeID(ua.NewStringNodeID(1, "x"), "urn:nowhere", 0)
		foreign := ref("foreign", ua.NodeClassObject)
		foreign.NodeID, foreign.BrowseName.NamespaceIndex = ua.NewExpandedNodeID(ua.NewStringNodeID(900, "y"), "", 0), 900
		return []*ua.ReferenceDescription{
			{}, {NodeID: &ua.ExpandedNodeID{}}, {NodeID: ua.NewExpandedNodeID(ua.NewStringNodeID(1, "q"), "", 0)}, other, elsewhere, foreign, ref("good", ua.NodeClassObject),
		}
	}}
	all, _ := walk(t, f, Config{Details: true})
	if len(all) != 2 || all[0].ID != "ns=900;s=y" || all[0].Namespace != "ns=900" || all[1].Name != "good" {
		t.Errorf("%+v", all)
	}
}

func TestWalk_CallsThatFail(t *testing.T) {
	for name, c := range map[string]struct {
		err   error
		fails bool
	}{
		"refused":      {ua.StatusBadUserAccessDenied, false},
		"session gone": {ua.StatusBadSessionIDInvalid, true},
		"line gone":    {context.DeadlineExceeded, true},
	} {
		f := &failing{fake: fake{spaces: []string{"urn:test"}, many: 3, class: ua.NodeClassObject}, err: c.err}
		n := 0
		sum, err := Walk(t.Context(), f, Config{}, func(*Node) error { n++; return nil })
		if (err != nil) != c.fails || !c.fails && (n != 3 || len(sum.Notes) != 3) {
			t.Errorf("%s: %d nodes, notes %v, %v", name, n, sum.Notes, err)
		}
	}
}

// failing fails every browse but the first.
type failing struct {
	fake

	n   int
	err error
}

func (f *failing) Call(ctx context.Context, req ua.Request) (ua.Response, error) {
	if _, ok := req.(*ua.BrowseRequest); ok {
		if f.n++; f.n > 1 {
			return nil, f.err
		}
	}
	return f.fake.Call(ctx, req)
}

func TestWalk_Picks(t *testing.T) {
	f := &fake{below: func(node string) []*ua.ReferenceDescription {
		if node != "i=85" {
			return nil
		}
		return []*ua.ReferenceDescription{ref("speed", ua.NodeClassVariable), ref("speeds", ua.NodeClassObject), ref("heat", ua.NodeClassVariable)}
	}}
	for _, c := range []struct {
		cfg  Config
		want []string
	}{
		{Config{}, []string{"speed", "speeds", "heat"}},
		{Config{Filter: regexp.MustCompile("^sp")}, []string{"speed", "speeds"}},
		{Config{Filter: regexp.MustCompile("^sp"), Class: "variable"}, []string{"speed"}},
		{Config{Spaces: "elsewhere"}, nil},
		{Config{Spaces: "test", Class: "object"}, []string{"speeds"}},
	} {
		all, _ := walk(t, f, c.cfg)
		var got []string
		for _, n := range all {
			if n.Picked {
				got = append(got, n.Name)
			}
		}
		if len(all) != 3 || !slices.Equal(got, c.want) {
			t.Errorf("%+v: %v, want %v", c.cfg, got, c.want)
		}
	}
}

// What a server takes in one read, it doesn't always tell.
func TestWalk_ReadsInParts(t *testing.T) {
	f := &fake{many: 500, class: ua.NodeClassVariable, reads: 7, attribute: func(string, ua.AttributeID) *ua.DataValue {
		return &ua.DataValue{EncodingMask: ua.DataValueValue, Value: ua.MustVariant(ua.NewNumericNodeID(0, 11))}
	}}
	all, sum := walk(t, f, Config{Details: true, Values: true})
	if len(all) != 500 || len(sum.Notes) > 0 {
		t.Fatalf("%d nodes, %v", len(all), sum.Notes)
	}
	for _, n := range all {
		if n.Kind != "double" || n.Value == nil || n.Value.Text != "i=11" {
			t.Fatalf("%+v", n)
		}
	}
}

// A server that says without end that there is more costs no more memory than the
// cap allows.
func TestWalk_Memory(t *testing.T) {
	f := &fake{many: 1_000_000, class: ua.NodeClassVariable, spaces: []string{"urn:test"}}
	before := heap()
	told := 0
	peak := before
	_, err := Walk(t.Context(), f, Config{}, func(*Node) error {
		if told++; told%20_000 == 0 {
			peak = max(peak, heap())
		}
		return nil
	})
	if err != nil || told != defaultNodes {
		t.Fatalf("%d nodes, %v", told, err)
	}
	if used := int64(peak-before) >> 20; used > 48 {
		t.Errorf("%d MiB for %d nodes", used, told)
	}
}

func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
