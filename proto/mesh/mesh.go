// Package mesh is the vocabulary of the house: positions, sets, records,
// samples. Every room speaks it; it imports the standard library only.
//
// The law of the house: data goes forward; only positions come back. What goes
// forward is a Record, what comes back is a Receipt.
package mesh

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"time"
)

// LogID names a log: "agent/<site>/<name>", "hub/<partition>" or
// "out/<product>/<partition>". A log has one writer at a time.
type LogID string

// Epoch names one opening of a log for append. It is random, so two openings
// can never be taken for each other, whatever was restored or cloned.
type Epoch [16]byte

// NewEpoch draws an epoch from the operating system's random source, which
// never fails on the platforms Go supports.
func NewEpoch() (e Epoch) {
	_, _ = rand.Read(e[:])
	return e
}

// IsZero reports whether e is no epoch at all.
func (e Epoch) IsZero() bool { return e == Epoch{} }

// String is the first eight hex digits: enough to tell epochs apart in a log line.
func (e Epoch) String() string { return hex.EncodeToString(e[:4]) }

// Hash names a Descriptor by its content.
type Hash [32]byte

// HashOf is the name of a descriptor with this content.
func HashOf(content []byte) Hash { return sha256.Sum256(content) }

// String is the first twelve hex digits.
func (h Hash) String() string { return hex.EncodeToString(h[:6]) }

// Nanos is an instant in nanoseconds since 1970-01-01 UTC.
type Nanos int64

// NanosOf is the instant t.
func NanosOf(t time.Time) Nanos { return Nanos(t.UnixNano()) }

// Time is the instant as a time.Time in UTC.
func (n Nanos) Time() time.Time { return time.Unix(0, int64(n)).UTC() }

// Add moves the instant by d.
func (n Nanos) Add(d time.Duration) Nanos { return n + Nanos(d) }

// Sub is the distance from m to n.
func (n Nanos) Sub(m Nanos) time.Duration { return time.Duration(n - m) }

// String is RFC 3339 with nanoseconds.
func (n Nanos) String() string { return n.Time().Format(time.RFC3339Nano) }

// Span is a stretch of time [From, To). An empty span claims nothing.
type Span struct{ From, To Nanos }

// Empty reports whether no instant lies in s.
func (s Span) Empty() bool { return s.To <= s.From }

// Has reports whether t lies in s.
func (s Span) Has(t Nanos) bool { return s.From <= t && t < s.To }

// Duration is the length of s, never negative.
func (s Span) Duration() time.Duration { return max(0, s.To.Sub(s.From)) }

// Meet is the part common to s and o, possibly empty.
func (s Span) Meet(o Span) Span { return Span{max(s.From, o.From), min(s.To, o.To)} }

// Position is the place of one record in one log. It is given once, at commit,
// and never given again. Seq counts the records of the epoch from 1.
type Position struct {
	Log   LogID
	Epoch Epoch
	Seq   uint64
}

// IsZero reports whether p is before every record of every log.
func (p Position) IsZero() bool { return p.Epoch.IsZero() }

func (p Position) String() string { return fmt.Sprintf("%s@%s:%d", p.Log, p.Epoch, p.Seq) }

// Range is a run of positions of one epoch, both ends included.
type Range struct {
	Epoch       Epoch
	First, Last uint64
}

// Kind says what a record is.
type Kind uint8

// The five kinds of record. The numbers are on the wire: never reorder.
const (
	KindOpening Kind = 1
	KindBatch   Kind = 2
	KindVoid    Kind = 3
	KindVerdict Kind = 4
	KindFact    Kind = 5
)

func (k Kind) String() string {
	switch k {
	case KindOpening:
		return "opening"
	case KindBatch:
		return "batch"
	case KindVoid:
		return "void"
	case KindVerdict:
		return "verdict"
	case KindFact:
		return "fact"
	}
	return fmt.Sprintf("kind %d", uint8(k))
}

// Cause says why positions or stretches have no data. The list is closed.
type Cause string

// Causes of a void.
const (
	CauseDiskPolicy   Cause = "disk_policy"  // the buffer's budget made room
	CauseUnreadable   Cause = "unreadable"   // a payload could not become a sample
	CauseDamaged      Cause = "damaged"      // the disk gave back something else
	CauseNotKept      Cause = "not_kept"     // asked for after retention
	CauseOverflow     Cause = "overflow"     // the device's own queue ran over
	CauseDied         Cause = "died"         // a worker or the agent stopped without notice
	CauseDisconnected Cause = "disconnected" // the source could not be reached and cannot replay
)

