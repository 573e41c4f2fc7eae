package opcua

import (
	"log/slog"
	"testing"
	"time"

	"github.com/gopcua/opcua/id"
	"github.com/gopcua/opcua/ua"
)

const (
	tempA = "line1.filler.temperature"
	tempB = "line1.capper.temperature"
)

func TestServer_StoreGoesToTheFirstListener(t *testing.T) {
	r := open(t, Config{}, tempA, tempB)
	for i := 1; i <= 25_000; i++ {
		r.push([]string{tempA, tempB}[i%2], i, float64(i))
	}
	r.prove(25_000)
	if r.Waiting() != 25_000 {
		t.Fatalf("waiting %d", r.Waiting())
	}
	c := connect(t, r.URL())
	sub := c.subscribe(10, tempA, tempB)
	got := c.drain(sub, 25_000)
	equal(t, floats(got), count(1, 25_000))
	for i, n := range got {
		if n.Value.Status != 0 || !n.Value.SourceTimestamp.Equal(day.Add(time.Duration(i+1)*time.Millisecond)) {
			t.Fatalf("value %d: %v at %v", i, n.Value.Status, n.Value.SourceTimestamp)
		}
	}
	if err := r.receivedAll(); err != nil {
		t.Error(err)
	}
	if r.Waiting() != 0 {
		t.Errorf("waiting %d after everything was acknowledged", r.Waiting())
	}
	for i := 25_001; i <= 25_005; i++ {
		r.push(tempA, i, float64(i))
	}
	r.prove(26_000)
	equal(t, floats(c.drain(sub, 26_000)), count(25_001, 25_005))
}

func TestServer_CutTransferRepublish(t *testing.T) {
	r := open(t, Config{}, tempA)
	c := connect(t, r.URL())
	sub := c.subscribe(100_000, tempA)
	committed, last := []float64{}, uint32(0)
	n := 0
	for life := range 6 {
		for range 3_000 {
			n++
			r.push(tempA, n, float64(n))
		}
		r.prove(n)
		res, err := c.publish()
		if err != nil {
			t.Fatal(err)
		}
		if life%2 == 0 { // taken but not committed: the cut loses it
			r.Cut()
		} else {
			committed = append(committed, floats(values(t, res.NotificationMessage))...)
			last = res.NotificationMessage.SequenceNumber
		}
		c.cut()
		c = connect(t, r.URL()) // an agent that restarted
		tr := must[*ua.TransferSubscriptionsResponse](c, &ua.TransferSubscriptionsRequest{SubscriptionIDs: []uint32{sub}})
		if tr.Results[0].StatusCode != ua.StatusOK {
			t.Fatal(tr.Results[0].StatusCode)
		}
		var acks []*ua.SubscriptionAcknowledgement
		for _, seq := range tr.Results[0].AvailableSequenceNumbers {
			if seq > last {
				rep := must[*ua.RepublishResponse](c, &ua.RepublishRequest{SubscriptionID: sub, RetransmitSequenceNumber: seq})
				committed = append(committed, floats(values(t, rep.NotificationMessage))...)
				last = seq
			}
			acks = append(acks, ack(sub, seq))
		}
		res, err = c.publish(acks...)
		if err != nil {
			t.Fatal(err)
		}
		if v := values(t, res.NotificationMessage); len(v) > 0 {
			committed = append(committed, floats(v)...)
			last = res.NotificationMessage.SequenceNumber
		}
	}
	tail := c.drain(sub, n)
	equal(t, append(committed, floats(tail)...), count(1, n))
	_, err := call[*ua.RepublishResponse](c, &ua.RepublishRequest{SubscriptionID: sub, RetransmitSequenceNumber: 9999})
	if !isStatus(err, ua.StatusBadMessageNotAvailable) {
		t.Errorf("republish of nothing: %v", err)
	}
}

func TestServer_ReattachKeepsSession(t *testing.T) {
	r := open(t, Config{}, tempA)
	c := connect(t, r.URL())
	sub := c.subscribe(100, tempA)
	r.push(tempA, 1, 1)
	r.prove(1)
	token := c.token
	c.cut()
	c = dial(t, r.URL())
	c.token = token
	if err := c.activate(); err != nil {
		t.Fatal(err)
	}
	equal(t, floats(c.drain(sub, 1)), []float64{1})
}

