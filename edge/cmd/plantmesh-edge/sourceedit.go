package main

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"plantmesh/edge/agent"
	"plantmesh/proto/answer"
)

type sourceEditCmd struct{ oneSource }

func (c *sourceEditCmd) Run(ctx context.Context, p *answer.Printer) error {
	cfg, l, err := c.find(ctx)
	if err != nil {
		return err
	}
	if !terminal(os.Stdin) {
		return &answer.Error{
			Code: answer.Usage, Message: "source edit opens an editor, and there is no terminal here",
			Hint: "edit " + l.File + " as any file; check then says what is wrong with it",
			Fix:  answer.Command("plantmesh-edge", "check", "--section", "configuration", "--config", c.Config),
		}
	}
	lines := bufio.NewReader(os.Stdin)
	again := func(err error) bool {
		e := answer.Of(err)
		if e.Hint != "" {
			e.Message += "; " + e.Hint
		}
		p.Ask("%s\nnothing is written. Edit it again? [Y/n] ", e.Message)
		said, err := lines.ReadString('\n')
		return err == nil && !strings.HasPrefix(strings.ToLower(strings.TrimSpace(said)), "n")
	}
	changed, err := edited(&cfg, l, func(file string) error { return editor(ctx, file) }, again)
	if err != nil {
		return err
	}
	if !changed {
		return p.Print(answer.Result{Data: l, Text: l.File + " is as it was\n"})
	}
	text := l.File + " is written; "
	if l.Enabled {
		text += restart(ctx, &cfg)
	} else {
		text += "it is disabled, and not read\n"
	}
	return p.Print(answer.Result{Data: l, Text: text, Next: answer.Command("plantmesh-edge", "source", "test", "--config", c.Config, l.File)})
}

// edited has somebody edit a copy of a source's file until it can be read, or it is given up;
// only then it takes the file's place. again is asked where it can't be read.
func edited(cfg *agent.Config, l agent.SourceListed, edit func(file string) error, again func(error) bool) (changed bool, err error) {
	was, err := cfg.TextOf(l)
	if err != nil {
		return false, err
	}
	dir, err := os.MkdirTemp("", "plantmesh-edit-") // for this user alone: a file may hold a password
	if err != nil {
		return false, fmt.Errorf("make room for a copy: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }() // else a password would lie there, and nobody knew
	file := filepath.Join(dir, strings.TrimSuffix(filepath.Base(l.File), ".disabled"))
	if err := os.WriteFile(file, was, 0o600); err != nil {
		return false, fmt.Errorf("write a copy: %w", err)
	}
	for {
		if err := edit(file); err != nil {
			return false, err
		}
		now, err := os.ReadFile(file)
		if err != nil {
			return false, fmt.Errorf("read the copy: %w", err)
		}
		if bytes.Equal(now, was) {
			return false, nil
		}
		if err = cfg.Rewrite(l, was, now); err == nil {
			return true, nil
		}
		if !again(err) {
			return false, err
		}
	}
}

// editor opens the user's editor.
func editor(ctx context.Context, file string) error {
	words := strings.Fields(cmp.Or(os.Getenv("VISUAL"), os.Getenv("EDITOR"), "vi"))
	cmd := exec.CommandContext(ctx, words[0], append(words[1:], file)...) //nolint:gosec // the user says which
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stderr, os.Stderr
	if err := cmd.Run(); err != nil {
		return &answer.Error{Code: answer.Usage, Message: fmt.Sprintf("the editor %s: %v; nothing is written", words[0], err), Hint: "EDITOR says which one is used"}
	}
	return nil
}

// terminal says whether somebody types there.
func terminal(f *os.File) bool {
	info, err := f.Stat()
	if err != nil || info.Mode()&os.ModeCharDevice == 0 {
		return false
	}
	null, err := os.Stat(os.DevNull)
	return err != nil || !os.SameFile(info, null)
}
