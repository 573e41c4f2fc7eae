package bench

import (
	"time"

	"golang.org/x/sys/unix"
)

// processor is the processor time of this thread, to the nanosecond: getrusage
// counts whole ticks.
func processor() time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &t); err != nil {
		return time.Duration(time.Now().UnixNano())
	}
	return time.Duration(t.Nano())
}
