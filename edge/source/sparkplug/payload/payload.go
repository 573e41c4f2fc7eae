// Package payload reads and writes the payloads of Sparkplug B 3.0: a protobuf
// message with a time, a sequence number and metrics. Field numbers and data types
// are those of the specification, chapter 6. It is written by hand, because what
// comes from a plant is bounded before memory is taken, and because nothing of it
// is copied: names and texts point into what was decoded.
package payload

import "errors"

// Limits of a payload. What is over one is refused before memory is taken for it.
const (
	MaxBytes    = 1 << 20  // of a payload
	MaxMetrics  = 10_000   // of a payload, those in templates with them
	MaxDepth    = 16       // templates in templates, property sets in property sets
	MaxText     = 64 << 10 // of a name or a text, in bytes
	MaxElements = 10_000   // of an array, and cells of a data set
	// maxParts bounds properties, parameters, columns, rows and cells of one
	// payload: each is at least two bytes there and some tens here.
	maxParts = 100_000
)

// Errors of reading a payload. The same bytes fail again.
var (
	ErrShort = errors.New("payload ends too early")
	ErrForm  = errors.New("payload is not of the form of Sparkplug B")
	ErrLimit = errors.New("payload is over a limit")
)

// Type is the data type of a metric, a property, a parameter or a column.
type Type uint32

// Data types. 0 is none: a metric of a DATA message has the type its birth gave it.
const (
	Unknown         Type = 0
	Int8            Type = 1
	Int16           Type = 2
	Int32           Type = 3
	Int64           Type = 4
	UInt8           Type = 5
	UInt16          Type = 6
	UInt32          Type = 7
	UInt64          Type = 8
	Float           Type = 9
	Double          Type = 10
	Boolean         Type = 11
	String          Type = 12
	DateTime        Type = 13
	Text            Type = 14
	UUID            Type = 15
	DataSetType     Type = 16
	Bytes           Type = 17
	File            Type = 18
	TemplateType    Type = 19
	PropertySetType Type = 20
	PropertySetList Type = 21
	Int8Array       Type = 22
	Int16Array      Type = 23
	Int32Array      Type = 24
	Int64Array      Type = 25
	UInt8Array      Type = 26
	UInt16Array     Type = 27
	UInt32Array     Type = 28
	UInt64Array     Type = 29
	FloatArray      Type = 30
	DoubleArray     Type = 31
	BooleanArray    Type = 32
	StringArray     Type = 33
	DateTimeArray   Type = 34
)

// Known reports whether t is a data type of the specification.
func (t Type) Known() bool { return t >= Int8 && t <= DateTimeArray }

// Array reports whether values of t are arrays.
func (t Type) Array() bool { return t >= Int8Array && t <= DateTimeArray }

func (t Type) String() string {
	names := [...]string{
		"Unknown", "Int8", "Int16", "Int32", "Int64", "UInt8", "UInt16", "UInt32", "UInt64", "Float", "Double", "Boolean", "String", "DateTime", "Text", "UUID",
		"DataSet", "Bytes", "File", "Template", "PropertySet", "PropertySetList", "Int8Array", "Int16Array", "Int32Array", "Int64Array", "UInt8Array",
		"UInt16Array", "UInt32Array", "UInt64Array", "FloatArray", "DoubleArray", "BooleanArray", "StringArray", "DateTimeArray",
	}
	if int(t) < len(names) {
		return names[t]
	}
	return "a type that is none"
}

// Payload is one message.
type Payload struct {
	Timestamp uint64 // ms since 1970; 0: none
	Seq       uint64
	HasSeq    bool
	UUID      []byte
	Body      []byte
	Metrics   []Metric
}

// Metric is one value, or what a birth says of it. What is empty is not there.
type Metric struct {
	Name       []byte
	Alias      uint64
	Timestamp  uint64 // ms since 1970; 0: none
	Type       Type
	HasAlias   bool
	Historical bool // not the current value
	Transient  bool // not to be kept
	Null       bool // has no value
	Meta       *Meta
	Properties *PropertySet
	Value      Value
	DataSet    *DataSet  // of a value of kind InDataSet; of others it means nothing
	Template   *Template // of a value of kind InTemplate; likewise
}

// Kind says which of the fields of a value is there: what the sender chose, which
// need not be what the data type asks for.
type Kind uint8

// Kinds of value.
const (
	InNone Kind = iota
	InInt
	InLong
	InFloat
	InDouble
	InBoolean
	InString
	InBytes
	InDataSet
	InTemplate
	InSet
	InSetList
	InExtension // of a later specification, or of a vendor
)

// Value is a value as it was sent. Data types make something of it.
type Value struct {
	Kind  Kind
	Bits  uint64 // of int (32 bits), long, boolean; the IEEE 754 bits of float (32) and double
	Bytes []byte // of string, bytes and extension
}

// Meta describes a metric (MetaData).
type Meta struct {
	MultiPart                                     bool
	ContentType, FileName, FileType, MD5, Comment []byte
	Size, Seq                                     uint64
}

// PropertySet are properties: Keys[i] is the name of Values[i]. Where a sender gives
// more of one than of the other, the rest means nothing.
type PropertySet struct {
	Keys   [][]byte
	Values []Property
}

// Property is one of them.
type Property struct {
	Type  Type
	Null  bool
	Value Value
	Set   *PropertySet  // of a value of kind InSet; of others it means nothing
	List  []PropertySet // of a value of kind InSetList; likewise
}

// DataSet is a table.
type DataSet struct {
	Width   uint64 // as the sender counts its columns
	Columns [][]byte
	Types   []Type
	Rows    []Row
}

// Row is one row of a table.
type Row struct{ Cells []Value }

// Template is a structure, or the definition of one.
type Template struct {
	Version    []byte
	Ref        []byte // the name of its definition; empty: it is one
	Definition bool
	Metrics    []Metric
	Parameters []Parameter
}

// Parameter is a parameter of a template.
type Parameter struct {
	Name  []byte
	Type  Type
	Value Value
}

// Property is the property with this name; nil where there is none.
func (m *Metric) Property(name string) *Property {
	if m.Properties == nil {
		return nil
	}
	for i, k := range m.Properties.Keys {
		if string(k) == name && i < len(m.Properties.Values) {
			return &m.Properties.Values[i]
		}
	}
	return nil
}
