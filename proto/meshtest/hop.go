package meshtest

import (
	"context"
	"slices"
	"time"

	"plantmesh/proto/mesh"
)

// Hop is one hop of the hand-over, over its real rooms: a writer with a log, a
// reader with another, and what lies between.
//
// The suite calls it from one goroutine. What runs meanwhile is the hop's own
// affair: writer, reader and what lies between go on by themselves, as they do in
// production, and the hop ends them when its test ends. Nothing it returns is
// used after the next call.
type Hop interface {
	// Write gives the writer the inputs first to first+n-1 of Source, each from its
	// own time At. When it returns they are durable in the writer's log: what does
	// not survive from then on is lost.
	Write(ctx context.Context, first, n int) error
	// Inflict does a fault once, or has it strike what is written next. Where the
	// hop has no place for it, why says the reason and nothing was done.
	Inflict(ctx context.Context, f Fault) (why string, err error)
	// Settle heals what is broken and waits until the reader has accounted for all
	// there is, durably. A fault that struck nothing is an error: nothing was tested.
	Settle(ctx context.Context) error
	// Read tells the ledger what the reader holds, durable copies only: Get for each
	// input, once for each time it is there, and Disorder for each that stands in
	// another order or was made into something else. missing judges what is not
	// there; nil: nothing excuses it.
	Read(ctx context.Context, l *Ledger) (missing Missing, err error)
}

// Source says all inputs of a hop.
const Source = "line1"

// Apart is the plant time between two inputs: some hundred of them are hours.
const Apart = 20 * time.Second

// At is the time of an input. The first is at 04:00:20Z of a Monday.
func At(n int) mesh.Nanos {
	return mesh.NanosOf(time.Date(2026, 3, 2, 4, 0, 0, 0, time.UTC)).Add(time.Duration(n) * Apart)
}

// Number is the input of a time; ok is false where none has it.
func Number(at mesh.Nanos) (n int, ok bool) {
	d := at.Sub(At(0))
	return int(d / Apart), d%Apart == 0 && d > 0
}

// Fault is something that goes wrong at a hop.
type Fault string

// The faults.
const (
	// What lies between loses, doubles, turns round or holds back what is handed on.
	MessageLost      Fault = "a message is lost"
	MessageDoubled   Fault = "a message comes twice"
	MessageReordered Fault = "messages overtake each other"
	MessageLate      Fault = "a message comes when everything is over"
	AnswerLost       Fault = "answers are lost"
	BetweenDeleted   Fault = "what lies between is deleted"
	// A process ends where it stands: nothing is closed, nothing more is written.
	WriterKilled Fault = "the writer is killed"
	ReaderKilled Fault = "the reader is killed"
	BothKilled   Fault = "both are killed"
	// An older copy takes the place of what a side keeps.
	WriterPutBack Fault = "the writer is put back to an older copy"
	ReaderPutBack Fault = "the reader is put back to an older copy"
	// Another takes over; the one before was only paused, comes back and writes.
	SecondWriter Fault = "a second writer, and the first comes back"
	SecondReader Fault = "a second reader, and the first comes back"
	// The reader's commit fails: nothing happened, or all of it did.
	CommitRefused Fault = "a commit fails"
	CommitUnsure  Fault = "a commit fails and happened"
)

// Faults are all of them, in the order in which each is tried alone.
func Faults() []Fault {
	return []Fault{
		MessageLost, MessageDoubled, MessageReordered, MessageLate, AnswerLost, BetweenDeleted,
		WriterKilled, ReaderKilled, BothKilled, WriterPutBack, ReaderPutBack, SecondWriter, SecondReader,
		CommitRefused, CommitUnsure,
	}
}

// Without is Faults less those for which a hop has no place.
func Without(absent ...Fault) []Fault {
	return slices.DeleteFunc(Faults(), func(f Fault) bool { return slices.Contains(absent, f) })
}
