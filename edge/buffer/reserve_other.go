//go:build unix && !linux

package buffer

import "os"

func allocate(f *os.File, from, n int64) error { return write(f, from, n) }
