package plant

import (
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"

	"plantmesh/proto/answer"
	"plantmesh/proto/strict"
	"plantmesh/proto/subject"
)

// MaxTable bounds a table that is imported, in bytes.
const MaxTable = 1 << 20

// columns are those of a table, before the ones that have a point in their name.
func columns() []string {
	return []string{"id", "enterprise", "site", "area", "line", "name", "kind", "model", "owner", "source", "signals_prefix"}
}

// grouped are columns as "external_ids.maximo".
func grouped() []string {
	return []string{"external_ids.", "ideal_cycle_seconds.", "signals.", "states."}
}

// Report is what an import does, or would do.
type Report struct {
	Rows   int      `json:"rows"`
	Add    []string `json:"add"`
	Change []Edit   `json:"change"`
	Same   int      `json:"same"`
	Faults Faults   `json:"faults"`
}

// Edit is a machine that an import changes, and in what.
type Edit struct {
	ID     string   `json:"id"`
	Fields []string `json:"fields"`
}

// Import reads a table of machines, with a head that names its columns, comma or
// semicolon between. A row is of the machine with its id, or else with one of its external
// ids; an empty cell changes nothing. A machine without a source is planned. Those that are
// as the table says are put, too: what is so today may have been otherwise before, which who
// makes the change sees; Report.Done then says what it was.
func (s *Scene) Import(table []byte) (d Delta, r Report) {
	r = Report{Add: []string{}, Change: []Edit{}, Faults: Faults{}}
	head, rows, fault := read(table)
	if fault != nil {
		r.Faults = append(r.Faults, *fault)
		return d, r
	}
	if r.Faults = append(r.Faults, checkHead(head)...); len(r.Faults) > 0 {
		return d, r
	}
	r.Rows = len(rows)
	seen := map[string]int{}
	for i, row := range rows {
		at := i + 2 // as spreadsheets count: the head is row 1
		was, m, faults := s.row(head, row)
		if m.ID == "" {
			faults = append(faults, Fault{Field: "id", What: "is missing, and no machine has one of its external ids: write an id, or line and name"})
		} else {
			faults = append(faults, m.Check(s.Models)...)
		}
		if first := seen[m.ID]; first > 0 {
			faults = append(faults, Fault{ID: m.ID, Field: "id", What: fmt.Sprintf("is that of row %d, too", first)})
		}
		if m.ID != "" {
			seen[m.ID] = at
		}
		if was == nil && s.inFile(m.ID) {
			faults = append(faults, Fault{ID: m.ID, Field: "id", What: "stands in the site file: it is changed there"})
		}
		for _, f := range faults {
			f.Row = at
			r.Faults = append(r.Faults, f)
		}
		switch {
		case len(faults) > 0:
		case was == nil:
			r.Add = append(r.Add, m.ID)
			d.Put = append(d.Put, m)
		case same(*was, m):
			r.Same++
			d.Put = append(d.Put, m)
		default:
			r.Change = append(r.Change, Edit{m.ID, Fields(*was, m)})
			d.Put = append(d.Put, m)
		}
	}
	for _, f := range s.shared(d) {
		f.Row = seen[f.ID]
		r.Faults = append(r.Faults, f)
	}
	return d, r
}

// Done has the report say what was put in the end: of the machines that are as the table
// says, those that were otherwise at some time behind the change's begin.
func (r *Report) Done(put []string) {
	for _, id := range put {
		if !slices.Contains(r.Add, id) && !slices.ContainsFunc(r.Change, func(e Edit) bool { return e.ID == id }) {
			r.Same--
			r.Change = append(r.Change, Edit{id, []string{"valid_from"}})
		}
	}
}

