package opcua

import (
	"os/exec"
	"syscall"
)

// own makes the program die with the tests, even when they are killed.
func own(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
}
