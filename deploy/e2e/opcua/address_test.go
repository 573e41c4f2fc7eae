package opcua

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	edgeua "plantmesh/edge/source/opcua"
	"plantmesh/proto/clock"
	"plantmesh/proto/mesh"
	"plantmesh/proto/strict"
	"plantmesh/proto/wire"
)

// minutes are a source.Log that writes down what it is given, in words.
type minutes struct {
	t   *testing.T
	dec *wire.Decoder

	mu    sync.Mutex // protects everything below
	lines []string   // "signal value status"
	notes []string
	tells []string
	units []string
	state []byte
	n     uint64
	more  chan struct{} // closed with the next commit
}

func newMinutes(t *testing.T) *minutes {
	t.Helper()
	dec, err := wire.NewDecoder()
	if err != nil {
		t.Fatal(err)
	}
	return &minutes{t: t, dec: dec, more: make(chan struct{})}
}

func (b *minutes) Tell(text string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.tells = append(b.tells, text)
}

func (b *minutes) Append(_ context.Context, o mesh.Offer) (uint64, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, d := range o.Descriptors {
		table, err := wire.Signals(d)
		if err != nil {
			b.t.Error(err)
		}
		b.units = nil
		for _, s := range table {
			b.units = append(b.units, s.Unit)
		}
	}
	for _, sealed := range o.Sealed {
		h, err := wire.ParseHeader(sealed)
		if err != nil {
			b.t.Error(err)
			continue
		}
		if h.Kind == mesh.KindVoid {
			v, err := wire.OpenVoid(sealed)
			if err != nil {
				b.t.Error(err)
			}
			b.notes = append(b.notes, v.Note)
			continue
		}
		batch, err := b.dec.Batch(sealed)
		if err != nil {
			b.t.Error(err)
			continue
		}
		for _, s := range batch.Samples {
			line := fmt.Sprintf("%d %s", s.Signal, s.Value.String())
			if s.Status.IsBad() {
				line = strings.TrimSpace(line) + " " + edgeua.StatusName(s.Status)
			}
			b.lines = append(b.lines, line)
		}
	}
	b.state, b.n = o.State, b.n+1
	close(b.more)
	b.more = make(chan struct{})
	return b.n, nil
}

func (b *minutes) Committed(ctx context.Context, after uint64) (uint64, error) {
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

func (b *minutes) kept() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return strings.Join(b.lines, ", ")
}

// has waits until the reader has kept text.
func (b *minutes) has(text string) {
	b.t.Helper()
	defer func() {
		if b.t.Failed() {
			b.t.Log(b.kept(), "|", b.tells, "|", b.notes)
		}
	}()
	until(b.t, 30*time.Second, "it keeps "+text, func() bool { return strings.Contains(b.kept()+",", text+",") })
}

func (b *minutes) said() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return strings.Join(append(b.tells, b.notes...), "; ")
}

// begin starts a reader over what the minutes have.
func (b *minutes) begin(cfg edgeua.Config) (stop func()) {
	b.t.Helper()
	r, err := edgeua.New(cfg, clock.Machine{}.Now, logger(b.t))
	if err != nil {
		b.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	b.mu.Lock()
	resume := b.state
	b.n = 0
	b.mu.Unlock()
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx, resume, b) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil && !errors.Is(err, context.Canceled) {
			b.t.Error(err)
		}
	})
	b.t.Cleanup(stop)
	return stop
}

