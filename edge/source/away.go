package source

import "time"

// Times of a source that can't be reached, in machine time.
const (
	// awayAfter is how long it may be gone before the log says so: a restart or
	// a pulled plug is bridged by most devices and needs no record.
	awayAfter = 10 * time.Second
	// awayEvery is how often the log says it again: evidence that this agent
	// lived and looked, at a few hundred bytes a minute.
	awayEvery = time.Minute
)

// Away says when a reader that can't reach its device gives a void to the log
// (Sealer.Unheard). The zero value is a device that is there.
type Away struct{ next time.Time }

// Begin is called when the device is lost, at machine time now.
func (a *Away) Begin(now time.Time) { a.next = now.Add(awayAfter) }

// End is called when the device is there again.
func (a *Away) End() { a.next = time.Time{} }

// Due reports at machine time now whether the void is due, and counts it as said.
func (a *Away) Due(now time.Time) bool {
	if a.next.IsZero() || now.Before(a.next) {
		return false
	}
	a.next = now.Add(awayEvery)
	return true
}
