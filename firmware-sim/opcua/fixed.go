package opcua

import (
	"time"

	"github.com/gopcua/opcua/id"
	"github.com/gopcua/opcua/ua"
)

// Nodes that are no signals have a value too: properties never change, the
// server's clock does with every look at it.

// ticks says whether a node's value is the server's clock.
func ticks(nid *ua.NodeID) bool {
	return nid.Namespace() == 0 && (nid.IntID() == id.Server_ServerStatus || nid.IntID() == id.Server_ServerStatus_CurrentTime)
}

// clockAt is the plant clock as a value.
func clockAt(now time.Time) *ua.DataValue { return stamped(ua.MustVariant(now), now) }

// statusAt is Server_ServerStatus in plant time, as its CurrentTime is.
func statusAt(began, now time.Time) *ua.DataValue {
	return stamped(ua.MustVariant(ua.NewExtensionObject(&ua.ServerStatusDataType{
		StartTime: began, CurrentTime: now, State: ua.ServerStateRunning, ShutdownReason: ua.NewLocalizedText(""),
		BuildInfo: &ua.BuildInfo{ProductURI: Namespace, ManufacturerName: "Plantmesh", ProductName: "firmware-sim"},
	})), now)
}

func stamped(v *ua.Variant, now time.Time) *ua.DataValue {
	return &ua.DataValue{
		EncodingMask: ua.DataValueValue | ua.DataValueSourceTimestamp | ua.DataValueServerTimestamp,
		Value:        v, SourceTimestamp: now, ServerTimestamp: now,
	}
}

// unsignalled prepares an item of a node that is no signal: its value is queued
// at once, and the clock's again at each publishing interval. Such values are
// promises to nobody: they are never waited for.
func (s *Server) unsignalled(it *item) {
	if it.fixed = s.space.value(it.nid, s.began, s.proved); ticks(it.nid) {
		it.sub.clocks = append(it.sub.clocks, it)
	}
	s.enqueueFixed(it)
}

func (s *Server) enqueueFixed(it *item) { s.enqueue(it, &held{told: true, fixed: it.fixed}) }

// sample queues the clock for the items that show it.
func (s *Server) sample(x *subscription) {
	for _, it := range x.clocks {
		if it.fixed != nil && it.fixed.SourceTimestamp.Equal(s.proved) {
			continue
		}
		it.fixed = s.space.value(it.nid, s.began, s.proved)
		s.enqueueFixed(it)
	}
}
