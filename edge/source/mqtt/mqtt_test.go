package mqtt

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/paho"
	mochi "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/listeners"
	"github.com/mochi-mqtt/server/v2/packets"

	"plantmesh/edge/source"
	"plantmesh/edge/source/mqtt/mapping"
	"plantmesh/proto/mesh"
)

// disk is an agent's log in memory. What is not synced dies with the reader.
type disk struct {
	mu      sync.Mutex
	durable []mesh.Offer
	state   []byte
	kept    map[string][]byte
	changed chan struct{}
}

func newDisk() *disk { return &disk{changed: make(chan struct{})} }

// pipe is one run of a reader on a disk.
type pipe struct {
	d       *disk
	base    int
	pending chan mesh.Offer
}

// run lets a reader work on the disk until ctx ends. Each commit takes delay.
func (d *disk) run(ctx context.Context, r source.Reader, delay time.Duration) error {
	ctx, cancel := context.WithCancel(ctx)
	d.mu.Lock()
	p := &pipe{d: d, base: len(d.durable), pending: make(chan mesh.Offer, 4)}
	state := d.state
	if k, ok := r.(source.Keeper); ok {
		k.Keep(maps.Clone(d.kept))
	}
	d.mu.Unlock()
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-ctx.Done():
				return
			case o := <-p.pending:
				select {
				case <-ctx.Done():
					return
				case <-time.After(delay):
				}
				d.mu.Lock()
				d.durable = append(d.durable, o)
				if o.State != nil {
					d.state = o.State
				}
				d.kept = keep(d.kept, o)
				close(d.changed)
				d.changed = make(chan struct{})
				d.mu.Unlock()
			}
		}
	}()
	err := r.Run(ctx, state, p)
	cancel()
	<-done
	return err
}

