//go:build !race

package walk

const (
	// hours of the plant: one before a production day, the day, one after.
	hours = 26
	// few are the hours that the tests beside TestWalk take.
	few = 7
)