// NoteSaidAgain is the note of a void that adds nothing: what a log lost of a source is
// said again behind a proof that reaches over it. Who puts the lost record back undoes
// these with the void that was the first to say so.
const NoteSaidAgain = "the agent's disk lost what it had of this source, and what was proven since reaches over it"

// Header is what can be read of a record without decompressing its body.
type Header struct {
	Kind     Kind
	About    string // the source; in an output log the entity; empty for an opening
	Proven   Span   // heard without a break; empty: nothing claimed
	Complete Nanos  // nothing older is expected; 0: nothing claimed
	Times    Span   // event times of what is inside; empty if there is none
	Count    uint32 // samples, rows or stretches inside
	Needs    []Hash // descriptors needed to read the body
}

// Record is one entry of a log: an envelope that carries the position, around
// bytes that nobody touches after they were sealed.
type Record struct {
	At     Position
	Sealed []byte // header, body and their checksum, as wire.Seal* made them
}

// Opening is the first record of every epoch.
type Opening struct{ Parent Position } // zero: follows nothing

// Void says that positions, stretches of time, or both have no data, and why.
type Void struct {
	Lost  []Range
	Cause Cause
	Parts []Part
	Note  string // in plain words, for the person who looks
}

// Part is a stretch of a source that has no data.
type Part struct {
	Source string
	Times  Span
	Count  uint64 // samples known to be lost; 0: not known
}

// Verdict is what one revision of the rules finds in one batch.
type Verdict struct {
	Of       Position
	Revision uint64
	Rules    Hash
	Marks    []Mark
}

// Mark is one rule's finding about one sample of a batch.
type Mark struct {
	Index  uint32 // of the sample in the batch
	Rule   string
	Action Action
}

// Action is what a rule asks for.
type Action uint8

// Actions of a rule. The numbers are on the wire: never reorder.
const (
	ActionAnnotate   Action = 1 // keep and say so
	ActionQuarantine Action = 2 // keep, but do not count
	ActionAlert      Action = 3 // keep, say so, and tell a person
)

// Fact says that something holds over a stretch of event time: active rules,
// a site's calendar and mapping, an ideal rate, a retired source.
type Fact struct {
	About      string
	Valid      Span
	Descriptor Hash
	By         string
}

// Receipt is the reader's answer: what it has accounted for. Receipts of one
// reader count in the order of By; a reader's new epoch is taken whole.
type Receipt struct {
	By     Position
	Before []Epoch // those of the reader's log before By's, the newest last, at most MaxBefore
	Have   Set
	Chain  []Link // the reader's view of the writer's epochs
	Lacks  []Hash
	Limits Limits
	Place  Place // how far the reader has come in the pipe; zero: it doesn't say
}

// MaxBefore is how many epochs a reader names that went before its own: so many
// times it may be opened anew while a writer hears nothing, and the answer of
// one of those still be told from that of a newer one.
const MaxBefore = 8

// Limits tell a writer what the reader can take now. Zero means no limit.
type Limits struct {
	MaxBytes     uint32 // of one message
	BacklogShare uint8  // percent of the stream's bytes in use
}

// DescriptorKind says what a descriptor describes.
type DescriptorKind uint8

// Kinds of descriptor. The numbers are on the wire: never reorder.
const (
	DescribeSignals DescriptorKind = 1 // a signal table
	DescribeRules   DescriptorKind = 2 // a rule set
	DescribeSite    DescriptorKind = 3 // calendar, ideal rates and mapping of a site
)

// Descriptor is what records name by content hash. It has no position, so
// order and repeats do not matter.
type Descriptor struct {
	Kind    DescriptorKind
	Content []byte
}

// Hash is the name of d.
func (d Descriptor) Hash() Hash { return HashOf(append([]byte{byte(d.Kind)}, d.Content...)) }

// Errors that more than one room must understand.
var (
	// ErrMoved is returned when an append names an end that is not the end any
	// more: somebody else has written. The log must be opened anew.
	ErrMoved = errors.New("the log's end has moved")
	// ErrGone is returned when a place is off the chain or no longer kept.
	ErrGone = errors.New("the place is off the chain or no longer kept")
	// ErrLarge is returned when what was asked for is more than it may be: ask for
	// less at a time.
	ErrLarge = errors.New("more than may be read at once")
	// ErrPermanent marks what no retry can heal: quarantine it.
	ErrPermanent = errors.New("permanent")
)

// Permanent wraps err so that errors.Is(err, ErrPermanent) holds.
func Permanent(err error) error { return fmt.Errorf("%w: %w", ErrPermanent, err) }
