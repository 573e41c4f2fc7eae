package mesh

import (
	"bytes"
	"cmp"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
)

// Status is the 32-bit OPC UA StatusCode of a sample, kept for ever as the
// source gave it (OPC 10000-4 §7.39). Rules add verdicts beside it.
type Status uint32

// Status codes the house itself writes or looks for (OPC 10000-6 A.2).
const (
	StatusGood          Status = 0
	StatusBad           Status = 0x80000000
	StatusBadNoData     Status = 0x809B0000
	StatusUncertainLast Status = 0x40900000 // UncertainLastUsableValue
	// What became of a value that could not be taken: its payload can't be
	// decoded or is too large, it has another type, it lies outside of its type.
	StatusBadDecodingError          Status = 0x80070000
	StatusBadEncodingLimitsExceeded Status = 0x80080000
	StatusBadTypeMismatch           Status = 0x80740000
	StatusBadOutOfRange             Status = 0x803C0000
	// StatusBadNodeIDUnknown says that the server knows no such node.
	StatusBadNodeIDUnknown Status = 0x80340000
	// StatusBadConfigurationError says that what comes is not what came before: it is
	// read from elsewhere, or means something else. A counter begins anew behind it.
	StatusBadConfigurationError Status = 0x80890000
	// StatusBadNoCommunication says that what the value came from can't be heard, or
	// was not heard without a break: the value before does not hold any more.
	StatusBadNoCommunication Status = 0x80310000
	// StatusUncertain is Uncertain without a reason.
	StatusUncertain Status = 0x40000000
	// StatusOverflow are the info bits that say the server's queue ran over.
	StatusOverflow Status = 0x00000480
)

// IsGood reports whether the severity bits say Good; info bits don't matter.
func (s Status) IsGood() bool { return s&0xC0000000 == 0 }

// IsBad reports whether the severity bits say Bad.
func (s Status) IsBad() bool { return s&0x80000000 != 0 }

// Severity is what the severity bits say in a word: good, uncertain or bad.
func (s Status) Severity() string {
	switch {
	case s.IsGood():
		return "good"
	case s.IsBad():
		return "bad"
	}
	return "uncertain"
}

// Flag bits of a sample.
const (
	FlagInitial    uint32 = 1 << 0 // sent because a subscription began, not because it changed
	FlagHistorical uint32 = 1 << 1 // read back from a history or a store and forward
	FlagHeartbeat  uint32 = 1 << 2 // proves life, carries no change
	FlagSuspect    uint32 = 1 << 3 // the stamp was contradicted by a witness
	FlagAgentTime  uint32 = 1 << 4 // the source gave no time; the agent's is the event time
	FlagServerTime uint32 = 1 << 5 // likewise; the server's or broker's is the event time
	// FlagInterpolated marks a value the source computed between two readings.
	FlagInterpolated uint32 = 1 << 6
	// FlagRepeated marks what the transport sent again, where nothing shows whether
	// it was stored before: it may be there twice.
	FlagRepeated uint32 = 1 << 7
)

// Type is the type of a value. The numbers are on the wire: never reorder.
type Type uint8

// Value types.
const (
	TypeNone   Type = 0 // no value, as with a Bad status
	TypeBool   Type = 1
	TypeInt    Type = 2 // every signed width
	TypeUint   Type = 3 // every unsigned width
	TypeDouble Type = 4 // Float and Double
	TypeString Type = 5
	TypeBytes  Type = 6
	TypeArray  Type = 7 // a body, see wire.AppendItem; its layout stands in the signal table
	TypeStruct Type = 8 // likewise; a union has one field that is not none
	TypeEvent  Type = 9 // likewise; an alarm, a condition, a message
)

// ParseType is the type with this name.
func ParseType(s string) (Type, bool) {
	for t := TypeNone; t <= TypeEvent; t++ {
		if t.String() == s {
			return t, true
		}
	}
	return TypeNone, false
}

func (t Type) String() string {
	switch t {
	case TypeNone:
		return "none"
	case TypeBool:
		return "bool"
	case TypeInt:
		return "int"
	case TypeUint:
		return "uint"
	case TypeDouble:
		return "double"
	case TypeString:
		return "string"
	case TypeBytes:
		return "bytes"
	case TypeArray:
		return "array"
	case TypeStruct:
		return "struct"
	case TypeEvent:
		return "event"
	}
	return "type " + strconv.Itoa(int(t))
}

// Value is one value. Numbers live in Bits and never touch the heap.
type Value struct {
	Type  Type
	Bits  uint64 // bool, int (two's complement), uint, IEEE 754 bits
	Bytes []byte // string, bytes, and the bodies of arrays, structures and events
}

// Bool is a boolean value.
func Bool(b bool) Value {
	if b {
		return Value{Type: TypeBool, Bits: 1}
	}
	return Value{Type: TypeBool}
}

// Int is a signed integer value.
func Int(i int64) Value { return Value{Type: TypeInt, Bits: uint64(i)} }

// Uint is an unsigned integer value.
func Uint(u uint64) Value { return Value{Type: TypeUint, Bits: u} }

// Double is a floating point value.
func Double(f float64) Value { return Value{Type: TypeDouble, Bits: math.Float64bits(f)} }

// Text is a string value.
func Text(s string) Value { return Value{Type: TypeString, Bytes: []byte(s)} }

// Int is the value as a signed integer; ok is false where it is none.
func (v Value) Int() (i int64, ok bool) {
	switch v.Type {
	case TypeInt, TypeBool:
		return int64(v.Bits), true
	case TypeUint:
		return int64(v.Bits), v.Bits <= math.MaxInt64
	case TypeDouble:
		f := math.Float64frombits(v.Bits)
		return int64(f), f == math.Trunc(f) && math.Abs(f) < 1<<53
	case TypeNone, TypeString, TypeBytes, TypeArray, TypeStruct, TypeEvent:
	}
	return 0, false
}

