package mqtt

import (
	"fmt"
	"io"
	"net"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"plantmesh/edge/source/mqtt/link"
)

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
