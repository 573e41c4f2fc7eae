package sparkplug

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"plantmesh/edge/source/sparkplug/payload"
	"plantmesh/proto/mesh"
	"plantmesh/proto/strict"
)

// life is what a primary host put on the wire in one life: a first connection, which
// the broker breaks, and a second one, which it ends itself. Its node spoke before it
// was born.
type life struct {
	began              time.Time
	connects           [2]connection
	filters            [2][]string
	births             [2]packet // of the two connections: the first publish of each
	again              packet    // after it was told that it is gone
	command            packet    // what asks the node for its births
	death, farewell    packet
	publishedInBetween int
}

func hostSession(t *testing.T) *life {
	t.Helper()
	s := &life{began: time.Now()}
	b, d := newBroker(t), newDisk()
	r := b.read(d, func(c *Config) { c.Rebirth.Every = 0 })
	w := b.next()
	s.open(w, 0)
	w.publish("spBv1.0/STATE/scada", []byte(`{"online":true,"timestamp":1}`)) // its own, as the broker sends it
	w.publish("spBv1.0/STATE/scada", []byte(s.connects[0].willSays))
	s.again = w.want(kindPublish)
	w.publish("spBv1.0/plant/NDATA/n", payload.Append(nil, &payload.Payload{Timestamp: 1_767_268_800_000, Seq: 5, HasSeq: true, Metrics: []payload.Metric{{HasAlias: true, Alias: 1, Value: payload.Value{Kind: payload.InInt}}}}))
	s.command = w.want(kindPublish)
	w.cut()
	w = b.next()
	s.open(w, 1)
	r.end()
	s.death = w.want(kindPublish)
	s.farewell = w.want(kindDisconnect)
	r.stop()
	for p := range w.in {
		if p.kind == kindPublish {
			s.publishedInBetween++
		}
	}
	return s
}

// open takes down how a connection begins: CONNECT, SUBSCRIBE, then the first publish. A
// publish before the subscription is a fault (want).
func (s *life) open(w *line, i int) {
	w.t.Helper()
	s.connects[i] = connect(w.want(kindConnect))
	s.filters[i] = filtersOf(w.want(kindSubscribe).body)
	s.births[i] = w.want(kindPublish)
}

// says reads a STATE payload: two keys, and nothing else.
func says(t *testing.T, payload string) (online bool, stamp int64) {
	t.Helper()
	var all map[string]json.RawMessage
	if err := json.Unmarshal([]byte(payload), &all); err != nil || len(all) != 2 {
		t.Fatalf("STATE says %q: %v", payload, err)
	}
	if err := json.Unmarshal(all["online"], &online); err != nil {
		t.Fatalf("STATE says %q: %v", payload, err)
	}
	if err := json.Unmarshal(all["timestamp"], &stamp); err != nil {
		t.Fatalf("STATE says %q: %v", payload, err)
	}
	return online, stamp
}

// state checks a publish of STATE: topic, QoS 1, retained.
func (s *life) state(t *testing.T, p packet, want bool) (stamp int64) {
	t.Helper()
	topic, id, body := published(p)
	online, stamp := says(t, string(body))
	if topic != "spBv1.0/STATE/scada" || p.flags != 1<<1|1 || id == 0 || online != want {
		t.Errorf("STATE on %q with flags %04b and id %d says %q, want online %t", topic, p.flags, id, body, want)
	}
	s.current(t, stamp)
	return stamp
}

// current checks that a stamp is of this test's time.
func (s *life) current(t *testing.T, stamp int64) {
	t.Helper()
	if at := time.UnixMilli(stamp); at.Before(s.began.Add(-time.Second)) || at.After(time.Now().Add(time.Second)) {
		t.Errorf("the stamp %d is not now", stamp)
	}
}

