package opcua

import (
	"slices"
	"testing"
	"time"

	"plantmesh/deploy/torture/proxy"
)

// size is of a matrix: a thousand items ten times a second where it is run by
// itself, and few beside all other tests.
func size() (items int, period time.Duration) {
	if full() {
		return 1000, 100 * time.Millisecond
	}
	return 20, 100 * time.Millisecond
}

// blackHole takes what is sent and gives nothing, both ways.
func blackHole(c *proxy.Proxy, on bool) {
	c.Set(proxy.Up, proxy.Fault{Swallow: on})
	c.Set(proxy.Down, proxy.Fault{Swallow: on})
}

// TestMatrix_TheQueueIsKept: whatever happens between a reader and a server that
// keeps its queues, nothing is lost and nothing comes twice.
func TestMatrix_TheQueueIsKept(t *testing.T) {
	items, period := size()
	p := serve(t, items, period, func(p *plan) { p.Token = 5000 })
	for _, c := range []struct {
		name string
		do   func(t *testing.T, g *gateway)
	}{
		{"TCP cut for 2 s", func(t *testing.T, g *gateway) {
			t.Helper()
			g.cable.Cut(true)
			pass(t, 2*time.Second)
			g.cable.Cut(false)
		}},
		{"TCP cut for 6 s", func(t *testing.T, g *gateway) {
			t.Helper()
			g.cable.Cut(true)
			pass(t, 6*time.Second)
			g.cable.Cut(false)
		}},
		{"black hole for 4 s", func(t *testing.T, g *gateway) {
			t.Helper()
			blackHole(g.cable, true)
			pass(t, 4*time.Second)
			blackHole(g.cable, false)
		}},
		{"half-open for ever", func(_ *testing.T, g *gateway) { g.cable.Freeze() }},
		{"session expired", func(_ *testing.T, g *gateway) {
			p.tell(order{"do": "expire", "name": g.cfg.ID, "forget": false})
		}},
		{"reader killed", func(t *testing.T, g *gateway) {
			t.Helper()
			g.kill()
			pass(t, time.Second)
			g.start()
		}},
		{"reader killed, and again at once", func(_ *testing.T, g *gateway) {
			for range 5 {
				g.kill()
				g.start()
			}
		}},
		{"channel renewed twice", func(t *testing.T, g *gateway) {
			t.Helper()
			before := g.cable.Dials()
			pass(t, 9*time.Second) // the server takes no token older than 6.25 s
			if n := g.cable.Dials() - before; n > 0 {
				t.Errorf("%d new connections instead of new tokens", n)
			}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			beside(t)
			g := newGateway(t, p, t.Name())
			g.start()
			g.flows(p)
			before := g.cable.Dials()
			c.do(t, g)
			began := time.Now()
			g.flows(p)
			t.Logf("caught up after %s, %d connections more", time.Since(began).Round(time.Millisecond), g.cable.Dials()-before)
			g.settles(p)
			g.l.bridged()
			p.tell(order{"do": "expire", "name": g.cfg.ID, "forget": true}) // a full one leaves no room for the next
		})
	}
}

// TestMatrix_NoTransfer: on a server that can't transfer subscriptions, as most
// PLCs can't, a restart of the gateway costs exactly one gap.
func TestMatrix_NoTransfer(t *testing.T) {
	t.Parallel()
	p := serveBy(t, awcullen, 5, time.Second) // it looks ten times a second
	g := newGateway(t, p, "no-transfer")
	g.start()
	g.proven(p)
	began := time.Now()
	g.kill()
	pass(t, 3*time.Second)
	g.start()
	outage := time.Since(began)
	g.settles(p)
	g.l.oneGap(outage)
}

