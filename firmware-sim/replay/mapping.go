package replay

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"strconv"
	"time"

	"plantmesh/proto/strict"
)

// mapping says what the columns of a recording are.
type mapping struct {
	AssetColumn   string    `yaml:"asset_column"`
	EndColumn     string    `yaml:"end_column"`     // the instant a segment ends
	EndLayout     string    `yaml:"end_layout"`     // how it is written (Go's reference time)
	SecondsColumn string    `yaml:"seconds_column"` // its length, in whole seconds
	StatusColumn  string    `yaml:"status_column"`
	ProductColumn string    `yaml:"product_column"`
	Counters      []counter `yaml:"counters"`
	Statuses      []status  `yaml:"statuses"`
	Assets        []asset   `yaml:"assets"`
}

// counter is a column that adds up.
type counter struct {
	Role         string `yaml:"role"`
	Column       string `yaml:"column"`        // whole numbers
	TimesSeconds bool   `yaml:"times_seconds"` // the column is a rate: multiplied by the segment's seconds
	Unit         string `yaml:"unit"`          // UNECE Rec 20 common code
}

// status is a recorded status as PackML.
type status struct {
	Status int64 `yaml:"status"`
	State  int64 `yaml:"state"` // 0 to 17
	Mode   int64 `yaml:"mode"`  // 1 Produce, 2 Maintenance, 3 Manual
}

// asset is a recorded machine and where it stands.
type asset struct {
	Asset   string `yaml:"asset"` // value of the asset column
	Source  string `yaml:"source"`
	Line    string `yaml:"line"`
	Machine string `yaml:"machine"`
}

func (a asset) signal(role string) string { return a.Line + "." + a.Machine + "." + role }

// segment is one row.
type segment struct {
	line       int // in the file
	start, end time.Time
	as         status
	product    string
	counts     []int64 // by counter: what the segment adds
}

func loadMap(path string) (*mapping, error) {
	m := new(mapping)
	doc, err := strict.Load(path, m)
	if err != nil {
		return nil, err
	}
	for _, c := range []struct{ key, value string }{
		{"asset_column", m.AssetColumn},
		{"end_column", m.EndColumn},
		{"end_layout", m.EndLayout},
		{"seconds_column", m.SecondsColumn},
		{"status_column", m.StatusColumn},
		{"product_column", m.ProductColumn},
	} {
		if c.value == "" {
			return nil, doc.Fault("$."+c.key, "%s is missing", c.key)
		}
	}
	for i, c := range m.Counters {
		if c.Role == "" || c.Column == "" {
			return nil, doc.Fault(fmt.Sprintf("$.counters[%d]", i), "a counter needs role and column")
		}
	}
	for i, s := range m.Statuses {
		if s.State < 0 || s.State > 17 {
			return nil, doc.Fault(fmt.Sprintf("$.statuses[%d].state", i), "state %d is no PackML state: write 0 to 17", s.State)
		}
	}
	if len(m.Assets) == 0 {
		return nil, doc.Fault("$.assets", "assets is missing: nothing would be played")
	}
	for i, a := range m.Assets {
		if a.Asset == "" || a.Source == "" || a.Line == "" || a.Machine == "" {
			return nil, doc.Fault(fmt.Sprintf("$.assets[%d]", i), "an asset needs asset, source, line and machine")
		}
	}
	return m, nil
}

// columns are the places of the named columns in a row.
type columns struct {
	asset, end, seconds, status, product int
	counters                             []int
}

func (m *mapping) columns(head []string) (c columns, missing string) {
	find := func(name string) int {
		i := slices.Index(head, name)
		if i < 0 && missing == "" {
			missing = name
		}
		return i
	}
	c = columns{
		asset: find(m.AssetColumn), end: find(m.EndColumn), seconds: find(m.SecondsColumn),
		status: find(m.StatusColumn), product: find(m.ProductColumn),
	}
	for _, k := range m.Counters {
		c.counters = append(c.counters, find(k.Column))
	}
	return c, missing
}

// read gives the segments of the recording by asset, in the order of the file.
func (m *mapping) read(path string) (map[string][]segment, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, &strict.Fault{File: path, What: "can't be read: " + err.Error()}
	}
	defer file.Close() //nolint:errcheck // nothing was written
	r := csv.NewReader(file)
	r.ReuseRecord = true
	head, err := r.Read()
	if err != nil {
		return nil, &strict.Fault{File: path, Line: 1, What: "no header: " + err.Error()}
	}
	c, missing := m.columns(head)
	if missing != "" {
		return nil, &strict.Fault{File: path, Line: 1, What: fmt.Sprintf("no column %q", missing), Nearest: strict.Nearest(missing, head)}
	}
	played := map[string]bool{}
	for _, a := range m.Assets {
		played[a.Asset] = true
	}
	out := map[string][]segment{}
	for {
		row, err := r.Read()
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return nil, &strict.Fault{File: path, What: err.Error()}
		}
		if !played[row[c.asset]] {
			continue
		}
		line, _ := r.FieldPos(0)
		s, err := m.segment(row, c)
		if err != nil {
			return nil, &strict.Fault{File: path, Line: line, What: err.Error()}
		}
		s.line = line
		out[row[c.asset]] = append(out[row[c.asset]], s)
	}
}

func (m *mapping) segment(row []string, c columns) (segment, error) {
	var s segment
	end, err := time.Parse(m.EndLayout, row[c.end])
	if err != nil {
		return s, fmt.Errorf("read %s: %q is not written as %q", m.EndColumn, row[c.end], m.EndLayout)
	}
	seconds, err := whole(row[c.seconds])
	if err != nil || seconds < 0 {
		return s, fmt.Errorf("read %s: %q is no whole number of seconds", m.SecondsColumn, row[c.seconds])
	}
	code, err := whole(row[c.status])
	if err != nil {
		return s, fmt.Errorf("read %s: %w", m.StatusColumn, err)
	}
	i := slices.IndexFunc(m.Statuses, func(x status) bool { return x.Status == code })
	if i < 0 {
		return s, fmt.Errorf("read %s: status %d is not in the map", m.StatusColumn, code)
	}
	s.end = end.UTC()
	s.start = s.end.Add(-time.Duration(seconds) * time.Second)
	s.as, s.product = m.Statuses[i], row[c.product]
	for k, at := range c.counters {
		n, err := whole(row[at])
		if err != nil {
			return s, fmt.Errorf("read %s: %w", m.Counters[k].Column, err)
		}
		if m.Counters[k].TimesSeconds {
			n *= seconds
		}
		s.counts = append(s.counts, n)
	}
	return s, nil
}

// whole is a whole number, also where it is written "4.0".
func whole(text string) (int64, error) {
	const exact = 1 << 53 // a float64 beyond may have lost its last digits
	v, err := strconv.ParseFloat(text, 64)
	if err != nil || v != math.Trunc(v) || math.Abs(v) > exact {
		return 0, fmt.Errorf("%q is no whole number", text)
	}
	return int64(v), nil
}
