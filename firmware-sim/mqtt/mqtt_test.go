package mqtt

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	mochi "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"

	"plantmesh/firmware-sim/plant"
)

const src = "line3-mqtt"

var start = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)

func signals() (out []plant.Signal) {
	for _, m := range []string{"filler", "capper"} {
		for _, r := range []string{"speed", "produced", "order", "blocked"} {
			out = append(out, plant.Signal{Source: src, Name: "line3." + m + "." + r})
		}
	}
	return append(out, plant.Signal{Source: "line1-opcua", Name: "line1.filler.speed"})
}

// books count what a source was told is received.
type books struct {
	mu   sync.Mutex
	told map[uint64]int
}

func (b *books) received(_ string, indexes []uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, i := range indexes {
		b.told[i]++
	}
}

func (b *books) len() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.told)
}

func serve(t *testing.T, cfg Config) (*Server, *books) {
	t.Helper()
	cfg.Source = src
	if cfg.Broker == "" {
		cfg.Listen = "127.0.0.1:0"
	}
	b := &books{told: map[uint64]int{}}
	s, err := Serve(cfg, signals(), b.received, slog.New(slog.NewTextHandler(t.Output(), nil)))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("run: %v", err)
		}
	})
	return s, b
}

func emission(i int) plant.Emission {
	at := start.Add(time.Duration(i) * time.Millisecond)
	return plant.Emission{
		Source: src, Index: uint64(i + 1), Signal: "line3.filler.produced", Time: at, Emitted: at.Add(time.Second),
		Value: plant.Value{Type: plant.Int, I: int64(i)},
	}
}

// listener is an MQTT 5 subscriber with a persistent session that does
// exactly what a test says.
type listener struct {
	t       *testing.T
	conn    net.Conn
	in      *bufio.Reader
	present bool
	early   []frame
}

type frame struct {
	head byte
	body []byte
}

type heard struct {
	id    uint16
	again bool
	topic string
	body  string
}

func connect(t *testing.T, s *Server, client string, window uint16, clean bool) *listener {
	t.Helper()
	return join(t, s, client, window, clean, 3600)
}

