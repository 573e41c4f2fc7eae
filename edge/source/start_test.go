package source

import (
	"fmt"
	"testing"
)

// A source whose start does not fit into the pipe could never begin again.
func TestStart_ManyPartsOfAState(t *testing.T) {
	s := start{resume: []byte("r"), config: []byte("c"), kept: map[string][]byte{}}
	for i := range 2 * maxPieces {
		s.kept[fmt.Sprint("part/", i)] = []byte{1}
	}
	got, err := decodeStart(s.encode())
	if err != nil || len(got.kept) != len(s.kept) {
		t.Errorf("%d of %d parts: %v", len(got.kept), len(s.kept), err)
	}
}
