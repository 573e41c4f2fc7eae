package main

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/alecthomas/kong"

	"plantmesh/proto/answer"
)

// Where a package is installed nobody has to say where its configuration is.
func TestConfigured_IsThePackages(t *testing.T) {
	none, bare, whole := filepath.Join(t.TempDir(), "none"), t.TempDir(), t.TempDir()
	if err := os.WriteFile(filepath.Join(whole, "edge.yaml"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		etc, line, want string
		missing         bool
	}{
		{none, "status", "", true},
		{none, "browse opc.tcp://press", "", false},
		{bare, "status", "edge.yaml", false}, // which then says that it isn't there
		{bare, "init", "edge.yaml", false},
		{bare, "browse opc.tcp://press", "", false},
		{whole, "status", "edge.yaml", false},
		{whole, "cert list", "edge.yaml", false},
		{whole, "browse opc.tcp://press", "edge.yaml", false},
		{whole, "status -c /x/other.yaml", "/x/other.yaml", false},
		{whole, "version", "", false},
	} {
		parser, err := kong.New(new(cli), kong.Name("plantmesh-edge"), kong.Resolvers(configured(c.etc)))
		if err != nil {
			t.Fatal(err)
		}
		k, err := parser.Parse(strings.Fields(c.line))
		if c.missing != (err != nil) {
			t.Errorf("%s with %s: %v", c.line, c.etc, err)
		}
		if err != nil {
			continue
		}
		want := c.want
		if want == "edge.yaml" {
			want = filepath.Join(c.etc, want)
		}
		if got := configOf(k); got != want {
			t.Errorf("%s with %s: %q, want %q", c.line, c.etc, got, want)
		}
	}
}

// What --timeout ends is told as that, and nothing else is.
func TestGlobals_Late(t *testing.T) {
	failed := errors.New("it failed")
	g := globals{Timeout: time.Nanosecond}
	within, cancel, err := g.bounds(t.Context(), "status")
	if err != nil {
		t.Fatal(err)
	}
	defer cancel()
	<-within.Done()
	if e, ok := errors.AsType[*answer.Error](g.late(within, failed)); !ok || e.Code != answer.Waited || !strings.Contains(e.Message, "it failed") {
		t.Errorf("%v", e)
	}
	if err := g.late(within, nil); err != nil {
		t.Errorf("what went well is late: %v", err)
	}
	ended, end := context.WithCancel(t.Context())
	end()
	if err := g.late(ended, failed); !errors.Is(err, failed) {
		t.Errorf("what somebody ended is late: %v", err)
	}
	if check, cancel, err := g.bounds(t.Context(), "check"); err != nil || check.Err() != nil {
		t.Errorf("a check is ended with what it has found: %v, %v", err, check.Err())
	} else {
		cancel()
	}
}

// Steps are said to who asks for them.
func TestSteps_Verbose(t *testing.T) {
	var said bytes.Buffer
	p := &answer.Printer{Err: &said}
	steps(p).Warn("a step")
	if said.Len() > 0 {
		t.Errorf("%s", said.String())
	}
	p.Verbose = true
	steps(p).Debug("a step")
	if !strings.Contains(said.String(), "a step") {
		t.Errorf("%q", said.String())
	}
}
