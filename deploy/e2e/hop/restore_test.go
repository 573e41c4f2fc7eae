package hop

import (
	"context"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"plantmesh/proto/mesh"
	"plantmesh/proto/strict"
	"plantmesh/proto/subject"
	"plantmesh/proto/wire"
)

// backup copies what the hub keeps while it runs.
func (h *hop) backup() (folder string) { return backupOf(h.t, h.dir) }

// restore puts a copy in the place of what the hub keeps; it is down.
func (h *hop) restore(folder string) { putBack(h.t, h.dir, folder) }

// TestHop_HubIsRestored: what the hub had and told the agent of, and has no
// more, comes again by itself; under a connected agent the suite shows it, here with
// one that begins anew, with a stream that is gone too, and twice.
func TestHop_HubIsRestored(t *testing.T) {
	for name, more := range map[string]func(h *hop){
		"under one that restarts": func(h *hop) { h.stopAgent(); h.startAgent() },
		"with a new stream":       func(h *hop) { h.stopBroker(); check(h.t, os.RemoveAll(filepath.Join(h.dir, "js"))); h.startBroker() },
		"twice":                   func(h *hop) { h.startHub(); h.settle(); h.stopHub() },
	} {
		t.Run(name, func(t *testing.T) {
			h := newHop(t)
			h.write(50, 10)
			h.settle()
			h.write(20, 5)
			was := h.backup()
			h.write(60, 7)
			h.settle() // the agent was told that all of it is durable
			h.stopHub()
			h.restore(was)
			more(h)
			h.write(10, 3)
			h.startHub()
			h.settle()
			h.compare()
		})
	}
}

// TestHop_RestoredHubIsToldWhatIsKeptNoMore: what an agent deleted because the
// hub had it, and a restored hub has not, is named: source, count, cause.
func TestHop_RestoredHubIsToldWhatIsKeptNoMore(t *testing.T) {
	h := newHop(t)
	h.stopAgent()
	none := strict.Duration(0)
	h.keep = &none
	h.startAgent()
	h.write(50, 10)
	h.settle()
	was, first := h.backup(), h.next
	h.fill(3 << 20)
	h.settle()
	h.awaitDeleted()
	h.awaitPurged() // what the stream still has the restored hub reads again
	h.stopHub()
	h.restore(was)
	h.startHub()
	h.write(10, 3)
	h.settle()
	seen, gone := h.seen()
	lost := int64(0)
	for v := range h.told {
		switch {
		case seen[v] > 1:
			t.Fatalf("value %d came %d times", v, seen[v])
		case seen[v] == 0 && v < first:
			t.Fatalf("value %d is lost, which the backup had", v)
		case seen[v] == 0:
			lost++
		}
	}
	// The catalogue counts by segment: all is named of the one in which the
	// backup's end lies, and what still lay in the stream came all the same.
	if lost == 0 || gone < lost {
		t.Errorf("%d values are missing, and %d are said to be kept no more", lost, gone)
	}
}

// fill appends batches that can't be packed, of so many bytes in all.
func (h *hop) fill(bytes int) {
	h.t.Helper()
	rnd := rand.New(rand.NewPCG(3, 3))
	for bytes > 0 {
		b := mesh.Batch{Source: source, Table: h.table.Hash()}
		for _, i := range rnd.Perm(40_000) {
			v := h.next + int64(i)
			b.Samples = append(b.Samples, mesh.Sample{Signal: 1, Time: mesh.Nanos(v * 1e6), Value: mesh.Int(v)})
		}
		sealed, err := h.enc.Seal(&b)
		check(h.t, err)
		_, err = h.agent.buffer.Append(h.t.Context(), []mesh.Offer{{Source: source, Sealed: [][]byte{sealed}, Descriptors: []mesh.Descriptor{h.table}}})
		check(h.t, err)
		bytes -= len(sealed)
		h.next += 40_000
		h.told = h.next
	}
}

// awaitDeleted waits until the agent has deleted what it kept first.
func (h *hop) awaitDeleted() {
	h.t.Helper()
	late := time.After(30 * time.Second)
	look := time.NewTicker(10 * time.Millisecond)
	defer look.Stop()
	for {
		part, err := h.agent.buffer.Peek(mesh.Position{}, 1)
		check(h.t, err)
		if len(part) > 0 && part[0].At.Seq > 60 {
			return
		}
		select {
		case <-look.C:
		case <-late:
			h.t.Fatalf("the agent keeps all from %v on", part)
		}
	}
}

// awaitPurged waits until the stream holds nothing but the last of each subject.
func (h *hop) awaitPurged() {
	h.t.Helper()
	js, err := jetstream.New(h.hub.nc)
	check(h.t, err)
	ctx, cancel := context.WithTimeout(h.t.Context(), 30*time.Second)
	defer cancel()
	look := time.NewTicker(10 * time.Millisecond)
	defer look.Stop()
	for {
		s, err := js.Stream(ctx, subject.IngestStream)
		check(h.t, err)
		info, err := s.Info(ctx, jetstream.WithSubjectFilter(subject.IngestAll))
		check(h.t, err)
		waiting := false
		for _, n := range info.State.Subjects {
			waiting = waiting || n > 1
		}
		if !waiting {
			return
		}
		select {
		case <-look.C:
		case <-ctx.Done():
			h.t.Fatalf("the stream keeps %v", info.State.Subjects)
		}
	}
}

// seen counts every value in the hub's log, and what voids say is kept no more.
func (h *hop) seen() (values map[int64]int, gone int64) {
	h.t.Helper()
	dec, err := wire.NewDecoder()
	check(h.t, err)
	values = map[int64]int{}
	for after := (mesh.Position{}); ; {
		part, err := h.hub.store.Peek(h.t.Context(), 0, after, 500)
		check(h.t, err)
		if len(part) == 0 {
			return values, gone
		}
		for _, e := range part {
			switch e.Header.Kind {
			case mesh.KindBatch:
				b, err := dec.Batch(e.Sealed)
				check(h.t, err)
				for _, s := range b.Samples {
					v, _ := s.Value.Int()
					values[v]++
				}
			case mesh.KindVoid:
				v, err := wire.OpenVoid(e.Sealed)
				check(h.t, err)
				for _, p := range v.Parts {
					if v.Cause == mesh.CauseNotKept && p.Source == source {
						gone += int64(p.Count)
					}
				}
			case mesh.KindOpening, mesh.KindVerdict, mesh.KindFact:
			}
		}
		after = part[len(part)-1].At
	}
}
