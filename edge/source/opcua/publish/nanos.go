package publish

// A DateTime counts 100 ns from 1601-01-01 UTC (OPC 10000-6, 5.2.2.5).
const (
	tickNanos = 100
	unixEpoch = 11_644_473_600 * 10_000_000          // ticks at 1970-01-01, 134,774 days later
	ticksEnd  = unixEpoch + 9_214_646_400*10_000_000 // ticks at 2262-01-01: int64 nanoseconds end in that year
)

// Nanos makes Unix nanoseconds (since 1970-01-01 UTC) of ticks, which are 100 ns
// since 1601-01-01 UTC. It is not ok where they are 0, which stands for no time,
// or not within the years 1970 to 2261.
func Nanos(ticks int64) (unixNanos int64, ok bool) {
	if ticks < unixEpoch || ticks >= ticksEnd {
		return 0, false
	}
	return (ticks - unixEpoch) * tickNanos, true
}
