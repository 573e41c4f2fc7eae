package desk

import (
	"fmt"
	"net/http"
	"slices"

	"plantmesh/proto/strict"
)

// Levels are where machines are, from far to near (ISA-95); an empty one is any.
type Levels struct {
	Enterprise, Site, Area, Line string
}

func levelsOf(r *http.Request) Levels {
	q := r.URL.Query()
	return Levels{q.Get("enterprise"), q.Get("site"), q.Get("area"), q.Get("line")}
}

type level struct{ name, want, is string }

func (l Levels) against(x *Row) []level {
	return []level{{"enterprise", l.Enterprise, x.Enterprise}, {"site", l.Site, x.Site}, {"area", l.Area, x.Area}, {"line", l.Line, x.Line}}
}

// of are the rows that are there.
func (l Levels) of(rows []Row) []Row {
	out := []Row{}
	for i := range rows {
		if !slices.ContainsFunc(l.against(&rows[i]), func(x level) bool { return x.want != "" && x.want != x.is }) {
			out = append(out, rows[i])
		}
	}
	return out
}

// Of are the rows that are there; where none is, missing says which level no machine is of.
func (l Levels) Of(rows []Row) (out []Row, missing string) {
	if out = l.of(rows); len(out) > 0 {
		return out, ""
	}
	for i, want := range l.against(&Row{}) {
		var are []string
		for k := range rows {
			if is := l.against(&rows[k])[i].is; is != "" {
				are = append(are, is)
			}
		}
		if want.want == "" || slices.Contains(are, want.want) {
			continue
		}
		missing = fmt.Sprintf("no machine is of %s %q", want.name, want.want)
		if near := strict.Nearest(want.want, are); near != "" {
			missing += fmt.Sprintf("; did you mean %q?", near)
		}
		return out, missing
	}
	return out, ""
}
