package revision

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

func TestFiles_Check(t *testing.T) {
	many := Files{}
	for i := range MaxFiles + 1 {
		many[fmt.Sprintf("rules.d/r%d.yaml", i)] = ""
	}
	for name, f := range map[string]Files{
		"one too many":   many,
		"too much":       {"sources.d/a.yaml": strings.Repeat("a", MaxBytes), "sources.d/b.yaml": "b"},
		"no text":        {"sources.d/a.yaml": "\xff"},
		"a zero byte":    {"sources.d/a.yaml": "a\x00"},
		"edge.yaml":      {"edge.yaml": ""},
		"another folder": {"pki/a.yaml": ""},
		"up":             {"sources.d/../edge.yaml": ""},
		"dots":           {"sources.d/..yaml": ""},
		"a folder":       {"sources.d/a/b.yaml": ""},
		"absolute":       {"/sources.d/a.yaml": ""},
		"hidden":         {"sources.d/.a.yaml": ""},
		"another ending": {"sources.d/a.yml": ""},
		"a line break":   {"sources.d/a\n.yaml": ""},
		"a backslash":    {`sources.d\a.yaml`: "", "sources.d/..\\a.yaml": ""},
		"a long name":    {"sources.d/" + strings.Repeat("a", 200) + ".yaml": ""},
	} {
		if err := f.Check(); !errors.Is(err, ErrRevision) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, f := range []Files{nil, {}, {"sources.d/filler-01.yaml": "opcua: {}\n", "rules.d/a.b_C.yaml": "ü"}} {
		if err := f.Check(); err != nil {
			t.Errorf("%v: %v", f, err)
		}
	}
}

// The sum is a contract: hubs and agents of different ages reckon it alike.
func TestFiles_SumIsGolden(t *testing.T) {
	const want = "8736554bcdfb0e96641c310952aac5a680a6f278072f68027b41b006c3597877" // reckoned in Python
	a := Files{"sources.d/a.yaml": "b", "rules.d/a.yaml": "c"}
	if got := (Files{}).Sum(); got != "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855" {
		t.Errorf("of nothing: %s", got)
	}
	if got := a.Sum(); got != want {
		t.Errorf("%s, want %s", got, want)
	}
	for _, other := range []Files{{"sources.d/a.yaml": "c", "rules.d/a.yaml": "b"}, {"sources.d/a.yamlb": "", "rules.d/a.yaml": "c"}, {"sources.d/a.yaml": "b"}} {
		if other.Sum() == a.Sum() {
			t.Errorf("%v has the sum of another", other)
		}
	}
}

func whole(n uint64, f Files) *Revision {
	return &Revision{Ref: Ref{Number: n, Sum: f.Sum()}, At: time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC), By: "anna", Files: f}
}

func TestAnswer_ComesBack(t *testing.T) {
	f := Files{"sources.d/a.yaml": strings.Repeat("\x01<", MaxBytes/2)} // six bytes of JSON each
	r := whole(7, f)
	b, err := Answer{Desired: r.Ref, Revision: r}.Encode()
	if err != nil {
		t.Fatal(err)
	}
	got, err := ReadAnswer(b)
	if err != nil || got.Desired != r.Ref || got.Revision.Files.Sum() != r.Sum || got.Revision.By != "anna" {
		t.Errorf("%v, %+v", err, got.Desired)
	}
	if b, err = (Answer{}).Encode(); err != nil {
		t.Fatal(err)
	}
	if got, err = ReadAnswer(b); err != nil || !got.Desired.IsZero() || got.Revision != nil {
		t.Errorf("%+v, %v", got, err)
	}
}

// What is not whole, not bounded or not what its sum says is taken by nobody.
func TestReadAnswer_RefusesWhatIsNone(t *testing.T) {
	good := whole(7, Files{"sources.d/a.yaml": "a"})
	pack := func(v any) []byte {
		b, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		w := gzip.NewWriter(&out)
		_, _ = w.Write(b)
		_ = w.Close()
		return out.Bytes()
	}
	other, up, long := *good, *whole(7, Files{"sources.d/../../a.yaml": "a"}), *good
	other.Files = Files{"sources.d/a.yaml": "b"}
	long.Note = strings.Repeat("n", MaxText+1)
	whole := pack(Answer{Desired: good.Ref, Revision: good})
	for name, b := range map[string][]byte{
		"nothing": nil, "no gzip": []byte("{}"), "half": whole[:len(whole)/2], "another sum": pack(Answer{Desired: good.Ref, Revision: &other}),
		"another number": pack(Answer{Desired: Ref{8, good.Sum}, Revision: good}), "a way up": pack(Answer{Desired: up.Ref, Revision: &up}),
		"a long note": pack(Answer{Desired: good.Ref, Revision: &long}), "a bomb": pack(strings.Repeat("a", maxAnswer+1)), "no object": pack([]int{1}),
	} {
		if a, err := ReadAnswer(b); !errors.Is(err, ErrRevision) || a.Revision != nil {
			t.Errorf("%s: %+v, %v", name, a, err)
		}
	}
}

