package e2e

import "testing"

// The promise to a device is one word, received, and it is given behind the
// commit. These tests let a reader take, seal and offer, never tell it that an
// offer is durable, and ask the device what it was told.

// rounds are more than the publish requests that a reader keeps at a server:
// so many answers later, one request went out after everything was offered.
const rounds = 8

func TestOPCUA_NothingIsAcknowledgedBeforeTheCommit(t *testing.T) {
	p := newPlant(t, false)
	a := &agent{t: t, d: newDiary(t), cfg: p.config(p.server.URL())}
	a.start()
	p.burst(100)
	p.settled(a.d)
	a.life.silence()
	p.burst(1000)
	wait(t, "the reader has offered everything", func() bool { n, _ := a.life.offered(); return n == 1000 })
	for range rounds {
		p.pass(2 * disorder)
		wait(t, "another answer was heard", func() bool { _, c := a.life.offered(); return c == p.clock.Add(-disorder) })
	}
	if n := p.server.Waiting(); n != 1000 {
		t.Errorf("%d samples wait at the server, want 1000: the others were acknowledged without a commit", n)
	}
	p.toldIsDurable(a.d, 100)
	a.kill()
	a.start()
	p.settled(a.d)
	a.kill()
	p.toldIsDurable(a.d, 1100)
	if lost, doubled, foreign := p.compare(a.d); lost+doubled+foreign > 0 {
		t.Errorf("of %d samples %d are lost, %d doubled, %d foreign", len(p.pushed), lost, doubled, foreign)
	}
}

// toldIsDurable demands that the server was told of the n durable samples and
// of no other. A sample's value is its index.
func (p *plantUnderTest) toldIsDurable(d *diary, n int) {
	p.t.Helper()
	durable := d.values()
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(durable) != n || len(p.told) != n {
		p.t.Errorf("%d samples are durable, %d were told received, want %d", len(durable), len(p.told), n)
	}
	for i := range p.told {
		if !durable[i] {
			p.t.Fatalf("the server was told that sample %d is received, and no commit has it", i)
		}
	}
}

// values are the durable samples by value.
func (d *diary) values() map[uint64]bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	out := map[uint64]bool{}
	for _, b := range d.batches {
		for _, s := range b.Samples {
			i, _ := s.Value.Int()
			out[uint64(i)] = true
		}
	}
	return out
}

func TestMQTT_NothingIsAcknowledgedBeforeTheCommit(t *testing.T) {
	p, d := newMQTTPlant(t), newDiary(t)
	l, kill := mqttRun(t, d, p.config(p.server.URL()))
	p.burst(100)
	wait(t, "the first are durable and acknowledged", func() bool { return d.count() == 100 && p.server.Waiting() == 0 })
	l.silence()
	p.burst(200) // fewer than the broker may send without an acknowledgement
	wait(t, "the reader has offered everything", func() bool { n, _ := l.offered(); return n == 200 })
	for range rounds {
		p.clock = p.clock.Add(2 * disorder)
		p.server.Prove(p.clock.Time())
		wait(t, "another heartbeat was heard", func() bool { _, c := l.offered(); return c == p.clock.Add(-disorder) })
	}
	told := func(n int) {
		t.Helper()
		durable := d.values()
		p.mu.Lock()
		defer p.mu.Unlock()
		if len(durable) != n || len(p.told) != n {
			t.Errorf("%d samples are durable, %d were told received, want %d", len(durable), len(p.told), n)
		}
		for i := range p.told {
			if !durable[i] {
				t.Fatalf("the broker was told that sample %d is received, and no commit has it", i)
			}
		}
	}
	if n := p.server.Waiting(); n != 200 {
		t.Errorf("%d samples wait at the broker, want 200: the others were acknowledged without a commit", n)
	}
	told(100)
	kill()
	mqttRun(t, d, p.config(p.server.URL()))
	wait(t, "the rest is acknowledged", func() bool { return p.server.Waiting() == 0 })
	told(300)
}
