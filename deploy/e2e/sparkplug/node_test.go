package sparkplug

import (
	"context"
	"encoding/hex"
	"fmt"
	"log/slog"
	"reflect"
	"strings"
	"testing"
	"time"

	"plantmesh/firmware-sim/mqtt/sparkplug"
	"plantmesh/firmware-sim/mqtt/sparkplug/payload"
	"plantmesh/firmware-sim/plant"
)

var start = time.Date(2026, 3, 1, 4, 0, 0, 0, time.UTC)

// simulate runs the nodes of a line with one machine, and their broker.
func simulate(t *testing.T, cfg sparkplug.Config) *sparkplug.Server {
	t.Helper()
	cfg.Source, cfg.Listen = "line3", "127.0.0.1:0"
	s, err := sparkplug.Serve(cfg, []plant.Signal{
		{Source: "line3", Name: "line3.filler.produced", Type: plant.Int, Unit: "C62"},
		{Source: "line3", Name: "line3.filler.speed", Type: plant.Double, Unit: "1/min"},
		{Source: "line3", Name: "line3.filler.order", Type: plant.String},
	}, slog.New(slog.NewTextHandler(t.Output(), nil)))
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
	return s
}

func verb(v string) func(heard) bool {
	return func(h heard) bool { return strings.Contains(h.Topic, "/"+v+"/") }
}

func (p *peer) publish(topic string, text []byte, retain bool) {
	p.t.Helper()
	p.must(map[string]any{"do": "publish", "topic": topic, "bytes": hex.EncodeToString(text), "qos": 1, "retain": retain}, nil)
}

// TestNodes_PeerIsTheHost: a host in JavaScript, over MQTT 3.1.1 and 5, gets births
// it can read, data whose aliases are those of the births, and births again when it
// asks.
func TestNodes_PeerIsTheHost(t *testing.T) {
	for _, version := range []int{4, 5} {
		t.Run(fmt.Sprintf("mqtt %d", version), func(t *testing.T) { peerHost(t, version) })
	}
}

func peerHost(t *testing.T, version int) {
	t.Helper()
	p := newPeer(t)
	s := simulate(t, sparkplug.Config{Host: "peer", StoreAndForward: true})
	p.must(map[string]any{"do": "host", "url": s.URL(), "version": version}, nil)
	push := func(i int64) {
		at := start.Add(time.Duration(i) * time.Second)
		s.Push(plant.Emission{Source: "line3", Signal: "line3.filler.produced", Time: at, Emitted: at, Value: plant.Value{Type: plant.Int, I: i}})
		s.Prove(at)
	}
	push(-7)
	p.publish("spBv1.0/STATE/peer", []byte(`{"online":true,"timestamp":1000}`), true)
	births := p.until("a device's birth", verb("DBIRTH"))
	var node, device message
	for _, h := range births {
		if strings.Contains(h.Topic, "/STATE/") {
			continue
		}
		m, failed := p.reads(h.payload(t))
		switch {
		case failed != "":
			t.Fatalf("%s: %s", h.Topic, failed)
		case h.Topic == "spBv1.0/plant/NBIRTH/line3":
			node = m
		case h.Topic == "spBv1.0/plant/DBIRTH/line3/filler":
			device = m
		default:
			t.Errorf("before the births: %s", h.Topic)
		}
	}
	stamp := decimal(uint64(start.Add(-7 * time.Second).UnixMilli()))
	wantNode := message{Timestamp: stamp, Seq: "0", Metrics: []metric{
		{Name: "bdSeq", Value: value{Type: payload.Int64, Is: "0"}},
		{Name: "Node Control/Rebirth", Value: value{Type: payload.Boolean, Is: "false"}},
		{Name: "Node Info/Clock", Alias: "1", Timestamp: stamp, Value: value{Type: payload.DateTime, Is: stamp}},
	}}
	if !reflect.DeepEqual(node, wantNode) {
		t.Errorf("NBIRTH %+v\nwant   %+v", node, wantNode)
	}
	quality := func(code string) property { return property{"Quality", value{Type: payload.Int32, Is: code}} }
	unit := func(u string) property { return property{"engUnit", value{Type: payload.String, Is: u}} }
	wantDevice := message{Timestamp: stamp, Seq: "1", Metrics: []metric{
		{Name: "produced", Alias: "2", Timestamp: stamp, Properties: []property{quality("192"), unit("C62")}, Value: value{Type: payload.Int32, Is: "-7"}},
		{Name: "speed", Alias: "3", Properties: []property{quality("500"), unit("1/min")}, Value: value{Type: payload.Double, Null: true}},
		{Name: "order", Alias: "4", Properties: []property{quality("500")}, Value: value{Type: payload.String, Null: true}},
	}}
	if !reflect.DeepEqual(device, wantDevice) {
		t.Errorf("DBIRTH %+v\nwant   %+v", device, wantDevice)
	}
	p.until("the clock", verb("NDATA"))

	push(8)
	all := p.until("data", verb("DDATA"))
	var raw struct {
		Metrics []map[string]any `json:"metrics"`
	}
	p.must(map[string]any{"do": "raw", "bytes": all[len(all)-1].Bytes}, &raw)
	if want := []map[string]any{{"alias": "2", "timestamp": decimal(uint64(start.Add(8 * time.Second).UnixMilli())), "intValue": 8.0}}; !reflect.DeepEqual(raw.Metrics, want) {
		t.Errorf("data %v, want %v", raw.Metrics, want)
	}

	ask, failed := p.writes(message{Timestamp: "1", Metrics: []metric{{Name: "Node Control/Rebirth", Value: value{Type: payload.Boolean, Is: "true"}}}})
	if failed != "" {
		t.Fatal(failed)
	}
	p.publish("spBv1.0/plant/NCMD/line3", ask, false)
	p.until("another birth", verb("DBIRTH"))
	p.publish("spBv1.0/STATE/peer", []byte(`{"online":false,"timestamp":1000}`), true)
	p.until("the node's death", verb("NDEATH"))
}

