package hub

import (
	"errors"
	"maps"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"plantmesh/cloud/access"
	"plantmesh/cloud/registry"
	"plantmesh/proto/subject"
)

// A reader that is rewound has the same rows again, by the same ids, and goes on from there;
// one that reads meanwhile loses its connection and needs no new credentials, nor another
// look at the consumer. Another reader stays where it is.
func TestReaders_Rewind(t *testing.T) {
	h, port := read(t)
	oeeRows(t, h.store, 20, 1)
	drained(t, port)
	file, other := added(t, h, "mes"), added(t, h, "wms")
	nc, err := called(h, file, nats.ReconnectWait(time.Second), nats.ReconnectJitter(0, 0), nats.MaxReconnects(-1))
	check(t, err)
	defer nc.Close()
	js, err := jetstream.NewWithDomain(nc, "production")
	check(t, err)
	c, err := js.Consumer(t.Context(), subject.ProductStream, "mes")
	check(t, err)
	var mu sync.Mutex
	got, faults := map[string]int{}, []error{}
	reading, err := c.Consume(func(m jetstream.Msg) {
		mu.Lock()
		defer mu.Unlock()
		got[m.Headers().Get(jetstream.MsgIDHeader)]++
		_ = m.Ack() // one of before the rewinding is of no account
	}, jetstream.ConsumeErrHandler(func(_ jetstream.ConsumeContext, err error) {
		mu.Lock()
		defer mu.Unlock()
		faults = append(faults, err)
	}))
	check(t, err)
	defer reading.Stop()
	each := func(ids, times int) bool {
		mu.Lock()
		defer mu.Unlock()
		n := 0
		for _, k := range got {
			if k == times {
				n++
			}
		}
		return n == ids && len(got) == ids
	}
	until(t, 10*time.Second, "20 rows are read", func() bool { return each(20, 1) })
	wms, err := called(h, other)
	check(t, err)
	defer wms.Close()
	if n := len(next(t, wms, "wms")); n != 20 {
		t.Errorf("another reader has %d rows", n)
	}
	between := time.Now()
	_, err = RewindReader(h.cfg, "mes", nil, "they lost theirs", time.Now())
	check(t, err)
	until(t, 20*time.Second, "the same 20 rows are read again", func() bool { return each(20, 2) })
	mu.Lock()
	for _, err := range faults {
		if errors.Is(err, jetstream.ErrConsumerDeleted) {
			t.Errorf("who reads was told: %v", err)
		}
	}
	clear(got)
	mu.Unlock()
	// From a time on: what was published before stays read.
	oeeRows(t, h.store, 5, 2)
	drained(t, port)
	until(t, 10*time.Second, "5 rows come", func() bool { return each(5, 1) })
	mu.Lock()
	later := maps.Clone(got)
	mu.Unlock()
	_, err = RewindReader(h.cfg, "mes", &between, "", time.Now())
	check(t, err)
	until(t, 20*time.Second, "the 5 rows are read again", func() bool { return each(5, 2) })
	mu.Lock()
	for id := range later {
		if got[id] != 2 {
			t.Errorf("row %s came %d times", id, got[id])
		}
	}
	mu.Unlock()
	if n := len(next(t, wms, "wms")); n != 5 {
		t.Errorf("another reader has %d rows more, want 5", n)
	}
	if a := acts(t, h.cfg, "reader.rewind"); len(a) != 2 || a[1].Object != "mes" || a[1].After != "all rows" || a[1].Reason != "they lost theirs" {
		t.Errorf("the trail has %+v", a)
	}
	tomorrow := time.Now().Add(24 * time.Hour)
	if _, err := RewindReader(h.cfg, "mes", &tomorrow, "", time.Now()); !errors.Is(err, access.ErrRefused) {
		t.Errorf("to what is still to come: %v", err)
	}
	if _, err := RewindReader(h.cfg, "nobody", nil, "", time.Now()); !errors.Is(err, registry.ErrNoReader) {
		t.Errorf("nobody: %v", err)
	}
}

// A hub that ends when the consumer is deleted and not yet made again makes it when it
// begins; one that looks again and again rewinds nobody twice, nor does one that begins.
func TestReaders_RewindGoesOnBehindAKill(t *testing.T) {
	h := begun(t)
	port, err := h.stream(t.Context())
	check(t, err)
	oeeRows(t, h.store, 10, 1)
	drained(t, port)
	js, err := jetstream.New(h.domain)
	check(t, err)
	began := func() *readership { return &readership{hub: h, js: js, inForce: map[string]registry.Reader{}} }
	_, credentials, err := AddReader(h.cfg, "mes", nil, time.Hour, "", time.Now())
	check(t, err)
	r := began()
	check(t, r.look(t.Context(), time.Now()))
	nc, err := called(h, inForce(t, h, "mes", credentials), nats.MaxReconnects(-1), nats.ReconnectWait(10*time.Millisecond))
	check(t, err)
	defer nc.Close()
	want := next(t, nc, "mes")
	for i, from := range []*time.Time{nil, {}} {
		if from != nil {
			*from = time.Now().Add(-time.Hour)
		}
		_, err = RewindReader(h.cfg, "mes", from, "", time.Now())
		check(t, err)
		check(t, r.forget(t.Context(), "mes")) // and here it is killed
		r = began()
		check(t, r.look(t.Context(), time.Now()))
		if got := next(t, nc, "mes"); !maps.Equal(got, want) {
			t.Errorf("%d: behind the kill it has %v, want %v", i, got, want)
		}
		for again := range 2 {
			check(t, r.look(t.Context(), time.Now().Add(time.Duration(again+1)*2*readersAgain)))
		}
		r = began()
		check(t, r.look(t.Context(), time.Now()))
		if got := next(t, nc, "mes"); len(got) != 0 {
			t.Errorf("%s: it is rewound once more: %v", strconv.Itoa(i), got)
		}
	}
}
