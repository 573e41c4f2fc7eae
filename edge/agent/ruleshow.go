package agent

import (
	"context"
	"errors"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"
	"time"

	"plantmesh/edge/quality"
	"plantmesh/edge/status"
	"plantmesh/proto/mesh"
	"plantmesh/proto/strict"
)

// ErrNoRule is returned for a rule that stands in no file.
var ErrNoRule = errors.New("no such rule")

// RuleShown is one rule as its file has it, and what is known of it.
type RuleShown struct {
	RuleTold

	Parameters []string         `json:"parameters"` // in words
	InForce    Force            `json:"in_force"`
	Signals    []SignalOf       `json:"signals"` // of the files of sources.d that it looks at
	Tests      []quality.Tested `json:"tests"`   // beside it, of a signal it looks at or in which it is to find something
}

// SignalOf is a signal and the source whose file names it.
type SignalOf struct {
	Signal string `json:"signal"`
	Source string `json:"source"`
}

// Force is whether a running agent judges by a rule.
type Force struct {
	State string `json:"state"` // as_here, otherwise, not_yet, or not_known
	Why   string `json:"why"`
}

// ShowRule tells of one rule as the files are now, and whether the running agent judges by it.
func (c *Config) ShowRule(ctx context.Context, id string) (s RuleShown, err error) {
	all, err := c.placedRules()
	if err != nil {
		return s, err
	}
	at := slices.IndexFunc(all, func(r placedRule) bool { return r.ID == id })
	if at < 0 {
		return s, noRule(all, id)
	}
	r := &all[at]
	s = RuleShown{RuleTold: r.told(), Parameters: parameters(&r.Rule), InForce: c.force(ctx, &r.Rule), Signals: []SignalOf{}, Tests: []quality.Tested{}}
	for i := range c.Sources {
		for _, name := range c.Sources[i].signals() {
			if ok, _ := fits(r.Signal, name); ok {
				s.Signals = append(s.Signals, SignalOf{name, c.Sources[i].ID()})
			}
		}
	}
	file := strings.TrimSuffix(r.File, ".yaml") + testSuffix
	if _, err := os.Stat(file); err != nil {
		return s, nil //nolint:nilerr // there are no tests of it
	}
	tests, err := testsOf(file)
	if err != nil {
		return s, err
	}
	for _, t := range tests.Run() {
		if ok, _ := fits(r.Signal, t.Signal); ok || slices.Contains(t.Rules, id) {
			s.Tests = append(s.Tests, t)
		}
	}
	return s, nil
}

func noRule(all []placedRule, id string) error {
	var ids []string
	for i := range all {
		ids = append(ids, all[i].ID)
	}
	err := fmt.Errorf("%w: no file of rules.d has %q", ErrNoRule, id)
	if near := strict.Nearest(id, ids); near != "" {
		err = fmt.Errorf("%w; did you mean %s?", err, near)
	}
	return err
}

// parameters are what a rule is told, in words.
func parameters(r *quality.Rule) (out []string) {
	switch r.Kind {
	case "range":
		if r.Min != nil {
			out = append(out, fmt.Sprintf("min: at least %g, in the signal's unit", *r.Min))
		}
		if r.Max != nil {
			out = append(out, fmt.Sprintf("max: at most %g, in the signal's unit", *r.Max))
		}
	case "enumeration":
		out = append(out, fmt.Sprintf("values: one of these %d whole numbers: %s", len(r.Values), strings.Trim(strings.ReplaceAll(fmt.Sprint(r.Values), " ", ", "), "[]")))
	case "stale":
		out = append(out, fmt.Sprintf("max_silence: after more than %s without a sample the next one is marked", time.Duration(r.MaxSilence)))
	case "backwards":
		out = append(out,
			"a counter never falls, but for a wrap of 32 bits or a reset to 0",
			fmt.Sprintf("max_step: a rise of more than %d between two samples is no wrap", r.MaxStep))
	}
	return out
}

// force asks the running agent whether it judges by a rule.
func (c *Config) force(ctx context.Context, r *quality.Rule) Force {
	if c.Status == "" {
		return Force{"not_known", "edge.yaml names no data folder yet: the agent takes the rule when it starts"}
	}
	if _, err := Status(ctx, *c); err != nil {
		return Force{"not_known", "no agent answers here: one takes the rule as it stands in the file when it starts"}
	}
	got, err := status.AskRules(ctx, c.Status)
	if err != nil {
		return Force{"not_known", "the agent that runs does not say by which rules it judges: " + err.Error()}
	}
	rules, err := quality.Open(mesh.Descriptor{Kind: mesh.DescribeRules, Content: got.Content})
	if err != nil {
		return Force{"not_known", err.Error()}
	}
	for _, x := range rules.All() {
		switch {
		case x.ID != r.ID:
		case reflect.DeepEqual(x.Rule, *r):
			return Force{"as_here", fmt.Sprintf("the running agent judges by it as it stands here (rule set revision %d)", rules.Revision())}
		default:
			l := look(x.Rule, nil)
			return Force{"otherwise", fmt.Sprintf("the running agent judges by another wording of it: %s of %s, %s, %s; it takes the file when it starts anew", x.Kind, x.Signal, l.Says, l.Does)}
		}
	}
	return Force{"not_yet", "the running agent has no such rule: it takes the file when it starts anew"}
}
