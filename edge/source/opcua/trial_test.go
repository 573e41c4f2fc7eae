package opcua

import (
	"errors"
	"log/slog"
	"strings"
	"testing"

	"plantmesh/proto/mesh"
)

// Each signal is read once and taken as the reader would: no subscription is made,
// and nothing is published.
func TestTry(t *testing.T) {
	p := newPLC(t)
	p.heat()
	p.add("ns=2;s=name", "", "filler")
	p.add("ns=2;s=list", "", []float64{1, 2, 3})
	cfg := heated()
	cfg.ID, cfg.Endpoint, cfg.Security = "trial", p.endpoint, Security{Insecure: true}
	cfg.Signals = append(cfg.Signals,
		Signal{Name: "name", Type: "int", Node: "nsu=urn:press;s=name"},
		Signal{Name: "list", Type: "double", Node: "nsu=urn:press;s=list"},
		Signal{Name: "gone", Type: "int", Node: "nsu=urn:press;s=gone"},
		Signal{Name: "nowhere", Type: "int", Node: "nsu=urn:nowhere;s=gone"},
		Signal{Name: "inches", Type: "double", Unit: "INH", Node: "nsu=urn:press;s=level"},
	)
	got, err := Try(t.Context(), cfg, func() mesh.Nanos { return noon }, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []struct{ name, raw, value, status, why string }{
		{"temp", "Double 20.5", "20.5", "Good", ""},
		{"level", "Double 7.5", "7.5", "Good", ""},
		{"parts", "Int32 3", "3", "Good", ""},
		{"name", "String filler", "", "BadTypeMismatch", "a string (filler) where the configuration says int"},
		{"list", "Double 3 values", "", "BadTypeMismatch", "an array of 3 values"},
		{"gone", " ", "", "BadNodeIdUnknown", "ns=2;s=gone"},
		{"nowhere", " ", "", "BadNodeIdUnknown", `the server has no namespace "urn:nowhere"`},
		{"inches", "Double 7.5", "7.5", "BadConfigurationError", "its unit is MMT at the server and INH in the file"},
	} {
		x := got[i]
		if x.Signal.Name != want.name || x.Raw.Type+" "+x.Raw.Text != want.raw || x.Sample.Value.String() != want.value || StatusName(x.Sample.Status) != want.status ||
			!strings.Contains(x.Why, want.why) || (x.Why == "") != (want.why == "") || x.Sample.Signal != uint32(i) {
			t.Errorf("%+v\nwant %+v", x, want)
		}
	}
	if got[0].Signal.Unit != "CEL" {
		t.Errorf("the unit that the server says is %q", got[0].Signal.Unit)
	}
	for call, want := range map[string]int{"CreateSubscriptionRequest": 0, "CreateMonitoredItemsRequest": 0, "PublishRequest": 0, "ActivateSessionRequest": 1} {
		if n := p.count(call); n != want {
			t.Errorf("%d %s, want %d", n, call, want)
		}
	}
}

func TestTry_NobodyThere(t *testing.T) {
	cfg := heated()
	cfg.ID, cfg.Endpoint, cfg.Security = "trial", "opc.tcp://127.0.0.1:1", Security{Insecure: true}
	_, err := Try(t.Context(), cfg, func() mesh.Nanos { return 1 }, slog.New(slog.DiscardHandler))
	if _, ok := errors.AsType[*VisitError](err); !ok || !strings.Contains(err.Error(), "not connected: ") {
		t.Errorf("%v", err)
	}
}
