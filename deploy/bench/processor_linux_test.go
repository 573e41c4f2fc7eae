package bench

import (
	"time"

	"golang.org/x/sys/unix"
)

// processor is the processor time of this thread, to the nanosecond: getrusage
// counts whole ticks.
func processor() time.Duration { return clockOf(unix.CLOCK_THREAD_CPUTIME_ID) }

// process is the processor time of the whole process.
func process() time.Duration { return clockOf(unix.CLOCK_PROCESS_CPUTIME_ID) }

func clockOf(id int32) time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(id, &t); err != nil {
		return time.Duration(time.Now().UnixNano())
	}
	return time.Duration(t.Nano())
}
