package sparkplug

import (
	"context"
	"encoding/binary"
	"fmt"
	"log/slog"
	"math"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"plantmesh/firmware-sim/mqtt/client"
	"plantmesh/firmware-sim/mqtt/sparkplug/payload"
	"plantmesh/firmware-sim/plant"
)

const src = "line3-sparkplug"

var start = time.Date(2026, 3, 1, 4, 0, 0, 0, time.UTC)

func signals(lines ...string) (out []plant.Signal) {
	for _, l := range lines {
		for _, m := range []string{"filler", "capper"} {
			out = append(out,
				plant.Signal{Source: src, Name: l + "." + m + ".produced", Type: plant.Int, Unit: "C62"},
				plant.Signal{Source: src, Name: l + "." + m + ".speed", Type: plant.Double, Unit: "1/min"},
				plant.Signal{Source: src, Name: l + "." + m + ".order", Type: plant.String},
				plant.Signal{Source: src, Name: l + "." + m + ".blocked", Type: plant.Bool})
		}
	}
	return append(out, plant.Signal{Source: "line1-opcua", Name: "line1.filler.speed"})
}

// emission is the ith of a counter, a second apart.
func emission(i int) plant.Emission {
	at := start.Add(time.Duration(i) * time.Second)
	return plant.Emission{
		Source: src, Index: uint64(i + 1), Signal: "line3.filler.produced", Time: at.Add(-time.Millisecond), Emitted: at,
		Value: plant.Value{Type: plant.Int, I: int64(i) - 5},
	}
}

// serve runs a server; stop ends it before the test does.
func serve(t *testing.T, cfg Config, lines ...string) (s *Server, stop func()) {
	t.Helper()
	cfg.Source = src
	if cfg.Broker == "" {
		cfg.Listen = "127.0.0.1:0"
	}
	if len(lines) == 0 {
		lines = []string{"line3"}
	}
	s, err := Serve(cfg, signals(lines...), slog.New(slog.NewTextHandler(t.Output(), nil)))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("run: %v", err)
		}
	})
	t.Cleanup(stop)
	return s, stop
}

// metricSaid is a metric as it came.
type metricSaid struct {
	name       string
	alias      uint64
	at         int64
	typ        payload.Type
	historical bool
	null       bool
	quality    int // -1: it is not said
	unit       string
	bits       uint64
	text       string
}

// said is a message as it came.
type said struct {
	verb, node, device string
	stamp              int64
	seq                int // -1: none
	metrics            []metricSaid
}

func (s said) String() string {
	return fmt.Sprintf("%s %s/%s seq %d at %d: %+v", s.verb, s.node, s.device, s.seq, s.stamp, s.metrics)
}

func (s said) metric(name string) metricSaid {
	for _, m := range s.metrics {
		if m.name == name {
			return m
		}
	}
	return metricSaid{}
}

// ear is somebody who hears everything, in its order.
type ear struct {
	t    *testing.T
	conn *client.Conn

	mu    sync.Mutex // protects heard
	heard []said
	more  chan struct{}
}

func listenTo(t *testing.T, s *Server, filter string) *ear {
	t.Helper()
	e := &ear{t: t, more: make(chan struct{}, 1)}
	conn, _, err := client.Dial(t.Context(), s.address, client.Hello{Client: fmt.Sprintf("ear-%p", e), Version: version, Clean: true, KeepAlive: keepAlive})
	if err != nil {
		t.Fatal(err)
	}
	e.conn = conn
	if err := conn.Subscribe(1, 1, filter); err != nil {
		t.Fatal(err)
	}
	ready := make(chan struct{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			head, body, err := conn.Read()
			if err != nil {
				return
			}
			switch head >> 4 {
			case packets.Suback:
				close(ready)
			case packets.Publish:
				e.take(head, body)
			}
		}
	}()
	t.Cleanup(func() { conn.Close(); <-done })
	<-ready
	return e
}

func (e *ear) take(head byte, body []byte) {
	p := packets.Packet{ProtocolVersion: version, FixedHeader: packets.FixedHeader{Type: packets.Publish, Qos: head >> 1 & 3}}
	if err := p.PublishDecode(body); err != nil {
		e.t.Error(err)
		return
	}
	if p.FixedHeader.Qos > 0 {
		e.conn.Write([]byte{packets.Puback << 4, 2, byte(p.PacketID >> 8), byte(p.PacketID)})
	}
	part := strings.Split(p.TopicName, "/")
	if part[1] == "STATE" || part[2] == "NCMD" {
		return
	}
	m := decode(e.t, p.Payload)
	m.verb, m.node = part[2], part[3]
	if len(part) > 4 {
		m.device = part[4]
	}
	e.mu.Lock()
	e.heard = append(e.heard, m)
	e.mu.Unlock()
	poke(e.more)
}

