package main

import (
	"bytes"
	"fmt"
	"io/fs"
	"strings"
	"syscall"
	"testing"

	"plantmesh/edge/agent"
	"plantmesh/proto/answer"
)

// Whose rights don't reach is not told that the agent does not run, and a full disk is
// nothing that nobody foresaw.
func TestRules_OfRightsAndSpace(t *testing.T) {
	for err, want := range map[error]string{
		fmt.Errorf("%w: %w", agent.ErrNotAllowed, fs.ErrPermission):                "[daemon.not_allowed]\nNext:  sudo -u plantmesh-edge",
		fmt.Errorf("open the certificate store: %w", fs.ErrPermission):             "[data.unusable]\nNext:  sudo -u plantmesh-edge",
		fmt.Errorf("write the store: %w", syscall.ENOSPC):                          "[data.unusable]",
		fmt.Errorf("%w (nobody answers): %w", agent.ErrNotRunning, fs.ErrNotExist): "[daemon.not_running]\nNext:  plantmesh-edge run",
	} {
		var said bytes.Buffer
		p := &answer.Printer{Program: "plantmesh-edge", Err: &said}
		if code := p.Fail(err, new(cli).rules()); code != 6 || !strings.Contains(said.String(), want) {
			t.Errorf("%v: %d, %s", err, code, said.String())
		}
	}
}
