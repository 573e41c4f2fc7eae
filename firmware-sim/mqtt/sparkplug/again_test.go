package sparkplug

import (
	"slices"
	"sync/atomic"
	"testing"
	"time"

	mochi "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"

	"plantmesh/firmware-sim/mqtt/client"
)

const again = "again"

// gate keeps a connection that has ended in mochi's books until another one has come
// under its client id, or half a second.
type gate struct {
	mochi.HookBase

	came chan struct{} // each had its CONNACK
	held atomic.Bool
}

func (*gate) ID() string { return "gate" }

func (*gate) Provides(event byte) bool {
	return slices.Contains([]byte{mochi.OnSessionEstablished, mochi.OnUnsubscribed}, event)
}

func (g *gate) OnSessionEstablished(cl *mochi.Client, _ packets.Packet) {
	if cl.ID == again {
		g.came <- struct{}{}
	}
}

func (g *gate) OnUnsubscribed(cl *mochi.Client, _ packets.Packet) {
	if cl.ID != again || g.held.Swap(true) {
		return
	}
	<-g.came // the first
	select {
	case <-g.came:
	case <-time.After(500 * time.Millisecond):
	}
}

// TestBroker_HearsWhoComesBackAtOnce: mochi takes a connection out of its books by its
// client id, when the next one may stand there already; the broker contains that.
func TestBroker_HearsWhoComesBackAtOnce(t *testing.T) {
	t.Parallel()
	_, b := narrow(t)
	g := &gate{came: make(chan struct{}, 2)}
	dial := func() *client.Conn {
		conn, _, err := client.Dial(t.Context(), b.address, client.Hello{Client: again, Version: version, Clean: true, KeepAlive: keepAlive})
		if err != nil {
			t.Fatal(err)
		}
		if err := conn.Subscribe(1, 0, "#"); err != nil {
			t.Fatal(err)
		}
		if head, _, err := conn.Read(); err != nil || head>>4 != packets.Suback {
			t.Fatalf("%x, %v, want a SUBACK", head, err)
		}
		return conn
	}
	if err := b.mqtt.AddHook(g, nil); err != nil {
		t.Fatal(err)
	}
	first := dial()
	if err := first.Write([]byte{packets.Disconnect << 4, 0}); err != nil {
		t.Fatal(err)
	}
	for err := error(nil); err == nil; { // the broker ends it
		_, _, err = first.Read()
	}
	first.Close()
	again := dial()
	defer again.Close()
	if err := again.Write(client.AppendPublish(nil, client.Message{Topic: "a/b", Payload: []byte("x")}, version)); err != nil {
		t.Fatal(err)
	}
	if head, _, err := again.Read(); err != nil || head>>4 != packets.Publish {
		t.Errorf("%x, %v: who came back hears nothing", head, err)
	}
}