// TestPeer_Node: the peer's edge node is born, says data, is born again when asked,
// and dies, as a broker and a codec of ours see it.
func TestPeer_Node(t *testing.T) {
	p := newPeer(t)
	s := simulate(t, sparkplug.Config{Host: "nobody"})
	p.must(map[string]any{"do": "host", "url": s.URL()}, nil)
	p.must(startNode(s.URL()), nil)
	births := p.until("a birth", verb("DBIRTH"))
	if n, failed := p.reads(births[0].payload(t)); failed != "" || births[0].Topic != "spBv1.0/mill/NBIRTH/crusher" || n.Seq != "0" {
		t.Errorf("%s: %+v %s", births[0].Topic, n, failed)
	}
	p.must(map[string]any{"do": "data", "id": "jaw", "payload": jaw("2", "-3")}, nil)
	p.until("data", verb("DDATA"))
	ask := payload.Payload{Unordered: true, Metrics: []payload.Metric{{Name: payload.RebirthName, Type: payload.Boolean, Value: payload.Bool(true)}}}
	p.publish("spBv1.0/mill/NCMD/crusher", ask.Append(nil), false)
	p.until("a birth", verb("DBIRTH"))
	var asked struct {
		Births   int      `json:"births"`
		Commands []string `json:"commands"`
	}
	p.must(map[string]any{"do": "asked"}, &asked)
	if asked.Births != 2 || len(asked.Commands) != 1 || asked.Commands[0] != payload.RebirthName {
		t.Errorf("the node was asked %+v", asked)
	}
	p.must(map[string]any{"do": "stop"}, nil)
	p.until("a death", verb("NDEATH"))
}

// startNode is the order to begin an edge node "crusher" with a device "jaw".
func startNode(url string) map[string]any {
	return map[string]any{
		"do": "node", "url": url, "group": "mill", "name": "crusher",
		"node":    message{Timestamp: "1772337600000", Metrics: []metric{{Name: "Node Control/Rebirth", Value: value{Type: payload.Boolean, Is: "false"}}}},
		"devices": []map[string]any{{"id": "jaw", "birth": jaw("1", "-2")}},
	}
}

// jaw is a message of the device: a counter and a text.
func jaw(second, count string) message {
	stamp := decimal(1772337600000 + 1000*number(second))
	return message{Timestamp: stamp, Metrics: []metric{
		{Name: "count", Alias: "10", Timestamp: stamp, Value: value{Type: payload.Int64, Is: count}},
		{Name: "state", Alias: "11", Timestamp: stamp, Value: value{Type: payload.String, Is: "crushing"}},
	}}
}
