package source

import (
	"os"
	"syscall"
)

// most is the most memory a process had, in KiB.
func most(p *os.ProcessState) int64 {
	if u, ok := p.SysUsage().(*syscall.Rusage); ok {
		return u.Maxrss
	}
	return 0
}
