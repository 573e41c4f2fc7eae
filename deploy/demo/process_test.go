package demo

import (
	"bytes"
	"context"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestChild_WhyTellsErrorsAlone(t *testing.T) {
	for name, c := range map[string]struct {
		script string
		want   []string
	}{
		"killed from outside": {`echo 'time=1 level=INFO msg="hub is up"' >&2; kill -9 $$`, []string{"signal: killed"}},
		"after an error":      {`echo 'time=1 level=ERROR msg="disk is full"' >&2; echo 'time=2 level=WARN msg=x' >&2; echo 'plantmesh: no space [internal]' >&2; exit 1`, []string{"disk is full", "no space [internal]", "exit status 1"}},
	} {
		t.Run(name, func(t *testing.T) {
			h := &child{name: "hub", path: "/bin/sh", args: []string{"-c", c.script}, dir: t.TempDir()}
			if err := h.start(t.Context()); err != nil {
				t.Fatal(err)
			}
			<-h.ended()
			got := h.why()
			for _, w := range append(c.want, "the hub", filepath.Join(h.dir, "hub.log")) {
				if !strings.Contains(got, w) {
					t.Errorf("%q does not say %q", got, w)
				}
			}
			if strings.Contains(got, "level=INFO") || strings.Contains(got, "level=WARN") {
				t.Errorf("%q tells what is no error", got)
			}
		})
	}
}

func TestAwait_SaysWhatItWaitsFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		runs := func() *child { return &child{done: make(chan struct{})} }
		var said bytes.Buffer
		d := &demo{err: &said, hub: runs(), sim: runs(), edge: runs()}
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Second)
		defer cancel()
		if d.await(ctx, nil, 0, "the plant to stand still") == nil {
			t.Fatal("it stands")
		}
		if got := strings.Count(said.String(), "waiting for the plant to stand still\n"); got != 3 {
			t.Errorf("said %d times in 50 s what it waits for:\n%s", got, said.String())
		}
	})
}
