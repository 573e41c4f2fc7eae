package browse

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Proposal is a source file that would read machines.
type Proposal struct {
	ID       string    // of the source
	Endpoint string    // of the server
	Security []string  // lines of its section security, without indent; empty: protected, as by default
	Machines []Machine // in the order of the file
	Preview  *Preview  // nil: nothing was measured
}

// Items is how many signals the file has.
func (p *Proposal) Items() (n int) {
	for _, m := range p.Machines {
		n += len(m.Signals)
	}
	return n
}

// YAML is the file, with the reasons as comments. It is what the agent takes.
func (p *Proposal) YAML() string {
	var b strings.Builder
	fmt.Fprintf(&b, "# Proposed by plantmesh-edge browse %s\n", comment(p.Endpoint))
	if p.Preview != nil {
		for line := range strings.Lines(p.Preview.Text()) {
			b.WriteString("# " + line)
		}
	}
	fmt.Fprintf(&b, "opcua:\n  id: %s\n  endpoint: %s\n", strconv.Quote(p.ID), strconv.Quote(p.Endpoint))
	if len(p.Security) > 0 {
		b.WriteString("  security:\n")
		for _, line := range p.Security {
			fmt.Fprintf(&b, "    %s\n", line)
		}
	}
	b.WriteString("  signals:\n")
	for _, m := range p.Machines {
		m.yaml(&b)
	}
	return b.String()
}

func (m *Machine) yaml(b *strings.Builder) {
	fmt.Fprintf(b, "    # %s: %s, score %d\n", comment(m.Name), strings.Join(m.Specs, ", "), m.Score)
	for _, w := range m.Why {
		fmt.Fprintf(b, "    #   %s\n", comment(w))
	}
	for _, s := range m.Signals {
		fmt.Fprintf(b, "    - {name: %s, type: %s, ", s.Name, s.Type)
		if s.Unit != "" {
			fmt.Fprintf(b, "unit: %s, ", strconv.Quote(s.Unit))
		}
		fmt.Fprintf(b, "node: %s}", strconv.Quote(s.Node))
		if s.Role != "" {
			fmt.Fprintf(b, " # %s: %s", s.Role, comment(s.Why))
		}
		b.WriteByte('\n')
	}
	for _, l := range m.Left {
		fmt.Fprintf(b, "    # left out: %s\n", comment(l))
	}
	for _, l := range m.lacks() {
		fmt.Fprintf(b, "    # no %s (%s)%s: leaves empty %s\n", l.role, means(l.role), comment(l.near), strings.Join(l.fields, ", "))
	}
}

// comment is a text that can't leave its comment.
func comment(s string) string { return strings.ReplaceAll(cut(s, 4*maxName), "\n", " ") }

// Preview is what reading the proposed file would cost.
type Preview struct {
	Sessions        int      `json:"sessions"`
	Items           int      `json:"items"`
	ValuesPerSecond float64  `json:"values_per_second"`
	MeasuredSeconds float64  `json:"measured_seconds"`
	Fast            int      `json:"faster_than_measured"` // items that changed each time they were looked at
	Every           float64  `json:"looked_at_every_seconds"`
	BytesPerValue   float64  `json:"bytes_per_value"`
	BytesPerDay     float64  `json:"bytes_per_day"` // in the agent's log
	WrittenPerDay   float64  `json:"written_bytes_per_day"`
	BufferHours     *float64 `json:"buffer_hours"` // until the buffer is full while the hub is away
	BufferBytes     int64    `json:"buffer_bytes"`
	Basis           string   `json:"basis"` // where the bytes come from, in words
	Filled          []string `json:"filled"`
	Empty           []string `json:"empty"` // fields of products that stay empty, and why
}

// Text is the preview in words.
func (p *Preview) Text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d session, %d items, %.1f values/s (counted for %.0f s, each looked at every %.2g s", p.Sessions, p.Items, p.ValuesPerSecond, p.MeasuredSeconds, p.Every)
	if p.Fast > 0 {
		fmt.Fprintf(&b, "; %d changed every time and may be faster", p.Fast)
	}
	fmt.Fprintf(&b, ")\n%.1f MB a day kept, %.1f MB a day written to disk (%s)\n", p.BytesPerDay/1e6, p.WrittenPerDay/1e6, cmp.Or(p.Basis, "not known"))
	if p.BufferHours != nil {
		fmt.Fprintf(&b, "buffer: %.0f hours without the hub in %.1f GiB, if this were its only source\n", *p.BufferHours, float64(p.BufferBytes)/(1<<30))
	}
	if len(p.Filled) > 0 {
		fmt.Fprintf(&b, "fed: %s\n", strings.Join(p.Filled, ", "))
	}
	for _, e := range p.Empty {
		fmt.Fprintf(&b, "stays empty: %s\n", e)
	}
	return b.String()
}

// lack is a role that a machine doesn't have, and what stays empty for it.
type lack struct {
	role, near string
	fields     []string
}

// lacks are the roles that are missing, in the order in which products ask for them.
func (m *Machine) lacks() (out []lack) {
	for _, g := range m.Empty {
		for _, r := range g.Lacks {
			at := slices.IndexFunc(out, func(l lack) bool { return l.role == r })
			if at < 0 {
				at = len(out)
				out = append(out, lack{role: r, near: m.near[r]})
			}
			out[at].fields = append(out[at].fields, g.Product+"."+g.Field.Field)
		}
	}
	return out
}

// Feeds says which fields of products are fed, and which stay empty of how many
// machines for want of which role.
func Feeds(machines []Machine) (filled, empty []string) {
	gaps := map[string]bool{}
	for _, m := range machines {
		for _, g := range m.Empty {
			gaps[g.Product+"."+g.Field.Field] = true
		}
	}
	for _, f := range Fields() {
		name := f.Product + "." + f.Field
		if gaps[name] {
			continue
		}
		if f.Site != "" {
			name += " (with " + f.Site + " in the site file)"
		}
		filled = append(filled, name)
	}
	return filled, wants(machines)
}

// wants are the roles that machines lack, one line for each.
func wants(machines []Machine) (empty []string) {
	for _, r := range roles() {
		var of, fields []string
		for i := range machines {
			for _, l := range machines[i].lacks() {
				if l.role == r.name {
					of, fields = append(of, machines[i].Name), l.fields
				}
			}
		}
		if len(of) > 0 {
			named := strings.Join(of[:min(len(of), maxNamed)], ", ")
			if more := len(of) - maxNamed; more > 0 {
				named += fmt.Sprintf(" and %d more", more)
			}
			empty = append(empty, fmt.Sprintf("%s of %s: no %s (%s)", strings.Join(fields, ", "), named, r.name, r.means))
		}
	}
	return empty
}

// maxNamed is how many machines one line names.
const maxNamed = 8
