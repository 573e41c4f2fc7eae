package product

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"slices"

	"plantmesh/proto/mesh"
)

// Reading is one stored sample with what is said about it.
type Reading struct {
	Name   string // of the signal
	Unit   string // UNECE Rec 20 common code, or empty
	Sample mesh.Sample
	Marks  []mesh.Mark

	Fields  []mesh.Field  // of a structure, an event or an array
	Choices *mesh.Choices // what its numbers are called; nil: they have no names

	// Derived says that Name is made of the signal whose sample this is; nil: it is that
	// one's own. The sample is the raw one still: what tells it from others tells what is
	// made of it.
	Derived *Derivation
}

// ReadingOf is the reading of a sample of this signal.
func ReadingOf(sig *mesh.Signal, s mesh.Sample, marks []mesh.Mark) Reading {
	return Reading{Name: sig.Name, Unit: sig.Unit, Sample: s, Marks: marks, Fields: sig.Fields, Choices: sig.Choices}
}

// Value is the value as JSON: of a structure or an event an object of the fields that
// are there, by the names in the signal table.
func (r *Reading) Value() []byte { return r.appendValue(nil) }

func (r *Reading) appendValue(b []byte) []byte {
	v, _, _ := r.Shown()
	return appendValue(b, v, r.Fields)
}

// Shown is the value that its row has, with its status and marks: those of the sample, but
// where a transform makes nothing of a good one.
func (r *Reading) Shown() (mesh.Value, mesh.Status, []mesh.Mark) {
	is := r.Sample.Status
	if r.Derived == nil {
		return r.Sample.Value, is, r.Marks
	}
	v, s := r.Derived.By.Value(r.Sample.Value, is)
	if s == is {
		return v, s, r.Marks
	}
	return v, s, append(slices.Clip(r.Marks), r.Derived.By.reason(s))
}

// compare is the order of folding, by the signal's name; of those that are one
// sample the earliest heard comes first, whichever is read first.
func (r *Reading) compare(o *Reading) int {
	x, y := &r.Sample, &o.Sample
	if x.Time != y.Time { // nearly always, and all else needn't be looked at
		return cmp.Compare(x.Time, y.Time)
	}
	return cmp.Or(cmp.Compare(r.Name, o.Name), cmp.Compare(x.Seq, y.Seq),
		cmp.Compare(x.Status, y.Status), x.Value.Compare(y.Value), cmp.Compare(x.Server, y.Server), cmp.Compare(x.Agent, y.Agent), cmp.Compare(x.Source, y.Source))
}

func (r *Reading) same(o *Reading) bool {
	x, y := &r.Sample, &o.Sample
	return r.Name == o.Name && x.Time == y.Time && x.Seq == y.Seq && x.Status == y.Status && x.Value.Compare(y.Value) == 0
}

// Collapse puts readings in folding order and makes those that are one sample
// one: the smallest server time and every mark are kept, the marks of several in
// an order of their own: in which they came, chunks don't say.
func Collapse(in []Reading) []Reading {
	slices.SortStableFunc(in, func(x, y Reading) int { return x.compare(&y) })
	out, mixed := in[:0], false
	end := func() {
		if mixed {
			r := &out[len(out)-1]
			slices.SortFunc(r.Marks, compareMarks)
			r.Marks = slices.CompactFunc(r.Marks, func(a, b mesh.Mark) bool { return compareMarks(a, b) == 0 })
		}
		mixed = false
	}
	for i := range in {
		n := len(out)
		if n == 0 || !out[n-1].same(&in[i]) {
			end()
			out = append(out, in[i])
			continue
		}
		r := &out[n-1]
		if !mixed {
			r.Marks, mixed = slices.Clone(r.Marks), true
		}
		r.Sample.Flags &= in[i].Sample.Flags // a value that also came by itself is not only an initial one
		r.Marks = append(r.Marks, in[i].Marks...)
	}
	end()
	return out
}

func compareMarks(a, b mesh.Mark) int {
	return cmp.Or(cmp.Compare(a.Rule, b.Rule), cmp.Compare(a.Action, b.Action))
}

// SignalDraft is the row of product signals for one reading.
func (d *Definition) SignalDraft(s *Site, e *Equipment, r *Reading) Draft {
	b := newBody(d.columns)
	x := &r.Sample
	value, status, marks := r.Shown()
	b.text("signal", r.Name)
	b.text("equipment", e.ID)
	if d := r.Derived; d == nil {
		b.text("role", s.RoleName(e, r.Name))
	} else { // it fills none, and its row alone says of what it is
		b.text("role", d.By.Name)
		b.text("derived_from", d.From)
		b.text("derived_by", d.By.Model)
	}
	b.instant("time", x.Time)
	key := r.key()
	b.text("key", key)
	b.put("value", func(buf []byte) []byte { return appendValue(buf, value, r.Fields) })
	b.words("text", r.Choices.Text(x.Value))
	b.text("type", value.Type.String())
	b.words("unit", r.Unit)
	b.integer("status", int64(status))
	b.text("quality", status.Severity())
	b.list("flags", flagNames(x.Flags))
	b.put("marks", func(buf []byte) []byte { return appendMarks(buf, marks) })
	return Draft{Key: TimeText(x.Time) + "/" + r.Name + "/" + key, From: x.Time, To: x.Time, Body: b.bytes()}
}

// key tells samples of one signal and one time apart: two alarms of one cycle of a
// controller, or two values under a coarse clock, are no revisions of each other. It
// is a sum over what else makes a sample one, see same. What is made of a sample has the
// sample's: by it and the time the two rows are found beside each other.
func (r *Reading) key() string {
	x := &r.Sample
	b := make([]byte, 0, 64)
	b = binary.LittleEndian.AppendUint64(b, x.Seq)
	b = binary.LittleEndian.AppendUint32(b, uint32(x.Status))
	b = binary.LittleEndian.AppendUint64(append(b, byte(x.Value.Type)), x.Value.Bits)
	sum := sha256.Sum256(append(b, x.Value.Bytes...))
	return hex.EncodeToString(sum[:8])
}

func flagNames(flags uint32) (out []string) {
	for _, f := range []struct {
		bit  uint32
		name string
	}{
		{mesh.FlagAgentTime, "agent_time"},
		{mesh.FlagHeartbeat, "heartbeat"},
		{mesh.FlagHistorical, "historical"},
		{mesh.FlagInitial, "initial"},
		{mesh.FlagInterpolated, "interpolated"},
		{mesh.FlagServerTime, "server_time"},
		{mesh.FlagSuspect, "suspect"},
	} {
		if flags&f.bit != 0 {
			out = append(out, f.name)
		}
	}
	return out
}

func appendMarks(b []byte, marks []mesh.Mark) []byte {
	b = append(b, '[')
	for i, m := range marks {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, `{"action":`...)
		b = appendText(b, ActionName(m.Action))
		b = append(b, `,"rule":`...)
		b = append(appendText(b, m.Rule), '}')
	}
	return append(b, ']')
}

// ActionName is an action as rows say it.
func ActionName(a mesh.Action) string {
	switch a {
	case mesh.ActionAnnotate:
		return "annotate"
	case mesh.ActionQuarantine:
		return "quarantine"
	case mesh.ActionAlert:
		return "alert"
	}
	return "unknown"
}