// Float is the value as a number; ok is false where it is none.
func (v Value) Float() (f float64, ok bool) {
	switch v.Type {
	case TypeDouble:
		return math.Float64frombits(v.Bits), true
	case TypeInt:
		return float64(int64(v.Bits)), true
	case TypeUint, TypeBool:
		return float64(v.Bits), true
	case TypeNone, TypeString, TypeBytes, TypeArray, TypeStruct, TypeEvent:
	}
	return 0, false
}

// String is the value for people: shortest decimal, text as it is.
func (v Value) String() string {
	switch v.Type {
	case TypeBool:
		return strconv.FormatBool(v.Bits != 0)
	case TypeInt:
		return strconv.FormatInt(int64(v.Bits), 10)
	case TypeUint:
		return strconv.FormatUint(v.Bits, 10)
	case TypeDouble:
		return strconv.FormatFloat(math.Float64frombits(v.Bits), 'g', -1, 64)
	case TypeString, TypeBytes:
		return string(v.Bytes)
	case TypeArray, TypeStruct, TypeEvent:
		return fmt.Sprintf("%s of %d bytes", v.Type, len(v.Bytes))
	case TypeNone:
	}
	return ""
}

// OnHeap reports whether values of this type live in Bytes.
func (t Type) OnHeap() bool { return t >= TypeString && t <= TypeEvent }

// Item is a value inside the body of an array, a structure or an event.
type Item struct {
	Value Value  // of a leaf; of the others its Type alone
	Of    Type   // of an array: the type of its items
	Items []Item // of an array, a structure or an event
}

// Field is one place of a structure or an event; of an array's items it has no
// name.
type Field struct {
	Name   string
	Type   Type
	Unit   string
	Fields []Field // of a structure; of an array the one field that says what its items are
	// Choices name its numbers, or those of an array's items; nil: they have no names.
	Choices *Choices `json:",omitempty"`
}

// Choices are what the numbers of an enumeration, or the bits of a set, are
// called. Shared by whoever refers to them; never changed.
type Choices struct {
	Name string // of the type, as the source calls it
	Bits bool   // Number counts bits from 0, of which several may be set
	List []Choice
}

// Choice is one number of an enumeration, or one bit of a set.
type Choice struct {
	Number int64
	Text   string
}

// Text is what v is called: of a set the names of its bits, with commas. It is
// empty where v has no name, or is a set with a bit that has none.
func (c *Choices) Text(v Value) string {
	if c == nil || v.Type != TypeInt && v.Type != TypeUint {
		return ""
	}
	if !c.Bits {
		i := slices.IndexFunc(c.List, func(x Choice) bool { return uint64(x.Number) == v.Bits })
		if i < 0 {
			return ""
		}
		return c.List[i].Text
	}
	rest, names := v.Bits, []string(nil)
	for _, x := range c.List {
		if x.Number >= 0 && x.Number < 64 && rest>>x.Number&1 != 0 {
			rest &^= 1 << x.Number
			names = append(names, x.Text)
		}
	}
	if rest != 0 {
		return ""
	}
	return strings.Join(names, ", ")
}

// Compare orders values by type, then by their canonical bytes. It is a total
// order on content; it is not the order of numbers.
func (v Value) Compare(o Value) int {
	return cmp.Or(cmp.Compare(v.Type, o.Type), cmp.Compare(v.Bits, o.Bits), bytes.Compare(v.Bytes, o.Bytes))
}

// Sample is one value of one signal at one time.
//
// Time is the event time, chosen at the edge and sealed with the choice;
// Source, Server and Agent are the clocks it was chosen from, 0 where a clock
// gave none. Seq is a number the device itself puts into its data, 0 where it
// puts none; numbers of the transport never enter.
type Sample struct {
	Signal                      uint32 // in the batch's signal table
	Time, Source, Server, Agent Nanos
	Seq                         uint64
	Status                      Status
	Flags                       uint32
	Value                       Value
}

// Compare is the order of folding: (event time, signal, source sequence,
// status, canonical value bytes, server time). It looks at content only, never
// at arrival or position, so any two paths fold alike.
func (s Sample) Compare(o Sample) int {
	return cmp.Or(cmp.Compare(s.Time, o.Time), cmp.Compare(s.Signal, o.Signal), cmp.Compare(s.Seq, o.Seq),
		cmp.Compare(s.Status, o.Status), s.Value.Compare(o.Value), cmp.Compare(s.Server, o.Server))
}

// Same reports whether s and o are one sample: they agree in all but the
// clocks of the road.
func (s Sample) Same(o Sample) bool {
	return s.Time == o.Time && s.Signal == o.Signal && s.Seq == o.Seq && s.Status == o.Status && s.Value.Compare(o.Value) == 0
}

// Signal is one row of a signal table.
type Signal struct {
	ID         uint32 // unique in the table
	Name       string // "<line>.<machine>.<role>" in the plant of the demo
	Type       Type
	Unit       string // UNECE Rec 20 common code, or empty
	MaxSilence Nanos  // 0: none declared
	// Fields say what is inside a structure or an event, in the order of its
	// body; of an array, what its items are. A body may have more than they say,
	// as that of a subtype does.
	Fields []Field
	// Choices name its numbers; nil: they have no names.
	Choices *Choices `json:",omitempty"`
}

// Batch is what one source said: a run of samples in arrival order, perhaps none.
type Batch struct {
	Source   string
	Table    Hash // the signal table its samples refer to
	Proven   Span
	Complete Nanos
	Samples  []Sample
}