// TestAddress: what a reader does by a server's own paths, units, ranges and limits.
func TestAddress(t *testing.T) {
	beside(t)
	p := serve(t, 2, time.Hour)
	p.tell(order{"do": "press", "speed": "first"})
	p.tell(order{"do": "limits", "maxNodesPerRead": 4, "maxNodesPerTranslateBrowsePathsToNodeIds": 2, "maxMonitoredItemsPerCall": 1})
	cable := newCable(t, p.address())
	cfg := edgeua.Config{
		ID: "press", Endpoint: "opc.tcp://" + cable.Addr(), Security: edgeua.Security{Insecure: true},
		Signals: []edgeua.Signal{
			{Name: "speed", Path: "/Objects/nsu=" + plantURI + ";Press/nsu=" + plantURI + ";Speed", Type: "double", Deadband: "5%"},
			{Name: "plain", Path: "/Objects/nsu=" + plantURI + ";Press/nsu=" + plantURI + ";Plain", Type: "double", Deadband: "5%"},
			{Name: "v0", Node: "nsu=" + plantURI + ";s=v0", Type: "double", Deadband: "0.5"},
			{Name: "none", Path: "/Objects/nsu=" + plantURI + ";Press/nsu=" + plantURI + ";Torque", Type: "double"},
		},
	}
	cfg.Window.Latency = strict.Duration(50 * time.Millisecond)
	b := newMinutes(t)
	stop := b.begin(cfg)
	b.has("1 0")
	until(t, 10*time.Second, "what is missing is told", func() bool {
		return strings.Contains(b.said(), "connected, 1 of 4 signals refused: none (BadNoMatch)") &&
			strings.Contains(b.said(), "trigger or deadband of 1 signals are not applied") // without a range
	})
	if b.units[0] != "CEL" {
		t.Errorf("units %q", b.units)
	}
	for _, v := range []float64{9, 11, 20, 22} { // of 200, by more than 10: 11, 22
		p.tell(order{"do": "put", "node": "first", "value": v})
		p.tell(order{"do": "put", "node": "plain", "value": v})
	}
	b.has("1 22")
	b.has("0 22")
	got := b.kept() // within a commit by signal
	plain := slices.DeleteFunc(strings.Split(got, ", "), func(s string) bool { return !strings.HasPrefix(s, "1 ") })
	if strings.Contains(got, "0 9,") || strings.Contains(got, "0 20") || !strings.Contains(got, "0 11") || !strings.HasSuffix(strings.Join(plain, ", "), "1 9, 1 11, 1 20, 1 22") {
		t.Errorf("it kept %s", got)
	}

	// The PLC is loaded anew: the machine has other nodes under the same names.
	cable.Cut(true)
	p.tell(order{"do": "press", "speed": "second"})
	p.tell(order{"do": "put", "node": "second", "value": 50})
	cable.Cut(false)
	b.has("0 50")
	b.has("0 BadConfigurationError")
	b.has("1 BadNodeIdInvalid")
	until(t, 30*time.Second, "plain has another item: it has its id again, and the one before is dead", func() bool { return strings.Count(b.kept(), "1 0") == 2 })
	p.tell(order{"do": "put", "node": "second", "value": 70})
	b.has("0 70")

	// Its unit changes while it is connected.
	p.tell(order{"do": "unit", "node": "second", "unit": "degree_fahrenheit"})
	p.tell(order{"do": "put", "node": "second", "value": 100})
	cable.Reset()
	b.has("0 100 BadConfigurationError")
	until(t, 10*time.Second, "drift is told", func() bool { return strings.Contains(b.said(), "mapping drift: speed: its unit was CEL and is FAH") })
	stop()
	cfg.Signals[0].Unit = "FAH"
	b.begin(cfg)
	b.has("0 100")
	if b.units[0] != "FAH" {
		t.Errorf("it kept %s, in %s", b.kept(), b.units[0])
	}
}

// TestPoll: the same server, read instead of subscribed to.
func TestPoll(t *testing.T) {
	beside(t)
	p := serve(t, 500, 200*time.Millisecond)
	p.tell(order{"do": "limits", "maxNodesPerRead": 100})
	cfg := edgeua.Config{ID: "press", Endpoint: "opc.tcp://" + p.address(), Security: edgeua.Security{Insecure: true}, Poll: strict.Duration(time.Second)}
	for i := range p.plan.Items {
		cfg.Signals = append(cfg.Signals, edgeua.Signal{Name: fmt.Sprint("v", i), Node: fmt.Sprintf("nsu=%s;s=v%d", plantURI, i), Type: "double"})
	}
	b := newMinutes(t)
	b.begin(cfg)
	until(t, 30*time.Second, "every signal is read twice", func() bool { return strings.Count(b.kept(), ",") > 1000 })
	seen := map[string]bool{}
	for line := range strings.SplitSeq(b.kept(), ", ") {
		if seen[line] {
			t.Fatalf("%s came twice", line)
		}
		seen[line] = true
	}
}
