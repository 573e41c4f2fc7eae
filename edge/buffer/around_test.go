package buffer

import (
	"bytes"
	"encoding/binary"
	"os"
	"slices"
	"testing"

	"plantmesh/proto/mesh"
)

// spoil flips a bit of a record in all places of a segment where it stands.
func spoil(t *testing.T, path string, sealed []byte) {
	t.Helper()
	file, err := os.ReadFile(path)
	check(t, err)
	part := sealed[len(sealed)/2:][:40] // of one piece
	found := 0
	for rest := file; ; found++ {
		i := bytes.Index(rest, part)
		if i < 0 {
			break
		}
		rest[i] ^= 1
		rest = rest[i+1:]
	}
	if found == 0 {
		t.Fatal("the record stands nowhere")
	}
	check(t, os.WriteFile(path, file, 0o600))
}

// proof is what the agent keeps of a source beside its state.
func proof(source string, through mesh.Nanos) mesh.Offer {
	return mesh.Offer{Source: "@proof/" + source, State: binary.LittleEndian.AppendUint64(nil, uint64(through))}
}

// doubtOn is what a source is told.
func doubtOn(t *testing.T, b *Buffer, source string) (proven, until mesh.Nanos, old bool) {
	t.Helper()
	s, err := b.State(doubtOf + source)
	check(t, err)
	if len(s) < doubtHead {
		return 0, 0, false
	}
	return mesh.Nanos(binary.LittleEndian.Uint64(s)), mesh.Nanos(binary.LittleEndian.Uint64(s[8:])), s[16] != 0
}

// TestBuffer_ADamagedRecordNamesWhoseItWas: what can't be read says nothing of
// itself any more. The source is the one whose proof has a hole there, or of which
// nothing stands behind it; the times are those between its neighbours.
func TestBuffer_ADamagedRecordNamesWhoseItWas(t *testing.T) {
	t.Parallel()
	const n = 20 // samples, one a nanosecond
	part := func(source string, from, to mesh.Nanos) mesh.Part {
		return mesh.Part{Source: source, Times: mesh.Span{From: from, To: to}}
	}
	for lost, want := range map[int][]mesh.Part{ // of ten records of each source
		4: {part("a", 1080, 1120)},
		9: {part("a", 1180, 1200)},
	} {
		cfg := testConfig(quickDir(t))
		b := mustOpen(t, cfg)
		var gone []byte
		for i := range 10 {
			at := mesh.Nanos(1000 + i*n)
			a := offer(t, "a", at, n)
			if i == lost {
				gone = bytes.Clone(a.Sealed[0])
			}
			mustAppend(t, b, a, proof("a", at+n))
			mustAppend(t, b, offer(t, "b", at+5, n), proof("b", at+n+5))
		}
		mustAppend(t, b, offer(t, "b", 1205, n), proof("b", 1225))
		mustClose(t, b)
		spoil(t, segments(t, cfg.Dir)[0], gone)
		b = mustOpen(t, cfg)
		voids := voidsOf(t, all(t, b))
		if len(voids) != 1 || voids[0].Cause != mesh.CauseDamaged || !slices.Equal(voids[0].Parts, want) {
			t.Errorf("record %d: voids %+v, want %+v", lost, voids, want)
		}
	}
}

// TestBuffer_ASourceIsToldWhatIsLost: only where what it proves next may cover it.
func TestBuffer_ASourceIsToldWhatIsLost(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		proven mesh.Nanos // of 30020
		hurt   func(t *testing.T, path string, sealed []byte)
		until  mesh.Nanos
		old    bool
	}{
		{"a record that proved less than it held", 30010, spoil, 30020, false},
		{"a record that proved what it held", 30020, spoil, 0, false},
		{"the newest segment", 30020, func(t *testing.T, path string, _ []byte) { t.Helper(); check(t, os.Truncate(path, 0)) }, 1 << 60, true},
	} {
		cfg := testConfig(quickDir(t))
		b := mustOpen(t, cfg)
		for b.Stats().Segments < 2 {
			mustAppend(t, b, offer(t, "a", 1, 20000), proof("a", 20001))
		}
		o := offer(t, "a", 30000, 20)
		sealed := bytes.Clone(o.Sealed[0])
		mustAppend(t, b, o, proof("a", c.proven))
		mustClose(t, b)
		c.hurt(t, segments(t, cfg.Dir)[1], sealed)
		b = mustOpen(t, cfg)
		all(t, b)
		proven, until, old := doubtOn(t, b, "a")
		if c.old && until > c.proven { // the clock of the machine
			until = c.until
		}
		if old != c.old || until != c.until || until > 0 && !old && proven != c.proven {
			t.Errorf("%s: proven %d, until %d, old %v", c.name, proven, until, old)
		}
	}
}
