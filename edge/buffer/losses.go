package buffer

import (
	"encoding/json"
	"slices"
	"time"

	"plantmesh/proto/mesh"
	"plantmesh/proto/wire"
)

// Loss is what one cause has taken of one source within the last LostWithin.
type Loss struct {
	Source string     `json:"source"` // empty: nobody knows whose, or of more sources than are counted
	Cause  mesh.Cause `json:"cause"`
	Count  uint64     `json:"count"` // values; 0: of a record on the disk that can't be read nobody knows how many
	Since  int64      `json:"since"` // machine time, Unix seconds: the first of them
	Last   int64      `json:"last"`
}

const (
	// LostWithin is how long a loss is kept for whoever asks; its gap stays named at the hub.
	LostWithin = 24 * time.Hour
	// lossesKey is where they stand, as a state: written in the commit of the void that says
	// so, and with each new segment, as all states are. No commit is made for it.
	lossesKey = "@losses"
	// mostLosses bounds them: a source and a cause each.
	mostLosses = 32
)

// Losses are the values that were written off within the last LostWithin, in this run or one
// before it, by whoever wrote the void: a source, or the buffer that made room.
func (b *Buffer) Losses() (out []Loss) {
	b.mu.Lock()
	state := b.states[lossesKey]
	b.mu.Unlock()
	return fresh(readLosses(state), b.cfg.Now().Unix())
}

// readLosses reads what stands there; what can't be read is none.
func readLosses(state []byte) (out []Loss) {
	if len(state) == 0 || json.Unmarshal(state, &out) != nil {
		return nil
	}
	return out
}

// fresh are those that are not older than LostWithin.
func fresh(all []Loss, now int64) []Loss {
	return slices.DeleteFunc(all, func(l Loss) bool { return now-l.Last > int64(LostWithin/time.Second) })
}

// lost notes the voids of an offer's records for the commit.
func (cm *commit) lost(sealed []byte, h mesh.Header) {
	if h.Kind != mesh.KindVoid {
		return
	}
	if v, err := wire.OpenVoid(sealed); err == nil {
		cm.voids = append(cm.voids, v)
	}
}

// countLost puts what the voids of a commit say into the state that it writes.
func (b *Buffer) countLost(cm *commit) {
	if len(cm.voids) == 0 {
		return
	}
	now := b.cfg.Now().Unix()
	was := readLosses(b.states[lossesKey])
	all := slices.Clone(was)
	for _, v := range cm.voids {
		all = addLost(all, v, now)
	}
	if slices.Equal(all, was) {
		return
	}
	if state, err := json.Marshal(all); err == nil { // plain numbers and names always can be
		cm.states[lossesKey] = state
	}
}

// addLost adds what a void says. A record that was set aside because somebody could not read
// it waits in quarantine, and is not lost; of what a device did while nobody heard it the
// extent is unknown.
func addLost(all []Loss, v mesh.Void, now int64) []Loss {
	if v.Cause == mesh.CauseUnreadable && len(v.Lost) > 0 {
		return all
	}
	parts := v.Parts
	if len(parts) == 0 && v.Cause == mesh.CauseDamaged && len(v.Lost) > 0 {
		parts = []mesh.Part{{}}
	}
	for _, p := range parts {
		if p.Count == 0 && (v.Cause != mesh.CauseDamaged || len(v.Lost) == 0) {
			continue
		}
		all = fresh(all, now)
		of := func(source string) int {
			return slices.IndexFunc(all, func(l Loss) bool { return l.Source == source && l.Cause == v.Cause })
		}
		i := of(p.Source)
		if i < 0 && len(all) >= mostLosses {
			p.Source = ""
			i = of("")
		}
		if i < 0 {
			all = append(all, Loss{Source: p.Source, Cause: v.Cause, Since: now})
			i = len(all) - 1
		}
		all[i].Count, all[i].Last = all[i].Count+p.Count, now
	}
	return all
}