func FuzzReadAnswer(f *testing.F) {
	r := whole(7, Files{"sources.d/a.yaml": "a"})
	b, err := Answer{Desired: r.Ref, Revision: r}.Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		if a, err := ReadAnswer(b); err == nil && a.Revision != nil && a.Revision.Check() != nil {
			t.Errorf("%+v", a)
		}
	})
}

func TestSync(t *testing.T) {
	old, is := Ref{6, "a"}, Ref{7, "b"}
	for name, c := range map[string]struct {
		newest   Ref
		reported *Reported
		want     State
	}{
		"none at all":       {Ref{}, nil, ""},
		"its own":           {Ref{}, &Reported{State: Current}, ""},
		"nothing said":      {is, nil, Pending},
		"there":             {is, &Reported{Ref: is, Desired: 7, State: Current}, InSync},
		"not heard of":      {is, &Reported{Ref: old, Desired: 6, State: Current}, Pending},
		"of another hub":    {is, &Reported{Ref: Ref{7, "z"}, Desired: 7, State: Current}, Pending},
		"on trial":          {is, &Reported{Ref: is, Desired: 7, State: Trial}, Trial},
		"taken back":        {is, &Reported{Ref: old, Desired: 7, State: Reverted}, Reverted},
		"the one before is": {is, &Reported{Ref: old, Desired: 6, State: Reverted}, Pending},
		"not readable":      {is, &Reported{Ref: old, Desired: 7, State: Rejected}, Rejected},
		"drifted":           {is, &Reported{Ref: is, Desired: 7, State: Drift}, Drift},
		"held":              {is, &Reported{Ref: old, Desired: 7, State: Held, Hold: &Hold{Reason: "shift"}}, Held},
		"none any more":     {Ref{}, &Reported{Ref: old, Desired: 6, State: Current}, Pending},
	} {
		if got := Sync(c.newest, c.reported); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}

func TestDiff(t *testing.T) {
	was := Files{"sources.d/a.yaml": "one\ntwo\nthree\nfour\n", "sources.d/gone.yaml": "x\n", "sources.d/same.yaml": "s"}
	is := Files{"sources.d/a.yaml": "one\n2\nthree\nfour\nfive\n", "rules.d/new.yaml": "y", "sources.d/same.yaml": "s"}
	var out strings.Builder
	for _, c := range Diff(was, is) {
		fmt.Fprintf(&out, "%s %s\n%s", c.Name, c.What, c.Text)
	}
	const want = "rules.d/new.yaml added\n@@ line 1\n+y\nsources.d/a.yaml changed\n@@ line 2\n-two\n+2\n@@ line 5\n+five\nsources.d/gone.yaml removed\n@@ line 1\n-x\n"
	if out.String() != want {
		t.Errorf("%s", out.String())
	}
	huge := Diff(Files{"rules.d/a.yaml": strings.Repeat("a\n", 100_000)}, Files{"rules.d/a.yaml": strings.Repeat("b\n", 100_000)})
	if len(huge) != 1 || huge[0].Text != "@@ from line 1: 100000 lines become 100000\n" {
		t.Errorf("%.100v", huge)
	}
}

func TestReported_BoundedIsTaken(t *testing.T) {
	r := Reported{Ref: Ref{7, strings.Repeat("a", 64)}, State: Drift, Why: strings.Repeat("ü\x1b\n", 1000), Hold: &Hold{Reason: strings.Repeat("h ", 1000)}}
	for i := range 20 {
		r.Drift = append(r.Drift, fmt.Sprintf("sources.d/a%d.yaml", i))
	}
	if r.Check() == nil {
		t.Error("more than fits is taken")
	}
	if b := r.Bounded(); b.Check() != nil || len(b.Why) > MaxText || strings.ContainsAny(b.Why, "\x1b\n") {
		t.Errorf("%+v, %v", b, b.Check())
	}
	for _, bad := range []Reported{{State: "fine"}, {State: Current, Why: "\x1b[2J"}, {State: Current, Drift: []string{"a\nb"}}} {
		if !errors.Is(bad.Check(), ErrRevision) {
			t.Errorf("%+v is taken", bad)
		}
	}
}
