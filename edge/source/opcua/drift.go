package opcua

import (
	"bytes"
	"compress/flate"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"plantmesh/edge/source/opcua/publish"
	"plantmesh/proto/mesh"
)

// errSemantics ends a connection: at the next one types and units are read anew.
var errSemantics = errors.New("the server says that the meaning of values has changed")

// meaning is what a signal's values meant when they were last believed.
type meaning struct {
	Kind string `json:"kind,omitempty"`
	Rank int32  `json:"rank,omitempty"`
	Unit string `json:"unit,omitempty"`
}

// maxSeen bounds what is unpacked of a state.
const maxSeen = 16 << 20

// remembered is how meanings stand in the state of each commit: few differ, and
// signals of machines of one kind have them in the same order.
type remembered struct {
	All []meaning `json:"all"`
	Of  []int     `json:"of"` // of each signal, its place in All
}

func packMeanings(list []meaning) (string, error) {
	var m remembered
	place := map[meaning]int{}
	for _, x := range list {
		if _, ok := place[x]; !ok {
			place[x] = len(m.All)
			m.All = append(m.All, x)
		}
		m.Of = append(m.Of, place[x])
	}
	b, err := json.Marshal(m)
	if err != nil {
		return "", fmt.Errorf("write types and units: %w", err)
	}
	var out bytes.Buffer
	w, err := flate.NewWriter(&out, flate.BestCompression)
	if err == nil {
		if _, err = w.Write(b); err == nil {
			err = w.Close()
		}
	}
	if err != nil {
		return "", fmt.Errorf("pack types and units: %w", err)
	}
	return base64.RawStdEncoding.EncodeToString(out.Bytes()), nil
}

// unpackMeanings gives the meanings of n signals, empty ones where they can't be read.
func unpackMeanings(s string, n int) []meaning {
	out := make([]meaning, n)
	b, err := base64.RawStdEncoding.DecodeString(s)
	if err != nil {
		return out
	}
	if b, err = io.ReadAll(io.LimitReader(flate.NewReader(bytes.NewReader(b)), maxSeen)); err != nil {
		return out
	}
	var m remembered
	if err := json.Unmarshal(b, &m); err != nil || len(m.Of) != n {
		return out
	}
	for i, k := range m.Of {
		if k >= 0 && k < len(m.All) {
			out[i] = m.All[k]
		}
	}
	return out
}

// compare sets what the server says of signals against what the file says and what
// was seen before. What differs is drift: values are then kept with a status that
// lets them count for nothing, until the file says what is right.
func (r *Reader) compare(signals []int) error {
	seen, changed := unpackMeanings(r.state.Seen, len(r.items)), false
	table := slices.Clone(r.table)
	var news []string
	for _, i := range signals {
		it := &r.items[i]
		if it.at == nil || !it.facts.known {
			continue // it is not there: nothing has changed
		}
		now, why, counts := r.judge(i, seen[i])
		if why != "" && it.drift != why {
			news = append(news, r.cfg.Signals[i].Name+": "+why)
		}
		if it.drift = why; counts && now != seen[i] {
			seen[i], changed = now, true
		}
		r.drifted(i, !counts)
		if r.cfg.Signals[i].Unit == "" && !strings.HasPrefix(seen[i].Unit, `"`) {
			table[i].Unit = seen[i].Unit
		}
	}
	r.report(news)
	if changed {
		packed, err := packMeanings(seen)
		if err != nil {
			return &fatalError{err}
		}
		r.state.Seen = packed
	}
	return r.describe(table)
}

// judge is what a signal's values mean now, in which way that is not what was agreed,
// and whether they count all the same.
func (r *Reader) judge(i int, seen meaning) (now meaning, why string, counts bool) {
	s, f := r.cfg.Signals[i], r.items[i].facts
	now = meaning{Kind: f.kind, Rank: f.rank, Unit: f.unit}
	if now.Unit == "" {
		now.Unit = seen.Unit // a unit that is not given is no other unit
	}
	switch known := f.unit != "" && !s.TrustUnit; {
	case known && s.Unit != "" && !sameUnit(s.Unit, f.unit):
		return now, fmt.Sprintf("its unit is %s at the server and %s in the file: write what is right, or trust_unit: true where the server is wrong", f.unit, s.Unit), false
	case known && s.Unit == "" && seen.Unit != "" && seen.Unit != f.unit:
		return now, fmt.Sprintf("its unit was %s and is %s: where that is meant, write unit: %s", seen.Unit, f.unit, f.unit), false
	}
	declared, before, after := r.table[i].Type, typeOf(seen.Kind), typeOf(f.kind)
	if f.rank != -1 || seen.Kind != "" && seen.Rank != -1 {
		before, after = mesh.TypeNone, mesh.TypeNone // each value shows whether it is what the file says
	}
	if after != mesh.TypeNone && after != declared && declared <= mesh.TypeBytes {
		if _, err := convert(mesh.Value{Type: after}, declared); err != nil {
			return now, fmt.Sprintf("its data type is %s at the server and %s in the file: write type: %s", typeName(f.kind, f.rank), declared, after), false
		}
		if before != mesh.TypeNone && before != after {
			return now, fmt.Sprintf("its data type was %s and is %s: where that is meant, write type: %s", typeName(seen.Kind, seen.Rank), typeName(f.kind, f.rank), after), false
		}
	}
	if seen.Kind != "" && (seen.Kind != f.kind || seen.Rank != f.rank) {
		return now, fmt.Sprintf("its data type was %s and is %s", typeName(seen.Kind, seen.Rank), typeName(f.kind, f.rank)), true
	}
	return now, "", true
}

