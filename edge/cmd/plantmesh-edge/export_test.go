package main

import (
	"bufio"
	"context"
	"encoding/xml"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"plantmesh/edge/agent"
	"plantmesh/edge/quality"
	"plantmesh/proto/strict"
)

// A file is there whole or not at all, whatever ends the writing, and never over another.
func TestWhole_LeavesNoHalfFile(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "kept.csv")
	left := func() (names []string) {
		all, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range all {
			names = append(names, e.Name())
		}
		return names
	}
	half := func(err error, keep bool) func(io.Writer) (bool, error) {
		return func(to io.Writer) (bool, error) {
			if _, err := io.WriteString(to, "half"); err != nil {
				t.Error(err)
			}
			if got := left(); len(got) != 1 || !strings.HasSuffix(got[0], ".part") || !strings.HasPrefix(got[0], ".") {
				t.Errorf("while it is written there are %q", got)
			}
			return keep, err
		}
	}
	if kept, err := whole(file, half(context.Canceled, true)); kept || !errors.Is(err, context.Canceled) || len(left()) != 0 {
		t.Errorf("broken off: %v, %v, %q", kept, err, left())
	}
	if kept, err := whole(file, half(nil, false)); kept || err != nil || len(left()) != 0 {
		t.Errorf("nothing to keep: %v, %v, %q", kept, err, left())
	}
	wrong := &fs.PathError{Op: "write", Path: file, Err: errors.New("read-only file system")}
	if _, err := whole(file, half(wrong, true)); err == nil || len(left()) != 0 {
		t.Errorf("it can't be written: %v, %q", err, left())
	} else if f, ok := errors.AsType[*strict.Fault](err); !ok || f.File != file {
		t.Errorf("it can't be written: %v", err)
	}
	if _, err := whole(file, half(&fs.PathError{Op: "write", Path: "x", Err: syscall.ENOSPC}, true)); !errors.Is(err, syscall.ENOSPC) || !strings.Contains(err.Error(), file) || len(left()) != 0 {
		t.Errorf("a full disk: %v, %q", err, left())
	}
	if kept, err := whole(file, half(nil, true)); !kept || err != nil || len(left()) != 1 || left()[0] != "kept.csv" {
		t.Fatalf("%v, %v, %q", kept, err, left())
	}
	if _, err := whole(file, func(io.Writer) (bool, error) { t.Error("it is written over"); return true, nil }); !errors.Is(err, errExists) {
		t.Error(err)
	}
	other := filepath.Join(dir, "other")
	_, err := whole(other, func(io.Writer) (bool, error) { // somebody is faster
		return true, os.WriteFile(other, []byte("theirs"), 0o600)
	})
	if b, _ := os.ReadFile(other); !errors.Is(err, errExists) || string(b) != "theirs" || len(left()) != 2 {
		t.Errorf("%v, %q, %q", err, b, left())
	}
}

// What buffer export wrote as lines is told from records, however short.
func TestDump_KnowsLines(t *testing.T) {
	for text, want := range map[string]bool{
		"": false, "PM": false, "{\"time\":\"2026-03-01T06:00:00Z\"}\n": true, "{\"frame\":\"record\"}": false, "time,source,signal,type\n": true, "time,source": false,
	} {
		if got := lines(bufio.NewReader(strings.NewReader(text))); got != want {
			t.Errorf("%q: %v", text, got)
		}
	}
}

func TestWindow_OfFlags(t *testing.T) {
	const a, b = "2026-03-01T06:00:00Z", "2026-03-01T07:00:00Z"
	for _, c := range []struct {
		w      windowFlags
		needed bool
		ok     bool
	}{
		{windowFlags{}, false, true},
		{windowFlags{}, true, false},
		{windowFlags{To: b}, false, true},
		{windowFlags{To: b}, true, false},
		{windowFlags{From: a, To: b}, true, true},
		{windowFlags{From: b, To: a}, false, false},
		{windowFlags{From: a, To: a}, false, false},
		{windowFlags{Last: 1e9}, true, true},
		{windowFlags{Last: -1}, false, false},
		{windowFlags{Last: 1e9, From: a}, false, false},
		{windowFlags{Last: 1e9, To: b}, false, false},
		{windowFlags{From: "yesterday"}, false, false},
		{windowFlags{From: a, To: "2026-03-01"}, false, false},
	} {
		w := c.w
		if err := w.check(c.needed); (err == nil) != c.ok || c.w.Last > 0 && err == nil && w.From == "" {
			t.Errorf("%+v, needed %v: %v, %+v", c.w, c.needed, err, w)
		}
	}
}

// A CI server reads how tests went, whatever stands in their names.
func TestJUnit_IsWhatACIServerReads(t *testing.T) {
	var out strings.Builder
	err := junit(&out, []agent.RulesTested{{File: "/etc/p/rules.d/r_test.yaml", Tests: []quality.Tested{
		{Name: "hot & <cold>\x01", Signal: "l.m.t", File: "/etc/p/rules.d/r_test.yaml", Line: 2, Passed: true},
		{Name: "b", Signal: "l.m.t", Line: 9, Wrong: []string{"one \"thing\"", "another"}},
	}}, {File: "/etc/p/rules.d/s_test.yaml", Tests: []quality.Tested{}}})
	if err != nil {
		t.Fatal(err)
	}
	var got junitSuites
	if err := xml.Unmarshal([]byte(out.String()), &got); err != nil {
		t.Fatalf("%v in\n%s", err, out.String())
	}
	if got.Tests != 2 || got.Failures != 1 || len(got.Suites) != 2 || got.Suites[0].Name != "rules.d/r_test.yaml" || got.Suites[0].Failures != 1 || got.Suites[1].Tests != 0 {
		t.Errorf("%+v", got)
	}
	ok, wrong := got.Suites[0].Cases[0], got.Suites[0].Cases[1]
	if ok.Failure != nil || ok.Name != "hot & <cold>\uFFFD" || ok.Class != "l.m.t" || ok.Line != 2 {
		t.Errorf("%+v", ok)
	}
	if wrong.Failure == nil || wrong.Failure.Message != `one "thing"` || !strings.Contains(wrong.Failure.Text, "another") || wrong.Failure.Type != "rules.test_failed" {
		t.Errorf("%+v", wrong)
	}
}
