package buffer

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
)

// Records carry their own checksum. All else a segment holds (state, chain,
// tallies, descriptors) is put behind a CRC32C over space, key and value, so
// that a flipped bit is never taken for what a source said.

func crcOf(s space, key, value []byte) uint32 {
	table := crc32.MakeTable(crc32.Castagnoli)
	c := crc32.Update(crc32.Checksum([]byte(s), table), table, binary.BigEndian.AppendUint64(nil, uint64(len(key))))
	return crc32.Update(crc32.Update(c, table, key), table, value)
}

// put writes a value with its checksum.
func put(t tx, s space, key, value []byte) error {
	return t.Put(s, key, append(binary.BigEndian.AppendUint32(make([]byte, 0, 4+len(value)), crcOf(s, key, value)), value...))
}

// checked is a stored value without its checksum; ok is false where that is wrong.
func checked(s space, key, stored []byte) (value []byte, ok bool) {
	if len(stored) < 4 || binary.BigEndian.Uint32(stored) != crcOf(s, key, stored[4:]) {
		return nil, false
	}
	return stored[4:], true
}

// wideState is the size from which a state lies apart. bbolt writes small spaces
// into the page that names them all, which every commit writes anyway; one with
// more than a quarter page has pages of its own. So the few that are large are
// not written again with each small one.
const wideState = 512

// stateSpace is where the state of a source lies in a segment: where it did
// before, so that it never lies in two places.
func stateSpace(t tx, key, state []byte) space {
	switch {
	case t.Get(spaceState, key) != nil:
		return spaceState
	case t.Get(spaceWide, key) != nil, len(state) >= wideState:
		return spaceWide
	}
	return spaceState
}

// meta reads a value of the segment itself; there is is false where none was written.
func meta(t tx, key []byte) (value []byte, there bool, err error) {
	stored := t.Get(spaceMeta, key)
	if stored == nil {
		return nil, false, nil
	}
	value, ok := checked(spaceMeta, key, stored)
	if !ok {
		return nil, true, fmt.Errorf("%w: the checksum of its %s is wrong", errDamaged, key)
	}
	return value, true, nil
}
