package store

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"plantmesh/proto/mesh"
	"plantmesh/proto/wire"
)

const compactEnv = "PLANTMESH_TEST_STORE_COMPACT"

// TestCompact_Killed kills a process that takes and compacts as fast as it can:
// every sample it had reported is there, and none is there twice.
func TestCompact_Killed(t *testing.T) {
	if path := os.Getenv(compactEnv); path != "" {
		compactForEver(t, path)
		return
	}
	if testing.Short() {
		t.Skip("skipped: starts and kills processes")
	}
	path := filepath.Join(t.TempDir(), "hub.db")
	told := map[mesh.Nanos]bool{}
	for round := range 3 {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestCompact_Killed$")
		cmd.Env = append(os.Environ(), compactEnv+"="+path)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines, reported := bufio.NewScanner(out), 0
		for lines.Scan() {
			var at mesh.Nanos
			if _, err := fmt.Sscanf(lines.Text(), "taken %d", &at); err != nil {
				continue
			}
			told[at] = true
			if reported++; reported == 25+7*round {
				if err := cmd.Process.Kill(); err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := cmd.Wait(); err == nil {
			t.Fatal("the child ended by itself")
		}
	}
	s := openAt(t, path)
	for range 2 { // as the kill left it, and compacted again
		there := times(t, s)
		for at := range told {
			if there[at] != 1 {
				t.Errorf("the sample at %d was reported and is there %d times", at, there[at])
			}
		}
		for at, n := range there {
			if n != 1 {
				t.Errorf("the sample at %d is there %d times", at, n)
			}
		}
		end, err := s.Tip(t.Context(), 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Compact(t.Context(), Pass{Through: end}); err != nil {
			t.Fatal(err)
		}
	}
	(&scene{t: t, s: s}).mustHaveNothingElse()
}

// times are the event times of all samples, and how often each is there.
func times(t *testing.T, s *Store) map[mesh.Nanos]int {
	t.Helper()
	entries, err := s.History(t.Context(), "a", ever())
	if err != nil {
		t.Fatal(err)
	}
	dec, err := wire.NewDecoder()
	if err != nil {
		t.Fatal(err)
	}
	out := map[mesh.Nanos]int{}
	for i := range entries {
		b, err := dec.Batch(entries[i].Sealed)
		if err != nil {
			t.Fatal(err)
		}
		for _, x := range b.Samples {
			out[x.Time]++
		}
	}
	return out
}

// compactForEver takes one batch after another, each of a later half day, and
// compacts after every second one.
func compactForEver(t *testing.T, path string) {
	t.Helper()
	ctx := context.WithoutCancel(t.Context())
	s, err := Open(ctx, path, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	o := openLog(t, s)
	m := newMaker(t)
	if a := o.Accounts[agentLog]; a != nil {
		m.acc, m.at = a, a.Set.Through
	}
	at := noon
	for have := times(t, s); have[at] > 0; {
		at += mesh.Nanos(dayNanos / 2)
	}
	end := take(t, s, o.End, m, m.opening())
	for n := 0; ; n++ {
		end = take(t, s, end, m, m.batch("a", at))
		fmt.Printf("taken %d\n", at) //nolint:forbidigo // the parent process reads it
		if n%2 == 1 {
			if _, err := s.Compact(ctx, Pass{Through: end, Now: at}); err != nil {
				t.Fatal(err)
			}
		}
		at += mesh.Nanos(dayNanos / 2)
	}
}

const mergeEnv = "PLANTMESH_TEST_STORE_MERGE"

// TestMerge_Killed kills a process at each step of a merge: what was there before
// is there, and the next one merges it.
func TestMerge_Killed(t *testing.T) {
	if path := os.Getenv(mergeEnv); path != "" {
		mergeAndWait(t, path, os.Getenv(mergeEnv+"_AT"))
		return
	}
	if testing.Short() {
		t.Skip("skipped: starts and kills processes")
	}
	for _, at := range []string{"merge listed", "merge wrote", "merge verified", "merge renamed", "merged"} {
		sc := newScene(t, 1)
		sc.passes(fewPasses + 4)
		want := sc.snapshot(sc.someSpans())
		if err := sc.s.Close(); err != nil {
			t.Fatal(err)
		}
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestMerge_Killed$")
		cmd.Env = append(os.Environ(), mergeEnv+"="+sc.path, mergeEnv+"_AT="+at)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		there := false
		for lines := bufio.NewScanner(out); !there && lines.Scan(); {
			there = lines.Text() == "at "+at
		}
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		if err := cmd.Wait(); err == nil || !there {
			t.Fatalf("the child never came to %q", at)
		}
		sc.s = openAt(t, sc.path)
		sc.s.fewPasses = fewPasses
		sc.mustBe(want, "killed at "+at)
		sc.say("a", 1)
		want = sc.snapshot(want.spans)
		sc.compact(sc.end, 0)
		sc.mustHaveNothingBeside()
		sc.merge()
		sc.mustBe(want, "merged after it was killed at "+at)
		sc.mustHaveNothingBeside()
	}
}

// mergeAndWait merges, says when it comes to a step, and stays there.
func mergeAndWait(t *testing.T, path, at string) {
	t.Helper()
	s := openAt(t, path)
	s.fewPasses = fewPasses
	s.halt = func(stage string) error {
		if stage == at {
			fmt.Println("at " + at) //nolint:forbidigo // the parent process reads it
			select {}
		}
		return nil
	}
	for more := true; more; {
		done, err := s.Merge(t.Context(), noon+mesh.Nanos(3*dayNanos))
		if err != nil {
			t.Fatal(err)
		}
		more = done.More
	}
}