// births checks the births of both connections against their wills.
func (s *life) checkBirths(t *testing.T) {
	t.Helper()
	for i, p := range s.births {
		stamp := s.state(t, p, true)
		if _, will := says(t, s.connects[i].willSays); stamp != will {
			t.Errorf("connection %d: the birth has stamp %d, its will %d", i, stamp, will)
		}
	}
	if _, a := says(t, s.connects[0].willSays); a != 0 {
		if _, b := says(t, s.connects[1].willSays); b <= a {
			t.Errorf("the second connection has stamp %d, the first had %d", b, a)
		}
	}
}

func (s *life) checkWills(t *testing.T) {
	t.Helper()
	for i, c := range s.connects {
		online, stamp := says(t, c.willSays)
		if !c.will || c.willTopic != "spBv1.0/STATE/scada" || c.willQoS != 1 || !c.willRetain || online {
			t.Errorf("connection %d: will %+v", i, c)
		}
		s.current(t, stamp)
	}
}

// checkFilters: its own STATE and the nodes' topics, before it publishes anything.
func (s *life) checkFilters(t *testing.T) {
	t.Helper()
	want := []string{"spBv1.0/STATE/scada", "spBv1.0/plant/+/+", "spBv1.0/plant/+/+/+"}
	for i, f := range s.filters {
		if !slices.Equal(f, want) {
			t.Errorf("connection %d: subscribed to %q, want %q", i, f, want)
		}
	}
}

// checkDeath: STATE offline with the time of the end, then DISCONNECT, and nothing else.
func (s *life) checkDeath(t *testing.T) {
	t.Helper()
	stamp := s.state(t, s.death, false)
	if _, will := says(t, s.connects[1].willSays); stamp < will {
		t.Errorf("the death has stamp %d, older than the connection's %d", stamp, will)
	}
	if s.farewell.kind != kindDisconnect || len(s.farewell.body) > 0 && s.farewell.body[0] != 0 || s.publishedInBetween > 0 {
		t.Errorf("it ended with %+v and %d publishes behind it", s.farewell, s.publishedInBetween)
	}
}

// checkPresence: there from the beginning, gone by the will and at the end.
func (s *life) checkPresence(t *testing.T) {
	t.Helper()
	s.checkBirths(t)
	s.checkWills(t)
	s.checkDeath(t)
}

func (s *life) checkAgain(t *testing.T) {
	t.Helper()
	if stamp := s.state(t, s.again, true); stamp != s.state(t, s.births[0], true) {
		t.Errorf("told that it is gone, it answered with another stamp: %d", stamp)
	}
}

func (s *life) checkClean(t *testing.T) {
	t.Helper()
	for _, c := range s.connects {
		if c.version != 5 || !c.cleanStart || !c.expires || c.expiry != 0 {
			t.Errorf("CONNECT %+v", c)
		}
	}
}

// checkCommand: the one message this host sends to a node.
func (s *life) checkCommand(t *testing.T) {
	t.Helper()
	topic, _, body := published(s.command)
	if topic != "spBv1.0/plant/NCMD/n" || s.command.flags != 0 {
		t.Errorf("a command on %q with flags %04b", topic, s.command.flags)
	}
	p, err := new(payload.Decoder).Decode(body)
	if err != nil {
		t.Fatal(err)
	}
	s.current(t, int64(p.Timestamp))
	if p.HasSeq || len(p.Metrics) != 1 {
		t.Fatalf("payload %+v", p)
	}
	m := p.Metrics[0]
	if string(m.Name) != "Node Control/Rebirth" || m.HasAlias || m.Type != payload.Boolean || m.Value.Kind != payload.InBoolean || m.Value.Bits != 1 {
		t.Errorf("metric %+v", m)
	}
	s.current(t, int64(m.Timestamp))
}

