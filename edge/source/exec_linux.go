package source

import (
	"os/exec"
	"syscall"
)

// die makes the kernel kill the worker when the agent dies, and takes it out
// of the terminal's group: an interrupt is the agent's to handle.
func die(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
}
