// Package clock has the two clocks of the house. The plant clock says event
// time: rule windows, proof, completeness, suspicion. The machine clock says
// timeouts, commit windows and credentials; it is never scaled.
//
// In a plant both are the same. A demo runs the plant clock K times as fast:
// every process reads the one file that says how.
package clock

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"plantmesh/proto/mesh"
)

// Clock tells an instant. Safe for concurrent use.
type Clock interface{ Now() mesh.Nanos }

// Machine is the operating system's wall clock.
type Machine struct{}

// Now implements Clock.
func (Machine) Now() mesh.Nanos { return mesh.NanosOf(time.Now()) }

// Plant is the contents of a plant clock file: at machine instant Machine the
// plant showed Plant, and from there it runs Speed times as fast, until Stop.
type Plant struct {
	Plant   mesh.Nanos `json:"plant_ns"`
	Machine mesh.Nanos `json:"machine_ns"` // 0: the plant clock stands at Plant
	Speed   float64    `json:"speed"`
	Stop    mesh.Nanos `json:"stop_ns"` // 0: runs for ever
}

// At is the plant instant at this machine instant.
func (p Plant) At(machine mesh.Nanos) mesh.Nanos {
	if p.Machine == 0 {
		return p.Plant
	}
	now := p.Plant + mesh.Nanos(float64(max(0, machine-p.Machine))*p.Speed)
	if p.Stop != 0 {
		now = min(now, p.Stop)
	}
	return now
}

// MachineAt is the machine instant at which the plant shows t; ok is false
// while the plant clock stands, or where it stops before t.
func (p Plant) MachineAt(t mesh.Nanos) (machine mesh.Nanos, ok bool) {
	if p.Machine == 0 || p.Speed <= 0 || p.Stop != 0 && t > p.Stop {
		return 0, false
	}
	return p.Machine + mesh.Nanos(float64(t-p.Plant)/p.Speed), true
}

// Write puts p into the file at path, whole or not at all.
func (p Plant) Write(path string) error {
	b, err := json.Marshal(p)
	if err != nil {
		return fmt.Errorf("encode the plant clock: %w", err)
	}
	tmp, err := os.CreateTemp(filepath.Dir(path), ".clock-*")
	if err != nil {
		return fmt.Errorf("write the plant clock: %w", err)
	}
	_, err = tmp.Write(append(b, '\n'))
	if cerr := tmp.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(tmp.Name(), path)
	}
	if err != nil {
		_ = os.Remove(tmp.Name())
		return fmt.Errorf("write the plant clock: %w", err)
	}
	return nil
}

// rereadEvery bounds how long a process goes on with an old plant clock.
const rereadEvery = 100 * time.Millisecond

// File is the plant clock in a file, read again when it changes. Safe for
// concurrent use.
type File struct {
	path string

	mu   sync.Mutex // protects the fields below
	last Plant
	seen time.Time // machine time of the last look
}

// Open reads the plant clock at path.
func Open(path string) (*File, error) {
	f := &File{path: path}
	return f, f.read()
}

// Now implements Clock. A file that can't be read any more leaves the last
// good clock in force.
func (f *File) Now() mesh.Nanos { return f.Plant().At(mesh.NanosOf(time.Now())) }

// Plant is what the file says now.
func (f *File) Plant() Plant {
	f.mu.Lock()
	defer f.mu.Unlock()
	if time.Since(f.seen) > rereadEvery {
		f.seen = time.Now()
		_ = f.read() // the last good clock stays in force
	}
	return f.last
}

func (f *File) read() error {
	b, err := os.ReadFile(f.path)
	if err != nil {
		return fmt.Errorf("read the plant clock: %w", err)
	}
	var p Plant
	if err := json.Unmarshal(b, &p); err != nil {
		return fmt.Errorf("read the plant clock %s: %w", f.path, err)
	}
	if p.Plant == 0 {
		return fmt.Errorf("the plant clock %s says no plant_ns", f.path)
	}
	f.last = p
	return nil
}
