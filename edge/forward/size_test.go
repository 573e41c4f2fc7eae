package forward

import (
	"errors"
	"strings"
	"testing"

	"plantmesh/proto/wire"
)

func TestForward_LargePassesInPieces(t *testing.T) {
	r := newRig(t)
	r.connect()
	r.hub.most = wire.MaxFrame
	r.log.named(20_000, 55, 1)
	r.settle(3)
	for _, m := range r.s.messages {
		if len(m.data) > wire.MaxFrame {
			t.Errorf("a message of %d bytes", len(m.data))
		}
	}
	// A table that fits and a record that fits, but not both in one message.
	r.hub.most = 2 << 20
	r.settle(3)
	sent := len(r.s.messages)
	r.log.named(20_000, 90, 40_000)
	r.log.batches(3)
	r.settle(5)
	for _, m := range r.s.messages[sent:] {
		if len(m.data) > 2<<20 {
			t.Errorf("a message of %d bytes, the hub takes %d", len(m.data), 2<<20)
		}
	}
	if n := len(r.s.messages) - sent; n < 3 {
		t.Errorf("%d messages: table and record went in one", n)
	}
	if r.hub.voided > 0 || r.f.Status().SetAside > 0 {
		t.Errorf("%d voids, status %+v", r.hub.voided, r.f.Status())
	}
}

func TestForward_WhatCanNeverPassIsSetAside(t *testing.T) {
	for name, limit := range map[string]func(*rig){
		"the hub says so":  func(r *rig) { r.hub.most = 1 << 20 },
		"the link says so": func(r *rig) { r.s.most = 1 << 20 },
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			limit(r)
			r.log.batches(3)
			large := r.log.named(20_000, 60, 1) // 1.2 MB of names
			r.log.batches(30)
			r.connect()
			r.settle(30)
			st := r.f.Status()
			if r.hub.voided != 1 || r.hub.got[large] != 0 || st.SetAside != 1 || !strings.Contains(st.LastError, "1048576") {
				t.Errorf("voided %d, came %d times, status %+v", r.hub.voided, r.hub.got[large], st)
			}
			r.f.Disconnected() // the table is named by nothing now, and must not be in the way of the openings
			r.connect()
			r.log.batches(3)
			r.settle(3)
		})
	}
}

// A hub that takes less than every NATS server does is set up wrong: what it
// refuses waits.
func TestForward_NothingSmallIsSetAside(t *testing.T) {
	r := newRig(t)
	r.s.most = 50 << 10
	r.connect()
	r.log.named(2_000, 50, 1)
	for range 5 {
		check(t, ignoreSize(r.steps()))
		r.now = r.now.Add(maxHold)
	}
	if st := r.f.Status(); st.SetAside > 0 || !strings.Contains(st.LastError, "the hub takes 51200") {
		t.Errorf("status %+v", st)
	}
	r.s.most = 0
	r.settle(30)
}

func ignoreSize(err error) error {
	if _, ok := errors.AsType[*SizeError](err); ok {
		return nil
	}
	return err
}
