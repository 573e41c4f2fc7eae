package check

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
)

// Report is what all checks found: data of the answer plantmesh-edge/check/v1.
type Report struct {
	Summary Summary   `json:"summary"`
	Checks  []Outcome `json:"checks"`
	Seconds float64   `json:"duration_seconds"`
}

// Summary counts the checks by how they ended.
type Summary struct {
	OK       int `json:"ok"`
	Warnings int `json:"warnings"`
	Errors   int `json:"errors"` // fatal ones, too
	Skipped  int `json:"skipped"`
	Ignored  int `json:"ignored"`
}

func (s *Summary) count(k Kind) {
	switch k {
	case OK:
		s.OK++
	case Warning:
		s.Warnings++
	case Error, Fatal:
		s.Errors++
	case Skipped:
		s.Skipped++
	case Ignored:
		s.Ignored++
	}
}

// Outcome is what one check found.
type Outcome struct {
	ID      string         `json:"id"`
	Section string         `json:"section"`
	Source  string         `json:"source,omitempty"`
	Result  Kind           `json:"result"`
	Message string         `json:"message"`
	Why     string         `json:"why,omitempty"`
	Fix     string         `json:"fix,omitempty"`
	Doc     string         `json:"doc,omitempty"`
	Details map[string]any `json:"details,omitempty"`
	Repairs []Repair       `json:"repairs,omitempty"`
	Seconds float64        `json:"duration_seconds"`

	Err error `json:"-"`
}

// Repairs are those of all checks, each once.
func (r *Report) Repairs() (out []Repair) {
	for _, o := range r.Checks {
		for _, has := range o.Repairs {
			if !slices.ContainsFunc(out, func(other Repair) bool { return other.Does == has.Does }) {
				out = append(out, has)
			}
		}
	}
	return out
}

// Failed reports whether something has to be done; strict: warnings count, too.
func (r *Report) Failed(strict bool) bool {
	return r.Summary.Errors > 0 || strict && r.Summary.Warnings > 0
}

// mark is how a result is shown; a terminal that knows no more than ASCII shows the word
// in the message all the same.
func (k Kind) mark() string {
	switch k {
	case OK:
		return "✓"
	case Warning:
		return "!"
	case Error, Fatal:
		return "✗"
	case Skipped:
		return "·"
	case Ignored:
		return "-"
	}
	return "?"
}

// Print writes the report for a person: brief, only what is not in order.
func (r *Report) Print(w io.Writer, brief bool) error {
	var b strings.Builder
	section := ""
	for _, o := range r.Checks {
		if brief && o.Result != Warning && !o.Result.Red() {
			continue
		}
		title := titles()[o.Section]
		if o.Source != "" {
			title = "Source " + o.Source
		}
		if title != section {
			section = title
			b.WriteString(title + "\n")
		}
		fmt.Fprintf(&b, "  %s %-18s %s\n", o.Result.mark(), o.ID, o.Message)
		for _, line := range [][2]string{{"why", o.Why}, {"fix", o.Fix}, {"doc", o.Doc}} {
			if line[1] != "" {
				fmt.Fprintf(&b, "    %-18s %-4s %s\n", "", line[0], line[1])
			}
		}
	}
	b.WriteString(r.Line() + "\n")
	if _, err := io.WriteString(w, b.String()); err != nil {
		return fmt.Errorf("write the result: %w", err)
	}
	return nil
}

// Line is the result in one line.
func (r *Report) Line() string {
	s := r.Summary
	return fmt.Sprintf("%d ok · %s · %s · %d skipped · %d not applicable · %.1f s", s.OK, counted(s.Warnings, "warning"), counted(s.Errors, "error"), s.Skipped, s.Ignored, r.Seconds)
}

func counted(n int, what string) string {
	if n != 1 {
		what += "s"
	}
	return fmt.Sprintf("%d %s", n, what)
}

// Red names the checks by which something has to be done, in their order.
func (r *Report) Red(strict bool) (out []string) {
	for _, o := range r.Checks {
		if o.Result.Red() || strict && o.Result == Warning {
			out = append(out, strings.TrimSpace(o.ID+" "+o.Source))
		}
	}
	return out
}

// States of a plugin of Nagios (Monitoring Plugins Development Guidelines, 2.5).
const (
	nagiosOK       = 0
	nagiosWarning  = 1
	nagiosCritical = 2
)

// Nagios is the report as such a plugin writes it: one line with counts behind a bar, and
// its exit code.
func (r *Report) Nagios() (line string, code int) {
	s, state := r.Summary, "OK"
	switch {
	case s.Errors > 0:
		state, code = "CRITICAL", nagiosCritical
	case s.Warnings > 0:
		state, code = "WARNING", nagiosWarning
	default:
		code = nagiosOK
	}
	text := fmt.Sprintf("%d checks ok", s.OK)
	for _, o := range r.Checks {
		if o.Result.Red() || code == nagiosWarning && o.Result == Warning {
			text = strings.TrimSpace(o.ID+" "+o.Source) + ": " + o.Message
			break
		}
	}
	text = strings.ReplaceAll(text, "|", "/") // behind it stand counts
	return fmt.Sprintf("PLANTMESH-EDGE %s - %s | ok=%d warnings=%d errors=%d skipped=%d time=%.1fs", state, text, s.OK, s.Warnings, s.Errors, s.Skipped, r.Seconds), code
}

// List is the catalogue for people.
func List() string {
	var b strings.Builder
	for _, e := range Catalogue() {
		fmt.Fprintf(&b, "%-14s %-18s %s\n", e.Section, e.ID, e.Looks)
	}
	return b.String()
}

// Page is the catalogue as documentation: a heading of each check is what doc leads to.
func Page() string {
	var b strings.Builder
	b.WriteString("# Checks of a gateway\n\n`plantmesh-edge check` runs them; `--list` names them. This page is made from the catalogue\n(catalogue.go), and a test compares them.\n")
	section := ""
	for _, e := range Catalogue() {
		if e.Section != section {
			section = e.Section
			fmt.Fprintf(&b, "\n## %s\n", titles()[section])
		}
		fmt.Fprintf(&b, "\n### %s\n\nLooks at %s.\nWhy: %s.\nFix: %s.\n", e.ID, e.Looks, e.Why, cmp.Or(e.Fix, "as the check says"))
	}
	return b.String()
}
