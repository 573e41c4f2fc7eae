package product

import (
	"crypto/sha256"
	"embed"
	"fmt"
	"slices"

	"plantmesh/proto/strict"
)

//go:embed definitions
var definitions embed.FS

// FoldKind is how a product is made of its inputs.
type FoldKind string

// Ways to make a product.
const (
	FoldIntervals FoldKind = "intervals" // rows are maximal runs of one state
	FoldWindows   FoldKind = "windows"   // rows are hours, shifts and days
	FoldCoverage  FoldKind = "coverage"  // rows are gaps of a source
	FoldSamples   FoldKind = "samples"   // rows are the samples; a view, never stored
)

// Measure says what a window row measures.
type Measure string

// Measures of windows.
const (
	MeasureRate Measure = "rate" // counts, rate, energy
	MeasureOEE  Measure = "oee"  // time elements and ratios of ISO 22400-2
)

// Definition is one product: how it is made, and what it promises.
type Definition struct {
	ID          string
	Title       string
	Description string
	Version     string // of the contract; rows carry it
	Fold        FoldKind
	Measure     Measure
	Windows     []WindowKind
	Columns     []string // in the order of the contract
	ODPS, ODCS  []byte   // YAML, ODPS v1.0.0 and ODCS v3.1.0
	Types       []Typed  // of the contract's columns, the envelope's among them

	columns map[string]bool
}

// Typed is a column with its logical type of ODCS.
type Typed struct{ Name, Type string }

// foldVersion is raised whenever the same inputs make other states or rows: what
// was cached before must not be used then. TestMade_IsRaisedWithTheFold says so.
const foldVersion = 4

// Made names how the product is made. States and rows of another name are not to
// be gone on from.
func (d *Definition) Made() string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%q", []any{d.ID, d.Version, d.Fold, d.Measure, d.Windows, d.Columns}))
	return fmt.Sprintf("%d-%x", foldVersion, sum[:8])
}

// assemblyFile is assembly.yaml of a product's folder.
type assemblyFile struct {
	ID          string   `yaml:"id"` // as the folder
	Title       string   `yaml:"title"`
	Description string   `yaml:"description"` // one sentence: what one row is
	Version     string   `yaml:"version"`     // of the contract
	Inputs      []string `yaml:"inputs"`      // roles of signals, or "proofs"
	Fold        string   `yaml:"fold"`        // intervals, windows, coverage or samples
	Measure     string   `yaml:"measure"`     // of windows: rate or oee
	Windows     []string `yaml:"windows"`     // hour, shift, day
	Columns     []string `yaml:"columns"`     // what of the fold is in a row, in the order of the contract
}

// Definitions are the built-in products, by id.
func Definitions() ([]*Definition, error) {
	dirs, err := definitions.ReadDir("definitions")
	if err != nil {
		return nil, fmt.Errorf("read the product definitions: %w", err)
	}
	var out []*Definition
	for _, dir := range dirs {
		id := dir.Name()
		files := map[string][]byte{}
		for _, name := range []string{"assembly.yaml", id + ".odps.yaml", id + ".odcs.yaml"} {
			b, err := definitions.ReadFile("definitions/" + id + "/" + name)
			if err != nil {
				return nil, fmt.Errorf("read product %s: %w", id, err)
			}
			files[name] = b
		}
		d, err := ParseDefinition(id, files)
		if err != nil {
			return nil, err
		}
		out = append(out, d)
	}
	return out, nil
}

