package buffer

import "plantmesh/proto/mesh"

// Accounted reports whether the reader has accounted for p, as far as its
// receipts said. A position off the chain counts as accounted: nobody waits for it.
func (b *Buffer) Accounted(p mesh.Position) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	i, ok := b.chain.index(p)
	if !ok {
		return true
	}
	for _, s := range b.reader.covered {
		if s.first <= i && i <= s.last {
			return true
		}
	}
	return false
}
