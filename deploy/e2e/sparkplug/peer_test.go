// Package sparkplug puts the codecs of both sides, the simulated edge nodes and
// the agent's host against the codec and the edge node of Eclipse Tahu in
// JavaScript.
package sparkplug

import (
	"bufio"
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"plantmesh/deploy/e2e/nodejs"
)

// modules is the folder of testdata/package-lock.json, 42 MB.
var modules = sync.OnceValues(func() (string, error) {
	return nodejs.Modules(context.Background(), "testdata", "sparkplug-payload-1.0.3")
})

// peer is testdata/peer.js as a process.
type peer struct {
	t     *testing.T
	mu    sync.Mutex // one order at a time
	in    *bufio.Writer
	lines chan []byte
	rest  []heard      // the host heard it, and nobody looked at it yet
	said  bytes.Buffer // what it complained of; read once it ended
}

func newPeer(t *testing.T) *peer {
	t.Helper()
	where, err := modules()
	if err != nil {
		if slices.Contains(strings.Split(os.Getenv("PLANTMESH_REQUIRE"), ","), "interop") {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	script, err := filepath.Abs("testdata/peer.js")
	if err != nil {
		t.Fatal(err)
	}
	p := &peer{t: t, lines: make(chan []byte)}
	cmd := exec.Command("node", script)
	cmd.Env = append(os.Environ(), "NODE_PATH="+where)
	cmd.Stderr = &p.said
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p.in = bufio.NewWriter(in)
	go func() {
		defer close(p.lines)
		for r := bufio.NewReader(out); ; {
			line, err := r.ReadBytes('\n')
			if err != nil {
				return
			}
			if line, ok := bytes.CutPrefix(line, []byte(">")); ok {
				p.lines <- line
			}
		}
	}()
	t.Cleanup(func() {
		in.Close() // it ends then
		ended := time.AfterFunc(10*time.Second, func() { _ = cmd.Process.Kill() })
		for range p.lines { // nobody asked
		}
		if err := cmd.Wait(); err != nil {
			t.Errorf("the peer: %v", err)
		}
		ended.Stop()
		if t.Failed() {
			t.Logf("%s", p.said.Bytes())
		}
	})
	return p
}

// ask gives an order and reads its answer into something. failed is what the peer
// said it can't do.
func (p *peer) ask(order map[string]any, into any) (failed string) {
	p.t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	b, err := json.Marshal(order)
	if err != nil {
		p.t.Fatal(err)
	}
	p.in.Write(append(b, '\n'))
	if err := p.in.Flush(); err != nil {
		p.t.Fatalf("the peer has ended: %v", err)
	}
	var line []byte
	select {
	case said, ok := <-p.lines:
		if !ok {
			p.t.Fatalf("the peer ended at the order %.200s", b)
		}
		line = said
	case <-time.After(time.Minute):
		p.t.Fatalf("the peer does not answer the order %.200s", b)
	}
	var f struct {
		Error string `json:"error"`
	}
	if err := json.Unmarshal(line, &f); err != nil {
		p.t.Fatalf("the peer said %.200s: %v", line, err)
	}
	if f.Error == "" && into != nil {
		if err := json.Unmarshal(line, into); err != nil {
			p.t.Fatalf("the peer said %.200s: %v", line, err)
		}
	}
	return f.Error
}

func (p *peer) must(order map[string]any, into any) {
	p.t.Helper()
	if failed := p.ask(order, into); failed != "" {
		p.t.Fatalf("order %v: %s", order["do"], failed)
	}
}

// reads is what the peer makes of a payload.
func (p *peer) reads(b []byte) (m message, failed string) {
	p.t.Helper()
	failed = p.ask(map[string]any{"do": "decode", "bytes": hex.EncodeToString(b)}, &m)
	return m, failed
}

// writes is a payload of the peer.
func (p *peer) writes(m message) (b []byte, failed string) {
	p.t.Helper()
	var out struct {
		Bytes string `json:"bytes"`
	}
	failed = p.ask(map[string]any{"do": "encode", "payload": m}, &out)
	b, err := hex.DecodeString(out.Bytes)
	if err != nil {
		p.t.Fatal(err)
	}
	return b, failed
}

// heard is a message that the peer's host heard.
type heard struct {
	Topic string `json:"topic"`
	Bytes string `json:"bytes"`
}

func (h heard) payload(t *testing.T) []byte {
	t.Helper()
	b, err := hex.DecodeString(h.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// until waits for a message the host hears, and gives all up to it.
func (p *peer) until(what string, so func(heard) bool) (all []heard) {
	p.t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	late := time.After(20 * time.Second)
	for {
		if i := slices.IndexFunc(p.rest, so); i >= 0 {
			all, p.rest = append(all, p.rest[:i+1]...), p.rest[i+1:]
			return all
		}
		all = append(all, p.rest...)
		var got struct {
			Heard []heard `json:"heard"`
		}
		p.must(map[string]any{"do": "heard"}, &got)
		p.rest = got.Heard
		select {
		case <-tick.C:
		case <-late:
			for _, h := range all {
				p.t.Log(h)
			}
			p.t.Fatalf("never heard: %s", what)
		}
	}
}
