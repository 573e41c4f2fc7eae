package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
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

// What is stuck in a read ends all the same, once it has had its time; what holds something
// is waited for.
func TestEnded_WhatIsStuck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		never := make(chan struct{})
		within, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		began := time.Now()
		err := ended(within, "dump", func(...any) error { <-never; return nil })
		if took := time.Since(began); !errors.Is(err, context.DeadlineExceeded) || took != time.Second+endsWithin {
			t.Errorf("%v after %s", err, took)
		}
		own := errors.New("taken back")
		if err := ended(within, "buffer export", func(...any) error { <-within.Done(); return own }); !errors.Is(err, own) {
			t.Error(err)
		}
		if err := ended(within, "run", func(...any) error { <-time.After(time.Minute); return own }); !errors.Is(err, own) {
			t.Error(err)
		}
		close(never)
	})
}

// A file without an end is refused as too large wherever one is named.
func TestFiles_WithoutAnEnd(t *testing.T) {
	if _, err := os.Stat("/dev/zero"); err != nil {
		t.Skip("not of this system")
	}
	dir := t.TempDir()
	config := filepath.Join(dir, "edge.yaml")
	if err := os.WriteFile(config, []byte("agent: gw-1\nsite: graz\ndata: data\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	zero := filepath.Join(dir, "press_test.yaml")
	if err := errors.Join(os.Symlink("/dev/zero", zero), os.Symlink("/dev/zero", filepath.Join(dir, "press.yaml"))); err != nil {
		t.Fatal(err)
	}
	p := &answer.Printer{Program: "plantmesh-edge", Out: io.Discard, Err: io.Discard}
	for name, err := range map[string]error{
		"init":       (&initCmd{From: "/dev/zero", Config: filepath.Join(dir, "new.yaml")}).Run(p),
		"rules test": (&rulesTestCmd{Config: config, Files: []string{zero}}).Run(p),
	} {
		if err == nil || !strings.Contains(err.Error(), "not a configuration file") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
