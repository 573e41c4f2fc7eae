//go:build !linux

package source

import "os/exec"

// die does nothing here: the worker ends when its input does.
func die(*exec.Cmd) {}