// wireChecks are assertions about what a host puts on the wire.
func wireChecks() map[string]func(*life, *testing.T) {
	out := map[string]func(*life, *testing.T){}
	for _, x := range []struct {
		check func(*life, *testing.T)
		ids   string
	}{
		{(*life).checkBirths, `host-topic-phid-birth-message host-topic-phid-birth-payload host-topic-phid-birth-payload-timestamp host-topic-phid-birth-qos
			host-topic-phid-birth-retain host-topic-phid-birth-topic message-flow-phid-sparkplug-state-publish-payload message-flow-phid-sparkplug-state-publish-payload-timestamp
			operational-behavior-host-application-connect-birth operational-behavior-host-application-connect-birth-payload operational-behavior-host-application-connect-birth-qos
			operational-behavior-host-application-connect-birth-retained operational-behavior-host-application-connect-birth-topic payloads-state-birth payloads-state-birth-payload
			operational-behavior-primary-application-state-with-multiple-servers-state operational-behavior-primary-application-state-with-multiple-servers-state-subs
			principles-birth-certificates-order`},
		{(*life).checkWills, `host-topic-phid-death-payload host-topic-phid-death-qos host-topic-phid-death-required host-topic-phid-death-retain host-topic-phid-death-topic
			operational-behavior-host-application-connect-will operational-behavior-host-application-connect-will-payload operational-behavior-host-application-connect-will-qos
			operational-behavior-host-application-connect-will-retained operational-behavior-host-application-connect-will-topic operational-behavior-host-application-death-payload
			payloads-state-will-message payloads-state-will-message-payload payloads-state-will-message-qos payloads-state-will-message-retain`},
		{(*life).checkFilters, `host-topic-phid-birth-required host-topic-phid-birth-sub-required message-flow-phid-sparkplug-state-publish message-flow-phid-sparkplug-subscription
			payloads-state-subscribe`},
		{(*life).checkDeath, `host-topic-phid-death-payload-timestamp-disconnect-clean host-topic-phid-death-payload-timestamp-disconnect-with-no-disconnect-packet
			operational-behavior-host-application-death-qos operational-behavior-host-application-death-retained operational-behavior-host-application-death-topic
			operational-behavior-host-application-disconnect-intentional operational-behavior-host-application-termination`},
		{(*life).checkPresence, `components-ph-state conformance-primary-host intro-sparkplug-host-state`},
		{(*life).checkAgain, `message-flow-hid-sparkplug-state-message-delivered`},
		{(*life).checkClean, `message-flow-phid-sparkplug-clean-session-50`},
		{(*life).checkCommand, `operational-behavior-data-commands-ncmd-metric-name operational-behavior-data-commands-ncmd-metric-value operational-behavior-data-commands-ncmd-rebirth-name
			operational-behavior-data-commands-ncmd-rebirth-value operational-behavior-data-commands-ncmd-rebirth-verb operational-behavior-data-commands-ncmd-verb
			payloads-name-cmd-requirement payloads-ncmd-qos payloads-ncmd-retain payloads-ncmd-seq payloads-ncmd-timestamp topics-ncmd-mqtt topics-ncmd-payload topics-ncmd-timestamp topics-ncmd-topic`},
	} {
		for id := range strings.FieldsSeq(x.ids) {
			out["tck-id-"+id] = x.check
		}
	}
	return out
}