// read is a table's head and rows.
func read(table []byte) (head []string, rows [][]string, fault *Fault) {
	if len(table) > MaxTable {
		return nil, nil, &Fault{What: fmt.Sprintf("the table is larger than %d KiB: import it in parts", MaxTable>>10)}
	}
	table = bytes.TrimPrefix(table, []byte("\xef\xbb\xbf"))
	dec := csv.NewReader(bytes.NewReader(table))
	first, _, _ := bytes.Cut(table, []byte("\n"))
	if bytes.Count(first, []byte(";")) > bytes.Count(first, []byte(",")) {
		dec.Comma = ';'
	}
	for {
		row, err := dec.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, nil, &Fault{Row: tableRow(head, rows), What: "can't be read: " + err.Error()}
		}
		if head == nil {
			head = row
			continue
		}
		if rows = append(rows, row); len(rows) > MaxMachines {
			return nil, nil, &Fault{What: fmt.Sprintf("the table has more than %d rows", MaxMachines)}
		}
	}
	if len(rows) == 0 {
		return nil, nil, &Fault{What: "the table is empty: its first line names the columns, as id,line,name,source,signals_prefix"}
	}
	for i := range head {
		group, name, point := strings.Cut(strings.TrimSpace(head[i]), ".")
		if head[i] = strings.ToLower(group); point {
			head[i] += "." + name
		}
	}
	return head, rows, nil
}

// tableRow is that behind those that were read.
func tableRow(head []string, rows [][]string) int {
	if head == nil {
		return 1
	}
	return len(rows) + 2
}

func checkHead(head []string) (out Faults) {
	for i, name := range head {
		if slices.Contains(head[:i], name) {
			out = append(out, Fault{Field: name, What: "is a column twice"})
		}
		if slices.Contains(columns(), name) || slices.ContainsFunc(grouped(), func(g string) bool { return strings.HasPrefix(name, g) && len(name) > len(g) }) {
			continue
		}
		what := "is no column"
		if near := strict.Nearest(name, columns()); near != "" {
			what += fmt.Sprintf("; did you mean %q?", near)
		} else {
			what += "; there are " + strings.Join(columns(), ", ") + ", and with a name behind the point " + strings.Join(grouped(), ", ")
		}
		out = append(out, Fault{Field: name, What: what})
	}
	return out
}

// row is the machine of a row, and what it was; nil: it is new.
func (s *Scene) row(head, row []string) (was *Machine, m Machine, faults Faults) {
	cells := cellsOf(head, row)
	if was = s.known(cells); was != nil {
		m = *was
		m.ExternalIDs, m.Signals, m.States, m.IdealCycleSeconds = maps.Clone(m.ExternalIDs), maps.Clone(m.Signals), maps.Clone(m.States), maps.Clone(m.IdealCycleSeconds)
		cells["id"] = was.ID
	} else if line, name := cells["line"], cells["name"]; cells["id"] == "" && line != "" && name != "" {
		cells["id"] = subject.Token(line) + "-" + subject.Token(name)
	}
	m.ID = cells["id"]
	fields := map[string]*string{
		"id": &m.ID, "area": &m.Area, "line": &m.Line, "name": &m.Name, "kind": &m.Kind, "model": &m.Model, "owner": &m.Owner, "source": &m.Source, "signals_prefix": &m.SignalsPrefix,
	}
	for _, name := range slices.Sorted(maps.Keys(cells)) {
		if field, ok := fields[name]; ok {
			*field = cells[name]
			continue
		}
		if name == "enterprise" || name == "site" {
			if what := s.elsewhere(name, cells[name]); what != "" {
				faults = append(faults, Fault{ID: m.ID, Field: name, What: what})
			}
			continue
		}
		if what := m.set(name, cells[name]); what != "" {
			faults = append(faults, Fault{ID: m.ID, Field: name, What: what})
		}
	}
	if m.Model != "" && !strings.Contains(m.Model, "@") {
		if of, err := s.ModelOf(m.Model); err == nil {
			m.Model = of.Ref()
		}
	}
	return was, m, faults
}

// elsewhere says why a row of another enterprise or site is none of this hub's.
func (s *Scene) elsewhere(level, cell string) string {
	here := map[string]string{"enterprise": s.Enterprise, "site": s.Site}[level]
	switch here {
	case cell:
		return ""
	case "":
		return fmt.Sprintf("is %q, and the site file names no %s: write it there, or leave the cell empty", cell, level)
	}
	return fmt.Sprintf("is %q, and this hub's is %q: leave the cell empty where the machine is to be here", cell, here)
}

