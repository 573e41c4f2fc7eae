package demo

import (
	"os/exec"
	"syscall"
)

// own makes the child die with the demo, even when the demo is killed, and
// keeps a Ctrl-C in the terminal from reaching it first: the demo stops its
// children in order.
func own(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
}
