package source

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"syscall"
)

// confine has the kernel refuse more private memory than limit: Go's runtime then
// ends the process at once, and says so. Unlike the limit of the address space it
// counts what is used, not what is reserved.
func confine(limit uint64) error {
	b, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return fmt.Errorf("bound the worker's memory: %w", err)
	}
	const dataField = 5 // size resident shared text lib data dt, in pages (proc_pid_statm)
	f := bytes.Fields(b)
	if len(f) <= dataField {
		return fmt.Errorf("bound the worker's memory: /proc/self/statm has %d fields", len(f))
	}
	pages, err := strconv.ParseUint(string(f[dataField]), 10, 64)
	if err != nil {
		return fmt.Errorf("bound the worker's memory: %w", err)
	}
	if has := pages * uint64(os.Getpagesize()); has > limit/2 {
		return fmt.Errorf("bound the worker's memory: it has %d MiB at its start, of at most %d (a build that looks for races is like that)", has>>20, limit>>20)
	}
	if err := syscall.Setrlimit(syscall.RLIMIT_DATA, &syscall.Rlimit{Cur: limit, Max: limit}); err != nil {
		return fmt.Errorf("bound the worker's memory: %w", err)
	}
	return nil
}