func join(t *testing.T, s *Server, client string, window uint16, clean bool, expiry uint32) *listener {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(s.URL(), "mqtt://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	l := &listener{t: t, conn: conn, in: bufio.NewReader(conn)}
	p := packets.Packet{ProtocolVersion: 5}
	p.FixedHeader.Type = packets.Connect
	p.Connect.ProtocolName, p.Connect.ClientIdentifier = []byte("MQTT"), client
	p.Connect.Keepalive, p.Connect.Clean = 60, clean
	p.Properties.SessionExpiryInterval, p.Properties.SessionExpiryIntervalFlag = expiry, true
	p.Properties.ReceiveMaximum = window
	l.send(p.ConnectEncode)
	_, body, err := l.frame()
	if err != nil {
		t.Fatal(err)
	}
	l.present = body[0] == 1
	return l
}

func (l *listener) subscribe(filter string) (reason byte) {
	p := packets.Packet{ProtocolVersion: 5, PacketID: 1, Filters: packets.Subscriptions{{Filter: filter, Qos: 1}}}
	p.FixedHeader.Type, p.FixedHeader.Qos = packets.Subscribe, 1
	l.send(p.SubscribeEncode)
	for {
		head, body, err := l.frame()
		if err != nil {
			l.t.Fatal(err)
		}
		if head>>4 == packets.Suback {
			return body[len(body)-1]
		}
		l.early = append(l.early, frame{head, body}) // MQTT 5, 3.8.4: may come before the suback
	}
}

func (l *listener) send(encode func(*bytes.Buffer) error) {
	var b bytes.Buffer
	if err := encode(&b); err != nil {
		l.t.Fatal(err)
	}
	if _, err := l.conn.Write(b.Bytes()); err != nil {
		l.t.Fatal(err)
	}
}

func (l *listener) frame() (head byte, body []byte, err error) {
	if head, err = l.in.ReadByte(); err != nil {
		return 0, nil, err
	}
	n, _, err := packets.DecodeLength(l.in)
	if err != nil {
		return 0, nil, err
	}
	body = make([]byte, n)
	_, err = io.ReadFull(l.in, body)
	return head, body, err
}

// next is the next PUBLISH; ok is false where none comes within wait.
func (l *listener) next(wait time.Duration) (h heard, ok bool) {
	l.conn.SetReadDeadline(time.Now().Add(wait))
	for {
		var f frame
		if len(l.early) > 0 {
			f, l.early = l.early[0], l.early[1:]
		} else if head, body, err := l.frame(); err == nil {
			f = frame{head, body}
		} else {
			return heard{}, false
		}
		head, body := f.head, f.body
		if head>>4 != packets.Publish {
			continue
		}
		n := int(binary.BigEndian.Uint16(body))
		h = heard{again: head&8 != 0, topic: string(body[2 : 2+n]), id: binary.BigEndian.Uint16(body[2+n:])}
		h.body = string(body[2+n+2+1:])
		return h, true
	}
}

func (l *listener) ack(id uint16) {
	l.conn.Write([]byte{packets.Puback << 4, 2, byte(id >> 8), byte(id)})
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !ok(); {
		if time.Now().After(end) {
			t.Fatalf("timed out: %s", what)
		}
		<-time.After(5 * time.Millisecond)
	}
}

func TestServer_ValuesOfOneTimeAreOneMessage(t *testing.T) {
	s, b := serve(t, Config{})
	push := func(i uint64, signal string, ms int, v plant.Value) {
		at := start.Add(time.Duration(ms) * time.Millisecond)
		s.Push(plant.Emission{Source: src, Index: i, Signal: signal, Time: at, Emitted: start.Add(time.Second), Value: v})
	}
	s.Prove(start)
	push(1, "line3.filler.produced", 0, plant.Value{Type: plant.Int, I: 9007199254740993})
	push(2, "line3.capper.blocked", 0, plant.Value{Type: plant.Bool, B: true})
	push(3, "line3.filler.speed", 0, plant.Value{Type: plant.Double, F: 41.5})
	push(4, "line3.filler.speed", 1, plant.Value{Type: plant.Double, F: 42})
	push(5, "line3.filler.order", 0, plant.Value{Type: plant.String, S: `a"b`})
	push(6, "line3.filler.speed", 0, plant.Value{Type: plant.Double, F: 41.5}) // a duplicate is a message of its own
	s.Push(plant.Emission{Source: src, Index: 7, Signal: "line3.filler.speed", Time: start, Emitted: start.Add(2 * time.Second), Status: plant.BadNoData})
	s.Push(plant.Emission{Source: "line1-opcua", Index: 1, Signal: "line1.filler.speed"}) // not ours
	s.Prove(start.Add(20 * time.Second))
	if n := s.Waiting(); n != 7 {
		t.Errorf("waiting %d, want 7", n)
	}
	l := connect(t, s, "agent", 100, false)
	if r := l.subscribe("plant/line3/+"); r != 1 {
		t.Fatalf("suback %d", r)
	}
	ms := start.UnixMilli()
	for i, want := range []string{
		fmt.Sprintf(`plant/line3/heartbeat {"ts":%d}`, ms),
		fmt.Sprintf(`plant/line3/filler {"ts":%d,"produced":9007199254740993,"speed":41.5,"order":"a\"b"}`, ms),
		fmt.Sprintf(`plant/line3/capper {"ts":%d,"blocked":true}`, ms),
		fmt.Sprintf(`plant/line3/filler {"ts":%d,"speed":42}`, ms+1),
		fmt.Sprintf(`plant/line3/filler {"ts":%d,"speed":41.5}`, ms),
		fmt.Sprintf(`plant/line3/filler {"ts":%d,"speed":null}`, ms),
		fmt.Sprintf(`plant/line3/heartbeat {"ts":%d}`, ms+20_000),
	} {
		h, ok := l.next(20 * time.Second)
		if got := h.topic + " " + h.body; !ok || got != want {
			t.Fatalf("message %d: got %s, want %s", i, got, want)
		}
		if !json.Valid([]byte(h.body)) {
			t.Errorf("message %d is no JSON: %s", i, h.body)
		}
		l.ack(h.id)
	}
	eventually(t, "all received", func() bool { return s.Waiting() == 0 && b.len() == 7 })
}

func TestServer_CutsLoseNothingAndKeepTheOrder(t *testing.T) {
	s, b := serve(t, Config{})
	const n, cuts = 40_000, 20
	go func() {
		for i := range n {
			s.Push(emission(i))
		}
		s.Prove(start.Add(time.Hour))
	}()
	stored := map[int]bool{}
	last, again := -1, 0
	for life := 0; len(stored) < n; life++ {
		l := connect(t, s, "agent", 500, false)
		if life == 0 {
			l.subscribe("plant/#")
		} else if !l.present {
			t.Fatal("session forgotten")
		}
		var unacked []uint16
		previous := -1
		for count := 0; len(stored) < n; count++ {
			if life < cuts && count == n/cuts/2+life {
				l.conn.(*net.TCPConn).SetLinger(0)
				l.conn.Close()
				break
			}
			h, ok := l.next(20 * time.Second)
			if !ok {
				t.Fatalf("nothing more after %d of %d", len(stored), n)
			}
			var v struct {
				Produced *int `json:"produced"`
			}
			if err := json.Unmarshal([]byte(h.body), &v); err != nil {
				t.Fatal(err)
			}
			unacked = append(unacked, h.id)
			if v.Produced != nil {
				i := *v.Produced
				if i <= previous {
					t.Fatalf("order on one connection: %d after %d", i, previous)
				}
				previous = i
				if h.again {
					again++
				}
				if i > last+1 {
					t.Fatalf("hole: %d after %d", i, last)
				}
				last, stored[i] = max(last, i), true
			}
			for len(unacked) > 300 || len(stored) == n && len(unacked) > 0 {
				l.ack(unacked[0])
				unacked = unacked[1:]
			}
		}
	}
	eventually(t, "all received", func() bool { return s.Waiting() == 0 && b.len() == n })
	for i, c := range b.told {
		if c != 1 {
			t.Errorf("emission %d was told received %d times", i, c)
		}
	}
	t.Logf("%d sent again", again)
}

func TestServer_StopsAtTheWindow(t *testing.T) {
	for _, c := range []struct {
		receiveMaximum uint16
		want           int
	}{{10, 10}, {0, maxUnacknowledged}} {
		s, _ := serve(t, Config{})
		for i := range 5000 {
			s.Push(emission(i))
		}
		l := connect(t, s, "agent", c.receiveMaximum, false)
		l.subscribe("plant/line3/+")
		var first heard
		n := 0
		for ; ; n++ {
			wait := 20 * time.Second // on a busy machine
			if n >= c.want {
				wait = 300 * time.Millisecond
			}
			h, ok := l.next(wait)
			if !ok {
				break
			}
			if n == 0 {
				first = h
			}
		}
		if n != c.want {
			t.Errorf("receive maximum %d: %d messages without an acknowledgement, want %d", c.receiveMaximum, n, c.want)
		}
		l.in.Reset(l.conn)
		l.ack(first.id)
		if _, ok := l.next(20 * time.Second); !ok {
			t.Error("an acknowledgement did not let the next one go")
		}
	}
}

func TestServer_OneListener(t *testing.T) {
	s, _ := serve(t, Config{})
	s.Push(emission(0))
	s.Prove(start)
	a := connect(t, s, "agent", 100, false)
	if r := a.subscribe("plant/line3/+"); r != 1 {
		t.Fatalf("first: suback %d", r)
	}
	if r := connect(t, s, "other", 100, false).subscribe("#"); r != packets.ErrNotAuthorized.Code {
		t.Errorf("second: suback %d", r)
	}
	if h, ok := a.next(20 * time.Second); !ok || h.again {
		t.Fatalf("got %+v", h)
	}
	// A clean start ends the session; what it did not acknowledge goes to the next.
	b := connect(t, s, "agent", 100, true)
	if b.present {
		t.Error("session present after a clean start")
	}
	b.subscribe("plant/line3/+")
	if h, ok := b.next(20 * time.Second); !ok || h.again || h.topic != "plant/line3/filler" {
		t.Errorf("got %+v", h)
	}
}

func TestServer_TakeOver(t *testing.T) {
	s, _ := serve(t, Config{})
	for i := range 100 {
		s.Push(emission(i))
	}
	a := connect(t, s, "agent", 20, false)
	a.subscribe("plant/line3/+")
	if _, ok := a.next(20 * time.Second); !ok {
		t.Fatal("nothing came")
	}
	b := connect(t, s, "agent", 20, false) // a is still open
	for i := range 20 {
		h, ok := b.next(20 * time.Second)
		if !ok || !h.again && i == 0 || !strings.Contains(h.body, fmt.Sprintf(`"produced":%d}`, i)) {
			t.Fatalf("message %d: %+v", i, h)
		}
	}
}

func TestServer_HeartbeatWithoutPush(t *testing.T) {
	s, _ := serve(t, Config{})
	l := connect(t, s, "agent", 100, false)
	l.subscribe("plant/line3/+")
	s.Prove(start)
	s.Prove(start.Add(time.Millisecond)) // too soon for another; the timer says it
	for _, want := range []int64{0, 1} {
		h, ok := l.next(20 * time.Second)
		if !ok || h.body != fmt.Sprintf(`{"ts":%d}`, start.UnixMilli()+want) {
			t.Fatalf("got %+v", h)
		}
	}
	s.Prove(start.Add(time.Millisecond))
	if h, ok := l.next(2 * heartbeatMachine); ok {
		t.Errorf("a proof that stands was said again: %+v", h)
	}
}

func TestServer_RefusedMessageFailsTheRun(t *testing.T) {
	s, err := Serve(Config{Source: src, Listen: "127.0.0.1:0"}, signals(), func(string, []uint64) {}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- s.Run(t.Context()) }()
	l := connect(t, s, "agent", 100, false)
	l.subscribe("plant/line3/+")
	s.Prove(start)
	h, ok := l.next(20 * time.Second)
	if !ok {
		t.Fatal("nothing came")
	}
	l.conn.Write([]byte{packets.Puback << 4, 3, byte(h.id >> 8), byte(h.id), 0x97})
	if err := <-done; err == nil || !strings.Contains(err.Error(), "dropped") {
		t.Errorf("run: %v", err)
	}
}

// TestServer_DropOfTheOwnBrokerFailsTheRun: mochi tells of a drop in two ways,
// and either ends the run.
func TestServer_DropOfTheOwnBrokerFailsTheRun(t *testing.T) {
	for name, drop := range map[string]func(*broker, packets.Packet){
		"publish": func(b *broker, pk packets.Packet) { b.OnPublishDropped(nil, pk) },
		"qos":     func(b *broker, pk packets.Packet) { b.OnQosDropped(nil, pk) },
	} {
		s, err := Serve(Config{Source: src, Listen: "127.0.0.1:0"}, signals(), func(string, []uint64) {}, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		for _, event := range []byte{mochi.OnPublishDropped, mochi.OnQosDropped} {
			if !s.broker.Provides(event) {
				t.Errorf("the broker does not listen to event %d", event)
			}
		}
		drop(s.broker, packets.Packet{TopicName: "plant/line3/filler", PacketID: 7})
		ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
		if err := s.Run(ctx); !errors.Is(err, ErrDropped) || !strings.Contains(err.Error(), "plant/line3/filler") {
			t.Errorf("%s: run: %v", name, err)
		}
		cancel()
	}
}

func TestServe_PortInUseIsSaid(t *testing.T) {
	s, _ := serve(t, Config{})
	address := strings.TrimPrefix(s.URL(), "mqtt://")
	if _, err := Serve(Config{Source: src, Listen: address}, signals(), nil, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), address) {
		t.Errorf("error %v does not name %s", err, address)
	}
	if _, err := Serve(Config{Source: "nobody", Listen: "127.0.0.1:0"}, signals(), nil, slog.New(slog.DiscardHandler)); err == nil {
		t.Error("a source without signals was served")
	}
}
