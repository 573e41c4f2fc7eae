package opcua

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/gopcua/opcua/ua"
)

// agent is what survives a client's death: what it committed.
type agent struct {
	t      *testing.T
	rig    *rig
	sub    uint32
	last   uint32 // sequence number committed
	values map[uint32][]float64
	total  int
}

// commit takes a message if it is the next one, and reports whether the
// server may forget it.
func (a *agent) commit(m *ua.NotificationMessage) bool {
	switch {
	case len(m.NotificationData) == 0:
		return false
	case m.SequenceNumber > a.last+1:
		a.t.Fatalf("sequence %d after %d", m.SequenceNumber, a.last)
	case m.SequenceNumber == a.last+1:
		for _, v := range values(a.t, m) {
			a.values[v.ClientHandle] = append(a.values[v.ClientHandle], v.Value.Value.Float())
			a.total++
		}
		a.last = m.SequenceNumber
	}
	return true
}

// live connects, takes its subscription back, and publishes until done says so
// or the connection breaks.
func (a *agent) live(done func() bool) {
	c, err := tryConnect(a.t, a.rig.URL())
	if err != nil {
		return // cut while connecting
	}
	defer c.cut()
	tr, err := call[*ua.TransferSubscriptionsResponse](c, &ua.TransferSubscriptionsRequest{SubscriptionIDs: []uint32{a.sub}})
	if err != nil {
		return
	}
	var acks []*ua.SubscriptionAcknowledgement
	for _, seq := range tr.Results[0].AvailableSequenceNumbers {
		if seq > a.last {
			rep, err := call[*ua.RepublishResponse](c, &ua.RepublishRequest{SubscriptionID: a.sub, RetransmitSequenceNumber: seq})
			if err != nil {
				return
			}
			a.commit(rep.NotificationMessage)
		}
		acks = append(acks, ack(a.sub, seq))
	}
	for !done() {
		res, err := c.publish(acks...)
		if err != nil {
			return
		}
		acks = nil
		if a.commit(res.NotificationMessage) {
			acks = append(acks, ack(a.sub, res.NotificationMessage.SequenceNumber))
		}
	}
	if _, err := c.publish(acks...); err != nil {
		return
	}
}

func TestServer_AbruptCutsUnderLoad(t *testing.T) {
	const nodes, total = 50, 100_000
	names := make([]string, nodes)
	for i := range names {
		names[i] = fmt.Sprintf("line1.m%02d.temperature", i)
	}
	r := open(t, Config{}, names...)
	r.prove(0)
	c := connect(t, r.URL())
	a := &agent{t: t, rig: r, sub: c.subscribe(1_000_000, names...), values: map[uint32][]float64{}}
	c.cut()
	dice := rand.New(rand.NewPCG(1, 2))
	sent := make([]int, nodes)
	done := make(chan struct{})
	go func() { // the plant, in bursts of one node
		defer close(done)
		for n := 0; n < total; {
			k := dice.IntN(nodes)
			for range min(1+dice.IntN(5), total-n) {
				sent[k]++
				n++
				r.push(names[k], n, float64(sent[k]))
			}
			r.prove(n)
			if n%9_000 < 3 {
				r.Cut()
			}
		}
	}()
	lives := 0
	for a.total < total || r.Waiting() > 0 {
		lives++
		a.live(func() bool { return a.total == total && r.Waiting() == 0 })
	}
	<-done
	for k, want := range sent {
		equal(t, a.values[uint32(k)], count(1, want))
	}
	if err := r.receivedAll(); err != nil {
		t.Error(err)
	}
	t.Logf("%d lives", lives)
}
