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

// press is a server with an alarm: testdata/alarms.js.
type press struct {
	*servant

	port int
}

// newPress starts one that has a history of so many values, of none with 0.
func newPress(t *testing.T, history int) *press {
	t.Helper()
	p := &press{&servant{t: t}, freePort(t)}
	p.run(script(t, "testdata/alarms.js"))
	cert, key := newAuthority(t).server(t, nil)
	p.ask(map[string]any{"cert": cert, "key": key, "port": p.port, "dir": t.TempDir(), "uri": serverURI, "plant": plantURI, "amnesic": history == 0, "history": history}, nil)
	return p
}

func (p *press) set(value float64) {
	p.t.Helper()
	p.ask(map[string]any{"do": "set", "value": value}, nil)
}

// happening is an event as a sample has it.
type happening struct {
	mesh.Sample

	fields map[string]mesh.Value
}

func (h happening) text(field string) string { v := h.fields[field]; return v.String() }

// notebook is a source.Log that keeps what the press's reader says.
type notebook struct {
	t   *testing.T
	dec *wire.Decoder

	mu     sync.Mutex // protects the fields below
	n      uint64
	state  []byte
	events []happening
	values []mesh.Sample
	proofs []mesh.Span
	voids  []mesh.Void
	told   []string
}

func (b *notebook) Tell(text string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.told = append(b.told, text)
}

func (b *notebook) Append(_ context.Context, o mesh.Offer) (uint64, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	table, err := wire.Signals(o.Descriptors[0])
	if err != nil {
		b.t.Error(err)
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
			b.voids = append(b.voids, v)
			continue
		}
		b.batch(sealed, table)
	}
	b.n, b.state = b.n+1, o.State
	return b.n, nil
}

func (b *notebook) batch(sealed []byte, table []mesh.Signal) {
	batch, err := b.dec.Batch(sealed)
	if err != nil {
		b.t.Error(err)
		return
	}
	switch n := len(b.proofs); {
	case batch.Proven.Empty():
	case n > 0 && b.proofs[n-1].To == batch.Proven.From:
		b.proofs[n-1].To = batch.Proven.To
	default:
		b.proofs = append(b.proofs, batch.Proven)
	}
	for _, s := range batch.Samples {
		if s.Value.Type != mesh.TypeEvent {
			b.values = append(b.values, s)
			continue
		}
		i, err := wire.ParseItem(s.Value.Bytes)
		if err != nil {
			b.t.Error(err)
			continue
		}
		e := happening{Sample: s, fields: map[string]mesh.Value{}}
		for k, f := range table[s.Signal].Fields {
			e.fields[f.Name] = i.Items[k].Value
		}
		b.events = append(b.events, e)
	}
}

func (b *notebook) Committed(ctx context.Context, after uint64) (uint64, error) {
	look := time.NewTicker(time.Millisecond)
	defer look.Stop()
	for {
		b.mu.Lock()
		n := b.n
		b.mu.Unlock()
		if n > after {
			return n, nil
		}
		select {
		case <-look.C:
		case <-ctx.Done():
			return n, ctx.Err()
		}
	}
}

// of are the events that the alarm gave, in order.
func (b *notebook) of(condition string) (out []happening) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, e := range b.events {
		if e.text("condition_id") == condition {
			out = append(out, e)
		}
	}
	return out
}

// proven is in how many pieces time is proven.
func (b *notebook) proven() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.proofs)
}

func (b *notebook) last() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.told) == 0 {
		return ""
	}
	return b.told[len(b.told)-1]
}

// listens runs a reader of the press until stop.
func (b *notebook) listens(cfg edgeua.Config) (stop func()) {
	b.t.Helper()
	r, err := edgeua.New(cfg, clock.Machine{}.Now, logger(b.t))
	if err != nil {
		b.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	b.mu.Lock()
	state := slices.Clone(b.state)
	b.mu.Unlock()
	go func() { done <- r.Run(ctx, state, b) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil && !errors.Is(err, context.Canceled) {
			b.t.Error(err)
		}
	})
	b.t.Cleanup(stop)
	return stop
}

func newNotebook(t *testing.T) *notebook {
	t.Helper()
	dec, err := wire.NewDecoder()
	if err != nil {
		t.Fatal(err)
	}
	return &notebook{t: t, dec: dec}
}

func (p *press) config(events ...edgeua.Events) edgeua.Config {
	cfg := edgeua.Config{
		ID: "press", Endpoint: fmt.Sprintf("opc.tcp://127.0.0.1:%d", p.port), Security: edgeua.Security{Insecure: true},
		Disorder: strict.Duration(disorder), Events: events,
		Signals: []edgeua.Signal{{Name: "line1.press.temp", Node: "nsu=" + plantURI + ";s=temp", Type: "double"}},
	}
	cfg.Window.Latency = strict.Duration(50 * time.Millisecond)
	return cfg
}

