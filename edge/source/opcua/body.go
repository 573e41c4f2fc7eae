package opcua

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gopcua/opcua/ua"

	"plantmesh/edge/source/opcua/channel"
	"plantmesh/edge/source/opcua/datatype"
	"plantmesh/edge/source/opcua/publish"
	"plantmesh/proto/mesh"
	"plantmesh/proto/wire"
)

const (
	// maxTableFields bounds the fields of all signals of a source, in bytes of their
	// names and some for each: the table travels as one descriptor.
	maxTableFields = 1 << 20
	perField       = 16
	// maxTypify is how long a server may take to say what its types are, which is
	// some tens of requests.
	maxTypify = 30 * time.Second
	// maxShapes is how many signals' shapes stand in the state one by one.
	maxShapes = 256
)

// types are what the server says the signals are, as of this connect.
type types struct {
	book   *datatype.Book // nil: not asked
	shapes []datatype.Shape
	dec    datatype.Decoder
	body   []byte // of the value at hand
	drift  string // what is otherwise than at the last connect, in words
}

// body is the value of an array, a structure, or of what wraps one.
func (r *Reader) body(signal wanted, v *publish.Value) (mesh.Value, uint32, error) {
	switch {
	case v.Array && signal.kind != mesh.TypeArray:
		return mesh.Value{}, 0, fmt.Errorf("an array of %d values where the configuration says %s: write type: array", datatype.Elements(v.Bytes), signal.kind)
	case !v.Array && v.Type == publish.TypeExtension && signal.kind != mesh.TypeStruct:
		return mesh.Value{}, 0, fmt.Errorf("a structure where the configuration says %s: write type: struct", signal.kind)
	case v.Type == publish.TypeDiagnostic:
		return mesh.Value{}, 0, errors.New("diagnostics, which are no value")
	}
	item, status, err := r.types.dec.Variant(v.Bytes, r.shape(signal))
	if err != nil {
		return mesh.Value{}, status, err
	}
	switch item.Value.Type {
	case mesh.TypeNone:
		return mesh.Value{}, status, errNoValue
	case mesh.TypeArray, mesh.TypeStruct, mesh.TypeEvent:
	case mesh.TypeBytes, mesh.TypeString:
		value, err := r.bounded(item.Value.Type, item.Value.Bytes)
		return value, status, err
	case mesh.TypeBool, mesh.TypeInt, mesh.TypeUint, mesh.TypeDouble:
		return item.Value, status, nil
	}
	r.types.body = wire.AppendItem(r.types.body[:0], item)
	if n := len(r.types.body); n > wire.MaxText {
		return mesh.Value{}, status, fmt.Errorf("%w: an %s of %d bytes, at most %d are stored", datatype.ErrLimit, item.Value.Type, n, wire.MaxText)
	}
	return mesh.Value{Type: item.Value.Type, Bytes: r.keep(r.types.body)}, status, nil
}

// shape is what the server says of a signal; the zero Shape where it was not asked.
func (r *Reader) shape(signal wanted) datatype.Shape {
	if int(signal.id) < len(r.types.shapes) {
		return r.types.shapes[signal.id]
	}
	return datatype.Shape{}
}

// typify asks a server that was just connected to what the signals are: fields
// of structures and names of numbers go into the signal table. What a server
// refuses costs only the signals it is about.
func (r *Reader) typify(ctx context.Context) error {
	ids, asked := make([]*ua.NodeID, len(r.nodes)), false
	for i := range r.nodes {
		switch r.table[i].Type {
		case mesh.TypeArray, mesh.TypeStruct, mesh.TypeInt, mesh.TypeUint:
			ids[i], asked = r.items[i].at, true
		case mesh.TypeNone, mesh.TypeBool, mesh.TypeDouble, mesh.TypeString, mesh.TypeBytes, mesh.TypeEvent:
		}
	}
	if !asked {
		return nil
	}
	book := datatype.NewBook()
	limited, cancel := context.WithTimeout(ctx, maxTypify)
	defer cancel()
	shapes, err := book.Shapes(limited, &r.sess, ids)
	if err != nil && limited.Err() != nil && ctx.Err() == nil {
		r.log.Warn("the server takes too long to say what values are made of: structures say it themselves", "after", maxTypify.String())
		book, shapes, err = datatype.NewBook(), make([]datatype.Shape, len(ids)), nil
	}
	if err != nil {
		return fmt.Errorf("read the signals' types: %w", err)
	}
	r.types.book, r.types.shapes = book, shapes
	r.types.dec.Use(book)
	return r.retable()
}

// retable makes the signal table of what the server says.
func (r *Reader) retable() error {
	table, fields := slices.Clone(r.table), 0
	for i := range r.nodes {
		s := r.types.shapes[i]
		row := s.Signal(table[i])
		if fields += count(row.Fields); fields > maxTableFields {
			r.log.Warn("the signal table is full: fields of this signal have no names", "signal", row.Name)
			row.Fields = nil
		}
		table[i] = row
		if s.Err != nil && s.Type != nil && row.Type == mesh.TypeStruct {
			r.log.Warn("the values of a signal can't be read", "signal", row.Name, "type", s.Type.Name, "error", s.Err.Error())
		}
	}
	if err := r.sealer.Retable(table); err != nil {
		return &fatalError{err}
	}
	r.table = table
	r.remember()
	return nil
}

// count is how large fields are in a table.
func count(fields []mesh.Field) int {
	n := 0
	for i := range fields {
		n += perField + len(fields[i].Name) + count(fields[i].Fields)
	}
	return n
}

