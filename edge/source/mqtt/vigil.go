package mqtt

import (
	"encoding/binary"
	"fmt"
	"slices"
	"time"

	"plantmesh/edge/source"
	"plantmesh/proto/mesh"
)

// vigil proves a source that sends no heartbeat by the signals that declare
// max_silence. A stretch is proven when each of them was heard on both sides of
// it, no further apart than it declares; so what a dead device did not say is
// never claimed, and what is known trails behind by the silence of the slowest
// of them. Signals that declare none ride along.
//
// Not safe for concurrent use.
type vigil struct {
	signals []mesh.Signal // that declare max_silence
	place   map[uint32]int
	heard   []mesh.Nanos // newest stamp of each; 0: not heard in this session
}

// newVigil is nil where something else proves the source, or nothing does.
func newVigil(cfg *Config, table []mesh.Signal) *vigil {
	v := &vigil{place: map[uint32]int{}}
	for _, s := range table {
		if s.MaxSilence > 0 {
			v.place[s.ID] = len(v.signals)
			v.signals = append(v.signals, s)
		}
	}
	if cfg.Heartbeat.Topic != "" || len(v.signals) == 0 {
		return nil
	}
	v.heard = make([]mesh.Nanos, len(v.signals))
	return v
}

// vigilName begins the name of a vigil. A filter that begins so is never unsubscribed.
const vigilName = "max_silence "

// name tells what this vigil looks at: a proof by other signals says nothing of it.
func (v *vigil) name() string {
	if v == nil {
		return ""
	}
	h := uint64(hashStart)
	for _, s := range v.signals {
		h = hashMore(h, append([]byte(s.Name), 0))
	}
	return fmt.Sprintf("\n%s%016x", vigilName, h)
}

func (v *vigil) forget() {
	if v != nil {
		clear(v.heard)
	}
}

// hear notes a stamp of a signal; broken says that it was silent for longer
// than it declares.
func (v *vigil) hear(m mesh.Sample, now mesh.Nanos) (broken bool) {
	i, ok := v.place[m.Signal]
	if !ok || m.Flags&mesh.FlagSuspect != 0 || now.Sub(m.Time) > source.MaxBehind || m.Time <= v.heard[i] {
		return false
	}
	broken = v.heard[i] != 0 && m.Time-v.heard[i] > v.signals[i].MaxSilence
	v.heard[i] = m.Time
	return broken
}

// through is the instant after which not every signal was heard; 0 where one
// never was.
func (v *vigil) through() mesh.Nanos { return slices.Min(v.heard) }

// late names the signal that holds the proof up.
func (v *vigil) late() string {
	i := slices.Index(v.heard, v.through())
	if v.heard[i] == 0 {
		return v.signals[i].Name + " was not heard yet"
	}
	return fmt.Sprintf("%s was not heard within its max_silence of %s", v.signals[i].Name, time.Duration(v.signals[i].MaxSilence))
}

// patience is how long the proof may stand before somebody is told.
func (v *vigil) patience() time.Duration {
	longest := mesh.Nanos(0)
	for _, s := range v.signals {
		longest = max(longest, s.MaxSilence)
	}
	return max(10*time.Second, 2*time.Duration(longest))
}

// encode is what was heard, eight bytes a signal, big endian.
func (v *vigil) encode() (out []byte) {
	if v == nil {
		return nil
	}
	for _, t := range v.heard {
		out = binary.BigEndian.AppendUint64(out, uint64(t))
	}
	return out
}

// resume takes what encode gave; ok is false where that is of another vigil.
func (v *vigil) resume(b []byte) (ok bool) {
	if v == nil || len(b) != 8*len(v.heard) {
		return v == nil && len(b) == 0
	}
	for i := range v.heard {
		v.heard[i] = mesh.Nanos(binary.BigEndian.Uint64(b[8*i:]))
	}
	return true
}
