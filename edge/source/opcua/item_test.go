package opcua

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/gopcua/opcua/id"
	"github.com/gopcua/opcua/ua"

	"plantmesh/proto/mesh"
	"plantmesh/proto/strict"
)

// asked is what the server was asked for a signal's item.
func (p *plc) asked(c *cell) (out *ua.MonitoringParameters) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range p.subs {
		for _, it := range s.items {
			if it.cell == c {
				out = it.asked
			}
		}
	}
	return out
}

func sifted() Config {
	cfg := heated()
	cfg.Signals[0].Deadband, cfg.Signals[1].Deadband, cfg.Signals[2].Trigger = "0.5", "10%", "status"
	return cfg
}

func TestReader_FiltersAreAskedFor(t *testing.T) {
	p := newPLC(t)
	temp, level, parts := p.heat()
	p.edit(func() { level.span = &ua.Range{Low: 0, High: 50} })
	r := p.run(t, sifted(), nil)
	r.says(t, "2@0 3")
	for c, want := range map[*cell]ua.DataChangeFilter{
		temp:  {Trigger: ua.DataChangeTriggerStatusValue, DeadbandType: uint32(ua.DeadbandTypeAbsolute), DeadbandValue: 0.5},
		level: {Trigger: ua.DataChangeTriggerStatusValue, DeadbandType: uint32(ua.DeadbandTypePercent), DeadbandValue: 10},
		parts: {Trigger: ua.DataChangeTriggerStatus},
	} {
		got, ok := p.asked(c).Filter.Value.(*ua.DataChangeFilter)
		if !ok || *got != want {
			t.Errorf("asked for %+v, want %+v", got, want)
		}
	}
	if told := r.told(); told != "connected" {
		t.Errorf("it says %s", told)
	}
}

func TestReader_DeadbandIsAppliedHereWhereTheServerRefusesIt(t *testing.T) {
	for _, profile := range []string{"generic", "s7-1200"} {
		t.Run(profile, func(t *testing.T) {
			p := newPLC(t)
			temp, level, parts := p.heat()
			p.edit(func() {
				level.span = &ua.Range{Low: 0, High: 50}
				p.item = func(want *ua.MonitoredItemCreateRequest, res *ua.MonitoredItemCreateResult) {
					if f := want.RequestedParameters.Filter; f != nil && f.Value != nil {
						res.StatusCode = ua.StatusBadMonitoredItemFilterUnsupported
					}
				}
			})
			cfg := sifted()
			cfg.Profile = profile
			r := p.run(t, cfg, nil)
			r.says(t, "2@0 3")
			for i, v := range []float64{20.9, 21, 21.1, 20.6, 20.4} { // from 20.5, by more than 0.5 each
				p.set(temp, v)
				p.set(level, 7.5+float64(i)*2) // 7.5 9.5 11.5 13.5 15.5: by more than 5
				p.set(parts, int32(i))
			}
			p.edit(func() {
				temp.value = p.stamped(20.4)
				temp.value.Status = ua.StatusUncertain
				temp.value.UpdateMask()
				p.queueOf(temp)
				p.flush()
			})
			r.says(t, "2@15 4")
			r.says(t, "0@15 20.4")
			got := r.said()
			for line, want := range map[string]int{" 20.9": 0, "0@4 21,": 0, " 21.1": 1, " 20.6": 0, " 20.4": 2, "1@": 2, "1@11 13.5": 1, "2@": 6} {
				if n := strings.Count(got, line); n != want {
					t.Errorf("%q stands %d times, want %d: %s", line, n, want, got)
				}
			}
			if told := r.told(); profile == "generic" && !strings.Contains(told, "the deadband of 2 signals is applied here; trigger or deadband of 1 signals are not applied") {
				t.Errorf("it says %s", told)
			}
			if n := p.count("CreateMonitoredItemsRequest"); profile == "s7-1200" && n != 1 {
				t.Errorf("items were asked for %d times", n)
			}
		})
	}
}

func TestReader_QueuesBridgeTheOutage(t *testing.T) {
	p := newPLC(t)
	temp, level, parts := p.heat()
	cfg := heated()
	cfg.SamplingInterval, cfg.Outage = strict.Duration(time.Second), strict.Duration(10*time.Minute)
	cfg.Signals[1].SamplingInterval = strict.Duration(250 * time.Millisecond)
	cfg.Signals[2].QueueSize = 7
	r := p.run(t, cfg, nil)
	r.says(t, "2@0 3")
	for c, want := range map[*cell]uint32{temp: 601, level: 2401, parts: 7} {
		if got := p.asked(c).QueueSize; got != want {
			t.Errorf("a queue of %d, want %d", got, want)
		}
	}
	if got := p.asked(level).SamplingInterval; got != 250 {
		t.Errorf("sampled each %g ms", got)
	}
	r.stop()

	// Another sampling in the file is another subscription, the same is the same.
	r = p.run(t, cfg, r)
	p.set(temp, 21.5)
	r.says(t, "0@1 21.5")
	if n := p.count("CreateSubscriptionRequest"); n != 1 {
		t.Errorf("%d subscriptions", n)
	}
	r.stop()
	cfg.Signals[1].SamplingInterval = strict.Duration(time.Second)
	r = p.run(t, cfg, r)
	r.says(t, "2@0 3")
	if n := p.count("CreateSubscriptionRequest"); n != 2 || p.asked(level).QueueSize != 601 {
		t.Errorf("%d subscriptions, a queue of %d", n, p.asked(level).QueueSize)
	}
}

