// Package product makes rows out of samples. It is pure: what comes out is a
// function of the definition, the site, the samples and what is known of their
// source, whatever the order and the cuts they arrived in. Live rows, replay
// and backfill are this same code, so any two roads agree to the bit.
//
//	samples ──► Fold ──► intervals ──────────────► equipment-state
//	  known ──►  │  └──► cells (cut at every ────► production-rate, oee
//	             ▼        hour, shift and day)
//	           State at each edge of a cell: late input folds again from there
//
// What is known is arithmetic too: see Known. Rows say nothing before the first
// known instant and nothing after the last; what lies between and is not known
// is a gap, a row of product coverage.
//
// Next: cloud/port
package product

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"strings"
	"time"

	"plantmesh/proto/mesh"
)

// Role is what a signal means to the fold.
type Role uint8

// Roles. The numbers are kept nowhere; the order is that of the signal names
// "<line>.<machine>.<role>", because samples of one instant fold in that order.
const (
	RoleOther Role = iota // kept for product signals only
	RoleEnergy
	RoleMode
	RoleOrder
	RoleProduced
	RoleProduct
	RoleScrap
	RoleState
	RoleStopReason
)

// roleNames are the words of the site file.
func roleNames() map[string]Role {
	return map[string]Role{
		"energy": RoleEnergy, "mode": RoleMode, "order": RoleOrder, "produced": RoleProduced,
		"product": RoleProduct, "scrap": RoleScrap, "state": RoleState, "stop_reason": RoleStopReason,
	}
}

// Event is one sample as the fold sees it: small, and free of its batch.
type Event struct {
	Time   mesh.Nanos
	Seq    uint64
	Bits   uint64
	Text   string
	Status mesh.Status
	Role   Role
	Type   mesh.Type
}

// EventOf is the event of a sample whose signal has this role.
func EventOf(role Role, s *mesh.Sample) Event {
	e := Event{Time: s.Time, Seq: s.Seq, Bits: s.Value.Bits, Status: s.Status, Role: role, Type: s.Value.Type}
	if len(s.Value.Bytes) > 0 {
		e.Text = wordOf(strings.ToValidUTF8(string(s.Value.Bytes), "�"))
	}
	return e
}

// wordOf is a text as registers hold it: one that is longer than any name of an
// order or product is cut, and ends with a sum over all of it, so that two stay two.
func wordOf(s string) string {
	if len(s) <= maxWord {
		return s
	}
	sum := sha256.Sum256([]byte(s))
	tail := "…" + hex.EncodeToString(sum[:8])
	return strings.ToValidUTF8(s[:maxWord-len(tail)], "") + tail
}

// Compare is the order of folding: (event time, signal name, device sequence,
// status, value). Events that compare equal are one sample.
func (e Event) Compare(o Event) int {
	if c := cmp.Compare(e.Time, o.Time); c != 0 {
		return c
	}
	return cmp.Or(cmp.Compare(e.Role, o.Role), cmp.Compare(e.Seq, o.Seq), cmp.Compare(e.Status, o.Status),
		cmp.Compare(e.Type, o.Type), cmp.Compare(e.Bits, o.Bits), cmp.Compare(e.Text, o.Text))
}

func (e Event) value() mesh.Value { return mesh.Value{Type: e.Type, Bits: e.Bits} }

// Draft is a row before the runner has given it a revision.
type Draft struct {
	Key      string
	From, To mesh.Nanos // To 0: open
	Body     []byte     // a JSON object with sorted keys
	// Shape is what of an open row is news: while it stays the same, only
	// numbers have grown.
	Shape string
}

// TimeText is the instant as rows and their keys write it: RFC 3339, UTC, with
// milliseconds, and finer where it is no whole one. Two rows may begin within one.
func TimeText(t mesh.Nanos) string { return string(appendTime(nil, t)) }

func appendTime(b []byte, t mesh.Nanos) []byte {
	if t%mesh.Nanos(time.Millisecond) != 0 {
		return t.Time().AppendFormat(b, time.RFC3339Nano)
	}
	return t.Time().AppendFormat(b, "2006-01-02T15:04:05.000Z")
}