// sameUnit reports whether a file means the unit that the server says: by its code,
// or where it has none by its name, which stands in quotes there.
func sameUnit(file, said string) bool {
	return file == said || fmt.Sprintf("%.40q", file) == said
}

// typeName is a data type in words.
func typeName(kind string, rank int32) string {
	name := kind
	for i, known := range []string{
		"Boolean", "SByte", "Byte", "Int16", "UInt16", "Int32", "UInt32", "Int64", "UInt64", "Float", "Double", "String", "DateTime", "Guid", "ByteString",
	} {
		if kind == fmt.Sprintf("i=%d", i+1) {
			name = known
		}
	}
	if rank >= 0 {
		return "an array of " + name
	}
	return name
}

// drifted notes whether a signal's values count for nothing. Where that begins,
// nothing is known of it from the proof on: what the values that still come mean
// nobody knows.
func (r *Reader) drifted(i int, is bool) {
	at := slices.Index(r.state.Drifted, i)
	r.drifts[i] = is
	switch {
	case is && at < 0:
		r.state.Drifted = append(r.state.Drifted, i)
		r.unknown(i, statusDrifted)
	case !is && at >= 0:
		r.state.Drifted = slices.Delete(r.state.Drifted, at, at+1)
		r.items[i].cleared = true
	}
}

// report says what has drifted, in the log and where it is kept.
func (r *Reader) report(news []string) {
	for _, text := range news {
		r.log.Error("mapping drift: a signal is not what it was", "signal", text)
	}
	if len(news) == 0 {
		return
	}
	text := strings.Join(news[:min(len(news), maxNamed)], "; ")
	if more := len(news) - maxNamed; more > 0 {
		text += fmt.Sprintf("; and %d more", more)
	}
	r.remark(mesh.CauseUnreadable, "mapping drift: "+text)
}

// remark keeps a note. It takes no time back: the other signals were heard.
func (r *Reader) remark(cause mesh.Cause, note string) {
	at := r.sealer.Proof()
	r.sealer.Void(mesh.Void{Cause: cause, Parts: []mesh.Part{{Source: r.cfg.ID, Times: mesh.Span{From: at, To: at}}}, Note: note})
}

// describe has what is sealed from now on refer to another signal table.
func (r *Reader) describe(table []mesh.Signal) error {
	if slices.EqualFunc(table, r.table, func(a, b mesh.Signal) bool { return a.Unit == b.Unit }) {
		return nil
	}
	r.table = table
	if err := r.sealer.Retable(table); err != nil {
		return &fatalError{err}
	}
	return nil
}

// driftText is what the status says of signals that drifted.
func (r *Reader) driftText() string {
	var named []string
	for _, i := range r.state.Drifted[:min(len(r.state.Drifted), maxNamed)] {
		named = append(named, r.cfg.Signals[i].Name+": "+r.items[i].drift)
	}
	if len(named) == 0 {
		return ""
	}
	return fmt.Sprintf("; mapping drift of %d signals, which count for nothing: %s", len(r.state.Drifted), strings.Join(named, "; "))
}

// recall takes up what was known of signals' meanings before a restart.
func (r *Reader) recall() {
	for i, m := range unpackMeanings(r.state.Seen, len(r.items)) {
		if r.cfg.Signals[i].Unit == "" && !strings.HasPrefix(m.Unit, `"`) {
			r.table[i].Unit = m.Unit
		}
	}
	r.state.Drifted = slices.DeleteFunc(r.state.Drifted, func(i int) bool { return i < 0 || i >= len(r.drifts) })
	for _, i := range r.state.Drifted {
		r.drifts[i] = true
	}
}

// meansAnew reports whether a message has values whose meaning changed and was not
// looked into since: nothing of it may be taken before that. The statuses are the
// values', or'ed.
func (r *Reader) meansAnew(values []publish.Value, statuses uint32) bool {
	if statuses&semanticsChanged == 0 && len(r.checked) == 0 {
		return false
	}
	anew := false
	for k := range values {
		if values[k].Status&semanticsChanged == 0 {
			continue
		}
		if i, _, ours := r.state.signal(values[k].Handle); ours && i < len(r.items) && !r.checked[i] {
			r.checked[i], anew = true, true
		}
	}
	if anew || len(r.checked) == 0 {
		return anew
	}
	for k := range values { // the last value of a signal counts
		if i, _, ours := r.state.signal(values[k].Handle); ours && i < len(r.items) {
			if values[k].Status&semanticsChanged != 0 {
				r.checked[i] = true
			} else {
				delete(r.checked, i)
			}
		}
	}
	return false
}
