//go:build race

package walk

// The race detector makes SQLite and bbolt ten times as slow, and there is no
// goroutine in the walk that a whole day could catch.
const (
	// hours of the plant: one before a production day, and its first shift.
	hours = 9
	// few are the hours that the tests beside TestWalk take.
	few = 3
)
