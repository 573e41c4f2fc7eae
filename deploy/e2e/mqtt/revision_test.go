package mqtt

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	simmqtt "plantmesh/firmware-sim/mqtt"
	"plantmesh/firmware-sim/plant"
)

// broker serves numbers that go on and on, each once, and knows which of them the agent
// said it has.
type broker struct {
	server simulator
	name   string
	from   uint64

	mu   sync.Mutex
	next uint64
	told map[uint64]int
}

// simulator serves a source.
type simulator interface {
	proving

	Run(ctx context.Context) error
	URL() string
	Push(e plant.Emission)
}

// proving says that all is said up to an instant, and how much nobody has received.
type proving interface {
	Prove(at time.Time)
	Waiting() int
}

// newBroker serves a source called so, with numbers from one on.
func newBroker(t *testing.T, name string, from uint64) *broker {
	t.Helper()
	b := &broker{name: name, from: from, next: from, told: map[uint64]int{}}
	signals := []plant.Signal{{Source: name, Name: name + ".filler.count", Type: plant.Int}}
	s, err := simmqtt.Serve(simmqtt.Config{Source: name, Listen: "127.0.0.1:0"}, signals, b.received, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	b.server = s
	b.runs(t)
	return b
}

func (b *broker) received(_ string, indexes []uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, i := range indexes {
		b.told[i]++
	}
}

// runs serves until the test ends.
func (b *broker) runs(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- b.server.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// says publishes numbers until ctx ends.
func (b *broker) says(ctx context.Context) {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case at := <-tick.C:
			b.mu.Lock()
			n := b.next
			b.next++
			b.mu.Unlock()
			b.server.Push(plant.Emission{Source: b.name, Index: n, Signal: b.name + ".filler.count", Time: at, Emitted: at, Value: plant.Value{Type: plant.Int, I: int64(n)}})
			b.server.Prove(at)
		}
	}
}

// yaml is the source's file, which calls url.
func (b *broker) yaml(url string) string {
	return fmt.Sprintf("mqtt:\n  id: %s\n  url: %s\n  window: {latency: 50ms}\n  topics:\n    - {filter: plant/%s/filler, signal: \"%s.{2}.{key}\", time: ts}\n"+
		"  heartbeat: {topic: plant/%s/heartbeat}\n  signals:\n    - {name: %s.filler.count, type: int}\n", b.name, url, b.name, b.name, b.name, b.name)
}

// plantOf is a gateway and its hub, both running.
type plantOf struct {
	t                 *testing.T
	dir, api          string
	hubYAML, edgeYAML string
	hub, agent        *process
	first, second     *broker
	quit              context.CancelFunc
	saying            sync.WaitGroup
}

// newPlant has a local source that says numbers all the time, and the files of a second one.
func newPlant(t *testing.T) *plantOf {
	t.Helper()
	first := newBroker(t, "line3", 1)
	return plantWith(t, first, first.yaml(first.server.URL()))
}

// plantWith has another local source, of this file.
func plantWith(t *testing.T, first *broker, yaml string) *plantOf {
	t.Helper()
	p := &plantOf{t: t, first: first, second: newBroker(t, "line4", 1_000_000)}
	p.dir = gateway(t, yaml)
	p.hubYAML, p.edgeYAML = filepath.Join(p.dir, "hub.yaml"), filepath.Join(p.dir, "edge.yaml")
	nats, web := freePort(t), freePort(t)
	p.api = "http://127.0.0.1:" + web + "/api/v1/agents/graz/gw-1/configuration"
	p.write("hub.yaml", fmt.Sprintf("data: hub\nsite_file: site.yaml\nnats: {listen: \"127.0.0.1:%s\", max_store: 1GiB}\nhttp: {listen: \"127.0.0.1:%s\"}\n", nats, web))
	p.write("edge.yaml", fmt.Sprintf("agent: gw-1\nsite: graz\ndata: data\nhub: {url: \"nats://127.0.0.1:%s\", key: agent.nk, token: agent.jwt}\nbuffer: {max_bytes: 256MiB}\n"+
		"revisions: {confirm_within: 4s, settle: 400ms}\n", nats))
	ctx, quit := context.WithCancel(context.Background())
	p.quit = quit
	t.Cleanup(p.quiet)
	for _, b := range []*broker{p.first, p.second} {
		p.saying.Go(func() { b.says(ctx) })
	}
	p.hub = run(t, "hub", hub, "serve", "--config", p.hubYAML)
	p.agent = run(t, "agent", built, "run", "--config", p.edgeYAML)
	return p
}

// quiet ends the numbers.
func (p *plantOf) quiet() {
	p.quit()
	p.saying.Wait()
}

func (p *plantOf) write(name, text string) {
	p.t.Helper()
	path := filepath.Join(p.dir, name)
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(text), 0o600)); err != nil {
		p.t.Fatal(err)
	}
}

// stands is how the configuration stands at the hub.
type stands struct {
	Status   string `json:"status"`
	Reported *struct {
		Revision uint64   `json:"revision"`
		Desired  uint64   `json:"desired"`
		State    string   `json:"state"`
		Why      string   `json:"why"`
		Drift    []string `json:"drift"`
		Hold     *struct {
			Reason string `json:"reason"`
		} `json:"hold"`
	} `json:"reported"`
}