// TestMatrix_TheServerForgets: where the server has nothing any more, that costs
// one gap, as long as the outage, and what lies outside it is whole.
func TestMatrix_TheServerForgets(t *testing.T) {
	for _, c := range []struct {
		name string
		full bool
		do   func(t *testing.T, p *peer, g *gateway)
	}{
		{"server restarted", false, func(t *testing.T, p *peer, _ *gateway) {
			t.Helper()
			p.kill()
			pass(t, time.Second)
			p.start()
		}},
		{"server shut down and started", true, func(_ *testing.T, p *peer, _ *gateway) {
			p.stop()
			p.start()
		}},
		{"namespaces renumbered", false, func(t *testing.T, p *peer, _ *gateway) {
			t.Helper()
			before := p.tell(order{"do": "tick"}).Namespaces
			p.stop()
			slices.Reverse(p.plan.Namespaces)
			p.start()
			if after := p.tell(order{"do": "tick"}).Namespaces; slices.Index(before, plantURI) == slices.Index(after, plantURI) {
				t.Fatalf("the namespace has its old number: %q, %q", before, after)
			}
		}},
		{"session and subscription forgotten", true, func(_ *testing.T, p *peer, g *gateway) {
			p.tell(order{"do": "expire", "name": g.cfg.ID, "forget": true})
		}},
		{"certificate changed with a restart", true, func(t *testing.T, p *peer, g *gateway) {
			t.Helper()
			p.stop()
			p.plan.Cert, p.plan.Key = newAuthority(t).server(t, nil)
			p.start()
			g.l.says(20*time.Second, "changed. Trusted so far: \"matrix server\", SHA256:")
			g.trusts(p.plan.Cert)
		}},
	} {
		if c.full && !full() {
			continue // make matrix
		}
		t.Run(c.name, func(t *testing.T) {
			beside(t)
			items, period := size()
			p := serve(t, items, period)
			g := newGateway(t, p, t.Name())
			g.start()
			g.proven(p)
			began := time.Now()
			c.do(t, p, g)
			outage := time.Since(began)
			g.settles(p)
			g.l.oneGap(outage)
		})
	}
}

// TestMatrix_NodeRemoved: it costs only itself, its last word is that it is gone,
// and the others go on without a hole. It comes back, and the server, which keeps
// everything, shows another certificate: it is refused until a person has compared
// it, then nothing of the others was lost, and the node is read again.
func TestMatrix_NodeRemovedAndCertificateChanged(t *testing.T) {
	beside(t)
	const gone = 3
	items, period := size()
	p := serve(t, items, period)
	g := newGateway(t, p, t.Name())
	g.l.remade = gone
	g.start()
	g.flows(p)
	reads := func() int { return p.tell(order{"do": "counts"}).Counts["ReadRequest"] }
	p.tell(order{"do": "remove", "node": gone})
	until(t, 20*time.Second, "the node's end is told", func() bool {
		g.l.mu.Lock()
		defer g.l.mu.Unlock()
		return len(g.l.bad[gone]) > 0
	})
	// A second after that it is looked for another. One found here would be taken up while channels break.
	before := reads()
	until(t, 40*time.Second, "it is looked whether another node stands there", func() bool { return reads() > before })
	g.proven(p, gone)
	p.tell(order{"do": "add", "node": gone})
	if full() { // else it takes a minute until it is looked for
		g.flows(p, gone)
		until(t, 2*time.Minute, "the node is found again", func() bool { return g.l.reached(p.tick() - 20) })
	}
	cert, key := newAuthority(t).server(t, nil)
	p.tell(order{"do": "certificate", "cert": cert, "key": key})
	g.l.says(20*time.Second, "changed. Trusted so far: \"matrix server\", SHA256:")
	g.trusts(cert)
	g.settles(p)
	g.l.mu.Lock()
	if len(g.l.bad) != 1 || len(g.l.bad[gone]) == 0 {
		t.Errorf("bad samples: %+v", g.l.bad)
	}
	g.l.seen[gone] = nil // what it counted while it was away nobody knows
	g.l.mu.Unlock()
	g.l.bridged()
}

// TestMatrix_FiveThousandItems: a server that comes back has its five thousand
// items flowing within ten seconds, and is not browsed for that. Beside all other
// tests it has a fifth of them.
func TestMatrix_FiveThousandItems(t *testing.T) {
	items := 5000
	if !full() {
		t.Parallel()
		items = 1000
	}
	p := serve(t, items, time.Second)
	g := newGateway(t, p, t.Name())
	g.start()
	g.proven(p)
	began := time.Now()
	for _, c := range []struct {
		name string
		do   func()
	}{
		{"after a cut", func() { g.cable.Cut(true); pass(t, 2*time.Second); g.cable.Cut(false) }},
		{"after a restart", func() { p.kill(); p.start() }},
	} {
		c.do()
		began := time.Now()
		to := p.tick() + 1
		until(t, 30*time.Second, "data flows", func() bool { return g.l.reached(to) })
		took := time.Since(began)
		counts := p.tell(order{"do": "counts"}).Counts
		t.Logf("%s: all %d items flow after %s; requests: %v", c.name, items, took.Round(time.Millisecond), counts)
		if took > 10*time.Second {
			t.Errorf("%s: %d items took %s", c.name, items, took)
		}
		if n := counts["BrowseRequest"] + counts["BrowseNextRequest"]; n > 0 {
			t.Errorf("%s: %d requests to browse", c.name, n)
		}
	}
	outage := time.Since(began)
	g.settles(p)
	g.l.oneGap(outage)
}
