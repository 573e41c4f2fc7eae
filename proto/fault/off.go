//go:build !faultinject

package fault

// Point may end the process here; not in this build.
func Point(string) {}

// Err may fail here; not in this build.
func Err(string) error { return nil }
