//go:build !linux

package bench

import (
	"io/fs"
	"os"
)

// blocks are the bytes a file takes, as far as this system tells.
func blocks(info fs.FileInfo) int64 { return info.Size() }

// dataSync makes a file durable.
func dataSync(f *os.File) error { return f.Sync() }
