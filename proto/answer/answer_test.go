package answer

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"testing"

	"plantmesh/proto/strict"
)

var errAway = errors.New("nobody answers")

func TestPrinter_Fail(t *testing.T) {
	rules := []Rule{{Is: errAway, Code: NotRunning, Fix: Command("plantmesh-edge", "run", "--config", "my edge.yaml")}}
	for name, c := range map[string]struct {
		err       error
		code      int
		text, doc string
	}{
		"by a rule": {
			fmt.Errorf("ask: %w", errAway), 6,
			"x: ask: nobody answers [daemon.not_running]\nNext:  plantmesh-edge run --config 'my edge.yaml'\n",
			`{"ok":false,"schema":"x/agents-list/v1","error":{"code":"daemon.not_running","message":"ask: nobody answers","hint":"start the agent or the hub, or name the --config that it was started with","fix":"plantmesh-edge run --config 'my edge.yaml'","doc":"answers.md#daemon.not_running"}}`,
		},
		"in a file": {
			fmt.Errorf("load: %w", &strict.Fault{File: "a.yaml", Line: 3, What: `unknown key "sit"`, Nearest: "site", Allowed: []string{"data", "site"}}), 3,
			"x: a.yaml:3: unknown key \"sit\"; did you mean \"site\"? [config.unknown_key]\n",
			`{"ok":false,"schema":"x/agents-list/v1","error":{"code":"config.unknown_key","message":"a.yaml:3: unknown key \"sit\"","hint":"did you mean \"site\"?","doc":"answers.md#config.unknown_key"}}`,
		},
		"its own": {
			&Error{Code: Expired, Message: "the token expired", Hint: "enrol again"}, 5,
			"x: the token expired; enrol again [enroll.expired]\n",
			`{"ok":false,"schema":"x/agents-list/v1","error":{"code":"enroll.expired","message":"the token expired","hint":"enrol again","doc":"answers.md#enroll.expired"}}`,
		},
		"with what was found": {
			&Error{Code: SourceFindings, Message: "1 of 2", Data: []int{1}}, 7,
			"x: 1 of 2 [source.findings]\n",
			`{"ok":false,"schema":"x/agents-list/v1","data":[1],"error":{"code":"source.findings","message":"1 of 2","hint":"` + SourceFindings.entry().Helps + `","doc":"answers.md#source.findings"}}`,
		},
		"several, unforeseen": {
			errors.Join(errors.New("a"), errors.New("b")), 1,
			"x: a; b [internal]\n",
			`{"ok":false,"schema":"x/agents-list/v1","error":{"code":"internal","message":"a; b","hint":"` + Internal.entry().Helps + `","doc":"answers.md#internal","cause":["a","b"]}}`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			var out, said bytes.Buffer
			p := &Printer{Program: "x", Command: "agents list", Out: &out, Err: &said}
			if code := p.Fail(c.err, rules); code != c.code || said.String() != c.text || out.Len() > 0 {
				t.Errorf("exit code %d, stdout %q, stderr\n%s\nwant %d\n%s", code, out.String(), said.String(), c.code, c.text)
			}
			p.JSON = true
			if code := p.Fail(c.err, rules); code != c.code || out.String() != c.doc+"\n" {
				t.Errorf("exit code %d, stdout\n%s\nwant %d\n%s", code, out.String(), c.code, c.doc)
			}
		})
	}
}

func TestPrinter_Print(t *testing.T) {
	r := Result{Data: map[string]int{"n": 1}, Text: "one\n", Next: "two"}
	for _, c := range []struct {
		json      bool
		out, said string
	}{
		{false, "one\n", "Next:  two\n"},
		{true, `{"ok":true,"schema":"x/check/v1","data":{"n":1}}` + "\n", ""},
	} {
		var out, said bytes.Buffer
		p := &Printer{Program: "x", Command: "check", JSON: c.json, Out: &out, Err: &said}
		if err := errors.Join(p.Print(r), p.Done()); err != nil || out.String() != c.out || said.String() != c.said {
			t.Errorf("json %v: stdout %q, stderr %q, %v", c.json, out.String(), said.String(), err)
		}
	}
	var out bytes.Buffer
	p := &Printer{Program: "x", Command: "run", JSON: true, Out: &out}
	if err := p.Done(); err != nil || out.String() != `{"ok":true,"schema":"x/run/v1","data":{}}`+"\n" {
		t.Errorf("a command without a result: %q, %v", out.String(), err)
	}
}

func TestCodes_AreAContract(t *testing.T) {
	want := map[Code]int{
		"internal": 1, "usage": 2, "config.invalid": 3, "config.unknown_key": 3, "config.refused": 6, "net.unreachable": 4, "net.listen": 4, "net.in_use": 4,
		"enroll.rejected": 5, "enroll.expired": 5, "enroll.pending": 6, "wait.timeout": 8, "access.refused": 5, "access.no_users": 6, "daemon.not_running": 6, "daemon.not_allowed": 6, "interrupted": 8, "buffer.locked": 6, "data.unusable": 6, "file.exists": 6, "demo.mismatch": 7, "file.damaged": 7, "audit.broken": 7, "register.refused": 7, "opcua.cert_unknown": 5, "opcua.cert_not_renewed": 6, "opcua.cert_untrusted": 5, "opcua.own_cert_refused": 5, "opcua.user_denied": 5, "opcua.no_machine": 7, "source.findings": 7, "check.failed": 7, "data.lost": 7, "status.degraded": 7,
		"confirmation_required": 2, "quarantine.not_released": 6, "rules.test_failed": 7, "page.off": 6,
	}
	for _, e := range Codes() {
		if want[e.Code] != e.Exit || e.Code.Exit() != e.Exit || e.Says == "" || e.Helps == "" {
			t.Errorf("%+v, want exit code %d", e, want[e.Code])
		}
		delete(want, e.Code)
	}
	if len(want) > 0 {
		t.Errorf("slugs that were taken away: %v", want)
	}
}

// The document of the slugs is what the table says: PLANTMESH_UPDATE=1 writes it anew.
func TestDocument_IsOfTheTable(t *testing.T) {
	if os.Getenv("PLANTMESH_UPDATE") != "" {
		if err := os.WriteFile(Document, []byte(Written()), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if b, err := os.ReadFile(Document); err != nil || string(b) != Written() {
		t.Errorf("%s is not what the table says (%v)", Document, err)
	}
}

// What the library says of a flag without its value is said in words.
func TestMisused(t *testing.T) {
	for said, want := range map[string]string{
		`--trust: expected string value but got "EOL" (<EOL>)`: "--trust wants a value behind it",
		"unknown flag --frob": "unknown flag --frob",
	} {
		if e := Misused(errors.New(said), "plantmesh-edge"); e.Message != want || e.Code != Usage {
			t.Errorf("%q is said as %q", said, e.Message)
		}
	}
}
