// Package source is the first room on the gateway: it reads devices and hands
// sealed batches to the agent's log. A Reader speaks one protocol and lives in
// a folder of its own (opcua, mqtt); Sealer makes its batches; Work runs it in
// a worker process; a Supervisor in the agent starts that process again when
// it dies, and says in the log what could not be heard meanwhile.
//
// Next: edge/buffer
package source

import (
	"context"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"plantmesh/proto/mesh"
)

// MaxBehind is how far a device's clock may be behind the plant clock before it
// proves nothing. One that wakes in the year 2000 and is set right a minute
// later would else make decades known, hour by hour. A year is more than any
// device keeps for us.
const MaxBehind = 366 * 24 * time.Hour

// MaxAhead is how far a stamp may lie ahead of the plant clock before it is
// suspect: it proves nothing then and is no bound of anything. A demo reads its
// clock file ten times a second and may run a thousand times as fast: 100 s are
// no witness.
const MaxAhead = 2 * time.Minute

// Suspect reports whether a stamp lies too far ahead of the plant clock now.
func Suspect(stamp, now mesh.Nanos) bool { return stamp.Sub(now) > MaxAhead }

// Reader reads one device. It runs in a worker process of its own, so a crash,
// a memory balloon or an endless recursion in a decoder kills the worker and
// not the agent.
//
// Run blocks until ctx ends or the device can't be read at all. resume is the
// state that was committed with the reader's last record, nil at first. The
// reader acknowledges to the device only what Committed has returned. Run is
// called once, and what it starts ends with it; resume belongs to the reader.
type Reader interface {
	Run(ctx context.Context, resume []byte, log Log) error
}

// Doubter may be implemented by a Reader. Doubt is called before Run where the
// agent's disk has lost records the device was told are received: the state is
// then perhaps older than those, and the log says in a void since when. What the
// device gives again counts; what can't be shown to be without a break proves
// nothing before it.
type Doubter interface{ Doubt() }

// Keeper may be implemented by a Reader whose offers keep something beside its state.
// Keep is called before Run with all of that, by name; the map is the reader's.
type Keeper interface{ Keep(kept map[string][]byte) }

// Log is the agent's log as a reader sees it. It is used by one goroutine for
// Append and by any for Committed.
type Log interface {
	// Append hands over one commit and returns its number, counting from 1 in
	// this run. It blocks for credit, not for the disk. The offer's bytes
	// belong to the log afterwards.
	Append(ctx context.Context, o mesh.Offer) (n uint64, err error)
	// Committed blocks until more than after offers are durable and returns
	// how many are.
	Committed(ctx context.Context, after uint64) (n uint64, err error)
}

// Teller may be implemented by a Log: what a reader tells goes to the status
// page, in plain words, such as "connected". It stores nothing, and only the
// latest word counts. Safe for concurrent use.
type Teller interface{ Tell(text string) }

// Tell tells text where log listens to it. It is said in one line.
func Tell(log Log, text string) {
	if t, ok := log.(Teller); ok {
		t.Tell(oneLine(text))
	}
}

// oneLine is text without line breaks, of which joined errors have one each, and
// without other control characters: what a device says must not steer a terminal.
func oneLine(text string) string {
	text = strings.Join(strings.FieldsFunc(text, func(r rune) bool { return r == '\n' || r == '\r' }), "; ")
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || r == utf8.RuneError || unicode.Is(unicode.Bidi_Control, r) {
			return '?'
		}
		return r
	}, text)
}
