package mqtt

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"plantmesh/deploy/e2e/programs"
	"plantmesh/edge/buffer"
	"plantmesh/edge/source/mqtt/link"
	"plantmesh/proto/mesh"
	"plantmesh/proto/wire"
)

// built and hub are the programs of the agent and of a hub, which signs its token.
var built, hub string

func TestMain(m *testing.M) { os.Exit(main(m)) }

func main(m *testing.M) int {
	dir, err := os.MkdirTemp("", "pm")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	built, hub = filepath.Join(dir, "plantmesh-edge"), filepath.Join(dir, "plantmesh")
	if err := programs.Into(context.Background(), dir, "plantmesh", "plantmesh-edge"); err != nil {
		panic(err)
	}
	return m.Run()
}

// process is a program that is started again and again.
type process struct {
	t    *testing.T
	name string
	args []string
	cmd  *exec.Cmd
	said *bytes.Buffer
}

func (p *process) start() {
	p.t.Helper()
	p.said = &bytes.Buffer{}
	p.cmd = exec.Command(p.args[0], p.args[1:]...)
	p.cmd.Stdout, p.cmd.Stderr = p.said, p.said
	if err := p.cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
}

func (p *process) end(s os.Signal) {
	if err := p.cmd.Process.Signal(s); err != nil {
		p.t.Errorf("%s: %v", p.name, err)
	}
	_ = p.cmd.Wait() // it was told to end
}

// run starts a program that ends with the test.
func run(t *testing.T, name string, args ...string) *process {
	t.Helper()
	p := &process{t: t, name: name, args: args}
	p.start()
	t.Cleanup(func() {
		p.cmd.Process.Kill()
		p.cmd.Wait()
		if t.Failed() {
			said := p.said.String()
			t.Logf("%s said: %s", name, said[max(0, len(said)-3000):])
		}
	})
	return p
}

func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// mosquitto starts a real one that keeps what it has on disk.
func mosquitto(t *testing.T) (p *process, address string) {
	t.Helper()
	path, err := exec.LookPath("mosquitto")
	if err != nil {
		path = "/usr/sbin/mosquitto"
	}
	if _, err := os.Stat(path); err != nil {
		if strings.Contains(os.Getenv("PLANTMESH_REQUIRE"), "interop") {
			t.Fatal("mosquitto is required and not installed")
		}
		t.Skip("skipped: mosquitto is not installed")
	}
	port, dir := freePort(t), t.TempDir()
	conf := filepath.Join(dir, "mosquitto.conf")
	text := "listener " + port + " 127.0.0.1\nallow_anonymous true\nmax_queued_messages 0\npersistence true\npersistence_location " + dir +
		"/\nautosave_on_changes true\nautosave_interval 500\nuser root\n"
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	p = run(t, "mosquitto", path, "-c", conf)
	return p, "127.0.0.1:" + port
}

// cable stands between agent and broker. Deaf, what the agent says is lost.
type cable struct {
	net.Listener

	to   string
	deaf atomic.Bool
	lost atomic.Int64 // bytes of the agent

	mu    sync.Mutex
	conns []net.Conn
}

func newCable(t *testing.T, to string) *cable {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &cable{Listener: l, to: to}
	t.Cleanup(func() { l.Close(); c.cut() })
	go func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", to)
			if err != nil {
				in.Close()
				continue
			}
			c.mu.Lock()
			c.conns = append(c.conns, in, out)
			c.mu.Unlock()
			go func() { io.Copy(in, out); in.Close(); out.Close() }()
			go func() { c.carry(out, in); in.Close(); out.Close() }()
		}
	}()
	return c
}

func (c *cable) carry(to io.Writer, from io.Reader) {
	for b := make([]byte, 4096); ; {
		n, err := from.Read(b)
		if err != nil {
			return
		}
		if c.deaf.Load() {
			c.lost.Add(int64(n))
			continue
		}
		if _, err := to.Write(b[:n]); err != nil {
			return
		}
	}
}

func (c *cable) cut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, x := range c.conns {
		x.Close()
	}
	c.conns = nil
}

// await looks again and again until ok.
func await(t *testing.T, what string, long time.Duration, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	end := time.After(long)
	for !ok() {
		select {
		case <-tick.C:
		case <-end:
			t.Fatalf("timed out after %v: %s", long, what)
		}
	}
}

// publisher is a machine that numbers its messages. It goes on where it was when the
// broker comes back: what was not acknowledged is said again.
type publisher struct {
	address string
	from    int // the first number that is not acknowledged
	l       *link.Link
	ids     map[uint16]int
	next    int
	done    map[int]bool
}

const inFlight = 64

// until publishes until the numbers below n are acknowledged.
func (p *publisher) until(t *testing.T, n int) {
	t.Helper()
	for limit := time.Now().Add(2 * time.Minute); p.from < n; {
		if time.Now().After(limit) {
			t.Fatalf("only %d of %d messages were acknowledged", p.from, n)
		}
		if err := p.some(t, n); err != nil {
			if p.l != nil {
				p.l.Close()
			}
			p.l = nil
			<-time.After(50 * time.Millisecond) // the broker is away
		}
	}
}

