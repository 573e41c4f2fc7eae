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

	pq "github.com/parquet-go/parquet-go"

	"plantmesh/cloud/port"
)

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

// holds reports whether a value whose type the row names stands in this column.
// What JSON gives as text is text: it has no other bytes.
func (l *leaf) holds(typ string) bool {
	switch typ {
	case "bytes":
		typ = "string"
	case "array", "struct", "event":
		typ = "json"
	}
	return l.only == "" || l.only == typ
}

// Table writes the rows of one product into one file, columns in alphabetical
// order, in row groups that are each sorted by what the rows are of and their
// time. Not safe for concurrent use. What stands
// in the output before Close has returned nil is no file.
type Table struct {
	out    *pq.GenericWriter[any]
	group  *pq.Buffer
	bytes  int // of texts in group
	leaves []leaf
	row    pq.Row
	rows   int
}

// NewTable makes a writer of rows with these columns.
func NewTable(w io.Writer, product, version string, columns []port.Column) (*Table, error) {
	root := pq.Group{}
	p := &Table{}
	add := func(l leaf, node pq.Node) {
		root[l.name] = pq.Compressed(pq.Optional(node), &pq.Zstd)
		p.leaves = append(p.leaves, l)
	}
	for _, c := range columns {
		l := leaf{name: c.Name, from: c.Name, typ: c.Type}
		switch c.Type {
		case Number:
			add(l, pq.Leaf(pq.DoubleType))
		case Integer:
			add(l, pq.Int(64))
		case Boolean:
			add(l, pq.Leaf(pq.BooleanType))
		case Instant:
			add(l, pq.Encoded(pq.Timestamp(pq.Microsecond), &pq.DeltaBinaryPacked))
		case Any:
			for _, part := range []struct {
				only, typ string
				node      pq.Node
			}{
				{"double", Number, pq.Leaf(pq.DoubleType)},
				{"int", Integer, pq.Int(64)},
				{"uint", "unsigned", pq.Uint(64)},
				{"bool", Boolean, pq.Leaf(pq.BooleanType)},
				{"string", Text, pq.Encoded(pq.String(), &pq.RLEDictionary)},
				{"json", Text, pq.Encoded(pq.String(), &pq.RLEDictionary)},
			} {
				add(leaf{name: c.Name + "_" + part.only, from: c.Name, typ: part.typ, only: part.only}, part.node)
			}
		default: // text, and lists and objects as JSON
			l.typ = Text
			add(l, pq.Encoded(pq.String(), &pq.RLEDictionary))
		}
	}
	if len(root) != len(p.leaves) || len(root) == 0 {
		return nil, fmt.Errorf("product %s has no columns, or two of one name", product)
	}
	slices.SortFunc(p.leaves, func(a, b leaf) int { return cmp.Compare(a.name, b.name) })
	var by []pq.SortingColumn
	for _, names := range order() {
		if i := slices.IndexFunc(names, func(n string) bool { return root[n] != nil }); i >= 0 {
			by = append(by, pq.Ascending(names[i]))
		}
	}
	for i := range p.leaves {
		p.leaves[i].number = i
	}
	schema := pq.NewSchema(product, root)
	p.out = pq.NewGenericWriter[any](w, schema, pq.CreatedBy("plantmesh", version, ""),
		pq.KeyValueMetadata("plantmesh.product", product), pq.KeyValueMetadata("plantmesh.contract_version", version),
		pq.SortingWriterConfig(pq.SortingColumns(by...)))
	p.group = pq.NewBuffer(schema, pq.SortingRowGroupConfig(pq.SortingColumns(by...)))
	return p, nil
}

// Add takes one row. A column the file has not is left out.
func (p *Table) Add(f port.Fields) error {
	var only string
	if t := f["type"]; len(t) > 1 {
		only = string(t[1 : len(t)-1])
	}
	p.row = p.row[:0]
	for i := range p.leaves {
		l := &p.leaves[i]
		v := pq.Value{}
		if raw := f[l.from]; len(raw) > 0 && string(raw) != "null" && l.holds(only) {
			var err error
			if v, err = value(l.typ, raw); err != nil {
				return fmt.Errorf("column %s: %w", l.name, err)
			}
			v = v.Level(0, 1, l.number)
			if v.Kind() == pq.ByteArray {
				p.bytes += len(v.ByteArray())
			}
		} else {
			v = v.Level(0, 0, l.number)
		}
		p.row = append(p.row, v)
	}
	if _, err := p.group.WriteRows([]pq.Row{p.row}); err != nil {
		return fmt.Errorf("put a row into a Parquet file: %w", err)
	}
	if p.rows++; p.group.Len() >= groupRows || p.bytes >= groupBytes {
		return p.flush()
	}
	return nil
}

// Rows is how many rows were added.
func (p *Table) Rows() int { return p.rows }

func (p *Table) flush() error {
	sort.Stable(p.group)
	if _, err := p.out.WriteRowGroup(p.group); err != nil {
		return fmt.Errorf("write a Parquet row group: %w", err)
	}
	p.group.Reset()
	p.bytes = 0
	return nil
}

// Close writes the end of the file, without which it is none.
func (p *Table) Close() error {
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
func value(typ string, raw json.RawMessage) (pq.Value, error) {
	s := string(raw)
	switch typ {
	case Number:
		x, err := strconv.ParseFloat(s, 64)
		return pq.DoubleValue(x), err
	case Integer:
		// An integer of a product may be a sum, which JSON writes as it is.
		x, err := strconv.ParseInt(s, 10, 64)
		if f, ferr := strconv.ParseFloat(s, 64); err != nil && ferr == nil && f == math.Trunc(f) && math.Abs(f) < 1<<53 {
			x, err = int64(f), nil
		}
		return pq.Int64Value(x), err
	case "unsigned":
		x, err := strconv.ParseUint(s, 10, 64)
		return pq.Int64Value(int64(x)), err
	case Boolean:
		x, err := strconv.ParseBool(s)
		return pq.BooleanValue(x), err
	case Instant:
		var t time.Time
		err := json.Unmarshal(raw, &t)
		return pq.Int64Value(t.UnixMicro()), err
	}
	if raw[0] == '"' {
		if err := json.Unmarshal(raw, &s); err != nil {
			return pq.Value{}, err
		}
	}
	return pq.ByteArrayValue([]byte(s)), nil
}
