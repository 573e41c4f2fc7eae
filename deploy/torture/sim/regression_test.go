package sim

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
)

// readPlans reads schedules as String writes them, each with a comment before.
func readPlans(t *testing.T, name string) (plans []plan, what []string) {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	why := ""
	for line := range strings.Lines(string(b)) {
		line = strings.TrimSpace(line)
		if words, ok := strings.CutPrefix(line, "# "); ok {
			why = words
			continue
		}
		if line == "" {
			continue
		}
		var p plan
		if _, err := fmt.Sscanf(line, planLine, &p.small, &p.drops, &p.keep, &p.harm); err == nil {
			plans, what = append(plans, p), append(what, why)
			continue
		}
		word, n, err := parseEvent(line)
		if err != nil || len(plans) == 0 {
			t.Fatalf("%s: %q is no event: %v", name, line, err)
		}
		last := &plans[len(plans)-1]
		last.events = append(last.events, event{word, n})
	}
	return plans, what
}

func parseEvent(line string) (o op, n uint64, err error) {
	i := strings.LastIndexByte(line, ' ')
	if i < 0 {
		return 0, 0, strconv.ErrSyntax
	}
	for o = range ops {
		if o.String() == line[:i] {
			n, err = strconv.ParseUint(line[i+1:], 16, 64)
			return o, n, err
		}
	}
	return 0, 0, strconv.ErrSyntax
}

// TestSimulate_Regressions replays what once went wrong.
func TestSimulate_Regressions(t *testing.T) {
	k := newKit(t)
	plans, what := readPlans(t, "testdata/regressions.txt")
	for i, p := range plans {
		if v, _ := play(t.Context(), k, p, intact, nil); !v.ok() {
			t.Errorf("%s: %s\n%s", what[i], v.kind(), tale(t.Context(), k, p, intact))
		}
	}
}
