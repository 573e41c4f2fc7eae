package sme

import (
	"os/exec"
	"syscall"
)

// own makes the child die with the test, even when the test is killed.
func own(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }
