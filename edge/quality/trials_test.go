package quality

import (
	"slices"
	"strings"
	"testing"
)

func TestTests_SayWhereARuleFindsSomethingElse(t *testing.T) {
	r := compiled(t)
	tests, err := ParseTests("rules_test.yaml", []byte(`tests:
  - name: hot, and silent behind it
    signal: l.m.temperature
    samples:
      - {at: 0s, value: 20}
      - {at: 1s, value: 121.5, finds: [hot]}
      - {at: 2s, value: 500, status: bad}
      - {at: 5m, value: 20, finds: [silent]}
      - {at: 20m, value: 20, initial: true}
  - name: a counter
    signal: l.m.produced
    samples:
      - {at: 0s, value: 1000}
      - {at: 1s, value: 900, finds: [backwards]}
      - {at: 2s, value: 0}
  - name: what goes wrong is told
    signal: l.m.state
    samples:
      - {at: 0s, value: 2, finds: [state-known]}
      - {at: 1s, value: 3}
      - {at: 2s, value: three}
      - {at: 3s, value: 4}
`), r)
	if err != nil {
		t.Fatal(err)
	}
	got := tests.Run()
	if len(got) != 3 || !got[0].Passed || !got[1].Passed || got[2].Passed {
		t.Fatalf("%+v", got)
	}
	want := []string{
		"rules_test.yaml:19: at 0s, value 2: nothing was found by state-known",
		"rules_test.yaml:20: at 1s, value 3: found by state-known, which was not expected",
		"rules_test.yaml:21: at 2s, value three: found by state-known, which was not expected",
	}
	if !slices.Equal(got[2].Wrong, want) {
		t.Errorf("%q\nwant %q", got[2].Wrong, want)
	}
}

func TestParseTests_RefusesWhatShowsNothing(t *testing.T) {
	const head = "tests:\n  - name: n\n    signal: l.m.state\n    samples:\n"
	for text, want := range map[string]string{
		"":                                       "there are no tests",
		"tests: []\n":                            "there are no tests",
		"tests:\n  - {signal: a}\n":              ":2: a test needs a name",
		"tests:\n  - {name: a, signal: \"*\"}\n": ":2: a test needs the whole name",
		"tests:\n  - {name: a, signal: b}\n":     ":2: a test needs samples",
		head + "      - {value: 1, finds: [state-know]}\n": `:5: there is no rule "state-know" in rules.yaml; did you mean "state-known"?`,
		head + "      - {value: [1]}\n":                    ":5: [1] is no number",
		head + "      - {value: 1, status: fine}\n":        `:5: status "fine" is none of`,
		head + "      - {value: 1, at: soon}\n":            `:5: "soon" is no duration`,
		head + "      - {valeu: 1}\n":                      `:5: unknown key "valeu"; did you mean "value"?`,
	} {
		if _, err := ParseTests("t.yaml", []byte(text), compiled(t)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %s", text, err, want)
		}
	}
	all := compiled(t).All()
	if len(all) != 4 || all[1].ID != "state-known" || all[1].Line != 5 || compiled(t).Revision() != 3 {
		t.Errorf("%+v", all)
	}
}