// cellsOf are the cells of a row that say something, by column.
func cellsOf(head, row []string) map[string]string {
	cells := map[string]string{}
	for i, name := range head {
		cell := strings.TrimSpace(row[i])
		if rest, ok := strings.CutPrefix(cell, "'"); ok && answer.Cell(rest) == cell { // as exports guard it
			cell = rest
		}
		if cell != "" {
			cells[name] = cell
		}
	}
	return cells
}

// known is the machine that a row is of.
func (s *Scene) known(cells map[string]string) *Machine {
	if id := cells["id"]; id != "" {
		return s.Register.Find(id)
	}
	for i := range s.Register.Machines {
		m := &s.Register.Machines[i]
		for system, id := range m.ExternalIDs {
			if id == cells["external_ids."+system] {
				return m
			}
		}
	}
	return s.Register.Find(subject.Token(cells["line"]) + "-" + subject.Token(cells["name"])) // the same row as before
}

// set is a cell of a column with a point; what is wrong with it.
func (m *Machine) set(column, cell string) string {
	group, name, _ := strings.Cut(column, ".")
	switch group {
	case "external_ids":
		put(&m.ExternalIDs, name, cell)
	case "signals":
		put(&m.Signals, name, cell)
	case "states":
		n, err := strconv.ParseInt(cell, 10, 64)
		if err != nil {
			return fmt.Sprintf("%q is no number of a PackML state", cell)
		}
		put(&m.States, name, n)
	case "ideal_cycle_seconds":
		x, err := strconv.ParseFloat(strings.Replace(cell, ",", ".", 1), 64)
		if err != nil {
			return fmt.Sprintf("%q is no number of seconds", cell)
		}
		put(&m.IdealCycleSeconds, name, x)
	}
	return ""
}

func put[V any](m *map[string]V, name string, v V) {
	if *m == nil {
		*m = map[string]V{}
	}
	(*m)[name] = v
}

// Table is machines as a table that Import takes.
func (s *Scene) Table(machines []Machine) ([]byte, error) {
	head := columns()
	if s.Enterprise == "" {
		head = slices.DeleteFunc(head, func(c string) bool { return c == "enterprise" })
	}
	var more []string
	for i := range machines {
		for column := range machines[i].cells() {
			if !slices.Contains(head, column) && !slices.Contains(more, column) {
				more = append(more, column)
			}
		}
	}
	slices.Sort(more)
	head = append(head, more...)
	var b bytes.Buffer
	w := csv.NewWriter(&b)
	if err := w.Write(head); err != nil {
		return nil, fmt.Errorf("write the table: %w", err)
	}
	for i := range machines {
		cells, row := machines[i].cells(), make([]string, len(head))
		cells["enterprise"], cells["site"] = s.Enterprise, s.Site
		for k, column := range head {
			row[k] = answer.Cell(cells[column])
		}
		if err := w.Write(row); err != nil {
			return nil, fmt.Errorf("write the table: %w", err)
		}
	}
	w.Flush()
	if err := w.Error(); err != nil {
		return nil, fmt.Errorf("write the table: %w", err)
	}
	return b.Bytes(), nil
}

func (m *Machine) cells() map[string]string {
	out := map[string]string{
		"id": m.ID, "area": m.Area, "line": m.Line, "name": m.Name, "kind": m.Kind, "model": m.Model, "owner": m.Owner, "source": m.Source, "signals_prefix": m.SignalsPrefix,
	}
	for k, v := range m.ExternalIDs {
		out["external_ids."+k] = v
	}
	for k, v := range m.Signals {
		out["signals."+k] = v
	}
	for k, v := range m.States {
		out["states."+k] = strconv.FormatInt(v, 10)
	}
	for k, v := range m.IdealCycleSeconds {
		out["ideal_cycle_seconds."+k] = strconv.FormatFloat(v, 'g', -1, 64)
	}
	return out
}