func (p *publisher) some(t *testing.T, n int) error {
	t.Helper()
	if p.l == nil {
		cfg := &link.Config{URL: "mqtt://" + p.address}
		if err := cfg.Validate(); err != nil {
			t.Fatal(err)
		}
		l, _, err := link.Dial(t.Context(), cfg, link.Hello{ClientID: "machine", CleanStart: true})
		if err != nil {
			return err
		}
		p.l, p.ids, p.next = l, map[uint16]int{}, p.from
	}
	for p.next < n && len(p.ids) < inFlight {
		if p.done[p.next] {
			p.next++
			continue
		}
		id, err := p.l.Publish(link.Message{Topic: "plant/line3/filler", QoS: 1, Payload: fmt.Appendf(nil, `{"ts":%d,"n":%d,"produced":%d}`, start+int64(p.next), p.next+1, p.next)})
		if err != nil {
			return err
		}
		p.ids[id] = p.next
		p.next++
	}
	var got link.Packet
	kind, err := p.l.Next(&got)
	if err != nil {
		return err
	}
	if i, ok := p.ids[got.ID]; ok && kind == link.Acknowledged {
		delete(p.ids, got.ID)
		for p.done[i] = true; p.done[p.from]; p.from++ {
			delete(p.done, p.from)
		}
	}
	return nil
}

// start is the time of the first message, in ms.
const start = 1_767_268_800_000

const site = `site: graz
zone: Europe/Vienna
production_day_start: "06:00"
shifts:
  - {id: early, start: "06:00", end: "14:00"}
min_coverage: 0.5
energy_unit: kWh
equipment:
  - {id: line3-filler, line: line3, name: Filler, kind: filler, source: s1, signals_prefix: line3.filler.}
`

// said is what a command prints.
func said(t *testing.T, program string, args ...string) string {
	t.Helper()
	var wrong bytes.Buffer
	cmd := exec.Command(program, args...)
	cmd.Stderr = &wrong
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %v: %v\n%s", filepath.Base(program), args, err, wrong.String())
	}
	return strings.TrimSpace(string(out))
}