func TestServer_OverflowIsVisible(t *testing.T) {
	r := open(t, Config{}, tempA)
	c := connect(t, r.URL())
	sub := c.subscribe(10, tempA)
	for i := 1; i <= 3; i++ {
		r.push(tempA, i, float64(i))
	}
	r.prove(3)
	equal(t, floats(c.drain(sub, 3)), count(1, 3))
	for i := 4; i <= 24; i++ { // no publish request is there
		r.push(tempA, i, float64(i))
	}
	r.prove(24)
	if r.Waiting() != 10 {
		t.Errorf("waiting %d, want what fits the queue", r.Waiting())
	}
	got := c.drain(sub, 24)
	equal(t, floats(got), count(15, 24))
	for i, n := range got {
		want := ua.StatusCode(0)
		if i == 0 {
			want = overflow
		}
		if n.Value.Status != want {
			t.Errorf("value %d has status %x", i, n.Value.Status)
		}
	}
}

func TestServer_ProofNeverRunsAhead(t *testing.T) {
	r := open(t, Config{}, tempA)
	c := connect(t, r.URL())
	sub := c.subscribe(1_000_000, tempA)
	const n = 50_000
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := 1; i <= n; i++ {
			r.push(tempA, i, float64(i))
			if i%100 == 0 {
				r.prove(i)
			}
		}
	}()
	seen, acks := 0, []*ua.SubscriptionAcknowledgement(nil)
	for seen < n {
		res, err := c.publish(acks...)
		if err != nil {
			t.Fatal(err)
		}
		acks = nil
		for _, v := range values(t, res.NotificationMessage) {
			seen++
			if v.Value.Value.Float() != float64(seen) {
				t.Fatalf("value %v, want %d", v.Value.Value.Float(), seen)
			}
		}
		if len(res.NotificationMessage.NotificationData) > 0 {
			acks = append(acks, ack(sub, res.NotificationMessage.SequenceNumber))
		}
		proof := int(res.NotificationMessage.PublishTime.Sub(day) / time.Millisecond)
		if !res.MoreNotifications && proof > seen {
			t.Fatalf("proof %d ms, but only %d values came", proof, seen)
		}
		if !res.ResponseHeader.Timestamp.Equal(res.NotificationMessage.PublishTime) {
			t.Fatal("the header shows another clock")
		}
	}
	<-done
}

func TestServer_KeepAliveShowsTheClock(t *testing.T) {
	r := open(t, Config{}, tempA)
	c := connect(t, r.URL())
	c.subscribe(10, tempA)
	r.prove(1_000)
	for ms := 1_000; ms < 5_000; ms += 1_000 {
		for {
			res, err := c.publish()
			if err != nil {
				t.Fatal(err)
			}
			if res.NotificationMessage.SequenceNumber != 1 || len(res.NotificationMessage.NotificationData) != 0 {
				t.Fatalf("not a keep-alive: %+v", res.NotificationMessage)
			}
			if res.NotificationMessage.PublishTime.Equal(day.Add(time.Duration(ms) * time.Millisecond)) {
				break
			}
		}
		r.prove(ms + 1_000)
	}
	read := must[*ua.ReadResponse](c, &ua.ReadRequest{NodesToRead: []*ua.ReadValueID{{NodeID: ua.NewNumericNodeID(0, id.Server_ServerStatus_CurrentTime), AttributeID: ua.AttributeIDValue, DataEncoding: &ua.QualifiedName{}}}})
	if at := read.Results[0].Value.Time(); !at.Equal(day.Add(5 * time.Second)) {
		t.Errorf("the server's clock shows %v", at)
	}
}

