//go:build race

package sim

// slow says that the race detector watches: a schedule takes ten times as long.
const slow = true
