package desk

import (
	"strings"
	"testing"

	"plantmesh/cloud/registry/plant"
)

func TestLevels(t *testing.T) {
	row := func(id, area, line string) Row {
		return Row{Machine: plant.Machine{ID: id, Area: area, Line: line}, Enterprise: "acme", Site: "graz"}
	}
	rows := []Row{row("a", "", "l1"), row("b", "north", "l1"), row("c", "north", ""), row("d", "", "")}
	for _, c := range []struct {
		Levels

		want, missing string
	}{
		{Levels{}, "abcd", ""},
		{Levels{Line: "l1"}, "ab", ""},
		{Levels{Area: "north"}, "bc", ""},
		{Levels{Area: "north", Line: "l1"}, "b", ""},
		{Levels{Enterprise: "acme", Site: "graz", Area: "north"}, "bc", ""},
		{Levels{Site: "gratz"}, "", `no machine is of site "gratz"; did you mean "graz"?`},
		{Levels{Area: "north", Line: "l2"}, "", `no machine is of line "l2"; did you mean "l1"?`},
	} {
		out, missing := c.Of(rows)
		var got strings.Builder
		for _, r := range out {
			got.WriteString(r.ID)
		}
		if got.String() != c.want || missing != c.missing {
			t.Errorf("%+v: %q, %q", c.Levels, got.String(), missing)
		}
	}
}