func TestReader_WhatTheServerDoesNotDoIsTold(t *testing.T) {
	p := newPLC(t)
	p.heat()
	p.edit(func() {
		p.item = func(_ *ua.MonitoredItemCreateRequest, res *ua.MonitoredItemCreateResult) {
			res.RevisedSamplingInterval, res.RevisedQueueSize = 1000, 10
		}
		p.sub = func(res *ua.CreateSubscriptionResponse) {
			res.RevisedPublishingInterval, res.RevisedLifetimeCount = 500, 60
		}
	})
	cfg := heated()
	cfg.SamplingInterval, cfg.Outage = strict.Duration(100*time.Millisecond), strict.Duration(time.Minute)
	r := p.run(t, cfg, nil)
	r.says(t, "2@0 3")
	const want = "connected; the server does not do all that was asked: publishing_interval 500ms instead of 100ms; keep-alive each 5s instead of 1s; " +
		"lifetime 30s instead of 1h0m0s; 3 signals are sampled less often than asked, down to each 1s; 3 signals keep fewer values than asked, down to 10 of 601, 10s of an outage"
	if got := r.told(); got != want {
		t.Errorf("it says %s", got)
	}
	r.stop()
	if r = p.run(t, cfg, r); true { // it is still so after a restart
		until(t, "it is told again", func() bool { return r.told() == want })
	}
}

func TestReader_TheServersLimitsAreKept(t *testing.T) {
	for _, c := range []struct {
		name  string
		cfg   Limits
		says  map[uint32]uint32
		items int // calls for a hundred items
		paths int // calls for a hundred paths, and two hundred units and ranges
	}{
		{"it says nothing", Limits{}, nil, 1, 2},
		{"it says less", Limits{}, map[uint32]uint32{
			id.Server_ServerCapabilities_OperationLimits_MaxMonitoredItemsPerCall:                 30,
			id.Server_ServerCapabilities_OperationLimits_MaxNodesPerTranslateBrowsePathsToNodeIDs: 50,
		}, 4, 6},
		{"it says more", Limits{Items: 50, Translate: 100}, map[uint32]uint32{id.Server_ServerCapabilities_OperationLimits_MaxMonitoredItemsPerCall: 10_000}, 2, 3},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := newPLC(t)
			if c.says != nil {
				p.says = c.says
			}
			cfg := Config{Limits: c.cfg}
			for i := range 100 {
				p.add(fmt.Sprintf("ns=2;i=%d", i+1), fmt.Sprintf("0:Objects/2:v%d", i), int32(i))
				cfg.Signals = append(cfg.Signals, Signal{Name: fmt.Sprint("v", i), Type: "int", Path: fmt.Sprintf("/Objects/nsu=urn:press;v%d", i)})
			}
			r := p.run(t, cfg, nil)
			r.says(t, "99@0 99")
			if n, m := p.count("CreateMonitoredItemsRequest"), p.count("TranslateBrowsePathsToNodeIDsRequest"); n != c.items || m != c.paths {
				t.Errorf("%d calls for items, want %d; %d for paths, want %d", n, c.items, m, c.paths)
			}
		})
	}
}

func TestProfiles(t *testing.T) {
	for name, p := range profiles() {
		cfg := config()
		cfg.Profile = name
		if err := cfg.Validate(); err != nil || cfg.Limits != p.limits || cfg.InFlight != p.inFlight {
			t.Errorf("%s: %v, %+v", name, err, cfg.Limits)
		}
		cfg = config()
		cfg.Profile, cfg.Limits.Items, cfg.InFlight = name, 7, 9
		if err := cfg.Validate(); err != nil || cfg.Limits.Items != 7 || cfg.InFlight != 9 {
			t.Errorf("%s: the file does not go first: %v, %+v", name, err, cfg.Limits)
		}
	}
}

func TestParseDeadband(t *testing.T) {
	for in, want := range map[string]deadband{"": {}, "0.5": {0.5, false}, "2%": {2, true}, "1e-3": {0.001, false}, "3 %": {3, true}, "100%": {100, true}} {
		if got, err := parseDeadband(in); err != nil || got != want {
			t.Errorf("%q is %v, %v", in, got, err)
		}
	}
	for _, in := range []string{"0", "-1", "101%", "NaN", "+Inf", "%", "x", "5 mm", "NaN%"} {
		if got, err := parseDeadband(in); err == nil {
			t.Errorf("%q is %v", in, got)
		}
	}
}

// What is held back is never farther than the deadband from what is kept, and what a
// server with the same deadband sends passes.
func TestSieve_HoldsBackWhatAServerWould(t *testing.T) {
	for range 200 {
		band := math.Exp(rand.Float64()*10 - 5)
		v, server := sieve{band: band}, sieve{band: band}
		second := sieve{band: band}
		at, kept := 0.0, math.NaN()
		for range 200 {
			at += (rand.Float64() - 0.5) * 3 * band
			s := mesh.Sample{Value: mesh.Double(at)}
			if !v.holds(&s) {
				kept = at
			}
			if !(math.Abs(at-kept) <= band) {
				t.Fatalf("%g is held back behind %g by %g", at, kept, band)
			}
			if !server.holds(&s) && second.holds(&s) {
				t.Fatalf("%g came through one sieve of %g and not the next", at, band)
			}
		}
	}
}
