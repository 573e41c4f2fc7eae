package agent

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	"plantmesh/edge/check"
	"plantmesh/edge/quality"
	"plantmesh/proto/answer"
	"plantmesh/proto/revision"
	"plantmesh/proto/strict"
)

// testSuffix ends the name of a file with tests of the rules beside it.
const testSuffix = "_test.yaml"

func ruleFile(file string) (*quality.Rules, error) {
	src, err := strict.Read(file)
	if err != nil {
		return nil, &strict.Fault{File: file, What: strict.Unreadable(err)}
	}
	return quality.Parse(file, src)
}

// RuleTold is a rule for people.
type RuleTold struct {
	ID        string `json:"id"`
	Kind      string `json:"kind"`
	Says      string `json:"says"`
	Signal    string `json:"signal"` // the pattern
	Does      string `json:"does"`   // with what it finds something in
	Dimension string `json:"dimension,omitempty"`
	File      string `json:"file"`
	Line      int    `json:"line"`
	Revision  uint64 `json:"revision,omitempty"` // of the hub's configuration; 0: the gateway's own
	// Of explain: whether it looks at the signal, and why.
	Applies *bool  `json:"applies,omitempty"`
	Why     string `json:"why,omitempty"`
}

// ListRules are the rules as the files are now, the gateway's own and the hub's.
func (c *Config) ListRules() (out []RuleTold, err error) {
	all, err := c.placedRules()
	for i := range all {
		out = append(out, all[i].told())
	}
	return out, err
}

// placedRule is a rule, where it stands, and whose file that is.
type placedRule struct {
	quality.Placed

	revision uint64 // of the hub's configuration; 0: the gateway's own
}

func (r *placedRule) told() RuleTold {
	l := look(r.Rule, nil)
	return RuleTold{ID: r.ID, Kind: r.Kind, Says: l.Says, Signal: r.Signal, Does: l.Does, Dimension: r.Dimension, File: r.File, Line: r.Line, Revision: r.revision}
}

func (c *Config) placedRules() (out []placedRule, err error) {
	if err := c.Need(Rules); err != nil {
		return nil, err
	}
	files, _, err := c.files(revision.RulesFolder, c.applied)
	if err != nil {
		return nil, err
	}
	for _, f := range files {
		if strings.HasSuffix(f.path, testSuffix) {
			continue
		}
		rules, err := ruleFile(f.path)
		if err != nil {
			return nil, err
		}
		for _, r := range rules.All() {
			out = append(out, placedRule{r, f.revision})
		}
	}
	return out, nil
}

// Explained is which rules look at a signal.
type Explained struct {
	Signal  string     `json:"signal"`
	Sources []string   `json:"sources"` // whose files name it; empty: none does
	Nearest string     `json:"nearest,omitempty"`
	Rules   []RuleTold `json:"rules"` // those that look at it first
}

// Explain says of each rule whether it looks at a signal, and why.
func (c *Config) Explain(signal string) (e Explained, err error) {
	e = Explained{Signal: signal, Sources: []string{}, Rules: []RuleTold{}}
	all, err := c.ListRules()
	if err != nil {
		return e, err
	}
	for _, r := range all {
		applies, why := fits(r.Signal, signal)
		r.Applies, r.Why = &applies, why
		e.Rules = append(e.Rules, r)
	}
	slices.SortStableFunc(e.Rules, func(x, y RuleTold) int {
		switch {
		case *x.Applies == *y.Applies:
			return 0
		case *x.Applies:
			return -1
		}
		return 1
	})
	var names []string
	for i := range c.Sources {
		for _, name := range c.Sources[i].signals() {
			names = append(names, name)
			if ok, _ := fits(name, signal); ok || name == signal {
				e.Sources = append(e.Sources, c.Sources[i].ID())
				break
			}
		}
	}
	if len(e.Sources) == 0 {
		e.Nearest = strict.Nearest(signal, names)
	}
	return e, nil
}

// fits reports whether a pattern means a signal, and why.
func fits(pattern, signal string) (bool, string) {
	if ok, err := path.Match(pattern, signal); ok && err == nil {
		return true, fmt.Sprintf("the pattern %s means it", pattern)
	}
	want, have := strings.Split(pattern, "."), strings.Split(signal, ".")
	if len(want) != len(have) {
		return false, fmt.Sprintf("the pattern %s has %d parts, the name %d", pattern, len(want), len(have))
	}
	for i := range want {
		if ok, err := path.Match(want[i], have[i]); !ok || err != nil {
			return false, fmt.Sprintf("part %d of the name is %q, the pattern %s wants %s there", i+1, have[i], pattern, want[i])
		}
	}
	return false, fmt.Sprintf("the pattern %s does not mean it", pattern)
}

// RulesTested is how the tests of a file went.
type RulesTested struct {
	File  string           `json:"file"`
	Tests []quality.Tested `json:"tests"`
}

// TestRules runs the tests of files, or of all that stand in rules.d.
func (c *Config) TestRules(files []string) (out []RulesTested, failed int, err error) {
	if len(files) == 0 {
		all, _, err := c.files(revision.RulesFolder, c.applied)
		if err != nil {
			return nil, 0, err
		}
		for _, f := range all {
			if strings.HasSuffix(f.path, testSuffix) {
				files = append(files, f.path)
			}
		}
	}
	for _, f := range files {
		tests, err := testsOf(f)
		if err != nil {
			return nil, 0, err
		}
		done := RulesTested{File: f, Tests: tests.Run()}
		for _, t := range done.Tests {
			if !t.Passed {
				failed++
			}
		}
		out = append(out, done)
	}
	return out, failed, nil
}

// testsOf reads a file of tests, and the rules beside it.
func testsOf(file string) (*quality.Tests, error) {
	name, ok := strings.CutSuffix(file, testSuffix)
	if !ok {
		return nil, &strict.Fault{File: file, What: "is no file of tests: those of the rules in NAME.yaml stand in NAME" + testSuffix}
	}
	src, err := strict.Read(file)
	if err != nil {
		return nil, &strict.Fault{File: file, What: strict.Unreadable(err)}
	}
	beside := name + ".yaml"
	if _, err := os.Stat(beside); errors.Is(err, fs.ErrNotExist) {
		return nil, &strict.Fault{File: file, What: "tests the rules of " + beside + ", and there is no such file"}
	}
	rules, err := ruleFile(beside)
	if err != nil {
		return nil, err
	}
	return quality.ParseTests(file, src, rules)
}

func (c *Checkup) cfgRulesTests() check.Result {
	done, failed, err := c.cfg.TestRules(nil)
	if err != nil {
		return faulty(check.Error, err)
	}
	n := 0
	var wrong []string
	for _, f := range done {
		n += len(f.Tests)
		for _, t := range f.Tests {
			if !t.Passed {
				wrong = append(wrong, fmt.Sprintf("%q (%s)", t.Name, t.Wrong[0]))
			}
		}
	}
	switch {
	case failed > 0:
		return check.Fail(answer.Command("plantmesh-edge", "rules", "test", "--config", c.path), "%s", some(wrong, fmt.Sprintf("of %d tests fail", n)))
	case n == 0:
		return check.Good("no rule has a test beside it")
	}
	return check.Good("%d tests pass", n)
}
