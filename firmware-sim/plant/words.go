package plant

import "time"

// Type is the type of a value a device gives.
type Type uint8

// Value types of a device.
const (
	None Type = iota // a Bad status carries no value
	Bool
	Int
	Double
	String
)

// Value is one value of a device.
type Value struct {
	Type Type
	B    bool
	I    int64
	F    float64
	S    string
}

// Status codes a device gives (OPC 10000-6 A.2).
const (
	Good      uint32 = 0
	BadNoData uint32 = 0x809B0000
)

// Emission is one sample leaving a device: what happened at Time is emitted at
// Emitted, at most Disorder later. Index counts the emissions of one source
// from 1. All times are whole milliseconds UTC.
type Emission struct {
	Source  string
	Index   uint64
	Signal  string // "<line>.<machine>.<role>"
	Time    time.Time
	Emitted time.Time
	Status  uint32
	Value   Value
}

// Disorder is the longest a sample may be late.
const Disorder = 5 * time.Second

// Feed gives emissions in order of Emitted. Not safe for concurrent use.
type Feed interface {
	// Until advances the devices to plant instant t and returns what they
	// emitted after the call before and up to and with t.
	Until(t time.Time) []Emission
	// Signals lists every signal with its source, in a fixed order.
	Signals() []Signal
}

// Signal is one signal a device offers.
type Signal struct {
	Source string
	Name   string // "<line>.<machine>.<role>"
	Type   Type
	Unit   string // UNECE Rec 20 common code, or empty
}

// Server offers the emissions of one source over a protocol. Safe for
// concurrent use.
type Server interface {
	// Push queues an emission for whoever listens; it never blocks.
	Push(e Emission)
	// Prove says that everything emitted up to t has been pushed: the server's
	// own clock now shows t.
	Prove(t time.Time)
	// Waiting is the number of emissions pushed and not yet acknowledged by
	// the listener. Before any listener came it counts all of them.
	Waiting() int
	// Close stops serving.
	Close() error
}

// Received is called by a Server when its listener acknowledged emissions:
// from then on the promise holds for them. Calls come from the server's own
// goroutines.
type Received func(source string, indexes []uint64)
