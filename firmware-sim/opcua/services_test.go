package opcua

import (
	"math"
	"testing"
	"time"

	"github.com/gopcua/opcua/id"
	"github.com/gopcua/opcua/ua"
)

func TestServer_ItemsAreModifiedAndDeleted(t *testing.T) {
	r := open(t, Config{}, tempA, tempB)
	c := connect(t, r.URL())
	sub := must[*ua.CreateSubscriptionResponse](c, &ua.CreateSubscriptionRequest{RequestedPublishingInterval: 10, RequestedLifetimeCount: 3000, RequestedMaxKeepAliveCount: 1, PublishingEnabled: true}).SubscriptionID
	items := c.monitor(sub, 100, tempA, tempB)
	for i := 1; i <= 10; i++ {
		r.push(tempA, i, float64(i))
		r.push(tempB, i, float64(-i))
	}
	r.prove(10)
	mod := must[*ua.ModifyMonitoredItemsResponse](c, &ua.ModifyMonitoredItemsRequest{SubscriptionID: sub, ItemsToModify: []*ua.MonitoredItemModifyRequest{{
		MonitoredItemID: items[0].MonitoredItemID, RequestedParameters: &ua.MonitoringParameters{ClientHandle: 77, QueueSize: 4, DiscardOldest: true, Filter: ua.NewExtensionObject(nil)},
	}, {MonitoredItemID: 4711, RequestedParameters: &ua.MonitoringParameters{Filter: ua.NewExtensionObject(nil)}}}})
	if mod.Results[0].RevisedQueueSize != 4 || mod.Results[1].StatusCode != ua.StatusBadMonitoredItemIDInvalid {
		t.Errorf("modified %+v %+v", mod.Results[0], mod.Results[1])
	}
	must[*ua.DeleteMonitoredItemsResponse](c, &ua.DeleteMonitoredItemsRequest{SubscriptionID: sub, MonitoredItemIDs: []uint32{items[1].MonitoredItemID}})
	got := c.drain(sub, 10)
	equal(t, floats(got), count(7, 10))
	if got[0].ClientHandle != 77 || got[0].Value.Status != overflow {
		t.Errorf("first %+v", got[0])
	}
	r.push(tempB, 11, 11)
	if r.Waiting() != 0 {
		t.Errorf("waiting %d for a deleted item", r.Waiting())
	}
}

func history(name string, most uint32) *ua.HistoryReadRequest {
	return &ua.HistoryReadRequest{
		HistoryReadDetails: ua.NewExtensionObject(&ua.ReadRawModifiedDetails{StartTime: day, EndTime: day.Add(time.Second), NumValuesPerNode: most}),
		TimestampsToReturn: ua.TimestampsToReturnBoth,
		NodesToRead:        []*ua.HistoryReadValueID{{NodeID: text(name), DataEncoding: &ua.QualifiedName{}}},
	}
}

func TestServer_HistoryReadPages(t *testing.T) {
	r := open(t, Config{}, tempA)
	for i := 10; i > 0; i-- { // emitted backwards
		r.push(tempA, 100*i, float64(i))
	}
	c := connect(t, r.URL())
	req := history(tempA, 4)
	var got []float64
	for pages := 0; ; pages++ {
		res := must[*ua.HistoryReadResponse](c, req).Results[0]
		for _, v := range res.HistoryData.Value.(*ua.HistoryData).DataValues {
			got = append(got, v.Value.Float())
		}
		if len(res.ContinuationPoint) == 0 {
			break
		}
		req.NodesToRead[0].ContinuationPoint = res.ContinuationPoint
	}
	equal(t, got, count(1, 9)) // the end is not part of it
}

