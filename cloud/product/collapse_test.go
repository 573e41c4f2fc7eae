package product

import (
	"fmt"
	"slices"
	"testing"

	"plantmesh/proto/mesh"
)

// One sample that came three times over several roads is one row, whichever came
// first: chunks keep no order of arrival.
func TestCollapse_DoesNotHangOnTheOrderOfArrival(t *testing.T) {
	sample := func(agent mesh.Nanos, flags uint32, rules ...string) Reading {
		r := Reading{Name: "x", Sample: mesh.Sample{Time: 1, Server: 2, Agent: agent, Flags: flags, Value: mesh.Int(1)}}
		for i, rule := range rules {
			r.Marks = append(r.Marks, mesh.Mark{Index: uint32(i), Rule: rule, Action: mesh.ActionAnnotate})
		}
		return r
	}
	came := []Reading{sample(7, mesh.FlagSuspect|mesh.FlagInitial, "b", "a"), sample(5, mesh.FlagSuspect, "c"), sample(6, mesh.FlagSuspect, "a", "c")}
	for _, order := range [][]int{{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}} {
		in := []Reading{{Name: "a", Marks: []mesh.Mark{{Rule: "z"}, {Rule: "y"}}, Sample: mesh.Sample{Time: 1}}}
		for _, i := range order {
			in = append(in, came[i])
		}
		out := Collapse(in)
		if len(out) != 2 {
			t.Fatalf("%v: %d readings", order, len(out))
		}
		var got []string
		for _, m := range out[1].Marks {
			got = append(got, m.Rule)
		}
		if s := out[1].Sample; !slices.Equal(got, []string{"a", "b", "c"}) || s.Agent != 5 || s.Flags != mesh.FlagSuspect {
			t.Errorf("%v: %+v with marks %v", order, s, got)
		}
		if fmt.Sprint(out[0].Marks[0].Rule, out[0].Marks[1].Rule) != "zy" || came[0].Marks[0].Rule != "b" {
			t.Errorf("%v: marks of one sample are touched: %v, %v", order, out[0].Marks, came[0].Marks)
		}
	}
}
