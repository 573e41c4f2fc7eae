package buffer

import (
	"errors"
	"fmt"
	"math"

	"plantmesh/proto/mesh"
)

// What goes when space is needed, in this order: received beyond the retention
// floor, received within it, then the policy. What the agent itself has to say
// may use the reserve.

// room makes sure that n bytes fit. extra is what this append may have beyond
// the budget; such a one is not held back by min_free either.
func (b *Buffer) room(n, extra int64) error {
	least, vain := b.bytes(), 0
	for dropped := false; ; {
		over := b.bytes()+n > int64(b.cfg.MaxBytes)+extra
		spent := extra == 0 && !dropped && b.spent()
		// A dropped segment gave the disk more than n needs. To go on while
		// others fill the disk would be to drop everything for them.
		if !over && !spent && (dropped || extra > 0 || !b.shortOfSpace(n)) {
			return nil
		}
		if b.makeRoom() {
			continue
		}
		did := false
		if vain < mostVain {
			var err error
			if did, err = b.sacrifice(); err != nil {
				return err
			}
		}
		if now := b.bytes(); now < least {
			least, vain = now, 0
		} else {
			vain++
		}
		switch {
		case !did && spent:
			return nil // the disk says itself whether it has space
		case !did && over:
			return fmt.Errorf("%w: %d of %d bytes are waiting for the hub", ErrFull, b.bytes(), b.cfg.MaxBytes)
		case !did:
			return fmt.Errorf("%w: less than buffer.min_free (%d bytes) would be left on the disk; free some space there", ErrFull, b.minFree)
		}
		dropped = true
	}
}

// mostVain is how many segments go by policy in a row without the log getting
// smaller: the void for each takes room too, and where a budget holds little else
// they would go on for ever.
const mostVain = 3

// spent reports whether a policy that lets segments go has less than half of the
// reserve left to say so with. What a dropped segment gives back must not be
// taken by the next batch while that is so: in the end not even a void would fit,
// and nothing could go any more.
func (b *Buffer) spent() bool {
	if b.cfg.Policy == PolicyBlock {
		return false
	}
	b.restoreReserve()
	return b.reserve.held() < b.reserve.size/2
}

// extra is how far beyond the budget offers may go: what the agent itself
// says, never a batch, and at most a segment; the last half is for facts.
func (b *Buffer) extra(p *plan) int64 {
	own, facts := true, len(p.offers) > 0
	for i, o := range p.offers {
		mine := len(o.Source) > 0 && o.Source[0] == '@'
		facts = facts && mine && len(o.Sealed) > 0
		own = own && (mine || o.State == nil && o.Kept == nil)
		for _, h := range p.headers[i] {
			own = own && h.Kind != mesh.KindBatch
		}
	}
	switch {
	case !own:
		return 0
	case facts:
		return int64(b.cfg.SegmentBytes)
	}
	return int64(b.cfg.SegmentBytes) / 2
}

// squeeze runs a write of n bytes that must not wait for the hub.
func (b *Buffer) squeeze(n int64, write func() error) error {
	// A commit the disk refuses costs an epoch: better not to try.
	for b.tight(n) && (b.makeRoom() || b.reserve.give(n)) {
		continue
	}
	err := write()
	for errors.Is(err, ErrFull) && (b.makeRoom() || b.reserve.give(n)) {
		err = write()
	}
	return err
}

// commitOwn commits what the agent itself has to say.
func (b *Buffer) commitOwn(p *plan) (last []mesh.Position, err error) {
	err = b.squeeze(p.bytes, func() (err error) {
		last, err = b.commit(p)
		return err
	})
	return last, err
}

func (b *Buffer) tight(n int64) bool {
	free, err := b.free()
	return err == nil && free < n+reserveStep
}

// worthRotating is the size from which a received segment that is still
// written gives back more than its successor takes.
const worthRotating = 128 << 10

// makeRoom lets the oldest segment go if the reader has all of it. The last one
// goes too: what every segment knows is written into a new one first.
func (b *Buffer) makeRoom() bool {
	if len(b.pieces) == 0 || b.pieces[0].last > b.received() {
		return false
	}
	p := b.pieces[0]
	if len(b.pieces) == 1 {
		if b.owing || p.bytes < worthRotating || p.last < p.first {
			return false
		}
		fresh := b.active == nil
		if !fresh {
			b.fill(p)
		}
		again := func() (err error) {
			_, err = b.rotate(&plan{}, fresh)
			return err
		}
		err := again()
		for errors.Is(err, ErrFull) && b.reserve.give(0) {
			err = again()
		}
		if err != nil {
			b.log.Warn("the last segment can't be let go", "segment", p.name, "err", err)
			return false
		}
	}
	b.forget(p, "", mesh.Position{})
	return true
}

// sacrifice lets a segment go by policy, its void first.
func (b *Buffer) sacrifice() (bool, error) {
	p, note := b.victim()
	if p == nil {
		return false, nil
	}
	void, err := b.lose([]stretch{{p.first, p.last}}, mesh.CauseDiskPolicy, note, p.tallies)
	if err != nil {
		return false, err
	}
	if len(void.offers) > 0 {
		if _, err := b.commitOwn(void); err != nil {
			return false, err
		}
	}
	b.log.Warn("records made room, as buffer.policy says: free space on the disk, raise buffer.max_bytes, or bring the hub back", "segment", p.name, "policy", b.cfg.Policy)
	b.forget(p, mesh.CauseDiskPolicy, b.chain.at(b.end))
	return true, nil
}

// victim is the segment that goes next by policy; nil: none does.
func (b *Buffer) victim() (p *piece, note string) {
	n := len(b.pieces)
	if b.active != nil {
		n--
	}
	if n <= 0 || b.cfg.Policy == PolicyBlock {
		return nil, ""
	}
	if b.cfg.Policy == PolicyDropOldest {
		return b.pieces[0], "the buffer had no space left: the oldest records made room"
	}
	// The one without which the hole is smallest, of equals the oldest: so holes
	// stay about as long as each other, and grow together.
	smallest, before := uint64(math.MaxUint64), b.received()
	for i, q := range b.pieces[:n] {
		behind := q.last + 1
		if i+1 < len(b.pieces) {
			behind = b.pieces[i+1].first
		}
		if hole := behind - min(before+1, behind); hole < smallest {
			p, smallest = q, hole
		}
		before = q.last
	}
	return p, "the buffer had no space left: some records of all its time made room"
}

// shortOfSpace reports whether the file system would be left with less than
// the configured minimum.
func (b *Buffer) shortOfSpace(n int64) bool {
	if b.minFree == 0 {
		return false
	}
	free, err := b.free()
	if err != nil {
		b.log.Warn("free space is unknown", "err", err)
		return false
	}
	return free-n < b.minFree
}
