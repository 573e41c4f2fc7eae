package quality

import (
	"math"
	"slices"
	"strings"
	"testing"

	"plantmesh/proto/mesh"
)

const rules = `
revision: 3
rules:
  - {id: hot, kind: range, signal: "*.*.temperature", min: -20, max: 120, dimension: conformity}
  - {id: state-known, kind: enumeration, signal: "*.*.state", values: [2, 4, 6], action: quarantine}
  - {id: silent, kind: stale, signal: "*.*.temperature", max_silence: 1m, action: alert}
  - {id: backwards, kind: backwards, signal: "*.*.produced"}
`

func compiled(t *testing.T) *Rules {
	t.Helper()
	r, err := Parse("rules.yaml", []byte(rules))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func table() []mesh.Signal {
	return []mesh.Signal{{ID: 1, Name: "l.m.temperature"}, {ID: 2, Name: "l.m.state"}, {ID: 3, Name: "l.m.produced"}, {ID: 4, Name: "l.m.order"}}
}

func at(seconds int64, signal uint32, v mesh.Value) mesh.Sample {
	return mesh.Sample{Signal: signal, Time: mesh.Nanos(seconds * 1e9), Value: v}
}

func found(v mesh.Verdict) (out []string) {
	for _, m := range v.Marks {
		out = append(out, m.Rule)
	}
	slices.Sort(out)
	return out
}

func TestJudge_FindsWhatTheRulesSay(t *testing.T) {
	for name, c := range map[string]struct {
		samples []mesh.Sample
		want    []string
	}{
		"in range":             {[]mesh.Sample{at(1, 1, mesh.Double(20))}, nil},
		"above":                {[]mesh.Sample{at(1, 1, mesh.Double(120.5))}, []string{"hot"}},
		"not a number":         {[]mesh.Sample{at(1, 1, mesh.Double(math.NaN()))}, []string{"hot"}},
		"bad has no range":     {[]mesh.Sample{{Signal: 1, Status: mesh.StatusBad, Value: mesh.Double(500)}}, nil},
		"unknown state":        {[]mesh.Sample{at(1, 2, mesh.Int(99))}, []string{"state-known"}},
		"known state":          {[]mesh.Sample{at(1, 2, mesh.Int(6))}, nil},
		"silent":               {[]mesh.Sample{at(1, 1, mesh.Double(1)), at(62, 1, mesh.Double(1))}, []string{"silent"}},
		"just not silent":      {[]mesh.Sample{at(1, 1, mesh.Double(1)), at(61, 1, mesh.Double(1))}, nil},
		"backwards":            {[]mesh.Sample{at(1, 3, mesh.Int(50)), at(2, 3, mesh.Int(49))}, []string{"backwards"}},
		"late is no fall":      {[]mesh.Sample{at(2, 3, mesh.Int(50)), at(1, 3, mesh.Int(49))}, nil},
		"wraps":                {[]mesh.Sample{at(1, 3, mesh.Int(math.MaxInt32)), at(2, 3, mesh.Int(math.MinInt32+5))}, nil},
		"resets":               {[]mesh.Sample{at(1, 3, mesh.Int(50)), at(2, 3, mesh.Int(0))}, nil},
		"no rule, no judgment": {[]mesh.Sample{at(1, 4, mesh.Text("x"))}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			var s State
			got := found(compiled(t).Judge(mesh.Position{}, mesh.Batch{Samples: c.samples}, table(), &s))
			if !slices.Equal(got, c.want) {
				t.Errorf("got %v, want %v", got, c.want)
			}
		})
	}
}

// Verdicts are a function of the log: a restart in between changes nothing.
func TestJudge_GoesOnFromItsState(t *testing.T) {
	r := compiled(t)
	var s State
	r.Judge(mesh.Position{}, mesh.Batch{Samples: []mesh.Sample{at(1, 3, mesh.Int(50))}}, table(), &s)
	b, err := s.Encode()
	if err != nil {
		t.Fatal(err)
	}
	again, err := DecodeState(b)
	if err != nil {
		t.Fatal(err)
	}
	if got := found(r.Judge(mesh.Position{}, mesh.Batch{Samples: []mesh.Sample{at(2, 3, mesh.Int(7))}}, table(), &again)); !slices.Equal(got, []string{"backwards"}) {
		t.Errorf("after a restart: %v", got)
	}
}

func TestParse_NamesTheFault(t *testing.T) {
	for src, want := range map[string]string{
		"rules:\n  - {id: a, kind: rang, signal: x}\n":                                               `r.yaml:2: kind "rang" is none of`,
		"rules:\n  - {id: a, kind: range, signal: x}\n":                                              "r.yaml:2: a range rule needs min or max",
		"rules:\n  - {id: a, kind: stale, signal: x, max_silense: 3s}\n":                             `unknown key "max_silense"; did you mean "max_silence"?`,
		"rules:\n  - {id: a, kind: stale, signal: x, max_silence: 3}\n":                              `"3" is no duration`,
		"rules:\n  - {id: a, kind: enumeration, signal: '[', values: [1]}\n":                         "is no signal pattern",
		"rules:\n  - {id: a, kind: backwards, signal: x, dimension: validity}\n":                     `dimension "validity" is none`,
		"rules:\n  - {id: a, kind: backwards, signal: x, action: delete}\n":                          `action "delete" is none`,
		"rules:\n  - {id: a, kind: backwards, signal: x}\n  - {id: a, kind: backwards, signal: y}\n": `rule "a" stands twice`,
	} {
		if _, err := Parse("r.yaml", []byte(src)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %s", src, err, want)
		}
	}
}
