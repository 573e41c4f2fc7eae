package main

import (
	"errors"
	"fmt"
	"os"

	"plantmesh/proto/answer"
	"plantmesh/proto/strict"
	"plantmesh/proto/wire"
)

// errDamaged is returned when a dumped file holds more than could be read.
var errDamaged = errors.New("not all of it can be read")

type dumpCmd struct {
	File string `arg:"" help:"A file of frames, or - for standard input."`
}

// Run prints a line of JSON for each frame and each sample, also without
// --json: samples have no better words.
func (c *dumpCmd) Run(p *answer.Printer) error {
	in := os.Stdin
	if c.File != "-" {
		f, err := os.Open(c.File)
		if err != nil {
			return &strict.Fault{File: c.File, What: strict.Unreadable(err)}
		}
		defer f.Close() //nolint:errcheck // it was only read
		in = f
	}
	if err := wire.Dump(p.Out, in); err != nil {
		return fmt.Errorf("%s: %w: %w", c.File, errDamaged, err)
	}
	return nil
}