func (p *plantOf) stands() (s stands) {
	r, err := http.Get(p.api)
	if err != nil {
		return s
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	if err != nil || json.Unmarshal(b, &s) != nil {
		return stands{}
	}
	return s
}

// until waits until the hub says that a revision is in force, and how.
func (p *plantOf) until(status string, revision uint64) stands {
	p.t.Helper()
	var s stands
	await(p.t, fmt.Sprintf("%s with revision %d", status, revision), 40*time.Second, func() bool {
		s = p.stands()
		return s.Status == status && s.Reported != nil && s.Reported.Revision == revision
	})
	return s
}

// configure has the hub want the second source, calling url, and other files.
func (p *plantOf) configure(url string) {
	p.t.Helper()
	p.write("wanted/sources.d/second.yaml", p.second.yaml(url))
	said(p.t, hub, "agents", "configure", "--config", p.hubYAML, "--from", filepath.Join(p.dir, "wanted"), "--note", "a test", "gw-1")
}

// comes waits until what a source says from now on is taken from it.
func (p *plantOf) comes(b *broker) {
	p.t.Helper()
	b.mu.Lock()
	from := b.next
	b.mu.Unlock()
	await(p.t, b.name+" is read", 30*time.Second, func() bool {
		b.mu.Lock()
		defer b.mu.Unlock()
		return b.told[from+5] > 0
	})
}

// everything ends the plant, and looks that each number is there once, and at the hub.
func (p *plantOf) everything() {
	p.t.Helper()
	p.quiet()
	await(p.t, "the hub has everything", 30*time.Second, func() bool {
		var s struct {
			Data struct {
				Buffer struct {
					Pending uint64 `json:"pending_records"`
				} `json:"buffer"`
			} `json:"data"`
		}
		err := json.Unmarshal([]byte(said(p.t, built, "status", "--json", "--config", p.edgeYAML)), &s)
		return err == nil && s.Data.Buffer.Pending == 0 && p.first.server.Waiting() == 0 && p.second.server.Waiting() == 0
	})
	p.agent.end(syscall.SIGTERM)
	numbers, _ := stored(p.t, p.dir)
	for _, b := range []*broker{p.first, p.second} {
		if missing, doubled := counted(numbers, int(b.from), int(b.next)); missing > 0 || doubled > 0 || len(b.told) == 0 {
			p.t.Errorf("of %d numbers of %s %d are missing, %d are there twice", b.next-b.from, b.name, missing, doubled)
		}
	}
}

// A configuration of the hub comes into force; one with which a source does not come up
// again is taken back, told with its reason, and costs no number of any source; one that
// the gateway can't read is never tried; one that is held waits, also over a restart.
func TestRevision_WhatDoesNotDoIsTakenBackAndNothingIsLost(t *testing.T) {
	p := newPlant(t)
	p.comes(p.first)
	p.configure(p.second.server.URL())
	p.until("in_sync", 1)
	p.comes(p.second)

	p.configure("mqtt://127.0.0.1:" + freePort(t))
	began := time.Now()
	p.until("trial", 2)
	s := p.until("reverted", 1)
	if took := time.Since(began); took > 20*time.Second || s.Reported.Desired != 2 || !strings.Contains(s.Reported.Why, "source line4, which was up before, is not: not connected") {
		t.Errorf("after %s: %+v", took, s.Reported)
	}
	p.comes(p.second)

	p.configure("amqp://127.0.0.1")
	s = p.until("rejected", 1)
	if !strings.Contains(s.Reported.Why, "sources.d/second.yaml:3: ") || strings.Contains(s.Reported.Why, p.dir) {
		t.Errorf("%+v", s.Reported)
	}

	said(t, built, "hold", "--config", p.edgeYAML, "--reason", "night shift runs")
	p.configure(p.second.server.URL() + "/")
	s = p.until("held", 1)
	if s.Reported.Hold.Reason != "night shift runs" {
		t.Errorf("%+v", s.Reported)
	}
	p.agent.end(syscall.SIGKILL)
	p.agent.start()
	await(t, "the agent has heard of revision 4", 30*time.Second, func() bool {
		s := p.stands()
		return s.Status == "held" && s.Reported.Desired == 4 && s.Reported.Revision == 1
	})
	said(t, built, "release", "--config", p.edgeYAML)
	p.until("in_sync", 4)
	said(t, built, "config", "rollback", "--config", p.edgeYAML)
	p.until("reverted", 1)
	p.comes(p.second)
	p.comes(p.first)
	p.everything()
}

// An agent that ends each time it is begun with a revision has that back after the third
// time, and nothing is lost; what was being tried is not tried again.
func TestRevision_AnAgentThatDiesOfOne(t *testing.T) {
	p := newPlant(t)
	p.write("edge.yaml", strings.Replace(p.read("edge.yaml"), "confirm_within: 4s", "confirm_within: 90s", 1))
	p.agent.end(syscall.SIGTERM)
	p.agent.start()
	p.configure(p.second.server.URL())
	p.until("in_sync", 1)
	p.comes(p.second)
	p.configure("mqtt://127.0.0.1:" + freePort(t))
	p.until("trial", 2)
	for range 2 {
		p.agent.end(syscall.SIGKILL)
		p.agent.start()
		await(t, "the agent has begun", 20*time.Second, func() bool {
			return exec.Command(built, "buffer", "status", "--config", p.edgeYAML).Run() == nil
		})
	}
	if s := p.until("reverted", 1); s.Reported.Desired != 2 || !strings.Contains(s.Reported.Why, "the agent ended 2 times while this revision was tried") {
		t.Errorf("%+v", s.Reported)
	}
	p.comes(p.second)
	p.everything()
}

func (p *plantOf) read(name string) string {
	p.t.Helper()
	b, err := os.ReadFile(filepath.Join(p.dir, name))
	if err != nil {
		p.t.Fatal(err)
	}
	return string(b)
}
