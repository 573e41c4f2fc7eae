package source

import (
	"fmt"
	"io"
	"os"
	"os/exec"
)

// workerMemory makes a worker's collector fight before the kernel has to: a
// worker of 5,000 signals needs about 20 MiB.
const workerMemory = "GOMEMLIMIT=256MiB"

// Exec starts the program at path as a worker process. It inherits the
// environment, then env; what it writes to standard error goes to stderr. On
// Linux the kernel kills it when the agent dies.
func Exec(path string, args, env []string, stderr io.Writer) (Process, error) {
	cmd := exec.Command(path, args...) //nolint:gosec,noctx // the agent's own program file, and the supervisor ends it gently
	cmd.Env = append(append(os.Environ(), workerMemory), env...)
	cmd.Stderr = stderr
	die(cmd)
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("make the worker's input: %w", err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("make the worker's output: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", path, err)
	}
	return &child{cmd: cmd, in: in, out: out}, nil
}

// child is a Process of the operating system.
type child struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out io.Reader
}

func (c *child) Stdin() io.WriteCloser { return c.in }
func (c *child) Stdout() io.Reader     { return c.out }
func (c *child) Wait() error           { return c.cmd.Wait() }
func (c *child) Kill() error           { return c.cmd.Process.Kill() }
