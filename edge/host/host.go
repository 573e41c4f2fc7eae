// Package host says how the machine is that the agent runs on: disk, memory, clock.
// It looks, and but for a file that it writes and takes away, and for Shut, it changes nothing.
package host

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Clock is how this machine's clock is kept.
type Clock struct {
	Kept   bool          // a time service has set it and goes on doing so
	Offset time.Duration // what the kernel is still correcting
	Most   time.Duration // by how much it may be off, as that service says
}

// Disk is the file system that holds a folder.
type Disk struct {
	Size      int64 // bytes
	Free      int64 // for this user
	Files     uint64
	FilesFree uint64
	ReadOnly  bool
}

// Memory is what there is of it, in bytes; of a control group its bound and use, 0: none.
type Memory struct {
	Total, Available int64
	Bound, Used      int64
}

// Left is how much more can be used.
func (m Memory) Left() int64 {
	if m.Bound > 0 {
		return min(m.Available, m.Bound-m.Used)
	}
	return m.Available
}

// readMemory reads /proc/meminfo (proc_meminfo(5)), and the control group's bound
// (cgroup v2, memory.max) below root.
func readMemory(proc, groups string) (m Memory, err error) {
	b, err := os.ReadFile(filepath.Join(proc, "meminfo"))
	if err != nil {
		return m, fmt.Errorf("read the memory: %w", err)
	}
	lines := bufio.NewScanner(bytes.NewReader(b))
	for lines.Scan() {
		f := strings.Fields(lines.Text())
		if len(f) < 2 {
			continue
		}
		kib, err := strconv.ParseInt(f[1], 10, 64)
		if err != nil {
			continue // a line of another kind
		}
		switch f[0] {
		case "MemTotal:":
			m.Total = kib << 10
		case "MemAvailable:":
			m.Available = kib << 10
		}
	}
	if m.Total == 0 {
		return m, errors.New("read the memory: /proc/meminfo has no MemTotal")
	}
	own, err := os.ReadFile(filepath.Join(proc, "self", "cgroup"))
	if err != nil {
		return m, nil //nolint:nilerr // no control groups here
	}
	for line := range strings.Lines(string(own)) {
		if at, v2 := strings.CutPrefix(strings.TrimSpace(line), "0::"); v2 {
			m.Bound = number(filepath.Join(groups, at, "memory.max"))
			m.Used = number(filepath.Join(groups, at, "memory.current"))
		}
	}
	return m, nil
}

// number is a file's one number; 0: it has none, as "max".
func number(path string) int64 {
	b, err := os.ReadFile(path)
	if err != nil {
		return 0
	}
	n, err := strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64)
	if err != nil {
		return 0
	}
	return n
}

// Existing is the folder at path, or the nearest one above it that is there.
func Existing(path string) string {
	for {
		if _, err := os.Stat(path); err == nil || path == filepath.Dir(path) {
			return path
		}
		path = filepath.Dir(path)
	}
}

// block is what each durable write appends: about what a small commit has.
const block = 4 << 10

// Syncs writes n blocks into a new file of dir, each made durable by sync (nil: as the
// system does it), and takes the file away. It gives how long each took, sorted.
func Syncs(ctx context.Context, dir string, n int, sync func(*os.File) error) (took []time.Duration, err error) {
	if sync == nil {
		sync = (*os.File).Sync
	}
	f, err := os.CreateTemp(dir, ".check-*")
	if err != nil {
		return nil, fmt.Errorf("write into %s: %w", dir, err)
	}
	defer func() { err = errors.Join(err, f.Close(), os.Remove(f.Name())) }()
	b := make([]byte, block)
	for range n {
		if ctx.Err() != nil {
			break // what was measured says enough
		}
		began := time.Now()
		if _, err := f.Write(b); err != nil {
			return nil, fmt.Errorf("write into %s: %w", dir, err)
		}
		if err := sync(f); err != nil {
			return nil, fmt.Errorf("make durable in %s: %w", dir, err)
		}
		took = append(took, time.Since(began))
	}
	if len(took) == 0 {
		return nil, fmt.Errorf("nothing was written into %s in time: %w", dir, context.Cause(ctx))
	}
	slices.Sort(took)
	return took, nil
}

// Open says which rights a file gives to others than its owner; 0: none.
func Open(path string) (fs.FileMode, error) {
	info, err := os.Stat(path)
	if err != nil {
		return 0, err
	}
	return info.Mode().Perm() & 0o077, nil
}
