// Package parquet is the port that gives rows as Parquet files, as query
// engines and data frames read them.
//
// A file holds the rows of one product, columns in alphabetical order, in row
// groups of at most GroupRows, each sorted by what the rows are of and their
// time, so that a reader of one signal or machine skips the rest. Pages are
// compressed with zstd.
package parquet

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"slices"
	"sort"
	"strconv"
	"time"

	"github.com/parquet-go/parquet-go"

	"plantmesh/cloud/port"
)

// GroupRows is how many rows one row group holds: what was measured to read
// and prune well (reference/feasibility.md §4). It bounds the memory of a
// writer.
const GroupRows = 128 << 10

// Logical types of a contract's columns (ODCS v3.1.0), and Any: a value of the
// type that the column "type" names.
const (
	Text    = "string"
	Instant = "timestamp" // microseconds since 1970, UTC
	Number  = "number"
	Integer = "integer"
	Boolean = "boolean"
	Any     = "any"
)

// order are the columns that rows are sorted by: of each line the first there is.
func order() [][]string {
	return [][]string{{"signal", "equipment", "source"}, {"window"}, {"time", "from"}}
}

// leaf is a column of the file.
type leaf struct {
	name   string
	from   string // the row's column
	typ    string
	only   string // for parts of Any: the value's type
	number int    // in the schema
}

// Writer writes rows into one file. Not safe for concurrent use. What stands
// in the output before Close has returned nil is no file.
type Writer struct {
	out    *parquet.GenericWriter[any]
	group  *parquet.Buffer
	leaves []leaf
	row    parquet.Row
	rows   int
}

// NewWriter makes a writer of rows with these columns.
func NewWriter(w io.Writer, product, version string, columns []port.Column) (*Writer, error) {
	root := parquet.Group{}
	p := &Writer{}
	add := func(l leaf, node parquet.Node) {
		root[l.name] = parquet.Compressed(parquet.Optional(node), &parquet.Zstd)
		p.leaves = append(p.leaves, l)
	}
	for _, c := range columns {
		l := leaf{name: c.Name, from: c.Name, typ: c.Type}
		switch c.Type {
		case Number:
			add(l, parquet.Leaf(parquet.DoubleType))
		case Integer:
			add(l, parquet.Int(64))
		case Boolean:
			add(l, parquet.Leaf(parquet.BooleanType))
		case Instant:
			add(l, parquet.Encoded(parquet.Timestamp(parquet.Microsecond), &parquet.DeltaBinaryPacked))
		case Any:
			for _, part := range []struct {
				only, typ string
				node      parquet.Node
			}{
				{"double", Number, parquet.Leaf(parquet.DoubleType)},
				{"int", Integer, parquet.Int(64)},
				{"uint", "unsigned", parquet.Uint(64)},
				{"bool", Boolean, parquet.Leaf(parquet.BooleanType)},
				{"string", Text, parquet.Encoded(parquet.String(), &parquet.RLEDictionary)},
			} {
				add(leaf{name: c.Name + "_" + part.only, from: c.Name, typ: part.typ, only: part.only}, part.node)
			}
		default: // text, and lists and objects as JSON
			l.typ = Text
			add(l, parquet.Encoded(parquet.String(), &parquet.RLEDictionary))
		}
	}
	if len(root) != len(p.leaves) || len(root) == 0 {
		return nil, fmt.Errorf("product %s has no columns, or two of one name", product)
	}
	slices.SortFunc(p.leaves, func(a, b leaf) int { return cmp.Compare(a.name, b.name) })
	var by []parquet.SortingColumn
	for _, names := range order() {
		if i := slices.IndexFunc(names, func(n string) bool { return root[n] != nil }); i >= 0 {
			by = append(by, parquet.Ascending(names[i]))
		}
	}
	for i := range p.leaves {
		p.leaves[i].number = i
	}
	schema := parquet.NewSchema(product, root)
	p.out = parquet.NewGenericWriter[any](w, schema, parquet.CreatedBy("plantmesh", version, ""),
		parquet.KeyValueMetadata("plantmesh.product", product), parquet.KeyValueMetadata("plantmesh.contract_version", version),
		parquet.SortingWriterConfig(parquet.SortingColumns(by...)))
	p.group = parquet.NewBuffer(schema, parquet.SortingRowGroupConfig(parquet.SortingColumns(by...)))
	return p, nil
}

// Add takes one row. A column the file has not is left out.
func (p *Writer) Add(f port.Fields) error {
	var only string
	if t := f["type"]; len(t) > 1 {
		only = string(t[1 : len(t)-1])
	}
	p.row = p.row[:0]
	for i := range p.leaves {
		l := &p.leaves[i]
		v := parquet.Value{}
		if raw := f[l.from]; len(raw) > 0 && string(raw) != "null" && (l.only == "" || l.only == only) {
			var err error
			if v, err = value(l.typ, raw); err != nil {
				return fmt.Errorf("column %s: %w", l.name, err)
			}
			v = v.Level(0, 1, l.number)
		} else {
			v = v.Level(0, 0, l.number)
		}
		p.row = append(p.row, v)
	}
	if _, err := p.group.WriteRows([]parquet.Row{p.row}); err != nil {
		return fmt.Errorf("put a row into a Parquet file: %w", err)
	}
	if p.rows++; p.group.Len() >= GroupRows {
		return p.flush()
	}
	return nil
}

// Rows is how many rows were added.
func (p *Writer) Rows() int { return p.rows }

func (p *Writer) flush() error {
	sort.Stable(p.group)
	if _, err := p.out.WriteRowGroup(p.group); err != nil {
		return fmt.Errorf("write a Parquet row group: %w", err)
	}
	p.group.Reset()
	return nil
}

// Close writes the end of the file, without which it is none.
func (p *Writer) Close() error {
	if p.group.Len() > 0 {
		if err := p.flush(); err != nil {
			return err
		}
	}
	if err := p.out.Close(); err != nil {
		return fmt.Errorf("end a Parquet file: %w", err)
	}
	return nil
}

// value is a JSON value of a type.
func value(typ string, raw json.RawMessage) (parquet.Value, error) {
	s := string(raw)
	switch typ {
	case Number:
		x, err := strconv.ParseFloat(s, 64)
		return parquet.DoubleValue(x), err
	case Integer:
		// An integer of a product may be a sum, which JSON writes as it is.
		x, err := strconv.ParseInt(s, 10, 64)
		if f, ferr := strconv.ParseFloat(s, 64); err != nil && ferr == nil && f == math.Trunc(f) && math.Abs(f) < 1<<53 {
			x, err = int64(f), nil
		}
		return parquet.Int64Value(x), err
	case "unsigned":
		x, err := strconv.ParseUint(s, 10, 64)
		return parquet.Int64Value(int64(x)), err
	case Boolean:
		x, err := strconv.ParseBool(s)
		return parquet.BooleanValue(x), err
	case Instant:
		var t time.Time
		err := json.Unmarshal(raw, &t)
		return parquet.Int64Value(t.UnixMicro()), err
	}
	if raw[0] == '"' {
		if err := json.Unmarshal(raw, &s); err != nil {
			return parquet.Value{}, err
		}
	}
	return parquet.ByteArrayValue([]byte(s)), nil
}
