package mqtt

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"plantmesh/edge/source/mqtt/link"
	"plantmesh/proto/mesh"
)

// unproven is an intake that nothing proves, of payloads without a time.
func unproven(t *testing.T, resume []byte, kept map[string][]byte) *intake {
	t.Helper()
	cfg := testConfig(t)
	cfg.Heartbeat, cfg.Topics[0].Time = Heartbeat{}, ""
	in, err := newIntake(cfg, resume, kept)
	if err != nil {
		t.Fatal(err)
	}
	return in
}

// Also where nothing is proven the packet ids are those of one session. A broker that has
// lost it, an agent that dies before that is committed, and the first messages of the new
// session would be taken for known ones.
func TestIntake_PacketIDsAreOfOneSession(t *testing.T) {
	in := unproven(t, nil, nil)
	if in.counted() {
		t.Error("there is no session yet")
	}
	in.connected(false)
	in.take(publish(5, false, "plant/line3/filler", `{"speed":1}`), "", noon)
	o := seal(t, in)
	in = unproven(t, o.State, keep(nil, o))
	if !in.counted() {
		t.Fatal("the broker's next session would be taken for the one of before")
	}
	in.connected(false)
	if !in.due(time.Now()) {
		t.Error("that the session is gone is not committed at once")
	}
	kept := keep(keep(nil, o), seal(t, in))
	if len(kept) != 0 || in.counted() {
		t.Errorf("of the session that is gone %d parts are kept", len(kept))
	}
}

// Another client with our id takes messages that nobody tells us of.
func TestReader_AnotherClientWithOurIDEndsTheProof(t *testing.T) {
	address := stockMochi(t)
	d := newDisk()
	start(t, d, testReader(t, address), 0)
	cm := publisher(t, address, "machine")
	subscribedBy(t, cm, d)
	thief, present, err := link.Dial(t.Context(), &link.Config{URL: "mqtt://" + address, MaxPacket: 1 << 20}, link.Hello{ClientID: "plantmesh-line3-mqtt", Expiry: time.Hour})
	if err != nil || !present {
		t.Fatal(present, err)
	}
	defer thief.Close()
	beats := 0
	d.until(t, "the loss is told", func() bool {
		beats++
		send(t, cm, "plant/line3/heartbeat", fmt.Sprintf(`{"ts":%d}`, int64(noon)/1e6+60_000+int64(beats)))
		_, _, voids := d.samples(t)
		return len(voids) > 0 && strings.Contains(voids[0].Note, "the broker kept no session")
	})
}

// collision are two messages, each with its own stamp, of one hash.
func collision(t *testing.T) (a, b *link.Packet) {
	t.Helper()
	seen := map[uint32]*link.Packet{}
	for i := range 1_000_000 {
		p := speed(7, false, noon+mesh.Nanos(i)*1e6, float64(i%977))
		if o := seen[p.Hash]; o != nil {
			return o, p
		}
		seen[p.Hash] = p
	}
	t.Fatal("no two messages have the same hash")
	return nil, nil
}

// A hash of 32 bits is no proof: of four billion messages that come under an id that was
// used before, one has the hash of the one before. On the same connection it is another.
func TestIntake_TheSameHashIsNotTheSameMessage(t *testing.T) {
	a, b := collision(t)
	in := testIntake(t, nil)
	in.connected(false)
	in.take(a, "", noon)
	in.take(b, "", noon)
	batches, _ := contents(t, seal(t, in))
	if n := len(batches[0].Samples); n != 2 {
		t.Errorf("%d of 2 samples are stored", n)
	}
}

// A device that wakes with its counter at 1 and its clock in the year 2000 says new
// things, also where it says them twice.
func TestIntake_ADeviceThatCountsAnewWithAClockThatIsBehind(t *testing.T) {
	const y2k = 946_684_800_000
	in := numbering(t, nil, nil)
	in.connected(false)
	for n := range 100 {
		in.take(numberedSpeed(1, uint16(n+1), false, n+1), "", noon+mesh.Nanos(n)*1e9)
	}
	o := seal(t, in)
	for range 2 {
		for n := range 5 {
			p := publish(uint16(200+n), n == 4, "plant/line3/filler", fmt.Sprintf(`{"ts":%d,"n":%d,"speed":1}`, y2k+n*1000, n+1))
			in.take(p, "", noon+200e9)
		}
		batches, voids := contents(t, seal(t, in))
		if len(batches) != 1 || len(batches[0].Samples) != 5 || len(voids) != 0 {
			t.Fatalf("batches %+v, voids %+v", batches, voids)
		}
		in = numbering(t, o.State, keep(nil, o)) // a worker that died before it was committed
		in.connected(true)
	}
}

// Kept tables are bounded, however many devices use all their ids: all of them must fit
// into what a worker begins with.
func TestIntake_TablesOfDevicesAreBounded(t *testing.T) {
	in := unproven(t, nil, nil)
	const devices = 80
	for d := range devices {
		name := fmt.Sprint("d", d)
		in.keep(name)
		for id := range 65535 {
			if in.session(name).put(uint16(id+1), uint32(id), 1) {
				in.bound()
			}
		}
	}
	kept := keep(nil, seal(t, in))
	if len(kept) > mostBlocks || in.blocks > mostBlocks {
		t.Errorf("%d parts are kept, %d counted; most are %d", len(kept), in.blocks, mostBlocks)
	}
	if _, ok := in.known["d79"].find(65535, 65534); !ok {
		t.Error("the newest id is forgotten")
	}
	_, blocks, err := tables(kept)
	if err != nil || blocks != in.blocks {
		t.Errorf("%d blocks come back of %d: %v", blocks, in.blocks, err)
	}
	in.end("d79")
	if _, blocks, _ := tables(keep(kept, seal(t, in))); blocks != in.blocks {
		t.Errorf("%d blocks are kept, %d counted", blocks, in.blocks)
	}
}

