package main

import (
	"bufio"
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"

	"plantmesh/edge/agent"
	"plantmesh/proto/answer"
	"plantmesh/proto/strict"
	"plantmesh/proto/wire"
)

// errDamaged is returned when a dumped file holds more than could be read.
var errDamaged = errors.New("not all of it can be read")

type dumpCmd struct {
	windowFlags

	Format string `default:"frames" enum:"frames,jsonl,csv" help:"frames: all that stands in it, as it stands there; jsonl or csv: a line for each sample with the names of its record's table, as buffer export writes them. A window has jsonl."`
	File   string `arg:"" help:"A file of frames, or - for standard input. One that buffer export wrote as lines is printed as it is."`
}

// frames is the --format that prints all there is.
const frames = "frames"

// Run prints a line of JSON for each frame and each sample, also without
// --json: samples have no better words.
func (c *dumpCmd) Run(p *answer.Printer) error {
	if err := c.check(false); err != nil {
		return err
	}
	in := os.Stdin
	if c.File != "-" {
		f, err := os.Open(c.File)
		if err != nil {
			return &strict.Fault{File: c.File, What: strict.Unreadable(err)}
		}
		defer f.Close() //nolint:errcheck // it was only read
		in = f
	}
	if err := c.dump(p, bufio.NewReader(in)); err != nil {
		return fmt.Errorf("%s: %w: %w", c.File, errDamaged, err)
	}
	return nil
}

func (c *dumpCmd) dump(p *answer.Printer, in *bufio.Reader) error {
	windowed := c.From+c.To != ""
	switch {
	case lines(in) && c.Format == frames && !windowed:
		if _, err := io.Copy(p.Out, in); err != nil {
			return fmt.Errorf("print its lines: %w", err)
		}
		return nil
	case lines(in):
		return errors.New("it has a line for each sample already, as buffer export --format jsonl or csv writes them")
	case c.Format == frames && !windowed:
		return wire.Dump(p.Out, in)
	}
	form := agent.Form(c.Format)
	if c.Format == frames {
		form = agent.JSONL
	}
	e, err := agent.Lines(p.Out, in, form, c.From, c.To)
	if err != nil {
		return err
	}
	notes(p.Narration(), []string{fmt.Sprintf("%d samples, from %s to %s; %d beside the window", e.Samples, cmp.Or(e.First, "–"), cmp.Or(e.Last, "–"), e.Outside)})
	if e.Unread > 0 {
		return fmt.Errorf("%d of its records", e.Unread)
	}
	return nil
}

// lines reports whether a file is one that buffer export wrote as lines.
func lines(in *bufio.Reader) bool {
	begin, _ := in.Peek(len(`time,source,signal,`)) // a shorter one is none
	return bytes.HasPrefix(begin, []byte(`{"time":"`)) || string(begin) == `time,source,signal,`
}