// hostChecks are assertions about what becomes of what nodes say.
func hostChecks() map[string]func(*testing.T) {
	const termination = "tck-id-operational-behavior-edge-node-termination-host-action-"
	const reordering = "tck-id-operational-behavior-host-reordering-"
	ndeath := func(t *testing.T) {
		t.Helper()
		dies(t, func(d *device) { d.dies(1) }, "plant.n.x", "plant.n.dev.y")
	}
	ddeath := func(t *testing.T) {
		t.Helper()
		dies(t, func(d *device) { d.ddies("dev") }, "plant.n.dev.y")
	}
	return map[string]func(*testing.T){
		termination + "ndeath-node-offline":       ndeath,
		termination + "ndeath-node-tags-stale":    ndeath,
		termination + "ndeath-devices-offline":    ndeath,
		termination + "ndeath-devices-tags-stale": ndeath,
		termination + "ddeath-devices-offline":    ddeath,
		termination + "ddeath-devices-tags-stale": ddeath,
		reordering + "param": func(t *testing.T) {
			t.Helper()
			for _, timeout := range []time.Duration{time.Second, 20 * time.Second} {
				if got := reordered(t, timeout, false); got < timeout || got > timeout+time.Second {
					t.Errorf("with reorder_timeout %s the gap was said after %s", timeout, got)
				}
			}
		},
		reordering + "start": func(t *testing.T) {
			t.Helper()
			if got := reordered(t, 5*time.Second, false); got < 5*time.Second {
				t.Errorf("the time did not run from the message that came too early: %s", got)
			}
		},
		reordering + "rebirth": func(t *testing.T) {
			t.Helper()
			if got := reordered(t, 5*time.Second, false); got == 0 {
				t.Error("the node was not asked for its births")
			}
		},
		reordering + "success": func(t *testing.T) {
			t.Helper()
			if got := reordered(t, 5*time.Second, true); got != 0 {
				t.Errorf("the node was asked for its births after %s, and nothing was missing", got)
			}
		},
		"tck-id-payloads-ddeath-seq-number": func(t *testing.T) {
			t.Helper()
			k := newKit(t, nil)
			d := k.node("n")
			d.born()
			d.dborn("dev", double("y", 1))
			k.say("plant/DDEATH/n/dev", payload.Payload{Timestamp: k.ms()})
			late := d.message(double("y", 2))
			d.ddies("dev") // overtakes the value before it
			k.seal()
			if len(k.of("plant.n.dev.y")) != 1 || len(k.noted(errSeq.Error())) != 1 {
				t.Errorf("samples %v, voids %+v", k.samples, k.voids)
			}
			k.say("plant/DDATA/n/dev", late)
			k.seal()
			if got := k.of("plant.n.dev.y"); len(got) != 3 || !got[2].Status.IsBad() {
				t.Errorf("samples %v", got)
			}
		},
	}
}

// dies checks that the metrics of who died are stale from then on, and those of others
// are not: of a node at the host's clock, of a device at its payload's time.
func dies(t *testing.T, death func(*device), stale ...string) {
	t.Helper()
	k := newKit(t, nil)
	d := k.node("n")
	d.born(double("x", 1))
	d.dborn("dev", double("y", 1))
	k.pass(time.Minute)
	death(d)
	k.seal()
	for _, name := range []string{"plant.n.x", "plant.n.dev.y"} {
		got := k.last(name)
		if !slices.Contains(stale, name) {
			k.want(got, noon, mesh.StatusGood, mesh.Double(1))
			continue
		}
		k.want(got, k.now.plant, mesh.StatusBadNoCommunication, mesh.Value{})
	}
	n := k.h.nodes["plant/n"]
	if (n.phase == dead) != (len(stale) == 2) || len(stale) == 1 && !n.devices["dev"].dead {
		t.Errorf("the node's phase is %d, its device %+v", n.phase, n.devices["dev"])
	}
}

// reordered is after how long a node is asked for its births where a message is missing;
// 0: it is not. With comes the missing one comes just in time.
func reordered(t *testing.T, timeout time.Duration, comes bool) time.Duration {
	t.Helper()
	k := newKit(t, func(c *Config) { c.ReorderTimeout = strict.Duration(timeout) })
	d := k.node("n")
	d.born(double("x", 1))
	k.pass(time.Minute)
	missing := d.message(double("x", 2))
	d.data(double("x", 3))
	began := k.now.machine
	k.pass(timeout - 200*time.Millisecond)
	if comes {
		k.say("plant/NDATA/n", missing)
	}
	for range 600 {
		k.pass(100 * time.Millisecond)
		if len(k.sent) > 0 {
			k.seal()
			if len(k.noted("did not come")) != 1 {
				t.Errorf("voids %+v", k.voids)
			}
			return k.now.machine.Sub(began)
		}
	}
	d.data(double("x", 4))
	k.seal()
	if len(k.voids) > 0 || len(k.of("plant.n.x")) != 4 {
		t.Errorf("voids %+v, samples %v", k.voids, k.samples)
	}
	return 0
}

