package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"plantmesh/firmware-sim/plant"
	"plantmesh/firmware-sim/plant/truth"
	"plantmesh/proto/answer"
	"plantmesh/proto/strict"
)

type truthCmd struct {
	Config string `required:"" type:"path" help:"sim.yaml"`
	Known  string `required:"" type:"path" help:"JSON: source to the stretches it is known in, [[from_ns, to_ns], ...]."`
	At     string `required:"" help:"RFC 3339; the rows as of then."`
	Out    string `type:"path" help:"Where to write the rows; stdout if not given."`
}

func (c *truthCmd) Run(p *answer.Printer) (err error) {
	cfg, err := loadConfig(c.Config)
	if err != nil {
		return err
	}
	if len(cfg.Replay) > 0 {
		return cfg.doc.Fault("$.replay", "a recording has no truth of its own")
	}
	at, err := time.Parse(time.RFC3339Nano, c.At)
	if err != nil {
		return &strict.Fault{File: "--at", What: fmt.Sprintf("%q is no instant: write one such as 2026-03-01T04:00:00Z", c.At)}
	}
	known, err := readKnown(c.Known)
	if err != nil {
		return err
	}
	made, err := plant.New(plant.Config{Seed: cfg.Seed, Start: cfg.start, Stop: cfg.stop})
	if err != nil {
		return fmt.Errorf("build the plant: %w", err)
	}
	rows, err := truth.Of(made.Signals(), made.Until(at.Add(plant.Disorder)), known, at)
	if err != nil {
		return fmt.Errorf("say the truth: %w", err)
	}
	if c.Out != "" {
		if err := c.save(rows); err != nil {
			return err
		}
		return p.Print(answer.Result{Data: map[string]any{"out": c.Out, "rows": len(rows)}})
	}
	if p.JSON {
		return p.Print(answer.Result{Data: map[string]any{"rows": rows}})
	}
	return writeRows(os.Stdout, rows)
}

func (c *truthCmd) save(rows []truth.Row) (err error) {
	out, err := os.Create(c.Out)
	if err != nil {
		return fmt.Errorf("write the truth: %w", err)
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	return writeRows(out, rows)
}

func writeRows(w io.Writer, rows []truth.Row) error {
	b := bufio.NewWriter(w)
	enc := json.NewEncoder(b)
	for _, r := range rows {
		if err := enc.Encode(r); err != nil {
			return fmt.Errorf("write the truth: %w", err)
		}
	}
	if err := b.Flush(); err != nil {
		return fmt.Errorf("write the truth: %w", err)
	}
	return nil
}

func readKnown(path string) (map[string][]truth.Span, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, &strict.Fault{File: path, What: "can't be read: " + err.Error()}
	}
	var in map[string][][2]int64
	if err := json.Unmarshal(b, &in); err != nil {
		return nil, &strict.Fault{File: path, What: "is not source to stretches: " + err.Error()}
	}
	out := map[string][]truth.Span{}
	for source, spans := range in {
		for _, s := range spans {
			out[source] = append(out[source], truth.Span{From: s[0], To: s[1]})
		}
	}
	return out, nil
}
