package sparkplug

import (
	"strings"
	"testing"
	"time"
)

// TestReader_LeavesABrokerThatDeliversNothing: a broker may lose the subscriptions of a
// client that comes back at once. A primary host hears what it says of itself, or it
// hears nobody, and connects anew; one that heard something stays.
func TestReader_LeavesABrokerThatDeliversNothing(t *testing.T) {
	t.Parallel()
	b := newBroker(t)
	r := b.read(newDisk(), nil, func(r *Reader) { r.echo = 200 * time.Millisecond })
	deaf := b.next()
	deaf.want(kindSubscribe)
	if topic, _, said := published(<-deaf.in); topic != "spBv1.0/STATE/scada" || !strings.Contains(string(said), `"online":true`) {
		t.Fatalf("said %s on %q, want that it is online", said, topic)
	}
	again := b.next() // the one before was left
	again.want(kindSubscribe)
	<-again.in
	again.publish("spBv1.0/STATE/scada", []byte(`{"online":true,"timestamp":1}`))
	select {
	case x := <-b.conns:
		t.Errorf("it left a broker that delivers (%s)", x.conn.RemoteAddr())
	case <-time.After(400 * time.Millisecond):
	}
	r.stop()
}
