package mapping

import (
	"errors"
	"fmt"
	"time"

	"plantmesh/edge/source"
	"plantmesh/proto/mesh"
)

// Stamps outside of these years are no times at all.
const (
	earliest mesh.Nanos = 631_152_000e9   // 1990-01-01
	latest   mesh.Nanos = 4_102_444_800e9 // 2100-01-01
)

// ErrNoTime is for a payload, or a part of one, whose time nobody can tell.
var ErrNoTime = errors.New("payload has no usable time")

// form is how a time is written.
type form struct {
	power int32 // of ten: nanoseconds in a unit
	whole bool  // a number of units has no fraction
	text  bool  // a date and a time of day in words
	auto  bool  // any of these
	zone  *time.Location
}

// forms are the names of time_unit.
const forms = "s, ms, us, ns, text, auto"

// parseForm is the form of a time_unit.
func parseForm(unit string) (f form, ok bool) {
	switch unit {
	case "s":
		return form{power: 9}, true
	case "ms":
		return form{power: 6, whole: true}, true
	case "us":
		return form{power: 3, whole: true}, true
	case "ns":
		return form{power: 0, whole: true}, true
	case "text":
		return form{text: true}, true
	case "auto":
		return form{text: true, auto: true}, true
	}
	return form{}, false
}

// instant is the time that a node holds; now only decides between two that a
// clock on the wall shows alike.
func (d *document) instant(at int, f *form, now mesh.Nanos) (t mesh.Nanos, err error) {
	if at < 0 {
		return 0, ErrNoTime
	}
	n := &d.nodes[at]
	in, ok := *n, n.kind == number
	if n.kind == text {
		in, ok = d.digits(n)
	}
	switch {
	case ok && !f.text:
		t, ok = in.since(f.power, f.whole)
	case ok && f.auto:
		t, ok = in.guessed()
	case !ok && f.text && n.kind == text && !n.escaped:
		t, ok = calendar(d.raw(n.at), f.zone, now)
	default:
		return 0, mismatch(n, f)
	}
	if !ok || t < earliest || t > latest {
		return 0, ErrNoTime
	}
	return t, nil
}

// mismatch says which time_unit would take it.
func mismatch(n *node, f *form) error {
	switch {
	case n.kind == text && !f.text:
		return fmt.Errorf("%w: it is a text, which time_unit: text would take", ErrNoTime)
	case n.kind == number:
		return fmt.Errorf("%w: it is a number, and time_unit says text; write s, ms, us or ns", ErrNoTime)
	}
	return ErrNoTime
}

// since is a number of units after 1970. What is finer than a nanosecond is cut.
func (n *node) since(power int32, whole bool) (t mesh.Nanos, ok bool) {
	if n.neg || n.big {
		return 0, false
	}
	m := n.mant
	for e := n.exp; e < 0 && whole && m > 0; e++ {
		if m%10 != 0 {
			return 0, false
		}
		m /= 10
	}
	e := n.exp + power
	if whole {
		e = max(n.exp, 0) + power
	}
	for ; e < 0 && m > 0; e++ {
		m /= 10
	}
	for ; e > 0 && m > 0; e-- {
		if m > uint64(latest)/10 {
			return 0, false
		}
		m *= 10
	}
	return mesh.Nanos(min(m, uint64(latest)+1)), true
}

// guessed finds the unit: between earliest and latest the units don't overlap.
func (n *node) guessed() (t mesh.Nanos, ok bool) {
	for power := int32(9); power >= 0; power -= 3 {
		if t, ok = n.since(power, false); ok && t >= earliest && t <= latest {
			return t, true
		}
	}
	return 0, false
}

