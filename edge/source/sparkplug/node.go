package sparkplug

import (
	"time"

	"plantmesh/edge/source/sparkplug/payload"
	"plantmesh/proto/mesh"
)

// phase is what is known of a node.
type phase uint8

const (
	unborn   phase = iota // no birth was seen: what its metrics are called is not known
	live                  // heard without a break since its birth
	doubtful              // was live when our connection broke, and has not been heard since
	strange               // may have been born anew while we did not listen: its aliases mean nothing
	dead                  // by its NDEATH
)

// paced is over how many messages a node's pace is taken: as many as sequence numbers.
const paced = 256

// node is one edge node.
type node struct {
	group, name string
	keeps       bool   // it keeps what we do not hear, see Config.StoreAndForward
	number      uint64 // its name in the state; 0: it never was born
	phase       phase

	bd      uint64 // bdSeq of its birth
	hasBd   bool
	birth   mesh.Nanos // time of its birth
	bornAt  time.Time  // machine time when that came
	mourned bool       // see host.mourn

	seq    byte       // of the last message in sequence
	hash   uint64     // of its payload
	last   mesh.Nanos // newest payload time in sequence that is not suspect; 0: none
	newest mesh.Nanos // of all samples that are current and not suspect
	lost   [4]uint64  // sequence numbers that were given up, one bit each
	held   []held     // came before one that is missing
	since  time.Time  // machine time since which one is missing
	queue  []held     // wait for a birth
	tail   tail       // of the last one that was put there
	ripe   time.Time  // machine time from which queue is of the birth that is known; zero: it is

	owed debt

	own     *unit
	devices map[string]*unit
	aliases map[uint64]*metric // a nil metric: two have it, so it names none

	arrivals [paced]mesh.Nanos // plant times at which data came, as a ring
	arrived  uint64            // how many
	pace     time.Duration     // how long 256 messages took in a run before; 0: not known
	away     mesh.Nanos        // since when it may have been missed, of doubtful

	ask ask
}

// unit is a node's own metrics, or those of one of its devices.
type unit struct {
	device  string // empty: of the node
	born    bool   // its names are known
	dead    bool   // by its DDEATH, or it was not born again
	waiting time.Time
	birth   mesh.Nanos // time of the NBIRTH after which its DBIRTH has to come
	metrics map[string]*metric
	kept    uint64 // hash of what is kept of it; 0: nothing

	metricsAll, names int  // metrics, those in templates with them, and the bytes of their names, see budget
	partial           bool // there was no room for all of them
}

// metric is what a birth says of one metric.
type metric struct {
	name    string // in its unit, or in its template
	alias   uint64
	aliased bool
	of      payload.Type
	sig     *signal            // nil: no signal, because quiet or why
	quiet   bool               // is meant to be none
	why     error              // it can be none
	members map[string]*metric // of a template
	columns []string           // of a data set
	types   []payload.Type
	unit    *unit
}

// held is a message that waits.
type held struct {
	topic   topic
	payload []byte
	at      moment
	time    mesh.Nanos // of its payload
	seq     byte
	conn    uint64 // of ours, on which it came
	metrics int
	gap     mesh.Nanos // time of the message after which others were missed, before this one; 0: none were
	nth     uint64     // of all messages of this run
}

// debt is what was not heard of a node that keeps it: until it has said that, no more
// is proven of it.
type debt struct {
	from, to mesh.Nanos // of what was missed; from 0: nothing
	missing  int
	why      string
	since    time.Time // machine time; zero: of a run before
	born     bool      // the node was born since: it says what it kept
}

// tail is the last message that was put behind others to wait.
type tail struct {
	seq    byte
	conn   uint64 // the connection it came on
	time   mesh.Nanos
	broken bool // messages were missed behind it
}

func (n *node) id() string { return n.group + "/" + n.name }

// unit is the unit of a device, or of the node; nil where it never was born.
func (n *node) unit(device string) *unit {
	if device == "" {
		return n.own
	}
	return n.devices[device]
}

// hear notes that data came in sequence, for the pace.
func (n *node) hear(now mesh.Nanos) {
	n.arrivals[n.arrived%paced] = now
	n.arrived++
}

// span is how long 256 messages of this node take; 0: not known. What was learned in
// the run before counts until as much was heard in this one.
func (n *node) span() time.Duration {
	have := min(n.arrived, paced)
	if have < 2 {
		return n.pace
	}
	newest, oldest := n.arrivals[(n.arrived-1)%paced], n.arrivals[(n.arrived-have)%paced]
	measured := time.Duration(float64(newest.Sub(oldest)) * paced / float64(have-1))
	if have < paced && n.pace > 0 {
		return min(measured, n.pace)
	}
	return measured
}

// skip takes a break out of the pace.
func (n *node) skip(d time.Duration) {
	for i := range n.arrivals {
		n.arrivals[i] = n.arrivals[i].Add(d)
	}
}

// lose notes sequence numbers that are given up; took says that one came after all.
func (n *node) lose(seq byte) { n.lost[seq>>6] |= 1 << (seq & 63) }

func (n *node) took(seq byte) (was bool) {
	was = n.lost[seq>>6]>>(seq&63)&1 != 0
	n.lost[seq>>6] &^= 1 << (seq & 63)
	return was
}

// advance goes on to a sequence number. What was given up half a round ago does not
// come any more.
func (n *node) advance(seq byte) {
	n.seq = seq
	n.took(seq)
	n.took(seq + paced/2)
}

// units are all units with a birth, the node's own first, the devices in no order.
func (n *node) units(yield func(*unit) bool) {
	if n.own != nil && !yield(n.own) {
		return
	}
	for _, u := range n.devices {
		if !yield(u) {
			return
		}
	}
}