// reasons are the assertions that no test of ours exercises, and why.
func reasons() map[string]string {
	const (
		edge     = "about edge nodes: this is a host"
		commands = "we never write to devices: the one command of this host is Node Control/Rebirth, to a node"
	)
	return map[string]string{
		"tck-id-message-flow-phid-sparkplug-clean-session-311":                             "this host speaks MQTT 5 alone",
		"tck-id-operational-behavior-host-application-multi-server-timestamp":              "a source reads one server; each connection has its own stamp, see checkBirths",
		"tck-id-message-flow-edge-node-birth-publish-phid-offline":                         edge,
		"tck-id-message-flow-edge-node-birth-publish-phid-wait":                            edge,
		"tck-id-message-flow-edge-node-birth-publish-phid-wait-id":                         edge,
		"tck-id-message-flow-edge-node-birth-publish-phid-wait-online":                     edge,
		"tck-id-message-flow-edge-node-birth-publish-phid-wait-timestamp":                  edge,
		"tck-id-message-flow-edge-node-birth-publish-will-message-topic":                   edge,
		"tck-id-operational-behavior-edge-node-termination-host-offline":                   edge,
		"tck-id-operational-behavior-edge-node-termination-host-offline-timestamp":         edge,
		"tck-id-operational-behavior-primary-application-state-with-multiple-servers-walk": edge,
		"tck-id-operational-behavior-data-commands-dcmd-metric-name":                       commands,
		"tck-id-operational-behavior-data-commands-dcmd-metric-value":                      commands,
		"tck-id-operational-behavior-data-commands-dcmd-verb":                              commands,
		"tck-id-payloads-dcmd-qos":                                                         commands,
		"tck-id-payloads-dcmd-retain":                                                      commands,
		"tck-id-payloads-dcmd-seq":                                                         commands,
		"tck-id-payloads-dcmd-timestamp":                                                   commands,
		"tck-id-topics-dcmd-mqtt":                                                          commands,
		"tck-id-topics-dcmd-payload":                                                       commands,
		"tck-id-topics-dcmd-timestamp":                                                     commands,
		"tck-id-topics-dcmd-topic":                                                         commands,
	}
}

func TestTCK(t *testing.T) {
	s := hostSession(t)
	for id, check := range wireChecks() {
		t.Run(id, func(t *testing.T) { check(s, t) })
	}
	for id, check := range hostChecks() {
		t.Run(id, check)
	}
}

// Every assertion of the specification that concerns a host has a test here, or a reason
// why not.
func TestTCK_IsComplete(t *testing.T) {
	shared := os.Getenv("PLANTMESH_SHARED")
	if shared == "" {
		shared = filepath.Join("..", "..", "..", "..", "shared")
	}
	b, err := os.ReadFile(filepath.Join(shared, "data", "sparkplug", "tck_assertions.json"))
	if err != nil {
		if strings.Contains(os.Getenv("PLANTMESH_REQUIRE"), "shared") {
			t.Fatalf("the assertions are not beside the project: %v", err)
		}
		t.Skip("skipped: the assertions are not beside the project")
	}
	var all []struct {
		ID   string   `json:"id"`
		Text string   `json:"text"`
		By   []string `json:"exercised_by_tck"`
	}
	if err := json.Unmarshal(b, &all); err != nil {
		t.Fatal(err)
	}
	have := map[string]bool{}
	for _, set := range [][]string{slices.Collect(maps.Keys(wireChecks())), slices.Collect(maps.Keys(hostChecks())), slices.Collect(maps.Keys(reasons()))} {
		for _, id := range set {
			if have[id] {
				t.Errorf("%s stands twice", id)
			}
			have[id] = true
		}
	}
	ours := 0
	for _, a := range all {
		if !slices.ContainsFunc(a.By, func(by string) bool { return strings.HasPrefix(by, "host/") }) && !strings.Contains(a.Text, "Host Application") {
			continue
		}
		if ours++; !have[a.ID] {
			t.Errorf("%s has neither a test nor a reason", a.ID)
		}
		delete(have, a.ID)
	}
	if ours < 98 {
		t.Errorf("only %d assertions about hosts were found", ours)
	}
	for id := range have {
		t.Errorf("%s is no assertion about hosts", id)
	}
}
