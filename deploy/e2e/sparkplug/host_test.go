package sparkplug

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"plantmesh/edge/source/mqtt/link"
	reader "plantmesh/edge/source/sparkplug"
	"plantmesh/firmware-sim/mqtt/sparkplug"
	"plantmesh/firmware-sim/plant"
	"plantmesh/proto/mesh"
	"plantmesh/proto/strict"
	"plantmesh/proto/wire"
)

// book is the agent's log as the host sees it: everything is durable at once.
type book struct {
	t   *testing.T
	dec *wire.Decoder

	mu     sync.Mutex // protects the fields below
	n      uint64
	state  []byte
	kept   map[string][]byte
	names  map[mesh.Hash]map[uint32]string
	values map[string]map[mesh.Nanos]string // by signal and the node's own time; what came twice is there once
	more   chan struct{}
}

func newBook(t *testing.T) *book {
	t.Helper()
	dec, err := wire.NewDecoder()
	if err != nil {
		t.Fatal(err)
	}
	return &book{t: t, dec: dec, kept: map[string][]byte{}, names: map[mesh.Hash]map[uint32]string{}, values: map[string]map[mesh.Nanos]string{}, more: make(chan struct{})}
}

func (b *book) Append(_ context.Context, o mesh.Offer) (uint64, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, d := range o.Descriptors {
		table, err := wire.Signals(d)
		if err != nil {
			b.t.Error(err)
		}
		names := map[uint32]string{}
		for _, s := range table {
			names[s.ID] = s.Name
		}
		b.names[d.Hash()] = names
	}
	for _, sealed := range o.Sealed {
		if h, err := wire.ParseHeader(sealed); err != nil || h.Kind == mesh.KindVoid {
			continue
		}
		batch, err := b.dec.Batch(sealed)
		if err != nil {
			b.t.Error(err)
		}
		for _, s := range batch.Samples {
			name := b.names[batch.Table][s.Signal]
			if b.values[name] == nil {
				b.values[name] = map[mesh.Nanos]string{}
			}
			if s.Value.Type != mesh.TypeNone {
				b.values[name][s.Source] = s.Value.String()
			}
		}
	}
	for _, k := range o.Kept {
		b.kept[k.Name] = k.Bytes
	}
	b.state, b.n = o.State, b.n+1
	close(b.more)
	b.more = make(chan struct{})
	return b.n, nil
}

func (b *book) Committed(ctx context.Context, after uint64) (uint64, error) {
	for {
		b.mu.Lock()
		n, more := b.n, b.more
		b.mu.Unlock()
		if n > after {
			return n, nil
		}
		select {
		case <-more:
		case <-ctx.Done():
			return n, ctx.Err()
		}
	}
}

// of are the values of a signal, in the order of their times.
func (b *book) of(name string) (out []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	var times []mesh.Nanos
	for at := range b.values[name] {
		times = append(times, at)
	}
	slices.Sort(times)
	for _, at := range times {
		out = append(out, b.values[name][at])
	}
	return out
}

func (b *book) has(name string, values int) {
	b.t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for late := time.After(30 * time.Second); len(b.of(name)) < values; {
		select {
		case <-tick.C:
		case <-late:
			b.mu.Lock()
			defer b.mu.Unlock()
			var all []string
			for n, v := range b.values {
				all = append(all, n+" "+decimal(uint64(len(v))))
			}
			b.t.Fatalf("%s never has %d values: %s", name, values, strings.Join(all, ", "))
		}
	}
}

// host runs the agent's reader over the book; a second one goes on where the first ended.
func (b *book) host(cfg reader.Config, now func() mesh.Nanos) (stop func()) {
	b.t.Helper()
	r, err := reader.New(cfg, now, rand.New(rand.NewPCG(1, 2)), slog.New(slog.NewTextHandler(b.t.Output(), nil)))
	if err != nil {
		b.t.Fatal(err)
	}
	b.mu.Lock()
	resume := b.state
	kept := map[string][]byte{}
	for name, text := range b.kept {
		if text != nil {
			kept[name] = text
		}
	}
	b.n = 0
	b.mu.Unlock()
	r.Keep(kept)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx, resume, b) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil && !errors.Is(err, context.Canceled) {
			b.t.Errorf("the reader: %v", err)
		}
	})
	b.t.Cleanup(stop)
	return stop
}

func hostOf(url, nodes string) reader.Config {
	return reader.Config{
		ID: "sparkplug", Config: link.Config{URL: url}, Mode: reader.Primary, HostID: "gw-1", Nodes: []string{nodes}, Name: "{node}.{device}.{metric}",
		ReorderTimeout: strict.Duration(200 * time.Millisecond), Rebirth: reader.Rebirth{Every: strict.Duration(time.Second)},
	}
}

// TestHost_LosesNothingOfNodesThatStore: the agent's host is away, misses messages,
// sees other aliases, an old death and connections that break, and has all values of
// nodes with store and forward in the end.
func TestHost_LosesNothingOfNodesThatStore(t *testing.T) {
	s := simulate(t, sparkplug.Config{Host: "gw-1", StoreAndForward: true})
	b := newBook(t)
	now := func() mesh.Nanos { return mesh.NanosOf(start.Add(time.Hour)) }
	stop := b.host(hostOf(s.URL(), "plant/*"), now)
	i := 0
	push := func(n int) {
		for range n {
			at := start.Add(time.Duration(i) * time.Second)
			s.Push(plant.Emission{Source: "line3", Signal: "line3.filler.produced", Time: at, Emitted: at, Value: plant.Value{Type: plant.Int, I: int64(i)}})
			s.Prove(at)
			i++
		}
	}
	const produced = "line3.filler.produced"
	steps := []struct {
		name string
		do   func()
	}{
		{"nothing", func() {}},
		{"a hole", func() { s.Drop("", 3) }},
		{"two swapped", func() { s.Swap("") }},
		{"other aliases", func() { s.Realias("line3") }},
		{"an old death", func() { s.ReplayDeath("line3") }},
		{"a cut", func() { s.Cut("") }},
		{"a dead device", func() { s.Leave("line3", "filler"); push(20); s.Join("line3", "filler") }},
		{"a host that goes", func() { stop(); push(50); stop = b.host(hostOf(s.URL(), "plant/*"), now) }},
	}
	for _, step := range steps {
		push(20)
		step.do()
		push(100)
		b.has(produced, i)
		t.Logf("after %s: %d values", step.name, i)
	}
	for j, v := range b.of(produced) {
		if v != decimal(uint64(j)) {
			t.Fatalf("value %d is %s", j, v)
		}
	}
}

// TestHost_ReadsThePeersNode: an edge node in JavaScript, as the agent understands it.
func TestHost_ReadsThePeersNode(t *testing.T) {
	p := newPeer(t)
	s := simulate(t, sparkplug.Config{Host: "nobody"}) // it has the broker
	b := newBook(t)
	b.host(hostOf(s.URL(), "mill/*"), func() mesh.Nanos { return mesh.NanosOf(time.UnixMilli(1772337600000)) })
	p.must(startNode(s.URL()), nil)
	b.has("crusher.jaw.count", 1)
	p.must(map[string]any{"do": "data", "id": "jaw", "payload": jaw("2", "-9007199254740993")}, nil)
	b.has("crusher.jaw.count", 2)
	if got := b.of("crusher.jaw.count"); !slices.Equal(got, []string{"-2", "-9007199254740993"}) {
		t.Errorf("the agent has %v", got)
	}
	if got := b.of("crusher.jaw.state"); len(got) == 0 || got[0] != "crushing" {
		t.Errorf("the agent has %v", got)
	}
}
