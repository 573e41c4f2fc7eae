package opcua

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gopcua/opcua/ua"

	"plantmesh/proto/mesh"
	"plantmesh/proto/strict"
	"plantmesh/proto/wire"
)

// paper is a source.Log that keeps what a running reader says.
type paper struct {
	t *testing.T

	mu    sync.Mutex // protects everything below
	n     uint64
	dec   *wire.Decoder
	lines []string // "signal second value", in order of arrival
	first []string // those of them that are said to be of a beginning
	voids []mesh.Void
	proof mesh.Nanos
	tells []string
	state []byte
	table []mesh.Signal
	full  bool // it takes nothing
	held  bool // and something waits for that
}

func (l *paper) Tell(text string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.tells = append(l.tells, text)
}

func (l *paper) Append(ctx context.Context, o mesh.Offer) (uint64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for l.full {
		l.held = true
		l.mu.Unlock()
		more := pause(ctx, time.Millisecond)
		l.mu.Lock()
		if !more {
			return 0, ctx.Err()
		}
	}
	for _, d := range o.Descriptors {
		table, err := wire.Signals(d)
		if err != nil {
			l.t.Error(err)
		}
		l.table = table
	}
	for _, b := range o.Sealed {
		h, err := wire.ParseHeader(b)
		if err != nil {
			l.t.Error(err)
			continue
		}
		if h.Kind == mesh.KindVoid {
			v, err := wire.OpenVoid(b)
			if err != nil {
				l.t.Error(err)
			}
			l.voids = append(l.voids, v)
			continue
		}
		batch, err := l.dec.Batch(b)
		if err != nil {
			l.t.Error(err)
			continue
		}
		l.proof = max(l.proof, batch.Proven.To)
		for _, s := range batch.Samples {
			line := fmt.Sprintf("%d@%s %s", s.Signal, second(s.Time), s.Value.String())
			if s.Status.IsBad() {
				line += "!" + statusName(s.Status)
			}
			l.lines = append(l.lines, line)
			if s.Flags&mesh.FlagInitial != 0 {
				l.first = append(l.first, line)
			}
		}
	}
	l.n, l.state = l.n+1, o.State
	return l.n, nil
}

func (l *paper) Committed(ctx context.Context, after uint64) (uint64, error) {
	for {
		l.mu.Lock()
		n := l.n
		l.mu.Unlock()
		if n > after {
			return n, nil
		}
		if !pause(ctx, time.Millisecond) {
			return 0, ctx.Err()
		}
	}
}

// said is what was kept so far.
func (l *paper) said() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Join(l.lines, ", ")
}

func (l *paper) told() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Join(l.tells, "; ")
}

// running is a reader at work.
type running struct {
	*paper

	stop func()
}

// run starts a reader over what the one before kept.
func (p *plc) run(t *testing.T, cfg Config, before *running, with ...func(*Reader)) *running {
	t.Helper()
	cfg.ID, cfg.Endpoint, cfg.Security = "s1", p.endpoint, Security{Insecure: true}
	cfg.Window.Latency = strict.Duration(20 * time.Millisecond)
	r, err := New(cfg, func() mesh.Nanos { p.mu.Lock(); defer p.mu.Unlock(); return p.clock }, slog.New(slog.NewTextHandler(t.Output(), nil)))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range with {
		f(r)
	}
	dec, err := wire.NewDecoder()
	if err != nil {
		t.Fatal(err)
	}
	l := &paper{t: t, dec: dec}
	var resume []byte
	if before != nil {
		resume = before.state
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx, resume, l) }()
	stop := sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil && !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
	t.Cleanup(stop)
	return &running{paper: l, stop: stop}
}

func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for !ok() {
		if !pause(ctx, 5*time.Millisecond) {
			t.Fatalf("waited in vain until %s", what)
		}
	}
}

// says waits until the reader has kept text.
func (r *running) says(t *testing.T, text string) {
	t.Helper()
	defer func() {
		if t.Failed() {
			t.Log(r.said(), "|", r.told())
		}
	}()
	until(t, "it keeps "+text, func() bool { return strings.Contains(r.said(), text) })
}

func (p *plc) count(call string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.calls[call]
}

func pressed() Config {
	return Config{Signals: []Signal{
		{Name: "a", Type: "int", Path: "/Objects/nsu=urn:press;press/2:speed"},
		{Name: "b", Type: "int", Node: "ns=2;s=b"},
		{Name: "c", Type: "int", Node: "nsu=urn:other;s=c"},
	}}
}

// plant makes what pressed reads.
func (p *plc) plant() (a, b, c *cell) {
	return p.add("ns=2;s=a", "0:Objects/2:press/2:speed", int32(1)), p.add("ns=2;s=b", "", int32(2)), p.add("ns=3;s=c", "", int32(3))
}

