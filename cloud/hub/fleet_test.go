package hub

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	porthttp "plantmesh/cloud/port/http"
	"plantmesh/proto/report"
	"plantmesh/proto/subject"
)

// What an agent says is shown beside what the hub sees; what nobody said is absent.
func TestFleet_OnlineLeftAndReported(t *testing.T) {
	h := opened(t)
	at := time.Date(2026, 3, 1, 4, 0, 0, 0, time.UTC)
	key := publicKey(t)
	enrolled(t, h, "gw-9", key, 48*time.Hour)
	mine := func() porthttp.Agent {
		t.Helper()
		all, err := h.agents(t.Context())
		check(t, err)
		i := slices.IndexFunc(all, func(a porthttp.Agent) bool { return a.Name == "gw-9" })
		return all[i]
	}
	v := mine()
	if b, err := json.Marshal(v); err != nil || v.State != "offline" || v.TokenFor < 1.9 || v.TokenFor > 2 || v.Version != "" || v.Lag != nil || v.Pending != nil || v.Clock != nil {
		t.Errorf("%s, %v", b, err)
	}
	hours := 71.5
	said, err := json.Marshal(report.Report{Version: "v1", Sent: at.Add(1500 * time.Millisecond), Pending: 12, LagSeconds: 90, Lost: 3, BufferBytes: 25, BufferMax: 100, AutonomyHours: &hours, Sources: 2, Aside: 1})
	check(t, err)
	h.fleet.take(&nats.Msg{Subject: subject.Report("graz", "gw-9"), Data: said}, at)
	h.fleet.take(&nats.Msg{Subject: subject.Report("graz", "gw-9"), Data: []byte("{}")}, at.Add(time.Hour)) // says nothing
	h.fleet.connected(map[string]time.Time{key: at}, at)
	h.fleet.fill(&v, subject.AgentLog("graz", "gw-9"), key)
	if v.State != "online" || v.Since != "2026-03-01T04:00:00Z" || v.Version != "v1" || *v.Clock != 1.5 || *v.Pending != 12 || *v.Lag != 90 || *v.Lost != 3 || *v.Autonomy != hours || *v.Fill != 0.25 || *v.Sources != 2 || *v.Aside != 1 {
		t.Errorf("%+v", v)
	}
	if v = mine(); v.State != "offline" || v.Since == "" { // the server knows of no connection
		t.Errorf("%+v", v)
	}
	_, err = h.gate.Revoke("graz", "gw-9", "", operator())
	check(t, err)
	if v = mine(); v.State != "revoked" {
		t.Errorf("%+v", v)
	}
}

// A command beside the hub sees what it wrote, unless it is old.
func TestFleet_BesideTheHub(t *testing.T) {
	h := opened(t)
	enrolled(t, h, "gw-9", publicKey(t), 48*time.Hour)
	check(t, h.writeFleet(t.Context()))
	if all, _, ok := Fleet(h.cfg, time.Now()); !ok || !slices.ContainsFunc(all, func(a porthttp.Agent) bool { return a.Name == "gw-9" && a.State == "offline" }) {
		t.Errorf("%+v, %v", all, ok)
	}
	if _, _, ok := Fleet(h.cfg, time.Now().Add(time.Minute)); ok {
		t.Error("a hub that runs no more is believed")
	}
	path := filepath.Join(h.cfg.Data, fleetName)
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	check(t, os.WriteFile(path, []byte("{"), 0o600))
	if _, _, ok := Fleet(h.cfg, time.Now()); ok {
		t.Error("half a file is believed")
	}
}
