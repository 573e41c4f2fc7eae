package torture

import (
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"plantmesh/proto/subject"
)

// h07 purges what is stored, restarts the hub, and says all of it again, twice,
// in the wrong order: neither stream nor hub remembers the messages, the set
// does.
func h07(x *trial) {
	r := x.rig(options{receipts: "receipt_every: 1s, purge_every: 1h"})
	r.flow()
	pause(time.Second)
	nc, js := r.operator()
	old := r.messages(js)
	ctx, cancel := r.call()
	s, err := js.Stream(ctx, subject.IngestStream)
	if err == nil {
		err = s.Purge(ctx)
	}
	cancel()
	nc.Close()
	if err != nil {
		x.Fatal(err)
	}
	if len(old) < 5 {
		x.Errorf("only %d messages to say again: nothing was tested", len(old))
	}
	r.hub.stop()
	began := time.Now()
	r.hub.start()
	r.ready()
	nc, js = r.operator()
	defer nc.Close()
	slices.Reverse(old)
	for range 2 {
		for _, m := range old {
			ctx, cancel := r.call()
			if _, err := js.PublishMsg(ctx, &nats.Msg{Subject: m.Subject(), Data: m.Data()}); err != nil {
				x.Error(err)
			}
			cancel()
		}
	}
	r.await("samples of now are in the products", settleWithin, func() bool { return r.known().After(began) })
	x.healed(time.Since(began))
	x.note("%d messages said again", 2*len(old))
	r.settle()
}

// messages are those in the ingest stream now.
func (r *rig) messages(js jetstream.JetStream) (out []jetstream.Msg) {
	r.Helper()
	ctx, cancel := r.call()
	defer cancel()
	c, err := js.CreateConsumer(ctx, subject.IngestStream, jetstream.ConsumerConfig{AckPolicy: jetstream.AckNonePolicy, MemoryStorage: true})
	if err != nil {
		r.Fatal(err)
	}
	for {
		b, err := c.FetchNoWait(256)
		if err != nil {
			r.Fatal(err)
		}
		n := 0
		for m := range b.Messages() {
			out = append(out, m)
			n++
		}
		if n > 0 {
			continue
		}
		// The library calls it none, too, where no answer came within a second.
		is, err := c.Info(ctx)
		if err != nil {
			r.Fatal(err)
		}
		if is.NumPending == 0 {
			return out
		}
	}
}

// h10 has somebody hold the hub's database while another agent fills the
// stream: the stream refuses, the agent keeps, nothing is thrown away.
func h10(x *trial) {
	r := x.rig(options{nats: "max_store: 64MiB"})
	r.flow()
	unlock := lockDatabase(x, filepath.Join(r.hubData, "hub.db-shm"))
	nc, js := r.operator()
	defer nc.Close()
	for _, size := range []int{1 << 20, 64 << 10, 4 << 10, 256} { // to the brim
		r.fill(js, make([]byte, size))
	}
	r.await("the agent says that the hub takes nothing", 30*time.Second, func() bool {
		s, ok := r.status()
		return ok && strings.Contains(s.Hub.LastError, "the hub's stream is full")
	})
	r.await("the hub says that it can't store", 20*time.Second, func() bool { return strings.Contains(r.hub.said(), "ingest interrupted") })
	unlock()
	r.mended(x)
	r.settle()
}

// fill has another agent publish until the stream refuses.
func (r *rig) fill(js jetstream.JetStream, junk []byte) {
	r.Helper()
	for range 400 {
		ctx, cancel := r.call()
		_, err := js.PublishMsg(ctx, &nats.Msg{Subject: subject.Ingest(site, "gw-2", subject.Live), Data: junk}, jetstream.WithRetryAttempts(0))
		cancel()
		if refused, ok := errors.AsType[*jetstream.APIError](err); ok && refused.ErrorCode == 10077 {
			return
		}
		if err != nil {
			r.Fatal(err)
		}
	}
	r.Fatalf("the stream took 400 messages of %d bytes", len(junk))
}