// shaped is what a signal was at the last connect. Of many signals the state
// has only the first one by one: it stands in every commit.
type shaped struct {
	Signal int    `json:"signal"` // -1: all others
	Hash   uint32 `json:"hash"`
}

// remember tells which signals the server describes otherwise than at the connect
// before: whoever maps their fields or numbers has to look.
func (r *Reader) remember() {
	was := map[int]uint32{}
	for _, x := range r.state.Shapes {
		was[x.Signal] = x.Hash
	}
	var now []shaped
	var others []byte
	var changed []string
	for i := range r.nodes {
		t := r.types.shapes[i].Type
		old, known := was[i]
		switch {
		case t == nil || len(r.table[i].Fields) == 0 && r.table[i].Choices == nil:
			if known {
				now = append(now, shaped{i, old}) // it is not there at the moment
			}
		case len(now) >= maxShapes:
			others = append(strconv.AppendInt(others, int64(i), 10), outline(&r.table[i], t.Name, math.MaxInt)...)
		default:
			hash := fingerprint(outline(&r.table[i], t.Name, math.MaxInt))
			now = append(now, shaped{i, hash})
			if known && old != hash {
				changed = append(changed, r.table[i].Name+" is now "+outline(&r.table[i], t.Name, maxNamed))
			}
		}
	}
	if len(others) > 0 {
		hash := fingerprint(string(others))
		now = append(now, shaped{-1, hash})
		if old, known := was[-1]; known && old != hash {
			changed = append(changed, fmt.Sprintf("some signal beyond the first %d", maxShapes))
		}
	}
	r.state.Shapes, r.types.drift = now, ""
	r.tellDrift(changed)
}

// tellDrift says which signals have changed, in the log and where it is kept.
func (r *Reader) tellDrift(changed []string) {
	if len(changed) == 0 {
		return
	}
	text := strings.Join(changed[:min(len(changed), maxNamed)], "; ")
	if more := len(changed) - maxNamed; more > 0 {
		text += fmt.Sprintf("; and %d more", more)
	}
	r.types.drift = "mapping drift: the server describes values otherwise than at the last connect: " + text
	r.log.Warn("mapping drift: the server describes values otherwise than at the last connect", "signals", text)
	at := r.now()
	r.sealer.Void(r.void(mesh.CauseUnreadable, mesh.Span{From: at, To: at}, r.types.drift))
}

// shapeText is what the status says of it.
func (r *Reader) shapeText() string {
	if r.types.drift == "" {
		return ""
	}
	return "; " + r.types.drift
}

func fingerprint(text string) uint32 { return crc32.ChecksumIEEE([]byte(text)) }

// outline says what a signal is, with so many of its fields, or of the names of its
// numbers, at each depth.
func outline(row *mesh.Signal, name string, most int) string {
	inside := fieldsText(row.Fields, most)
	if inside == "" {
		inside = choicesText(row.Choices, most)
	}
	if inside == "" {
		return row.Type.String() + " of " + name
	}
	return name + " (" + inside + ")"
}

func fieldsText(fields []mesh.Field, most int) string {
	var parts []string
	for i := range fields {
		f := &fields[i]
		if len(parts) == most {
			parts = append(parts, "...")
			break
		}
		part := f.Name
		if most > maxNamed { // for a fingerprint
			part += " " + f.Type.String() + choicesText(f.Choices, most)
		}
		inside := fieldsText(f.Fields, most)
		if inside != "" && (f.Name == "" || most > maxNamed) {
			part += "(" + inside + ")"
		}
		parts = append(parts, part)
	}
	return strings.Join(parts, ", ")
}

func choicesText(c *mesh.Choices, most int) string {
	if c == nil {
		return ""
	}
	var parts []string
	for _, x := range c.List {
		if len(parts) == most {
			parts = append(parts, "...")
			break
		}
		parts = append(parts, strconv.FormatInt(x.Number, 10)+"="+x.Text)
	}
	return strings.Join(parts, ", ")
}

// prepare asks for the types of structures in a message that the nodes did not
// announce, as those of abstract types. It comes before anything of the message
// is taken: where the connection breaks here, the message is asked for again.
func (r *Reader) prepare(ctx context.Context, in *channel.Answer) error {
	if r.types.book == nil || !in.Extensions {
		return nil
	}
	for i := range in.Values {
		v := &in.Values[i]
		if v.Type < publish.TypeExtension {
			continue // which most are
		}
		if place, _, ours := r.state.signal(v.Handle); ours && place < len(r.nodes) {
			if err := r.learn(ctx, place, v); err != nil {
				return err
			}
		}
	}
	return nil
}

// learn asks for the types of structures in a value of signal i that are not known.
func (r *Reader) learn(ctx context.Context, i int, v *publish.Value) error {
	if r.types.book == nil || v.Type < publish.TypeExtension || v.Type == publish.TypeDiagnostic {
		return nil
	}
	for {
		unknown := r.unlearned(i, v)
		if unknown == nil {
			return nil
		}
		asked, err := r.types.book.Learn(ctx, &r.sess, unknown)
		if err != nil {
			return fmt.Errorf("ask for a type: %w", err)
		}
		if !asked {
			return nil
		}
	}
}

// unlearned is the first structure in a value that the server was not asked about.
// What else is wrong is said where the value is taken.
func (r *Reader) unlearned(i int, v *publish.Value) *datatype.UnknownError {
	_, _, err := r.types.dec.Variant(v.Bytes, r.types.shapes[i])
	if e, ok := errors.AsType[*datatype.UnknownError](err); ok && e.Why == nil {
		return e
	}
	return nil
}