const hot = "nsu=" + plantURI + ";s=hot"

// TestAlarms: every state of an alarm comes once, in order, with what it says;
// across a restart, and across a server that forgets.
func TestAlarms(t *testing.T) {
	beside(t)
	p, b := newPress(t, 1000), newNotebook(t)
	t.Cleanup(func() {
		if t.Failed() {
			b.mu.Lock()
			defer b.mu.Unlock()
			t.Logf("%d events, proofs %v, voids %+v, told %q", len(b.events), b.proofs, b.voids, b.told)
			for _, e := range b.events {
				t.Logf("%v flags %x: %s of %s active %s severity %s: %s", e.Time, e.Flags, e.text("event_id"), e.text("condition_id"), e.text("active"), e.text("severity"), e.text("message"))
			}
			var said struct {
				Raised []string `json:"raised"`
			}
			p.ask(map[string]any{"do": "raised"}, &said)
			t.Logf("raised %q", said.Raised)
		}
	})
	cfg := p.config(edgeua.Events{Name: "line1.press.alarms"})
	stop := b.listens(cfg)
	until(t, 20*time.Second, "it is connected", func() bool { return strings.HasPrefix(b.last(), "connected") })
	p.ask(map[string]any{"do": "raise", "message": "door open", "severity": 321}, nil)
	p.set(90)
	p.set(130)
	p.ask(map[string]any{"do": "acknowledge"}, nil)
	p.set(20)
	p.set(95)
	arrived := func() {
		t.Helper()
		var said struct {
			Raised []string `json:"raised"`
		}
		p.ask(map[string]any{"do": "raised"}, &said)
		var want, got []string
		for _, e := range said.Raised { // a refresh raises the same again
			if !slices.Contains(want, e) {
				want = append(want, e)
			}
		}
		until(t, 30*time.Second, fmt.Sprintf("the %d states of the alarm come", len(want)), func() bool { return len(b.of(hot)) >= len(want) })
		for _, e := range b.of(hot) {
			branch := e.text("branch_id")
			got = append(got, e.text("event_id")+" "+branch[strings.LastIndex(branch, ";")+1:])
		}
		if !slices.Equal(got, want) {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
	arrived()
	first := b.of(hot)[0]
	for field, want := range map[string]string{
		"active": "true", "acknowledged": "false", "confirmed": "false", "enabled": "true", "retain": "true", "condition_name": "too hot", "source_name": "2:temp",
		"event_type": "i=9906", "source_node": "nsu=" + plantURI + ";s=temp", "branch_id": "",
	} {
		if got := first.text(field); got != want {
			t.Errorf("%s is %q, want %q", field, got, want)
		}
	}
	if first.text("message") == "" || first.fields["severity"].Bits == 0 || first.Flags != 0 || first.Source == 0 || first.Server == 0 {
		t.Errorf("%+v", first)
	}
	if !slices.ContainsFunc(b.of(""), func(e happening) bool {
		return e.text("message") == "door open" && e.text("severity") == "321" && e.text("retain") == ""
	}) {
		t.Error("the event that is no condition has not come")
	}

	stop() // as a restart of the agent
	p.set(10)
	p.set(99)
	stop = b.listens(cfg)
	arrived()

	// A first proof that came behind the order would be taken for the new subscription's.
	until(t, 20*time.Second, "time is proven", func() bool { return b.proven() > 0 })
	known, proofs := len(b.of(hot)), b.proven()
	p.ask(map[string]any{"do": "forget"}, nil)
	until(t, 20*time.Second, "it has a new subscription", func() bool { return b.proven() > proofs })
	p.set(5)
	p.set(121)
	arrived()
	stop()
	if n := len(b.of(hot)); n <= known {
		t.Errorf("after the server forgot, nothing came")
	}
}

// TestAlarms_RefreshTellsWhatNobodyHeard: the alarm that was raised while nobody
// was subscribed comes as a state, not as news.
func TestAlarms_RefreshTellsWhatNobodyHeard(t *testing.T) {
	beside(t)
	p, b := newPress(t, 0), newNotebook(t)
	p.set(90)
	cfg := p.config(edgeua.Events{Name: "line1.press.alarms", MinSeverity: 50, Types: []string{"i=2915"}}, edgeua.Events{Name: "line1.press.own", Node: "nsu=" + plantURI + ";s=press"})
	stop := b.listens(cfg)
	until(t, 20*time.Second, "the alarm comes at both notifiers", func() bool { return len(b.of(hot)) == 2 })
	p.ask(map[string]any{"do": "raise", "message": "no alarm", "severity": 500}, nil)
	p.set(20)
	until(t, 20*time.Second, "its end comes at both", func() bool { return ended(b) == 3 })
	stop()
	for _, e := range b.of(hot) {
		initial := e.Flags&mesh.FlagInitial != 0
		// What went down unacknowledged lives on in a branch. A refresh is announced at the Server object only.
		if want := e.text("active") == "true" && e.text("branch_id") == "" && e.Signal == 1; initial != want {
			t.Errorf("active %s, branch %q at %d: initial %t", e.text("active"), e.text("branch_id"), e.Signal, initial)
		}
	}
	if slices.ContainsFunc(b.of(""), func(e happening) bool { return e.Signal == 1 }) {
		t.Errorf("what is no alarm has come through the filter: %+v", b.of(""))
	}
}

// ended are the notifiers at which the alarm's end has come, as bits.
func ended(b *notebook) (bits int) {
	for _, e := range b.of(hot) {
		if e.text("active") == "false" {
			bits |= int(e.Signal)
		}
	}
	return bits
}

// TestAlarms_FilterThatIsRefused: a notifier that is none is refused, and the rest works.
func TestAlarms_FilterThatIsRefused(t *testing.T) {
	beside(t)
	p, b := newPress(t, 0), newNotebook(t)
	cfg := p.config(edgeua.Events{Name: "line1.press.alarms"}, edgeua.Events{Name: "none", Node: "nsu=" + plantURI + ";s=none"}, edgeua.Events{Name: "nowhere", Node: "nsu=urn:none;s=temp"})
	stop := b.listens(cfg)
	until(t, 20*time.Second, "it is connected", func() bool { return strings.Contains(b.last(), "2 of 4 signals refused: none (") })
	p.set(90)
	until(t, 20*time.Second, "the alarm comes", func() bool { return len(b.of(hot)) > 0 })
	stop()
}

// outage has a reader hear the press, the server forget it, and the temperature
// change to values 1 to n while nobody listens; then it is heard again. It returns
// the values that came, each once.
func (p *press) outage(b *notebook, cfg edgeua.Config, n int) (came map[float64]int) {
	p.t.Helper()
	temp := func(v float64) bool {
		b.mu.Lock()
		defer b.mu.Unlock()
		return slices.ContainsFunc(b.values, func(s mesh.Sample) bool { f, ok := s.Value.Float(); return ok && f == v })
	}
	p.set(-1)
	stop := b.listens(cfg)
	p.set(-2)
	until(p.t, 30*time.Second, "it is heard", func() bool { return temp(-2) && b.proven() == 1 })
	stop()
	p.ask(map[string]any{"do": "forget"}, nil)
	for i := range n {
		p.set(float64(i + 1))
	}
	stop = b.listens(cfg)
	p.set(-3)
	until(p.t, 30*time.Second, "it is heard again", func() bool { return temp(-3) })
	at := mesh.NanosOf(time.Now())
	until(p.t, 30*time.Second, "it is proven", func() bool { b.mu.Lock(); defer b.mu.Unlock(); return b.proofs[len(b.proofs)-1].To >= at })
	stop()
	came = map[float64]int{}
	seen := map[string]bool{}
	for _, s := range b.values {
		f, _ := s.Value.Float()
		if key := fmt.Sprint(s.Time, f, s.Status); !seen[key] { // one that comes live and of the history is one
			seen[key] = true
			came[f]++
		}
	}
	return came
}

// TestHistory_FillsWhatTheServerForgot, and the controls: without history it is lost,
// and said so.
func TestHistory_FillsWhatTheServerForgot(t *testing.T) {
	const n = 2500
	for name, c := range map[string]struct {
		history int
		ask     string
		filled  bool
		note    string
	}{
		"filled":            {100_000, "auto", true, ""},
		"not asked":         {100_000, "off", false, "the server has not kept"},
		"has none":          {0, "auto", false, "it offers no history of line1.press.temp"},
		"begins in the gap": {1000, "auto", false, "its history of line1.press.temp begins at "},
	} {
		if !full() && name != "filled" && name != "not asked" {
			continue // make matrix
		}
		t.Run(name, func(t *testing.T) {
			beside(t)
			p, b := newPress(t, c.history), newNotebook(t)
			cfg := p.config()
			cfg.History = c.ask
			came := p.outage(b, cfg, n)
			lost, doubled := 0, 0
			for i := range n - 1 { // the last is the first value of the new subscription
				switch k := came[float64(i+1)]; {
				case k == 0:
					lost++
				case k > 1:
					doubled++
				}
			}
			if doubled > 0 || (lost == 0) != c.filled || c.filled && (came[-2] != 1 || came[-3] != 1) {
				t.Errorf("%d lost, %d doubled, before %d, after %d", lost, doubled, came[-2], came[-3])
			}
			var notes []string
			for _, v := range b.voids {
				if v.Cause == mesh.CauseDisconnected {
					notes = append(notes, v.Note)
				}
			}
			if c.filled != (len(b.proofs) == 1) || c.filled != (len(notes) == 0) || !strings.Contains(strings.Join(notes, "; "), c.note) {
				t.Errorf("proofs %v, notes %q", b.proofs, notes)
			}
		})
	}
}
