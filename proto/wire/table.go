package wire

import (
	"encoding/binary"
	"slices"
)

// table gives numbers that repeat small places.
type table struct {
	values []uint64
	at     map[uint64]uint32 // only where there are many
}

// few are found by looking at all of them.
const few = 8

func (t *table) reset() {
	t.values = t.values[:0]
	clear(t.at)
}

func (t *table) place(v uint64) int {
	if len(t.values) <= few {
		if i := slices.Index(t.values, v); i >= 0 {
			return i
		}
	} else if i, ok := t.at[v]; ok {
		return int(i)
	}
	t.values = append(t.values, v)
	switch n := len(t.values); {
	case n == few+1:
		if t.at == nil {
			t.at = map[uint64]uint32{}
		}
		for i, v := range t.values {
			t.at[v] = uint32(i)
		}
	case n > few+1:
		t.at[v] = uint32(n - 1)
	}
	return len(t.values) - 1
}

func (t *table) append(b []byte) []byte {
	b = binary.AppendUvarint(b, uint64(len(t.values)))
	for _, v := range t.values {
		b = binary.AppendUvarint(b, v)
	}
	return b
}

// texts gives byte strings that repeat small places. It remembers strings of
// batches before, so that meeting one again takes no memory.
type texts struct {
	at    map[string]textPlace
	batch uint64
	n     uint64
	size  int
	bytes []byte // of this batch, each behind its length
}

type textPlace struct{ batch, place uint64 }

// maxRemembered bounds what a texts keeps from batch to batch.
const maxRemembered = 1 << 20

func (t *texts) reset() {
	if t.at == nil || t.size > maxRemembered {
		t.at, t.size = map[string]textPlace{}, 0
	}
	t.batch++
	t.n, t.bytes = 0, t.bytes[:0]
}

func (t *texts) place(b []byte) uint64 {
	p, known := t.at[string(b)]
	if known && p.batch == t.batch {
		return p.place
	}
	p = textPlace{t.batch, t.n}
	t.n++
	t.bytes = appendPart(t.bytes, b)
	t.at[string(b)] = p
	if !known {
		t.size += len(b) + 64
	}
	return p.place
}

func (t *texts) append(b []byte) []byte {
	return append(binary.AppendUvarint(b, t.n), t.bytes...)
}
