//go:build !linux

package bench

import "io/fs"

// blocks are the bytes a file takes, as far as this system tells.
func blocks(info fs.FileInfo) int64 { return info.Size() }
