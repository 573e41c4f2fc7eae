package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"plantmesh/edge/agent"
	"plantmesh/edge/status"
	"plantmesh/proto/answer"
	"plantmesh/proto/strict"
)

// errExists is returned instead of writing over a file.
var errExists = errors.New("the file is there already")

type bufferExportCmd struct {
	windowFlags

	Config string `required:"" type:"path" short:"c" help:"edge.yaml"`
	Source string `help:"Of this source alone."`
	Format string `default:"records" enum:"records,jsonl,csv" help:"records: whole records that touch the window, as dump and rules backtest --input read them; jsonl or csv: a line for each sample within it, to carry away."`
	File   string `arg:"" type:"path" help:"The file to write; it must not be there yet."`
}

func (c *bufferExportCmd) Run(ctx context.Context, p *answer.Printer) error {
	if err := c.check(false); err != nil {
		return err
	}
	cfg, err := agent.OpenConfig(c.Config, agent.Data)
	if err != nil {
		return err
	}
	if _, err := agent.Status(ctx, cfg); err != nil { // before a file is made
		return err
	}
	var e agent.Exported
	written, err := whole(c.File, func(to io.Writer) (bool, error) {
		e, err = agent.ExportBuffer(ctx, cfg, to, status.ExportQuery{From: c.From, To: c.To, Source: c.Source}, agent.Form(c.Format))
		return e.Records > 0 && (e.Samples > 0 || c.Format == string(agent.Records)), err
	})
	if err != nil {
		return err
	}
	r := answer.Result{Data: exported{e, c.File}, Text: c.text(&e)}
	switch {
	case !written:
		r.Data, r.Next = exported{e, ""}, answer.Command("plantmesh-edge", "buffer", "status", "--config", c.Config)
	case c.Format == string(agent.Records):
		r.Next = answer.Command("plantmesh-edge", "dump", c.File)
	}
	return p.Print(r)
}

// exported is the answer of --json.
type exported struct {
	agent.Exported

	File string `json:"file"` // empty: none was written, as nothing was found
}

// text is what was written, in words.
func (c *bufferExportCmd) text(e *agent.Exported) string {
	var text strings.Builder
	samples := c.Format != string(agent.Records)
	switch {
	case e.Records == 0 || samples && e.Samples == 0:
		text.WriteString("no file is written: nothing that was asked for is kept here\n")
	case samples:
		fmt.Fprintf(&text, "%s: %d samples, from %s to %s\n", filepath.Base(c.File), e.Samples, e.First, e.Last)
	case e.Samples == 0:
		fmt.Fprintf(&text, "%s: %d records without samples\n", filepath.Base(c.File), e.Records)
	default:
		fmt.Fprintf(&text, "%s: %d records with %d samples, from %s to %s\n", filepath.Base(c.File), e.Records, e.Samples, e.First, e.Last)
		if c.From+c.To != "" {
			text.WriteString("records go whole: some samples of them may lie beside the window\n")
		}
	}
	if e.Outside > 0 {
		fmt.Fprintf(&text, "%d samples of the same records lie beside the window, and are left out\n", e.Outside)
	}
	if e.Unread > 0 {
		fmt.Fprintf(&text, "%d records could not be opened, and are left out: buffer verify says more\n", e.Unread)
	}
	switch {
	case e.Missing != "":
		text.WriteString(e.Missing + "\n")
	case e.Earliest != "" && c.From+c.To != "":
		fmt.Fprintf(&text, "kept here is what was from %s on\n", e.Earliest)
	}
	return text.String()
}

// whole writes a file that is not there yet, whole or not at all: what is written so far has a
// name of its own until it is on the disk. write reports whether there is anything to keep.
func whole(file string, write func(to io.Writer) (bool, error)) (kept bool, err error) {
	if _, err := os.Lstat(file); err == nil {
		return false, there(file)
	}
	out, err := os.CreateTemp(filepath.Dir(file), "."+filepath.Base(file)+".*.part") // made with mode 0600
	if err != nil {
		return false, unwritable(file, err)
	}
	kept, err = write(out)
	if err == nil && kept {
		err = out.Sync()
	}
	if err = errors.Join(err, out.Close()); err == nil && kept {
		err = settle(out.Name(), file)
	}
	if err != nil || !kept {
		return false, errors.Join(unwritable(file, err), os.Remove(out.Name()))
	}
	return true, nil
}

// settle gives a file its name, unless another has it by now. A memory stick has no links:
// there only a look goes before.
func settle(made, file string) error {
	err := os.Link(made, file)
	switch _, taken := os.Lstat(file); {
	case err == nil:
		err = os.Remove(made)
	case errors.Is(err, fs.ErrExist), taken == nil:
		return there(file)
	default:
		err = os.Rename(made, file)
	}
	if err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(file))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

func there(file string) error {
	return fmt.Errorf("%w: %s; name another one, or remove it", errExists, file)
}

// unwritable is what went wrong with a file, as an error of that file.
func unwritable(file string, err error) error {
	wrong, ok := errors.AsType[*fs.PathError](err)
	switch {
	case !ok:
		return err
	case errors.Is(err, syscall.ENOSPC): // nothing is wrong with the name
		return fmt.Errorf("%s can't be written: %w", file, syscall.ENOSPC)
	}
	return &strict.Fault{File: file, What: "can't be written: " + wrong.Err.Error()}
}
