package hub

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	porthttp "plantmesh/cloud/port/http"
	"plantmesh/proto/mesh"
	"plantmesh/proto/report"
	"plantmesh/proto/revision"
	"plantmesh/proto/subject"
)

const (
	// fleetName is the file in which a hub that runs says how its agents are, for
	// commands beside it.
	fleetName = "fleet.json"
	// fleetEvery is how often it is written, and connections are looked at.
	fleetEvery = 5 * time.Second
	// fleetStale is how old it may be to be believed.
	fleetStale = 3 * fleetEvery
	// mostLooked bounds one look: more than agents that were ever measured.
	mostLooked = 100_000
)

// fleet is what a hub knows of its agents beside their logs. Safe for concurrent use.
type fleet struct {
	mu      sync.Mutex // protects what follows
	reports map[string]heardReport
	online  map[string]time.Time // by public key, since when
	left    map[string]time.Time // when one that was online was seen to be no more
}

// heardReport is a report, and when it came.
type heardReport struct {
	report.Report

	at time.Time
}

// take takes a report. Who says it under an agent's subject is that agent.
func (f *fleet) take(m *nats.Msg, now time.Time) {
	site, agent, err := subject.ParseReport(m.Subject)
	if err != nil {
		return
	}
	r, err := report.Parse(m.Data)
	if err != nil {
		return // an agent newer than this hub, say: nothing depends on it
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.reports == nil {
		f.reports = map[string]heardReport{}
	}
	f.reports[subject.AgentLog(site, agent)] = heardReport{r, now}
}

// connected takes which keys are connected now.
func (f *fleet) connected(online map[string]time.Time, now time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.left == nil {
		f.left = map[string]time.Time{}
	}
	for key := range f.online {
		if _, still := online[key]; !still {
			f.left[key] = now
		}
	}
	for key := range online {
		delete(f.left, key)
	}
	f.online = online
}

// look asks the embedded server who is connected.
func (h *hub) look(now time.Time) error {
	all, err := h.nats.Connz(&server.ConnzOptions{Username: true, Account: h.reg.Trust.PlantKey, Limit: mostLooked})
	if err != nil {
		return fmt.Errorf("ask who is connected: %w", err)
	}
	online := map[string]time.Time{}
	for _, c := range all.Conns {
		online[c.AuthorizedUser] = c.Start
	}
	h.fleet.connected(online, now)
	return nil
}

// follow hears the agents' reports, and writes how they are, until ctx ends.
func (h *hub) follow(ctx context.Context) error {
	sub, err := h.conn.Subscribe(subject.ReportAll, func(m *nats.Msg) { h.fleet.take(m, time.Now()) })
	if err != nil {
		return fmt.Errorf("listen for reports of agents: %w", err)
	}
	t := time.NewTicker(fleetEvery)
	defer t.Stop()
	for told := ""; ; {
		if err := h.writeFleet(ctx); err != nil && err.Error() != told && ctx.Err() == nil {
			told = err.Error()
			h.log.WarnContext(ctx, "commands beside the hub don't see how agents are", "err", err)
		}
		select {
		case <-ctx.Done():
			if err := sub.Unsubscribe(); err != nil && !errors.Is(err, nats.ErrConnectionClosed) {
				h.log.DebugContext(ctx, "unsubscribe", "err", err)
			}
			return nil
		case <-t.C:
		}
	}
}

// agents is what the hub knows of its gateways.
func (h *hub) agents(ctx context.Context) (out []porthttp.Agent, err error) {
	enrolled, err := h.reg.Agents()
	if err != nil {
		return nil, err
	}
	now := time.Now()
	if err := h.look(now); err != nil {
		return nil, err
	}
	for _, a := range enrolled {
		log := subject.AgentLog(a.Site, a.Name)
		v := porthttp.Agent{Site: a.Site, Name: a.Name, State: "offline", TokenEnd: stamp(a.Expires), TokenFor: a.Expires.Sub(now).Hours() / 24}
		acc, ok, err := h.store.Account(ctx, mesh.LogID(log))
		if err != nil {
			return nil, err
		}
		if ok {
			v.Through, v.Islands = acc.Set.Through.String(), len(acc.Set.Islands)
		}
		if at, ok := h.ingest.Heard(a.Site, a.Name); ok {
			v.LastSeen = stamp(at)
		}
		h.fleet.fill(&v, log, a.PublicKey)
		newest := h.wanted.of(log)
		v.Desired, v.Sync = newest.Number, revision.Sync(newest, v.Configuration)
		if a.Revoked != nil {
			v.State, v.Since = "revoked", stamp(*a.Revoked)
		}
		out = append(out, v)
	}
	return out, nil
}

// configured is what an agent last said of its configuration, and when (RFC 3339); nil: nothing.
func (f *fleet) configured(log string) (*revision.Reported, string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	r, ok := f.reports[log]
	if !ok {
		return nil, ""
	}
	return r.Configuration, stamp(r.at)
}

// fill adds what an agent said, and whether it is there.
func (f *fleet) fill(v *porthttp.Agent, log, key string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if at, is := f.online[key]; is {
		v.State, v.Since = "online", stamp(at)
	} else if at, was := f.left[key]; was {
		v.Since = stamp(at)
	}
	r, ok := f.reports[log]
	if !ok {
		return
	}
	offset := r.Sent.Sub(r.at).Seconds()
	v.Version, v.Clock, v.Pending, v.Lag, v.Lost, v.Autonomy = r.Version, &offset, &r.Pending, &r.LagSeconds, &r.Lost, r.AutonomyHours
	v.Sources, v.Aside, v.Reported, v.Configuration = &r.Sources, &r.Aside, stamp(r.at), r.Configuration
	if r.BufferMax > 0 {
		fill := float64(r.BufferBytes) / float64(r.BufferMax)
		v.Fill = &fill
	}
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// fleetFile is fleet.json.
type fleetFile struct {
	At     time.Time        `json:"at"`
	Agents []porthttp.Agent `json:"agents"`
}

// writeFleet replaces the file whole; it is of no use after a power cut, and not synced.
func (h *hub) writeFleet(ctx context.Context) error {
	agents, err := h.agents(ctx)
	if err != nil {
		return err
	}
	b, err := json.Marshal(fleetFile{time.Now().UTC(), agents})
	if err != nil {
		return fmt.Errorf("write how agents are: %w", err)
	}
	f, err := os.CreateTemp(h.cfg.Data, ".tmp-fleet-*")
	if err != nil {
		return fmt.Errorf("write how agents are: %w", err)
	}
	_, err = f.Write(b)
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), filepath.Join(h.cfg.Data, fleetName))
	}
	if err != nil {
		return errors.Join(fmt.Errorf("write how agents are: %w", err), os.Remove(f.Name()))
	}
	return nil
}

// Fleet is how the agents are, by a hub that runs beside; ok is false where none does.
func Fleet(cfg Config, now time.Time) (agents []porthttp.Agent, at time.Time, ok bool) {
	b, err := os.ReadFile(filepath.Join(cfg.Data, fleetName))
	var f fleetFile
	if err != nil || json.Unmarshal(b, &f) != nil || now.Sub(f.At) > fleetStale || f.At.Sub(now) > fleetStale {
		return nil, at, false
	}
	return f.Agents, f.At, true
}
