package product

import "fmt"

// Stretch is a part of every day, local clock times, for people to read.
type Stretch struct{ ID, Start, End string }

func (c clockTime) String() string { return fmt.Sprintf("%02d:%02d", c/60%24, c%60) }

// Shifts are the site's shifts as its file says them.
func (c *Calendar) Shifts() (out []Stretch) { return stretches(c.shifts) }

// Breaks are the site's planned breaks.
func (c *Calendar) Breaks() (out []Stretch) { return stretches(c.breaks) }

func stretches(in []shift) (out []Stretch) {
	for _, s := range in {
		out = append(out, Stretch{ID: s.id, Start: s.from.String(), End: s.to.String()})
	}
	return out
}