// calendar reads a date and time of day: RFC 3339, and ISO 8601 in its extended
// and basic form down to the minute. Without an offset it is that of a zone, where
// one is declared. What is finer than a nanosecond is cut.
func calendar(b []byte, zone *time.Location, now mesh.Nanos) (t mesh.Nanos, ok bool) {
	r := reader{b: b, ok: true}
	basic := len(b) > 8 && (b[8] == 'T' || b[8] == 't') // 20260101T120000Z
	sep := func(c byte) {
		if !basic {
			r.char(c)
		}
	}
	year := r.digits(4)
	sep('-')
	month := r.digits(2)
	sep('-')
	day := r.digits(2)
	if !r.either("Tt ") {
		return 0, false
	}
	hour := r.digits(2)
	sep(':')
	minute := r.digits(2)
	second, fraction := 0, 0
	if basic && r.digit() || !basic && r.either(":") {
		second = r.digits(2)
		fraction = r.fraction()
	}
	if hour > 23 || minute > 59 || second > 59 || month < 1 || month > 12 || day < 1 || day > days(year, month) {
		return 0, false
	}
	offset, local := r.offset()
	if !r.ok || len(r.b) > 0 || local && zone == nil {
		return 0, false
	}
	at := time.Date(year, time.Month(month), day, hour, minute, second, fraction, time.UTC)
	const slack = 24 * time.Hour                                                      // more than any offset
	if at.Before(earliest.Time().Add(-slack)) || at.After(latest.Time().Add(slack)) { // before it is put into 64 bits
		return 0, false
	}
	if local {
		return onTheWall(at, zone, now)
	}
	return mesh.NanosOf(at) - mesh.Nanos(offset)*1e9, true
}

func days(year, month int) int {
	switch month {
	case 4, 6, 9, 11:
		return 30
	case 2:
		if year%4 == 0 && (year%100 != 0 || year%400 == 0) {
			return 29
		}
		return 28
	}
	return 31
}

// onTheWall is the instant at which clocks of a zone show what at shows in UTC.
// In the hour that they show twice it is the later one, unless that is not
// reached yet; in the one they leave out there is none.
func onTheWall(at time.Time, zone *time.Location, now mesh.Nanos) (t mesh.Nanos, ok bool) {
	wall := mesh.NanosOf(at)
	const day = 24 * time.Hour // no zone changes twice within two days
	for _, near := range [2]time.Duration{-day, day} {
		_, offset := at.Add(near).In(zone).Zone()
		x := wall - mesh.Nanos(offset)*1e9
		_, is := x.Time().In(zone).Zone()
		if is == offset && (!ok || x > t && !source.Suspect(x, now)) {
			t, ok = x, true
		}
	}
	return t, ok
}

// reader reads a text by its characters.
type reader struct {
	b  []byte
	ok bool
}

func (r *reader) digit() bool { return len(r.b) > 0 && r.b[0]-'0' < 10 }

func (r *reader) digits(n int) (x int) {
	for ; n > 0; n-- {
		if !r.digit() {
			r.ok = false
			return 0
		}
		x = x*10 + int(r.b[0]-'0')
		r.b = r.b[1:]
	}
	return x
}

func (r *reader) char(c byte) {
	if len(r.b) == 0 || r.b[0] != c {
		r.ok = false
		return
	}
	r.b = r.b[1:]
}

// either takes one of some characters, if it is the next.
func (r *reader) either(of string) bool {
	for i := range len(of) {
		if len(r.b) > 0 && r.b[0] == of[i] {
			r.b = r.b[1:]
			return true
		}
	}
	return false
}

// fraction is a part of a second in nanoseconds.
func (r *reader) fraction() (nanos int) {
	if !r.either(".,") {
		return 0
	}
	if !r.digit() {
		r.ok = false
	}
	for scale := 100_000_000; r.digit(); scale /= 10 {
		nanos += int(r.b[0]-'0') * scale
		r.b = r.b[1:]
	}
	return nanos
}

// offset is what stands behind a time: seconds east of UTC, or nothing.
func (r *reader) offset() (seconds int, local bool) {
	if len(r.b) == 0 {
		return 0, true
	}
	sign := 1
	switch {
	case r.either("Zz"):
		return 0, false
	case r.either("-"):
		sign = -1
	case !r.either("+"):
		r.ok = false
		return 0, false
	}
	h := r.digits(2)
	m := 0
	if r.either(":") || r.digit() {
		m = r.digits(2)
	}
	r.ok = r.ok && h < 24 && m < 60
	return sign * (h*3600 + m*60), false
}
