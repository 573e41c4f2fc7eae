package buffer

import "syscall"

// spare tells the kernel that n mapped bytes at an address are not needed for
// now: they stay in its cache, and are no longer counted as this process's.
// Whoever reads them next gets them again.
func spare(at uintptr, n int64) {
	_, _, _ = syscall.Syscall(syscall.SYS_MADVISE, at, uintptr(n), syscall.MADV_DONTNEED) // nothing is lost where it refuses
}
