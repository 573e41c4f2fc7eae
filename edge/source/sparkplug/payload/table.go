package payload

import "fmt"

// table reads a DataSet.
func (d *Decoder) table(was *DataSet, b []byte) *DataSet {
	t := d.tables.one(was)
	columns, rows := count(b, 2, 4)
	types := countTypes(b)
	if !d.spend(columns + rows + types) {
		return t
	}
	t.Columns, t.Rows, t.Types = d.texts.take(columns), d.rows.take(rows), d.types.take(types)[:0]
	r, cells := reader{b: b}, 0
	columns, rows = 0, 0
	for d.err == nil && r.next() {
		switch r.num {
		case 1:
			t.Width = r.varint()
		case 2:
			t.Columns[columns] = r.text()
			columns++
		case 3:
			t.Types = r.types(t.Types)
		case 4:
			cells += d.row(&t.Rows[rows], r.bytes(), MaxElements-cells)
			rows++
		default:
			r.skip()
		}
	}
	d.end(&r)
	return t
}

// countTypes is how many column types a DataSet has: each in a field, or several
// packed in one, as protobuf allows.
func countTypes(b []byte) (n int) {
	r := reader{b: b}
	for r.next() {
		if r.num != 3 || r.wire != wireBytes {
			if r.num == 3 {
				n++
			}
			r.skip()
			continue
		}
		for _, c := range r.bytes() {
			if c < 0x80 { // the last byte of a number
				n++
			}
		}
	}
	return n
}

// types appends the types of the field at hand; there is room for them.
func (r *reader) types(out []Type) []Type {
	if r.wire != wireBytes {
		return append(out, Type(r.varint()))
	}
	in := reader{b: r.bytes()}
	for len(in.b) > 0 {
		t := Type(in.uvarint())
		if in.err != nil {
			r.fail(in.err)
			return out
		}
		out = append(out, t)
	}
	return out
}

// row reads the cells of a row and says how many there were.
func (d *Decoder) row(row *Row, b []byte, most int) int {
	n, _ := count(b, 1, 0)
	if n > most {
		d.fail(fmt.Errorf("%w: a data set of more than %d cells", ErrLimit, MaxElements))
	}
	if d.err != nil || !d.spend(n) {
		return n
	}
	row.Cells = d.values.take(n)
	r, at := reader{b: b}, 0
	for d.err == nil && r.next() {
		if r.num != 1 {
			r.skip()
			continue
		}
		in := reader{b: r.bytes()}
		for in.next() {
			in.value(&row.Cells[at], cellFields())
		}
		d.end(&in)
		at++
	}
	d.end(&r)
	return n
}
