package opcua

import (
	"slices"
	"testing"
	"time"

	"github.com/gopcua/opcua/id"
	"github.com/gopcua/opcua/ua"
)

func (c *client) watch(sub uint32, nodes ...*ua.NodeID) []*ua.MonitoredItemCreateResult {
	c.t.Helper()
	req := &ua.CreateMonitoredItemsRequest{SubscriptionID: sub, TimestampsToReturn: ua.TimestampsToReturnBoth}
	for i, n := range nodes {
		req.ItemsToCreate = append(req.ItemsToCreate, &ua.MonitoredItemCreateRequest{
			ItemToMonitor:       &ua.ReadValueID{NodeID: n, AttributeID: ua.AttributeIDValue, DataEncoding: &ua.QualifiedName{}},
			MonitoringMode:      ua.MonitoringModeReporting,
			RequestedParameters: &ua.MonitoringParameters{ClientHandle: uint32(i), QueueSize: 100, DiscardOldest: true, Filter: ua.NewExtensionObject(nil)},
		})
	}
	return must[*ua.CreateMonitoredItemsResponse](c, req).Results
}

// TestServer_NodesThatAreNoSignals: what is monitored notifies, first with the
// value it has; the clock again and again, in plant time.
func TestServer_NodesThatAreNoSignals(t *testing.T) {
	r := open(t, Config{}, tempA)
	r.push(tempA, 1, 1)
	r.prove(1_000)
	c := connect(t, r.URL())
	sub := c.subscribe(100, tempA)
	results := c.watch(sub, text("line1.filler.Identification.Manufacturer"), ua.NewNumericNodeID(0, id.Server_ServerStatus_CurrentTime),
		ua.NewNumericNodeID(0, id.Server_ServerStatus), text("line1.filler"), text("nowhere"))
	for i, want := range []ua.StatusCode{0, 0, 0, ua.StatusBadAttributeIDInvalid, ua.StatusBadNodeIDUnknown} {
		if results[i].StatusCode != want {
			t.Errorf("item %d: %v, want %v", i, results[i].StatusCode, want)
		}
	}
	if results[1].RevisedSamplingInterval != 10 || results[0].RevisedSamplingInterval != 0 {
		t.Errorf("sampled every %v ms", results[1].RevisedSamplingInterval)
	}
	var maker string
	var clock, status []time.Time
	hear := func(ms int) {
		for _, v := range c.drain(sub, ms) {
			switch x := v.Value.Value.Value().(type) {
			case string:
				maker = x
			case time.Time:
				clock = append(clock, x)
			case *ua.ExtensionObject:
				status = append(status, x.Value.(*ua.ServerStatusDataType).CurrentTime)
			}
		}
	}
	hear(1_000)
	r.prove(2_000)
	hear(2_000)
	want := []time.Time{day.Add(time.Second), day.Add(2 * time.Second)}
	if maker != "Plantmesh firmware-sim" || !slices.EqualFunc(clock, want, time.Time.Equal) || !slices.EqualFunc(status, want, time.Time.Equal) {
		t.Errorf("maker %q, clock %v, status %v", maker, clock, status)
	}
	read := must[*ua.ReadResponse](c, &ua.ReadRequest{NodesToRead: []*ua.ReadValueID{{NodeID: ua.NewNumericNodeID(0, id.Server_ServerStatus), AttributeID: ua.AttributeIDValue, DataEncoding: &ua.QualifiedName{}}}})
	s := read.Results[0].Value.Value().(*ua.ExtensionObject).Value.(*ua.ServerStatusDataType)
	if !s.CurrentTime.Equal(want[1]) || !s.StartTime.Equal(want[0]) || s.State != ua.ServerStateRunning {
		t.Errorf("status %+v", s)
	}
	if err := r.receivedAll(); err != nil || r.Waiting() != 0 || len(r.told) != 1 {
		t.Errorf("told %v, waiting %d, %v: only emissions are received", r.told, r.Waiting(), err)
	}
	// A listener that dies before its first commit leaves no clock in the store.
	other := open(t, Config{}, tempA)
	other.push(tempA, 1, 1)
	other.prove(1)
	c = connect(t, other.URL())
	sub = c.subscribe(100, tempA)
	c.watch(sub, ua.NewNumericNodeID(0, id.Server_ServerStatus_CurrentTime))
	must[*ua.DeleteSubscriptionsResponse](c, &ua.DeleteSubscriptionsRequest{SubscriptionIDs: []uint32{sub}})
	equal(t, floats(c.drain(c.subscribe(100, tempA), 1)), count(1, 1))
}

// TestServer_SubscriptionsOutliveExpiredSessions: the agent was away for longer
// than its session; what was queued waits for the next one.
func TestServer_SubscriptionsOutliveExpiredSessions(t *testing.T) {
	r := open(t, Config{}, tempA)
	r.push(tempA, 1, 1)
	r.prove(1)
	c, err := tryConnectFor(t, r.URL(), 1_000)
	if err != nil {
		t.Fatal(err)
	}
	sub := c.subscribe(1_000, tempA)
	equal(t, floats(c.drain(sub, 1)), count(1, 1))
	token := c.token
	c.cut()
	for i := 2; i <= 50; i++ {
		r.push(tempA, i, float64(i))
	}
	r.prove(50)
	eventually(t, func() bool {
		r.Server.mu.Lock()
		defer r.Server.mu.Unlock()
		return len(r.sessions) == 0
	})
	gone := dial(t, r.URL())
	gone.token = token
	if err := gone.activate(); !isStatus(err, ua.StatusBadSessionIDInvalid) {
		t.Errorf("the session lives on: %v", err)
	}
	c = connect(t, r.URL())
	tr := must[*ua.TransferSubscriptionsResponse](c, &ua.TransferSubscriptionsRequest{SubscriptionIDs: []uint32{sub}})
	if tr.Results[0].StatusCode != ua.StatusOK {
		t.Fatal(tr.Results[0].StatusCode)
	}
	equal(t, floats(c.drain(sub, 50)), count(2, 50))
	if err := r.receivedAll(); err != nil {
		t.Error(err)
	}
}