// until waits for a message that is so, and gives all up to it.
func (e *ear) until(what string, so func(said) bool) []said {
	e.t.Helper()
	late := time.After(20 * time.Second)
	for seen := 0; ; {
		e.mu.Lock()
		for ; seen < len(e.heard); seen++ {
			if so(e.heard[seen]) {
				out := e.heard[: seen+1 : seen+1]
				e.heard = e.heard[seen+1:]
				e.mu.Unlock()
				return out
			}
		}
		e.mu.Unlock()
		select {
		case <-e.more:
		case <-late:
			for _, m := range e.heard[max(0, seen-20):] {
				e.t.Log(m)
			}
			e.t.Fatalf("never heard: %s", what)
		}
	}
}

// silent is whether nothing was heard yet.
func (e *ear) silent() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.heard) == 0
}

// say publishes as a host does.
func (e *ear) say(topic string, text []byte, retain bool) {
	e.t.Helper()
	b := client.AppendPublish(nil, client.Message{Topic: topic, Payload: text}, version)
	if retain {
		b[0] |= 1
	}
	if err := e.conn.Write(b); err != nil {
		e.t.Fatal(err)
	}
}

func (e *ear) state(host string, online bool, stamp int64) {
	e.t.Helper()
	e.say(stateTopic(host), fmt.Appendf(nil, `{"online":%t,"timestamp":%d}`, online, stamp), true)
}

func (e *ear) askRebirth(node string) {
	e.t.Helper()
	p := payload.Payload{Unordered: true, Metrics: []payload.Metric{{Name: payload.RebirthName, Type: payload.Boolean, Value: payload.Bool(true)}}}
	e.say("spBv1.0/plant/NCMD/"+node, p.Append(nil), false)
}

// decode reads what tests look at, by its own hand.
func decode(t *testing.T, b []byte) said {
	t.Helper()
	out := said{seq: -1}
	walk(t, b, func(field int, n uint64, text []byte) {
		switch field {
		case 1:
			out.stamp = int64(n)
		case 3:
			out.seq = int(n)
		case 2:
			m := metricSaid{quality: -1}
			var keys []string
			walk(t, text, func(field int, n uint64, text []byte) {
				switch field {
				case 1:
					m.name = string(text)
				case 2:
					m.alias = n
				case 3:
					m.at = int64(n)
				case 4:
					m.typ = payload.Type(n)
				case 5:
					m.historical = n == 1
				case 7:
					m.null = n == 1
				case 9:
					place := 0
					walk(t, text, func(field int, _ uint64, text []byte) {
						if field == 1 {
							keys = append(keys, string(text))
							return
						}
						walk(t, text, func(field int, n uint64, text []byte) {
							switch {
							case keys[place] == "Quality" && field == 3:
								m.quality = int(n)
							case keys[place] == "engUnit" && field == 8:
								m.unit = string(text)
							}
						})
						place++
					})
				case 10, 11, 13, 14:
					m.bits = n
				case 15:
					m.text = string(text)
				}
			})
			out.metrics = append(out.metrics, m)
		}
	})
	return out
}

func walk(t *testing.T, b []byte, visit func(field int, n uint64, text []byte)) {
	t.Helper()
	for len(b) > 0 {
		tag, used := binary.Uvarint(b)
		b = b[used:]
		switch tag & 7 {
		case 0:
			n, used := binary.Uvarint(b)
			b = b[used:]
			visit(int(tag>>3), n, nil)
		case 1:
			visit(int(tag>>3), binary.LittleEndian.Uint64(b), nil)
			b = b[8:]
		case 2:
			n, used := binary.Uvarint(b)
			visit(int(tag>>3), 0, b[used:used+int(n)])
			b = b[used+int(n):]
		default:
			t.Fatalf("wire type %d", tag&7)
		}
	}
}

// counts are the values of a counter in messages, with whether each is historical.
func counts(aliases map[uint64]string, name string, all []said) (values []int32, historical []bool) {
	for _, m := range all {
		for _, x := range m.metrics {
			if m.verb == "DDATA" && aliases[x.alias] == m.device+"."+name && !x.null {
				values, historical = append(values, int32(uint32(x.bits))), append(historical, x.historical)
			}
		}
	}
	return values, historical
}

// aliases are those of the births in messages, and what they name.
func aliases(all []said) map[uint64]string {
	out := map[uint64]string{}
	for _, m := range all {
		if m.verb == "DBIRTH" || m.verb == "NBIRTH" {
			for _, x := range m.metrics {
				if x.alias != 0 {
					out[x.alias] = m.device + "." + x.name
				}
			}
		}
	}
	return out
}

func double(bits uint64) float64 { return math.Float64frombits(bits) }

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	late := time.After(20 * time.Second)
	for !ok() {
		select {
		case <-tick.C:
		case <-late:
			t.Fatalf("never: %s", what)
		}
	}
}