func (p *pipe) Append(ctx context.Context, o mesh.Offer) (uint64, error) {
	select {
	case p.pending <- o:
		return 0, nil
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

func (p *pipe) Committed(ctx context.Context, after uint64) (uint64, error) {
	for {
		p.d.mu.Lock()
		n, changed := uint64(len(p.d.durable)-p.base), p.d.changed
		p.d.mu.Unlock()
		if n > after {
			return n, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
}

// samples are all stored ones.
func (d *disk) samples(t *testing.T) (out []mesh.Sample, batches []mesh.Batch, voids []mesh.Void) {
	t.Helper()
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, o := range d.durable {
		b, v := contents(t, o)
		batches, voids = append(batches, b...), append(voids, v...)
		for _, b := range b {
			out = append(out, b.Samples...)
		}
	}
	return out, batches, voids
}

// until waits for a condition on the disk, looked at after each commit.
func (d *disk) until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	end := time.After(30 * time.Second)
	for !ok() {
		d.mu.Lock()
		changed := d.changed
		d.mu.Unlock()
		select {
		case <-changed:
		case <-time.After(100 * time.Millisecond):
		case <-end:
			t.Fatalf("timed out: %s", what)
		}
	}
}

// proxy stands between reader and broker and cuts connections.
type proxy struct {
	net.Listener

	mu    sync.Mutex
	conns []net.Conn
}

func newProxy(t *testing.T, to string) *proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{Listener: l}
	t.Cleanup(func() { l.Close(); p.cut() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			b, err := net.Dial("tcp", to)
			if err != nil {
				c.Close()
				continue
			}
			p.mu.Lock()
			p.conns = append(p.conns, c, b)
			p.mu.Unlock()
			go func() { io.Copy(b, c); b.Close(); c.Close() }()
			go func() { io.Copy(c, b); b.Close(); c.Close() }()
		}
	}()
	return p
}

func (p *proxy) cut() (n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.conns {
		if tcp, ok := c.(*net.TCPConn); ok {
			tcp.SetLinger(0)
		}
		c.Close()
	}
	n, p.conns = len(p.conns)/2, nil
	return n
}

func publisher(t *testing.T, address, client string) *paho.Client {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	c := paho.NewClient(paho.ClientConfig{Conn: conn, PacketTimeout: time.Minute})
	if _, err := c.Connect(t.Context(), &paho.Connect{ClientID: client, KeepAlive: 60, CleanStart: true}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return c
}

// mosquitto starts a real one and gives its address.
func mosquitto(t *testing.T) string {
	t.Helper()
	path, err := exec.LookPath("mosquitto")
	if err != nil {
		path = "/usr/sbin/mosquitto"
	}
	if _, err := os.Stat(path); err != nil {
		if strings.Contains(os.Getenv("PLANTMESH_REQUIRE"), "interop") {
			t.Fatal("mosquitto is required and not installed")
		}
		t.Skip("mosquitto is not installed")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	l.Close()
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	conf := filepath.Join(t.TempDir(), "mosquitto.conf")
	text := "listener " + port + " 127.0.0.1\nallow_anonymous true\nmax_queued_messages 0\nmax_inflight_messages 0\n"
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	cmd := exec.Command(path, "-c", conf)
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
		if t.Failed() {
			t.Logf("mosquitto: %s", out.String())
		}
	})
	for end := time.Now().Add(10 * time.Second); ; {
		c, err := net.DialTimeout("tcp", address, time.Second)
		if err == nil {
			c.Close()
			return address
		}
		if time.Now().After(end) {
			t.Fatalf("mosquitto does not listen: %v: %s", err, out.String())
		}
		<-time.After(20 * time.Millisecond)
	}
}

// allow lets everybody do everything, without the library's quota: where a message comes
// while it looks for what waits for some, its broker stands still.
type allow struct{ mochi.HookBase }

func (*allow) ID() string { return "allow" }
func (*allow) Provides(b byte) bool {
	return b == mochi.OnConnectAuthenticate || b == mochi.OnACLCheck || b == mochi.OnSessionEstablished
}
func (*allow) OnConnectAuthenticate(*mochi.Client, packets.Packet) bool { return true }
func (*allow) OnACLCheck(*mochi.Client, string, bool) bool              { return true }
func (*allow) OnSessionEstablished(c *mochi.Client, _ packets.Packet) {
	c.State.Inflight.ResetSendQuota(0)
}

func stockMochi(t *testing.T) string {
	t.Helper()
	s := mochi.New(&mochi.Options{Logger: slog.New(slog.DiscardHandler)})
	if err := s.AddHook(new(allow), nil); err != nil {
		t.Fatal(err)
	}
	l := listeners.NewTCP(listeners.Config{ID: "t", Address: "127.0.0.1:0"})
	if err := s.AddListener(l); err != nil {
		t.Fatal(err)
	}
	if err := s.Serve(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return l.Address()
}

func testReader(t *testing.T, address string) *Reader {
	t.Helper()
	cfg := testConfig(t)
	cfg.URL = "mqtt://" + address
	cfg.Window.Latency = 50e6
	r, err := New(*cfg, func() mesh.Nanos { return noon + 3600e9 }, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// start runs a reader until the returned function is called.
func start(t *testing.T, d *disk, r *Reader, delay time.Duration) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- d.run(ctx, r, delay) }()
	var once sync.Once
	stop = func() {
		once.Do(func() {
			cancel()
			if err := <-done; err != nil {
				t.Errorf("run: %v", err)
			}
		})
	}
	t.Cleanup(stop)
	return stop
}

func send(t *testing.T, cm *paho.Client, topic, payload string) (reason byte) {
	t.Helper()
	r, err := cm.Publish(t.Context(), &paho.Publish{QoS: 1, Topic: topic, Payload: []byte(payload)})
	if err != nil {
		t.Errorf("publish: %v", err)
		return 0
	}
	return r.ReasonCode
}

// subscribedBy publishes heartbeats until somebody takes them (reason 0x10:
// no matching subscriber), then gives the time of the last.
func subscribedBy(t *testing.T, cm *paho.Client, d *disk) {
	t.Helper()
	i := 0
	d.until(t, "the reader subscribes", func() bool {
		i++
		send(t, cm, "plant/line3/heartbeat", fmt.Sprintf(`{"ts":%d}`, int64(noon)/1e6+int64(i)))
		_, batches, _ := d.samples(t)
		d.mu.Lock()
		defer d.mu.Unlock()
		return len(d.durable) > 0 || len(batches) > 0
	})
}

func TestReader_AgainstStockBroker(t *testing.T) {
	address := stockMochi(t)
	d := newDisk()
	start(t, d, testReader(t, address), 0)
	cm := publisher(t, address, "machine")
	subscribedBy(t, cm, d)
	for i := range 200 {
		send(t, cm, "plant/line3/filler", fmt.Sprintf(`{"ts":%d,"produced":%d}`, int64(noon)/1e6+int64(i), i))
	}
	send(t, cm, "plant/line3/filler", strings.Repeat("x", 3<<20))
	send(t, cm, "plant/line3/heartbeat", fmt.Sprintf(`{"ts":%d}`, int64(noon)/1e6+60_000))
	// The message that nobody can read makes the four signals of its topic Bad.
	d.until(t, "everything is stored", func() bool {
		s, batches, voids := d.samples(t)
		return len(s) == 204 && len(voids) == 1 && len(batches) > 0 && batches[len(batches)-1].Complete == noon+55e9
	})
	_, _, voids := d.samples(t)
	if v := voids[0]; v.Cause != mesh.CauseUnreadable || !strings.Contains(v.Note, mapping.ErrTooLarge.Error()) {
		t.Errorf("void: %+v", v)
	}
}

func TestReader_CutsAndRestartsAgainstMosquitto(t *testing.T) {
	address := mosquitto(t)
	p := newProxy(t, address)
	d := newDisk()
	stop := start(t, d, testReader(t, p.Addr().String()), 2*time.Millisecond)
	cm := publisher(t, address, "machine")
	subscribedBy(t, cm, d)

	const n, workers = 20_000, 16
	var wg sync.WaitGroup
	next := make(chan int)
	for range workers {
		wg.Go(func() {
			for i := range next {
				send(t, cm, "plant/line3/filler", fmt.Sprintf(`{"ts":%d,"produced":%d}`, int64(noon)/1e6+int64(i), i))
			}
		})
	}
	cuts := 0
	for i := range n {
		if i%1000 == 999 {
			if i%4000 == 3999 {
				stop() // the worker dies; another goes on from what was committed
				stop = start(t, d, testReader(t, p.Addr().String()), 2*time.Millisecond)
			} else {
				cuts += p.cut()
			}
		}
		next <- i
	}
	close(next)
	wg.Wait()
	send(t, cm, "plant/line3/heartbeat", fmt.Sprintf(`{"ts":%d}`, int64(noon)/1e6+60_000))
	d.until(t, "the last heartbeat is stored", func() bool {
		_, batches, _ := d.samples(t)
		return len(batches) > 0 && batches[len(batches)-1].Complete == noon+55e9
	})
	stop()
	got, batches, voids := d.samples(t)
	seen := make(map[mesh.Nanos]int, n)
	for _, s := range got {
		seen[s.Time]++
	}
	lost, doubled := n-len(seen), len(got)-len(seen)
	t.Logf("%d cuts, %d samples, %d lost, %d doubled, %d batches", cuts, len(got), lost, doubled, len(batches))
	if lost != 0 || doubled != 0 || cuts == 0 || len(voids) != 0 {
		t.Errorf("lost %d doubled %d cuts %d voids %+v", lost, doubled, cuts, voids)
	}
	unbroken(t, batches)
}

// unbroken checks that each claim begins where the one before ended.
func unbroken(t *testing.T, batches []mesh.Batch) {
	t.Helper()
	var end mesh.Nanos
	for _, b := range batches {
		if b.Proven.Empty() {
			continue
		}
		if end != 0 && b.Proven.From != end {
			t.Errorf("proof breaks: %v after %v", b.Proven, end)
		}
		end = b.Proven.To
	}
}

func TestReader_NoBrokerIsTriedUntilTheEnd(t *testing.T) {
	r := testReader(t, "127.0.0.1:1")
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if err := newDisk().run(ctx, r, 0); err != nil {
		t.Errorf("run: %v", err)
	}
}

// listener is a log that only listens to what the reader says.
type listener struct{ said chan string }

func (listener) Append(context.Context, mesh.Offer) (uint64, error) { return 0, nil }

func (listener) Committed(ctx context.Context, _ uint64) (uint64, error) {
	<-ctx.Done()
	return 0, ctx.Err()
}

func (l listener) Tell(text string) {
	select {
	case l.said <- text:
	default:
	}
}

func TestReader_SaysThatTheBrokerIsNotReached(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	l := listener{make(chan string, 1)}
	done := make(chan error, 1)
	go func() { done <- testReader(t, "127.0.0.1:1").Run(ctx, nil, l) }()
	if said := <-l.said; !strings.HasPrefix(said, "not connected: connect to mqtt://127.0.0.1:1") {
		t.Errorf("it says %q", said)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

type brokenLog struct{}

func (brokenLog) Append(context.Context, mesh.Offer) (uint64, error) { return 0, errors.New("broken") }

func (brokenLog) Committed(context.Context, uint64) (uint64, error) { return 0, errors.New("broken") }

func TestReader_BrokenLogEndsTheRun(t *testing.T) {
	if err := testReader(t, "127.0.0.1:1").Run(t.Context(), nil, brokenLog{}); err == nil {
		t.Error("run went on")
	}
}