// A device that makes up a client id each time leaves nothing behind.
func TestIntake_SessionsThatEndLeaveNothing(t *testing.T) {
	in := unproven(t, nil, nil)
	for i := range 10 {
		in.take(publish(1, false, "plant/line3/filler", `{"speed":1}`), fmt.Sprint("made-up-", i), noon)
		if i%2 == 0 {
			in.end(fmt.Sprint("made-up-", i))
		}
		if o := seal(t, in); len(o.Kept) != 0 {
			t.Fatalf("%d parts are written of sessions that nobody keeps", len(o.Kept))
		}
	}
}

// What a session subscribed to with another configuration is ended: what falls under
// two filters may come twice.
func TestReader_FiltersOfBeforeAreUnsubscribed(t *testing.T) {
	address := mosquitto(t)
	d := newDisk()
	old := testReader(t, address)
	old.cfg.Topics[0].Filter = "plant/#"
	stop := start(t, d, old, 0)
	cm := publisher(t, address, "machine")
	subscribedBy(t, cm, d)
	stop()
	now := testReader(t, address)
	now.cfg.Topics[0].Time = ""
	start(t, d, now, 0)
	d.until(t, "the reader subscribes anew", func() bool {
		d.mu.Lock()
		defer d.mu.Unlock()
		return strings.Contains(string(d.state), `"filters":"plant/line3/+"`) && !strings.Contains(string(d.state), "stale")
	})
	const n = 5
	for range n {
		send(t, cm, "plant/line3/filler", `{"speed":1}`)
	}
	send(t, cm, "plant/line3/filler", `{"order":"last"}`)
	d.until(t, "the last is stored", func() bool {
		s, _, _ := d.samples(t)
		return len(s) > 0 && s[len(s)-1].Value.Type == mesh.TypeString
	})
	if s, _, _ := d.samples(t); len(s) != n+1 {
		t.Errorf("%d samples of %d", len(s), n+1)
	}
}

// With QoS 0 only the broker keeps nothing, whether anything came before or not.
func TestIntake_AtMostOnceIsNotProvenAcrossABreak(t *testing.T) {
	cfg := testConfig(t)
	cfg.AtMostOnce = true
	in, err := newIntake(cfg, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	in.connected(false)
	in.subscribed()
	in.take(beat(1, noon), "", noon)
	in.take(beat(2, noon+10e9), "", noon+10e9)
	seal(t, in)
	in.connected(true) // what was said in between nobody kept
	in.subscribed()
	in.take(beat(3, noon+60e9), "", noon+60e9)
	if _, voids := contents(t, seal(t, in)); len(voids) != 1 {
		t.Errorf("voids %+v", voids)
	}
}

// What a device sends with QoS 0 while it is not connected is lost, though its session is
// kept; so is what it sends while the agent is dead.
func TestListener_QoS0IsNotProvenAcrossABreak(t *testing.T) {
	d := newDisk()
	cfg := listenerConfig(t, "127.0.0.1:0")
	address, stop := listening(t, d, cfg, 0)
	at := int64(noon)/1e6 + 3_500_000
	call := func(want bool) *link.Link {
		t.Helper()
		f, present, err := device(t, address, "filler", "f", link.Hello{ClientID: "f1", Expiry: time.Hour})
		if err != nil || present != want {
			t.Fatal(present, err)
		}
		at += 10_000
		if _, err := f.Publish(link.Message{Topic: "plant/line3/filler", Payload: fmt.Appendf(nil, `{"ts":%d,"speed":1}`, at)}); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			at += 1000
			say(t, f, "plant/line3/heartbeat", fmt.Sprintf(`{"ts":%d}`, at), true)
		}
		return f
	}
	lost := func() (n int) {
		_, _, voids := d.samples(t)
		for _, v := range voids {
			if v.Cause == mesh.CauseDisconnected {
				n++
			}
		}
		return n
	}
	call(false).Close()
	before := lost()
	call(true).Close()
	if n := lost() - before; n != 1 {
		t.Errorf("%d voids for what a device sent while it was not connected", n)
	}
	stop()
	before = lost()
	cfg.Listen = address
	address, _ = listening(t, d, cfg, 0)
	call(true).Close()
	if n := lost() - before; n != 1 {
		t.Errorf("%d voids for what a device sent while the agent was dead", n)
	}
}

// What a broker has of a device that is gone is no message of QoS 0 that may be missing.
func TestIntake_AWillIsNotLossy(t *testing.T) {
	in := testIntake(t, nil)
	p := speed(0, false, noon, 1)
	p.QoS, p.Will = 0, true
	in.take(p, "f1", noon)
	if len(in.lossy) != 0 {
		t.Error("it is")
	}
	p.Will = false
	in.take(p, "f1", noon)
	if len(in.lossy) != 1 {
		t.Error("a message of QoS 0 is not")
	}
}
