package mqtt

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"plantmesh/proto/mesh"
)

// table is the set of this hop: what came last under each packet id. An entry dies
// only when its id is used for another message, or with the session. That the broker
// has our acknowledgement proves nothing: one that is killed comes back with the
// session as its disk had it, and sends what was acknowledged long ago.
//
// It is kept in blocks beside the state, of which those that changed are committed
// with the samples: four bytes a message.
type table struct {
	blocks  [256]*block
	changed [256]bool
	// unsure: the session is one that ends with its connection, so that what comes
	// again in it may be of one before. It is not kept.
	unsure bool
	on     answerer // the connection that the session has
	count  int      // blocks there are
	newest int      // the block that was used last
}

// block are the packet ids of one high byte.
type block struct {
	hash  [256]uint32 // 0: nothing came under this id
	offer [256]uint64 // its number in this run; 0: committed in a run before
	here  [4]uint64   // one bit for each id that was used on this connection
}

// keptTable begins the names of the blocks; the session and the id's high byte, in
// hex, follow.
const keptTable = "inflight/"

// place is where a block is kept.
func place(session string, high int) string {
	return fmt.Sprintf("%s%s/%02x", keptTable, session, high)
}

// find gives the offer a packet is in already.
func (t *table) find(id uint16, hash uint32) (offer uint64, ok bool) {
	b := t.blocks[id>>8]
	if b == nil || b.hash[id&0xFF] != some(hash) {
		return 0, false
	}
	return b.offer[id&0xFF], true
}

// put reports whether it made a block.
func (t *table) put(id uint16, hash uint32, offer uint64) (made bool) {
	b := t.blocks[id>>8]
	if made = b == nil; made {
		b = &block{}
		t.blocks[id>>8] = b
		t.count++
	}
	b.hash[id&0xFF], b.offer[id&0xFF] = some(hash), offer
	b.here[id>>6&3] |= 1 << (id & 63)
	t.changed[id>>8], t.newest = true, int(id>>8)
	return made
}

// before reports whether an id was used last on a connection that has ended.
func (t *table) before(id uint16) bool {
	b := t.blocks[id>>8]
	return b != nil && b.here[id>>6&3]>>(id&63)&1 == 0
}

// arrive is told of each connection that the session has.
func (t *table) arrive(on answerer) {
	t.on = on
	for _, b := range t.blocks {
		if b != nil {
			b.here = [4]uint64{}
		}
	}
}

// shed forgets the block that was used longest ago, as ids are used in turn, and reports
// whether there was another one than the newest.
func (t *table) shed() bool {
	for i := 1; i < len(t.blocks); i++ {
		at := (t.newest + i) % len(t.blocks)
		if t.blocks[at] != nil {
			t.blocks[at], t.changed[at] = nil, true
			t.count--
			return true
		}
	}
	return false
}

// some is a hash that is not 0.
func some(hash uint32) uint32 { return max(hash, 1) }

// clear forgets a session.
func (t *table) clear() {
	for i, b := range t.blocks {
		t.changed[i] = t.changed[i] || b != nil
	}
	t.blocks, t.count = [256]*block{}, 0
}

// take are the blocks that changed since it was called last.
func (t *table) take(session string) (out []mesh.Kept) {
	for i := range t.blocks {
		if t.changed[i] {
			out = append(out, mesh.Kept{Name: place(session, i), Bytes: t.blocks[i].encode()})
		}
	}
	t.changed = [256]bool{}
	return out
}

// Forms of an encoded block. Integers are little endian.
const (
	blockFull  byte = 1 // 256 hashes
	blockPairs byte = 2 // the id's low byte and the hash, of each that is there
)

// encode is nil for a block that is not there.
func (b *block) encode() []byte {
	if b == nil {
		return nil
	}
	pairs := []byte{blockPairs}
	for i, h := range b.hash {
		if h != 0 {
			pairs = binary.LittleEndian.AppendUint32(append(pairs, byte(i)), h)
		}
	}
	if len(pairs) < 4*len(b.hash) {
		return pairs
	}
	full := []byte{blockFull}
	for _, h := range b.hash {
		full = binary.LittleEndian.AppendUint32(full, h)
	}
	return full
}

var errBlock = errors.New("a block of the in-flight table has an unknown form")

func decodeBlock(b []byte) (*block, error) {
	out := &block{}
	switch {
	case len(b) == 1+4*len(out.hash) && b[0] == blockFull:
		for i := range out.hash {
			out.hash[i] = binary.LittleEndian.Uint32(b[1+4*i:])
		}
	case len(b) > 0 && b[0] == blockPairs && len(b)%5 == 1:
		for p := b[1:]; len(p) > 0; p = p[5:] {
			out.hash[p[0]] = binary.LittleEndian.Uint32(p[1:])
		}
	default:
		return nil, errBlock
	}
	return out, nil
}

// tables are those of all sessions that were kept, and how many blocks devices have.
func tables(kept map[string][]byte) (out map[string]*table, blocks int, err error) {
	out = map[string]*table{}
	for name, b := range kept {
		rest, ok := strings.CutPrefix(name, keptTable)
		if !ok {
			continue
		}
		i := strings.LastIndexByte(rest, '/')
		high, err := strconv.ParseUint(rest[max(i, 0)+1:], 16, 8)
		if i < 0 || err != nil {
			return nil, 0, errBlock
		}
		t := out[rest[:i]]
		if t == nil {
			t = &table{}
			out[rest[:i]] = t
		}
		if t.blocks[high], err = decodeBlock(b); err != nil {
			return nil, 0, err
		}
		if t.count++; rest[:i] != "" {
			blocks++
		}
	}
	return out, blocks, nil
}
