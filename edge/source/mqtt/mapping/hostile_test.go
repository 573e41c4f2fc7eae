package mapping

import (
	"fmt"
	"strings"
	"testing"
)

// A broker may send a message once for each filter that it falls under.
func TestMapper_NoTopicFallsUnderTwoFilters(t *testing.T) {
	for _, c := range []struct{ filters, heartbeat, want string }{
		{"a/b/c a/+/c", "", "a/+/c"},
		{"a/+/c a/b/c a/b/d", "", "a/+/c a/b/d"},
		{"a/+/c +/b/c", "", "+/+/c"},
		{"a/b/c x/y a/#", "", "x/y a/#"},
		{"a a/#", "", "a/#"},
		{"a/b/c a/b", "", "a/b/c a/b"},
		{"a/+ +/b/#", "", "+/+/#"},
		{"a/b c/d +/+", "a/b", "+/+"},
		{"a/+/x a/b/+", "a/b/y", "a/+/+"},
		{"# $SYS/broker/load", "", "# $SYS/broker/load"},
		{"$SYS/+/load $SYS/broker/load", "", "$SYS/+/load"},
		{"x/+", "beat", "x/+ beat"},
	} {
		var b strings.Builder
		b.WriteString("topics:\n")
		for i, f := range strings.Fields(c.filters) {
			fmt.Fprintf(&b, "  - {filter: %q, signal: \"t%d.{key}\"}\n", f, i)
		}
		fmt.Fprintf(&b, "heartbeat: {topic: %q}\nsignals: [{name: x, type: int}]\n", c.heartbeat)
		if got := strings.Join(mapper(t, b.String()).Filters(), " "); got != c.want {
			t.Errorf("%s: filters %s, want %s", c.filters, got, c.want)
		}
	}
	if _, err := configured("topics: [{filter: $share/g/a/+, signal: \"{key}\"}]\nsignals: [{name: x, type: int}]\n"); err == nil || !strings.Contains(err.Error(), "shared subscription") {
		t.Errorf("a shared subscription: %v", err)
	}
}

// Names of values are looked at once for each value: long ones around many values must
// not be copied for each.
func TestMapper_LongKeysAroundManyValues(t *testing.T) {
	long := strings.Repeat("k", 60<<10)
	values := strings.Repeat(`{"v":1},`, 4000) + `{"v":1}`
	for name, c := range map[string]struct{ config, payload string }{
		"path": {
			"topics: [{filter: t, signal: \"{path}\"}]\nsignals: [{name: \"{path}\", type: int}]\n",
			strings.Repeat(`{"`+long+`":`, 10) + `[` + values + `]` + strings.Repeat("}", 10),
		},
		"key of the message": {
			"topics: [{filter: t, signal: \"{key}.{index}\", value: \"a[*].v\", key: name}]\nsignals: [{name: \"{k}.{i}\", type: int}]\n",
			`{"name":"` + strings.Repeat(long, 10) + `","a":[` + values + `]}`,
		},
	} {
		m := mapper(t, c.config)
		if got := told(m, "t", c.payload); !strings.Contains(got, errLongName.Error()) {
			t.Errorf("%s: %.200s", name, got)
		}
		if n := cap(m.filled); n > 4*maxRemembered {
			t.Errorf("%s: %d bytes were copied for each value", name, n)
		}
	}
}

// The message is made into what expressions take once, not once for each value.
func TestFormula_TheMessageIsMadeOnce(t *testing.T) {
	m := mapper(t, "topics: [{filter: t, signal: \"{key}\"}]\nsignals: [{name: \"{k}\", type: int, expr: value + message.k0}]\n")
	var b strings.Builder
	const n = 1000
	for i := range n {
		fmt.Fprintf(&b, `,"k%d":%d`, i, i)
	}
	payload := "{" + b.String()[1:] + "}"
	if got := testing.AllocsPerRun(1, func() { told(m, "t", payload) }); got > 100*n {
		t.Errorf("%.0f allocations for %d values", got, n)
	}
}

// Payloads that are one value have a message and a condition, too, also between others.
func TestMapper_PlainPayloadsBesideOthers(t *testing.T) {
	const config = `
topics:
  - {filter: "p/{m}", signal: "{m}.{key}"}
  - {filter: "p/{m}", signal: "{m}.whole", payload: plain, when: 'message != "test"'}
  - {filter: "p/{m}", signal: "{m}.bb", value: b}
signals:
  - {name: a.whole, type: double, expr: 'message == "" ? 0 : value'}
  - {name: a.bb, type: int}
  - {name: a.c, type: int}
`
	if got := told(mapper(t, config), "p/a", "  {\"c\":1,\"d\":2,\"b\":23}"); !strings.HasPrefix(got, "a.c=1; a.whole=!80740000; a.bb=23;") {
		t.Errorf("it says %s", got)
	}
	m := mapper(t, "topics: [{filter: p, signal: x, payload: plain, when: 'message != \"test\"'}]\nsignals: [{name: x, type: string, expr: 'upper(message)'}]\n")
	for payload, want := range map[string]string{"test": "", "run": "x=RUN"} {
		if got := told(m, "p", payload); got != want {
			t.Errorf("%s: %s, want %s", payload, got, want)
		}
	}
}
