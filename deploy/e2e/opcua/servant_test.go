package opcua

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"sync"
	"testing"
	"time"

	"plantmesh/deploy/e2e/nodejs"
)

// modules is the folder with node-opcua of testdata/package-lock.json, 71 MB.
var modules = sync.OnceValues(func() (string, error) { return nodejs.Modules(context.Background(), "testdata", "node-opcua-2.182.2") })

// script is a server in JavaScript.
func script(t *testing.T, path string) *exec.Cmd {
	t.Helper()
	where, err := modules()
	if err != nil {
		lacking(t, err.Error())
	}
	cmd := exec.Command("node", path)
	cmd.Env = append(os.Environ(), "NODE_PATH="+where)
	return cmd
}

// servant is a process that takes orders: a line of JSON each, and a line behind ">"
// for an answer, with "error" where it can't.
type servant struct {
	t *testing.T

	mu    sync.Mutex // one order at a time
	cmd   *exec.Cmd
	in    io.WriteCloser
	lines chan []byte
}

// run starts the process; the test's end ends it.
func (s *servant) run(cmd *exec.Cmd) {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	own(cmd)
	in, err := cmd.StdinPipe()
	if err != nil {
		s.t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		s.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	lines := make(chan []byte, 1)
	s.cmd, s.in, s.lines = cmd, in, lines
	go func() {
		defer close(lines)
		for r := bufio.NewScanner(out); r.Scan(); {
			if line, ok := bytes.CutPrefix(r.Bytes(), []byte(">")); ok {
				lines <- bytes.Clone(line)
			}
		}
	}()
	s.t.Cleanup(s.kill)
}

// ask gives one order and reads its answer, into nothing where that is nil.
func (s *servant) ask(order, into any) {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	b, err := json.Marshal(order)
	if err != nil {
		s.t.Fatal(err)
	}
	if _, err := s.in.Write(append(b, '\n')); err != nil {
		s.t.Fatalf("the server has ended: %v", err)
	}
	var line []byte
	select {
	case said, ok := <-s.lines:
		if !ok {
			s.t.Fatalf("the server ended at the order %s", b)
		}
		line = said
	case <-time.After(time.Minute):
		s.t.Fatalf("the server does not answer the order %s", b)
	}
	var failed struct {
		Error string `json:"error"`
	}
	if err := json.Unmarshal(line, &failed); err != nil || failed.Error != "" {
		s.t.Fatalf("order %s: %s%v", b, failed.Error, err)
	}
	if into == nil {
		return
	}
	if err := json.Unmarshal(line, into); err != nil {
		s.t.Fatalf("the server said %s: %v", line, err)
	}
}

// kill ends it without a word; one that has ended is well so.
func (s *servant) kill() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cmd == nil || s.cmd.Process == nil {
		return
	}
	_ = s.cmd.Process.Kill() // it may have ended
	for range s.lines {      // its pipe must be empty before Wait
	}
	_ = s.cmd.Wait() // killed
	s.cmd = nil
}