func TestServer_TypesAndNames(t *testing.T) {
	names := []string{"line1.filler.state", "line1.filler.produced", "line1.filler.energy_kj", "line1.filler.order", "line1.filler.blocked", tempA}
	r := open(t, Config{}, names...)
	r.push("line1.filler.produced", 1, math.MinInt32)
	r.push("line1.filler.energy_kj", 1, 1<<40)
	c := connect(t, r.URL())
	find := func(from *ua.NodeID, path ...string) *ua.NodeID {
		t.Helper()
		for _, want := range path {
			res := must[*ua.BrowseResponse](c, &ua.BrowseRequest{View: &ua.ViewDescription{ViewID: ua.NewTwoByteNodeID(0)}, NodesToBrowse: []*ua.BrowseDescription{{
				NodeID: from, BrowseDirection: ua.BrowseDirectionForward, ReferenceTypeID: ua.NewNumericNodeID(0, id.HierarchicalReferences), IncludeSubtypes: true, ResultMask: 63,
			}}}).Results[0]
			var next *ua.NodeID
			for _, ref := range res.References {
				if ref.BrowseName.Name == want {
					next = ref.NodeID.NodeID
				}
			}
			if next == nil {
				t.Fatalf("no %s below %v", want, from)
			}
			from = next
		}
		return from
	}
	objects := ua.NewNumericNodeID(0, id.ObjectsFolder)
	for name, path := range map[string][]string{
		"line1.filler.state":     {"PackMLObjects", "line1-filler", "Status", "StateCurrent"},
		"line1.filler.blocked":   {"PackMLObjects", "line1-filler", "Status", "EquipmentBlocked"},
		"line1.filler.produced":  {"PackMLObjects", "line1-filler", "Admin", "ProdProcessedCount"},
		"line1.filler.order":     {"Machines", "line1-filler", "Production", "order"},
		"line1.filler.energy_kj": {"Machines", "line1-filler", "Monitoring", "energy_kj"},
	} {
		if got := find(objects, path...); got.String() != text(name).String() {
			t.Errorf("%v is %v", path, got)
		}
	}
	unit := find(objects, "Machines", "line1-filler", "Monitoring", "temperature", "EngineeringUnits")
	read := func(n *ua.NodeID, attr ua.AttributeID) any {
		t.Helper()
		res := must[*ua.ReadResponse](c, &ua.ReadRequest{NodesToRead: []*ua.ReadValueID{{NodeID: n, AttributeID: attr, DataEncoding: &ua.QualifiedName{}}}}).Results[0]
		if res.Status != 0 {
			t.Fatalf("read %v of %v: %v", attr, n, res.Status)
		}
		return res.Value.Value()
	}
	if eu := read(unit, ua.AttributeIDValue).(*ua.ExtensionObject).Value.(*ua.EUInformation); eu.UnitID != 4_408_652 { // CEL, OPC's own list
		t.Errorf("unit id %d", eu.UnitID)
	}
	if v := read(text("line1.filler.produced"), ua.AttributeIDValue); v != int32(math.MinInt32) {
		t.Errorf("produced %T %v", v, v)
	}
	if v := read(text("line1.filler.energy_kj"), ua.AttributeIDValue); v != int64(1<<40) {
		t.Errorf("energy_kj %T %v", v, v)
	}
	if v := read(ua.NewNumericNodeID(0, id.Server_NamespaceArray), ua.AttributeIDValue).([]string); v[nsOwn] != Namespace {
		t.Errorf("namespaces %v", v)
	}
	if v := read(text("line1.filler.state"), ua.AttributeIDDataType).(*ua.NodeID); v.IntID() != id.Int32 {
		t.Errorf("data type %v", v)
	}
}

func TestServer_MalformedInputEndsOnlyItsConnection(t *testing.T) {
	r := open(t, Config{}, tempA)
	bad := connect(t, r.URL())
	if _, err := bad.conn.Write([]byte("MSGF\xff\xff\x00\x00 nonsense")); err != nil {
		t.Fatal(err)
	}
	bad.cut()
	c := connect(t, r.URL())
	if _, err := call[*ua.CallResponse](c, &ua.CallRequest{MethodsToCall: []*ua.CallMethodRequest{}}); !isStatus(err, ua.StatusBadServiceUnsupported) {
		t.Errorf("call: %v", err)
	}
}