func TestServer_Forgetful(t *testing.T) {
	r := open(t, Config{Forgetful: true}, tempA)
	r.push(tempA, 1, 1)
	r.prove(1)
	c := connect(t, r.URL())
	sub := c.subscribe(100, tempA)
	equal(t, floats(c.drain(sub, 1)), []float64{1})
	if _, err := call[*ua.TransferSubscriptionsResponse](c, &ua.TransferSubscriptionsRequest{SubscriptionIDs: []uint32{sub}}); !isStatus(err, ua.StatusBadServiceUnsupported) {
		t.Errorf("transfer: %v", err)
	}
	if _, err := call[*ua.RepublishResponse](c, &ua.RepublishRequest{SubscriptionID: sub, RetransmitSequenceNumber: 1}); !isStatus(err, ua.StatusBadMessageNotAvailable) {
		t.Errorf("republish: %v", err)
	}
	if _, err := call[*ua.HistoryReadResponse](c, history(tempA, 0)); !isStatus(err, ua.StatusBadServiceUnsupported) {
		t.Errorf("history: %v", err)
	}
	r.push(tempA, 2, 2)
	if r.Waiting() != 1 {
		t.Errorf("waiting %d", r.Waiting())
	}
	token := c.token
	c.cut()
	eventually(t, func() bool { return r.Waiting() == 0 })
	c = dial(t, r.URL())
	c.token = token
	if err := c.activate(); !isStatus(err, ua.StatusBadSessionIDInvalid) {
		t.Errorf("re-attach: %v", err)
	}
	r.push(tempA, 3, 3) // nobody listens: gone
	r.prove(3)
	if r.Waiting() != 0 {
		t.Errorf("waiting %d for nobody", r.Waiting())
	}
	c = connect(t, r.URL())
	sub = c.subscribe(100, tempA)
	equal(t, floats(c.drain(sub, 3)), []float64{3}) // the current value
}

func TestServer_UnacknowledgedHistoryComesBack(t *testing.T) {
	r := open(t, Config{}, tempA)
	for i := 1; i <= 50; i++ {
		r.push(tempA, i, float64(i))
	}
	r.prove(50)
	c := connect(t, r.URL())
	sub := c.subscribe(100, tempA)
	if _, err := c.publish(); err != nil {
		t.Fatal(err)
	}
	must[*ua.DeleteSubscriptionsResponse](c, &ua.DeleteSubscriptionsRequest{SubscriptionIDs: []uint32{sub}})
	if r.Waiting() != 50 {
		t.Fatalf("waiting %d", r.Waiting())
	}
	sub = c.subscribe(100, tempA)
	equal(t, floats(c.drain(sub, 50)), count(1, 50))
	if err := r.receivedAll(); err != nil {
		t.Error(err)
	}
}

func TestServer_ListenerDiedBeforeItsFirstCommit(t *testing.T) {
	r := open(t, Config{}, tempA, tempB)
	for i := 1; i <= 50; i++ {
		r.push([]string{tempA, tempB}[i%2], i, float64(i))
	}
	r.prove(50)
	c := connect(t, r.URL())
	c.subscribe(100, tempA, tempB)
	if _, err := c.publish(); err != nil {
		t.Fatal(err)
	}
	r.push(tempA, 51, 51)
	r.prove(51)
	c.cut()
	eventually(t, func() bool {
		r.Server.mu.Lock()
		defer r.Server.mu.Unlock()
		return len(r.conns) == 0
	})
	c = connect(t, r.URL())
	equal(t, floats(c.drain(c.subscribe(100, tempA, tempB), 51)), count(1, 51))
	if err := r.receivedAll(); err != nil || r.Waiting() != 0 {
		t.Errorf("%v, waiting %d", err, r.Waiting())
	}
}

func TestServer_SubscriptionsEndWhenNobodyAsks(t *testing.T) {
	r := open(t, Config{}, tempA)
	r.push(tempA, 1, 1)
	r.prove(1)
	c := connect(t, r.URL())
	c.drain(c.subscribe(100, tempA), 1)
	short := must[*ua.CreateSubscriptionResponse](c, &ua.CreateSubscriptionRequest{RequestedPublishingInterval: 10, RequestedLifetimeCount: 1, RequestedMaxKeepAliveCount: 1, PublishingEnabled: true})
	if short.RevisedLifetimeCount != 3 {
		t.Errorf("lifetime count %d", short.RevisedLifetimeCount)
	}
	must[*ua.DeleteSubscriptionsResponse](c, &ua.DeleteSubscriptionsRequest{SubscriptionIDs: []uint32{1}})
	c.monitor(short.SubscriptionID, 100, tempA)
	r.push(tempA, 2, 2)
	eventually(t, func() bool { return r.Waiting() == 0 }) // what died is not waited for
	if _, err := c.publish(); !isStatus(err, ua.StatusBadNoSubscription) {
		t.Errorf("publish: %v", err)
	}
}

