package audit

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"
)

// appendTo is set for a process that a test has started: it appends there.
const appendTo = "PLANTMESH_TEST_AUDIT"

func TestMain(m *testing.M) {
	if dir := os.Getenv(appendTo); dir != "" {
		os.Exit(appends(dir))
	}
	os.Exit(m.Run())
}

// appends appends without end, or so many as it was told, and says each that is done.
func appends(dir string) int {
	trail, err := Open(dir, time.Now)
	if err != nil {
		_, _ = fmt.Fprintln(os.Stdout, err)
		return 1
	}
	trail.maxFile = 4000
	most, _ := strconv.Atoi(os.Getenv(appendTo + "_N"))
	for i := 0; most == 0 || i < most; i++ {
		s, err := trail.Append(Change{Who: strconv.Itoa(os.Getpid()), Via: CLI, Action: "agent.approve", Object: "graz/gw-" + strconv.Itoa(i)})
		if err != nil {
			_, _ = fmt.Fprintln(os.Stdout, err)
			return 1
		}
		_, _ = fmt.Fprintln(os.Stdout, s)
	}
	return 0
}

func started(t *testing.T, dir string, n int) (*exec.Cmd, *bytes.Buffer) {
	t.Helper()
	c := exec.CommandContext(t.Context(), os.Args[0])
	c.Env = append(os.Environ(), appendTo+"="+dir, appendTo+"_N="+strconv.Itoa(n))
	var out bytes.Buffer
	c.Stdout = &out
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	return c, &out
}

// A daemon and command lines beside it append to one chain.
func TestTrail_SeveralProcesses(t *testing.T) {
	dir := t.TempDir()
	const each = 60
	one, saidOne := started(t, dir, each)
	two, saidTwo := started(t, dir, each)
	own := opened(t, dir)
	own.maxFile = 4000
	for i := range each {
		add(t, own, approval(i))
	}
	if err := errors.Join(one.Wait(), two.Wait()); err != nil {
		t.Fatal(err, saidOne, saidTwo)
	}
	r, err := Verify(t.Context(), dir, nil)
	if err != nil || r.Seal.N != 3*each+1 || r.Torn != 0 || r.Files < 5 {
		t.Errorf("%+v, %v", r, err)
	}
}

// What Append has returned from is there, whenever the process is killed.
func TestTrail_Killed(t *testing.T) {
	dir := t.TempDir()
	for range 8 {
		c, said := started(t, dir, 0)
		until(t, func() bool { b := contents(t, dir); return len(b) > 3000 })
		if err := c.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = c.Wait() // it was killed
		lines := bytes.Split(bytes.TrimSpace(said.Bytes()), []byte("\n"))
		last, err := ParseSeal(string(lines[len(lines)-1]))
		if err != nil {
			t.Fatal(err, said)
		}
		if r, err := Verify(t.Context(), dir, &last); err != nil {
			t.Fatalf("%+v, %v", r, err)
		}
		add(t, opened(t, dir), approval(1))
		if r, err := Verify(t.Context(), dir, &last); err != nil || r.Torn != 0 {
			t.Fatalf("%+v, %v", r, err)
		}
		files, err := names(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range files { // so that each begins with few
			if err := os.Remove(filepath.Join(dir, name)); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func until(t *testing.T, is func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !is(); {
		if time.Now().After(end) {
			t.Fatal("it never happens")
		}
		<-time.After(time.Millisecond)
	}
}