// gateway writes an agent's files. There is no hub: what it has stays in its buffer.
func gateway(t *testing.T, source string) (dir string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "pmq") //nolint:usetesting // short: a socket's path has some 100 bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	for name, text := range map[string]string{
		"edge.yaml":        "agent: gw-1\nsite: graz\ndata: data\nhub: {url: \"nats://127.0.0.1:1\", key: agent.nk, token: agent.jwt}\nwindow: {latency: 100ms}\nbuffer: {max_bytes: 256MiB}\n",
		"sources.d/s.yaml": source,
		"hub.yaml":         "data: hub\nsite_file: site.yaml\nnats: {listen: \"127.0.0.1:0\", max_store: 1GiB}\nhttp: {listen: \"127.0.0.1:0\"}\n",
		"site.yaml":        site,
	} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	key := said(t, built, "keygen", filepath.Join(dir, "agent.nk"))
	token := said(t, hub, "agents", "enroll", "--config", filepath.Join(dir, "hub.yaml"), "--site", "graz", "gw-1", key)
	if err := os.WriteFile(filepath.Join(dir, "agent.jwt"), []byte(token+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

// stored is what lies in the buffer of an agent that does not run: how often each
// number, and the voids.
func stored(t *testing.T, dir string) (numbers map[int64]int, voids []mesh.Void) {
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
	numbers = map[int64]int{}
	for at := (mesh.Position{}); ; {
		records, err := b.Peek(at, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		if len(records) == 0 {
			return numbers, voids
		}
		for _, r := range records {
			at = r.At
			h, err := wire.ParseHeader(r.Sealed)
			if err != nil {
				t.Fatal(err)
			}
			switch h.Kind {
			case mesh.KindVoid:
				v, err := wire.OpenVoid(r.Sealed)
				if err != nil {
					t.Fatal(err)
				}
				voids = append(voids, v)
			case mesh.KindOpening, mesh.KindVerdict, mesh.KindFact:
			case mesh.KindBatch:
				batch, err := d.Batch(r.Sealed)
				if err != nil {
					t.Fatal(err)
				}
				for _, s := range batch.Samples {
					if n, ok := s.Value.Int(); ok {
						numbers[n]++
					}
				}
			}
		}
	}
}

// counted compares that with what was published.
func counted(numbers map[int64]int, from, n int) (missing, doubled int) {
	for i := int64(from); i < int64(n); i++ {
		switch c := numbers[i]; {
		case c == 0:
			missing++
		case c > 1:
			doubled += c - 1
		}
	}
	return missing, doubled
}

// all runs the agent until everything is in its buffer, at least from a message on, or
// it takes too long.
func all(t *testing.T, agent *process, dir string, n, from int) (missing, doubled int, voids []mesh.Void) {
	t.Helper()
	for range 8 {
		<-time.After(2 * time.Second) // it reads on meanwhile
		agent.end(syscall.SIGTERM)
		var numbers map[int64]int
		numbers, voids = stored(t, dir)
		missing, doubled = counted(numbers, 0, n)
		if late, _ := counted(numbers, from, n); late == 0 {
			break
		}
		agent.start()
	}
	return missing, doubled, voids
}

func TestBroker_CutsKillsAndRestartsInTurn(t *testing.T) {
	broker, address := mosquitto(t)
	c := newCable(t, address)
	dir := gateway(t, "mqtt:\n  id: s1\n  url: mqtt://"+c.Addr().String()+`
  topics:
    - {filter: plant/line3/+, signal: "line3.{2}.{key}", time: ts, sequence: n}
  signals:
    - {name: line3.filler.produced, type: int, max_silence: 1m}
`)
	agent := run(t, "the agent", built, "run", "--config", filepath.Join(dir, "edge.yaml"))
	p := &publisher{address: address, done: map[int]bool{}}
	subscribed(t, address)
	const n, steps = 20_000, 20
	for step := range steps {
		p.until(t, n*(step+1)/steps)
		switch step % 3 {
		case 0: // what was committed is not acknowledged when the cable is cut
			c.lost.Store(0)
			c.deaf.Store(true)
			p.until(t, n*(step+1)/steps+min(200, n-n*(step+1)/steps))
			await(t, "acknowledgements are lost", 20*time.Second, func() bool { return c.lost.Load() > 0 })
			c.cut()
			c.deaf.Store(false)
		case 1:
			agent.end(syscall.SIGKILL)
			agent.start()
		case 2:
			broker.end(syscall.SIGTERM)
			broker.start()
		}
	}
	p.until(t, n)
	missing, doubled, voids := all(t, agent, dir, n, 0)
	t.Logf("%d messages, missing %d, duplicated %d, %d voids", n, missing, doubled, len(voids))
	if missing != 0 || doubled != 0 {
		t.Errorf("missing %d, duplicated %d; want none; voids %+v", missing, doubled, voids)
	}
}

// A broker that is killed loses what it had acknowledged and not written; what it had
// written it sends again, acknowledged or not.
func TestBroker_KilledLosesWhatIsNamed(t *testing.T) {
	broker, address := mosquitto(t)
	dir := gateway(t, "mqtt:\n  id: s1\n  url: mqtt://"+address+`
  topics:
    - {filter: plant/line3/+, signal: "line3.{2}.{key}", time: ts, sequence: n}
  signals:
    - {name: line3.filler.produced, type: int, max_silence: 1m}
`)
	agent := run(t, "the agent", built, "run", "--config", filepath.Join(dir, "edge.yaml"))
	p := &publisher{address: address, done: map[int]bool{}}
	subscribed(t, address)
	const n, kills = 6000, 5
	for k := range kills {
		agent.end(syscall.SIGKILL) // the broker has much that nobody took yet
		p.until(t, n*(k+1)/kills-100)
		agent.start()
		p.until(t, n*(k+1)/kills)
		broker.end(syscall.SIGKILL)
		broker.start()
	}
	const more = n + 50 // whose numbers tell what the last kill cost
	p.until(t, more)
	missing, doubled, voids := all(t, agent, dir, more, n+1)
	named := uint64(0)
	for _, v := range voids {
		for _, part := range v.Parts {
			named += part.Count
		}
	}
	t.Logf("%d messages, missing %d, of which %d are named, duplicated %d, %d voids", more, missing, named, doubled, len(voids))
	if doubled != 0 {
		t.Errorf("duplicated %d", doubled)
	}
	if uint64(missing) > named || missing == 0 {
		t.Errorf("missing %d, named %d: %+v", missing, named, voids)
	}
}

// subscribed waits until somebody subscribes: a publish without a subscriber is
// answered so (reason 0x10).
func subscribed(t *testing.T, address string) {
	t.Helper()
	var l *link.Link
	cfg := &link.Config{URL: "mqtt://" + address}
	if err := cfg.Validate(); err != nil {
		t.Fatal(err)
	}
	await(t, "the broker listens", 20*time.Second, func() (ok bool) {
		var err error
		l, _, err = link.Dial(t.Context(), cfg, link.Hello{ClientID: "watcher", CleanStart: true})
		return err == nil
	})
	defer l.Close()
	await(t, "the agent subscribes", 20*time.Second, func() bool {
		id, err := l.Publish(link.Message{Topic: "plant/line3/other", QoS: 1})
		if err != nil {
			t.Fatal(err)
		}
		for p := (link.Packet{}); ; {
			kind, err := l.Next(&p)
			if err != nil {
				t.Fatal(err)
			}
			if kind == link.Acknowledged && p.ID == id {
				return p.Reason == 0
			}
		}
	})
}