func TestServer_RetransmissionQueueIsBounded(t *testing.T) {
	r := open(t, Config{}, tempA)
	c := connect(t, r.URL())
	sub := must[*ua.CreateSubscriptionResponse](c, &ua.CreateSubscriptionRequest{RequestedPublishingInterval: 10, RequestedLifetimeCount: 3000, RequestedMaxKeepAliveCount: 1, MaxNotificationsPerPublish: 1, PublishingEnabled: true}).SubscriptionID
	c.monitor(sub, 10_000, tempA)
	const n = maxSent + 10
	for i := 1; i <= n; i++ {
		r.push(tempA, i, float64(i))
	}
	r.prove(n)
	for i := 1; i <= maxSent; i++ {
		res, err := c.publish()
		if err != nil {
			t.Fatal(err)
		}
		equal(t, floats(values(t, res.NotificationMessage)), count(i, i))
	}
	res, err := c.publish()
	if err != nil {
		t.Fatal(err)
	}
	if len(res.NotificationMessage.NotificationData) != 0 || !res.MoreNotifications || len(res.AvailableSequenceNumbers) != maxSent {
		t.Fatalf("want a keep-alive that announces more, got %+v", res)
	}
	var acks []*ua.SubscriptionAcknowledgement
	for _, seq := range res.AvailableSequenceNumbers {
		acks = append(acks, ack(sub, seq))
	}
	res, err = c.publish(acks...)
	if err != nil {
		t.Fatal(err)
	}
	equal(t, append(floats(values(t, res.NotificationMessage)), floats(c.drain(sub, n))...), count(maxSent+1, n))
}

func TestServer_CloseEndsRun(t *testing.T) {
	s, err := serve(Config{Source: "src", Listen: "127.0.0.1:0"}, nil, zero(), nil, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- s.Run(t.Context()) }()
	connect(t, s.URL())
	for range 2 {
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	if _, err := Serve(Config{Source: "src", Listen: "nowhere"}, nil, nil, slog.New(slog.DiscardHandler)); err == nil {
		t.Error("served at no address")
	}
}

func TestServer_InitialValueIsTheNewestByTime(t *testing.T) {
	r := open(t, Config{}, tempA)
	c := connect(t, r.URL())
	r.prove(0)
	c.drain(c.subscribe(100, tempA), 0)
	r.push(tempA, 1_000, 10)
	r.push(tempA, 500, 5) // late
	r.prove(2_000)
	sub := must[*ua.CreateSubscriptionResponse](c, &ua.CreateSubscriptionRequest{RequestedPublishingInterval: 10, RequestedLifetimeCount: 3000, RequestedMaxKeepAliveCount: 1, PublishingEnabled: false})
	c.monitor(sub.SubscriptionID, 10, tempA)
	read := must[*ua.ReadResponse](c, &ua.ReadRequest{NodesToRead: []*ua.ReadValueID{{NodeID: text(tempA), AttributeID: ua.AttributeIDValue, DataEncoding: &ua.QualifiedName{}}}})
	if v := read.Results[0].Value.Float(); v != 10 {
		t.Errorf("read %v", v)
	}
	must[*ua.DeleteSubscriptionsResponse](c, &ua.DeleteSubscriptionsRequest{SubscriptionIDs: []uint32{1}})
	res, err := c.publish()
	if err != nil {
		t.Fatal(err)
	}
	if len(values(t, res.NotificationMessage)) != 0 || !res.MoreNotifications {
		t.Errorf("publishing is disabled, but %+v came", res)
	}
	must[*ua.SetPublishingModeResponse](c, &ua.SetPublishingModeRequest{PublishingEnabled: true, SubscriptionIDs: []uint32{sub.SubscriptionID}})
	equal(t, floats(c.drain(sub.SubscriptionID, 2_000)), []float64{10})
}

// eventually waits for a condition that other goroutines bring about.
func eventually(t *testing.T, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.After(30 * time.Second); !ok(); {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatal("did not come true in 5 s")
		}
	}
}