func TestReader_OnlyTheMovedSignalGetsANewItem(t *testing.T) {
	p := newPLC(t)
	a, b, _ := p.plant()
	r := p.run(t, pressed(), nil)
	r.says(t, "2@0 3")
	p.set(a, int32(11))
	p.set(b, int32(12))
	r.says(t, "1@2 12")
	p.pass(10 * time.Second)
	until(t, "7 s are proven", func() bool { r.mu.Lock(); defer r.mu.Unlock(); return r.proof == noon.Add(7*time.Second) })

	// The PLC is loaded anew: another node stands at the path; the one before lives on.
	other := p.add("ns=2;s=a2", "", int32(100))
	p.cut()
	p.edit(func() {
		p.paths["0:Objects/2:press/2:speed"] = "ns=2;s=a2"
		p.clock = p.clock.Add(time.Second)
		for _, c := range []*cell{a, b} {
			c.value = p.stamped(int32(66))
			p.queueOf(c)
		}
	})
	r.says(t, "0@13 100")
	p.set(other, int32(101))
	r.says(t, "0@14 101")
	if got, want := r.said(), "0@7 !BadConfigurationError"; !strings.Contains(got, want) || strings.Contains(got, "0@13 66") || !strings.Contains(got, "1@13 66") {
		t.Errorf("it kept %s", got)
	}
	if n, m := p.count("CreateSubscriptionRequest"), p.count("DeleteMonitoredItemsRequest"); n != 1 || m != 1 {
		t.Errorf("%d subscriptions were made, items deleted %d times", n, m)
	}
	for _, v := range r.voids {
		if !v.Parts[0].Times.Empty() || !strings.Contains(v.Note, "its node was ns=2;s=a and is ns=2;s=a2") {
			t.Errorf("void %+v", v)
		}
	}

	// After a restart the subscription goes on, with the item that was made again.
	r.stop()
	again := p.run(t, pressed(), r)
	p.set(other, int32(102))
	again.says(t, "0@15 102")
	if n := p.count("CreateSubscriptionRequest"); n != 1 {
		t.Errorf("%d subscriptions were made", n)
	}
}

func TestReader_RenumberedNamespaces(t *testing.T) {
	p := newPLC(t)
	p.plant()
	r := p.run(t, pressed(), nil)
	r.says(t, "2@0 3")
	p.pass(10 * time.Second)
	r.stop()

	// urn:other comes first now: ns=2 has other nodes of the same names.
	p.edit(func() {
		old := maps.Clone(p.cells)
		clear(p.cells)
		p.uris[2], p.uris[3] = p.uris[3], p.uris[2]
		p.cells["ns=3;s=a"], p.cells["ns=3;s=b"], p.cells["ns=2;s=c"] = old["ns=2;s=a"], old["ns=2;s=b"], old["ns=3;s=c"]
		p.paths = map[string]string{"0:Objects/3:press/3:speed": "ns=3;s=a", "0:Objects/3:press/2:speed": "ns=2;s=b"}
	})
	p.add("ns=2;s=a", "", int32(666))
	p.add("ns=2;s=b", "", int32(666))
	p.add("ns=3;s=c", "", int32(666))
	again := p.run(t, pressed(), r)
	until(t, "three values", func() bool { return len(strings.Split(again.said(), ",")) >= 3 })
	if got := again.said(); strings.Contains(got, "666") || p.count("CreateSubscriptionRequest") != 2 {
		t.Errorf("it kept %s", got)
	}
}

func TestReader_PathsThatLeadNowhereAndBack(t *testing.T) {
	p := newPLC(t)
	a, _, _ := p.plant()
	p.edit(func() { p.paths["0:Objects/2:press/2:speed"] = "ns=2;s=a ns=2;s=b" })
	r := p.run(t, pressed(), nil)
	r.says(t, "0@0 !BadTooManyMatches")
	until(t, "it is told", func() bool { return strings.Contains(r.told(), "1 of 3 signals refused: a (BadTooManyMatches)") })
	p.cut()
	p.edit(func() { p.paths["0:Objects/2:press/2:speed"] = "ns=2;s=a" })
	r.says(t, "0@0 1")
	p.set(a, int32(5))
	r.says(t, "0@1 5")
	p.cut()
	p.edit(func() { delete(p.paths, "0:Objects/2:press/2:speed") })
	r.says(t, "0@1 !BadNoMatch")
	until(t, "it is told", func() bool { return strings.HasSuffix(r.told(), "1 of 3 signals refused: a (BadNoMatch)") })
	if n := p.count("CreateSubscriptionRequest"); n != 1 {
		t.Errorf("%d subscriptions were made", n)
	}
}

func TestReader_CallsAreHalved(t *testing.T) {
	p := newPLC(t)
	p.most = 30 // it says nothing of it
	cfg := Config{}
	for i := range 100 {
		p.add(fmt.Sprintf("ns=2;i=%d", i+1), fmt.Sprintf("0:Objects/2:v%d", i), int32(i))
		cfg.Signals = append(cfg.Signals, Signal{Name: fmt.Sprint("v", i), Type: "int", Path: fmt.Sprintf("/Objects/nsu=urn:press;v%d", i)})
	}
	r := p.run(t, cfg, nil)
	r.says(t, "99@0 99")
	if got := strings.Count(r.said(), "@"); got != 100 {
		t.Errorf("%d values came", got)
	}
}

func TestInCalls(t *testing.T) {
	var sizes []int
	size := 10
	all := slices.Collect(func(yield func(int) bool) {
		for i := range 17 {
			_ = yield(i)
		}
	})
	err := inCalls(&size, all, func(some []int) error {
		sizes = append(sizes, len(some))
		if len(some) > 4 {
			return fmt.Errorf("no: %w", ua.StatusBadTooManyOperations)
		}
		return nil
	})
	if err != nil || !slices.Equal(sizes, []int{10, 5, 2, 2, 2, 2, 2, 2, 2, 2, 1}) {
		t.Errorf("%v %v", sizes, err)
	}
}
