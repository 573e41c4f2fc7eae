//go:build !linux

package host

import "errors"

// ReadClock is not known here.
func ReadClock() (Clock, error) { return Clock{}, errors.ErrUnsupported }

// ReadDisk is not known here.
func ReadDisk(string) (Disk, error) { return Disk{}, errors.ErrUnsupported }

// Owner is not known here.
func Owner(string) (uint32, error) { return 0, errors.ErrUnsupported }

// ReadMemory is not known here.
func ReadMemory() (Memory, error) { return Memory{}, errors.ErrUnsupported }

// Files is not known here.
func Files() (uint64, error) { return 0, errors.ErrUnsupported }

// Shut is not known here.
func Shut(string) error { return errors.ErrUnsupported }
