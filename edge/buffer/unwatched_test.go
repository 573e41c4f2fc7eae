package buffer

import "testing"

// unwatched leaves a long test of one goroutine out where the race detector watches,
// which is -short: it has nothing to see there. `make test` runs it whole, too.
func unwatched(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("skipped: one goroutine only; it runs whole, without the race detector")
	}
}
