package source

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"time"
)

// workerMemory makes a worker's collector fight before the kernel has to (see
// Confine), which counts some 40 MiB more.
const workerMemory = "GOMEMLIMIT=160MiB"

// workerProcessors: what a source says comes one after the other. A second processor
// is only woken to find nothing, and reading costs a sixth more (bench row
// opcua_client_cpu). Who sets it in the agent's environment means it.
const workerProcessors = "GOMAXPROCS=1"

// lastWait is how long the last words of a dead worker are waited for: somebody
// else may have got its standard error.
const lastWait = 2 * time.Second

// Exec starts the program at path as a worker process. It inherits the
// environment, then env; what it writes to standard error goes to stderr, of the
// dump of one that dies only the beginning. Wait says what it died of. On Linux the
// kernel kills it when the agent dies.
func Exec(path string, args, env []string, stderr io.Writer) (Process, error) {
	cmd := exec.Command(path, args...) //nolint:gosec,noctx // the agent's own program file, and the supervisor ends it gently
	cmd.Env = slices.Concat([]string{workerProcessors}, os.Environ(), []string{workerMemory}, env)
	last := &lastWords{to: stderr}
	cmd.Stderr, cmd.WaitDelay = last, lastWait
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
	return &child{cmd: cmd, in: in, out: out, last: last}, nil
}

// child is a Process of the operating system.
type child struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out io.Reader

	last *lastWords
}

func (c *child) Stdin() io.WriteCloser { return c.in }
func (c *child) Stdout() io.Reader     { return c.out }
func (c *child) Kill() error           { return c.cmd.Process.Kill() }

// Wait implements Process.
func (c *child) Wait() error {
	err := c.cmd.Wait()
	if said := c.last.said(); err != nil && said != "" {
		return fmt.Errorf("%s (%w)", said, err)
	}
	return err
}