// ParseDefinition reads the files of a product's folder, by name:
// assembly.yaml, <id>.odps.yaml and <id>.odcs.yaml. Faults are *strict.Fault.
func ParseDefinition(id string, files map[string][]byte) (*Definition, error) {
	name := id + "/assembly.yaml"
	for _, need := range []string{"assembly.yaml", id + ".odps.yaml", id + ".odcs.yaml"} {
		if len(files[need]) == 0 {
			return nil, &strict.Fault{File: id + "/" + need, What: "no such file"}
		}
	}
	var f assemblyFile
	doc, err := strict.Parse(name, files["assembly.yaml"], &f)
	if err != nil {
		return nil, err
	}
	d := &Definition{
		ID: f.ID, Title: f.Title, Description: f.Description, Version: f.Version,
		Fold: FoldKind(f.Fold), Measure: Measure(f.Measure), Columns: f.Columns, columns: map[string]bool{},
	}
	if f.ID != id {
		return nil, doc.Fault("$.id", "product %q lies in folder %q", f.ID, id)
	}
	for i, w := range f.Windows {
		d.Windows = append(d.Windows, WindowKind(w))
		if !slices.Contains([]WindowKind{WindowHour, WindowShift, WindowDay}, WindowKind(w)) {
			return nil, doc.Fault(fmt.Sprintf("$.windows[%d]", i), "%q is no window: write hour, shift or day", w)
		}
	}
	all, err := d.offered()
	if err != nil {
		return nil, doc.Fault("$.fold", "%v", err)
	}
	for i, c := range f.Columns {
		if !slices.Contains(all, c) {
			fault := &strict.Fault{File: name, What: fmt.Sprintf("column %q at %d is none of this fold", c, i+1), Nearest: strict.Nearest(c, all)}
			return nil, fault
		}
		d.columns[c] = true
	}
	d.ODPS, d.ODCS = files[id+".odps.yaml"], files[id+".odcs.yaml"]
	d.Types, err = contractTypes(id+"/"+id+".odcs.yaml", d.ODCS)
	return d, err
}

// contractTypes reads of a contract what its columns are; all else of it is
// for people and other tools.
func contractTypes(name string, odcs []byte) (out []Typed, err error) {
	var all map[string]any
	if _, err := strict.Parse(name, odcs, &all); err != nil {
		return nil, err
	}
	schemas, _ := all["schema"].([]any)
	for _, s := range schemas {
		schema, _ := s.(map[string]any)
		properties, _ := schema["properties"].([]any)
		for _, p := range properties {
			property, _ := p.(map[string]any)
			column, _ := property["name"].(string)
			logical, _ := property["logicalType"].(string)
			out = append(out, Typed{column, logical})
		}
	}
	return out, nil
}

// offered are the columns a fold can give.
func (d *Definition) offered() ([]string, error) {
	window := []string{
		"equipment", "line", "window", "from", "to", "shift_id", "production_day", "produced_count", "good_count",
		"scrap_count", "unknown_seconds", "coverage_ratio", "mapping_version",
	}
	switch {
	case d.Fold == FoldIntervals:
		return []string{
			"equipment", "line", "from", "to", "duration_seconds", "state", "state_number", "mode", "mode_number",
			"packml_state", "packml_name", "cause", "element", "reason", "reason_text", "mapping_version",
		}, nil
	case d.Fold == FoldCoverage:
		return []string{"source", "from", "to", "seconds", "cause", "count", "note"}, nil
	case d.Fold == FoldSamples:
		return []string{"signal", "equipment", "role", "time", "key", "value", "text", "type", "unit", "status", "quality", "flags", "marks", "derived_from", "derived_by"}, nil
	case d.Fold == FoldWindows && d.Measure == MeasureRate:
		return append(window, "items_count", "rate_per_hour", "ideal_rate_per_hour", "ideal_rate_reason", "energy_kwh", "counter_resets_count", "flags"), nil
	case d.Fold == FoldWindows && d.Measure == MeasureOEE:
		return append(window, "pbt_seconds", "apt_seconds", "aust_seconds", "adet_seconds", "adot_seconds", "planned_stop_seconds",
			"ideal_seconds", "ideal_good_seconds", "availability_ratio", "availability_reason", "effectiveness_ratio", "effectiveness_reason",
			"quality_ratio", "quality_reason", "oee_ratio", "oee_reason", "nee_ratio", "nee_reason", "flags"), nil
	}
	return nil, fmt.Errorf("%q with measure %q is no fold: write intervals, coverage, samples, or windows with measure rate or oee", d.Fold, d.Measure)
}

// Takes reports whether the fold of this product looks at a role.
func (d *Definition) Takes(r Role) bool {
	switch d.Fold {
	case FoldIntervals:
		return r == RoleState || r == RoleMode || r == RoleOrder || r == RoleProduct || r == RoleStopReason
	case FoldWindows:
		return r != RoleOther && (r != RoleStopReason)
	case FoldCoverage, FoldSamples:
	}
	return false
}
