package opcua

import (
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"time"

	"plantmesh/edge/source"
	"plantmesh/proto/mesh"
)

// state is what is committed with the records: enough to take up the same
// subscription again after a restart, where the server allows it.
type state struct {
	Subscription uint32            `json:"subscription"` // 0: none
	Incarnation  uint16            `json:"incarnation"`  // high half of every client handle, random: tells our items from others'
	Table        string            `json:"table"`        // hash of what the items were made from
	Created      int               `json:"created"`      // signals whose items were asked for
	Refused      []refused         `json:"refused,omitempty"`
	Nodes        string            `json:"nodes"`             // hash of the nodes that the items were made for
	Again        map[int]uint16    `json:"again,omitempty"`   // how often signals' items were made again
	Pinned       map[uint16]string `json:"pinned,omitempty"`  // what indexes of namespaces meant when they were first used
	Named        string            `json:"named,omitempty"`   // hash of names and addresses that Pinned, Seen and Drifted are of
	Seen         string            `json:"seen,omitempty"`    // packed: types and units as they were last believed
	Revised      string            `json:"revised,omitempty"` // where the server does less than was asked, in words
	Dead         map[int]bool      `json:"dead,omitempty"`    // signals whose node was removed under their item
	Drifted      []int             `json:"drifted,omitempty"` // signals whose values count for nothing
	Polled       mesh.Nanos        `json:"polled,omitempty"`  // the server's clock at the last round of reads
	Unwell       bool              `json:"unwell,omitempty"`  // some values of that were not good
	Fresh        bool              `json:"fresh"`             // nothing is proven on this subscription yet
	Seq          uint32            `json:"seq"`               // of the last message taken; 0: none
	KeepAlive    time.Duration     `json:"keep_alive"`        // between keep-alives, as the server revised it
	Proof        mesh.Nanos        `json:"proof"`
	Holes        []mesh.Span       `json:"holes,omitempty"`
	Heard        mesh.Nanos        `json:"heard,omitempty"`      // since when this subscription is heard, while Fresh
	Asked        int               `json:"asked,omitempty"`      // how often the history before it was asked for
	Events       []eventState      `json:"events,omitempty"`     // of the notifiers that items were made for
	Conditions   conditions        `json:"conditions,omitempty"` // as last seen
	Shapes       []shaped          `json:"shapes,omitempty"`     // what the server said values are made of, at the last connect
	Shallow      marks             `json:"shallow,omitempty"`    // signals of which the server keeps one value
	Bridged      time.Duration     `json:"bridged,omitempty"`    // the outage in which that is no loss: the publishing interval, as the server revised it
	Unweighed    bool              `json:"unweighed,omitempty"`  // the first values behind an outage are still to come, or to be looked at
	Kept         sketch            `json:"kept,omitempty"`       // of which nodes the signals' values are; empty: of a program that didn't know
	Moved        marks             `json:"moved,omitempty"`      // signals whose first value is still to come, and says nothing of before
	Apart        marks             `json:"apart,omitempty"`      // signals that had another node in the gap before, while Fresh
	Found        mesh.Nanos        `json:"found,omitempty"`      // the server's clock when their nodes were found
	Last         mesh.Nanos        `json:"last,omitempty"`       // event time of the latest sample
}

// refused is a signal that the server gives no item for.
type refused struct {
	Signal int         `json:"signal"`
	Status mesh.Status `json:"status"`
}

func decodeState(b []byte) (s state, err error) {
	if b == nil {
		return s, nil
	}
	if err := json.Unmarshal(b, &s); err != nil {
		return state{}, fmt.Errorf("read the source's state: %w", err)
	}
	return s, nil
}

// encode is the state as of everything the sealer has been given.
func (s state) encode(sealer *source.Sealer) ([]byte, error) {
	s.Proof, s.Holes = sealer.Proof(), sealer.Holes()
	b, err := json.Marshal(s)
	if err != nil {
		return nil, fmt.Errorf("write the source's state: %w", err)
	}
	return b, nil
}

// newIncarnation draws a number that no other subscription is likely to use.
func newIncarnation() (uint16, error) {
	var b [2]byte
	if _, err := rand.Read(b[:]); err != nil {
		return 0, fmt.Errorf("draw an incarnation: %w", err)
	}
	return max(1, binary.LittleEndian.Uint16(b[:])), nil
}

// handle is the client handle of signal i, whose item was made again so often.
func (s state) handle(i int, again uint16) uint32 {
	return uint32(s.Incarnation+again)<<16 | uint32(i)
}

// signal is the signal behind a client handle, and how often its item had been
// made again; ok is false for a foreign one.
func (s state) signal(handle uint32) (i int, again uint16, ok bool) {
	again = uint16(handle>>16) - s.Incarnation
	return int(handle & 0xFFFF), again, again <= mostAgain
}
