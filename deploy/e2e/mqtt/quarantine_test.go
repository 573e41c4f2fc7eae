package mqtt

import (
	"bufio"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"plantmesh/edge/buffer"
	"plantmesh/firmware-sim/opcua"
	"plantmesh/firmware-sim/plant"
	"plantmesh/proto/mesh"
	"plantmesh/proto/wire"
)

// aside sets two batches aside, in the buffer of an agent that does not run, as forward does with
// those that a hub can't take, and gives their numbers: the newest behind which its source has
// proven that it said no more, and one some before.
func aside(t *testing.T, dir string) (numbers [2][]int64) {
	t.Helper()
	b, err := buffer.Open(buffer.Config{Dir: filepath.Join(dir, "data", "buffer"), Log: "agent/graz/gw-1", MaxBytes: 256 << 20}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	d, err := wire.NewDecoder()
	if err != nil {
		t.Fatal(err)
	}
	type waiting struct {
		at      mesh.Position
		numbers []int64
		until   mesh.Nanos
	}
	var at mesh.Position
	var before, proven []waiting
	for {
		records, err := b.Peek(at, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		if len(records) == 0 {
			break
		}
		for _, r := range records {
			at = r.At
			h, err := wire.ParseHeader(r.Sealed)
			if err != nil {
				t.Fatal(err)
			}
			if h.Kind != mesh.KindBatch {
				continue
			}
			before = slices.DeleteFunc(before, func(w waiting) bool {
				if h.Proven.To > w.until {
					proven = append(proven, w)
				}
				return h.Proven.To > w.until
			})
			batch, err := d.Batch(r.Sealed)
			if err != nil {
				t.Fatal(err)
			}
			w := waiting{at: at, until: h.Times.To}
			for _, s := range batch.Samples {
				if n, ok := s.Value.Int(); ok {
					w.numbers = append(w.numbers, n)
				}
			}
			if len(w.numbers) > 0 {
				before = append(before, w)
			}
		}
	}
	if len(proven) < 4 {
		t.Fatalf("%d records are proven by others", len(proven))
	}
	for i, w := range []waiting{proven[len(proven)-4], proven[len(proven)-1]} {
		if err := b.Quarantine(w.at, "the hub takes less"); err != nil {
			t.Fatalf("set %s aside: %v", w.at, err)
		}
		numbers[i] = w.numbers
	}
	return numbers
}

// proves waits until the agent has heard the source's heartbeat again, behind some numbers.
func (p *plantOf) proves() {
	p.t.Helper()
	p.comes(p.first)
	began := ""
	await(p.t, "the source proves what it said", time.Minute, func() bool {
		var s struct {
			Data struct {
				Sources []struct {
					ProvenTo string `json:"proven_to"`
				} `json:"sources"`
			} `json:"data"`
		}
		if err := json.Unmarshal([]byte(said(p.t, built, "status", "--json", "--config", p.edgeYAML)), &s); err != nil || len(s.Data.Sources) == 0 {
			return false
		}
		to := s.Data.Sources[0].ProvenTo
		if began == "" {
			began = to
		}
		return to > began
	})
}

// rows calls f with each row of a product.
func (p *plantOf) rows(product string, f func(row []byte)) {
	p.t.Helper()
	at, _, _ := strings.Cut(p.api, "/agents/")
	r, err := http.Get(at + "/products/" + product + "/rows?format=ndjson")
	if err != nil {
		return // it is on its way
	}
	defer r.Body.Close()
	for s := bufio.NewScanner(r.Body); s.Scan(); {
		f(s.Bytes())
	}
}

// inProduct counts how often each number of the first source stands in product signals.
func (p *plantOf) inProduct() map[int64]int {
	p.t.Helper()
	numbers := map[int64]int{}
	p.rows("signals", func(b []byte) {
		var row struct{ Value int64 }
		if err := json.Unmarshal(b, &row); err != nil {
			p.t.Errorf("%s: %v", b, err)
		}
		numbers[row.Value]++
	})
	return numbers
}

// known says whether product coverage knows a stretch of the source.
func (p *plantOf) known() bool {
	at, _, _ := strings.Cut(p.api, "/agents/")
	var s struct {
		From     string `json:"known_from"`
		Progress string `json:"progress"`
	}
	r, err := http.Get(at + "/products/coverage/status")
	if err != nil {
		return false
	}
	defer r.Body.Close()
	return json.NewDecoder(r.Body).Decode(&s) == nil && s.From != "" && s.From < s.Progress
}

// gaps are the causes that stand in product coverage.
func (p *plantOf) gaps() (causes []string) {
	p.t.Helper()
	p.rows("coverage", func(b []byte) {
		var row struct {
			Cause string
			To    *time.Time
		}
		if err := json.Unmarshal(b, &row); err != nil {
			p.t.Errorf("%s: %v", b, err)
		}
		if row.To != nil { // the open one is that nothing newer has come
			causes = append(causes, row.Cause)
		}
	})
	return causes
}

// newServer is newBroker with OPC UA, which proves with each message what it said in it: so
// that a record holds its own proof.
func newServer(t *testing.T, name string) *broker {
	t.Helper()
	b := &broker{name: name, from: 1, next: 1, told: map[uint64]int{}}
	signals := []plant.Signal{{Source: name, Name: name + ".filler.count", Type: plant.Int}}
	s, err := opcua.Serve(opcua.Config{Source: name, Listen: "127.0.0.1:0"}, signals, b.received, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	b.server = s
	b.runs(t)
	return b
}

// list is what of the agent is set aside, by its numbers' count.
func (p *plantOf) list() (records []asideRecord) {
	p.t.Helper()
	var list struct {
		Data struct {
			Records []asideRecord `json:"records"`
		} `json:"data"`
	}
	if err := json.Unmarshal([]byte(said(p.t, built, "quarantine", "list", "--json", "--config", p.edgeYAML)), &list); err != nil {
		p.t.Fatal(err)
	}
	slices.SortFunc(list.Data.Records, func(x, y asideRecord) int { return strings.Compare(x.From, y.From) })
	return list.Data.Records
}

type asideRecord struct {
	ID    string `json:"id"`
	From  string `json:"from"`
	Count int    `json:"count"`
	Why   string `json:"why"`
}

// Records that were set aside are gaps at the hub, with their cause. One released, its samples
// are in the product, each once, its gap is gone, and that of the other stays; both released,
// nothing is set aside or missing any more.
func TestQuarantine_WhatIsReleasedIsInTheProductOnce(t *testing.T) {
	first := newServer(t, "line3")
	p := plantWith(t, first, fmt.Sprintf("opcua:\n  id: line3\n  endpoint: %s\n  publishing_interval: 50ms\n  disorder: 20ms\n  window: {latency: 50ms}\n  security: {insecure: true}\n"+
		"  signals:\n    - {name: line3.filler.count, type: int, node: \"nsu=urn:plantmesh:firmware-sim;s=line3.filler.count\"}\n", first.server.URL()))
	await(t, "the hub knows the source", time.Minute, func() bool { return p.known() })
	p.hub.end(syscall.SIGKILL)
	for range 4 {
		p.proves() // of this the hub has nothing
	}
	p.agent.end(syscall.SIGTERM)
	lost := aside(t, p.dir)
	p.hub.start()
	p.agent.start()
	p.comes(p.first)
	standing := func(numbers []int64) (n int) {
		in := p.inProduct()
		for _, i := range numbers {
			n += in[i]
		}
		return n
	}
	await(t, "the hub names the gaps", time.Minute, func() bool {
		return slices.Equal(p.gaps(), []string{"unreadable", "unreadable"}) && p.inProduct()[lost[1][len(lost[1])-1]+1] == 1
	})
	if n := standing(slices.Concat(lost[0], lost[1])); n != 0 {
		t.Errorf("%d numbers that were set aside are in the product", n)
	}
	list := p.list()
	if len(list) != 2 || list[0].Count != len(lost[0]) || list[1].Count != len(lost[1]) || list[0].Why != "the hub takes less" {
		t.Fatalf("listed are %+v, want two with %d and %d", list, len(lost[0]), len(lost[1]))
	}
	if out, err := exec.Command(built, "status", "--config", p.edgeYAML).CombinedOutput(); err == nil || !strings.Contains(string(out), "2 records are set aside, and wait to be released or dropped") {
		t.Errorf("status ends with %v: %s", err, out)
	}
	said(t, built, "quarantine", "release", "--config", p.edgeYAML, list[0].ID)
	if n := len(p.list()); n != 1 {
		t.Errorf("%d are set aside still", n)
	}
	if out, err := exec.Command(built, "quarantine", "release", "--config", p.edgeYAML, list[0].ID).CombinedOutput(); err == nil {
		t.Errorf("it is released twice: %s", out)
	}
	await(t, "the gap of what is released is filled", time.Minute, func() bool {
		return standing(lost[0]) == len(lost[0]) && slices.Equal(p.gaps(), []string{"unreadable"})
	})
	if n := standing(lost[1]); n != 0 {
		t.Errorf("%d numbers of the other are in the product", n)
	}
	said(t, built, "quarantine", "release", "--config", p.edgeYAML, list[1].ID)
	if out, err := exec.Command(built, "status", "--config", p.edgeYAML).CombinedOutput(); err != nil {
		t.Errorf("with nothing set aside any more status ends with %v: %s", err, out)
	}
	p.quiet()
	await(t, "every number is in the product once, and nothing is missing", time.Minute, func() bool {
		missing, doubled := counted(p.inProduct(), int(p.first.from), int(p.first.next))
		if doubled > 0 {
			t.Fatalf("%d numbers are in the product twice", doubled)
		}
		return missing == 0 && len(p.gaps()) == 0
	})
}
