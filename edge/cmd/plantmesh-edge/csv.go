package main

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"

	"plantmesh/edge/source/opcua/browse"
	"plantmesh/proto/answer"
)

// columns are those of --csv: where a node stands and what it is; its value, where
// values were read; and of recognised machines what a source file would call it.
func columns() []string {
	return []string{
		"path", "name", "node", "class", "data_type", "type", "array", "unit", "access", "namespace",
		"value", "status", "source_time", "machine", "signal", "role",
	}
}

// csv writes the nodes that words would show, for a spreadsheet.
func (t *tree) csv(to io.Writer, machines []browse.Machine) error {
	type place struct {
		machine string
		signal  browse.Signal
	}
	proposed := map[string]place{}
	for _, m := range machines {
		for _, s := range m.Signals {
			proposed[s.Node] = place{m.Name, s}
		}
	}
	w := csv.NewWriter(to)
	err := w.Write(columns())
	row := make([]string, 0, len(columns()))
	for i := range t.nodes {
		n := &t.nodes[i]
		if err != nil || !t.shows(n) {
			continue
		}
		array, value, status, at := "", "", "", ""
		if n.Class == "variable" {
			array = strconv.FormatBool(n.Array)
		}
		if v := n.Value; v != nil {
			value, status = v.Text, v.Status
			if v.Source != nil {
				at = v.Source.Format(time.RFC3339Nano)
			}
		}
		p := proposed[n.ID]
		row = append(row[:0], t.path(n), n.Name, n.ID, n.Class, n.DataType, n.Kind, array, n.Unit, n.Access, n.Namespace, value, status, at, p.machine, p.signal.Name, p.signal.Role)
		for i, text := range row {
			row[i] = answer.Cell(browse.Printable(text)) // who names a node is not trusted
		}
		err = w.Write(row)
	}
	w.Flush()
	if err = errors.Join(err, w.Error()); err != nil {
		return fmt.Errorf("write the result: %w", err)
	}
	return nil
}
