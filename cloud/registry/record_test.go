package registry

import (
	"errors"
	"testing"
	"time"

	"plantmesh/proto/enroll"
)

func anna() Actor { return Actor{Who: "anna", Via: "cli"} }

var errNoRecord = errors.New("the disk is full")

// Each change is recorded before it takes effect, once; one that can't be is not made.
func TestRegistry_WhatIsNotRecordedIsNotDone(t *testing.T) {
	h := newHall(t)
	var acts []Act
	full := false
	h.Record = func(a Act) error {
		if full {
			return errNoRecord
		}
		acts = append(acts, a)
		return nil
	}
	waits, refused, keyed := newGateway(t, "gw-1"), newGateway(t, "gw-2"), newGateway(t, "gw-3")
	byHand := publicKey(t)
	_, secret, err := h.Invite(Invite{Uses: 2, Created: h.now, Expires: h.now.Add(time.Hour)}, anna())
	if err != nil {
		t.Fatal(err)
	}
	all, err := h.Invites()
	if err != nil {
		t.Fatal(err)
	}
	keyed.q.Key = secret
	h.ask(waits)
	h.ask(refused)
	steps := []struct {
		action, object string
		do             func() error
	}{
		{"agent.approve", "graz/gw-1", func() error {
			_, err := h.Approve(waits.code(), "graz", "", anna(), h.now)
			return err
		}},
		{"agent.refuse", "gw-2", func() error { _, err := h.Refuse(refused.code(), "who?", anna(), h.now); return err }},
		{"agent.enroll", "graz/gw-3", func() error { _, err := h.Ask(h.gate(), keyed.signed(), "192.0.2.1", h.now); return err }},
		{"agent.enroll", "graz/gw-4", func() error {
			_, err := h.Sign("graz", "gw-4", byHand, time.Hour, anna(), h.now)
			return err
		}},
		{"agent.revoke", "graz/gw-4", func() error { _, err := h.Revoke("graz", "gw-4", "", anna(), h.now); return err }},
		{"key.end", all[0].ID, func() error { _, err := h.EndInvite(all[0].ID, "", anna(), h.now); return err }},
	}
	for _, s := range steps {
		acts, full = nil, true
		if err := s.do(); !errors.Is(err, errNoRecord) {
			t.Errorf("%s of %s, not recorded: %v", s.action, s.object, err)
		}
		full = false
		if err := s.do(); err != nil {
			t.Errorf("%s of %s: %v", s.action, s.object, err)
		}
		if len(acts) != 1 || acts[0].Action != s.action || acts[0].Object != s.object {
			t.Errorf("recorded %+v, want %s of %s", acts, s.action, s.object)
		}
		if s.action != "agent.refuse" && s.object != "graz/gw-4" { // another reason, another token by hand
			if err := s.do(); err == nil && len(acts) != 1 {
				t.Errorf("once more, which changes nothing: %+v", acts[1:])
			}
		}
	}
	acts = nil
	if a := h.ask(waits); a.State != enroll.Approved {
		t.Errorf("%+v", a)
	}
	if _, err := h.Renew("graz", "gw-1", time.Hour, h.now); err != nil || len(acts) > 0 {
		t.Errorf("a token that is fetched or renewed is no change: %+v, %v", acts, err)
	}
}
