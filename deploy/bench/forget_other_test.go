//go:build !linux

package bench

import "testing"

// forget does nothing: this system has no way for a program to empty its cache.
func forget(*testing.T, string) {}
