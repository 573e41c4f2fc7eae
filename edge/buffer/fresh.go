package buffer

import (
	"encoding/binary"
	"maps"
	"slices"
	"strings"

	"plantmesh/proto/mesh"
)

// startFresh is the plan that makes sources whose state is damaged start anew:
// what else is kept under their names is emptied too, and a void says since when.
func (b *Buffer) startFresh(keys []string) (p *plan, lost []string, err error) {
	p = &plan{}
	of := map[string]bool{}
	for _, k := range keys {
		of[owner(k)] = true
		if err := p.add(mesh.Offer{Source: k, State: []byte{}}); err != nil {
			return nil, nil, err
		}
	}
	for k := range b.states {
		if of[owner(k)] {
			if err := p.add(mesh.Offer{Source: k, State: []byte{}}); err != nil {
				return nil, nil, err
			}
		}
	}
	lost = slices.Sorted(maps.Keys(of))
	for _, source := range lost {
		if source[0] == '@' {
			continue
		}
		v := mesh.Void{Cause: mesh.CauseDamaged, Parts: []mesh.Part{b.sinceKept(source)}, Note: "the state of this source was damaged on the disk: it starts anew"}
		if err := p.addVoid(v); err != nil {
			return nil, nil, err
		}
	}
	return p, lost, nil
}

// without are the states of an older segment that s has none of. Each segment
// has all that the one before it had: who is missing stood under a name that is
// damaged.
func (s *snapshot) without(older map[string][]byte) (lost []string) {
	for _, k := range slices.Sorted(maps.Keys(older)) {
		if _, has := s.states[k]; !has && !dropped(k, older[k]) && !slices.Contains(s.lost, k) {
			lost = append(lost, k)
		}
	}
	return lost
}

// withStateless are the states that are lost. Where a name is damaged or hidden,
// it may be that of any source that has data and no state.
func (b *Buffer) withStateless(newest snapshot) []string {
	lost := newest.lost
	if newest.unread > 0 {
		b.log.Error("states stand under names that are damaged, and are left out", "count", newest.unread)
	}
	if newest.unread == 0 && len(lost) == 0 && b.debt.hidden == nil {
		return nil
	}
	for _, source := range slices.Sorted(maps.Keys(b.sources())) {
		if _, has := b.states[source]; !has && !slices.Contains(lost, source) {
			lost = append(lost, source)
		}
		// Of what stands beside a state the checksum tells whose it was.
		if proof := proofOf + source; slices.ContainsFunc(newest.astray, func(s stray) bool { return s.is(proof) }) && !slices.Contains(lost, proof) {
			lost = append(lost, proof)
		}
	}
	return lost
}

// sinceKept is the stretch from the newest data kept of a source until now.
func (b *Buffer) sinceKept(source string) mesh.Part {
	part := mesh.Part{Source: source}
	for _, q := range b.pieces {
		part.Times.From = max(part.Times.From, q.tallies[source].To)
	}
	for _, n := range b.notes.notes {
		if n.Filled != nil {
			part.Times.From = max(part.Times.From, n.Filled.Sources[source].To)
		}
	}
	if part.Times.From > 0 {
		part.Times.To = max(part.Times.From, mesh.Nanos(b.cfg.Now().UnixNano()))
	}
	return part
}

// stray is a state as it is stored, perhaps under a name that is not its own.
type stray struct {
	in     space
	stored []byte
}

// is reports whether a state was stored under this name.
func (s stray) is(name string) bool {
	_, ok := checked(s.in, []byte(name), s.stored)
	return ok
}

// proofOf is where the agent keeps how far a source has proven, beside its state.
const proofOf = "@proof/"

// keptOf is where a source's parts of its state stand, beside it: the source, a zero
// byte, the name. One that is damaged costs the source its whole state. One that
// was dropped stays in its segment, without bytes: of a name that is not there any more
// nobody could say whether a damaged bit hides it. The next segment does without: devices
// may make up names for ever.
const keptOf = "@kept/"

// dropped reports whether a state is a part that was dropped.
func dropped(key string, state []byte) bool { return len(state) == 0 && strings.HasPrefix(key, keptOf) }

func keptKey(source, name string) string { return keptOf + source + "\x00" + name }

// owner is the source whose state stands under a key: "id", or what the agent
// keeps of it beside, "@what/id".
func owner(key string) string {
	if rest, ok := strings.CutPrefix(key, keptOf); ok {
		if source, _, ok := strings.Cut(rest, "\x00"); ok && source != "" {
			return source
		}
	}
	if source, ok := strings.CutPrefix(key, proofOf); ok && source != "" {
		return source
	}
	if key == "" {
		return "@"
	}
	return key
}

// doubtOf is where a source is told that records of it are lost, until its proof
// is beyond them: what it proves next reaches back to where its last record's proof
// ended, and that record held more. The form is what edge/source reads: how far it
// had proven, and the instant through which a void says that it is lost (8 bytes
// each, little endian, ns), a byte that is not 0 where the source's state may be
// older than what its device was told is received, and the cause.
const (
	doubtOf   = "@doubt/"
	doubtHead = 8 + 8 + 1
)

// doubt adds that to p for the sources of a void.
func (b *Buffer) doubt(p *plan, parts map[string]tally, cause mesh.Cause, old bool) error {
	for _, source := range slices.Sorted(maps.Keys(parts)) {
		proven, until, flag := uint64(0), uint64(parts[source].To), byte(0)
		if s := b.states[proofOf+source]; len(s) >= 8 {
			proven = binary.LittleEndian.Uint64(s)
		}
		if !old && (proven == 0 || proven >= until) {
			continue
		}
		if s := b.states[doubtOf+source]; len(s) >= doubtHead {
			proven, until, flag = min(proven, binary.LittleEndian.Uint64(s)), max(until, binary.LittleEndian.Uint64(s[8:])), s[16]
		}
		if old {
			flag = 1
		}
		state := binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint64(nil, proven), until)
		state = append(append(state, flag), cause...)
		if err := p.add(mesh.Offer{Source: doubtOf + source, State: state}); err != nil {
			return err
		}
	}
	return nil
}
