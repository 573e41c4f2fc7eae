package mesh

// What is handed over at the borders between rooms. Rooms share these words
// and nothing else.

// Offer is what one source hands to its agent's log in one commit: sealed
// records in order, and the state that belongs to them. Both become durable
// together or not at all.
type Offer struct {
	Source      string
	Sealed      [][]byte     // batches and voids
	State       []byte       // replaces the source's state; nil keeps the one before
	Kept        []Kept       // replace what is kept beside the state, each under its name
	Descriptors []Descriptor // what the records name; stored with the first that does
}

// Kept is a part of a source's state that changes seldom, and so is not written
// with each commit: the births of Sparkplug nodes, a block of a table. Name is any
// text of at most MaxKeptName bytes, unique in the source; nil Bytes drop it.
type Kept struct {
	Name  string
	Bytes []byte
}

// MaxKeptName bounds the name of a Kept, in bytes.
const MaxKeptName = 512

// Place is how far a reader has come in a pipe. It names the pipe, because a
// stream that was deleted and made anew counts from 1 again.
type Place struct {
	Stream string // identity of the stream, not only its name
	Seq    uint64
}

// Entry is one record as it lies in a hub's log.
type Entry struct {
	At      Position // in the hub's log; given at commit
	Of      Position // in the log it came from; zero for the hub's own records
	Ord     Ordinal  // of Of, along its chain; 0 for the hub's own records
	Through Ordinal  // contiguous end of that log when this record was accounted for
	Header  Header
	Sealed  []byte
	Verdict *Verdict // the first verdict, where one travelled with it
}

// Take is one transaction of ingest (T1): all of it or nothing.
type Take struct {
	Partition   int
	After       Position // the hub log's end it follows; another end refuses it with ErrMoved
	Entries     []Entry  // At is given by the store, in this order
	Accounts    []*Account
	Descriptors []Descriptor
	Place       Place
}

// Opened is what the writer of a hub's log finds when it opens it: the end it
// has to follow, what is accounted for, and how far it has read.
type Opened struct {
	End      Position // the opening of the new epoch
	Before   []Epoch  // those before it, the newest last, at most MaxBefore
	Accounts map[LogID]*Account
	Place    Place // zero: nothing read yet
}

// RowState says how sure a row is.
type RowState uint8

// States of a row. The numbers are stored: never reorder.
const (
	RowProvisional RowState = 1
	RowFinal       RowState = 2
	RowWithdrawn   RowState = 3
)

// Row is one row of a product, or one revision of it.
type Row struct {
	Product  string
	Entity   string // the equipment, or the source in product coverage
	Key      string // unique in (product, entity), see package product
	From, To Nanos  // To 0: open
	State    RowState
	Revision uint32
	At       Position // in the product's output log; given at commit
	Produced Nanos    // machine clock
	Body     []byte   // the product's own columns: a JSON object with sorted keys
}

// FoldState is a cached state of one definition: what the fold knew before
// the first input at or after At.
type FoldState struct {
	Key   string // the entity, or whatever else the definition keys its states by
	At    Nanos
	Bytes []byte
}

// Stale are cached states of a key that don't hold any more.
type Stale struct {
	Key string
	At  Span
}

// Step is one transaction of a product (T2): all of it or nothing.
type Step struct {
	Product   string
	Partition int
	After     Position // the output log's end it follows; another end refuses it with ErrMoved
	PlaceWas  Position // the place in the hub's log it started from; another refuses it with ErrMoved
	Place     Position
	Rows      []Row       // changed rows; neighbours of one entity become visible together
	Stale     []Stale     // dropped, before States are written
	States    []FoldState // written
	Progress  Nanos       // all entities are known through here
	Watermark Nanos       // and complete through here
}

// RowQuery asks for rows of a product in (entity, from, key) order.
type RowQuery struct {
	Product  string
	Entities []string // empty: all
	Span     Span     // rows that touch it; zero: all
	After    string   // cursor from the answer before; empty: from the start
	Limit    int
	Prefix   string // of Key; empty: all
	// Begins asks for rows that begin in it; zero: wherever they begin.
	Begins Span
	// Open asks for provisional rows alone.
	Open bool
	// Withdrawn asks for withdrawn rows too; without it they are left out.
	Withdrawn bool
}

// Newest is the newest sample of a signal, with what rules found about it.
type Newest struct {
	Signal Signal
	Sample Sample
	Marks  []Mark
	Table  []Signal // that Signal stands in; it is not to be changed
}
