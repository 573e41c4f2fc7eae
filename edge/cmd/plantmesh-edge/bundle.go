package main

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	"plantmesh/edge/agent"
	"plantmesh/proto/answer"
	"plantmesh/proto/strict"
)

// bundleCmd gathers what somebody who helps needs.
type bundleCmd struct {
	Config string `required:"" type:"path" short:"c" help:"edge.yaml"`
	Out    string `type:"path" help:"The file to write, where no file is yet; default: support-GATEWAY-TIME.tar.gz here."`
	List   bool   `help:"Only print what would be in it."`
}

func (c *bundleCmd) Run(ctx context.Context, p *answer.Printer) error {
	pieces, err := agent.Bundle(ctx, c.Config)
	if err != nil {
		return err
	}
	names := make([]string, len(pieces))
	for i, x := range pieces {
		names[i] = x.Name
	}
	text := agent.Contents(pieces)
	if c.List {
		return p.Print(answer.Result{Data: map[string]any{"files": names}, Text: text})
	}
	now := time.Now().UTC()
	if c.Out == "" {
		host, _ := os.Hostname() // nobody has to have one
		c.Out = fmt.Sprintf("support-%s-%s.tar.gz", host, now.Format("20060102-150405"))
	}
	if !p.JSON {
		p.Say("%s", text)
	}
	if err := writeBundle(c.Out, pieces, now); err != nil {
		return err
	}
	return p.Print(answer.Result{
		Data: map[string]any{"file": c.Out, "files": names}, Text: c.Out + "\n",
		Next: answer.Command("tar", "-xOzf", c.Out, "READ-ME.txt") + "   (what is in it, and what is not; nothing was sent)",
	})
}

// writeBundle writes a file that only its owner reads; half of one is taken away again.
func writeBundle(path string, pieces []agent.Piece, at time.Time) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	switch {
	case errors.Is(err, fs.ErrExist):
		return fmt.Errorf("%w: %s; name another one, or remove it", errExists, path)
	case err != nil:
		return &strict.Fault{File: path, What: "can't be written: " + err.Error()}
	}
	if err := errors.Join(pack(f, pieces, at), f.Close()); err != nil {
		return errors.Join(&strict.Fault{File: path, What: "can't be written: " + err.Error()}, os.Remove(path))
	}
	return nil
}

func pack(to io.Writer, pieces []agent.Piece, at time.Time) error {
	z := gzip.NewWriter(to)
	t := tar.NewWriter(z)
	for _, p := range pieces {
		if err := t.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: p.Name, Mode: 0o600, Size: int64(len(p.Content)), ModTime: at.Truncate(time.Second)}); err != nil {
			return err
		}
		if _, err := t.Write(p.Content); err != nil {
			return err
		}
	}
	return errors.Join(t.Close(), z.Close())
}
