// Package port is the words of the ports: how rows of products look to those
// who take them, whatever the road. Each road is a package below.
//
// Next: cloud/console
package port

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"time"

	"plantmesh/proto/mesh"
)

// Stamp is how instants look: RFC 3339 with milliseconds. Those of a source are
// finer in rows where they are no whole ones, see package product.
const Stamp = "2006-01-02T15:04:05.000Z07:00"

// Fields are the columns of one row as they go out.
type Fields map[string]json.RawMessage

// Encoder makes rows outward: the product's own columns and the envelope that
// all products share. Safe for concurrent use.
type Encoder struct {
	zone    *time.Location
	version string
	order   []string
}

// envelope are the columns every row of every product has, behind its own.
func envelope() []string {
	return []string{"from_local", "to_local", "is_final", "revision", "produced_at", "contract_version", "mapping_version"}
}

// Typed adds to the columns of a contract those of names it doesn't type: the
// envelope's, which views have in none.
func Typed(contract []Column, names []string) []Column {
	out := slices.Clone(contract)
	for _, name := range names {
		if slices.ContainsFunc(out, func(c Column) bool { return c.Name == name }) {
			continue
		}
		c := Column{Name: name, Type: "string"}
		switch name {
		case "is_final":
			c.Type = "boolean"
		case "revision":
			c.Type = "integer"
		case "produced_at":
			c.Type = "timestamp"
		}
		out = append(out, c)
	}
	return out
}

// NewEncoder makes the encoder of a product. Columns is the order of the
// contract; columns it does not name follow in alphabetical order. Version is
// the contract's, zone the site's.
func NewEncoder(columns []string, version string, zone *time.Location) *Encoder {
	if zone == nil {
		zone = time.UTC
	}
	return &Encoder{zone: zone, version: version, order: columns}
}

// Fields takes a row apart and adds the envelope. A column the product wrote
// itself stays as it is.
func (e *Encoder) Fields(r mesh.Row) (Fields, error) {
	f := Fields{}
	if err := json.Unmarshal(r.Body, &f); err != nil {
		return nil, fmt.Errorf("read row %s of %s: %w", r.Key, r.Entity, err)
	}
	add := func(name, value string) {
		if _, ok := f[name]; !ok {
			f[name] = json.RawMessage(value)
		}
	}
	if _, ok := f["from"]; ok {
		add("from_local", e.local(r.From))
		add("to_local", e.local(r.To))
	}
	add("is_final", strconv.FormatBool(r.State == mesh.RowFinal))
	add("revision", strconv.FormatUint(uint64(r.Revision), 10))
	add("produced_at", quote(r.Produced.Time().Format(Stamp)))
	add("contract_version", quote(e.version))
	if r.State == mesh.RowWithdrawn {
		add("is_withdrawn", "true")
	}
	return f, nil
}

// Columns is the order in which the columns of f go out.
func (e *Encoder) Columns(f Fields) []string {
	out := make([]string, 0, len(f))
	take := func(names []string) {
		for _, n := range names {
			if _, ok := f[n]; ok && !slices.Contains(out, n) {
				out = append(out, n)
			}
		}
	}
	take(e.order)
	rest := make([]string, 0, len(f))
	for n := range f {
		if !slices.Contains(envelope(), n) {
			rest = append(rest, n)
		}
	}
	slices.Sort(rest)
	take(rest)
	take(envelope())
	return out
}

// Append adds the columns of f, as a JSON object, to b.
func Append(b []byte, f Fields, columns []string) []byte {
	b = append(b, '{')
	n := 0
	for _, c := range columns {
		v, ok := f[c]
		if !ok {
			continue
		}
		if n > 0 {
			b = append(b, ',')
		}
		n++
		b = strconv.AppendQuote(b, c)
		b = append(b, ':')
		b = append(b, bytes.TrimSpace(v)...)
	}
	return append(b, '}')
}

// JSON is a row outward as one JSON object.
func (e *Encoder) JSON(r mesh.Row) ([]byte, error) {
	f, err := e.Fields(r)
	if err != nil {
		return nil, err
	}
	return Append(nil, f, e.Columns(f)), nil
}

// local is an instant at the site as JSON; null for none.
func (e *Encoder) local(n mesh.Nanos) string {
	if n == 0 {
		return "null"
	}
	t := n.Time().In(e.zone)
	if t.Nanosecond()%int(time.Millisecond) != 0 {
		return quote(t.Format(time.RFC3339Nano))
	}
	return quote(t.Format(Stamp))
}

func quote(s string) string {
	b, err := json.Marshal(s)
	if err != nil { // a string always encodes
		return `""`
	}
	return string(b)
}

// Column is a column of a product's rows by its contract: the logical type is
// one of ODCS.
type Column struct{ Name, Type string }

// Table takes the rows of one answer into a file. Not safe for concurrent use;
// it keeps nothing of a row. What it has written is no file before Close has
// returned nil, so a reader that was cut off knows.
type Table interface {
	Add(f Fields) error
	Close() error
}
