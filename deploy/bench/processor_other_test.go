//go:build !linux

package bench

import "time"

// processor is the wall clock: this system has no time of a thread.
func processor() time.Duration { return time.Duration(time.Now().UnixNano()) }

// process is likewise.
func process() time.Duration { return processor() }
