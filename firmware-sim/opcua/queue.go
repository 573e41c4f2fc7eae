package opcua

import (
	"cmp"
	"slices"

	"github.com/gopcua/opcua/ua"

	"plantmesh/firmware-sim/plant"
)

const (
	// maxHistory bounds the values a node keeps for HistoryRead.
	maxHistory = 10_000
	// maxStore bounds what the device keeps before anybody listened; the
	// plant's pump waits long before.
	maxStore = 1_000_000
)

// held is one emission on its way to a listener.
type held struct {
	node        *node
	index       uint64 // of the source's emissions: push order
	at, emitted int64  // nanoseconds UTC
	status      uint32
	value       plant.Value
	fixed       *ua.DataValue // of a node that is no signal: then it is told, and node is nil
	holders     int           // queues, sent messages and the store that have it
	told        bool          // the listener acknowledged it
}

// node is one signal.
type node struct {
	signal  plant.Signal
	newest  *held // by event time; what Read gives
	history fifo[*held]
	items   []*item
	lost    bool // the store ran over: the next value says so
}

// remember keeps h as current value and in the history. A late sample never
// replaces a newer one.
func (n *node) remember(h *held, history bool) {
	if n.newest == nil || h.at >= n.newest.at {
		n.newest = h
	}
	if !history {
		return
	}
	n.history.push(h)
	if n.history.len() > maxHistory {
		n.history.pop()
	}
}

// note is one value waiting in a subscription.
type note struct {
	held    *held
	item    *item
	over    bool // values before this one were lost
	stored  bool // handed over from the store: not counted against the queue size
	dropped bool
}

// item is one monitored item.
type item struct {
	id, handle uint32
	sub        *subscription
	node       *node // nil: a node that is no signal
	nid        *ua.NodeID
	fixed      *ua.DataValue // value of a node that is no signal
	size       int           // most values waiting
	oldest     bool          // discard the oldest, else the newest
	server     bool          // the client wants server timestamps
	off        bool          // monitoring disabled
	queue      fifo[*note]
}

func (s *Server) hold(h *held) {
	if h.holders == 0 && !h.told {
		s.waiting++
	}
	h.holders++
}

func (s *Server) release(h *held) {
	h.holders--
	if h.holders == 0 && !h.told {
		s.waiting--
	}
}

// keep puts h into the device's store.
func (s *Server) keep(h *held) {
	s.hold(h)
	s.store.push(h)
	if s.store.len() > maxStore {
		first := s.store.pop()
		first.node.lost = true
		s.release(first)
	}
}

// enqueue puts h at the end of an item's queue. A full queue loses one value
// and says so on the one beside it (OPC 10000-4 §5.13.1.5); a queue of one is
// meant to, and doesn't.
func (s *Server) enqueue(it *item, h *held) {
	if it.off {
		return
	}
	n := &note{held: h, item: it}
	if it.queue.len() >= it.size {
		if !it.oldest || it.size == 1 {
			last := *it.queue.last()
			s.release(last.held)
			s.hold(h)
			last.held, last.over = h, it.size > 1
			return
		}
		first := it.queue.pop()
		s.drop(first)
		(*it.queue.first()).over = true
	}
	s.hold(h)
	it.queue.push(n)
	it.sub.add(n)
	if it.sub.live == it.sub.most && it.sub.enabled {
		it.sub.due = true
		s.wake()
	}
}

// drop takes a waiting note out of its subscription.
func (s *Server) drop(n *note) {
	if n.dropped {
		return
	}
	n.dropped = true
	n.item.sub.live--
	s.release(n.held)
}

// handOver gives new items what the store kept for their nodes, in push order,
// and true for the nodes that had something.
func (s *Server) handOver(items []*item) map[*node]bool {
	takers := map[*node][]*item{}
	for _, it := range items {
		if it.node != nil {
			takers[it.node] = append(takers[it.node], it)
		}
	}
	had := map[*node]bool{}
	var rest fifo[*held]
	for s.store.len() > 0 {
		h := s.store.pop()
		if takers[h.node] == nil {
			rest.push(h)
			continue
		}
		for _, it := range takers[h.node] {
			s.hold(h)
			it.sub.add(&note{held: h, item: it, stored: true, over: h.node.lost})
		}
		had[h.node], h.node.lost = true, false
		s.release(h)
	}
	s.store = rest
	return had
}

// putBack returns to the store what a subscription held when it died before
// its listener acknowledged anything.
func (s *Server) putBack(lost []*held) {
	for s.store.len() > 0 {
		lost = append(lost, s.store.pop())
	}
	slices.SortStableFunc(lost, func(a, b *held) int { return cmp.Compare(a.index, b.index) })
	for i, h := range lost {
		if i > 0 && lost[i-1] == h {
			s.release(h) // two subscriptions held it
			continue
		}
		s.store.push(h)
	}
}

// shutStore forgets what nobody monitors: from now on a listener decides.
func (s *Server) shutStore() {
	s.storeShut = true
	for s.store.len() > 0 {
		s.release(s.store.pop())
	}
}

// fifo is a queue on a slice. The zero value is empty.
type fifo[T any] struct {
	all  []T
	head int
}

func (f *fifo[T]) len() int  { return len(f.all) - f.head }
func (f *fifo[T]) first() *T { return &f.all[f.head] }
func (f *fifo[T]) last() *T  { return &f.all[len(f.all)-1] }
func (f *fifo[T]) push(v T)  { f.all = append(f.all, v) }
func (f *fifo[T]) rest() []T { return f.all[f.head:] }
func (f *fifo[T]) pop() (v T) {
	var zero T
	v, f.all[f.head] = f.all[f.head], zero
	f.head++
	if f.head > 64 && f.head*2 > len(f.all) {
		n := copy(f.all, f.all[f.head:])
		clear(f.all[n:])
		f.all, f.head = f.all[:n], 0
	}
	return v
}
